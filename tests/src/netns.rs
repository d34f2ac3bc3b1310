//! Hosts for integration tests: network namespaces joined by veth pairs, inside a mount namespace with a bpffs and a state folder of its
//! own, so that the product runs there as it would on a machine.
//!
//! Nothing has a name and nothing needs to be cleaned up: a namespace lives as long as this process holds a file descriptor to it or
//! a child lives in it, children die with the thread that started them, and mounts die with their namespace. That holds
//! after a panic and after SIGKILL, too. Tests can run at the same time.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    net::IpAddr,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    panic,
    path::PathBuf,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FsWord, statfs},
    io::{Errno, write},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, set_parent_process_death_signal},
    thread::{
        CpuSet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_getcpu,
        sched_setaffinity, unshare_unsafe,
    },
};

/// Where the product pins things.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Empty in a sandbox, and gone with it: a place for files that nobody has to clean up.
pub const SCRATCH: &str = "/var/lib";
/// Where the product keeps its state.
pub const STATE: &str = "/var/lib/sipguard";

/// How long anything here may take before the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_mins(1);

/// A mount namespace with nothing in it that another test could see: an empty bpffs and an empty state folder. Every process
/// started from the test's thread is in it.
#[derive(Debug)]
pub struct Sandbox {
    // Only `sandbox` makes one, for the thread that is in it.
    _private: (),
}

/// Runs `test` in a sandbox, on a thread of its own: namespaces belong to threads.
pub fn sandbox<T: Send>(test: impl FnOnce(&Sandbox) -> T + Send) -> T {
    on_a_thread(|| {
        unshare(UnshareFlags::NEWNS);
        // Otherwise what is mounted here would be mounted everywhere.
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("mounts can be made private");
        let sandbox = Sandbox { _private: () };
        sandbox.unmount_bpffs();
        sandbox.begin_anew();
        test(&sandbox)
    })
}

impl Sandbox {
    /// A new host, joined to nothing yet.
    #[must_use]
    pub fn host(&self) -> Host {
        Host::new()
    }

    /// Covers what is pinned and kept so far: what runs goes on, and another host can be guarded beside it.
    pub fn begin_anew(&self) {
        self.mount_bpffs();
        // A mount of its own for the state, too, so that a test can make it read-only, or small.
        for folder in [SCRATCH, STATE] {
            fs::create_dir_all(folder).expect("a folder can be made");
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("tmpfs", folder, "tmpfs", flags, None).expect("tmpfs can be mounted");
        }
    }

    /// Mounts an empty bpffs.
    pub fn mount_bpffs(&self) {
        mount("bpf", BPFFS, "bpf", MountFlags::empty(), None).expect("bpffs can be mounted");
    }

    /// Takes bpffs away, the sandbox's and those below it, for tests of how its absence is dealt with.
    pub fn unmount_bpffs(&self) {
        const BPF_FS_MAGIC: FsWord = 0xcafe_4a11;
        while statfs(BPFFS).is_ok_and(|it| it.f_type == BPF_FS_MAGIC) {
            unmount(BPFFS, UnmountFlags::DETACH).expect("bpffs can be unmounted");
        }
    }
}

/// A network namespace with IPv4, IPv6 and a loopback interface, addresses usable at once.
#[derive(Debug)]
pub struct Host {
    namespace: OwnedFd,
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it is.
    pub host: &'a Host,
    /// The interface's name.
    pub interface: &'a str,
    /// Addresses with prefix lengths.
    pub addresses: &'a [&'a str],
}

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Joins two hosts by a veth pair; returns the ends' Ethernet addresses. Packets flow when it returns, and arrive in the order
/// in which they were sent.
pub fn join(one: End<'_>, other: End<'_>) -> [Mac; 2] {
    // Several queues would be emptied in any order.
    join_by_queues(one, other, 1)
}

/// The same by so many queues each way. Frames that a program sends come by the queue of their processor.
pub fn join_by_queues(one: End<'_>, other: End<'_>, queues: usize) -> [Mac; 2] {
    let macs = [mac(), mac()];
    let [first, second] = macs.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
    // The other namespace has no name, but this process has it open.
    let namespace = other.host.namespace();
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    one.host.ip(&format!(
        "link add {} address {first} {queues} type veth peer name {} address {second} {queues} netns {namespace}",
        one.interface, other.interface
    ));
    for end in [one, other] {
        end.host.ip(&format!("link set {} up", end.interface));
        for address in end.addresses {
            let (ip, _) = address.split_once('/').expect("an address with a length");
            let nodad = match ip.parse() {
                Ok(IpAddr::V6(_)) => "nodad",
                _ => "",
            };
            end.host.ip(&format!(
                "address add {address} dev {} {nodad}",
                end.interface
            ));
        }
    }
    macs
}

/// Unique in this process, and locally administered.
fn mac() -> Mac {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [0x02, 0x51, 0x90, 0, high, low]
}

impl Host {
    fn new() -> Self {
        let namespace = on_a_thread(|| {
            unshare(UnshareFlags::NEWNET);
            for conf in ["all", "default"] {
                let set = |name: &str, value| {
                    fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/{name}"), value)
                        .expect("IPv6 can be set up");
                };
                set("disable_ipv6", "0");
                // No waiting until addresses, the automatic ones too, are known to be nobody else's.
                set("accept_dad", "0");
                set("router_solicitations", "0");
            }
            File::open("/proc/thread-self/ns/net").expect("a namespace can be opened")
        });
        let host = Self {
            namespace: namespace.into(),
        };
        host.ip("link set lo up");
        host
    }

    /// A path to its network namespace, for programs that enter one, as long as this process has it.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.namespace.as_raw_fd())
    }

    /// Runs `inside` on a thread in this host's network namespace.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the namespace can be entered");
            inside()
        })
    }

    /// Starts a command on this host. It is killed when the guard is dropped, and when this thread ends.
    pub fn spawn(&self, command: &mut Command) -> Process {
        let namespace = self.namespace.try_clone().expect("a free descriptor");
        let stdout = tempfile::tempfile().expect("a temporary file");
        let stderr = tempfile::tempfile().expect("a temporary file");
        command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().expect("a free descriptor"))
            .stderr(stderr.try_clone().expect("a free descriptor"));
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        };
        // SAFETY: between fork and exec only two system calls are made; nothing is allocated.
        unsafe { command.pre_exec(inside) };
        let what = format!("{command:?}");
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Process {
            what,
            child,
            stdout,
            stderr,
        }
    }

    /// Runs a command on this host to its end.
    pub fn run(&self, command: &mut Command) -> Finished {
        self.spawn(command).wait()
    }

    /// Runs `ip` with these words, which must succeed.
    pub fn ip(&self, words: &str) -> Finished {
        self.run(Command::new("ip").args(words.split_whitespace()))
            .succeeded()
    }

    /// Runs sipguard on this host.
    pub fn sipguard(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
        self.run(Command::new(sipguard()).args(arguments))
    }

    /// Waits until a socket of this protocol (`udp` or `tcp`, either family) is bound to the port, and listens. Connections of a server that has
    /// ended have its port for a while.
    pub fn wait_until_bound(&self, protocol: &str, port: u16) {
        let suffix = format!(":{port:04X}");
        let bound = || {
            ["", "6"].iter().any(|family| {
                let table = format!("/proc/thread-self/net/{protocol}{family}");
                let table = fs::read_to_string(table).expect("the kernel has a table of sockets");
                table.lines().skip(1).any(|line| {
                    let mut fields = line.split_whitespace().skip(1);
                    let local = fields.next();
                    // `TCP_LISTEN` of the kernel's tcp_states.h.
                    let listens = protocol != "tcp" || fields.nth(1) == Some("0A");
                    listens && local.is_some_and(|local| local.ends_with(&suffix))
                })
            })
        };
        self.enter(|| until(&format!("{protocol} port {port} is bound"), bound));
    }

    /// A way to send raw frames out of an interface.
    #[must_use]
    pub fn wire(&self, interface: &str) -> Wire {
        let socket = self.enter(|| {
            // Protocol 0: this socket never receives.
            socket_with(
                AddressFamily::PACKET,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                None,
            )
            .expect("a packet socket")
        });
        let index = netdevice::name_to_index(&socket, interface).expect("the interface is there");
        let address = libc::sockaddr_ll {
            sll_family: 17, // AF_PACKET, which libc has as a wider type
            sll_protocol: 0,
            sll_ifindex: i32::try_from(index).expect("the kernel's numbers are small"),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = libc::socklen_t::try_from(size_of_val(&address)).expect("twenty bytes");
        // SAFETY: the pointer is to an address of the size that is said, and the kernel only reads it.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        assert_eq!(bound, 0, "the packet socket can be bound to {interface}");
        Wire::new(socket)
    }
}

/// Sends raw frames out of one interface.
#[derive(Debug)]
pub struct Wire {
    descriptor: OwnedFd,
}

impl Wire {
    /// Sends what is written there.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// Sends one frame; it is on its way, or already there, when this returns.
    pub fn send(&self, frame: &[u8]) {
        until("there is room for a frame", || {
            match write(&self.descriptor, frame) {
                Ok(_) => true,
                Err(Errno::NOBUFS | Errno::AGAIN) => false,
                Err(error) => panic!("a frame of {} bytes: {error}", frame.len()),
            }
        });
    }
}

/// A running command, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Process {
    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // It was not waited for yet, so that its number is still its own.
        kill_process(self.pid(), signal).expect("our own child");
    }

    /// What it wrote to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Waits until it wrote `text` to its standard output.
    pub fn wait_for_output(&self, text: &str) {
        let what = format!("{} writes {text:?}", self.what);
        until(&what, || self.stdout().contains(text));
    }

    /// Waits until it wrote `text` to its standard error; a test that fails shows what it wrote instead.
    pub fn wait_for_error(&self, text: &str) {
        let begin = Instant::now();
        while !self.stderr().contains(text) {
            let patient = begin.elapsed() < PATIENCE;
            assert!(
                patient,
                "{} does not write {text:?}: {}",
                self.what,
                self.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Finished {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("our own child");
        let mut ends = [PollFd::new(&pidfd, PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).expect("a minute");
        let ended = poll(&mut ends, Some(&patience)).expect("poll works");
        assert_ne!(
            ended,
            0,
            "{} did not end; stderr: {}",
            self.what,
            self.stderr()
        );
        let status = self.child.wait().expect("our own child");
        self.finished(status)
    }

    /// Sends it SIGTERM and waits for its end.
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.wait()
    }

    fn finished(&self, status: ExitStatus) -> Finished {
        Finished {
            what: self.what.clone(),
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Finished {
    /// Fails the test unless the command succeeded.
    #[expect(
        clippy::return_self_not_must_use,
        reason = "often called for its panic alone"
    )]
    pub fn succeeded(self) -> Self {
        self.exited(0)
    }

    /// Fails the test unless the command ended with this code.
    #[expect(
        clippy::return_self_not_must_use,
        reason = "often called for its panic alone"
    )]
    pub fn exited(self, code: i32) -> Self {
        let Self {
            what,
            status,
            stdout,
            stderr,
        } = &self;
        let signal = status.signal();
        assert_eq!(
            status.code(),
            Some(code),
            "{what} (signal: {signal:?})\nstdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self
    }
}

/// The built command: `$SIPGUARD_BIN`, else the one built with the same profile as the running test.
#[must_use]
pub fn sipguard() -> PathBuf {
    match env::var_os("SIPGUARD_BIN") {
        Some(path) => path.into(),
        None => built("sipguard"),
    }
}

/// The fetcher, built with the same profile as the running test.
#[must_use]
pub fn sipguard_fetch() -> PathBuf {
    built("sipguard-fetch")
}

fn built(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/TEST
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests are built below target/");
    let path = profile.join(name);
    assert!(
        path.exists(),
        "{} is not built; `cargo xtask test` does that",
        path.display()
    );
    path
}

/// Keeps this thread where it is: the kernel keeps the order of frames that one processor sends.
pub fn stay_on_this_cpu() {
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    sched_setaffinity(None, &one).expect("one of ours");
}

/// Waits until `done`, and fails the test where that takes forever.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn read(file: &File) -> String {
    // Opened anew, because the child writes where this descriptor's position is.
    let mut own = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("an open file");
    let mut bytes = Vec::new();
    own.read_to_end(&mut bytes).expect("a regular file");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unshare(flags: UnshareFlags) {
    assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: file descriptors stay shared.
    unsafe { unshare_unsafe(flags) }.expect("namespaces can be made: these tests need root");
}

/// Runs on a thread of its own, with a panic there being a panic here.
fn on_a_thread<T: Send>(inside: impl FnOnce() -> T + Send) -> T {
    let test = thread::current().name().unwrap_or("test").to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(test)
            .spawn_scoped(scope, inside);
        let thread = thread.expect("threads can be started");
        thread
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}
