//! What each command does: asks the library, and prints the answer to the writer it is given.

mod agent;
mod allow;
mod apply;
mod ban;
mod capture;
mod check;
mod clock;
mod completions;
mod confirm;
mod confirmation;
mod context;
mod difference;
mod doctor;
mod down;
mod effect;
mod events;
mod import;
mod init;
mod knocks;
mod learn;
mod list;
#[cfg(feature = "log")]
mod log;
mod man;
mod notify;
mod overview;
mod policy_warnings;
mod refresh;
mod remove;
mod repair;
mod stats;
mod status;
mod top;

use std::io::Write;

use anyhow::Result;
use sipguard::policy::Action;

pub(crate) use self::context::{Context, Outcome};
use self::context::{live, may_use_bpf, needs_root, write_json};
use crate::cli::Command;

/// Runs a command; without one, shows what is in force or how to begin.
pub(crate) fn run(
    command: Option<Command>,
    context: &Context,
    out: &mut dyn Write,
) -> Result<Outcome> {
    match command {
        None => return overview::run(context, out),
        Some(Command::Init) => init::run(context, out)?,
        Some(Command::Apply(apply)) => return apply::run(&apply, context, out),
        Some(Command::Confirm) => confirm::confirm(context, out)?,
        Some(Command::Rollback) => confirm::rollback(context, out)?,
        Some(Command::Down) => down::run(context, out)?,
        Some(Command::Agent) => agent::run(context)?,
        Some(Command::Repair) => return repair::run(context, out),
        Some(Command::Status(status)) => return status::run(&status, context, out),
        Some(Command::Stats(stats)) => stats::run(&stats, context, out)?,
        Some(Command::Events(events)) => events::run(&events, context, out)?,
        Some(Command::Knocks(knocks)) => knocks::run(&knocks, context, out)?,
        Some(Command::Top) => top::run(context)?,
        Some(Command::List(list)) => list::run(&list, context, out)?,
        Some(Command::Allow(say)) => allow::run(&say, Action::Allow, context, out)?,
        Some(Command::Deny(say)) => allow::run(&say, Action::Deny, context, out)?,
        Some(Command::Remove(remove)) => remove::run(&remove, context, out)?,
        Some(Command::Ban(ban)) => ban::ban(&ban, context, out)?,
        Some(Command::Unban(unban)) => ban::unban(&unban, context, out)?,
        Some(Command::Refresh(refresh)) => return refresh::run(&refresh, context, out),
        Some(Command::Notify(notify)) => return notify::run(&notify, context, out),
        Some(Command::Check(check)) => return check::run(&check, context, out),
        Some(Command::Clock) => clock::run(context, out)?,
        Some(Command::Doctor) => return doctor::run(context, out),
        Some(Command::Import(import)) => import::run(&import, context, out)?,
        Some(Command::Learn(learn)) => learn::run(&learn, context, out)?,
        Some(Command::Completions(completions)) => completions::run(&completions, out)?,
        #[cfg(feature = "log")]
        Some(Command::Log) => log::run(context)?,
        Some(Command::Man(man)) => man::run(&man, context, out)?,
    }
    Ok(Outcome::Done)
}
