//! One program: as the object has it, and as the kernel has taken it.

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::Arc,
};

use aya_obj::generated::{
    BPF_F_XDP_HAS_FRAGS, bpf_attach_type::BPF_XDP, bpf_insn, bpf_prog_info, bpf_prog_type,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;

use super::table::call;
use crate::kernel;

/// include/uapi/linux/bpf.h, enum bpf_cmd.
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// What the verifier says of a program that it refuses (`BPF_LOG_LEVEL1` and `BPF_LOG_STATS` of include/linux/bpf_verifier.h), and how much of it
/// is taken: as much as it ever writes, of which only what it writes takes memory.
const LOG_LEVEL: u32 = 1 | 4;
const LOG: usize = (1 << 24) - 1;

/// What a program is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For frames in one piece, or in several.
    Xdp { frags: bool },
    /// For TC ingress.
    Tc,
    /// For nothing that we attach.
    Socket,
}

/// Why a program is refused.
#[derive(Debug, Error)]
#[error("{error}; the verifier says: {log}{}", of_types(untyped.as_deref()))]
pub(super) struct Refused {
    #[source]
    error: io::Error,
    log: String,
    untyped: Option<Arc<io::Error>>,
}

fn of_types(untyped: Option<&io::Error>) -> String {
    untyped.map_or_else(String::new, |error| {
        format!("; it had no types to go by, which the kernel refused before ({error})")
    })
}

/// What the functions of a program are, which lets the verifier go through each global one only once.
#[derive(Clone, Debug)]
pub(super) struct Functions {
    /// The object's types, loaded.
    pub(super) types: Arc<OwnedFd>,
    /// The size of each of the records.
    pub(super) size: u32,
    pub(super) count: u32,
    pub(super) records: Vec<u8>,
}

/// A program that leads to its maps already.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) license: CString,
    pub(super) code: Vec<bpf_insn>,
    pub(super) functions: Option<Functions>,
    /// Why there are no functions, where the kernel has refused the object's types.
    pub(super) untyped: Option<Arc<io::Error>>,
}

/// For [`PROG_LOAD`], include/uapi/linux/bpf.h, union bpf_attr, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    padding: u32,
}

impl Program {
    /// Has the kernel take it.
    pub(super) fn load(&self) -> Result<Loaded, Refused> {
        let first = match self.try_load(&mut []) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && raise_limit() => {
                self.try_load(&mut [])
            }
            done => done,
        };
        first.or_else(|error| {
            if error.raw_os_error() == Some(libc::EPERM) {
                let log = String::new();
                return Err(self.refused(error, log));
            }
            // To write down what it does takes the verifier much longer.
            let mut log = vec![0; LOG];
            self.try_load(&mut log).map_err(|_| {
                let said = CStr::from_bytes_until_nul(&log).unwrap_or_default();
                let log = said.to_string_lossy().trim_end().to_owned();
                self.refused(error, log)
            })
        })
    }

    fn refused(&self, error: io::Error, log: String) -> Refused {
        Refused {
            error,
            log,
            untyped: self.untyped.clone(),
        }
    }

    fn try_load(&self, log: &mut [u8]) -> io::Result<Loaded> {
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let (kind, attach_type, flags) = match self.kind {
            Kind::Xdp { frags } => {
                let flags = if frags { BPF_F_XDP_HAS_FRAGS } else { 0 };
                (bpf_prog_type::BPF_PROG_TYPE_XDP, BPF_XDP as u32, flags)
            }
            Kind::Tc => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, 0),
            Kind::Socket => (bpf_prog_type::BPF_PROG_TYPE_SOCKET_FILTER, 0, 0),
        };
        let mut attributes = Load {
            kind: kind as u32,
            count: size(self.code.len()),
            code: self.code.as_ptr() as u64,
            license: self.license.as_ptr() as u64,
            flags,
            attach_type,
            ..Load::default()
        };
        // With a zero at the end.
        let ends = attributes.name.len() - 1;
        for (to, from) in attributes.name[..ends].iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        if let Some(functions) = &self.functions {
            attributes.types = functions.types.as_raw_fd().cast_unsigned();
            attributes.function_size = functions.size;
            attributes.functions = functions.records.as_ptr() as u64;
            attributes.function_count = functions.count;
        }
        if !log.is_empty() {
            attributes.log_level = LOG_LEVEL;
            attributes.log_size = size(log.len());
            attributes.log = log.as_mut_ptr() as u64;
        }
        // SAFETY: these are the command's attributes, with so many instructions, records and bytes of a log, and a text that ends with a zero.
        let made = unsafe { made(PROG_LOAD, &mut attributes) };
        made.map(Loaded)
    }
}

/// Before Linux 5.11 programs count against a limit that is too low for them.
fn raise_limit() -> bool {
    let none = Rlimit {
        current: None,
        maximum: None,
    };
    !kernel::at_least(5, 11) && setrlimit(Resource::Memlock, none).is_ok()
}

/// A call that makes something.
///
/// # Safety
/// As for [`call`]; and `command` must return a descriptor that is nobody else's.
pub(super) unsafe fn made<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let descriptor = unsafe { call(command, attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A program that the kernel has taken.
#[derive(Debug)]
pub(super) struct Loaded(OwnedFd);

/// For [`OBJ_PIN`].
#[repr(C)]
struct Pin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// For [`PROG_TEST_RUN`].
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

/// For [`OBJ_GET_INFO_BY_FD`].
#[repr(C)]
struct Info {
    descriptor: u32,
    size: u32,
    to: u64,
}

/// For [`PROG_GET_FD_BY_ID`].
#[repr(C)]
struct Numbered {
    number: u32,
    next: u32,
    flags: u32,
}

impl Loaded {
    /// The program that has this number in the kernel.
    pub(super) fn numbered(number: u32) -> io::Result<Self> {
        let mut attributes = Numbered {
            number,
            next: 0,
            flags: 0,
        };
        // SAFETY: these are the command's attributes, and the descriptor is ours.
        unsafe { made(PROG_GET_FD_BY_ID, &mut attributes) }.map(Self)
    }

    pub(super) fn descriptor(&self) -> u32 {
        self.0.as_raw_fd().cast_unsigned()
    }

    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attributes = Pin {
            path: path.as_ptr() as u64,
            descriptor: self.descriptor(),
            flags: 0,
        };
        // SAFETY: these are the command's attributes, with a text that ends with a zero.
        unsafe { call(OBJ_PIN, &mut attributes) }.map(drop)
    }

    /// Runs it once over a frame; the context, where there is one, says what of the frame is to be had directly.
    pub(super) fn test_run(&self, frame: &[u8], context: Option<&[u8]>) -> io::Result<()> {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let context = context.unwrap_or_default();
        let mut attributes = TestRun {
            program: self.descriptor(),
            size_in: size(frame),
            data_in: frame.as_ptr() as u64,
            context_size_in: size(context),
            context_in: if context.is_empty() {
                0
            } else {
                context.as_ptr() as u64
            },
            ..TestRun::default()
        };
        // SAFETY: these are the command's attributes, with as many bytes as is said.
        unsafe { call(PROG_TEST_RUN, &mut attributes) }.map(drop)
    }

    /// What the kernel says of it.
    pub(super) fn info(&self) -> io::Result<bpf_prog_info> {
        // SAFETY: integers and addresses, for which zeros will do.
        let mut info: bpf_prog_info = unsafe { mem::zeroed() };
        let mut attributes = Info {
            descriptor: self.descriptor(),
            size: u32::try_from(size_of_val(&info)).unwrap_or(u32::MAX),
            to: &raw mut info as u64,
        };
        // SAFETY: these are the command's attributes, and the kernel writes no more than so many bytes.
        unsafe { call(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
        Ok(info)
    }
}
