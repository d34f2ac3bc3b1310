use super::*;

/// Of the cluster 7 at the time 40.
const SINCE: At = At {
    cluster: 7,
    revision: 40,
};

fn read(text: &str) -> Result<(Page, Lists), String> {
    let mut lists = Lists::new(Widest::default());
    page(text.as_bytes(), &mut lists).map(|page| (page, lists))
}

/// Keys with values, as etcd 3.4 writes them.
fn keys(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| {
        let [key, value] = [key, value].map(|text| BASE64_STANDARD.encode(text));
        format!(r#"{{"key":"{key}","create_revision":"2","mod_revision":"2","version":"1","value":"{value}"}}"#)
    });
    let pairs: Vec<_> = pairs.collect();
    format!(
        r#"{{"header":{{"cluster_id":"7","member_id":"8","revision":"40","raft_term":"2"}},"kvs":[{}],"more":true,"count":"9"}}"#,
        pairs.join(",")
    )
}

#[test]
fn lists_of_several_keys_are_one() {
    let text = keys(&[
        ("/s/a", "203.0.113.0/24\n# nothing\n"),
        ("/s/b", ""),
        ("/s/c", "198.51.100.7 ; one\r\n203.0.113.0/24"),
    ]);
    let (page, lists) = read(&text).unwrap();
    assert_eq!((page.at, page.more), (SINCE, true));
    assert_eq!(lists.last_key(), Some(&b"/s/c"[..]));
    let list = lists.done().unwrap();
    let list: Vec<_> = list.iter().map(ToString::to_string).collect();
    assert_eq!(list, ["198.51.100.7/32", "203.0.113.0/24"]);

    // As etcd 3.5 writes it. What is empty or zero is left out by both.
    let (page, lists) = read(r#"{"header":{"cluster_id":"7", "raft_term":"2"}}"#).unwrap();
    assert_eq!(
        (page.at.revision, page.more, lists.last_key()),
        (0, false, None)
    );
    let (_, lists) =
        read(r#"{"header":{"cluster_id":"7", "revision":"40"}, "kvs":[{"key":"L3M="}]}"#).unwrap();
    assert!(lists.done().unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_key_and_line() {
    let long = "1".repeat(5_000);
    for (value, wanted) in [
        (
            "203.0.113.0/24\n203.0.113.300",
            "/s/b, line 2 is no prefix: 203.0.113.300",
        ),
        (
            "10.0.0.0/33\nx",
            "/s/b, line 1 is no prefix: 10.0.0.0/33 (and 1 more of 3 entries are wrong)",
        ),
        (
            "0.0.0.0/0",
            "/s/b, line 1 has 0.0.0.0/0, which is wider than this source may be",
        ),
        (&long, "/s/b, line 1 has more than 4096 bytes"),
    ] {
        let text = keys(&[("/s/a", "203.0.113.7"), ("/s/b", value), ("/s/c", "")]);
        let (_, lists) = read(&text).unwrap();
        assert_eq!(lists.done().unwrap_err(), wanted);
    }
    let (_, lists) = read(&keys(&[("\u{1b}[31m", "x")])).unwrap();
    assert_eq!(
        lists.done().unwrap_err(),
        "\\u{1b}\\u{5b}31m, line 1 is no prefix: x"
    );
}

#[test]
fn what_is_no_answer_is_told() {
    for (text, wanted) in [
        ("", "EOF while parsing a value"),
        ("<html>", "expected value at line 1"),
        ("[]", "invalid type: sequence, expected an answer of etcd"),
        ("{}", "missing field \\u{60}header\\u{60}"),
        (r#"{"header":{"cluster_id":7}}"#, "invalid type: integer"),
        (
            r#"{"header":{"cluster_id":"-1"}}"#,
            "invalid digit found in string",
        ),
        (
            r#"{"header":{"cluster_id":"7"},"kvs":[{"key":"*"}]}"#,
            "Invalid symbol",
        ),
        (
            r#"{"header":{"cluster_id":"7"},"kvs":[{"value":"L3M="}]}"#,
            "missing field",
        ),
        (r#"{"header":{"cluster_id":"7"}} {}"#, "trailing characters"),
    ] {
        let error = read(text).map(|_| ()).unwrap_err();
        assert!(error.starts_with(wanted), "{error}\n{wanted}");
    }
    // Otherwise they might never end.
    for pairs in [[("/s/a", ""), ("/s/a", "")], [("/s/b", ""), ("/s/a", "")]] {
        let error = read(&keys(&pairs)).map(|_| ()).unwrap_err();
        assert!(error.starts_with("keys come in no order"), "{error}");
    }
}

#[test]
fn changes_are_heard_of() {
    let header = |cluster: u64, revision: i64| {
        format!(r#""header":{{"cluster_id":"{cluster}","revision":"{revision}"}}"#)
    };
    let begun = format!(r#"{{"result":{{{},"created":true}}}}"#, header(7, 40));
    let event = format!(
        r#"{{"result":{{{},"events":[{{"type":"DELETE","kv":{{"key":"L3M="}}}}]}}}}"#,
        header(7, 41)
    );
    let progress = format!(r#"{{"result":{{{}}}}}"#, header(7, 50));
    let forgotten =
        r#"{"result":{"header":{"cluster_id":"7"},"canceled":true,"compact_revision":"50"}}"#;
    let forbidden = r#"{"result":{"header":{"cluster_id":"7","revision":"40"},"created":true,"canceled":true,"cancel_reason":"no"}}"#;
    let elsewhere = format!(r#"{{"result":{{{},"created":true}}}}"#, header(9, 40));
    let put_back = format!(r#"{{"result":{{{},"created":true}}}}"#, header(7, 39));
    for (text, wanted) in [
        (String::new(), false),
        ("<html>".to_owned(), false),
        (
            r#"{"error":{"grpc_code":14,"message":"no"}}"#.to_owned(),
            false,
        ),
        (forbidden.to_owned(), false),
        (format!("{begun}\n{event}"), true),
        (format!("{begun}\n{progress}\n{event}\n"), true),
        (format!("{begun}\n{forgotten}"), true),
        (elsewhere, true),
        (put_back, true),
        // It was cut off.
        (begun.clone(), true),
        (format!("{begun}\n{{"), true),
    ] {
        assert_eq!(is_changed(text.as_bytes(), SINCE), wanted, "{text}");
    }
}
