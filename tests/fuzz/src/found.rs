//! What the fetcher may have written. Whatever is taken of it can be written, and is read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipguard_lists::found::{Entry, Head, ReadError, Reader, Writer};

fn read(bytes: &[u8]) -> Result<(Head, Vec<Entry>), ReadError> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok((reader.head().clone(), entries))
}

fuzz_target!(|input: &[u8]| {
    let (head, entries) = match read(input) {
        Ok(found) => found,
        Err(error) => {
            let told = error.to_string();
            assert!(told.chars().all(|letter| !letter.is_control()), "{told:?}");
            return;
        }
    };
    let mut written = Vec::new();
    let mut writer = Writer::new(&mut written, &head).expect("it was short enough to be read");
    for entry in &entries {
        writer.entry(entry).expect("it was in its place");
    }
    writer.finish().expect("memory");
    let again = read(&written).expect("what is written is read");
    assert_eq!(again, (head, entries));
});
