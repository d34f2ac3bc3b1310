//! What is wrong with a config file, and where.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
};

/// How many problems of one file are told.
const TOLD: usize = 10;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The config file or a list file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
        } = self;
        write!(f, "{}:{line}:{column}: {message}", file.display())
    }
}

/// Everything that was found wrong; printed one problem a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    files: Vec<InFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct InFile {
    file: PathBuf,
    told: Vec<Problem>,
    /// How many more there are than are told.
    more: usize,
}

impl Problems {
    /// The problems that are told, file by file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.files.iter().flat_map(|file| &file.told)
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds one problem; the message is made only if it is told.
    pub(super) fn add(
        &mut self,
        file: &Path,
        line: usize,
        column: usize,
        message: impl FnOnce() -> String,
    ) {
        let place = if let Some(place) = self.files.iter().position(|known| known.file == file) {
            place
        } else {
            self.files.push(InFile {
                file: file.to_owned(),
                told: Vec::new(),
                more: 0,
            });
            self.files.len() - 1
        };
        let InFile { told, more, .. } = &mut self.files[place];
        if told.len() == TOLD {
            *more += 1;
            return;
        }
        told.push(Problem {
            file: file.to_owned(),
            line,
            column,
            message: message(),
        });
    }

    /// Brings each file's problems into the order of its lines.
    pub(super) fn sort(&mut self) {
        for file in &mut self.files {
            file.told
                .sort_by_key(|problem| (problem.line, problem.column));
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for InFile { file, told, more } in &self.files {
            for problem in told {
                write!(f, "{separator}{problem}")?;
                separator = "\n";
            }
            if *more > 0 {
                write!(f, "{separator}{}: {more} more like these", file.display())?;
            }
        }
        Ok(())
    }
}

impl Error for Problems {}
