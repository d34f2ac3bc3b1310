//! `[dns]`: whom the fetcher asks for names.

use std::net::IpAddr;

use sipguard_lists::task::Dns;

use super::document::{Document, Value};
use crate::prefix::Excerpt;

const EXAMPLE: &str = "servers = [\"192.0.2.53\"]";

pub(super) fn read(document: &mut Document<'_>, value: &Value<'_>) -> Dns {
    let Some(table) = document.table(value, "dns", "[dns]") else {
        return Dns::default();
    };
    let [servers, dnssec, trust_anchor] =
        document.fields(table, "[dns]", ["servers", "dnssec", "trust_anchor"]);
    let mut dns = Dns {
        dnssec: dnssec.is_some_and(|dnssec| document.boolean(dnssec, "dnssec")),
        trust_anchor: trust_anchor.and_then(|file| document.path(file, "trust_anchor")),
        ..Dns::default()
    };
    for value in servers.map_or(&[][..], |servers| {
        document.array(servers, "servers", EXAMPLE)
    }) {
        let Some(text) = document.string(value, "a server", "\"192.0.2.53\"") else {
            continue;
        };
        match text.parse::<IpAddr>() {
            Ok(server) => dns.servers.push(server),
            Err(_) => document.problem(
                value.span(),
                format!(
                    "{} is no address of a server; write for example \"192.0.2.53\"",
                    Excerpt::of(text)
                ),
            ),
        }
    }
    if dns.dnssec && servers.is_none() {
        // The one that is next may not hand on what proves an answer.
        document.problem(
            value.span(),
            format!("dnssec needs servers that hand on what proves an answer; write {EXAMPLE}"),
        );
    }
    dns
}
