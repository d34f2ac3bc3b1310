//! What holds for every kind of interface that sipguard attaches to, and for those that it refuses.

use sipguard::datapath;
use sipguard_ebpf::abi::{Counter, NO_SERVICE, Reason};

use crate::{
    netns::Finished,
    scene::{PROVIDER, SCANNER, Scene},
};

/// A source that is listed and one that is not.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    listed: &'static str,
    unlisted: &'static str,
}

/// Those of IPv4.
pub const V4: Family = Family {
    listed: PROVIDER,
    unlisted: SCANNER,
};
/// Those of IPv6.
pub const V6: Family = Family {
    listed: "2001:db8:100::5",
    unlisted: "2001:db8:ffff::7",
};
/// Both.
pub const FAMILIES: [Family; 2] = [V4, V6];

/// Guarded, and not guarded.
const SIP: u16 = 5060;
const RTP: u16 = 16_384;

/// A policy for UDP and TCP to port 5060 on these interfaces, in order.
#[must_use]
pub fn policy(interfaces: &[&str]) -> String {
    let [v4, v6] = FAMILIES.map(|family| family.listed);
    format!(
        "interfaces = {interfaces:?}\n[sources]\nproviders = [\"{v4}\", \"{v6}\"]\n\
         [services.sip]\nudp = [{SIP}]\ntcp = [{SIP}]\nallow = [\"providers\"]\n"
    )
}

impl Scene {
    /// Puts a policy in force on these interfaces and returns what `apply` prints.
    pub fn guard(&self, interfaces: &[&str]) -> String {
        self.configure(&policy(interfaces));
        self.sipguard(["apply"]).succeeded().stdout
    }

    /// A policy on this interface alone is refused, in one line with all of these words, and nothing is attached.
    pub fn refuses(&self, interface: &str, words: &[&str]) {
        self.configure(&policy(&[interface]));
        let refused = self.sipguard(["apply"]).exited(1);
        one_line(&refused, words);
        let status = self.sipguard(["status"]).succeeded().stdout;
        assert!(status.contains("nothing is in force"), "{status}");
    }

    /// Guards an interface, and sees with packets that come in there that it is: sipguard attaches as `mode` says; what is not listed is
    /// dropped, what is listed and what goes to an unguarded port arrives, all of it is counted once; and when it is let go,
    /// everything arrives again.
    pub fn is_guarded(&self, interface: &str, mode: &str) {
        self.is_guarded_in(&FAMILIES, interface, mode);
    }

    /// The same for an interface that only some families come in by; IPv4 is one of them.
    pub fn is_guarded_in(&self, families: &[Family], interface: &str, mode: &str) {
        for Family { unlisted, .. } in families {
            let source = unlisted;
            let arrives = self.passes(interface, source, SIP);
            assert!(
                arrives,
                "{source} by {interface} before anything is guarded"
            );
        }
        let said = self.guard(&[interface]);
        let first = said.lines().next().unwrap_or_default();
        assert_eq!(first, format!("{interface}: {mode}"));
        self.judges(families, interface);
        self.sipguard(["down"]).succeeded();
        assert!(
            self.passes(interface, SCANNER, SIP),
            "{interface} is let go"
        );
    }

    /// What [`Self::is_guarded`] sees while an interface is guarded.
    pub fn judges(&self, families: &[Family], interface: &str) {
        let before = count(interface);
        for Family { listed, unlisted } in families {
            let source = unlisted;
            let arrives = self.passes(interface, source, SIP);
            assert!(!arrives, "unlisted {source} by {interface}");
            let arrives = self.passes(interface, source, RTP);
            assert!(arrives, "{source} by {interface} to an unguarded port");
            let syn = self.frame(interface, source).tcp(SIP);
            self.wire(interface).send(&syn.bytes());
            let arrives = self.passes(interface, listed, SIP);
            assert!(arrives, "listed {listed} by {interface}");
        }
        let later = self.frame(interface, SCANNER).fragment(9, false).udp(SIP);
        self.wire(interface).send(&later.bytes());
        self.settle(interface);
        let after = count(interface);
        let counted = [0, 1, 2].map(|number| after[number] - before[number]);
        let each = u64::try_from(families.len()).expect("two");
        assert_eq!(
            counted,
            [2 * each, each, 1],
            "unlisted, allowed, fragments by {interface}"
        );
    }
}

/// Packets of unlisted sources, of listed ones, and later fragments.
fn count(interface: &str) -> [u64; 3] {
    let counts = datapath::counts(interface).expect("counters can be read");
    let counts = counts.expect("the interface has counters");
    [
        (0, Reason::Unlisted),
        (0, Reason::Allowed),
        (NO_SERVICE, Reason::Fragment),
    ]
    .map(|(service, reason)| {
        let Counter { packets, .. } = counts.of(service, reason);
        packets
    })
}

/// Fails unless a command said one line to its standard error, with all of these words.
pub fn one_line(finished: &Finished, words: &[&str]) {
    let said = &finished.stderr;
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
}
