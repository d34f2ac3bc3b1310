//! What an apply would do, found out without doing any of it.

use std::{path::Path, sync::Arc};

use super::{
    config_file::ConfigFile,
    error::{Error, Refused},
    instead::Instead,
    living::{Words, words},
    outlook::Outlook,
    session,
    survey::{Options, Survey},
};
use crate::{
    host::Host,
    policy::Policy,
    state::State,
    tables::{Tables, banned},
};

/// What an apply would do.
#[derive(Debug)]
pub struct Planned {
    /// The policy that would be in force.
    pub policy: Arc<Policy>,
    /// How many of the command line's entries would be in force with it.
    pub own: usize,
    /// Interfaces of the config that do not exist now.
    pub absent: Vec<String>,
    /// Interfaces that can't be guarded.
    pub refused: Vec<Refused>,
    /// Whether anything would be done at all: there is something to do, too, where the policy is the same but an interface lost its
    /// program, or sipguard is a newer one.
    pub changes: bool,
    /// Why the last policy that was in force for good would be taken instead of the config file, where that is so.
    pub instead: Option<Instead>,
    /// What becomes of this host.
    pub outlook: Outlook,
}

/// Finds out what [`apply`](super::apply) would do with a config file. Takes no lock, and changes nothing on disk or in the kernel.
///
/// # Errors
/// Where the apply would fail before it changes anything.
pub fn plan(host: &Host, file: &Path, options: Options) -> Result<Planned, Error> {
    let config = ConfigFile::read(file);
    let mut state = session::state(host);
    let survey = Survey::look(host, &config, &mut state, options)?;
    state.drop_ended(survey.now.boot_ns);
    let changes = !survey.is_in_force();
    if !changes && let Some(Instead::TakenBack { at }) = survey.instead {
        return Err(Error::NotConfirmed {
            config: file.to_owned(),
            at,
        });
    }
    let State { slots, entries, .. } = &state;
    let outlook = if changes {
        let bans = super::bans(host, &state);
        let live = &survey.policy.live;
        let bans = banned(&bans, survey.now);
        // A copy that can't be used is for who applies.
        let Words { said, .. } = words(host, live, bans, survey.now, |_| false);
        let tables = Tables::compile(&survey.policy, slots, entries, said, survey.now)?;
        survey.outlook(slots, &tables)?
    } else {
        Outlook::unchanged(&survey.policy, survey.doubts)
    };
    Ok(Planned {
        own: entries.len(),
        absent: survey.absent,
        refused: survey.refused,
        changes,
        instead: survey.instead,
        outlook,
        policy: survey.policy,
    })
}
