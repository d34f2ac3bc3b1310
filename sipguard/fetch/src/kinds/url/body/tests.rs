use std::io::repeat;

use sipguard_lists::{prefix, task::Widest};

use super::*;

fn of(path: Option<&str>, tolerate: u16) -> Url {
    Url {
        url: "https://feeds.example/".to_owned(),
        every: Url::EVERY,
        insecure: false,
        ca_file: None,
        path: path.map(|path| path.parse().unwrap()),
        tolerate,
        widest: Widest::default(),
    }
}

fn taken(text: &str, of: &Url) -> Result<Vec<String>, String> {
    let (list, said) = read(text.as_bytes(), of)?;
    let list = list.iter().map(|&prefix| prefix::format(prefix));
    Ok(list.chain(said).collect())
}

#[test]
fn lines_are_read_as_those_of_list_files() {
    let text =
        "\u{feff}# feed\n203.0.113.0/24 ; scanners\n\n198.51.100.7\r\n2001:db8::/32\n198.51.100.7";
    assert_eq!(
        taken(text, &of(None, 0)).unwrap(),
        ["198.51.100.7", "203.0.113.0/24", "2001:db8::/32"]
    );
    assert!(taken("", &of(None, 0)).unwrap().is_empty());
}

#[test]
fn json_is_read_at_its_place() {
    let text = r#"{"syncToken":"1","prefixes":[{"region":"x","ip_prefix":"203.0.113.0/24","more":[{}]},{"ip_prefix":"198.51.100.7"},
        {"ipv6_prefix":"2001:db8::/32"}],"ipv6_prefixes":[{"ipv6_prefix":"2001:db8:1::/48"}]}"#;
    for (path, wanted) in [
        (
            "prefixes[].ip_prefix",
            &["198.51.100.7", "203.0.113.0/24"][..],
        ),
        ("ipv6_prefixes[].ipv6_prefix", &["2001:db8:1::/48"]),
        ("prefixes[].ipv6_prefix", &["2001:db8::/32"]),
    ] {
        assert_eq!(taken(text, &of(Some(path), 0)).unwrap(), wanted);
    }
    assert_eq!(
        taken(r#"["203.0.113.7"," 203.0.113.8 "]"#, &of(Some("[]"), 0)).unwrap(),
        ["203.0.113.7", "203.0.113.8"]
    );
    assert_eq!(
        taken(
            r#"{"a":{"b":[["203.0.113.7"],[]]}}"#,
            &of(Some("a.b[][]"), 0)
        )
        .unwrap(),
        ["203.0.113.7"]
    );
    for (text, path, wanted) in [
        (
            text,
            "prefixes[].cidr",
            "nothing is at prefixes\\u{5b}\\u{5d}.cidr",
        ),
        (
            text,
            "prefix[].cidr",
            "nothing is at prefix\\u{5b}\\u{5d}.cidr",
        ),
        (
            text,
            "prefixes.ip_prefix",
            "invalid type: sequence, expected an object with ip",
        ),
        (
            text,
            "prefixes[]",
            "invalid type: map, expected a text with a prefix at line",
        ),
        (
            "[7]",
            "[]",
            "invalid type: integer \\u{60}7\\u{60}, expected a text with a prefix at",
        ),
        ("<html>", "[]", "expected value at line 1 column 1"),
        (
            "[\"203.0.113.7\"",
            "[]",
            "EOF while parsing a list at line 1 column 14",
        ),
        (
            "[\"203.0.113.7\"] []",
            "[]",
            "trailing characters at line 1 column 17",
        ),
        ("[\"203.0.113.7\",\"x\"]", "[]", "entry 2 is no prefix: x"),
        (
            "[\"203.0.113.7\",\"0.0.0.0/0\"]",
            "[]",
            "entry 2 has 0.0.0.0/0, which is wider than this source may be",
        ),
        ("[]", "[]", "nothing is at"),
    ] {
        let error = taken(text, &of(Some(path), 0)).unwrap_err();
        assert!(error.starts_with(wanted), "{error}\n{wanted}");
    }
    let deep = "[".repeat(1 << 20);
    assert!(taken(&deep, &of(Some("[]"), 0)).is_err());
    assert!(taken(&format!("{{\"x\":{deep}"), &of(Some("a"), 0)).is_err());
}

#[test]
fn a_few_wrong_ones_are_left_out_where_that_was_said() {
    let text = format!("{}x\n", "203.0.113.7\n".repeat(99));
    for (tolerate, wanted) in [
        (
            10,
            Ok(vec![
                "203.0.113.7".to_owned(),
                "1 of 100 entries are left out: line 100 is no prefix: x".to_owned(),
            ]),
        ),
        (9, Err("line 100 is no prefix: x".to_owned())),
    ] {
        assert_eq!(taken(&text, &of(None, tolerate)), wanted);
    }
    assert_eq!(
        taken("x\ny\n1.1.1.1\n", &of(None, 600)),
        Err("line 1 is no prefix: x (and 1 more of 3 entries are wrong)".to_owned())
    );
}

#[test]
fn what_never_ends_ends() {
    let too_much = Err("it has more than 64 MiB".to_owned());
    assert_eq!(read(repeat(b'\n'), &of(None, 0)), too_much);
    assert_eq!(read(repeat(b' '), &of(Some("[]"), 0)), too_much);
    let error = read(repeat(b'['), &of(Some("a"), 0)).unwrap_err();
    assert!(
        error.starts_with("invalid type: sequence, expected an object with a"),
        "{error}"
    );
    assert_eq!(
        read(repeat(b'1'), &of(None, 0)),
        Err("line 1 has more than 4096 bytes".to_owned())
    );
    // One text that is as long as all may be: it is kept while it is read, and no longer.
    assert_eq!(
        read((&b"[\""[..]).chain(repeat(b'x')), &of(Some("[]"), 0)),
        too_much
    );
    let most = "#".repeat(4_000) + "\n";
    let most = most.repeat(16_000);
    assert!(read(most.as_bytes(), &of(None, 0)).is_ok());
}
