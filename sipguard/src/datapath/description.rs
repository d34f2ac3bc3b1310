//! What a generation says of itself, kept in the kernel beside its maps.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sipguard_lists::{notify::Notify, task::Dns};

use crate::{
    policy::{Hide, Interface, LiveSource, Mode, Origin, Service},
    state::Slots,
    tables::Constants,
    warnings::Doubt,
};

/// Everything about a generation that its maps don't hold as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// [`sipguard_ebpf::abi::VERSION`] of the sipguard that made it.
    pub abi: u32,
    /// The version of the sipguard that made it.
    pub version: String,
    /// When it was made.
    pub applied: Timestamp,
    /// The config file it was made from.
    pub config: PathBuf,
    /// Fingerprint of everything it was made from but the command line's own entries.
    pub digest: String,
    /// Enforce or monitor, for frames that no service is concerned with.
    pub mode: Mode,
    /// The services.
    pub services: Vec<ServiceDescription>,
    /// The interfaces it is for.
    pub interfaces: Vec<Interface>,
    /// Where the config file's entries come from; an entry's `origin` is an index into this.
    pub origins: Vec<Origin>,
    /// What made one doubt its lists when it was made.
    #[serde(default)]
    pub doubts: Vec<Doubt>,
    /// Sources whose entries are found by asking others. Their services are numbered as they stand here.
    #[serde(default)]
    pub live: Vec<LiveSource>,
    /// Whom to ask for names.
    #[serde(default)]
    pub dns: Dns,
    /// Who wants notices, if anybody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// What is not kept of those who knock.
    #[serde(default)]
    pub hide: Hide,
    /// How many entries the config file gave it.
    pub entries: usize,
    /// 32 less the size of half of a service's region of the prefilter, in bits as a power of two.
    pub prefilter_shift: u32,
}

/// One service of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDescription {
    /// Its number in the kernel.
    pub slot: u8,
    /// What the policy says of it.
    #[serde(flatten)]
    pub service: Service,
}

impl Description {
    /// The constants of this generation's programs.
    pub(super) fn constants(&self) -> Constants {
        let services = self
            .services
            .iter()
            .map(|found| (&found.service, found.slot));
        Constants::new(self.mode, services, self.prefilter_shift)
    }

    /// Its services' slots.
    pub fn slots(&self) -> Slots {
        let mut slots = Slots::default();
        for found in &self.services {
            slots.set(&found.service.name, found.slot);
        }
        slots
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&ServiceDescription> {
        self.services
            .iter()
            .find(|found| found.service.name == name)
    }

    /// The service with this number in the kernel.
    pub fn service_at(&self, slot: u8) -> Option<&ServiceDescription> {
        self.services.iter().find(|found| found.slot == slot)
    }
}
