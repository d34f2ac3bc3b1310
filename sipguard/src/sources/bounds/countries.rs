//! What networks of countries may be.

use sipguard_lists::{address, found::Entry, task::Countries};

use super::{Broken, Circumstances, OfAList};

/// Networks, as they come. One of them may hold this host's own address: it is in a country itself.
pub(super) struct OfCountries(OfAList<'static>);

impl OfCountries {
    pub(super) fn new() -> Self {
        Self(OfAList::new(&Countries::WIDEST))
    }

    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        circumstances: Circumstances<'_>,
    ) -> Result<bool, Broken> {
        let nobody = Circumstances {
            own: &[],
            ..circumstances
        };
        if let Some(special) = address::special(entry.prefix) {
            let prefix = entry.prefix;
            return Err(Broken::Special { prefix, special });
        }
        self.0.entry(entry, nobody)
    }
}
