//! What can go wrong between us and the kernel.

use super::pins::PinsError;

/// What can go wrong between us and the kernel, other than at an interface.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pins can't be kept.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A call to the kernel failed.
    #[error("{what}: {cause}")]
    Kernel {
        /// What was being done.
        what: String,
        /// The kernel's answer, with the verifier's where it gave one.
        cause: String,
    },
    /// The running kernel lacks something.
    #[error(
        "this kernel ({running}) is too old: sipguard needs Linux {needed} or later ({feature})"
    )]
    TooOld {
        /// The running kernel's version.
        running: String,
        /// The first version that will do.
        needed: &'static str,
        /// What older ones lack.
        feature: &'static str,
    },
    /// The running kernel has no BPF at all.
    #[error(
        "this kernel ({running}) was built without BPF (CONFIG_BPF_SYSCALL), which sipguard needs: run a kernel that has it"
    )]
    NoBpf {
        /// The running kernel's version.
        running: String,
    },
    /// The caller may not use BPF.
    #[error(
        "sipguard needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON) for this: run it with sudo"
    )]
    NotPermitted,
    /// What is pinned was not made by this version of sipguard.
    #[error("{path} was made by another version of sipguard: run `sipguard apply` to replace it")]
    OtherVersion {
        /// The pin.
        path: String,
    },
    /// Another process reads what the kernel tells.
    #[error(
        "{who} listens already, and only one process can: end it first, or let `sipguard agent` listen, which hands on to all"
    )]
    Listens {
        /// Its number and command line.
        who: String,
    },
    /// Debian's kernels have a value of this setting that others don't, and Debian sets it.
    #[error(
        "can't listen: `kernel.perf_event_paranoid` is {value}, with which Debian's kernels let no service listen; `sysctl kernel.perf_event_paranoid=2` \
         lets it, and a line in /etc/sysctl.d keeps that"
    )]
    Paranoid {
        /// What it is.
        value: u8,
    },
    /// This kernel can tell of nothing.
    #[error(
        "this kernel can't tell of single packets: that needs its BPF compiler (`sysctl net.core.bpf_jit_enable=1`, then          `sipguard apply`), and on arm64 Linux 6.0; `sipguard stats` counts all the same"
    )]
    Silent,
    /// A driver that does not let go.
    #[error(
        "{interface} stays filtered: before Linux 6.3 virtio_net goes on running a program that is taken away at this MTU; \
         run `ip link set dev {interface} mtu {largest}`, then this again"
    )]
    HoldsOn {
        /// The interface.
        interface: String,
        /// The largest MTU at which it does not, and loses no frames.
        largest: u32,
    },
    /// The table of entries has no room for another one.
    #[error(
        "there is no room for another entry until the next `sipguard apply`, which makes room; what you added is kept for it"
    )]
    Full,
}

impl Error {
    /// Wraps a failure of the kernel; says what to do where the cause is one that people can mend.
    pub(super) fn kernel(
        what: impl Into<String>,
        cause: &(dyn std::error::Error + 'static),
    ) -> Self {
        match errno(cause) {
            Some(libc::EPERM) => return Self::NotPermitted,
            Some(libc::ENOSYS) => {
                return Self::NoBpf {
                    running: crate::kernel::release(),
                };
            }
            _ => {}
        }
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(inner) = source {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            source = inner.source();
        }
        Self::Kernel {
            what: what.into(),
            cause: text,
        }
    }

    pub(super) fn io(what: impl Into<String>, cause: &std::io::Error) -> Self {
        Self::kernel(what, cause)
    }
}

/// The errno at the bottom of an error, if there is one.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        error = current.source();
    }
    None
}
