//! The import of other tools' output. Whatever is made of it is a config, which decides as the rules did: `import` asks itself. The first
//! letter chooses the reader.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sipguard::{
    config,
    import::{Format, ImportError, Input, Options, import},
    policy::Action,
};

fuzz_target!(|input: &str| {
    let Some(choice) = input.chars().next() else {
        return;
    };
    let format = match choice {
        'i' => Some(Format::Iptables),
        'n' => Some(Format::Nft),
        's' => Some(Format::Ipset),
        'l' => Some(Format::List),
        'f' => Some(Format::Fail2ban),
        _ => None,
    };
    let input = Input {
        text: &input[choice.len_utf8()..],
        format,
    };
    let options = Options {
        action: Some(Action::Deny),
        ..Options::default()
    };
    match import(&[input], &options) {
        Ok(imported) => {
            let text = imported.config(&[]);
            if let Err(problems) = config::parse(&text, Path::new("imported.toml")) {
                panic!("{problems}\n{text}");
            }
            for note in &imported.notes {
                assert!(!note.text.contains(char::is_control), "{note:?}");
            }
        }
        Err(ImportError::Bug(difference)) => panic!("{difference}"),
        Err(_) => {}
    }
});
