//! What has to stay awake to see what comes and goes: it reads what the kernel tells, and says what happened. The filter needs none of it.

pub mod alarm;
pub mod allowed;
pub mod attempts;
pub mod flood;
pub mod happened;
pub mod in_force;
pub mod journal;
mod keeper;
mod kept;
pub mod knocks;
pub mod notices;
pub mod overruled;
mod process;
mod signals;
mod sketch;
pub mod systemd;
pub mod tried;

pub use self::process::{AgentError, FOLDER, run};
