//! What the kernel told, as it told it: to be kept for a while costs little, and an event is made of it by whoever looks at it.

use sipguard_ebpf::event::Record;

/// Records, each with the first bytes of its frame.
#[derive(Debug, Default)]
pub struct Told {
    records: Vec<Record>,
    bytes: Vec<u8>,
}

impl Told {
    /// Adds one, behind all others.
    pub fn push(&mut self, record: &Record, first: &[u8]) {
        self.records.push(*record);
        self.bytes.extend(first);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Record, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.records.iter().map(move |record| {
            let (first, behind) = rest
                .split_at_checked(record.bytes as usize)
                .unwrap_or((rest, &[]));
            rest = behind;
            (record, first)
        })
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        size_of_val(self.records.as_slice()) + self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Lets all go, and keeps the room that they took, but no more than so many bytes.
    pub fn clear(&mut self, most: usize) {
        self.records.clear();
        self.bytes.clear();
        self.records.shrink_to(most / size_of::<Record>());
        self.bytes.shrink_to(most);
    }
}
