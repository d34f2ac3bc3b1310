//! The config parser, and the compiler behind it. What is taken can be compiled, and what is not is told with a place in the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sipguard::config;
use sipguard_tests::compiled::Compiled;

fuzz_target!(|text: &str| {
    // List files are not what is to be found out here, and a fuzzer should open none.
    if text.contains("file") {
        return;
    }
    match config::parse(text, Path::new("fuzzed.toml")) {
        Ok(policy) => drop(Compiled::new(policy, &[])),
        Err(problems) => {
            let lines = text.split('\n').count();
            assert!(!problems.is_empty());
            for problem in problems.iter() {
                assert!((1..=lines).contains(&problem.line), "{problem}");
                assert!(!problem.message.contains('\n'), "{problem}");
            }
        }
    }
});
