//! Why a program could not be attached to an interface.

use super::{Error, errno, program::Loaded};
use crate::device::Device;

/// Why a program could not be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Another XDP program is there.
    #[error(
        "{interface} already runs the XDP program {program} (id {id}), which is not ours and is left alone; \
         detach it first (`ip link set dev {interface} xdp off`) or take {interface} out of the config"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The other program's name.
        program: String,
        /// Its number.
        id: u32,
    },
    /// A device above has a program.
    #[error(
        "can't attach to {interface}: {above}, which is above it, has an XDP program already, and then the kernel takes none below; detach \
         that first (`sipguard down`, then `sipguard apply`), or take {interface} out of the config"
    )]
    Below {
        /// The interface.
        interface: String,
        /// The device above it.
        above: String,
    },
    /// Native mode was asked for and is not to be had.
    #[error(
        "{interface} can't run in native mode: {cause}; set mode = \"auto\" to fall back to tc mode"
    )]
    NoNative {
        /// The interface.
        interface: String,
        /// Why.
        cause: String,
    },
    /// Everything else.
    #[error("can't attach to {interface}: {cause}")]
    Failed {
        /// The interface.
        interface: String,
        /// Why.
        cause: String,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl LinkError {
    /// Somebody else's XDP program is there.
    pub(super) fn busy(device: &Device, id: u32) -> Self {
        Self::Busy {
            interface: device.name.clone(),
            program: program_name(id),
            id,
        }
    }

    /// What the kernel answered.
    pub(super) fn failed(device: &Device, error: &(dyn std::error::Error + 'static)) -> Self {
        match errno(error) {
            Some(libc::EPERM) => Self::Kernel(Error::NotPermitted),
            _ => Self::Failed {
                interface: device.name.clone(),
                cause: chain(error),
            },
        }
    }
}

/// What a loaded program is called.
pub fn program_name(id: u32) -> String {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "without a name".to_owned())
}

/// Whether a program was loaded without its types, so that the verifier goes through each function as often as it is called.
pub fn is_untyped(id: u32) -> bool {
    let info = Loaded::numbered(id).and_then(|program| program.info());
    info.is_ok_and(|info| info.btf_id == 0)
}

/// An error with all that caused it.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    match Error::kernel("", error) {
        Error::Kernel { cause, .. } => cause,
        other => other.to_string(),
    }
}
