//! Runs BPF byte code on the host: counts what is executed, and lets it reach nothing but what it was given.
//!
//! No kernel counts instructions, and the crates that run byte code work with real addresses, which an XDP context's 32 bits have no room for.
//! So addresses are made up here: every piece of memory lies alone, and an access that is not wholly inside one is a panic. What the
//! kernel promises nothing of begins as rubbish: the stack, most registers, and those that a call may change. Of the instruction set
//! (Documentation/bpf/standardization/instruction-set.rst) there is what kernels knew before 6.6, without atomics.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a register is what an instruction takes it for"
)]

mod arithmetic;
mod memory;

use std::collections::HashMap;

use aya_obj::generated::{self as bpf, bpf_func_id, bpf_insn};

use self::arithmetic::{calculate, holds, in_order};
pub use self::memory::{Memory, Piece};

/// A frame's address, and its end's, have to fit into 32 bits.
const FRAME: u64 = 0x1000_0000;
const CONTEXT: u64 = 0x2000_0000;
const STACK: u64 = 0x3000_0000;
/// include/linux/filter.h, `MAX_BPF_STACK`; and include/linux/bpf_verifier.h, `MAX_CALL_FRAMES`.
const STACK_BYTES: usize = 512;
const CALL_FRAMES: usize = 8;
const RUBBISH: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// Where the end of what can be read directly stands at TC ingress, in words of four bytes.
const DATA_END: usize = 20;
/// What programs take for a map's address: nothing lies there.
const MAPS: u64 = 0xdead_0000_0000_0000;
/// No frame takes so many instructions.
const ENDLESS: u32 = 1_000_000;

/// What instructions name by a number.
#[derive(Clone, Debug)]
pub enum Named {
    /// A section of constants, or of what is read like them, at this address.
    Data(u64),
    /// Where the program is that another one leads to.
    Programs,
    /// Where events go.
    Events,
    /// An array.
    Array(Array),
    /// A hash.
    Hash {
        /// How long a key is, in bytes.
        key: usize,
        /// The addresses of the values.
        values: HashMap<Vec<u8>, u64>,
    },
}

/// An array, whose elements are one piece of memory.
#[derive(Clone, Copy, Debug)]
pub struct Array {
    /// The address of the first element.
    pub start: u64,
    /// How long an element is, in bytes.
    pub element: u64,
    /// How many there are.
    pub count: u64,
}

/// A program and all that it can reach.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its instructions.
    pub program: Vec<bpf_insn>,
    /// Those of the program that it may go on in.
    pub next: Vec<bpf_insn>,
    /// What a file descriptor's number in an instruction stands for.
    pub named: Vec<Named>,
    /// Where that lies.
    pub memory: Memory,
    /// The boot clock, in nanoseconds; it stands still.
    pub boot_ns: u64,
}

/// What it took to judge one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// What the program returned.
    pub returned: u64,
    /// How many instructions were executed. Loading 64 bits of constant is one.
    pub instructions: u32,
    /// The helpers that were called, in this order.
    pub helpers: Vec<bpf_func_id>,
    /// What was told: a record, and the bytes that follow it.
    pub events: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What came in, as the helpers see it.
struct Received<'f> {
    frame: &'f [u8],
    /// How many bytes stand in front of the network header, where the program reads from there on.
    front: usize,
    /// How many bytes are in the first piece.
    first: usize,
}

impl Machine {
    /// Hands a frame to the program, of which the `first` bytes can be read directly.
    pub fn run(&mut self, frame: &[u8], first: usize) -> Run {
        let bytes = frame[..first].to_vec();
        self.memory.place_at(FRAME, Piece::constant(bytes));
        let end = FRAME + first as u64;
        // include/uapi/linux/bpf.h, struct xdp_md: data, data_end, data_meta, and three numbers of interfaces and queues.
        let context = [FRAME, end, FRAME, 1, 0, 0].map(|word| word as u32);
        self.begin(
            &context,
            Received {
                frame,
                front: 0,
                first,
            },
        )
    }

    /// Hands a packet to the program at TC ingress, as the kernel does: the outer tag taken off, and of what is left so many bytes in the
    /// first piece.
    pub fn run_at_tc(&mut self, frame: &[u8], first: usize) -> Run {
        /// `ETH_HLEN`, include/uapi/linux/if_ether.h.
        const HEADER: usize = 14;
        let mut frame = frame.to_vec();
        let tagged = matches!(frame[12..HEADER], [0x81, 0x00] | [0x88, 0xa8]);
        let mut tag = None;
        if tagged {
            let taken: Vec<_> = frame.drain(12..12 + 4).collect();
            tag = Some([0, 2].map(|at| u16::from_ne_bytes([taken[at], taken[at + 1]])));
        }
        let protocol = u16::from_ne_bytes([frame[12], frame[13]]);
        // The same, struct __sk_buff, as far as it is read: words of four bytes, and where they stand.
        let mut context = [0; 48];
        context[0] = frame.len() as u32;
        context[4] = protocol.into();
        context[5] = tagged.into();
        if let Some([kind, tag]) = tag {
            context[6] = tag.to_be().into();
            context[7] = kind.into();
        }
        context[19] = FRAME as u32;
        context[DATA_END] = (FRAME as usize + first.min(frame.len())) as u32;
        let received = Received {
            frame: &frame,
            front: HEADER,
            first: first.min(frame.len()),
        };
        self.begin(&context, received)
    }

    /// What a program finds when it begins.
    fn lay_out(&mut self, context: &[u32]) {
        let context = context.iter().flat_map(|word| word.to_ne_bytes());
        self.memory
            .place_at(CONTEXT, Piece::constant(context.collect()));
        let stack = Piece {
            bytes: vec![RUBBISH as u8; STACK_BYTES * CALL_FRAMES],
            element: STACK_BYTES * CALL_FRAMES,
            writable: true,
        };
        self.memory.place_at(STACK, stack);
    }

    fn begin(&mut self, context: &[u32], mut received: Received<'_>) -> Run {
        self.lay_out(context);
        let mut registers = at_the_begin();
        let mut counter = 0;
        // Where those go on that called a function, and what they find there in the registers that a call does not change.
        let mut callers: Vec<(usize, [u64; 5])> = Vec::new();
        let mut run = Run::default();
        let mut handed_on = false;
        loop {
            let at = counter;
            let program = if handed_on { &self.next } else { &self.program };
            let instruction = program[at];
            counter += 1;
            run.instructions += 1;
            assert!(run.instructions < ENDLESS, "{at}: without end");
            let code = u32::from(instruction.code);
            let (to, from) = (instruction.dst_reg().into(), instruction.src_reg().into());
            let constant = i64::from(instruction.imm) as u64;
            let jump = isize::from(instruction.off);
            let address = |register: usize| registers[register].wrapping_add_signed(jump as i64);
            let operand = match code & bpf::BPF_X {
                0 => constant,
                _ => registers[from],
            };
            match code & 7 {
                bpf::BPF_LD => {
                    registers[to] = self.long_constant(instruction, program[counter].imm);
                    counter += 1;
                }
                bpf::BPF_LDX => {
                    let address = address(from);
                    let bytes = self.memory.bytes(address, width(code));
                    let bytes = bytes.unwrap_or_else(|| panic!("{at}: reads {address:#x}"));
                    let mut word = [0; 8];
                    word[..bytes.len()].copy_from_slice(bytes);
                    registers[to] = u64::from_le_bytes(word);
                }
                class @ (bpf::BPF_ST | bpf::BPF_STX) => {
                    let value = match class {
                        bpf::BPF_ST => constant,
                        _ => registers[from],
                    };
                    let address = address(to);
                    let bytes = self.memory.bytes_mut(address, width(code));
                    let bytes = bytes.unwrap_or_else(|| panic!("{at}: writes {address:#x}"));
                    bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
                }
                bpf::BPF_ALU if code & 0xf0 == bpf::BPF_END => {
                    registers[to] = in_order(registers[to], code & bpf::BPF_TO_BE != 0, constant);
                }
                class @ (bpf::BPF_ALU | bpf::BPF_ALU64) => {
                    assert_eq!(jump, 0, "{at}: an instruction of version 4");
                    let wide = class == bpf::BPF_ALU64;
                    registers[to] = calculate(code & 0xf0, registers[to], operand, wide);
                }
                class => match code & 0xf0 {
                    bpf::BPF_EXIT => {
                        let Some((next, kept)) = callers.pop() else {
                            run.returned = registers[0];
                            return run;
                        };
                        counter = next;
                        registers[1..6].fill(RUBBISH);
                        registers[6..].copy_from_slice(&kept);
                    }
                    // Each function has a stack of its own here. That all together fit into one is the kernel's to say.
                    bpf::BPF_CALL if from == bpf::BPF_PSEUDO_CALL as usize => {
                        let kept = registers[6..].try_into().expect("five registers");
                        callers.push((counter, kept));
                        counter = counter.wrapping_add_signed(
                            isize::try_from(constant.cast_signed()).expect("a place"),
                        );
                        registers[6..10].fill(RUBBISH);
                        registers[10] -= STACK_BYTES as u64;
                    }
                    bpf::BPF_CALL => {
                        assert_eq!(from, 0, "{at}: calls no helper");
                        let (helper, returned) =
                            self.help(constant, &registers, &mut received, &mut run.events);
                        run.helpers.push(helper);
                        if helper == bpf_func_id::BPF_FUNC_tail_call {
                            assert!(!handed_on, "{at}: goes on and on");
                            handed_on = true;
                            counter = 0;
                            callers.clear();
                            registers = at_the_begin();
                            continue;
                        }
                        registers[0] = returned;
                        registers[1..6].fill(RUBBISH);
                    }
                    test => {
                        let wide = class == bpf::BPF_JMP;
                        if holds(test, registers[to], operand, wide) {
                            counter = counter.wrapping_add_signed(jump);
                        }
                    }
                },
            }
        }
    }

    /// A constant of 64 bits, whose upper half stands in the next instruction.
    fn long_constant(&self, instruction: bpf_insn, upper: i32) -> u64 {
        let number = instruction.imm.cast_unsigned();
        let upper = upper.cast_unsigned();
        match (
            u32::from(instruction.src_reg()),
            self.named.get(number as usize),
        ) {
            (0, _) => u64::from(upper) << 32 | u64::from(number),
            (
                bpf::BPF_PSEUDO_MAP_FD,
                Some(Named::Array(_) | Named::Hash { .. } | Named::Programs | Named::Events),
            ) => MAPS + u64::from(number),
            (bpf::BPF_PSEUDO_MAP_VALUE, Some(Named::Data(address))) => address + u64::from(upper),
            (kind, named) => panic!("a constant of kind {kind} for {named:?}"),
        }
    }

    /// What a helper does and returns.
    fn help(
        &mut self,
        number: u64,
        registers: &[u64; 11],
        received: &mut Received<'_>,
        events: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> (bpf_func_id, u64) {
        use bpf_func_id::{
            BPF_FUNC_jiffies64 as JIFFIES, BPF_FUNC_ktime_get_boot_ns as CLOCK,
            BPF_FUNC_map_lookup_elem as LOOK_UP, BPF_FUNC_perf_event_output as OUTPUT,
            BPF_FUNC_skb_load_bytes_relative as READ, BPF_FUNC_skb_pull_data as PULL,
            BPF_FUNC_tail_call as TAIL_CALL, BPF_FUNC_xdp_get_buff_len as LENGTH,
            BPF_FUNC_xdp_load_bytes as LOAD,
        };
        let [_, first, second, third, fourth, fifth, ..] = *registers;
        let known = [
            LOOK_UP, CLOCK, JIFFIES, LENGTH, LOAD, READ, PULL, TAIL_CALL, OUTPUT,
        ];
        let helper = known
            .into_iter()
            .find(|&helper| helper as u64 == number)
            .unwrap_or_else(|| panic!("there is no helper {number} here"));
        let returned = match helper {
            LOOK_UP => {
                let key = |length| {
                    let key = self.memory.bytes(second, length);
                    key.unwrap_or_else(|| panic!("a key at {second:#x}"))
                };
                match self.named.get(first.wrapping_sub(MAPS) as usize) {
                    Some(Named::Array(array)) => {
                        let index = key(4).try_into().map(u32::from_ne_bytes);
                        let index = u64::from(index.expect("four bytes"));
                        if index < array.count {
                            array.start + index * array.element
                        } else {
                            0
                        }
                    }
                    Some(Named::Hash {
                        key: length,
                        values,
                    }) => values.get(key(*length)).copied().unwrap_or(0),
                    _ => panic!("looks up in {first:#x}, which is no map"),
                }
            }
            TAIL_CALL => {
                assert_eq!(first, CONTEXT, "not the context");
                let named = self.named.get(second.wrapping_sub(MAPS) as usize);
                assert!(matches!(named, Some(Named::Programs)), "no programs");
                assert_eq!(third, 0, "another program");
                0
            }
            OUTPUT => {
                assert_eq!(first, CONTEXT, "not the context");
                let named = self.named.get(second.wrapping_sub(MAPS) as usize);
                assert!(matches!(named, Some(Named::Events)), "no place for events");
                // include/uapi/linux/bpf.h: this processor's place in the lower half, above it how many of the frame's bytes.
                assert_eq!(third as u32, u32::MAX, "not this processor");
                let record = self.memory.bytes(fourth, fifth as usize);
                let record = record.unwrap_or_else(|| panic!("a record at {fourth:#x}"));
                let bytes = received.frame.get(..(third >> 32) as usize);
                let bytes = bytes.expect("bytes of the frame");
                events.push((record.to_vec(), bytes.to_vec()));
                0
            }
            CLOCK => self.boot_ns,
            // A thousand a second.
            JIFFIES => self.boot_ns / 1_000_000,
            LENGTH => {
                assert_eq!(first, CONTEXT, "not the context");
                received.frame.len() as u64
            }
            PULL => {
                assert_eq!(first, CONTEXT, "not the context");
                let length = second as u32 as usize;
                if length > received.frame.len() {
                    (-i64::from(libc::ENOMEM)) as u64
                } else {
                    received.first = received.first.max(length);
                    let end = (FRAME as u32 + received.first as u32).to_ne_bytes();
                    let context = self.memory.piece_mut(CONTEXT).expect("it is there");
                    context.bytes[DATA_END * 4..][..4].copy_from_slice(&end);
                    0
                }
            }
            _ => {
                assert_eq!(first, CONTEXT, "not the context");
                let (offset, count) = (second as u32 as usize, fourth as u32 as usize);
                let from = received.front + offset;
                let end = match helper {
                    // What is not in the first piece is not read.
                    READ => {
                        assert_eq!(fifth, 1, "not from the network header on");
                        received.first
                    }
                    _ => received.frame.len(),
                };
                let buffer = self.memory.bytes_mut(third, count);
                let buffer = buffer.unwrap_or_else(|| panic!("a buffer at {third:#x}"));
                match received.frame[..end].get(from..from + count) {
                    Some(bytes) => {
                        buffer.copy_from_slice(bytes);
                        0
                    }
                    None => (-i64::from(libc::EINVAL)) as u64,
                }
            }
        };
        (helper, returned)
    }
}

/// The registers of a program that begins.
fn at_the_begin() -> [u64; 11] {
    let mut registers = [RUBBISH; 11];
    registers[1] = CONTEXT;
    registers[10] = STACK + (STACK_BYTES * CALL_FRAMES) as u64;
    registers
}

/// How many bytes an instruction reads or writes.
fn width(code: u32) -> usize {
    assert_eq!(code & 0xe0, bpf::BPF_MEM, "neither a plain read nor write");
    match code & 0x18 {
        bpf::BPF_B => 1,
        bpf::BPF_H => 2,
        bpf::BPF_W => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests;
