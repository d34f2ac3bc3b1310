use super::*;

#[test]
fn no_access_beyond_an_element() {
    let mut memory = Memory::default();
    let array = memory.place(Piece {
        bytes: vec![7; 12],
        element: 4,
        writable: true,
    });
    for (offset, count, inside) in [
        (0, 4, true),
        (8, 4, true),
        (7, 1, true),
        (-1, 1, false),
        (-1, 2, false),
        (3, 2, false),
        (4, 8, false),
        (8, 5, false),
        (12, 1, false),
    ] {
        let address = array.wrapping_add_signed(offset);
        let found = memory.bytes(address, count).is_some();
        assert_eq!(found, inside, "{offset} {count}");
        let found = memory.bytes_mut(address, count).is_some();
        assert_eq!(found, inside, "{offset} {count}");
    }
    assert!(memory.bytes(0, 1).is_none());
}

#[test]
fn constants_are_not_changed() {
    let mut memory = Memory::default();
    let constant = memory.place(Piece::constant(vec![7; 4]));
    assert!(memory.bytes(constant, 4).is_some());
    assert!(memory.bytes_mut(constant, 4).is_none());
}

/// What Documentation/bpf/standardization/instruction-set.rst says of the cases in which processors differ.
#[test]
fn operations() {
    const LOWEST: u64 = 1 << 63;
    for (operation, a, b, wide, result) in [
        (bpf::BPF_ADD, u64::MAX, 1, true, 0),
        (bpf::BPF_ADD, u64::MAX, 1, false, 0),
        (bpf::BPF_SUB, 0, 1, false, 0xffff_ffff),
        (bpf::BPF_DIV, 7, 0, true, 0),
        (bpf::BPF_MOD, 7, 0, true, 7),
        (bpf::BPF_LSH, 1, 65, true, 2),
        (bpf::BPF_LSH, 1, 33, false, 2),
        (bpf::BPF_RSH, LOWEST, 63, true, 1),
        (bpf::BPF_ARSH, LOWEST, 63, true, u64::MAX),
        (bpf::BPF_ARSH, 0x8000_0000, 31, false, 0xffff_ffff),
        (bpf::BPF_NEG, 1, 0, false, 0xffff_ffff),
        (bpf::BPF_MOV, 0, u64::MAX, false, 0xffff_ffff),
    ] {
        let got = calculate(operation, a, b, wide);
        assert_eq!(got, result, "{operation:#x} {a:#x} {b:#x} {wide}");
    }
    assert!(holds(bpf::BPF_JSLT, u64::MAX, 0, true));
    assert!(holds(bpf::BPF_JSLT, 0xffff_ffff, 0, false));
    assert!(!holds(bpf::BPF_JLT, u64::MAX, 0, true));
    assert_eq!(in_order(0x1122_3344, true, 16), 0x4433);
    assert_eq!(in_order(0x1122_3344, false, 16), 0x3344);
}
