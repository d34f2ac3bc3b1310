//! Where things are pinned, and whether pins made here would last.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, fstatfs, renameat_with, statfs},
    io::{Errno, retry_on_intr},
    mount::MountFlags,
};

use super::role::{Place, Role};

/// Where bpffs belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC`, include/uapi/linux/magic.h.
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// Why pins can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The mount namespace is not the host's, and has no bpffs of its own.
    #[error(
        "this shell is in a mount namespace of its own without {BPFFS}: the filter would vanish with it. \
         `ip netns exec` does that; use `nsenter --net=/run/netns/NAME sipguard …` instead"
    )]
    WouldVanish,
    /// bpffs could not be mounted.
    #[error("can't mount bpffs on {BPFFS}: {0}; run `mount -t bpf bpf {BPFFS}` as root")]
    Mount(io::Error),
    /// A pin or a folder of pins could not be handled.
    #[error("{path}: {cause}", path = .path.display())]
    Path {
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
}

/// The folder of pins.
#[derive(Debug)]
pub struct Pins {
    /// For changing: nobody else does.
    _lock: Option<File>,
}

impl Pins {
    /// For reading: `None` where nothing of ours is pinned.
    pub fn find() -> Option<Self> {
        root().is_dir().then_some(Self { _lock: None })
    }

    /// For changing: mounts bpffs where it is missing, waits until no other process changes anything, and keeps it so until this is dropped,
    /// or the process ends in whatever way. The lock is on the root of bpffs: it needs no disk, and whoever shares the pins shares it.
    ///
    /// # Errors
    /// See [`PinsError`]. Nothing is mounted in a mount namespace that is not the host's: pins live as long as the mount does.
    pub fn make() -> Result<Self, PinsError> {
        // Whoever mounts it holds the folder below, so that nobody else mounts another one over it.
        let lock = loop {
            let lock = locked()?;
            if fstatfs(&lock).is_ok_and(|found| found.f_type == BPFFS_MAGIC) {
                break lock;
            }
            // Somebody else may have mounted it while we waited.
            if is_bpffs() {
                continue;
            }
            if !in_host_mount_namespace() {
                return Err(PinsError::WouldVanish);
            }
            rustix::mount::mount(
                "bpf",
                BPFFS,
                "bpf",
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME,
                Some(c"mode=700"),
            )
            .map_err(|errno| PinsError::Mount(errno.into()))?;
        };
        make_folder(&root())?;
        make_folder(&Links::Xdp.folder())?;
        make_folder(&Links::Tc.folder())?;
        make_folder(&counters())?;
        make_folder(&generations())?;
        Ok(Self { _lock: Some(lock) })
    }

    /// Removes the folders that are left when nothing is in force any more, but not the copy of the state.
    pub fn remove_folders(&self) -> Result<(), PinsError> {
        // Counters of other versions are there, too.
        for name in names(&root())? {
            let path = root().join(name);
            if path.is_dir() {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what is left then.
    pub fn remove(self) -> Result<(), PinsError> {
        remove_folder(&root())
    }
}

fn locked() -> Result<File, PinsError> {
    // Where there is no such folder, that is for mounting to say.
    let folder = File::open(BPFFS).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PinsError::Mount(error),
        _ => PinsError::Path {
            path: BPFFS.into(),
            cause: error,
        },
    })?;
    retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive)).map_err(|errno| {
        PinsError::Path {
            path: BPFFS.into(),
            cause: errno.into(),
        }
    })?;
    Ok(folder)
}

/// Whether bpffs is where it belongs.
fn is_bpffs() -> bool {
    statfs(BPFFS).is_ok_and(|found| found.f_type == BPFFS_MAGIC)
}

/// Whether our mounts are pid 1's, or those of the oldest ancestor whose mounts we may know: in a container, pid 1 may be out of
/// sight. Where nothing can be told (no /proc), they are taken to be.
fn in_host_mount_namespace() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let Some(own) = namespace("self") else {
        return true;
    };
    let mut host = own.clone();
    let mut process = Some("self".to_owned());
    while let Some(parent) = process.as_deref().and_then(parent)
        && let Some(found) = namespace(&parent)
    {
        host = found;
        process = Some(parent);
    }
    namespace("1").unwrap_or(host) == own
}

/// A process's parent, by number.
fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim();
    (parent != "0").then(|| parent.to_owned())
}

pub(super) fn root() -> PathBuf {
    Path::new(BPFFS).join("sipguard")
}

/// The links that are pinned, a folder a kind; each pin has its interface's name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Links {
    Xdp,
    Tc,
}

/// A pin that no interface's name makes, for a link on its way to its name. One that a crash leaves there finds its interface by its program.
pub(super) const BETWEEN: &str = ":";

impl Links {
    fn folder(self) -> PathBuf {
        root().join(match self {
            Self::Xdp => "links",
            Self::Tc => "tc-links",
        })
    }

    /// The pin with this name.
    pub(super) fn pin(self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The pins' names.
    pub(super) fn names(self) -> Result<Vec<String>, PinsError> {
        names(&self.folder())
    }

    /// Gives a link's pin another name. A pin that has it gets the first one's, so that neither link is without one.
    pub(super) fn rename(self, from: &str, to: &str) -> Result<(), PinsError> {
        let [from, to] = [from, to].map(|name| self.pin(name));
        let flags = if to.exists() {
            RenameFlags::EXCHANGE
        } else {
            RenameFlags::empty()
        };
        let renamed = match renameat_with(CWD, &from, CWD, &to, flags) {
            // bpffs exchanges names since Linux 5.17. Before, a third name is needed.
            Err(Errno::INVAL) if flags == RenameFlags::EXCHANGE => {
                let between = self.pin(BETWEEN);
                fs::rename(&to, &between)
                    .and_then(|()| fs::rename(&from, &to))
                    .and_then(|()| fs::rename(&between, &from))
            }
            renamed => renamed.map_err(io::Error::from),
        };
        at(&from, renamed)
    }
}

/// Counters outlive generations; those of another layout are never adopted.
pub(super) fn counters() -> PathBuf {
    root().join(format!("counters-{}", sipguard_ebpf::abi::COUNTERS_VERSION))
}

/// What generations and listeners share outlives generations, too.
pub(super) fn events() -> PathBuf {
    root().join(format!("events-{}", sipguard_ebpf::event::EVENTS_VERSION))
}

pub(super) fn generations() -> PathBuf {
    root().join("generations")
}

pub(super) fn generation(number: u64) -> PathBuf {
    generations().join(number.to_string())
}

/// What the names of the programs' pins begin with.
pub(super) const fn prefix(place: Place, role: Role) -> &'static str {
    match (place, role) {
        (Place::Xdp, Role::Filter) => "program-",
        (Place::Xdp, Role::Pending) => "pending-",
        (Place::Tc, Role::Filter) => "tc-program-",
        (Place::Tc, Role::Pending) => "tc-pending-",
    }
}

/// A generation's program for an interface.
pub(super) fn program(number: u64, place: Place, role: Role, interface: &str) -> PathBuf {
    let name = format!("{}{}", prefix(place, role), pin_name(interface));
    generation(number).join(name)
}

/// Where a generation's program for an interface finds the one that tells.
pub(super) fn tellers(number: u64, place: Place, interface: &str) -> PathBuf {
    let prefix = match place {
        Place::Xdp => "tellers-",
        Place::Tc => "tc-tellers-",
    };
    generation(number).join(format!("{prefix}{}", pin_name(interface)))
}

/// An interface's name as a pin: bpffs takes no dots, and no interface's name has a colon (`dev_valid_name` in net/core/dev.c).
pub(super) fn pin_name(interface: &str) -> String {
    interface.replace('.', ":")
}

/// The interface whose pin has this name.
pub(super) fn interface_name(pin: &str) -> String {
    pin.replace(':', ".")
}

pub(super) fn make_folder(path: &Path) -> Result<(), PinsError> {
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .or_else(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                Ok(())
            } else {
                Err(error)
            }
        });
    at(path, made)
}

/// The names in a folder of pins; none where there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, PinsError> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(cause) => return at(folder, Err(cause)),
    };
    for entry in entries {
        names.push(
            at(folder, entry)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Removes one pin, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), PinsError> {
    at(path, fs::remove_file(path).or_else(ignore_missing))
}

/// Removes a folder and the pins in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> Result<(), PinsError> {
    for name in names(path)? {
        remove(&path.join(name))?;
    }
    at(path, fs::remove_dir(path).or_else(ignore_missing))
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, PinsError> {
    result.map_err(|cause| PinsError::Path {
        path: path.to_owned(),
        cause,
    })
}
