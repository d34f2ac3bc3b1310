//! pcap: a header that says what all packets have in common, and then the packets (draft-ietf-opsawg-pcap).

use std::io::Read;

use nom::{Err::Incomplete, IResult, Needed};
use pcap_parser::{
    LegacyPcapBlock, PcapError, PcapHeader, parse_pcap_frame, parse_pcap_frame_be,
    parse_pcap_frame_modified, parse_pcap_header,
};

use super::{CaptureError, Captured, Packet, Reader, link::Framing};

type FrameParser = fn(&[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>>;

impl<R: Read> Reader<R> {
    pub(super) fn pcap<E: From<CaptureError>>(
        &mut self,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let header = self.pcap_header()?;
        // Above these bits stands how long a frame check sequence is; the bytes of one behind a frame change no verdict.
        let framing = Framing::of(header.network.0 & 0xffff);
        let parse: FrameParser = if header.is_modified_format() {
            parse_pcap_frame_modified
        } else if header.is_bigendian() {
            parse_pcap_frame_be
        } else {
            parse_pcap_frame
        };
        while self.window.have(1).map_err(CaptureError::from)? {
            while let Err(Incomplete(Needed::Size(more))) = parse(self.window.bytes()) {
                let have = self.window.bytes().len();
                self.need(have.saturating_add(more.get()), || "packet".to_owned())?;
            }
            let offset = self.window.offset();
            let Ok((rest, block)) = parse(self.window.bytes()) else {
                return Err(self.damaged("packet", "it can't be read").into());
            };
            let length = self.window.bytes().len() - rest.len();
            self.packets += 1;
            let packet = Captured {
                number: self.packets,
                bytes: block.data,
                truncated: block.origlen > block.caplen,
                position: offset + length as u64,
            };
            packet.hand_over(framing, &mut self.scratch, each)?;
            self.window.consume(length);
        }
        Ok(())
    }

    fn pcap_header(&mut self) -> Result<PcapHeader, CaptureError> {
        const LENGTH: usize = 24;
        let whole = self.window.have(LENGTH)?;
        match parse_pcap_header(self.window.bytes()) {
            Ok((_, header)) => {
                self.window.consume(LENGTH);
                Ok(header)
            }
            Err(Incomplete(_)) if !whole => Err(CaptureError::Cut {
                what: "the header".to_owned(),
                offset: 0,
            }),
            Err(_) => Err(CaptureError::Unknown),
        }
    }
}
