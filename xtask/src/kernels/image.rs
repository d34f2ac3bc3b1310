//! The initramfs: programs with their libraries, tests, modules, and what is to be done with them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::machine;

const EXECUTABLE: u32 = 0o755;

/// What will be the machine's whole file system, all of it in memory.
#[derive(Default)]
pub(crate) struct Image {
    files: BTreeMap<PathBuf, Content>,
}

enum Content {
    /// A file of this machine.
    Copy(PathBuf),
    Bytes(Vec<u8>),
}

impl Image {
    /// A program that is on this machine's `PATH`, with its libraries.
    pub(crate) fn program(&mut self, name: &str) -> Result<()> {
        let path = machine::find(name).with_context(|| format!("no program {name} here"))?;
        self.executable(Path::new("/bin").join(name), path)
    }

    /// An executable file, with its libraries.
    pub(crate) fn executable(&mut self, to: impl Into<PathBuf>, from: PathBuf) -> Result<()> {
        for library in libraries(&from)? {
            self.files.insert(library.clone(), Content::Copy(library));
        }
        self.files.insert(to.into(), Content::Copy(from));
        Ok(())
    }

    pub(crate) fn file(&mut self, to: impl Into<PathBuf>, content: Vec<u8>) {
        self.files.insert(to.into(), Content::Bytes(content));
    }

    /// Writes the archive that a kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        self.archive(path)
            .with_context(|| format!("writing {}", path.display()))
    }

    fn archive(&self, path: &Path) -> Result<()> {
        let mut archive = BufWriter::new(File::create(path)?);
        let mut number = 0;
        let mut entry = |path: &Path, kind: ModeFileType| {
            number += 1;
            let name = path.strip_prefix("/").unwrap_or(path);
            Builder::new(&name.to_string_lossy())
                .ino(number)
                .mode(EXECUTABLE)
                .set_mode_file_type(kind)
        };
        // A folder comes before what is in it.
        let mut folders: Vec<&Path> = self
            .files
            .keys()
            .flat_map(|file| file.ancestors().skip(1))
            .filter(|folder| folder.parent().is_some())
            .collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            let end = entry(folder, ModeFileType::Directory).write(&mut archive, 0);
            end.finish()?;
        }
        for (path, content) in &self.files {
            let content = match content {
                Content::Copy(from) => {
                    &fs::read(from).with_context(|| format!("reading {}", from.display()))?
                }
                Content::Bytes(bytes) => bytes,
            };
            let length = u32::try_from(content.len())?;
            let mut file = entry(path, ModeFileType::Regular).write(&mut archive, length);
            file.write_all(content)?;
            file.finish()?;
        }
        trailer(archive)?.flush()?;
        Ok(())
    }
}

/// What a program is linked with, and the loader that puts them together.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context("starting ldd")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() || complaint.contains("not a dynamic executable"),
        "ldd {}: {complaint}",
        program.display()
    );
    let listed = String::from_utf8_lossy(&output.stdout);
    // `libc.so.6 => /lib/libc.so.6 (0x…)`, or the loader alone.
    Ok(listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
