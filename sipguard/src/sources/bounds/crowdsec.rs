//! What CrowdSec's decisions may be.

use sipguard_lists::{
    found::Entry,
    task::{Countries, CrowdSec},
};

use super::{Broken, Circumstances, LeftOut, own};

/// Banned prefixes, as they come. They may have ends, and there may be none or twice as many at any time.
pub(super) struct OfDecisions<'a> {
    lapi: &'a CrowdSec,
    left_out: Option<LeftOut>,
}

impl<'a> OfDecisions<'a> {
    pub(super) fn new(lapi: &'a CrowdSec) -> Self {
        Self {
            lapi,
            left_out: None,
        }
    }

    /// Whether an entry is to be kept. One that would ban this host itself is left out and told of: anybody whose machine reports to the same
    /// LAPI can bring that about, and it must not keep all other bans out of force. A list that somebody wrote is refused for the same as a
    /// whole, because it is not what it should be. What is too wide was left out by the fetcher: where it is there, this is not its work.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        circumstances: Circumstances<'_>,
    ) -> Result<bool, Broken> {
        // Some countries have wider networks than anybody else.
        let is_country = self.lapi.database.is_some() && !Countries::WIDEST.is_beyond(entry.prefix);
        if self.lapi.widest.is_beyond(entry.prefix) && !is_country {
            return Err(Broken::Wide(entry.prefix));
        }
        let Some(why) = own(entry.prefix, circumstances) else {
            return Ok(true);
        };
        let left_out = self.left_out.get_or_insert(LeftOut { entries: 0, why });
        left_out.entries += 1;
        Ok(false)
    }

    pub(super) fn left_out(self) -> Option<LeftOut> {
        self.left_out
    }
}
