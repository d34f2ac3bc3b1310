//! Looking at the clock: whoever changes anything does, and this is for when nobody does.

use super::{
    error::Error,
    session::{self, Session},
};
use crate::{datapath::Pins, host::Host, tables::Now};

/// What the clock says, and what the time is reckoned to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The clocks.
    pub now: Now,
    /// The time as it is reckoned to be.
    pub reckoned: Now,
}

/// Notes the time, and sets right what is in force where the clock was put right since. Where nothing is in force, nothing is done.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn clock(host: &Host) -> Result<Clocks, Error> {
    let reckoned = if Pins::find().is_some() {
        Session::begin(host)?.now()
    } else {
        session::now(host, &session::state(host))
    };
    Ok(Clocks {
        now: host.now(),
        reckoned,
    })
}
