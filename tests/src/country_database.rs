//! Databases of countries in MaxMind's format (`MaxMind-DB-spec.md`, version 2.0), as small as a test wants them.

use ipnet::IpNet;

/// How a database says which country a network is in.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// `{"country": {"iso_code": "DE"}}`, as MaxMind and DB-IP do.
    Nested,
    /// `{"country": "DE"}`, as IPinfo did.
    Flat,
    /// `{"country": "Germany", "country_code": "DE"}`, as IPinfo does.
    FlatCode,
}

/// What a node has on one side.
#[derive(Clone, Copy)]
enum Side {
    Nothing,
    Node(usize),
    /// At this place in the data.
    Data(usize),
}

/// Makes one. IPv4 is below `::/96` and can be reached by IPv4-mapped and 6to4 addresses, too.
///
/// # Panics
///
/// Where a network is in another one.
#[must_use]
pub fn database(
    layout: Layout,
    networks: impl IntoIterator<Item = (IpNet, &'static str)>,
) -> Vec<u8> {
    let mut nodes = vec![[Side::Nothing; 2]];
    let (mut data, mut places) = (Vec::new(), Vec::new());
    let v4 = insert(&mut nodes, 0, 96, None);
    for (bits, length) in [(0xffff << 32, 96), (0x2002 << 112, 16)] {
        insert(&mut nodes, bits, length, Some(Side::Node(v4)));
    }
    for (network, country) in networks {
        let known = places.iter().find(|(known, _)| *known == country);
        let place = known.map_or(data.len(), |&(_, place)| place);
        if place == data.len() {
            data.extend(record(layout, country));
            places.push((country, place));
        }
        let (bits, length) = match network {
            IpNet::V4(network) => (u32::from(network.addr()).into(), 96 + network.prefix_len()),
            IpNet::V6(network) => (network.addr().into(), network.prefix_len()),
        };
        insert(&mut nodes, bits, length, Some(Side::Data(place)));
    }
    let mut file = Vec::new();
    for side in nodes.iter().flatten() {
        let number = match *side {
            Side::Nothing => nodes.len(),
            Side::Node(node) => node,
            Side::Data(place) => nodes.len() + 16 + place,
        };
        let number = u32::try_from(number).expect("a small database");
        file.extend(number.to_be_bytes());
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(metadata(nodes.len()));
    file
}

/// Puts something at the end of a prefix, or makes a node there; returns which one.
fn insert(nodes: &mut Vec<[Side; 2]>, bits: u128, length: u8, what: Option<Side>) -> usize {
    let mut node = 0;
    for depth in 0..length {
        let side = usize::from(bits >> (127 - depth) & 1 == 1);
        if let (Some(what), true) = (what, depth + 1 == length) {
            assert!(matches!(nodes[node][side], Side::Nothing), "one in another");
            nodes[node][side] = what;
            break;
        }
        node = match nodes[node][side] {
            Side::Node(next) => next,
            Side::Nothing => {
                nodes.push([Side::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[node][side] = Side::Node(next);
                next
            }
            Side::Data(_) => panic!("one in another"),
        };
    }
    node
}

fn record(layout: Layout, country: &str) -> Vec<u8> {
    let name = format!("Name of {country}");
    match layout {
        Layout::Nested => map(&[
            ("continent", map(&[("code", text("EU"))])),
            (
                "country",
                map(&[("iso_code", text(country)), ("name", text(&name))]),
            ),
            ("registered_country", map(&[("iso_code", text("FR"))])),
        ]),
        Layout::Flat => map(&[("continent", text("EU")), ("country", text(country))]),
        Layout::FlatCode => map(&[("country", text(&name)), ("country_code", text(country))]),
    }
}

fn metadata(nodes: usize) -> Vec<u8> {
    let nodes = u32::try_from(nodes).expect("a small database");
    // Extended types: 64 bits are type 9, arrays type 11.
    let epoch = [&[8, 2][..], &1_795_000_000_u64.to_be_bytes()].concat();
    map(&[
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        ("build_epoch", epoch),
        ("database_type", text("Test-Country")),
        ("description", map(&[("en", text("for tests"))])),
        ("ip_version", short(6)),
        ("languages", [&[1, 4][..], &text("en")].concat()),
        (
            "node_count",
            [&[6 << 5 | 4][..], &nodes.to_be_bytes()].concat(),
        ),
        ("record_size", short(32)),
    ])
}

/// Type and length are one byte as long as that is below 29.
fn head(kind: u8, length: usize) -> u8 {
    let length = u8::try_from(length).expect("short");
    assert!(length < 29, "short");
    kind << 5 | length
}

fn text(text: &str) -> Vec<u8> {
    [&[head(2, text.len())], text.as_bytes()].concat()
}

fn short(number: u16) -> Vec<u8> {
    [&[head(5, 2)][..], &number.to_be_bytes()].concat()
}

fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut map = vec![head(7, fields.len())];
    for (name, value) in fields {
        map.extend(text(name));
        map.extend(value);
    }
    map
}
