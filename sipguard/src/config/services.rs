//! `[services.NAME]`: guarded ports, and who may reach them.

use std::collections::{BTreeMap, BTreeSet};

use sipguard_ebpf::abi::Protocol;
use sipguard_lists::task::{Kind, Task};
use toml::de::DeTable;

use super::{
    document::{Document, Key, Value, hint},
    sources::Source,
};
use crate::{
    policy::{
        ALL, Action, Entry, LiveSource, MAX_PORTS, MAX_SERVICES, Mode, Ports, Service, Use,
        is_service_name, protocol_name,
    },
    prefix::{self, Excerpt, PrefixError},
};

/// A service with the sources it names, as indices.
pub(super) struct Written {
    pub(super) service: Service,
    lists: Vec<(Action, usize)>,
}

impl Written {
    pub(super) fn without_lists(service: Service, mode: Mode) -> Self {
        Self {
            service: Service { mode, ..service },
            lists: Vec::new(),
        }
    }
}

/// Which service guards a port, and the line that says so.
type Guarded = BTreeMap<(Protocol, u16), (String, usize)>;

/// Reads the services; the global mode is the one of services that don't say theirs.
pub(super) fn read(
    document: &mut Document<'_>,
    value: &Value<'_>,
    mode: Mode,
    sources: &mut [Source],
) -> Vec<Written> {
    let Some(table) = document.table(value, "services", "[services.sip]") else {
        return Vec::new();
    };
    let mut guarded = Guarded::new();
    let mut services = Vec::new();
    for (name, value) in table {
        let Some(fields) = document.table(value, "a service", "[services.sip]") else {
            continue;
        };
        if services.len() == MAX_SERVICES {
            document.problem(
                name.span(),
                format!("this is one service too many; at most {MAX_SERVICES} are possible"),
            );
            break;
        }
        services.push(service(document, name, fields, mode, sources, &mut guarded));
    }
    services
}

fn service(
    document: &mut Document<'_>,
    name: &Key<'_>,
    fields: &DeTable<'_>,
    global: Mode,
    sources: &mut [Source],
    guarded: &mut Guarded,
) -> Written {
    let text = name.get_ref();
    if !is_service_name(text) {
        document.problem(
            name.span(),
            format!(
                "{} is no name for a service; write 1 to 15 of a-z, 0-9, _ and -, and not {ALL}",
                Excerpt::of(text)
            ),
        );
    }
    let place = format!("the service {text}");
    let [udp, tcp, sctp, udplite, allow, deny, default, mode] = document.fields(
        fields,
        &place,
        [
            "udp", "tcp", "sctp", "udplite", "allow", "deny", "default", "mode",
        ],
    );
    let ports = all_ports(document, [udp, tcp, sctp, udplite], text, guarded);
    let ports = ports.unwrap_or_else(|| {
        document.problem(
            name.span(),
            format!("{place} guards no ports; write for example udp = [5060] below it"),
        );
        Ports::new()
    });
    let default = default
        .and_then(|value| {
            document.choice(
                value,
                "default",
                &[Action::Deny, Action::Allow].map(|action| (action.name(), action)),
            )
        })
        .unwrap_or(Action::Deny);
    let mode = mode
        .and_then(|value| {
            document.choice(
                value,
                "mode",
                &[Mode::Enforce, Mode::Monitor].map(|mode| (mode.name(), mode)),
            )
        })
        .unwrap_or(global);
    let lists = lists(
        document,
        [(Action::Deny, deny), (Action::Allow, allow)],
        sources,
    );
    Written {
        service: Service {
            name: text.to_string(),
            ports,
            default,
            mode,
        },
        lists,
    }
}

/// The ports of each protocol; `None` where none is named.
fn all_ports(
    document: &mut Document<'_>,
    values: [Option<&Value<'_>>; 4],
    service: &str,
    guarded: &mut Guarded,
) -> Option<Ports> {
    const PROTOCOLS: [Protocol; 4] = [
        Protocol::Udp,
        Protocol::Tcp,
        Protocol::Sctp,
        Protocol::UdpLite,
    ];
    let mut all = None;
    for (protocol, value) in PROTOCOLS.into_iter().zip(values) {
        let Some(value) = value else { continue };
        let all = all.get_or_insert_with(Ports::new);
        let ports = ports(document, value, protocol, service, guarded);
        if !ports.is_empty() {
            all.insert(protocol, ports);
        }
    }
    all
}

/// What is done with which sources, as indices.
fn lists(
    document: &mut Document<'_>,
    values: [(Action, Option<&Value<'_>>); 2],
    sources: &mut [Source],
) -> Vec<(Action, usize)> {
    let mut lists = Vec::new();
    for (action, value) in values {
        let Some(value) = value else { continue };
        let example = format!("{action} = [\"providers\"]");
        for value in document.array(value, action.name(), &example) {
            let Some(source) = named(document, value, sources) else {
                continue;
            };
            let live = sources[source].live.as_ref();
            if action == Action::Allow
                && live.is_some_and(|live| matches!(live.kind, Kind::CrowdSec(_)))
            {
                document.problem(
                    value.span(),
                    "these are addresses that CrowdSec bans; name them in deny",
                );
                continue;
            }
            lists.push((action, source));
        }
    }
    // Naming a source twice is no mistake, and its entries are needed once.
    lists.sort_unstable();
    lists.dedup();
    lists
}

fn ports(
    document: &mut Document<'_>,
    value: &Value<'_>,
    protocol: Protocol,
    service: &str,
    guarded: &mut Guarded,
) -> BTreeSet<u16> {
    let protocol_name = protocol_name(protocol);
    let mut ports = BTreeSet::new();
    for value in document.array(value, protocol_name, &format!("{protocol_name} = [5060]")) {
        let Some(port) = port(document, value) else {
            continue;
        };
        if let Some((other, line)) = guarded.get(&(protocol, port)) {
            let message = if other == service {
                format!("{protocol_name} port {port} is there twice; leave one out")
            } else {
                format!(
                    "{protocol_name} port {port} is already guarded by the service {other} (line {line}); leave it out of one"
                )
            };
            document.problem(value.span(), message);
            continue;
        }
        let known = guarded.keys().any(|&(_, known)| known == port);
        let distinct = guarded
            .keys()
            .map(|&(_, port)| port)
            .collect::<BTreeSet<_>>();
        if !known && distinct.len() == MAX_PORTS {
            document.problem(
                value.span(),
                format!("port {port} is one too many; at most {MAX_PORTS} different ports can be guarded"),
            );
            continue;
        }
        guarded.insert(
            (protocol, port),
            (service.to_owned(), document.line(&value.span())),
        );
        ports.insert(port);
    }
    ports
}

fn port(document: &mut Document<'_>, value: &Value<'_>) -> Option<u16> {
    let Some(integer) = value.get_ref().as_integer() else {
        document.wrong_type(value, "a port", "an integer", "5060");
        return None;
    };
    match u16::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            let text = &document.text()[value.span()];
            let text = Excerpt::of(text);
            document.problem(
                value.span(),
                format!("{text} is no port; write a number from 1 to 65535"),
            );
            None
        }
    }
}

/// The index of the source that a service names.
fn named(document: &mut Document<'_>, value: &Value<'_>, sources: &mut [Source]) -> Option<usize> {
    let name = document.string(value, "a source's name", "\"providers\"")?;
    if let Some(index) = sources
        .iter()
        .position(|source| source.origin.source == name)
    {
        sources[index].used = true;
        return Some(index);
    }
    let excerpt = Excerpt::of(name);
    let message = match prefix::parse(name) {
        Err(PrefixError::Address(_) | PrefixError::Empty) => {
            let names = sources.iter().map(|source| source.origin.source.as_str());
            let hint = hint(name, names)
                .unwrap_or_else(|| "define it in [sources], or correct the name".to_owned());
            format!("no source is called {excerpt}; {hint}")
        }
        Ok(_) | Err(_) => format!(
            "{excerpt} is an address, not a source's name; give it one in [sources], such as mine = [{excerpt}], and write \"mine\" here"
        ),
    };
    document.problem(value.span(), message);
    None
}

/// Every prefix of every source that a service names, as an entry of that service.
pub(super) fn entries(services: &[Written], sources: &[Source]) -> Vec<Entry> {
    let lists = || {
        // At most 16 services, so that their numbers fit.
        services.iter().zip(0u8..).flat_map(|(service, number)| {
            service
                .lists
                .iter()
                .map(move |&(action, source)| (number, action, &sources[source]))
        })
    };
    let mut entries = Vec::with_capacity(lists().map(|(_, _, source)| source.prefixes.len()).sum());
    for (service, action, source) in lists() {
        let Some(origin) = source.number else {
            continue;
        };
        entries.extend(source.prefixes.iter().map(|&prefix| Entry {
            prefix,
            service,
            action,
            origin,
        }));
    }
    entries
}

/// Every live source that a service names.
pub(super) fn live(services: &[Written], sources: &[Source]) -> Vec<LiveSource> {
    let live = sources.iter().enumerate().filter_map(|(index, source)| {
        let (number, live) = (source.number?, source.live.as_ref()?);
        let uses = services
            .iter()
            .zip(0u8..)
            .flat_map(|(written, service)| {
                let named = written
                    .lists
                    .iter()
                    .filter(move |(_, named)| *named == index);
                named.map(move |&(action, _)| Use { service, action })
            })
            .collect();
        Some(LiveSource {
            task: Task {
                source: source.origin.source.clone(),
                kind: live.kind.clone(),
            },
            origin: number,
            uses,
            stale_after: live.stale_after,
        })
    });
    live.collect()
}
