//! What `check` and the program's test runs answer is what real packets get: through veth pairs with sipguard attached, native and
//! at TC ingress, whole and in pieces.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::net::{RecvFlags, netdevice::name_to_index, recv};
use sipguard::{
    datapath::{self, Checker, Counts, Description},
    host, kernel,
    lifecycle::{self, Options},
};
use sipguard_ebpf::abi::{Action, COUNTERS, Counter, LinkKind, NO_SERVICE, Reason};
use sipguard_tests::{
    compiled::Compiled,
    frame::eth,
    netns::{Host, sandbox, stay_on_this_cpu},
    scene::{PROVIDER, SCANNER, Scene, bind},
    verdict_table::{Config, Expected, Row, rows},
};

/// The shortest frame that an Ethernet device sends, and that the kernel runs a program on.
const SHORTEST: usize = 14;

fn apply(scene: &Scene) -> u64 {
    let applied = scene
        .gateway
        .enter(|| lifecycle::apply(&host::Host::system(), &scene.config(), Options::default()));
    let applied = applied.unwrap_or_else(|error| panic!("apply: {error}"));
    applied.generation.expect("an interface is configured")
}

fn counts() -> Counts {
    let counts = datapath::counts("eth0").expect("counters can be read");
    counts.expect("the interface has counters")
}

/// What has been counted since `before`: service, reason, packets and bytes.
fn counted_since(before: &Counts) -> Vec<(u8, Reason, Counter)> {
    let now = counts();
    // What is no business of ours must not pay for being counted.
    let reasons = || Reason::COUNTED.into_iter().chain([Reason::None]);
    let places =
        (0..=NO_SERVICE).flat_map(|service| reasons().map(move |reason| (service, reason)));
    places
        .filter_map(|(service, reason)| {
            let (old, new) = (before.of(service, reason), now.of(service, reason));
            let counter = Counter {
                packets: new.packets - old.packets,
                bytes: new.bytes - old.bytes,
            };
            (counter != Counter::default()).then_some((service, reason, counter))
        })
        .collect()
}

/// The number that counts for the service of a verdict.
fn slot(description: &Description, expected: &Expected) -> u8 {
    expected.service.map_or(NO_SERVICE, |name| {
        description
            .service(name)
            .expect("a service of the policy")
            .slot
    })
}

#[test]
fn every_row_is_judged_as_the_real_packet_is_native() {
    every_row("native");
}

#[test]
fn every_row_is_judged_as_the_real_packet_is_at_tc_ingress() {
    every_row("tc");
}

fn every_row(mode: &str) {
    sandbox(|sandbox| {
        stay_on_this_cpu();
        let scene = Scene::new(sandbox, &["eth0"]);
        let longest = long_frames(&scene, mode);
        let mut taps = BTreeMap::new();
        for config in Config::FILES {
            let text = config.text();
            scene.configure(&format!(
                "interface = [{{ name = \"eth0\", mode = \"{mode}\" }}]\n{text}"
            ));
            let generation = apply(&scene);
            let mut checker = Checker::over(generation, LinkKind::Ethernet).expect("a checker");
            let description = checker.generation.description.clone();
            let mut sent = 0;
            for row in rows() {
                if row.config != config
                    || row.link != LinkKind::Ethernet
                    || !(SHORTEST..=longest).contains(&row.frame.len())
                {
                    continue;
                }
                sent += 1;
                let Row {
                    name,
                    frame,
                    expected,
                    ..
                } = &row;
                let before = counts();
                let answer = checker.judge(frame).expect("the kernel answers");
                let service = slot(&description, expected);
                assert_eq!(
                    (answer.reason, answer.service),
                    (expected.reason as u8, service),
                    "{name}: the checker"
                );
                assert_eq!(counted_since(&before), [], "{name}: the checker counts");

                let tap = taps.entry(handed_on_as(frame));
                let tap = tap.or_insert_with_key(|&kind| Tap::new(&scene.gateway, "eth0", kind));
                tap.drain(frame);
                scene.wire("eth0").send(frame);
                scene.settle("eth0");
                let passed = tap.drain(frame);
                let packet = Counter {
                    packets: 1,
                    bytes: frame.len() as u64,
                };
                let wanted = match expected.reason {
                    Reason::None => vec![],
                    // Before TC, too.
                    _ if mode == "tc" && cut_in_a_tag(frame) => vec![],
                    reason => vec![(service, reason, packet)],
                };
                assert_eq!(counted_since(&before), wanted, "{name}: counted");
                assert_eq!(
                    passed,
                    usize::from(expected.action == Action::Pass && !cut_in_a_tag(frame)),
                    "{name}: seen behind the filter: {frame:02x?}"
                );
            }
            assert!(sent > 20, "{config:?} has rows");
        }
    });
}

/// Linux itself drops such a frame before anybody sees it (`skb_vlan_untag` in net/core/skbuff.c).
fn cut_in_a_tag(frame: &[u8]) -> bool {
    frame.len() < 20 && matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
}

/// Some rows are longer than Ethernet's 1,500 bytes, by far. Returns how long a frame may be now.
fn long_frames(scene: &Scene, mode: &str) -> usize {
    let mut mtu = 17_000;
    if mode == "native" && !kernel::at_least(5, 18) {
        mtu = 3_000;
        println!("not on this kernel: native XDP on frames longer than a page (5.18)");
    }
    for host in [&scene.gateway, &scene.outside] {
        host.ip(&format!("link set eth0 mtu {mtu}"));
    }
    mtu + SHORTEST
}

/// The protocol by which the kernel hands a frame on, in host byte order: behind the outer tag, which it takes off, and for an 802.3 frame one
/// of its own numbers (`eth_type_trans` in net/ethernet/eth.c).
fn handed_on_as(frame: &[u8]) -> u16 {
    let kind = |at: usize| {
        let bytes = frame.get(at..at + 2);
        bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let kind = match kind(12) {
        0x8100 | 0x88a8 => kind(16),
        kind => kind,
    };
    match kind {
        0x0600.. => kind,
        _ => 0x0004,
    }
}

/// Sees what comes in on an interface and is handed on, behind all filters.
struct Tap {
    socket: OwnedFd,
}

impl Tap {
    fn new(host: &Host, interface: &str, kind: u16) -> Self {
        let socket = host.enter(|| {
            let protocol = i32::from(kind.to_be());
            // SAFETY: takes numbers only.
            let socket = unsafe {
                libc::socket(
                    libc::AF_PACKET,
                    libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                    protocol,
                )
            };
            assert!(socket >= 0, "a packet socket");
            // SAFETY: the kernel has just made it, for nobody else.
            unsafe { OwnedFd::from_raw_fd(socket) }
        });
        let index = host.enter(|| name_to_index(&socket, interface));
        let address = libc::sockaddr_ll {
            sll_family: 17, // AF_PACKET, which libc has as a wider type
            sll_protocol: kind.to_be(),
            sll_ifindex: i32::try_from(index.expect("the interface is there")).expect("small"),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = libc::socklen_t::try_from(size_of_val(&address)).expect("twenty bytes");
        // SAFETY: the pointer is to an address of the size that is said, and the kernel only reads it.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        assert_eq!(bound, 0, "the packet socket can be bound");
        Self { socket }
    }

    /// Reads everything there is; says how often `frame` was among it. The kernel takes the outer VLAN tag away before it shows
    /// a frame, so that only the addresses and what is behind a tag are compared.
    fn drain(&self, frame: &[u8]) -> usize {
        let mut buffer = vec![0; 65_536];
        let mut seen = 0;
        while let Ok((length, _)) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            let found = &buffer[..length];
            let same = found == frame
                || (length + 4 == frame.len()
                    && found[..12] == frame[..12]
                    && found[12..] == frame[16..]);
            seen += usize::from(same);
        }
        seen
    }
}

/// A driver may hand over a frame whose headers are not all in the piece that can be read directly.
#[test]
fn headers_behind_the_first_piece() {
    for config in Config::ALL {
        let compiled = config.compiled();
        for link in [LinkKind::Ethernet, LinkKind::Ip] {
            let mut loaded = compiled.loaded(link);
            let rows = rows()
                .into_iter()
                .filter(|row| row.config == config && row.link == link);
            for row in rows {
                let whole = loaded.judge(&row.frame);
                for first in SHORTEST..row.frame.len() {
                    assert_eq!(
                        loaded.judge_in_pieces(&row.frame, first),
                        whole,
                        "{} in pieces of {first} and {} bytes",
                        row.name,
                        row.frame.len() - first
                    );
                }
            }
        }
    }
}

/// What the table has no row for: ports that must never be lost, SSH's first of all.
#[test]
fn ssh_behind_the_first_piece() {
    let compiled: Compiled = Config::Usual.compiled();
    let mut loaded = compiled.loaded(LinkKind::Ethernet);
    for source in [SCANNER, "2001:db8:ffff::7"] {
        let begin = || eth().vlan(7).service_tag(8).ip(source);
        for (frame, dropped) in [
            (begin().tcp(22), false),
            (begin().udp(22), false),
            (begin().tcp(5060), true),
            (begin().udp(5060), true),
        ] {
            let frame = frame.payload(&[0; 700]).bytes();
            for first in SHORTEST..frame.len() {
                let verdict = loaded.judge_in_pieces(&frame, first);
                assert_eq!(verdict.action == Action::Drop, dropped, "{source} {first}");
            }
        }
    }
}

#[test]
fn jumbo_frames() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.gateway.ip("link set eth0 mtu 9000");
        scene.outside.ip("link set eth0 mtu 9000");
        // A real stack outside, too: its packets are in pieces from the beginning.
        scene
            .outside
            .ip(&format!("address add {PROVIDER}/32 dev lo"));
        scene
            .outside
            .ip(&format!("address add {SCANNER}/32 dev lo"));
        scene.outside.ip("route add 192.0.2.1/32 dev eth0");
        scene
            .gateway
            .ip(&format!("route add {PROVIDER}/32 dev eth0"));
        scene
            .gateway
            .ip(&format!("route add {SCANNER}/32 dev eth0"));
        scene.configure(&format!(
            "interface = [{{ name = \"eth0\", mode = \"native\" }}]\n\
             [sources]\nproviders = [\"{PROVIDER}\"]\n\
             [services.sip]\nudp = [5060]\nallow = [\"providers\"]\n"
        ));
        apply(&scene);
        let receive = |port| {
            let socket = scene.gateway.enter(|| bind(port));
            let patience = Some(Duration::from_secs(20));
            socket.set_read_timeout(patience).expect("a timeout");
            socket
        };
        let (sip, rtp) = (receive(5060), receive(16_384));
        let text = |byte| vec![byte; 8000];
        let before = counts();
        let send = |source: &str, port: u16, byte| {
            let socket = scene
                .outside
                .enter(|| UdpSocket::bind((source, 0)).expect("a socket"));
            let to: SocketAddr = ([192, 0, 2, 1], port).into();
            assert_eq!(socket.send_to(&text(byte), to).expect("sent"), 8000);
        };
        send(SCANNER, 5060, b'a');
        send(SCANNER, 16_384, b'b');
        send(PROVIDER, 5060, b'c');
        let frame = |source| scene.frame("eth0", source).udp(5060);
        scene
            .wire("eth0")
            .send(&frame(SCANNER).payload(&text(b'd')).bytes());
        scene
            .wire("eth0")
            .send(&frame(PROVIDER).payload(&text(b'e')).bytes());
        scene.settle("eth0");
        let mut buffer = vec![0; 10_000];
        for (socket, wanted) in [(&rtp, b'b'), (&sip, b'c'), (&sip, b'e')] {
            let length = socket.recv(&mut buffer).expect("a datagram");
            assert_eq!(buffer[..length], text(wanted), "{}", char::from(buffer[0]));
        }
        for socket in [sip, rtp] {
            socket.set_nonblocking(true).expect("an option of sockets");
            assert!(socket.recv(&mut buffer).is_err(), "another datagram");
        }
        let two = Counter {
            packets: 2,
            bytes: 2 * (14 + 20 + 8 + 8000),
        };
        let slot = 0;
        assert_eq!(
            counted_since(&before),
            [(slot, Reason::Allowed, two), (slot, Reason::Unlisted, two)]
        );
    });
}

/// The first piece is counted as the whole frame where the packet ends in it; where it goes on, the frame's length is asked for.
#[test]
fn bytes_of_frames_in_several_pieces() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        long_frames(&scene, "native");
        scene.configure(
            "interface = [{ name = \"eth0\", mode = \"native\" }]\n[services.sip]\nudp = [5060]\n",
        );
        apply(&scene);
        let frame = scene.frame("eth0", SCANNER).udp(5060);
        let shortest = frame.bytes().len();
        let frame = frame.payload(&[0; 8000]);
        let whole = frame.bytes().len();
        // What is behind the packet is padding.
        let counted = |end: usize| {
            let length = u16::try_from(end - SHORTEST).expect("fits a packet");
            let padded = frame.clone().patch(SHORTEST + 2, &length.to_be_bytes());
            let before = counts();
            scene.wire("eth0").send(&padded.bytes());
            scene.settle("eth0");
            let counted = counted_since(&before);
            let [(_, Reason::Unlisted, Counter { packets: 1, bytes })] = counted[..] else {
                panic!("counted {counted:?}");
            };
            usize::try_from(bytes).expect("a short frame")
        };
        let first = counted(shortest);
        assert!((shortest + 1..whole).contains(&first), "{first} of {whole}");
        assert_eq!(counted(first), first);
        assert_eq!(counted(first + 1), whole);
        assert_eq!(counted(whole), whole);
    });
}

#[test]
fn counters_equal_what_was_sent() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        long_frames(&scene, "auto");
        scene.configure(&format!(
            "interfaces = [\"eth0\"]\n{}",
            Config::Usual.text()
        ));
        let generation = apply(&scene);
        let checker = Checker::over(generation, LinkKind::Ethernet).expect("a checker");
        let description = checker.generation.description.clone();
        let before = counts();
        let mut wanted = vec![Counter::default(); COUNTERS];
        // Without frames in several pieces, those of this length are judged at TC ingress only.
        let native = kernel::at_least(5, 18);
        let rows: Vec<_> = rows()
            .into_iter()
            .filter(|row| {
                row.config == Config::Usual
                    && row.link == LinkKind::Ethernet
                    && row.frame.len() >= SHORTEST
                    && (native || !cut_in_a_tag(&row.frame))
            })
            .collect();
        for turn in 0..40 {
            for (number, row) in rows.iter().enumerate() {
                // Not everything equally often.
                if (number + turn) % 3 == 0 {
                    continue;
                }
                scene.wire("eth0").send(&row.frame);
                let service = slot(&description, &row.expected);
                let place = sipguard_ebpf::abi::counter(service, row.expected.reason);
                wanted[place as usize].packets += 1;
                wanted[place as usize].bytes += row.frame.len() as u64;
                if number % 64 == 0 {
                    // A veth's ring has room for 256 frames.
                    scene.settle("eth0");
                }
            }
        }
        scene.settle("eth0");
        for (service, reason, counter) in counted_since(&before) {
            let place = sipguard_ebpf::abi::counter(service, reason) as usize;
            assert_eq!(counter, wanted[place], "{service} {reason:?}");
            wanted[place] = Counter::default();
        }
        for (place, wanted) in wanted.iter().enumerate() {
            let reason = place % sipguard_ebpf::abi::REASONS;
            if reason != Reason::None as usize {
                assert_eq!(*wanted, Counter::default(), "not counted at {place}");
            }
        }
        assert!(Path::new("/sys/fs/bpf/sipguard").exists());
    });
}
