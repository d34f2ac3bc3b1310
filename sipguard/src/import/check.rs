//! Asks a config that was made the questions that it was made from. A difference is a bug of ours, which must not reach anybody's gateway.

use std::{path::Path, rc::Rc};

use jiff::Timestamp;
use sipguard_ebpf::{
    abi::Action,
    parse::Packet,
    prefix::{V4, V6},
    verdict::decide,
};

use super::{
    addresses::Family,
    services::{Answered, Judged},
};
use crate::{
    config,
    state::Slots,
    tables::{HostTables, Now, Tables},
};

/// So many addresses are asked about at every port; beyond that at one port of those that are treated alike.
const FEW: usize = 2000;

pub(super) fn ask(config: &str, answers: &[Answered]) -> Result<(), String> {
    let policy = config::parse(config, Path::new("imported.toml"))
        .map_err(|problems| problems.to_string())?;
    let mut slots = Slots::default();
    slots
        .assign(policy.services.iter().map(|service| service.name.as_str()))
        .map_err(|error| error.to_string())?;
    // No entry ends, so that it does not matter when this is.
    let now = Now {
        boot_ns: 1,
        wall: Timestamp::UNIX_EPOCH,
    };
    let tables = Tables::compile(&policy, &slots, &[], Vec::new(), now)
        .map_err(|error| error.to_string())?;
    let tables = HostTables::new(&tables, now.boot_ns);
    let mut asked: Vec<&Rc<Judged>> = Vec::new();
    for answer in answers {
        for judged in [&answer.v4, &answer.v6] {
            let again = asked.iter().any(|known| Rc::ptr_eq(known, judged));
            asked.push(judged);
            let count = if again { FEW } else { usize::MAX };
            for part in judged.parts.iter().take(count) {
                for number in [part.first, part.last] {
                    let source = match judged.family {
                        // Numbers of this family are less than 2³².
                        Family::V4 => V4(u32::try_from(number).unwrap_or(u32::MAX)).into(),
                        Family::V6 => V6::from(number).into(),
                    };
                    let packet = Packet {
                        source,
                        protocol: answer.protocol,
                        port: answer.port.to_be(),
                        last: usize::MAX,
                    };
                    let passes = decide(&packet, &tables).action() == Action::Pass;
                    if passes != part.is.passes() {
                        return Err(format!(
                            "{} at {} {}: {} instead of {}",
                            judged.family.address(number),
                            crate::policy::protocol_name(answer.protocol),
                            answer.port,
                            word(passes),
                            word(!passes)
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

const fn word(passes: bool) -> &'static str {
    if passes { "pass" } else { "drop" }
}
