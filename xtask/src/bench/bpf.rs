//! The few programs that the benchmark needs in the kernel, written in its instructions, and runs of these and of sipguard's own.
//! Nothing of them is in the object that sipguard ships.

use std::{
    ffi::CString,
    fs, io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::netns::{BPFFS, Host};

// include/uapi/linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PROG_ARRAY: u32 = 3;
const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const MAP_TYPE_QUEUE: u32 = 22;
const PROG_TYPE_TC: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_LIVE_FRAMES: u32 = 1 << 1;
// include/uapi/linux/if_link.h
const IN_THE_DRIVER: u32 = 1 << 2;

const TC_DROP: i32 = 2;
pub(super) const XDP_DROP: i32 = 1;
pub(super) const XDP_PASS: i32 = 2;
pub(super) const KTIME_GET_NS: i32 = 5;
pub(super) const GET_PRANDOM_U32: i32 = 7;
pub(super) const MAP_LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;
pub(super) const XDP_ADJUST_HEAD: i32 = 44;
pub(super) const XDP_ADJUST_TAIL: i32 = 65;
pub(super) const MAP_PUSH: i32 = 87;
pub(super) const MAP_POP: i32 = 88;
pub(super) const XDP_LENGTH: i32 = 188;
pub(super) const XDP_LOAD_BYTES: i32 = 189;
pub(super) const XDP_STORE_BYTES: i32 = 190;

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

    /// The same at TC ingress, where the kernel has made its own of a frame before.
    pub(super) fn empty_tc() -> Result<Self> {
        let program = load(PROG_TYPE_TC, [0, 0], &[set(0, TC_DROP), EXIT])?;
        Ok(Self {
            program,
            _next: None,
        })
    }

    /// Gives every frame a random source and hands it to `next`.
    pub(super) fn random_source(source: Source, next: &Self) -> Result<Self> {
        let mut instructions = vec![copy(6, 1)];
        instructions.extend(randomised(source as i16, &[]));
        let array = program_array(next)?;
        instructions.extend([copy(1, 6), map(2, &array), SECOND_HALF, set(3, 0)]);
        instructions.extend([call(TAIL_CALL), set(0, XDP_DROP), EXIT]);
        Self::load(&instructions, Some(array))
    }

    /// Gives every frame one of 16,384 sources, by the four bytes at `source`, and sends it out of an interface.
    pub(super) fn send(interface: u32, source: i16) -> Result<Self> {
        let mut instructions = vec![copy(6, 1)];
        instructions.extend(sending(interface, source)?);
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

    /// Attaches it to an interface, in the driver.
    pub(super) fn attach(&self, host: &Host, interface: &str) -> Result<()> {
        self.pinned(|pin| {
            host.ip(&format!("link set dev {interface} xdpdrv pinned {pin}"));
        })
    }

    /// Attaches it to an interface, at TC ingress.
    pub(super) fn attach_tc(&self, host: &Host, interface: &str) -> Result<()> {
        self.pinned(|pin| {
            for words in [
                format!("qdisc add dev {interface} clsact"),
                format!("filter add dev {interface} ingress bpf direct-action object-pinned {pin}"),
            ] {
                host.run(Command::new("tc").args(words.split_whitespace()))
                    .succeeded();
            }
        })
    }

    /// Gives it a name for as long as others need one.
    fn pinned(&self, attach: impl FnOnce(&str)) -> Result<()> {
        let pin = format!("{BPFFS}/attached");
        let path = CString::new(pin.as_str())?;
        let mut attributes = [path.as_ptr() as u64, word(self.fd(), 0)];
        done(bpf_call(OBJ_PIN, &mut attributes)).with_context(|| format!("pinning {pin}"))?;
        attach(&pin);
        Ok(fs::remove_file(pin)?)
    }

    pub(super) fn load(instructions: &[u64], next: Option<OwnedFd>) -> Result<Self> {
        // A program may only hand on to one that has the same.
        let program = load(PROG_TYPE_XDP, [XDP_HAS_FRAGS, ATTACH_XDP], instructions)?;
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

    /// What it says of a frame.
    pub(super) fn verdict(&self, frame: &[u8]) -> Result<u32> {
        let mut attributes = self.test(frame, 1);
        done(bpf_call(PROG_TEST_RUN, &mut attributes)).context("BPF_PROG_TEST_RUN")?;
        // retval, behind prog_fd.
        Ok(upper(attributes[0]))
    }

    /// Puts `times` frames on the wire that the program sends them to. Returns nanoseconds a frame as the kernel takes them: without what
    /// it makes ready before and takes away afterwards, which lasts longer than a hundred thousand frames.
    pub(super) fn inject(&self, frame: &[u8], times: u32) -> Result<u32> {
        let mut attributes = self.test(frame, times);
        attributes[8] = word(XDP_LIVE_FRAMES, 0);
        done(bpf_call(PROG_TEST_RUN, &mut attributes)).context("BPF_PROG_TEST_RUN, live frames")?;
        Ok(upper(attributes[4]))
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

fn load(kind: u32, [flags, attach_type]: [u32; 2], instructions: &[u64]) -> Result<OwnedFd> {
    let mut attributes = [0; 9];
    let count = u32::try_from(instructions.len())?;
    attributes[0] = word(kind, count);
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = c"GPL".as_ptr() as u64;
    // prog_flags behind kern_version.
    attributes[5] = word(0, flags);
    // expected_attach_type behind prog_ifindex.
    attributes[8] = word(0, attach_type);
    bpf(PROG_LOAD, &mut attributes).context("loading a program of the benchmark")
}

/// The end of a program that gives a frame a random source, by four bytes of it, and sends it out of an interface; the context is in
/// register 6. The bytes' halves are each other's complement, and so were those of the frame's own, so that a checksum stays right.
pub(super) fn sending(interface: u32, source: i16) -> Result<Vec<u64>> {
    // The first byte becomes one of 128 to 191: an IPv4 address is unicast so, whatever the rest.
    let halves = [
        instruction(AND, 0, 0, 0, 0xff3f),
        instruction(OR, 0, 0, 0, 0x80),
        copy(1, 0),
        instruction(XOR, 1, 0, 0, 0xffff),
        instruction(SHIFT_LEFT, 1, 0, 0, 16),
        instruction(OR_REGISTER, 0, 1, 0, 0),
    ];
    let mut instructions = randomised(source, &halves);
    instructions.extend(redirect(interface)?);
    Ok(instructions)
}

/// The end of a program that sends a frame out of an interface.
pub(super) fn redirect(interface: u32) -> Result<[u64; 4]> {
    let interface = i32::try_from(interface).context("an interface's number")?;
    Ok([set(1, interface), set(2, 0), call(REDIRECT), EXIT])
}

/// Writes four random bytes at `offset`, once `shaped` has made of register 0 what they are to be; the context is in register 6.
fn randomised(offset: i16, shaped: &[u64]) -> Vec<u64> {
    let mut instructions = vec![call(GET_PRANDOM_U32)];
    instructions.extend(shaped);
    instructions.extend(data(i32::from(offset) + 4));
    instructions.push(instruction(STORE_U32, 2, 0, offset, 0));
    instructions
}

/// Loads the address of the frame into register 2, and drops a frame that is shorter than `needed` bytes; the context is in register 6.
pub(super) fn data(needed: i32) -> [u64; 7] {
    [
        // xdp_md: data, data_end.
        instruction(LOAD_U32, 2, 6, 0, 0),
        instruction(LOAD_U32, 3, 6, 4, 0),
        copy(4, 2),
        instruction(ADD, 4, 0, 0, needed),
        instruction(JUMP_IF_AT_MOST, 4, 3, 2, 0),
        set(0, XDP_DROP),
        EXIT,
    ]
}

/// What has an interface run a program in its driver, and lets another one take its place between two frames.
pub(super) struct Link(OwnedFd);

impl Link {
    /// In the network namespace of this thread.
    pub(super) fn new(program: &Program, interface: u32) -> Result<Self> {
        let mut attributes = [
            word(program.fd(), interface),
            word(ATTACH_XDP, IN_THE_DRIVER),
        ];
        let link = bpf(LINK_CREATE, &mut attributes).context("attaching a program")?;
        Ok(Self(link))
    }

    pub(super) fn update(&self, program: &Program) -> Result<()> {
        let link = self.0.as_raw_fd().cast_unsigned();
        let mut attributes = [word(link, program.fd()), 0];
        done(bpf_call(LINK_UPDATE, &mut attributes)).context("swapping a link's program")
    }
}

/// A number for each processor, which starts at zero.
pub(super) struct Counter(OwnedFd);

impl Counter {
    pub(super) fn new() -> Result<Self> {
        let (key, value) = (size_of::<u32>(), size_of::<u64>());
        new_map(MAP_TYPE_PERCPU_ARRAY, key, value, 1).map(Self)
    }

    /// The first half of a load whose value is the map.
    pub(super) fn map(&self, register: u8) -> u64 {
        map(register, &self.0)
    }
}

/// One value that a program keeps from one frame to the next, all zero at first.
pub(super) struct Memory<T> {
    map: OwnedFd,
    value: PhantomData<T>,
}

impl<const WORDS: usize> Memory<[u64; WORDS]> {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            map: new_map(
                MAP_TYPE_ARRAY,
                size_of::<u32>(),
                WORDS * size_of::<u64>(),
                1,
            )?,
            value: PhantomData,
        })
    }

    pub(super) fn read(&self) -> Result<[u64; WORDS]> {
        let (key, mut value) = (0_u32, [0; WORDS]);
        let mut attributes = [
            word(self.map.as_raw_fd().cast_unsigned(), 0),
            &raw const key as u64,
            &raw mut value as u64,
            0,
        ];
        done(bpf_call(MAP_LOOKUP_ELEM, &mut attributes)).context("reading a program's memory")?;
        Ok(value)
    }

    /// The first half of a load whose value is the address.
    pub(super) fn address(&self, register: u8) -> u64 {
        instruction(0x18, register, 2, 0, self.map.as_raw_fd())
    }
}

/// Values that one program leaves for another.
pub(super) struct Queue<T> {
    map: OwnedFd,
    value: PhantomData<T>,
}

impl<T> Queue<T> {
    pub(super) fn new(most: u32) -> Result<Self> {
        Ok(Self {
            map: new_map(MAP_TYPE_QUEUE, 0, size_of::<T>(), most)?,
            value: PhantomData,
        })
    }

    /// Pushes or pops a value whose address is in a register.
    pub(super) fn call(&self, helper: i32, register: u8) -> [u64; 5] {
        [
            map(1, &self.map),
            SECOND_HALF,
            copy(2, register),
            set(3, 0),
            call(helper),
        ]
    }
}

fn new_map(kind: u32, key: usize, value: usize, entries: u32) -> Result<OwnedFd> {
    let mut attributes = [
        word(kind, u32::try_from(key)?),
        word(u32::try_from(value)?, entries),
        0,
    ];
    bpf(MAP_CREATE, &mut attributes).context("making a map of the benchmark")
}

fn program_array(first: &Program) -> Result<OwnedFd> {
    let array = new_map(MAP_TYPE_PROG_ARRAY, size_of::<u32>(), size_of::<u32>(), 1)?;
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
pub(super) const LOAD_U32: u8 = 0x61;
pub(super) const LOAD_U8: u8 = 0x71;
pub(super) const LOAD_U16: u8 = 0x69;
pub(super) const LOAD_U64: u8 = 0x79;
pub(super) const STORE: u8 = 0x62;
pub(super) const STORE_U32: u8 = 0x63;
pub(super) const STORE_U64: u8 = 0x7b;
pub(super) const ADD: u8 = 0x07;
pub(super) const ADD_REGISTER: u8 = 0x0f;
const OR: u8 = 0x47;
const OR_REGISTER: u8 = 0x4f;
pub(super) const AND: u8 = 0x57;
pub(super) const SHIFT_LEFT: u8 = 0x67;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
const XOR: u8 = 0xa7;
pub(super) const JUMP_IF_AT_MOST: u8 = 0xbd;
pub(super) const JUMP_IF_BEYOND: u8 = 0x2d;
pub(super) const JUMP: u8 = 0x05;
pub(super) const JUMP_IF_EQUAL: u8 = 0x15;
pub(super) const JUMP_IF_ABOVE: u8 = 0x25;
pub(super) const JUMP_UNLESS: u8 = 0x55;
pub(super) const JUMP_IF_BELOW: u8 = 0xa5;
pub(super) const EXIT: u64 = 0x95;
pub(super) const SECOND_HALF: u64 = 0;

pub(super) fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = value.to_le_bytes();
    u64::from_le_bytes([code, to | from << 4, low, high, a, b, c, d])
}

pub(super) fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, 0, value)
}

pub(super) fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

pub(super) fn call(helper: i32) -> u64 {
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
