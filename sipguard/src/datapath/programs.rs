//! Which programs a pinned generation has.

use std::path::PathBuf;

use super::{Error, Place, Role, pins};

/// The programs that a pinned generation has, by the interfaces' names.
pub(super) fn programs(number: u64, role: Role) -> Result<Vec<(String, PathBuf)>, Error> {
    let folder = pins::generation(number);
    let named = |pin: String| {
        let mut places = Place::ALL.into_iter();
        let name = places.find_map(|place| pin.strip_prefix(pins::prefix(place, role)))?;
        Some((pins::interface_name(name), folder.join(&pin)))
    };
    Ok(pins::names(&folder)?
        .into_iter()
        .filter_map(named)
        .collect())
}

/// The interfaces that a pinned generation has programs for.
///
/// # Errors
/// Where the pins can't be read.
pub fn interfaces(number: u64) -> Result<Vec<String>, Error> {
    let mut interfaces: Vec<_> = programs(number, Role::Filter)?
        .into_iter()
        .map(|(interface, _)| interface)
        .collect();
    interfaces.sort();
    interfaces.dedup();
    Ok(interfaces)
}
