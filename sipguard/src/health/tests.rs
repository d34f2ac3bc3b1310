use std::{collections::BTreeSet, fs, path::Path};

use super::*;

fn of(findings: Vec<Finding>) -> Health {
    Health::new(Path::new("/etc/sipguard/sipguard.toml"), findings)
}

#[test]
fn the_worst_is_named_and_the_rest_counted() {
    let advice = Kind::BehindDriver.advice("it could be quicker", "true");
    let wrong = Kind::NotEnabled.wrong("it is not enabled", "true");
    let open = Kind::NotInForce.open("nothing is in force", "true");
    let also = Kind::InterfaceNotFiltered.open("eth1 is not filtered", "true");
    for (findings, verdict, summary) in [
        (
            vec![&advice],
            Verdict::Guarded,
            "guarded: as /etc/sipguard/sipguard.toml says",
        ),
        (
            vec![&advice, &wrong],
            Verdict::GuardedWithFindings,
            "guarded, with 1 finding: it is not enabled; `sipguard doctor` says what mends it",
        ),
        (
            vec![&wrong, &advice, &wrong],
            Verdict::GuardedWithFindings,
            "guarded, with 2 findings: it is not enabled (1 more; `sipguard doctor` has all)",
        ),
        (
            vec![&open],
            Verdict::NotGuarded,
            "NOT GUARDED: nothing is in force; `sipguard doctor` says what mends it",
        ),
        (
            vec![&wrong, &also, &open],
            Verdict::NotGuarded,
            "NOT GUARDED: eth1 is not filtered (2 more; `sipguard doctor` has all)",
        ),
    ] {
        let health = of(findings.into_iter().cloned().collect());
        assert_eq!(health.verdict(), verdict);
        assert_eq!(health.guarded, verdict != Verdict::NotGuarded);
        assert_eq!(health.summary, summary);
    }
}

/// What programs read stays what it is, byte for byte.
#[test]
fn findings_in_json() {
    let found = Kind::ConfigUnusable.wrong("it is wrong", "nano");
    for (found, place) in [
        (found.clone(), "null"),
        (found.clone().on("eth0"), r#"{"interface":"eth0"}"#),
        (found.clone().of("web"), r#"{"service":"web"}"#),
        (
            found.inside("/etc/list.txt", Some(7)),
            r#"{"file":{"path":"/etc/list.txt","line":7}}"#,
        ),
    ] {
        let wanted = format!(
            r#"{{"check":"in_force","name":"config_unusable","severity":"wrong","wrong":true,"place":{place},"about":"it is wrong","mend":"nano"}}"#
        );
        assert_eq!(serde_json::to_string(&found).unwrap(), wanted);
    }
}

#[test]
fn the_manual_has_every_name() {
    let kinds = CHECKS.iter().flat_map(|check| check.finds);
    let names: Vec<_> = kinds
        .map(|kind| serde_json::to_string(kind).unwrap().replace('"', "`"))
        .collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/health.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let told: Vec<_> = rows
        .map(|row| row.split('|').nth(1).unwrap().trim())
        .collect();
    assert_eq!(told, names);
    let different: BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len());
}
