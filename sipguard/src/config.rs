//! The config file: from text to a validated [`Policy`]. What is wrong is reported by file, line and column, as much of it at
//! once as can be found without guessing; nothing is taken from a file that has anything wrong in it.

mod dns;
mod document;
mod events;
mod interfaces;
mod list;
mod notify;
mod problems;
mod services;
mod sources;
mod url;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use toml::de::DeTable;

use self::document::Document;
pub use self::problems::{Problem, Problems};
use crate::policy::{Mode, Policy};

/// Where the config file is unless said otherwise.
pub const PATH: &str = "/etc/sipguard/sipguard.toml";

/// Why there is no policy.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The config file can't be read.
    #[error("cannot read {}: {error}; {hint}", file.display())]
    Read {
        /// The config file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The config file, or a list file it names, is wrong.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Reads the config file and the list files it names.
pub fn load(file: &Path) -> Result<Policy, ConfigError> {
    parse_bytes(&read(file)?, file)
}

/// Reads the config file, whatever is in it.
pub fn read(file: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(file).map_err(|error| ConfigError::Read {
        file: file.to_owned(),
        hint: match error.kind() {
            io::ErrorKind::NotFound => "`sipguard init` writes one",
            io::ErrorKind::PermissionDenied => "run sipguard as root",
            _ => "name another with --config",
        },
        error,
    })
}

/// [`parse`] for a file that may be anything.
pub fn parse_bytes(bytes: &[u8], file: &Path) -> Result<Policy, ConfigError> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(parse(text, file)?),
        Err(error) => {
            let (valid, _) = bytes.split_at(error.valid_up_to());
            let valid = String::from_utf8_lossy(valid);
            let mut document = Document::new(file, &valid);
            document.problem(
                valid.len()..valid.len(),
                "this is not UTF-8; save the file as UTF-8",
            );
            Err(document.into_problems().into())
        }
    }
}

/// Takes `text` for the config file `file`, whose folder is where relative paths begin, and reads the list files it names.
pub fn parse(text: &str, file: &Path) -> Result<Policy, Problems> {
    let mut document = Document::new(file, text);
    let (table, errors) = DeTable::parse_recoverable(document.text());
    if errors.is_empty() {
        let policy = policy(&mut document, table.get_ref());
        document.finish(policy)
    } else {
        // What stands behind a syntax error may be misread.
        let mut addresses = BTreeSet::new();
        for error in errors {
            let span = error.span().unwrap_or_default();
            if let Some(address) = document.bare_address(&span) {
                // One address may be wrong TOML in several ways.
                if addresses.insert(address.start) {
                    let text = &document.text()[address.clone()];
                    let message = format!("an address is written in quotes: \"{text}\"");
                    document.problem(address, message);
                }
            } else {
                document.problem(span, error.message().replace('\n', ", "));
            }
        }
        Err(document.into_problems())
    }
}

/// What could be read; without meaning where the document has problems.
fn policy(document: &mut Document<'_>, table: &DeTable<'_>) -> Policy {
    let [names, tables, mode, sources, dns, events, services, notify] = document.fields(
        table,
        "the config file",
        [
            "interfaces",
            "interface",
            "mode",
            "sources",
            "dns",
            "events",
            "services",
            "notify",
        ],
    );
    let default = Policy::default();
    let interfaces = interfaces::read(document, names, tables);
    let mode = mode
        .and_then(|mode| {
            document.choice(
                mode,
                "mode",
                &[Mode::Enforce, Mode::Monitor].map(|mode| (mode.name(), mode)),
            )
        })
        .unwrap_or_default();
    let mut sources = sources
        .map(|sources| sources::read(document, sources))
        .unwrap_or_default();
    let written = match services {
        Some(services) => services::read(document, services, mode, &mut sources),
        None => default
            .services
            .into_iter()
            .map(|service| services::Written::without_lists(service, mode))
            .collect(),
    };
    let dns = dns.map(|dns| dns::read(document, dns)).unwrap_or_default();
    let notify = notify.and_then(|notify| notify::read(document, notify));
    let hide = events.map(|events| events::read(document, events));
    let origins = sources::origins(&mut sources);
    let entries = services::entries(&written, &sources);
    let live = services::live(&written, &sources);
    Policy {
        interfaces,
        mode,
        services: written.into_iter().map(|written| written.service).collect(),
        origins,
        entries,
        live,
        dns,
        notify,
        hide: hide.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
