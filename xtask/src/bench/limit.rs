//! The least that a filter of ports can do: the fair limit. It finds the ports behind an Ethernet header, at most one VLAN tag and an IPv4
//! or IPv6 header, counts the packets to one of them for each processor, and drops them. It knows no lists, no second port, no fragments and
//! no extension headers.

use anyhow::Result;

use super::bpf::{
    ADD, ADD_REGISTER, AND, Counter, EXIT, JUMP, JUMP_IF_BEYOND, JUMP_IF_EQUAL, JUMP_UNLESS,
    LOAD_U8, LOAD_U16, LOAD_U32, LOAD_U64, MAP_LOOKUP, Program, SECOND_HALF, SHIFT_LEFT, STORE,
    STORE_U64, XDP_DROP, XDP_PASS, call, copy, instruction, set,
};

const SIP: u16 = 5060;
const UDP: i32 = 17;
/// Ethernet, the shortest IPv4 header, and ports.
const SHORTEST: i32 = 38;
/// Stands for the way to the end of the program, where it lets the frame pass.
const PASS: i16 = i16::MAX;

pub(super) fn reads_ports_and_counts() -> Result<Program> {
    let counter = Counter::new()?;
    let [tag, ipv4, ipv6, sip] = [0x8100, 0x0800, 0x86dd, SIP].map(|it| i32::from(it.to_be()));
    let mut instructions = vec![
        // xdp_md: data, data_end.
        instruction(LOAD_U32, 2, 1, 0, 0),
        instruction(LOAD_U32, 3, 1, 4, 0),
        copy(4, 2),
        instruction(ADD, 4, 0, 0, SHORTEST),
        instruction(JUMP_IF_BEYOND, 4, 3, PASS, 0),
        instruction(LOAD_U16, 5, 2, 12, 0),
        instruction(JUMP_UNLESS, 5, 0, 5, tag),
        instruction(ADD, 2, 0, 0, 4),
        copy(4, 2),
        instruction(ADD, 4, 0, 0, SHORTEST),
        instruction(JUMP_IF_BEYOND, 4, 3, PASS, 0),
        instruction(LOAD_U16, 5, 2, 12, 0),
        instruction(JUMP_IF_EQUAL, 5, 0, 5, ipv4),
        instruction(JUMP_UNLESS, 5, 0, PASS, ipv6),
        instruction(LOAD_U8, 0, 2, 20, 0),
        instruction(JUMP_UNLESS, 0, 0, PASS, UDP),
        instruction(ADD, 2, 0, 0, 54),
        instruction(JUMP, 0, 0, 7, 0),
        instruction(LOAD_U8, 0, 2, 23, 0),
        instruction(JUMP_UNLESS, 0, 0, PASS, UDP),
        // The header's length, in words of four bytes.
        instruction(LOAD_U8, 0, 2, 14, 0),
        instruction(AND, 0, 0, 0, 0x0f),
        instruction(SHIFT_LEFT, 0, 0, 0, 2),
        instruction(ADD_REGISTER, 2, 0, 0, 0),
        instruction(ADD, 2, 0, 0, 14),
        copy(4, 2),
        instruction(ADD, 4, 0, 0, 4),
        instruction(JUMP_IF_BEYOND, 4, 3, PASS, 0),
        instruction(LOAD_U16, 0, 2, 2, 0),
        instruction(JUMP_UNLESS, 0, 0, PASS, sip),
        instruction(STORE, 10, 0, -4, 0),
        counter.map(1),
        SECOND_HALF,
        copy(2, 10),
        instruction(ADD, 2, 0, 0, -4),
        call(MAP_LOOKUP),
        instruction(JUMP_IF_EQUAL, 0, 0, PASS, 0),
        instruction(LOAD_U64, 1, 0, 0, 0),
        instruction(ADD, 1, 0, 0, 1),
        instruction(STORE_U64, 0, 1, 0, 0),
        set(0, XDP_DROP),
        EXIT,
    ];
    let end = instructions.len();
    for (place, instruction) in instructions.iter_mut().enumerate() {
        let mut bytes = instruction.to_le_bytes();
        if bytes[2..4] == PASS.to_le_bytes() {
            let way = i16::try_from(end - place - 1)?;
            bytes[2..4].copy_from_slice(&way.to_le_bytes());
            *instruction = u64::from_le_bytes(bytes);
        }
    }
    instructions.extend([set(0, XDP_PASS), EXIT]);
    Program::load(&instructions, None)
}
