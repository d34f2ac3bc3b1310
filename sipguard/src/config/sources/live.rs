//! Sources that are found by asking others: one function a kind.

use std::collections::BTreeSet;

use sipguard_lists::{
    country::Country,
    name::{Name, NameError},
    path::PathError,
    task::{Countries, CrowdSec, Etcd, Kind, Names, Url, User, Widest},
};
use toml::de::DeTable;

use super::{Inline, Live, inline};
use crate::{
    config::{
        document::{Document, Value},
        url,
    },
    prefix::Excerpt,
    when,
};

/// The key by which a table says what kind of source it is.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Names,
    Sip,
    Url,
    Countries,
    CrowdSec,
    Etcd,
}

/// The kind of a source; none where it is not one that others are asked for.
pub(super) fn kind(fields: &DeTable<'_>) -> Option<Key> {
    [
        ("names", Key::Names),
        ("sip", Key::Sip),
        ("url", Key::Url),
        ("countries", Key::Countries),
        ("crowdsec", Key::CrowdSec),
        ("etcd", Key::Etcd),
    ]
    .into_iter()
    .find_map(|(name, key)| fields.contains_key(name).then_some(key))
}

pub(super) fn read(
    document: &mut Document<'_>,
    kind: Key,
    value: &Value<'_>,
    fields: &DeTable<'_>,
) -> Option<Live> {
    match kind {
        Key::Names => names(document, value, fields),
        Key::Sip => sip(document, fields),
        Key::Url => url(document, fields),
        Key::Countries => countries(document, value, fields),
        Key::CrowdSec => crowdsec(document, value, fields),
        Key::Etcd => etcd(document, value, fields),
    }
}

/// `{ names = ["sip.provider.example"], hold = "24h", private = true }`
fn names(document: &mut Document<'_>, value: &Value<'_>, fields: &DeTable<'_>) -> Option<Live> {
    let [names, hold, private] =
        document.fields(fields, "a source of names", ["names", "hold", "private"]);
    let example = "names = [\"sip.provider.example\"]";
    let values = names.map_or(&[][..], |names| document.array(names, "names", example));
    let mut known = BTreeSet::new();
    for value in values {
        match inline(document, value) {
            Some(Inline::Name(name)) => {
                known.insert(name);
            }
            Some(Inline::Prefix(_)) => document.problem(
                value.span(),
                "this is an address and no name; write both in one array, such as [\"203.0.113.0/24\", \"sip.provider.example\"]",
            ),
            None => {}
        }
    }
    if values.is_empty() {
        document.problem(
            value.span(),
            format!("this source has no names; write {example}"),
        );
    }
    of_names(document, known, hold, private)
}

/// `{ sip = "provider.example" }`
fn sip(document: &mut Document<'_>, fields: &DeTable<'_>) -> Option<Live> {
    let [sip, hold, private] =
        document.fields(fields, "a source of SIP", ["sip", "hold", "private"]);
    let value = sip?;
    let text = document.string(value, "sip", "sip = \"provider.example\"")?;
    match format!("sip:{text}").parse() {
        Ok(name) => of_names(document, [name].into(), hold, private),
        Err(error) => {
            let error: NameError = error;
            document.problem(value.span(), error.to_string());
            None
        }
    }
}

fn of_names(
    document: &mut Document<'_>,
    names: BTreeSet<Name>,
    hold: Option<&Value<'_>>,
    private: Option<&Value<'_>>,
) -> Option<Live> {
    let hold = hold.map_or(Some(Names::HOLD), |hold| {
        seconds(document, hold, "hold", "24h")
    });
    let private = private.is_some_and(|private| document.boolean(private, "private"));
    Some(Live {
        kind: Kind::Names(Names {
            names,
            hold: hold?,
            private,
        }),
        stale_after: None,
    })
}

/// `{ url = "https://feeds.example/voip.txt", every = "1h" }`
fn url(document: &mut Document<'_>, fields: &DeTable<'_>) -> Option<Live> {
    let [
        url,
        every,
        insecure,
        ca_file,
        path,
        tolerate,
        widest,
        stale_after,
    ] = document.fields(
        fields,
        "a source at a URL",
        [
            "url",
            "every",
            "insecure",
            "ca_file",
            "path",
            "tolerate",
            "widest",
            "stale_after",
        ],
    );
    let value = url?;
    let text = document.string(value, "url", "\"https://feeds.example/voip.txt\"")?;
    let list = Url {
        url: text.to_owned(),
        every: every.map_or(Some(Url::EVERY), |every| this_often(document, every))?,
        insecure: insecure.is_some_and(|insecure| document.boolean(insecure, "insecure")),
        ca_file: ca_file.and_then(|file| document.path(file, "ca_file")),
        path: path.and_then(|path| {
            let text = document.string(path, "path", "\"prefixes[].ip_prefix\"")?;
            text.parse()
                .map_err(|error: PathError| {
                    document.problem(path.span(), error.to_string());
                })
                .ok()
        }),
        tolerate: tolerate.map_or(Some(0), |share| per_mille(document, share))?,
        widest: widest.map_or(Some(Widest::default()), |widest| shortest(document, widest))?,
    };
    if let Some(wrong) = wrong_url(&list.url, list.may_be_plain()) {
        document.problem(value.span(), format!("{} {wrong}", Excerpt::of(text)));
        return None;
    }
    let stale_after = stale_after.and_then(|after| seconds(document, after, "stale_after", "7d"));
    Some(Live {
        kind: Kind::Url(list),
        stale_after,
    })
}

/// What keeps a URL from being asked for.
fn wrong_url(url: &str, may_be_plain: bool) -> Option<String> {
    url::wrong(
        url,
        may_be_plain,
        "https://feeds.example/voip.txt",
        "insecure = true",
    )
}

/// `{ countries = ["DE", "AT"], database = "/usr/share/GeoIP/country.mmdb" }`
fn countries(document: &mut Document<'_>, value: &Value<'_>, fields: &DeTable<'_>) -> Option<Live> {
    let [countries, database] =
        document.fields(fields, "a source of countries", ["countries", "database"]);
    let example = "countries = [\"DE\"]";
    let mut known = BTreeSet::new();
    let values = countries.map_or(&[][..], |countries| {
        document.array(countries, "countries", example)
    });
    for value in values {
        let Some(text) = document.string(value, "a country", "\"DE\"") else {
            continue;
        };
        match text.parse::<Country>() {
            Ok(country) => {
                known.insert(country);
            }
            Err(error) => document.problem(value.span(), error.to_string()),
        }
    }
    if values.is_empty() {
        document.problem(
            value.span(),
            format!("this source has no country; write {example}"),
        );
    }
    let Some(database) = database else {
        document.problem(
            value.span(),
            "this source has no database; write database = \"/usr/share/GeoIP/country.mmdb\"",
        );
        return None;
    };
    Some(Live {
        kind: Kind::Countries(Countries {
            countries: known,
            database: document.path(database, "database")?,
        }),
        stale_after: None,
    })
}

/// `{ crowdsec = "http://127.0.0.1:8080", key_file = "/etc/sipguard/crowdsec.key" }`
fn crowdsec(document: &mut Document<'_>, value: &Value<'_>, fields: &DeTable<'_>) -> Option<Live> {
    let [url, key_file, every, insecure, ca_file, widest, database] = document.fields(
        fields,
        "a source of CrowdSec",
        [
            "crowdsec", "key_file", "every", "insecure", "ca_file", "widest", "database",
        ],
    );
    let place = url?;
    let text = document.string(place, "crowdsec", "\"http://127.0.0.1:8080\"")?;
    let Some(key_file) = key_file else {
        document.problem(
            value.span(),
            "this source has no key_file; `cscli bouncers add` makes a key for it",
        );
        return None;
    };
    let lapi = CrowdSec {
        url: text.trim_end_matches('/').to_owned(),
        key_file: document.path(key_file, "key_file")?,
        every: every.map_or(Some(CrowdSec::EVERY), |every| this_often(document, every))?,
        insecure: insecure.is_some_and(|insecure| document.boolean(insecure, "insecure")),
        ca_file: ca_file.and_then(|file| document.path(file, "ca_file")),
        widest: widest.map_or(Some(Widest::default()), |widest| shortest(document, widest))?,
        database: database.and_then(|file| document.path(file, "database")),
    };
    if let Some(wrong) = wrong_url(&lapi.url, lapi.may_be_plain()) {
        document.problem(place.span(), format!("{} {wrong}", Excerpt::of(text)));
        return None;
    }
    Some(Live {
        kind: Kind::CrowdSec(lapi),
        stale_after: None,
    })
}

/// `{ etcd = ["https://etcd1.example:2379"], key = "/sipguard/providers" }`
fn etcd(document: &mut Document<'_>, value: &Value<'_>, fields: &DeTable<'_>) -> Option<Live> {
    let [
        endpoints,
        key,
        insecure,
        ca_file,
        user,
        password_file,
        widest,
    ] = document.fields(
        fields,
        "a source in etcd",
        [
            "etcd",
            "key",
            "insecure",
            "ca_file",
            "user",
            "password_file",
            "widest",
        ],
    );
    let example = "etcd = [\"https://etcd1.example:2379\"]";
    let mut wrong = false;
    let values = endpoints.map_or(&[][..], |endpoints| {
        document.array(endpoints, "etcd", example)
    });
    let mut places = Vec::new();
    for value in values {
        match document.string(value, "a server", "\"https://etcd1.example:2379\"") {
            Some(text) => places.push((value, text)),
            None => wrong = true,
        }
    }
    if values.is_empty() {
        document.problem(
            value.span(),
            format!("this source has no server; write {example}"),
        );
        wrong = true;
    }
    let Some(key) = key else {
        document.problem(
            value.span(),
            "this source has no key; write key = \"/sipguard/providers\"",
        );
        return None;
    };
    let key_text = document.string(key, "key", "\"/sipguard/providers\"")?;
    if key_text.is_empty() {
        document.problem(
            key.span(),
            "the key is empty; write key = \"/sipguard/providers\"",
        );
        return None;
    }
    let user = match (user, password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => Some(User {
            name: document.string(user, "user", "\"gateway\"")?.to_owned(),
            password_file: document.path(file, "password_file")?,
        }),
        (Some(one), None) | (None, Some(one)) => {
            document.problem(one.span(), "user and password_file go together; write both");
            return None;
        }
    };
    let fleet = Etcd {
        endpoints: places.iter().map(|(_, text)| (*text).to_owned()).collect(),
        key: key_text.to_owned(),
        insecure: insecure.is_some_and(|insecure| document.boolean(insecure, "insecure")),
        ca_file: ca_file.and_then(|file| document.path(file, "ca_file")),
        user,
        widest: widest.map_or(Some(Widest::default()), |widest| shortest(document, widest))?,
    };
    for (place, text) in places {
        if let Some(why) = wrong_url(text, fleet.may_be_plain(text)) {
            document.problem(place.span(), format!("{} {why}", Excerpt::of(text)));
            wrong = true;
        }
    }
    (!wrong).then_some(Live {
        kind: Kind::Etcd(fleet),
        stale_after: None,
    })
}

/// How often something is asked for.
fn this_often(document: &mut Document<'_>, value: &Value<'_>) -> Option<u32> {
    /// Nobody's server wants to be asked more often.
    const LEAST: u32 = 10;
    /// A month: a source that is asked for less often is none that lives.
    const MOST: u32 = 31 * 24 * 60 * 60;
    let every = seconds(document, value, "every", "1h")?;
    if !(LEAST..=MOST).contains(&every) {
        document.problem(
            value.span(),
            "every is between 10s and 31d; write for example \"1h\"",
        );
        return None;
    }
    Some(every)
}

fn seconds(
    document: &mut Document<'_>,
    value: &Value<'_>,
    what: &str,
    example: &str,
) -> Option<u32> {
    let text = document.string(value, what, &format!("{what} = \"{example}\""))?;
    match when::duration(text) {
        // Ten years are the most.
        Ok(duration) => u32::try_from(duration.as_secs()).ok(),
        Err(error) => {
            document.problem(value.span(), error.to_string());
            None
        }
    }
}

/// `"1%"`, `"0.5%"`: of 1,000.
fn per_mille(document: &mut Document<'_>, value: &Value<'_>) -> Option<u16> {
    let text = document.string(value, "tolerate", "tolerate = \"1%\"")?;
    let share = text.strip_suffix('%').and_then(|share| {
        let (whole, tenths) = share.split_once('.').unwrap_or((share, "0"));
        let tenths: u16 = (tenths.len() == 1).then(|| tenths.parse().ok())??;
        let whole: u16 = whole.parse().ok()?;
        whole.checked_mul(10)?.checked_add(tenths)
    });
    let share = share.filter(|share| *share <= 500);
    if share.is_none() {
        document.problem(
            value.span(),
            format!(
                "{} is no share; write for example \"1%\" or \"0.5%\", at most \"50%\"",
                Excerpt::of(text)
            ),
        );
    }
    share
}

/// `{ ipv4 = 8, ipv6 = 20 }`: the shortest prefixes that are taken.
fn shortest(document: &mut Document<'_>, value: &Value<'_>) -> Option<Widest> {
    let example = "widest = { ipv4 = 12, ipv6 = 28 }";
    let table = document.table(value, "widest", example)?;
    let [ipv4, ipv6] = document.fields(table, "widest", ["ipv4", "ipv6"]);
    let default = Widest::default();
    let mut length = |value: Option<&Value<'_>>, most: u8, default: u8| {
        let Some(value) = value else {
            return Some(default);
        };
        let Some(integer) = value.get_ref().as_integer() else {
            document.wrong_type(value, "a prefix length", "an integer", "12");
            return None;
        };
        let length = u8::from_str_radix(integer.as_str(), integer.radix()).ok();
        let length = length.filter(|length| (1..=most).contains(length));
        if length.is_none() {
            document.problem(
                value.span(),
                format!("a prefix length is a number from 1 to {most} here"),
            );
        }
        length
    };
    Some(Widest {
        ipv4: length(ipv4, 32, default.ipv4)?,
        ipv6: length(ipv6, 128, default.ipv6)?,
    })
}
