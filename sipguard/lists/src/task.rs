//! `tasks.json`: what sipguard wants to be asked for. Only what a person put in force is in it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{File, Permissions},
    io::{self, Read as _, Write as _},
    net::IpAddr,
    os::unix::fs::{PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{country::Country, name::Name, notify::Notify, path::JsonPath, replace};

/// The file's name, in sipguard's folder.
pub const FILE: &str = "tasks.json";
/// The form in which it is written; changes when older programs would misread it.
pub const VERSION: u32 = 1;
/// The most bytes that are read of it.
const MAX_BYTES: u64 = 16 << 20;

/// Everything that is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// [`VERSION`]
    pub version: u32,
    /// Whom to ask for names.
    pub dns: Dns,
    /// Ports that no question may come from: the answer would have to pass the filter.
    pub guarded_ports: BTreeSet<u16>,
    /// One for each source; names are different.
    pub sources: Vec<Task>,
    /// Who wants notices, if anybody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

/// Whom to ask for names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Servers, asked in this order; none: those of `/etc/resolv.conf`.
    pub servers: Vec<IpAddr>,
    /// Whether only what DNSSEC proves is an answer.
    #[serde(default)]
    pub dnssec: bool,
    /// DS or DNSKEY records by which it is proven, as in a zone file; none: those of the root's own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_anchor: Option<PathBuf>,
}

/// What is to be asked for one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The source's name; see [`is_source_name`].
    pub source: String,
    /// Of what kind it is.
    pub kind: Kind,
}

/// What is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Names, in DNS.
    Names(Names),
    /// A list, at a URL.
    Url(Url),
    /// Decisions, of CrowdSec's local API.
    #[serde(rename = "crowdsec")]
    CrowdSec(CrowdSec),
    /// Lists that are kept in etcd.
    Etcd(Etcd),
    /// Countries, in a database.
    Countries(Countries),
}

impl Kind {
    /// Its name, as the config and `status` have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Names(_) => "names",
            Self::Url(_) => "url",
            Self::CrowdSec(_) => "crowdsec",
            Self::Etcd(_) => "etcd",
            Self::Countries(_) => "countries",
        }
    }

    /// The one place that is asked, where there is one: what was found at another one is no answer to this question.
    pub fn url(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Names(_) => None,
            Self::Url(list) => Some(Cow::Borrowed(&list.url)),
            Self::CrowdSec(lapi) => Some(Cow::Borrowed(&lapi.url)),
            Self::Etcd(fleet) => Some(fleet.url().into()),
            Self::Countries(some) => {
                let codes: Vec<_> = some.countries.iter().map(Country::to_string).collect();
                let database = some.database.display();
                Some(format!("file:{database}#{}", codes.join(",")).into())
            }
        }
    }
}

/// Names to be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// At least one.
    pub names: BTreeSet<Name>,
    /// How long an address stays that is not in the answers any more, in seconds.
    pub hold: u32,
    /// Whether a name may have addresses that are no one's own: RFC 1918, 100.64.0.0/10, fc00::/7.
    pub private: bool,
}

impl Names {
    /// How long an address stays unless said otherwise: a day.
    pub const HOLD: u32 = 24 * 60 * 60;
    /// The most addresses that one answer may have.
    pub const MAX_ANSWER: usize = 64;
    /// The most addresses that are kept of one name.
    pub const MAX_HELD: usize = 512;
}

/// A list to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Url {
    /// Where it is: `https://`, or `http://` on this host or where that is `insecure`.
    pub url: String,
    /// How often it is asked for, in seconds.
    pub every: u32,
    /// Whether everybody on the way may change it.
    pub insecure: bool,
    /// Certificates of authorities that are trusted instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Where the prefixes are, if it is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<JsonPath>,
    /// How many of 1,000 lines may be wrong; they are left out.
    pub tolerate: u16,
    /// The shortest prefixes that are taken.
    pub widest: Widest,
}

/// The shortest prefixes that a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widest {
    /// A prefix length.
    pub ipv4: u8,
    /// A prefix length.
    pub ipv6: u8,
}

impl Widest {
    /// Whether a prefix is shorter.
    pub fn is_beyond(self, prefix: IpNet) -> bool {
        let shortest = match prefix {
            IpNet::V4(_) => self.ipv4,
            IpNet::V6(_) => self.ipv6,
        };
        prefix.prefix_len() < shortest
    }
}

/// What nobody says otherwise of.
impl Default for Widest {
    fn default() -> Self {
        Self { ipv4: 12, ipv6: 28 }
    }
}

impl Url {
    /// How often a list is asked for unless said otherwise: every hour.
    pub const EVERY: u32 = 60 * 60;

    /// Whether the list may come over a way on which everybody can change it: from this host, or where a person said so.
    pub fn may_be_plain(&self) -> bool {
        self.insecure || is_local(&self.url)
    }
}

/// CrowdSec's local API (LAPI), and how it is asked for decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdSec {
    /// Where it is, without `/v1`: `https://`, or `http://` on this host or where that is `insecure`.
    pub url: String,
    /// The file with the key that `cscli bouncers add` made for this gateway alone, in the first line.
    pub key_file: PathBuf,
    /// How often it is asked for changes, in seconds.
    pub every: u32,
    /// Whether everybody on the way may read the key, and change the answer.
    pub insecure: bool,
    /// Certificates of authorities that are trusted instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The shortest prefixes that are taken.
    pub widest: Widest,
    /// Where countries are looked up that are banned; without it they are not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<PathBuf>,
}

/// Countries, and where they are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Countries {
    /// At least one.
    pub countries: BTreeSet<Country>,
    /// A database in MaxMind's format, whoever made it.
    pub database: PathBuf,
}

impl Countries {
    /// The shortest prefixes that a country can have: some of the United States' are /7.
    pub const WIDEST: Widest = Widest { ipv4: 6, ipv6: 10 };
}

impl CrowdSec {
    /// How often it is asked for changes unless said otherwise: every 10 seconds.
    pub const EVERY: u32 = 10;

    /// Whether it may be asked over a way on which everybody can read and change what is said: on this host, or where a person said so.
    pub fn may_be_plain(&self) -> bool {
        self.insecure || is_local(&self.url)
    }
}

/// Lists that are kept in etcd, in the format of list files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// Servers of one cluster, asked in this order: `https://HOST:PORT`, or `http://` on this host or where that is `insecure`. At least one.
    pub endpoints: Vec<String>,
    /// The key whose value is the list; one that ends in `/` stands for all keys that begin with it.
    pub key: String,
    /// Whether everybody on the way may change it.
    pub insecure: bool,
    /// Certificates of authorities that are trusted instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// As whom to log in, where etcd wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The shortest prefixes that are taken.
    pub widest: Widest,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: String,
    /// The file with its password, in the first line.
    pub password_file: PathBuf,
}

impl Etcd {
    /// What is asked for, of whichever server.
    pub fn url(&self) -> String {
        format!("etcd:{}", self.key)
    }

    /// Whether all keys that begin with the one that is written are asked for.
    pub fn is_prefix(&self) -> bool {
        self.key.ends_with('/')
    }

    /// Whether a server may be asked over a way on which everybody can change the answer: on this host, or where a person said so.
    pub fn may_be_plain(&self, endpoint: &str) -> bool {
        self.insecure || is_local(endpoint)
    }
}

/// Whether an `http` URL leads to this host, whatever names mean elsewhere.
pub(crate) fn is_local(url: &str) -> bool {
    let host = url.strip_prefix("http://").unwrap_or_default();
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = |rest: &str| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_number);
    let local = ["127.0.0.1", "[::1]", "localhost"];
    local
        .into_iter()
        .any(|local| host.strip_prefix(local).is_some_and(is_port))
}

/// Why there are no tasks.
#[derive(Debug, Error)]
pub enum TaskError {
    /// The file can't be read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// It says something else.
    #[error("{file} is damaged: {error}; `sipguard apply` writes it anew")]
    Damaged {
        /// The file.
        file: String,
        /// What does not fit.
        error: serde_json::Error,
    },
    /// It is of another version of sipguard.
    #[error(
        "{file} has version {version}, and this program reads {VERSION}; install sipguard and sipguard-fetch of one version, then run `sipguard apply`"
    )]
    Version {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
}

impl Tasks {
    /// Nothing to do.
    pub fn none() -> Self {
        Self {
            version: VERSION,
            dns: Dns::default(),
            guarded_ports: BTreeSet::new(),
            sources: Vec::new(),
            notify: None,
        }
    }

    /// Whether there is nothing to do.
    pub fn are_none(&self) -> bool {
        self.sources.is_empty() && self.notify.is_none()
    }

    /// Adds what else is to be asked for; what has the same name as a source that is there is left out.
    pub fn merge(&mut self, others: Self) {
        self.guarded_ports.extend(others.guarded_ports);
        if self.are_none() {
            self.dns = others.dns;
        }
        if self.notify.is_none() {
            self.notify = others.notify;
        }
        for task in others.sources {
            if self.sources.iter().all(|known| known.source != task.source) {
                self.sources.push(task);
            }
        }
    }

    /// Reads the file; `None` where there is none, and so nothing to do.
    pub fn read(path: &Path) -> Result<Option<Self>, TaskError> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }

        let file = || path.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(TaskError::Read {
                    file: file(),
                    error,
                });
            }
        }
        let damaged = |error| TaskError::Damaged {
            file: file(),
            error,
        };
        let Any { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version != VERSION {
            return Err(TaskError::Version {
                file: file(),
                version,
            });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Replaces the file in `folder`; those of the group may read it.
    pub fn write(&self, folder: &Path, group: Option<u32>) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        let write = |file: &mut File| {
            if let Some(group) = group {
                fchown(&*file, None, Some(group))?;
                // Whatever the umask says.
                file.set_permissions(Permissions::from_mode(0o640))?;
            }
            file.write_all(&json)
        };
        replace::stage(folder, FILE, 0o600, write)?.commit()
    }
}

/// Whether a source may have this name, which is that of its file, too: 1 to 63 letters, digits, `_` and `-`.
pub fn is_source_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::*;
    use crate::notify::{Address, Webhook};

    fn tasks() -> Tasks {
        let names = [
            "sip.provider.example",
            "_sip._udp.provider.example",
            "sip:provider.example",
        ];
        Tasks {
            version: VERSION,
            dns: Dns {
                servers: vec![
                    "192.0.2.53".parse().unwrap(),
                    "2001:db8::53".parse().unwrap(),
                ],
                dnssec: true,
                trust_anchor: Some("/etc/sipguard/root.key".into()),
            },
            guarded_ports: BTreeSet::from([5060, 50600]),
            sources: vec![Task {
                source: "providers".to_owned(),
                kind: Kind::Names(Names {
                    names: names.iter().map(|name| name.parse().unwrap()).collect(),
                    hold: Names::HOLD,
                    private: false,
                }),
            }],
            notify: Some(Notify {
                webhook: Some(Webhook {
                    address: Address::Url("https://hooks.example/T/1".to_owned()),
                    insecure: false,
                    ca_file: None,
                }),
                mail: None,
            }),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(Tasks::read(&file).unwrap(), None);
        tasks().write(folder.path(), Some(12_345)).unwrap();
        assert_eq!(Tasks::read(&file).unwrap(), Some(tasks()));
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!(
            (metadata.gid(), metadata.permissions().mode() & 0o777),
            (12_345, 0o640)
        );
        tasks().write(folder.path(), None).unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_can_not_be_understood_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        tasks().write(folder.path(), None).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        for (written, wanted) in [
            (
                text.replace("\"version\": 1", "\"version\": 2, \"more\": 3"),
                "has version 2, and this program reads 1",
            ),
            (
                text.replace("\"hold\"", "\"held\""),
                "is damaged: unknown field `held`",
            ),
            (
                text.replace("sip.provider.example", "sip"),
                "is no whole name",
            ),
            (text[..text.len() / 2].to_owned(), "is damaged"),
        ] {
            fs::write(&file, written).unwrap();
            let error = Tasks::read(&file).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn only_what_comes_from_this_host_may_be_plain() {
        let may_be_plain = |url: &str, insecure| {
            let list = Url {
                url: url.to_owned(),
                every: Url::EVERY,
                insecure,
                ca_file: None,
                path: None,
                tolerate: 0,
                widest: Widest::default(),
            };
            list.may_be_plain()
        };
        for url in [
            "http://127.0.0.1/",
            "http://127.0.0.1:8080/x",
            "http://[::1]:8080",
            "http://localhost?x",
        ] {
            assert!(may_be_plain(url, false), "{url}");
        }
        for url in [
            "http://feeds.example/",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://localhost@feeds.example/",
            "http://localhost:x@feeds.example/",
            "https://127.0.0.1/",
        ] {
            assert!(may_be_plain(url, true), "{url}");
            assert!(!may_be_plain(url, false), "{url}");
        }
    }

    #[test]
    fn a_key_that_ends_in_a_slash_stands_for_all_below_it() {
        let mut fleet = Etcd {
            endpoints: Vec::new(),
            key: "/sipguard/providers".to_owned(),
            insecure: false,
            ca_file: None,
            user: None,
            widest: Widest::default(),
        };
        assert!(!fleet.is_prefix());
        assert!(fleet.may_be_plain("http://127.0.0.1:2379"));
        assert!(!fleet.may_be_plain("http://192.0.2.53:2379"));
        fleet.key.push('/');
        assert!(fleet.is_prefix());
        assert_eq!(fleet.url(), "etcd:/sipguard/providers/");
        fleet.insecure = true;
        assert!(fleet.may_be_plain("http://192.0.2.53:2379"));
    }

    #[test]
    fn names_of_sources_are_names_of_files() {
        for name in ["a", "providers", "A-1_b", &"x".repeat(63)] {
            assert!(is_source_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a.b", "ä", "a b", &"x".repeat(64)] {
            assert!(!is_source_name(name), "{name}");
        }
    }
}
