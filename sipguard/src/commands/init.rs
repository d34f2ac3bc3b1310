//! `sipguard init`. JSON: `{"written":"/etc/sipguard/sipguard.toml","interfaces":["eth0"]}`, the interfaces being those of this host.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sipguard::{config, device};

use super::{Context, write_json};

const CONFIG: &str = include_str!("../../dist/sipguard.toml");

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<()> {
    let file = &context.config;
    write_new(file)?;
    // A hint, which is not worth failing for.
    let interfaces: Vec<_> = device::all()
        .unwrap_or_default()
        .into_iter()
        .map(|device| device.name)
        .filter(|name| name != "lo")
        .collect();
    if context.json {
        return write_json(out, &json!({ "written": file, "interfaces": interfaces }));
    }
    if context.is_quiet() {
        return Ok(());
    }
    let file = file.display();
    writeln!(out, "Wrote {file}.")?;
    writeln!(out, "Next:")?;
    if interfaces.is_empty() {
        writeln!(
            out,
            "  1. name in it the interface that leads to the internet"
        )?;
    } else {
        writeln!(
            out,
            "  1. name in it the interface that leads to the internet (this host has {})",
            interfaces.join(", ")
        )?;
    }
    writeln!(
        out,
        "  2. list in it the addresses of your providers and of those who administer this host"
    )?;
    let which = if context.config == Path::new(config::PATH) {
        String::new()
    } else {
        format!(" --config {file}")
    };
    writeln!(out, "  3. run `sipguard apply{which}`")?;
    Ok(())
}

fn write_new(file: &Path) -> Result<()> {
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(file);
    let mut opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "{} is there already and is not overwritten: edit it, or name another file with --config",
            file.display()
        ),
        opened => opened.with_context(|| format!("cannot write {}", file.display()))?,
    };
    opened
        .write_all(CONFIG.as_bytes())
        .and_then(|()| opened.sync_all())
        .inspect_err(|_| {
            // Half a config file would keep the next `init` from writing a whole one.
            let _ = fs::remove_file(file);
        })
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use sipguard::{config, policy::Policy};

    use super::*;

    #[test]
    fn what_is_written_is_the_default_policy() {
        let policy = config::parse(CONFIG, Path::new("sipguard.toml")).unwrap();
        assert_eq!(policy.services, Policy::default().services);
        assert_eq!(policy.interfaces, []);
        assert_eq!(policy.entries, []);
    }

    #[test]
    fn what_stands_in_comments_is_right_too() {
        let uncommented: String = CONFIG
            .lines()
            .filter(|line| *line != "interfaces = []")
            .map(|line| match line.trim_start().strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let problems = config::parse(&uncommented, Path::new("sipguard.toml")).unwrap_err();
        let problems: Vec<_> = problems.iter().collect();
        // The list file is not there.
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains("blocked.txt"), "{problems:?}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/sipguard.toml");
        write_new(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), CONFIG);
        fs::write(&file, "mine").unwrap();
        let error = write_new(&file).unwrap_err();
        assert!(format!("{error:#}").contains("is not overwritten: edit it"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
}
