//! Asking the kernel's program what it would do.

use aya::{Ebpf, TestRun as _, TestRunOptions, programs::Xdp};
use sipguard_ebpf::{
    abi::{Answer, LinkKind, NO_SERVICE},
    parse::parse,
};

use super::{
    Description, Error, Generation,
    load::{self, Plan},
    pins,
    table::Table,
};
use crate::tables::{Constants, Tables};

/// The kernel runs no XDP program on less (`ETH_HLEN`, bpf_prog_test_run_xdp in net/bpf/test_run.c).
const SHORTEST: usize = 14;

/// The checking program over a generation's policy maps. It counts nothing.
pub struct Checker {
    /// Keeps the program and its maps.
    ebpf: Ebpf,
    /// The policy that it judges by.
    pub generation: Generation,
    answer: Table<u32, Answer>,
    link: LinkKind,
    protocols: u32,
}

impl Checker {
    /// Over the maps of a pinned generation, for frames that begin as `link` says.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn over(number: u64, link: LinkKind) -> Result<Self, Error> {
        let generation = Generation::open(number)?;
        let constants = generation.description.constants()?;
        let ebpf = load::object(&Plan {
            constants: &constants,
            sizes: generation.sizes()?,
            link,
            slot: 0,
            pins: load::policy_pins(&pins::generation(number)),
        })?;
        Self::start(ebpf, generation, link, &constants)
    }

    /// Over maps of its own, which nothing is attached to.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn of(tables: &Tables, description: Description, link: LinkKind) -> Result<Self, Error> {
        let (generation, ebpf) = Generation::load(tables, description, link, 0, Vec::new())?;
        Self::start(ebpf, generation, link, &tables.constants)
    }

    fn start(
        mut ebpf: Ebpf,
        generation: Generation,
        link: LinkKind,
        constants: &Constants,
    ) -> Result<Self, Error> {
        let answer = load::take(&mut ebpf, "ANSWER")?;
        load::program(&mut ebpf, "check")?;
        Ok(Self {
            ebpf,
            generation,
            answer,
            link,
            protocols: constants.protocols,
        })
    }

    /// What the program would do with a frame.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn judge(&mut self, frame: &[u8]) -> Result<Answer, Error> {
        if frame.len() < SHORTEST {
            // Too short for ports, so that what the parser says is the verdict.
            let reason = parse(frame, self.link, self.protocols)
                .err()
                .unwrap_or(sipguard_ebpf::abi::Reason::None);
            return Ok(Answer {
                reason: reason as u8,
                service: NO_SERVICE,
                ..Answer::default()
            });
        }
        self.run(frame, None)
    }

    /// The same for a frame of which only the first bytes can be read directly, as some drivers hand it over. At least 14 bytes can.
    ///
    /// # Errors
    /// What the kernel refused; older ones know no frames in pieces.
    pub fn judge_in_pieces(&mut self, frame: &[u8], first: u32) -> Result<Answer, Error> {
        // include/uapi/linux/bpf.h, struct xdp_md: data, data_end, data_meta and three numbers of interfaces and queues.
        let context = [0, first, 0, 0, 0, 0].map(u32::to_ne_bytes);
        self.run(frame, Some(context.as_flattened()))
    }

    fn run(&mut self, frame: &[u8], context: Option<&[u8]>) -> Result<Answer, Error> {
        let program: &mut Xdp = load::loaded(&mut self.ebpf, "check")?;
        program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                ctx_in: context,
                ..TestRunOptions::default()
            })
            .map_err(|error| Error::kernel("the kernel does not run the program", &error))?;
        let answer = self
            .answer
            .get(&0)
            .map_err(|error| Error::io("can't read the answer", &error))?;
        Ok(answer.unwrap_or_default())
    }
}
