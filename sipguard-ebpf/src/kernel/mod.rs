//! The entry points. Each one judges the frame with the library's code; they differ in what they do with the verdict.

mod constants;
mod maps;
mod packet;
mod pending;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
use sipguard_ebpf::{
    abi::{Action, Answer, Reason},
    header::Family,
    verdict::judge,
};

use self::{maps::Policy, packet::Packet};

/// Filters, on kernels without multi-piece frames.
#[xdp]
fn filter(ctx: XdpContext) -> u32 {
    enforce(&Packet::<false>::new(&ctx))
}

/// Filters.
#[xdp(frags)]
fn filter_frags(ctx: XdpContext) -> u32 {
    enforce(&Packet::<true>::new(&ctx))
}

/// Answers what [`filter`] would do, and counts nothing.
#[xdp]
fn check(ctx: XdpContext) -> u32 {
    answer(&Packet::<false>::new(&ctx))
}

/// Answers what [`filter_frags`] would do, and counts nothing.
#[xdp(frags)]
fn check_frags(ctx: XdpContext) -> u32 {
    answer(&Packet::<true>::new(&ctx))
}

#[inline(always)]
fn enforce<const FRAGS: bool>(packet: &Packet<'_, FRAGS>) -> u32 {
    let (parsed, verdict) = judge(packet, &Policy);
    if verdict.reason == Reason::None {
        return XDP_PASS;
    }
    let last = parsed.map_or(usize::MAX, |parsed| parsed.last);
    maps::count(verdict, packet.len(last));
    match verdict.action() {
        Action::Drop if !constants::monitored(verdict.service) => {
            #[cfg(feature = "log")]
            aya_log_ebpf::debug!(
                packet.context(),
                "slot {} service {}: drop {}",
                constants::slot(),
                verdict.service,
                verdict.reason.name()
            );
            XDP_DROP
        }
        Action::Drop | Action::Pass => XDP_PASS,
    }
}

#[inline(always)]
fn answer<const FRAGS: bool>(packet: &Packet<'_, FRAGS>) -> u32 {
    let (parsed, verdict) = judge(packet, &Policy);
    let mut answer = Answer {
        reason: verdict.reason as u8,
        service: verdict.service,
        length: verdict.length,
        ..Answer::default()
    };
    if let Some(parsed) = parsed {
        answer.protocol = parsed.protocol as u8;
        answer.port = parsed.port;
        answer.family = match parsed.source.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        answer.source = parsed.source.words;
    }
    maps::answer(answer);
    XDP_PASS
}
