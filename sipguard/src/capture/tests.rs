use std::io::Write as _;

use super::*;

/// The frame's bytes or why there are none, and whether they are all there were.
type Seen = (Result<(Begins, Vec<u8>), Unread>, bool);

/// Reads what is left of the packets when the capture ends, as it should or not.
fn packets(file: &[u8]) -> (Vec<Seen>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let end = read::<CaptureError>(file, |packet| {
        let frame = packet
            .frame
            .map(|frame| (frame.begins, frame.bytes.to_vec()));
        packets.push((frame, packet.is_truncated()));
        assert_eq!(packet.number, packets.len() as u64);
        Ok(())
    });
    (packets, end.err())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what it is compared with may be an error"
)]
fn ethernet(bytes: &[u8]) -> Result<(Begins, Vec<u8>), Unread> {
    Ok((Begins::Ethernet, bytes.to_vec()))
}

/// Little-endian, in microseconds, with one packet of three bytes.
fn small(link: u32) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(65_535_u32.to_le_bytes());
    file.extend(link.to_le_bytes());
    for word in [1_u32, 2, 3, 9] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"abc");
    file
}

/// Little-endian numbers, as blocks of pcapng have them.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A block of pcapng.
fn block(kind: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 12).unwrap();
    [&words(&[kind, length]), content, &words(&[length])].concat()
}

fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]))
}

fn interface(link: u32, options: &[u8]) -> Vec<u8> {
    block(1, &[&words(&[link, 0]), options].concat())
}

/// Of interface 0, with three bytes.
fn enhanced(options: &[u8]) -> Vec<u8> {
    block(
        6,
        &[&words(&[0, 5, 6, 3, 3]), b"abc\0".as_slice(), options].concat(),
    )
}

#[test]
fn packets_and_how_much_of_them_is_there() {
    let (packets, end) = packets(&small(1));
    assert_eq!(packets, [(ethernet(b"abc"), true)]);
    assert!(end.is_none(), "{end:?}");
}

#[test]
fn every_cut_is_told_with_its_place() {
    let file = small(101);
    for length in 0..file.len() {
        let (packets, end) = packets(&file[..length]);
        assert_eq!(packets, [], "{length}");
        let wanted = match length {
            0 => "it is empty",
            1..4 => "it is neither a pcap nor a pcapng capture",
            4..24 => "it ends in the middle of the header, which begins at byte 0",
            24 => {
                assert!(end.is_none());
                continue;
            }
            _ => "it ends in the middle of packet 1, which begins at byte 24",
        };
        assert_eq!(end.unwrap().to_string(), wanted, "{length}");
    }
}

#[test]
fn other_files_are_told_from_captures() {
    for (file, wanted) in [
        (
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            "it is neither a pcap nor a pcapng capture",
        ),
        (
            b"\xfd7zXZ\0\0\0",
            "it is compressed with xz: unpack it on the way, as in `xzcat FILE | ",
        ),
        (b"BZh91AY&SY", "it is compressed with bz"),
        (
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0abcdefgh",
            "it is neither a pcap nor a pcapng capture",
        ),
    ] {
        let (_, end) = packets(file);
        let end = end.unwrap().to_string();
        assert!(end.starts_with(wanted), "{end}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn compressed_captures_in_one_piece_or_several() {
    let file = small(1);
    let (one, other) = file.split_at(30);
    // What is to be skipped, as tools that compress in parallel write it.
    let note = b"\x50\x2a\x4d\x18\x04\0\0\0note";
    for packed in [
        gzip(&file),
        [gzip(one), gzip(other)].concat(),
        zstandard(&file),
        [&zstandard(one), note.as_slice(), &zstandard(other)].concat(),
    ] {
        let (seen, end) = packets(&packed);
        assert_eq!(seen, [(ethernet(b"abc"), true)]);
        assert!(end.is_none(), "{end:?}");
        // Wherever it ends too early, it is an error.
        for length in 4..packed.len() {
            let (_, end) = packets(&packed[..length]);
            let is_end_of_first = length == gzip(one).len()
                || length == zstandard(one).len()
                || length == zstandard(one).len() + note.len();
            assert!(
                end.is_some() || is_end_of_first,
                "{length} of {}",
                packed.len()
            );
        }
    }
}

#[test]
fn link_types_that_are_not_read_are_named() {
    let (packets, end) = packets(&small(189));
    assert!(end.is_none());
    assert_eq!(packets, [(Err(Unread::Link(189)), true)]);
    assert_eq!(Unread::Link(189).to_string(), "USB (link type 189)");
    let unknown = Unread::Link(299).to_string();
    assert!(
        unknown.starts_with("link type 299 (see https://"),
        "{unknown}"
    );
}

#[test]
fn lengths_beyond_reason_are_not_believed() {
    let mut file = small(1);
    file[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_, end) = packets(&file);
    assert_eq!(
        end.unwrap().to_string(),
        "packet 1 at byte 24 is damaged: it would be longer than 16 MiB"
    );
}

/// What is longer than anything the kernel puts together is not kept whole, and what is behind it is found.
#[test]
fn of_packets_that_are_too_long_the_beginning_is_read() {
    let mut file = small(1);
    let long = vec![7; 3 << 20];
    file.extend(words(&[1, 2, 3 << 20, 3 << 20]));
    file.extend(&long);
    file.extend(words(&[1, 2, 1, 1]));
    file.push(b'z');
    let (packets, end) = packets(&file);
    assert!(end.is_none(), "{end:?}");
    assert_eq!(packets.len(), 3);
    assert_eq!(packets[1], (ethernet(&long[..LONGEST]), false));
    assert_eq!(packets[2], (ethernet(b"z"), false));
}

#[test]
fn what_a_pcapng_says_beside_its_packets() {
    let flags = |number: u32| [words(&[4 << 16 | 2, number]), words(&[0])].concat();
    // In quarters of a second, an hour later; another option in front.
    let clock = [
        &words(&[3 << 16 | 2]),
        b"eth\0".as_slice(),
        &words(&[0x1_0009, 0x82, 0x8_000e, 3600, 0]),
    ]
    .concat();
    let file = [
        section(),
        interface(1, &clock),
        enhanced(&flags(2)),
        enhanced(&flags(0x101)),
        enhanced(&[]),
        // Old ones are like new ones, but for where the interface stands.
        block(
            2,
            &[
                &words(&[0xffff_0000, 0, 6, 3, 3]),
                b"abc\0".as_slice(),
                &flags(2),
            ]
            .concat(),
        ),
        block(3, &[&words(&[3]), b"abc\0".as_slice()].concat()),
    ]
    .concat();
    let mut seen = Vec::new();
    read::<CaptureError>(file.as_slice(), |packet| {
        let time = packet
            .time
            .and_then(Time::timestamp)
            .map(|it| it.to_string());
        seen.push((packet.direction, time));
        assert_eq!(packet.frame.map(|frame| frame.bytes), Ok(&b"abc"[..]));
        Ok(())
    })
    .unwrap();
    let late = ((5_u64 << 32) + 6) / 4 + 3600;
    let late = jiff::Timestamp::from_millisecond(i64::try_from(late * 1000 + 500).unwrap());
    let late = Some(late.unwrap().to_string());
    let early = Some("1970-01-01T01:00:01.5Z".to_owned());
    assert_eq!(
        seen,
        [
            (Some(Direction::Out), late.clone()),
            (Some(Direction::In), late.clone()),
            (None, late),
            (Some(Direction::Out), early),
            (None, None),
        ]
    );
}

#[test]
fn what_is_wrong_with_a_pcapng_is_told_with_its_place() {
    let begin = [section(), interface(1, &[]), enhanced(&[])].concat();
    let at = begin.len();
    let lying = |number: u32, at: usize, mut block: Vec<u8>| {
        block[at..at + 4].copy_from_slice(&number.to_le_bytes());
        block
    };
    for (wrong, wanted) in [
        (
            lying(4, 4, enhanced(&[])),
            "the block behind packet 1 at byte 112 is damaged: it is shorter than any block",
        ),
        (
            lying(40, 32, enhanced(&[])),
            "packet 2 at byte 112 is damaged: its two lengths differ",
        ),
        (
            lying(4000, 20, enhanced(&[])),
            "packet 2 at byte 112 is damaged: its lengths don't fit",
        ),
        (
            lying(1, 8, enhanced(&[])),
            "packet 2 at byte 112 is damaged: it is of an interface that is not described",
        ),
        (
            enhanced(&words(&[9 << 16 | 2, 0])),
            "packet 2 at byte 112 is damaged: its options are longer than it is",
        ),
        (
            interface(1, &words(&[0xffff << 16 | 2, 0])),
            "the block behind packet 1 at byte 112 is damaged: its options are longer than it is",
        ),
        (
            lying(2, 12, section()),
            "the block behind packet 1 at byte 112 is damaged: it is of a version that is not known",
        ),
        (
            lying(2, 8, section()),
            "the block behind packet 1 at byte 112 is damaged: it has no byte order",
        ),
        (
            block(0x4711, &[0; 8])[..15].to_vec(),
            "it ends in the middle of the block behind packet 1, which begins at byte 112",
        ),
        (
            interface(1, &vec![0; 2 << 20]),
            "the block behind packet 1 at byte 112 is damaged: it is longer than 1 MiB",
        ),
    ] {
        let (seen, end) = packets(&[begin.clone(), wrong].concat());
        assert_eq!(seen.len(), 1);
        let wanted = wanted.replace("112", &at.to_string());
        assert_eq!(end.unwrap().to_string(), wanted);
    }
}

#[test]
fn interfaces_without_end_are_refused() {
    let file = [section(), interface(1, &[]).repeat(1_000_000)].concat();
    let (_, end) = packets(&file);
    let end = end.unwrap().to_string();
    assert_eq!(
        end,
        "the block behind packet 0 at byte 1310748 is damaged: there are more than 65,536 interfaces"
    );
}

#[test]
fn sections_have_a_byte_order_of_their_own() {
    let little = [section(), interface(1, &[]), enhanced(&[])].concat();
    // The same with the bytes of all numbers turned round.
    let turned = |words: &[u8]| {
        words
            .chunks(4)
            .flat_map(|it| it.iter().rev().copied())
            .collect::<Vec<_>>()
    };
    let mut big = turned(&[section(), interface(1 << 16, &[])].concat());
    // Two halves of a word each: the version and the link type.
    big[12..16].copy_from_slice(&[0, 1, 0, 0]);
    let packet = enhanced(&[]);
    big.extend(turned(&packet[..28]));
    big.extend(&packet[28..32]);
    big.extend(turned(&packet[32..]));
    let file = [&little[..], &big, &little, &big].concat();
    let (seen, end) = packets(&file);
    assert!(end.is_none(), "{end:?}");
    assert_eq!(seen, vec![(ethernet(b"abc"), false); 4]);
}

#[test]
fn what_is_written_is_read_again() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let packet = [0x45, 0, 0, 24];
    let begin = [0; 12];
    for (begins, wanted) in [
        (Begins::Ethernet, packet.to_vec()),
        (Begins::Ip, [&begin[..], &[8, 0], &packet].concat()),
        (
            Begins::Network(0x8864),
            [&begin[..], &[0x88, 0x64], &packet].concat(),
        ),
    ] {
        let frame = Frame {
            begins,
            bytes: &packet,
        };
        let time = jiff::Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
        writer.add(Some(time), &frame, 50, "a note").unwrap();
        let file = writer.into_inner();
        let mut last = None;
        read::<CaptureError>(file.as_slice(), |it| {
            let bytes = it.frame.map(|frame| frame.bytes.to_vec());
            last = Some((bytes, it.length, it.time.and_then(Time::timestamp)));
            Ok(())
        })
        .unwrap();
        let length = 50 + u32::try_from(wanted.len() - 4).unwrap();
        assert_eq!(last, Some((Ok(wanted), length, Some(time))));
        writer = Writer::new(Vec::new()).unwrap();
    }
}
