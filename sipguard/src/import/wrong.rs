//! Inputs that look like something else than what is read, and the command that would have been right.

/// What it looks like, and what to do instead.
#[expect(clippy::too_many_lines, reason = "one paragraph an input")]
pub(super) fn instead(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim);
    let relevant = || lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = relevant().next().unwrap_or_default();
    let any = |test: &dyn Fn(&str) -> bool| relevant().any(test);
    let saves = any(&|line| line.starts_with('*') || line.starts_with(":INPUT"));

    if !saves
        && any(&|line| {
            line.starts_with("Chain ")
                && (line.contains("(policy ") || line.contains("references)"))
        })
    {
        return Some(
            "this looks like `iptables -L`, which leaves out interfaces and more: import what `iptables-save` prints (and `ip6tables-save`, for IPv6)".to_owned(),
        );
    }
    if text.trim_start().starts_with("#!")
        || any(&|line| {
            let line = line.trim_start_matches("sudo ");
            let program = line.split_whitespace().next().unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or_default();
            let variable = program.starts_with('$')
                && ["IPT", "ipt", "IP6", "ip6"]
                    .iter()
                    .any(|word| program.contains(word));
            (["iptables", "ip6tables"].contains(&name) || variable) && line.contains(" -")
        })
    {
        return Some(if text.contains("nft") && !text.contains("iptables") {
            "this looks like a script: only nftables knows what it does; run it with `nft -f`, then import what `nft list ruleset` prints".to_owned()
        } else {
            "this looks like a script: run it, then import what `iptables-save` prints (and `ip6tables-save`, for IPv6)".to_owned()
        });
    }
    if any(&|line| {
        let mut words = line.split_whitespace();
        matches!(
            words.next(),
            Some("-I" | "-D" | "-R" | "-F" | "-X" | "-E" | "-Z")
        ) && words.next().is_some()
    }) {
        return Some(
            "these are commands for iptables: run them, then import what `iptables-save` prints"
                .to_owned(),
        );
    }
    let nft = first.starts_with("table ")
        || any(&|line| line.starts_with("table ") || line.starts_with("flush ruleset"));
    if (nft || any(&|line| line.starts_with("define ") || line.starts_with("include ")))
        && any(&|line| {
            line.starts_with("include ") || line.starts_with("define ") || has_variable(line)
        })
    {
        return Some(
            "this looks like /etc/nftables.conf with includes or variables, which only nftables can put in: load it, then import what `nft list ruleset` prints".to_owned(),
        );
    }
    if any(&|line| {
        [
            "add rule ",
            "add table ",
            "add chain ",
            "nft add ",
            "insert rule ",
            "create table ",
        ]
        .iter()
        .any(|begin| line.starts_with(begin))
    }) {
        return Some(
            "these are commands for nftables: run them, then import what `nft list ruleset` prints"
                .to_owned(),
        );
    }
    if any(&|line| line.starts_with("Name: ")) && any(&|line| line.starts_with("Members:")) {
        return Some("this looks like `ipset list`: import what `ipset save` prints".to_owned());
    }
    if first.starts_with("Status: ") {
        return Some(
            "this looks like `ufw status`, which leaves out what is not its own: import what `iptables-save` and `ip6tables-save` print, one behind the other".to_owned(),
        );
    }
    if any(&|line| line.starts_with("target: ")) && any(&|line| line.starts_with("services: ")) {
        return Some(
            "this looks like `firewall-cmd --list-all`: import what `nft list ruleset` prints"
                .to_owned(),
        );
    }
    if any(&|line| line.contains("Jail list:")) {
        return Some(
            "this looks like `fail2ban-client status`, which names no addresses: import what `fail2ban-client banned` prints".to_owned(),
        );
    }
    if first.starts_with('<') {
        return Some(
            "this looks like XML: import what `iptables-save` or `nft list ruleset` prints"
                .to_owned(),
        );
    }
    if any(&|line| line.starts_with("pass in") || line.starts_with("block in")) {
        return Some(
            "this looks like pf.conf, which is not read: import a list of addresses with --action allow".to_owned(),
        );
    }
    if any(&|line| line.starts_with("/ip firewall filter")) {
        return Some(
            "this has the filter rules of RouterOS, which are not read: import what `/ip firewall address-list export` prints, with --set NAME --action allow".to_owned(),
        );
    }
    None
}

fn has_variable(line: &str) -> bool {
    line.split(|c: char| c.is_whitespace() || c == ',' || c == '{')
        .any(|word| {
            word.strip_prefix('$')
                .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
        })
}
