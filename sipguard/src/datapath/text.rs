//! Texts that are pinned beside what is in force, and replaced as a whole. They are gone with the next restart.

use std::{fs, path::PathBuf};

use super::{
    Error,
    pins::{self, PinsError},
    table::Table,
};

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// A copy of the state: where the disk can't be written, or has lost what it had, this is what the next command goes by.
    State,
    /// How the counters are to be read, which goes where they go.
    Counting,
    /// Which programs were seen running.
    Proofs,
}

impl Text {
    const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Counting => "counting",
            Self::Proofs => "proofs",
        }
    }

    fn pin(self) -> PathBuf {
        pins::root().join(self.name())
    }
}

/// How many bytes stand in one element: few elements, and little room for nothing.
pub(super) const CHUNK: usize = 4096;

/// Puts `bytes` in the place of the text before.
///
/// # Errors
/// What the kernel refused; the text before is still there then.
pub fn keep_text(text: Text, bytes: &[u8]) -> Result<(), Error> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut whole = length.to_ne_bytes().to_vec();
    whole.extend(bytes);
    whole.resize(whole.len().next_multiple_of(CHUNK), 0);
    let (chunks, _) = whole.as_chunks::<CHUNK>();
    let length = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    let table = Table::<u32, [u8; CHUNK]>::array(text.name(), length)?;
    let pin = text.pin();
    table
        .fill(chunks)
        .map_err(|error| Error::io(format!("can't write {}", pin.display()), &error))?;
    // What a crash leaves there, the next one overwrites.
    let new = pins::root().join(format!("{}-new", text.name()));
    pins::remove(&new)?;
    table.pin(&new)?;
    fs::rename(&new, &pin).map_err(|cause| PinsError::Path { path: pin, cause })?;
    Ok(())
}

/// The text; `None` where there is none.
///
/// # Errors
/// Where it can't be read.
pub fn text(text: Text) -> Result<Option<Vec<u8>>, Error> {
    let path = text.pin();
    if !path.exists() {
        return Ok(None);
    }
    let table = Table::<u32, [u8; CHUNK]>::open(&path)?;
    let mut chunks = vec![[0; CHUNK]; table.capacity()? as usize];
    table
        .for_each(|place, chunk| {
            if let Some(at) = chunks.get_mut(place as usize) {
                *at = chunk;
            }
        })
        .map_err(|error| Error::io(format!("can't read {}", path.display()), &error))?;
    let whole = chunks.into_flattened();
    let Some((length, bytes)) = whole.split_first_chunk() else {
        return Ok(None);
    };
    let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap_or(usize::MAX);
    Ok(bytes.get(..length).map(<[u8]>::to_vec))
}

/// Removes the text.
///
/// # Errors
/// Where the pin can't be removed.
pub fn forget_text(text: Text) -> Result<(), Error> {
    Ok(pins::remove(&text.pin())?)
}
