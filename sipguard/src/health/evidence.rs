//! What the checks look at, asked once.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::sockets::Sockets;
use crate::{
    config::{self, ConfigError},
    datapath::{Attachment, Trust, attachments},
    device::{self, Device},
    host::{Host, Trouble},
    lifecycle::{self, Live, Newest},
    policy::Policy,
    report::{self, InterfaceReport, SourceReport},
    state::State,
    tables::Now,
};

/// See the module.
pub(crate) struct Evidence {
    /// The config file, from the root.
    pub(crate) config: PathBuf,
    /// What it says.
    pub(crate) policy: Result<Policy, lifecycle::Error>,
    /// Whether it was not confirmed, so that a plain apply does not take it.
    pub(crate) taken_back: bool,
    /// What is in force.
    pub(crate) live: Result<Option<Live>, lifecycle::Error>,
    /// Its live sources.
    pub(crate) sources: Vec<SourceReport>,
    /// All links of ours: one whose time to confirm is over is left where nothing is in force.
    pub(crate) links: Vec<Attachment>,
    /// What the kernel is to filter, and what became of it.
    pub(crate) interfaces: Vec<InterfaceReport>,
    /// All interfaces of this host.
    pub(crate) devices: Vec<Device>,
    /// This host's own addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// This host's sockets.
    pub(super) sockets: Sockets,
    pub(crate) state: State,
    /// Why the next boot would not find it, where that is so.
    pub(crate) unsaved: Option<String>,
    pub(crate) now: Now,
    /// Whether programs are watched that were seen running a moment ago.
    pub(super) trust: Trust,
}

impl Evidence {
    /// Takes no lock, and changes nothing.
    pub(crate) fn look(host: &Host, config: &Path, trust: Trust) -> Result<Self, lifecycle::Error> {
        let Newest {
            state,
            unread,
            is_on_disk,
        } = lifecycle::newest(host);
        let mut unsaved = (!is_on_disk).then(|| "the disk did not take it".to_owned());
        if let Some(error) = unread {
            unsaved = Some(error.to_string());
            host.note(Trouble::Unread(error));
        }
        let now = lifecycle::now(host, &state);
        let devices = device::all().map_err(lifecycle::Error::Devices)?;
        let bytes = config::read(config);
        let text = bytes
            .as_ref()
            .ok()
            .and_then(|bytes| str::from_utf8(bytes).ok());
        let (live, interfaces) = match report::interfaces(host, &state.fallbacks) {
            Ok(found) => {
                let (live, interfaces) = found.unzip();
                (Ok(live), interfaces.unwrap_or_default())
            }
            Err(error) => (Err(error), Vec::new()),
        };
        let links = match &live {
            Ok(Some(live)) => live.links.clone(),
            // What can't be asked is told by what is in force.
            _ => attachments(now).unwrap_or_default(),
        };
        let unconfirmed = state.unconfirmed.as_ref();
        let taken_back = match unconfirmed.zip(text) {
            Some((unconfirmed, text)) => lifecycle::is_taken_back(unconfirmed, text, &links, now),
            None => false,
        };
        let policy = bytes.and_then(|bytes| config::parse_bytes(&bytes, config));
        let sources = match &live {
            Ok(Some(live)) => SourceReport::all(host, &live.generation, &state, now)
                .map_err(lifecycle::Error::Datapath)?,
            _ => Vec::new(),
        };
        Ok(Self {
            sources,
            config: std::path::absolute(config).unwrap_or_else(|_| config.to_owned()),
            policy: by_kernel_names(policy, &devices),
            taken_back,
            live,
            links,
            interfaces,
            devices,
            addresses: device::addresses().map_err(lifecycle::Error::Devices)?,
            sockets: Sockets::look(),
            unsaved,
            state,
            now,
            trust,
        })
    }

    /// What is in force, as far as it can be read.
    pub(super) fn in_force(&self) -> Option<&Live> {
        self.live.as_ref().ok()?.as_ref()
    }

    /// Whether an apply waits to be confirmed.
    pub(super) fn waits(&self) -> bool {
        let pending = self.in_force().and_then(|live| live.pending);
        pending.is_some_and(|pending| !pending.lapsed(self.now))
    }

    /// Opens the config file.
    pub(super) fn edit(&self) -> String {
        edit(&self.config, None)
    }

    /// Applies the config file.
    pub(super) fn apply(&self) -> String {
        format!("sipguard apply --config {}", quoted(&self.config))
    }
}

fn by_kernel_names(
    policy: Result<Policy, ConfigError>,
    devices: &[Device],
) -> Result<Policy, lifecycle::Error> {
    let mut policy = policy.map_err(|error| lifecycle::Error::Config(Arc::new(error)))?;
    lifecycle::use_kernel_names(&mut policy.interfaces, devices)?;
    Ok(policy)
}

/// Opens a file, at a line.
pub(super) fn edit(file: &Path, line: Option<usize>) -> String {
    let line = line.map_or_else(String::new, |line| format!("+{line} "));
    format!("${{EDITOR:-nano}} {line}{}", quoted(file))
}

/// What a command in a shell calls a file.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
