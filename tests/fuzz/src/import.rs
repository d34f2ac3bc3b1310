//! The import of other tools' output. Whatever is printed as a config is one. The first letter chooses the tool.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sipguard::{
    config,
    import::{Format, import},
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
    let text = &input[choice.len_utf8()..];
    if let Ok(imported) = import(text, format, Some(Action::Deny)) {
        if let Err(problems) = config::parse(&imported.config, Path::new("imported.toml")) {
            panic!("{problems}\n{}", imported.config);
        }
        for note in &imported.notes {
            assert!(!note.text.contains(char::is_control), "{note:?}");
        }
    }
});
