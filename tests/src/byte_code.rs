//! The programs of the object that sipguard embeds, run by the interpreter over a compiled policy.

use std::{collections::HashSet, slice};

use aya_obj::{Map, Object};
use sipguard::{
    datapath::object_bytes,
    tables::{Entries, Tables},
};
use sipguard_ebpf::{
    abi::{Action, Answer, COUNTERS, Counter, Key, LinkKind, NO_SERVICE, REASONS},
    datagram::{DROPPED_PLACES, Dropped},
    event::{Grant, SETS, Set, Teller},
    prefix::Prefix,
};

use crate::{
    compiled::{Compiled, NOW},
    interpreter::{Array, Machine, Memory, Named, Piece, Run},
    reference::Verdict,
};

/// One of the programs, with maps and constants as the loader would fill them.
#[derive(Clone, Debug)]
pub struct ByteCode<'c> {
    compiled: &'c Compiled,
    machine: Machine,
    counters: Array,
    answer: Array,
    dropped: Array,
    /// Where the listener's grant is.
    grant: u64,
}

/// What a filter did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// The action is what the program returned, reason and service are those of the counter that it raised; a filter tells no length.
    pub verdict: Verdict,
    /// By how much it raised the counter of bytes.
    pub bytes: u64,
    /// What it took.
    pub run: Run,
}

impl<'c> ByteCode<'c> {
    /// The program with this name in the object, for frames that begin as `link` says.
    #[must_use]
    pub fn new(compiled: &'c Compiled, name: &str, link: LinkKind) -> Self {
        let tables = &compiled.tables;
        let mut object = Object::parse(object_bytes()).expect("an object");
        set_constants(&mut object, tables, link);
        let mut memory = Memory::default();
        let counters = array(&mut memory, &[Counter::default(); COUNTERS], true);
        let answer = array(&mut memory, &[Answer::default()], true);
        let dropped = array(&mut memory, &vec![Dropped::default(); DROPPED_PLACES], true);
        let teller = array(&mut memory, &[Teller::default()], true);
        let told = array(&mut memory, &vec![Set::default(); SETS], true);
        let grant = array(&mut memory, &[Grant::default()], true).start;
        let maps: Vec<_> = object.maps.clone().into_iter().collect();
        let name_of = |(name, map): &(String, Map)| match name.as_str() {
            "ENTRIES4" => hash(&mut memory, &tables.entries4),
            "ENTRIES6" => hash(&mut memory, &tables.entries6),
            "PREFILTER" => Named::Array(array(&mut memory, &tables.prefilter, false)),
            "LENGTHS" => Named::Array(array(&mut memory, &tables.lengths, false)),
            "COUNTERS" => Named::Array(counters),
            "ANSWER" => Named::Array(answer),
            "DROPPED" => Named::Array(dropped),
            "TELLER" => Named::Array(teller),
            "TOLD" => Named::Array(told),
            ".bss.grant" => Named::Data(grant),
            "EVENTS" => Named::Events,
            "TELLERS" | "TELLERS_TC" => Named::Programs,
            // Only a pending apply's program leads there.
            "GENERATIONS" => Named::Array(array::<u32>(&mut memory, &[], false)),
            _ if !map.data().is_empty() => {
                Named::Data(memory.place(Piece::constant(map.data().to_vec())))
            }
            _ => panic!("{name}: another map"),
        };
        let named = maps.iter().map(name_of).collect();
        // A map's file descriptor is its place among them.
        let maps = maps.iter().zip(0..);
        let maps = maps.map(|((name, map), place)| (name.as_str(), place, map));
        let text: HashSet<_> = object.functions.keys().map(|key| key.0).collect();
        object.relocate_maps(maps, &text).expect("all maps");
        object.relocate_calls(&text).expect("all functions");
        let code = |name: &str| {
            let function = object.programs[name].function_key();
            object.functions[&function].instructions.clone()
        };
        Self {
            compiled,
            machine: Machine {
                program: code(name),
                next: code(&name.replace("filter", "tell")),
                named,
                memory,
                boot_ns: NOW.boot_ns,
            },
            counters,
            answer,
            dropped,
            grant,
        }
    }

    /// Grants what a listener would, from now on.
    pub fn grant(&mut self, grant: Grant) {
        let piece = self.machine.memory.piece_mut(self.grant);
        piece.expect("it is there").bytes = bytes(&[grant]);
    }

    /// Sets the boot clock, in nanoseconds; it stands still.
    pub fn set_clock(&mut self, boot_ns: u64) {
        self.machine.boot_ns = boot_ns;
    }

    /// The verdict that a checking program leaves behind, of a frame whose `first` bytes can be read directly.
    pub fn check(&mut self, frame: &[u8], first: usize) -> Verdict {
        self.machine.run(frame, first);
        let answer = self
            .machine
            .memory
            .bytes(self.answer.start, size_of::<Answer>());
        // As `Answer` has them.
        let [reason, service, length, _, _, layer, ..] = *answer.expect("the element is there")
        else {
            unreachable!("an answer is longer");
        };
        self.compiled.answered(Answer {
            reason,
            service,
            length,
            layer,
            ..Answer::default()
        })
    }

    /// What a filter does with a frame whose `first` bytes can be read directly.
    pub fn filter(&mut self, frame: &[u8], first: usize) -> Filtered {
        let run = self.machine.run(frame, first);
        // include/uapi/linux/bpf.h, enum xdp_action.
        let action = match run.returned {
            1 => Action::Drop,
            2 => Action::Pass,
            other => panic!("returned {other}"),
        };
        self.filtered(action, run)
    }

    /// What the filter at TC ingress does with a frame, of which so many bytes are in the first piece.
    pub fn filter_at_tc(&mut self, frame: &[u8], first: usize) -> Filtered {
        let run = self.machine.run_at_tc(frame, first);
        // include/uapi/linux/pkt_cls.h: `TC_ACT_SHOT`, and `TC_ACT_UNSPEC`, which is -1.
        // The kernel looks at the lower half.
        let returned = u32::try_from(run.returned & u64::from(u32::MAX)).expect("half a word");
        let action = match returned.cast_signed() {
            2 => Action::Drop,
            -1 => Action::Pass,
            other => panic!("returned {other}"),
        };
        self.filtered(action, run)
    }

    fn filtered(&mut self, action: Action, run: Run) -> Filtered {
        let counters = self.machine.memory.piece_mut(self.counters.start);
        let counters = &mut counters.expect("they are there").bytes;
        let raised: Vec<_> = counters
            .chunks_exact(size_of::<Counter>())
            .map(|counter| {
                [0, 8]
                    .map(|at| u64::from_ne_bytes(counter[at..at + 8].try_into().expect("8 bytes")))
            })
            .enumerate()
            .filter(|&(_, counter)| counter != [0, 0])
            .collect();
        counters.fill(0);
        // Each frame is judged by itself.
        let dropped = self.machine.memory.piece_mut(self.dropped.start);
        dropped.expect("it is there").bytes.fill(0);
        let (counter, bytes) = match *raised {
            [] => (usize::from(NO_SERVICE) * REASONS, 0),
            [(number, [1, bytes])] => (number, bytes),
            _ => panic!("counted {raised:?}"),
        };
        let [reason, service] = [counter % REASONS, counter / REASONS]
            .map(|number| number.try_into().expect("few of each"));
        let answer = Answer {
            reason,
            service,
            ..Answer::default()
        };
        Filtered {
            verdict: Verdict {
                action,
                length: None,
                layer: None,
                ..self.compiled.answered(answer)
            },
            bytes,
            run,
        }
    }
}

/// As the loader does.
fn set_constants(object: &mut Object, tables: &Tables, link: LinkKind) {
    let constants = &tables.constants;
    let words = [
        ("PROTOCOLS", constants.protocols),
        ("MONITOR", constants.monitor),
        ("PREFILTER_SHIFT", constants.prefilter_shift),
        ("LINK_KIND", link as u32),
    ]
    .map(|(name, word)| (name, word.to_ne_bytes()));
    let tables = [("GUARDS", constants.guards.as_flattened())];
    let words = words.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    let values = words
        .chain(tables)
        .map(|(name, bytes)| (name, (bytes, true)));
    object
        .patch_map_data(values.collect())
        .expect("all constants");
}

fn hash<A: Prefix>(memory: &mut Memory, entries: &Entries<A>) -> Named {
    let values = entries.said.iter().map(|(key, value)| {
        let value = memory.place(Piece::constant(bytes(slice::from_ref(value))));
        (bytes(slice::from_ref(key)), value)
    });
    Named::Hash {
        key: size_of::<Key<A>>(),
        values: values.collect(),
    }
}

fn array<V: Copy>(memory: &mut Memory, values: &[V], writable: bool) -> Array {
    let element = size_of::<V>();
    let start = memory.place(Piece {
        bytes: bytes(values),
        element,
        writable,
    });
    Array {
        start,
        element: element as u64,
        count: values.len() as u64,
    }
}

fn bytes<T: Copy>(values: &[T]) -> Vec<u8> {
    // SAFETY: what is in maps is made of integers without padding between them, as `sipguard_ebpf::abi` asserts.
    unsafe { slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }.to_vec()
}
