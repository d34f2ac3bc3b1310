//! What single instructions make of their operands.

use aya_obj::generated as bpf;

/// The lowest bits of a value, their bytes in the order of the network or of this host.
pub(super) fn in_order(value: u64, network: bool, bits: u64) -> u64 {
    match (bits, network) {
        (16, true) => u64::from((value as u16).to_be()),
        (32, true) => u64::from((value as u32).to_be()),
        (64, true) => value.to_be(),
        (16, false) => u64::from((value as u16).to_le()),
        (32, false) => u64::from((value as u32).to_le()),
        _ => value.to_le(),
    }
}

/// The result of an operation of the classes `ALU` and, where it is `wide`, `ALU64`.
pub(super) fn calculate(operation: u32, a: u64, b: u64, wide: bool) -> u64 {
    let mask = if wide { u64::MAX } else { u32::MAX.into() };
    let (a, b) = (a & mask, b & mask);
    let shift = b as u32 & if wide { 63 } else { 31 };
    let result = match operation {
        bpf::BPF_ADD => a.wrapping_add(b),
        bpf::BPF_SUB => a.wrapping_sub(b),
        bpf::BPF_MUL => a.wrapping_mul(b),
        bpf::BPF_DIV => a.checked_div(b).unwrap_or(0),
        bpf::BPF_MOD => a.checked_rem(b).unwrap_or(a),
        bpf::BPF_OR => a | b,
        bpf::BPF_AND => a & b,
        bpf::BPF_XOR => a ^ b,
        bpf::BPF_LSH => a << shift,
        bpf::BPF_RSH => a >> shift,
        bpf::BPF_ARSH => (signed(a, wide) >> shift) as u64,
        bpf::BPF_NEG => a.wrapping_neg(),
        bpf::BPF_MOV => b,
        _ => panic!("there is no operation {operation:#x}"),
    };
    result & mask
}

/// Whether a jump of the classes `JMP32` and, where it is `wide`, `JMP` is made.
pub(super) fn holds(test: u32, a: u64, b: u64, wide: bool) -> bool {
    let mask = if wide { u64::MAX } else { u32::MAX.into() };
    let (a, b) = (a & mask, b & mask);
    let (signed_a, signed_b) = (signed(a, wide), signed(b, wide));
    match test {
        bpf::BPF_JA => {
            assert!(wide, "a jump of version 4");
            true
        }
        bpf::BPF_JEQ => a == b,
        bpf::BPF_JNE => a != b,
        bpf::BPF_JGT => a > b,
        bpf::BPF_JGE => a >= b,
        bpf::BPF_JLT => a < b,
        bpf::BPF_JLE => a <= b,
        bpf::BPF_JSET => a & b != 0,
        bpf::BPF_JSGT => signed_a > signed_b,
        bpf::BPF_JSGE => signed_a >= signed_b,
        bpf::BPF_JSLT => signed_a < signed_b,
        bpf::BPF_JSLE => signed_a <= signed_b,
        _ => panic!("there is no test {test:#x}"),
    }
}

fn signed(value: u64, wide: bool) -> i64 {
    if wide {
        value.cast_signed()
    } else {
        (value as u32).cast_signed().into()
    }
}
