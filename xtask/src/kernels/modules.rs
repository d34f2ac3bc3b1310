//! A kernel's modules: which others each one needs, and what they hold.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// All modules of one kernel, by their names.
pub(crate) struct Modules(HashMap<String, PathBuf>);

/// A module as the kernel takes it.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) object: Vec<u8>,
}

impl Modules {
    /// Those below a folder.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mut found = HashMap::new();
        walk(folder, &mut found)
            .with_context(|| format!("reading the modules in {}", folder.display()))?;
        Ok(Self(found))
    }

    /// These, with all that they need, in an order in which they can be loaded. What this kernel has built in, or has not at all, is left
    /// out: the tests that need it will say.
    pub(crate) fn with_needed(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut found = Vec::new();
        for name in names {
            self.add(name, &mut found)?;
        }
        Ok(found)
    }

    fn add(&self, name: &str, found: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        let Some(path) = self.0.get(&name) else {
            return Ok(());
        };
        if found.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let object = read(path)?;
        for needed in needed(&object) {
            self.add(&needed, found)?;
        }
        found.push(Module { name, object });
        Ok(())
    }
}

fn walk(folder: &Path, found: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|it| it != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()
        .context("starting xz")?;
    ensure!(
        output.status.success(),
        "xz can't read {}: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// Names from the section `.modinfo`, which has `depends=a,b` between zero bytes.
fn needed(object: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = object.windows(key.len()).position(|it| it == key) else {
        return Vec::new();
    };
    let list = &object[at + key.len()..];
    let end = list.iter().position(|byte| *byte == 0);
    let list = String::from_utf8_lossy(&list[..end.unwrap_or(list.len())]);
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}
