//! The file in which knocks are kept: a line that says its version, and a line of JSON for each source. It is replaced as a whole, so that a
//! crash at any moment leaves the old one or the new one. Nobody but root may read it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sipguard_lists::replace;
use thiserror::Error;

use super::{Bounds, Knock, Knocks, MOST};

/// Its name, in the folder of the state.
pub const FILE: &str = "knocks.jsonl";

/// Changes when older programs would misread it.
const VERSION: u32 = 1;
/// No line that was ever written is longer.
const LONGEST_LINE: u64 = 16 << 10;

/// Why knocks can't be read.
#[derive(Debug, Error)]
pub enum KnocksError {
    /// The file can't be read.
    #[error("cannot read {}: {error}; run sipguard as root", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A newer program wrote it.
    #[error("{} is of a newer sipguard; who knocked is kept anew", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
    },
    /// Something else wrote it, or nobody.
    #[error("{} is damaged: what is known of {lost} is lost; nothing else is", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Of whom.
        lost: String,
    },
}

/// What was found in the file.
#[derive(Debug)]
pub struct Read {
    /// What could be read of it.
    pub knocks: Knocks,
    /// What to say of the rest, once: the next [`Knocks::write`] leaves a file that is whole.
    pub trouble: Option<KnocksError>,
    /// Whether there is a file.
    pub is_there: bool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    /// Also tells the file from others.
    sipguard_knocks: u32,
    /// [`Knocks::left_out`]
    #[serde(default)]
    left_out: u64,
}

/// Reads the file in this folder. What can't be read of it is lost, and nothing else; only the last lines are, where something cut them off.
pub fn read(folder: &Path) -> Read {
    read_within(folder, Bounds::default())
}

pub(super) fn read_within(folder: &Path, bounds: Bounds) -> Read {
    let file = folder.join(FILE);
    let mut knocks = Knocks::within(bounds);
    let damaged = |lost: &str| {
        Some(KnocksError::Damaged {
            file: file.clone(),
            lost: lost.to_owned(),
        })
    };
    let mut is_there = true;
    let trouble = match read_lines(&file, &mut knocks) {
        Ok(Lines::Whole) => None,
        Ok(Lines::Newer) => Some(KnocksError::Newer { file }),
        Ok(Lines::Foreign) => damaged("all who knocked"),
        Ok(Lines::Lost(1)) => damaged("one who knocked"),
        Ok(Lines::Lost(lost)) => damaged(&format!("{lost} who knocked")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            is_there = false;
            None
        }
        Err(error) => Some(KnocksError::Read { file, error }),
    };
    // A damaged file is to be replaced, and one that is not there written, whether or not somebody knocks.
    knocks.changed |= trouble.is_some() || !is_there;
    Read {
        knocks,
        trouble,
        is_there,
    }
}

enum Lines {
    Whole,
    Newer,
    Foreign,
    /// So many could not be read.
    Lost(usize),
}

fn read_lines(file: &Path, knocks: &mut Knocks) -> io::Result<Lines> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut line = Vec::new();
    next_line(&mut reader, &mut line)?;
    if line.last() != Some(&b'\n') {
        return Ok(Lines::Foreign);
    }
    match serde_json::from_slice(&line) {
        Ok(Header {
            sipguard_knocks: VERSION,
            left_out,
        }) => knocks.left_out = i64::try_from(left_out).unwrap_or(i64::MAX),
        Ok(Header {
            sipguard_knocks: version,
            ..
        }) if version > VERSION => return Ok(Lines::Newer),
        _ => return Ok(Lines::Foreign),
    }
    let mut lost = 0;
    // Whoever wrote more than that did not write who knocked.
    for _ in 0..2 * MOST {
        if next_line(&mut reader, &mut line)? == 0 {
            break;
        }
        match serde_json::from_slice::<Knock>(&line) {
            Ok(mut knock) if knock.first <= knock.last && knock.minutes > 0 => {
                knock.cut();
                knocks.put(Box::new(knock));
                knocks.make_room(None);
            }
            _ => lost += 1,
        }
    }
    Ok(if lost == 0 {
        Lines::Whole
    } else {
        Lines::Lost(lost)
    })
}

/// Reads a line, or as much of it as a line has at most; returns how much.
fn next_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.take(LONGEST_LINE).read_until(b'\n', line)
}

fn write_line(out: &mut impl io::Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

impl Knocks {
    /// Replaces the file in this folder, if anything has changed since it was read or written.
    pub fn write(&mut self, folder: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let written = replace::stage(folder, FILE, 0o600, |file| {
            let mut out = BufWriter::new(file);
            let header = Header {
                sipguard_knocks: VERSION,
                left_out: self.left_out(),
            };
            write_line(&mut out, &header)?;
            // Whoever is read last has the highest rank again.
            for source in self.order.of(..) {
                if let Some(knock) = self.get(source) {
                    write_line(&mut out, knock)?;
                }
            }
            out.flush()
        });
        written.and_then(replace::Staged::commit)?;
        self.changed = false;
        Ok(())
    }
}
