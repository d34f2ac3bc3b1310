//! What packets say in SIP. Every text that is read stands in the packet, and comes out harmless; what is cut off says nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipguard::sip::{self, MOST, Summary};
use sipguard_lists::said::Said;

fn texts(summary: &Summary) -> [&Option<String>; 5] {
    let Summary {
        method,
        user,
        from,
        user_agent,
        call_id,
        ..
    } = summary;
    [method, user, from, user_agent, call_id]
}

fuzz_target!(|payload: &[u8]| {
    let Some(summary) = sip::read(payload) else {
        return;
    };
    let there = String::from_utf8_lossy(&payload[..payload.len().min(MOST)]).into_owned();
    for text in texts(&summary).into_iter().flatten() {
        assert!(there.contains(text.as_str()), "{text:?}");
        let said = Said(text).to_string();
        assert!(
            said.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{said:?}"
        );
    }
    if let Some(cut) = sip::read(&payload[..payload.len() / 2]) {
        for (part, whole) in texts(&cut).into_iter().zip(texts(&summary)) {
            assert!(part.is_none() || part == whole, "{part:?} {whole:?}");
        }
    }
});
