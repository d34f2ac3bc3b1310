//! A policy compiled as a generation would be, and judged by on the host.

use jiff::{SignedDuration, Timestamp};
use sipguard::{
    datapath::{Checker, Description, ServiceDescription},
    policy::Policy,
    state::{Ban, BanLine, Bans, OwnEntry, Slots},
    tables::{HostTables, Now, Tables, banned},
};
use sipguard_ebpf::{
    abi::{self, Answer, Layer, LinkKind, Reason},
    verdict::{self, judge},
};

use crate::reference::{Banned, Model, Own, Verdict};

/// The moment at which policies are compiled.
pub const NOW: Now = Now {
    boot_ns: 1_000_000_000_000,
    wall: Timestamp::constant(1_700_000_000, 0),
};

/// A policy and what it became.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What was compiled.
    pub policy: Policy,
    /// Which service has which number.
    pub slots: Slots,
    /// What it became.
    pub tables: Tables,
    own: Vec<Own>,
    bans: Vec<Banned>,
}

impl Compiled {
    /// Compiles a policy with entries of the command line at [`NOW`].
    #[must_use]
    pub fn new(policy: Policy, own: &[OwnEntry]) -> Self {
        Self::at(NOW, policy, own, &Bans::default())
    }

    /// Compiles what is said in the reference model's words, at the beginning of the boot clock: what has ended by [`NOW`] is there, too.
    #[must_use]
    pub fn said(policy: Policy, own: Vec<Own>, bans: Vec<Banned>) -> Self {
        let wall = |boot_ns: u64| {
            let left = i128::from(boot_ns) - i128::from(NOW.boot_ns);
            NOW.wall + SignedDuration::from_nanos_i128(left)
        };
        let began = Now {
            boot_ns: 1,
            wall: wall(1),
        };
        let entries: Vec<_> = own
            .iter()
            .map(|entry| OwnEntry {
                prefix: entry.prefix,
                service: policy.services[entry.service].name.clone(),
                action: entry.action,
                until: entry.until.map(wall),
                lasts_in: None,
                comment: None,
                added: began.wall,
            })
            .collect();
        let mut log = Bans::default();
        for ban in &bans {
            log.say(BanLine::Ban(Ban {
                prefix: ban.prefix,
                by: Some("jail".to_owned()),
                until: ban.until.map(wall),
                lasts_in: String::new(),
                added: began.wall,
            }));
        }
        let compiled = Self::at(began, policy, &entries, &log);
        Self {
            own,
            bans,
            ..compiled
        }
    }

    fn at(now: Now, policy: Policy, own: &[OwnEntry], bans: &Bans) -> Self {
        let mut slots = Slots::default();
        // As on a machine that had other services once: a service's number is not its place in the policy.
        slots.assign(["gone", "lost"]).expect("two services");
        slots
            .assign(policy.services.iter().map(|service| service.name.as_str()))
            .expect("few services");
        let tables = Tables::compile(&policy, &slots, own, banned(bans, now), now)
            .expect("a policy that fits");
        Self {
            policy,
            slots,
            tables,
            own: Vec::new(),
            bans: Vec::new(),
        }
    }

    /// The reference model of what was compiled, at a time of the boot clock.
    #[must_use]
    pub fn model(&self, now: u64) -> Model<'_> {
        Model {
            policy: &self.policy,
            own: &self.own,
            bans: &self.bans,
            now,
        }
    }

    /// The product's verdict on a frame, at a time of the boot clock, in the reference model's words.
    #[must_use]
    pub fn judge(&self, frame: &[u8], link: LinkKind, boot_ns: u64) -> Verdict {
        let tables = HostTables {
            link,
            ..HostTables::new(&self.tables, boot_ns)
        };
        self.in_words(judge(frame, &tables).1)
    }

    /// What a generation of it would say of itself.
    #[must_use]
    pub fn description(&self) -> Description {
        let policy = &self.policy;
        let services = policy.services.iter().map(|service| ServiceDescription {
            slot: self
                .slots
                .get(&service.name)
                .expect("every service has one"),
            service: service.clone(),
        });
        Description {
            doubts: Vec::new(),
            abi: abi::VERSION,
            version: "test".to_owned(),
            applied: NOW.wall,
            config: "table.toml".into(),
            digest: String::new(),
            mode: policy.mode,
            services: services.collect(),
            interfaces: Vec::new(),
            origins: policy.origins.clone(),
            live: policy.live.clone(),
            dns: policy.dns.clone(),
            notify: policy.notify.clone(),
            hide: policy.hide,
            entries: policy.entries.len(),
            prefilter_shift: self.tables.constants.prefilter_shift,
        }
    }

    /// The same policy, loaded into the kernel.
    #[must_use]
    pub fn loaded(&self, link: LinkKind) -> Loaded<'_> {
        let checker = Checker::of(&self.tables, self.description(), link);
        Loaded {
            compiled: self,
            checker: checker.unwrap_or_else(|error| panic!("these tests need root: {error}")),
        }
    }

    /// The same, for the program at TC ingress; frames have an Ethernet header, which the kernel reads for it.
    #[must_use]
    pub fn loaded_at_tc(&self) -> Loaded<'_> {
        let checker = Checker::at_tc(&self.tables, self.description());
        Loaded {
            compiled: self,
            checker: checker.unwrap_or_else(|error| panic!("these tests need root: {error}")),
        }
    }

    /// What a checking program answered, in the reference model's words.
    pub(crate) fn answered(&self, answer: Answer) -> Verdict {
        let reasons = [Reason::None].into_iter().chain(Reason::COUNTED);
        let reason = reasons
            .into_iter()
            .find(|&reason| reason as u8 == answer.reason);
        self.in_words(verdict::Verdict {
            reason: reason.expect("the program knows no other reasons"),
            service: answer.service,
            length: answer.length,
            layer: match answer.layer {
                0 => Layer::Hand,
                _ => Layer::Live,
            },
        })
    }

    fn in_words(&self, verdict: verdict::Verdict) -> Verdict {
        let service = self.slots.service(verdict.service);
        let index = |name| {
            let place = self.policy.services.iter().position(|it| it.name == name);
            place.expect("a verdict names a service of the policy")
        };
        let by_entry = matches!(verdict.reason, Reason::Allowed | Reason::Denied);
        Verdict {
            action: verdict.action(),
            reason: verdict.reason,
            service: service.map(index),
            length: by_entry.then_some(verdict.length),
            layer: by_entry.then_some(verdict.layer),
        }
    }
}

/// The kernel's program over a compiled policy.
pub struct Loaded<'c> {
    compiled: &'c Compiled,
    checker: Checker,
}

impl Loaded<'_> {
    /// The program's verdict on a frame, in the reference model's words.
    pub fn judge(&mut self, frame: &[u8]) -> Verdict {
        let answer = self.checker.judge(frame);
        let answer = answer.unwrap_or_else(|error| panic!("{} bytes: {error}", frame.len()));
        self.compiled.answered(answer)
    }

    /// The same for a frame whose `first` bytes alone can be read directly.
    pub fn judge_in_pieces(&mut self, frame: &[u8], first: usize) -> Verdict {
        let length = u32::try_from(first).expect("short frames");
        let answer = self.checker.judge_in_pieces(frame, length);
        let answer =
            answer.unwrap_or_else(|error| panic!("{first} of {} bytes: {error}", frame.len()));
        self.compiled.answered(answer)
    }
}
