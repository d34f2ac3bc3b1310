//! A copy of the state, pinned beside what is in force: where the disk can't be written, or has lost what it had, this is what the next
//! command goes by. It is gone with the next restart.

use std::fs;

use super::{
    Error,
    pins::{self, PinsError},
    table::Table,
};

const PIN: &str = "state";
/// What a copy is called before it takes the other's place.
const NEW: &str = "state-new";

/// How many bytes stand in one element: few elements, and little room for nothing.
pub(super) const CHUNK: usize = 4096;

/// Puts `bytes` in the place of the copy before.
///
/// # Errors
/// What the kernel refused; the copy before is still there then.
pub fn keep_copy(bytes: &[u8]) -> Result<(), Error> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut whole = length.to_ne_bytes().to_vec();
    whole.extend(bytes);
    whole.resize(whole.len().next_multiple_of(CHUNK), 0);
    let (chunks, _) = whole.as_chunks::<CHUNK>();
    let places: Vec<u32> = (0..).take(chunks.len()).collect();
    let table =
        Table::<u32, [u8; CHUNK]>::array("state", u32::try_from(chunks.len()).unwrap_or(u32::MAX))?;
    table
        .update(&places, chunks)
        .map_err(|error| Error::io("can't keep a copy of the state", &error))?;
    let [new, pin] = [NEW, PIN].map(|name| pins::root().join(name));
    pins::remove(&new)?;
    table.pin(&new)?;
    fs::rename(&new, &pin).map_err(|cause| PinsError::Path { path: pin, cause })?;
    Ok(())
}

/// The copy; `None` where there is none.
///
/// # Errors
/// Where it can't be read.
pub fn copy() -> Result<Option<Vec<u8>>, Error> {
    let path = pins::root().join(PIN);
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
