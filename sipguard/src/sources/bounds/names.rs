//! What a source of names may have.

use std::collections::HashMap;

use sipguard_lists::{
    address,
    found::{Entry, Family},
    name::Name,
    task::Names,
};

use super::{Broken, Circumstances};

/// The addresses of names, as they come.
pub(super) struct OfNames<'a> {
    names: &'a Names,
    held: HashMap<(&'a Name, Family), usize>,
}

impl<'a> OfNames<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        Self {
            names,
            held: HashMap::new(),
        }
    }

    /// Whether an entry is to be kept: those of names that are not asked for any more are left out.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        circumstances: Circumstances<'_>,
    ) -> Result<bool, Broken> {
        let address = entry.prefix.addr();
        if entry.prefix.prefix_len() != entry.prefix.max_prefix_len() {
            return Err(Broken::NotOne(entry.prefix));
        }
        if let Some(what) = address::refused(address, self.names.private) {
            return Err(Broken::Address { address, what });
        }
        if circumstances.own.contains(&address) {
            let what = "an address of this host";
            return Err(Broken::Address { address, what });
        }
        if entry.end.is_some() {
            return Err(Broken::End(entry.prefix));
        }
        let name = entry.comment.as_deref().and_then(|name| name.parse().ok());
        let Some(name) = name else {
            return Err(Broken::Nameless { address });
        };
        let Some(name) = self.names.names.get(&name) else {
            return Ok(false);
        };
        let family = Family::of(entry.prefix);
        let held = self.held.entry((name, family)).or_default();
        *held += 1;
        if *held > Names::MAX_HELD {
            return Err(Broken::Held { name: name.clone() });
        }
        Ok(true)
    }
}
