use super::*;

/// An IPv4 packet, as far as it matters here.
const PACKET: &[u8] = &[0x45, 0, 0, 24];

/// What the frame begins with, its bytes, and which way it went.
type Seen = (Result<(Begins, Vec<u8>), Unread>, Option<Direction>);

fn seen(link: u16, order: Order, parts: &[&[u8]]) -> Seen {
    let captured = parts.concat();
    let mut scratch = Vec::new();
    // Wherever it ends, nothing panics.
    for length in 0..captured.len() {
        Link(link).frame(&captured[..length], order, &mut scratch);
    }
    let Found { frame, direction } = Link(link).frame(&captured, order, &mut scratch);
    (frame.map(|it| (it.begins, it.bytes.to_vec())), direction)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what it is compared with may be an error"
)]
fn network(kind: u16) -> Result<(Begins, Vec<u8>), Unread> {
    Ok((Begins::Network(kind), PACKET.to_vec()))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what it is compared with may be an error"
)]
fn nothing() -> Result<(Begins, Vec<u8>), Unread> {
    Ok((Begins::Network(0), Vec::new()))
}

fn little(link: u16, parts: &[&[u8]]) -> Seen {
    seen(link, Order::Little, parts)
}

#[test]
fn cooked_ones_say_which_way_they_went() {
    let (on_ethernet, behind) = (1_u8, [0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0]);
    for (kind, direction) in [
        (0, Some(Direction::In)),
        (3, None),
        (4, Some(Direction::Out)),
    ] {
        let found = little(113, &[&[0, kind, 0, on_ethernet], &behind, PACKET]);
        assert_eq!(found, (network(0x0800), direction));
        let begin = [0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, on_ethernet, kind];
        let found = little(276, &[&begin, &behind[1..10], PACKET]);
        assert_eq!(found, (network(0x86dd), direction));
    }
    // On netlink's devices what stands there is no EtherType.
    let found = little(113, &[&[0, 0, 3, 56], &behind, PACKET]);
    assert_eq!(found.0, nothing());
}

#[test]
fn ppp_with_and_without_what_may_be_left_away() {
    for link in [9, 50] {
        for begin in [
            &[0xff, 3, 0, 0x21][..],
            &[0xff, 3, 0x21],
            &[0, 0x21],
            &[0x21],
        ] {
            assert_eq!(little(link, &[begin, PACKET]), (network(0x0800), None));
        }
        assert_eq!(little(link, &[&[0, 0x57], PACKET]).0, network(0x86dd));
        assert_eq!(little(link, &[&[0xc0, 0x21], PACKET]).0, nothing());
        assert_eq!(
            little(link, &[&[0, 0x2d], PACKET]).0,
            Err(Unread::Compressed)
        );
    }
    assert_eq!(
        little(166, &[&[0, 3, 0, 0x21], PACKET]),
        (network(0x0800), Some(Direction::In))
    );
    assert_eq!(
        little(166, &[&[1, 3, 0, 0x21], PACKET]),
        (network(0x0800), Some(Direction::Out))
    );
    // The parser knows PPPoE.
    assert_eq!(little(51, &[PACKET]).0, network(0x8864));
}

#[test]
fn what_netfilter_logs() {
    let payload: &[u8] = &[8, 0, 9, 0];
    let [v4, v6] = [2_u8, 10].map(|family| [family, 0, 0, 5]);
    assert_eq!(
        little(239, &[&v4, payload, PACKET]),
        (network(0x0800), None)
    );
    assert_eq!(
        little(239, &[&v6, payload, PACKET]),
        (network(0x86dd), None)
    );
    let big = seen(239, Order::Big, &[&v4, &[0, 8, 0, 9], PACKET]);
    assert_eq!(big, (network(0x0800), None));
    // A hook says which way, and what it is; a prefix, padded, is not asked.
    let prefix: &[u8] = &[7, 0, 10, 0, b'i', b'n', 0, 0];
    for (hook, direction) in [
        (1, Some(Direction::In)),
        (2, None),
        (3, Some(Direction::Out)),
        (4, Some(Direction::Out)),
    ] {
        let header = [8, 0, 1, 0, 8, 0, hook, 0];
        let found = little(239, &[&[7, 0, 0, 0], prefix, &header, payload, PACKET]);
        assert_eq!(found, (network(0x0800), direction));
    }
    let goes = [8, 0, 5, 0, 0, 0, 0, 2];
    let found = little(239, &[&v4, &goes, payload, PACKET]);
    assert_eq!(found, (network(0x0800), Some(Direction::Out)));
    assert_eq!(little(239, &[&v4]).0, Err(Unread::Cut));
    // Attributes that lie about their length.
    assert_eq!(
        little(239, &[&v4, &[0, 0, 1, 0], payload, PACKET]).0,
        network(0x0800)
    );
    assert_eq!(
        little(239, &[&v4, &[0xff, 0xff, 9, 0], PACKET]).0,
        network(0x0800)
    );
    // In a netlink message of its own, among others of netlink.
    let cooked = |family: u8| [0, 4, 3, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, family];
    let header = [28, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let logged = [&header[..], &v4, payload, PACKET].concat();
    assert_eq!(little(253, &[&cooked(12), &logged]).0, network(0x0800));
    assert_eq!(little(253, &[&cooked(0), &logged]).0, nothing());
    assert_eq!(
        little(253, &[&cooked(12), &logged, &logged]).0,
        Err(Unread::Several)
    );
}

#[test]
fn wireless_data_that_is_not_encrypted() {
    let addresses: &[u8] = &[0; 22];
    let snap: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let plain: &[u8] = &[8, 0, 0, 8];
    // Version, length, nothing present; or the time and flags, of which one says that the header is padded; or two more words.
    let without: &[u8] = &[0, 0, 8, 0, 0, 0, 0, 0];
    let padded: &[u8] = &[0, 0, 17, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x20];
    let long: &[u8] = &[0, 0, 17, 0, 2, 0, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0x20];
    let quality: &[u8] = &[0x88, 1, 0, 0];
    for begin in [padded, long] {
        let found = little(
            127,
            &[begin, quality, &addresses[2..], &[0, 0, 0, 0], snap, PACKET],
        );
        assert_eq!(found.0, network(0x0800), "{begin:?}");
    }
    let found = little(127, &[without, &plain[..2], addresses, snap, PACKET]);
    assert_eq!(found.0, network(0x0800));
    assert_eq!(
        little(105, &[&plain[..2], addresses, snap, PACKET]).0,
        network(0x0800)
    );
    // Four addresses, quality and another field.
    let found = little(
        105,
        &[&[0x88, 0x83], addresses, &[0; 6], &[0; 6], snap, PACKET],
    );
    assert_eq!(found.0, network(0x0800));
    let found = little(105, &[&[8, 0x40], addresses, &[0; 8], PACKET]);
    assert_eq!(found.0, Err(Unread::Encrypted));
    let found = little(105, &[&[0x88, 0], addresses, &[0x80, 0], PACKET]);
    assert_eq!(found.0, Err(Unread::Several));
    // A beacon; data without any; something else behind LLC.
    for begin in [[0x80, 0], [0x48, 0]] {
        assert_eq!(little(105, &[&begin, addresses, PACKET]).0, nothing());
    }
    assert_eq!(
        little(105, &[&plain[..2], addresses, &[0x42, 0x42, 3], PACKET]).0,
        nothing()
    );
}

#[test]
fn what_wireshark_exports() {
    let tag = |number: u8, value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        [&[0, number, 0, length], value].concat()
    };
    let end: &[u8] = &[0, 0, 0, 0];
    let name = tag(12, b"ip\0\0");
    assert_eq!(
        little(252, &[&name, end, PACKET]).0,
        Ok((Begins::Ip, PACKET.to_vec()))
    );
    let between = [
        tag(12, b"sip\0"),
        tag(20, &[203, 0, 113, 7]),
        tag(21, &[192, 0, 2, 1]),
        tag(24, &[0, 0, 0, 3]),
        tag(25, &[0, 0, 0x13, 0xc4]),
        tag(26, &[0, 0, 0x13, 0xc5]),
    ];
    let found = little(252, &[&between.concat(), end, b"OPTIONS"]).0;
    let packet =
        b"\x45\0\0\0\0\0\0\0\x40\x11\0\0\xcb\0\x71\x07\xc0\0\x02\x01\x13\xc4\x13\xc5OPTIONS";
    assert_eq!(found, Ok((Begins::Ip, packet.to_vec())));
    let found = little(252, &[&between[..3].concat(), end, b"OPTIONS"]).0;
    assert_eq!(found, Err(Unread::Exported));
    assert_eq!(little(252, &[&between.concat()]).0, Err(Unread::Cut));
}

#[test]
fn what_bsd_logs_and_decrypts() {
    let mut header = [0; 64];
    (header[0], header[1], header[60]) = (61, 2, 2);
    let ip = Ok((Begins::Ip, PACKET.to_vec()));
    assert_eq!(
        little(117, &[&header, PACKET]),
        (ip.clone(), Some(Direction::Out))
    );
    assert_eq!(little(109, &[&[0; 12], PACKET]), (ip, None));
}
