//! The config file, read once a command.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{self, ConfigError},
    policy::Policy,
};

/// The config file, as it was when the command began.
pub(super) struct ConfigFile<'f> {
    pub(super) path: &'f Path,
    /// What it says, as text; empty where it can't be read.
    pub(super) text: String,
    policy: Result<Arc<Policy>, Arc<ConfigError>>,
}

impl<'f> ConfigFile<'f> {
    pub(super) fn read(path: &'f Path) -> Self {
        let bytes = config::read(path);
        let text = bytes
            .as_ref()
            .ok()
            .and_then(|bytes| str::from_utf8(bytes).ok());
        Self {
            path,
            text: text.unwrap_or_default().to_owned(),
            policy: bytes
                .and_then(|bytes| config::parse_bytes(&bytes, path))
                .map(Arc::new)
                .map_err(Arc::new),
        }
    }

    /// Where it is, wherever it is asked for from.
    pub(super) fn absolute(&self) -> PathBuf {
        std::path::absolute(self.path).unwrap_or_else(|_| self.path.to_owned())
    }

    /// What it says; what is wrong with it matters only where it is wanted.
    pub(super) fn policy(&self) -> Result<Arc<Policy>, Arc<ConfigError>> {
        self.policy.clone()
    }
}
