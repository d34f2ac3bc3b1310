//! The few programs that the benchmark needs in the kernel, written in its instructions, and runs of these and of sipguard's own.
//! Nothing of them is in the object that sipguard ships.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

// include/uapi/linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_TYPE_PROG_ARRAY: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_LIVE_FRAMES: u32 = 1 << 1;

const XDP_DROP: i32 = 1;
const GET_PRANDOM_U32: i32 = 7;
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;

/// Where the source address begins in an Ethernet frame.
#[derive(Clone, Copy)]
pub(super) enum Source {
    V4 = 26,
    V6 = 22,
}

/// A program in the kernel.
pub(super) struct Program {
    program: OwnedFd,
    /// What it hands on to: the kernel empties an array of programs that no process holds.
    _next: Option<OwnedFd>,
}

impl Program {
    /// Drops every frame without a look at it: the limit.
    pub(super) fn empty() -> Result<Self> {
        Self::load(&[set(0, XDP_DROP), EXIT], None)
    }

    /// Gives every frame a random source and hands it to `next`.
    pub(super) fn random_source(source: Source, next: &Self) -> Result<Self> {
        let mut instructions = randomised(source, &[]);
        let array = program_array(next)?;
        instructions.extend([copy(1, 6), map(2, &array), SECOND_HALF, set(3, 0)]);
        instructions.extend([call(TAIL_CALL), set(0, XDP_DROP), EXIT]);
        Self::load(&instructions, Some(array))
    }

    /// Gives every IPv4 frame one of 16,384 sources and sends it out of an interface. The source's halves are each other's complement, and
    /// so were those of the frame's own, so that the header's checksum stays right.
    pub(super) fn send(interface: u32) -> Result<Self> {
        // The first byte becomes one of 128 to 191: unicast, whatever the rest.
        let halves = [
            instruction(AND, 0, 0, 0, 0xff3f),
            instruction(OR, 0, 0, 0, 0x80),
            copy(1, 0),
            instruction(XOR, 1, 0, 0, 0xffff),
            instruction(SHIFT_LEFT, 1, 0, 0, 16),
            instruction(OR_REGISTER, 0, 1, 0, 0),
        ];
        let mut instructions = randomised(Source::V4, &halves);
        let interface = i32::try_from(interface).context("an interface's number")?;
        instructions.extend([set(1, interface), set(2, 0), call(REDIRECT), EXIT]);
        Self::load(&instructions, None)
    }

    pub(super) fn open(pin: &Path) -> Result<Self> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut attributes = [0; 2];
        attributes[0] = path.as_ptr() as u64;
        let program =
            bpf(OBJ_GET, &mut attributes).with_context(|| format!("opening {}", pin.display()))?;
        Ok(Self {
            program,
            _next: None,
        })
    }

    pub(super) fn pin(&self, pin: &Path) -> Result<()> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut attributes = [path.as_ptr() as u64, word(self.fd(), 0)];
        done(bpf_call(OBJ_PIN, &mut attributes))
            .with_context(|| format!("pinning {}", pin.display()))
    }

    fn load(instructions: &[u64], next: Option<OwnedFd>) -> Result<Self> {
        let mut attributes = [0; 9];
        let count = u32::try_from(instructions.len())?;
        attributes[0] = word(PROG_TYPE_XDP, count);
        attributes[1] = instructions.as_ptr() as u64;
        attributes[2] = c"GPL".as_ptr() as u64;
        // prog_flags behind kern_version; a program may only hand on to one that has the same.
        attributes[5] = word(0, XDP_HAS_FRAGS);
        // expected_attach_type behind prog_ifindex.
        attributes[8] = word(0, ATTACH_XDP);
        let program =
            bpf(PROG_LOAD, &mut attributes).context("loading a program of the benchmark")?;
        Ok(Self {
            program,
            _next: next,
        })
    }

    /// Nanoseconds a run, on average over `times` runs.
    pub(super) fn time(&self, frame: &[u8], times: u32) -> Result<u32> {
        let mut attributes = self.test(frame, times);
        done(bpf_call(PROG_TEST_RUN, &mut attributes)).context("BPF_PROG_TEST_RUN")?;
        // duration, behind repeat.
        Ok(upper(attributes[4]))
    }

    /// Puts `times` frames on the wire that the program sends them to.
    pub(super) fn inject(&self, frame: &[u8], times: u32) -> Result<()> {
        let mut attributes = self.test(frame, times);
        attributes[8] = word(XDP_LIVE_FRAMES, 0);
        done(bpf_call(PROG_TEST_RUN, &mut attributes)).context("BPF_PROG_TEST_RUN, live frames")
    }

    fn test(&self, frame: &[u8], times: u32) -> [u64; 10] {
        let length = u32::try_from(frame.len()).expect("a frame is short");
        let mut attributes = [0; 10];
        attributes[0] = word(self.fd(), 0);
        attributes[1] = word(length, 0);
        attributes[2] = frame.as_ptr() as u64;
        attributes[4] = word(times, 0);
        attributes
    }

    fn fd(&self) -> u32 {
        self.program.as_raw_fd().cast_unsigned()
    }
}

/// The beginning of a program that writes four random bytes where the source begins, once `shaped` has made of register 0 what they
/// are to be.
fn randomised(source: Source, shaped: &[u64]) -> Vec<u64> {
    let offset = source as i16;
    let mut instructions = vec![copy(6, 1), call(GET_PRANDOM_U32)];
    instructions.extend(shaped);
    instructions.extend([
        // xdp_md: data, data_end.
        instruction(LOAD_U32, 2, 6, 0, 0),
        instruction(LOAD_U32, 3, 6, 4, 0),
        copy(4, 2),
        instruction(ADD, 4, 0, 0, i32::from(offset) + 4),
        instruction(JUMP_IF_AT_MOST, 4, 3, 2, 0),
        set(0, XDP_DROP),
        EXIT,
        instruction(STORE_U32, 2, 0, offset, 0),
    ]);
    instructions
}

fn program_array(first: &Program) -> Result<OwnedFd> {
    let mut attributes = [word(MAP_TYPE_PROG_ARRAY, 4), word(4, 1), 0];
    let array = bpf(MAP_CREATE, &mut attributes).context("making an array of programs")?;
    let (key, value) = (0_u32, first.fd());
    let fd = array.as_raw_fd().cast_unsigned();
    let mut attributes = [
        word(fd, 0),
        &raw const key as u64,
        &raw const value as u64,
        0,
    ];
    done(bpf_call(MAP_UPDATE_ELEM, &mut attributes)).context("filling an array of programs")?;
    Ok(array)
}

// The kernel's Documentation/bpf/standardization/instruction-set.rst.
const LOAD_U32: u8 = 0x61;
const STORE_U32: u8 = 0x63;
const ADD: u8 = 0x07;
const OR: u8 = 0x47;
const OR_REGISTER: u8 = 0x4f;
const AND: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const XOR: u8 = 0xa7;
const JUMP_IF_AT_MOST: u8 = 0xbd;
const EXIT: u64 = 0x95;
const SECOND_HALF: u64 = 0;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = value.to_le_bytes();
    u64::from_le_bytes([code, to | from << 4, low, high, a, b, c, d])
}

fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, 0, value)
}

fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// The first half of a load whose value is a map.
fn map(register: u8, map: &OwnedFd) -> u64 {
    instruction(0x18, register, 1, 0, map.as_raw_fd())
}

/// Two words of `union bpf_attr`, the first one first in memory.
fn word(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn upper(word: u64) -> u32 {
    let [.., a, b, c, d] = word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

fn bpf(command: libc::c_int, attributes: &mut [u64]) -> io::Result<OwnedFd> {
    let fd = bpf_call(command, attributes)?;
    // SAFETY: these commands return a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: io::Result<i32>) -> io::Result<()> {
    result.map(drop)
}

fn bpf_call(command: libc::c_int, attributes: &mut [u64]) -> io::Result<i32> {
    // SAFETY: the callers in this file fill the attributes as the command wants them, with pointers to what outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of_val(attributes),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|&result| result >= 0)
        .ok_or_else(io::Error::last_os_error)
}
