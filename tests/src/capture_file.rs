//! Captures written by hand, in every form that a machine at hand does not write: of the other byte order, of other link types, cut short.

/// In which order numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The least significant byte first.
    Little,
    /// The most significant byte first.
    Big,
}

/// How packets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pcap with microseconds.
    Micro,
    /// pcap with nanoseconds.
    Nano,
    /// pcapng with enhanced packet blocks, which have options, and blocks of other kinds in between.
    Enhanced,
    /// pcapng with simple packet blocks.
    Simple,
}

/// All formats in both orders.
pub const FORMATS: [(Format, Order); 8] = [
    (Format::Micro, Order::Little),
    (Format::Micro, Order::Big),
    (Format::Nano, Order::Little),
    (Format::Nano, Order::Big),
    (Format::Enhanced, Order::Little),
    (Format::Enhanced, Order::Big),
    (Format::Simple, Order::Little),
    (Format::Simple, Order::Big),
];

/// A capture being written.
#[derive(Clone, Debug)]
pub struct CaptureFile {
    format: Format,
    order: Order,
    bytes: Vec<u8>,
}

impl CaptureFile {
    /// Begins a capture of packets of a link type (<https://www.tcpdump.org/linktypes.html>).
    #[must_use]
    pub fn new(format: Format, order: Order, link: u16) -> Self {
        let mut file = Self {
            format,
            order,
            bytes: Vec::new(),
        };
        match format {
            Format::Micro | Format::Nano => {
                file.number(match format {
                    Format::Nano => 0xa1b2_3c4d,
                    _ => 0xa1b2_c3d4,
                });
                file.short(2);
                file.short(4);
                for number in [0, 0, 262_144, u32::from(link)] {
                    file.number(number);
                }
            }
            Format::Enhanced | Format::Simple => {
                file.block(0x0a0d_0d0a, |file| {
                    file.number(0x1a2b_3c4d);
                    file.short(1);
                    file.short(0);
                    // Of a length that is not known.
                    file.number(u32::MAX);
                    file.number(u32::MAX);
                });
                file.block(1, |file| {
                    file.short(link);
                    file.short(0);
                    file.number(0);
                });
            }
        }
        file
    }

    /// Adds a packet of which all was captured.
    pub fn add(&mut self, packet: &[u8]) {
        self.add_cut(packet, packet.len());
    }

    /// Adds a packet that was `length` bytes long before it was cut to what is here.
    pub fn add_cut(&mut self, packet: &[u8], length: usize) {
        let size = |length: usize| u32::try_from(length).expect("a packet");
        let (captured, original) = (size(packet.len()), size(length));
        match self.format {
            Format::Micro | Format::Nano => {
                for number in [1_700_000_000, 999_999, captured, original] {
                    self.number(number);
                }
                self.bytes.extend(packet);
            }
            Format::Enhanced => {
                // Statistics of the interface, and a block that nobody knows.
                self.block(5, |file| (0..3).for_each(|_| file.number(0)));
                self.block(0x4711, |file| file.bytes.extend(*b"none"));
                self.block(6, |file| {
                    for number in [0, 0x0006_0a24, 0x1234_5678, captured, original] {
                        file.number(number);
                    }
                    file.padded(packet);
                    file.short(1);
                    file.short(5);
                    file.padded(b"a note".get(..5).expect("longer"));
                    file.number(0);
                });
            }
            Format::Simple => {
                assert_eq!(
                    captured, original,
                    "simple packet blocks have no such length"
                );
                self.block(3, |file| {
                    file.number(original);
                    file.padded(packet);
                });
            }
        }
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn block(&mut self, kind: u32, content: impl FnOnce(&mut Self)) {
        let begin = self.bytes.len();
        self.number(kind);
        self.number(0);
        content(self);
        let length = u32::try_from(self.bytes.len() - begin + 4).expect("a block");
        self.number(length);
        let number = self.bytes[self.bytes.len() - 4..].to_vec();
        self.bytes[begin + 4..begin + 8].copy_from_slice(&number);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, number: u32) {
        self.bytes.extend(match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        });
    }

    fn short(&mut self, number: u16) {
        self.bytes.extend(match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        });
    }
}
