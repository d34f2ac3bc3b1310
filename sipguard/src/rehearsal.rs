//! What a policy would do with packets, asked of the kernel's program without attaching or pinning anything.

use std::path::Path;

use sipguard_ebpf::abi::{Answer, LinkKind};

use crate::{
    config,
    datapath::{self, Checker, Description},
    host::Host,
    lifecycle::{self, Error, Live},
    policy::Policy,
    state::Slots,
    tables::Tables,
};

/// A config file's policy alone: what the command line added is no part of it.
pub struct Compiled {
    /// What the kernel would look things up in.
    pub tables: Tables,
    /// What the policy says, save its entries. The numbers of its services are not those in force.
    pub description: Description,
}

impl Compiled {
    /// Of a config file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_file(host: &Host, file: &Path) -> Result<Self, Error> {
        let policy: Policy = config::load(file)?;
        let mut slots = Slots::default();
        slots.assign(policy.services.iter().map(|service| service.name.as_str()))?;
        let now = host.now();
        let tables = Tables::compile(&policy, &slots, &[], Vec::new(), now)?;
        let description =
            lifecycle::describe(&policy, &slots, &tables, file, String::new(), now.wall);
        Ok(Self {
            tables,
            description,
        })
    }
}

/// A policy to be asked.
pub struct Rehearsal {
    /// What the policy says, save its entries. The numbers of its services are not those in force.
    pub description: Description,
    from: From,
    /// One for each kind of link that was asked for.
    checkers: [Option<Checker>; 2],
}

enum From {
    Tables(Box<Tables>),
    Generation(u64),
}

impl Rehearsal {
    /// Of a config file alone: what the command line added is no part of it.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_file(host: &Host, file: &Path) -> Result<Self, Error> {
        let Compiled {
            tables,
            description,
        } = Compiled::of_file(host, file)?;
        Ok(Self {
            description,
            from: From::Tables(Box::new(tables)),
            checkers: [None, None],
        })
    }

    /// Of what is in force now, with everything the command line added. Its counters don't move.
    pub fn of_live(live: &Live) -> Self {
        Self {
            description: live.generation.description.clone(),
            from: From::Generation(live.number),
            checkers: [None, None],
        }
    }

    /// What the policy's program does with a frame.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn judge(&mut self, frame: &[u8], link: LinkKind) -> Result<Answer, datapath::Error> {
        let checker = &mut self.checkers[link as usize];
        if let Some(checker) = checker {
            return checker.judge(frame);
        }
        let made = match &self.from {
            From::Tables(tables) => Checker::of(tables, self.description.clone(), link),
            From::Generation(number) => Checker::over(*number, link),
        };
        checker.insert(made?).judge(frame)
    }
}
