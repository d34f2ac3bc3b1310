//! Which kernels there are, and which tests run on each.
//!
//! A new binary of tests is one more [`Binary`]. Each of its tests runs on every kernel of its kind, unless [`EXCEPTIONS`] says why not.

use anyhow::{Result, bail};

/// A kernel of Debian's.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    pub(crate) suite: &'static str,
    pub(crate) package: &'static str,
    /// The tests that it is there for; all where none is named.
    pub(crate) only: &'static [&'static str],
}

pub(super) const KERNELS: &[Kernel] = &[
    cloud("5.10", "bullseye"),
    cloud("6.1", "bookworm"),
    cloud("6.12", "trixie"),
    cloud("newest", "sid"),
    // The kernels above are for virtual machines, which have no PPP.
    Kernel {
        name: "6.1-ppp",
        suite: "bookworm",
        package: "linux-image-amd64",
        only: &[
            "modules::ppp",
            "differential::cable",
            "differential::without_ethernet_header::ppp",
        ],
    },
];

const fn cloud(name: &'static str, suite: &'static str) -> Kernel {
    Kernel {
        name,
        suite,
        package: "linux-image-cloud-amd64",
        only: &[],
    }
}

/// Tests that are compiled into one program.
#[derive(Debug)]
pub(crate) struct Binary {
    /// As `cargo test --test` calls it.
    pub(crate) name: &'static str,
    /// Features of sipguard-tests that it needs.
    pub(crate) features: &'static [&'static str],
    /// The tests that need a kernel; all where there are none.
    pub(crate) only: &'static [&'static str],
    /// What is loaded before its first test, veth aside.
    pub(crate) modules: &'static [&'static str],
    pub(crate) environment: &'static [(&'static str, &'static str)],
}

pub(crate) const PLAIN: Binary = Binary {
    name: "",
    features: &[],
    only: &[],
    modules: &[],
    environment: &[],
};

/// Modules stay loaded, and change what the tests behind them meet: binaries that need some come last.
pub(super) const BINARIES: &[Binary] = &[
    Binary {
        name: "packet_path",
        only: &["the_program_stays_within_its_budget"],
        ..PLAIN
    },
    Binary {
        name: "verdict_table",
        only: &["rows_in_the_kernel"],
        ..PLAIN
    },
    Binary {
        name: "events",
        only: &[
            "drops_are_told_of",
            "nothing_silences_a_listener",
            "the_program_at_tc_tells_too",
            "what_is_left_out_is_counted",
            "what_is_told_of_a_frame_in_pieces_is_whole",
            "what_monitor_mode_lets_pass_is_told_of",
            "what_was_left_out_before_is_none_of_a_new_listeners",
        ],
        ..PLAIN
    },
    // Pieces of all lengths of all rows are much for one processor of software; some rows show that this kernel reads behind the first.
    Binary {
        name: "live",
        only: &[
            "bytes_of_frames_in_several_pieces",
            "counters_equal_what_was_sent",
            "every_row_is_judged_as_the_real_packet_is_at_tc_ingress",
            "every_row_is_judged_as_the_real_packet_is_native",
            "jumbo_frames",
            "ssh_behind_the_first_piece",
        ],
        ..PLAIN
    },
    // What of these has to do with the kernel, and not with files and words.
    Binary {
        name: "lifecycle",
        only: &[
            "a_renamed_interface",
            "an_interface_that_is_gone_and_comes_back",
            "another_mode",
            "down_leaves_nothing_but_the_entries",
            "exchanged_names",
            "somebody_elses_program_is_named_and_left_alone",
            "without_bpffs",
        ],
        modules: &["bridge"],
        ..PLAIN
    },
    Binary {
        name: "lifecycle_swap",
        environment: &[("SIPGUARD_APPLIES", "4")],
        ..PLAIN
    },
    Binary {
        name: "confirm",
        only: &[
            "it_takes_itself_back_though_every_process_was_killed",
            "no_packet_sees_a_gap",
            "what_is_confirmed_stays",
        ],
        environment: &[("SIPGUARD_TURNS", "2")],
        ..PLAIN
    },
    Binary {
        name: "timed",
        only: &["each_ends_to_the_moment_whatever_it_nests_in"],
        ..PLAIN
    },
    Binary {
        name: "proof",
        only: &["receive_queues_that_come_later"],
        ..PLAIN
    },
    Binary {
        name: "tc",
        modules: &["tun"],
        ..PLAIN
    },
    Binary {
        name: "interfaces",
        modules: &["tun", "bridge", "macvlan", "vxlan", "ifb"],
        ..PLAIN
    },
    Binary {
        name: "orphans",
        only: &[
            "a_listed_peers_large_datagrams_arrive_beside_others",
            "sequences_in_the_kernel",
            "what_is_watched_only_arrives",
        ],
        ..PLAIN
    },
    Binary {
        name: "handed_on",
        modules: &[
            "act_mirred",
            "cls_u32",
            "sch_ingress",
            "nf_tables",
            "nft_fwd_netdev",
        ],
        ..PLAIN
    },
    Binary {
        name: "modules",
        features: &["modules"],
        modules: &[
            "8021q",
            "bonding",
            "ipvlan",
            "wireguard",
            "ipip",
            "sit",
            "ip6_tunnel",
            "ip_gre",
            "ip6_gre",
            "xfrm_interface",
            "ip_vti",
            "xfrm_user",
            "ah4",
            "ah6",
            "esp4",
            "esp6",
            "esp4_offload",
            "esp6_offload",
            "authenc",
            "ecb",
            "crypto_null",
            "mpls_router",
            "dummy",
            "vrf",
            "team",
            "netkit",
            "macsec",
            "gcm",
            "ghash_generic",
            "ctr",
            // What SCTP needs asks the crypto API for it by an alias.
            "crc32c_generic",
            "sctp",
            "pppoe",
        ],
        ..PLAIN
    },
    // All ways into a receiver, and connection tracking.
    Binary {
        name: "differential",
        features: &["modules"],
        only: &[
            "cable",
            "with_connection_tracking",
            "without_ethernet_header::gre",
            "without_ethernet_header::gre_from_anybody",
            "without_ethernet_header::gre_to_whom_each_route_says",
            "without_ethernet_header::ip6gre",
            "without_ethernet_header::ip6tnl",
            "without_ethernet_header::ipip",
            "without_ethernet_header::ppp",
            "without_ethernet_header::sit",
            "without_ethernet_header::tun",
            "without_ethernet_header::tun_with_packet_information",
            "without_ethernet_header::wireguard",
        ],
        modules: &[
            "tun",
            "ip_gre",
            "ip6_gre",
            "ipip",
            "sit",
            "ip6_tunnel",
            "wireguard",
            "8021q",
            "pppoe",
            "xfrm_user",
            "ah4",
            "ah6",
            "crypto_null",
            "sctp",
            "nf_tables",
            "nft_ct",
            "nf_conntrack",
        ],
        // More would fill the room that 5.10 has for fragments that connection tracking waits with.
        environment: &[("SIPGUARD_CASES", "4000")],
    },
];

/// What every test needs: veth pairs, and the way to TC ingress before Linux 6.6; and what others need by another name, which is not said
/// where it can be read.
pub(super) const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf", "crc32c_generic"];

/// The programs that the tests call.
pub(super) const PROGRAMS: &[&str] = &[
    "ethtool", "ip", "ls", "mount", "nft", "nsenter", "ping", "sh", "sleep", "stat", "sysctl",
    "tc", "umount", "unshare", "wg",
];

/// A test that has nothing to show on some kernels.
pub(super) struct Exception {
    /// Binary and test.
    pub(super) test: &'static str,
    pub(super) on: Kind,
    pub(super) why: &'static str,
}

/// The kernels that an exception is made for.
pub(super) enum Kind {
    /// Older ones than this.
    Before(u32, u32),
    /// This one and newer ones.
    Since(u32, u32),
    /// Those for virtual machines.
    Cloud,
}

const PIECES: &str = "before 5.18 XDP knows no frames in several pieces";

const ABOVE: &str = "before 5.15 a device that has a program keeps none from those below it";

const PANIC: &str =
    "before 5.19 the kernel panics in its own IPv6 code on this device, with or without a filter";

const QUEUES: &str = "before 5.15 a veth pair has the queues that it was made with";

const NETKIT: &str = "before 6.7 there is no netkit";

const TCX: &str = "before 6.6 TC ingress has no links, by which the other program is there";

const PPP: &str = "a kernel for virtual machines has no PPP";

pub(super) const EXCEPTIONS: &[Exception] = &[
    except("live::jumbo_frames", Kind::Before(5, 18), PIECES),
    except(
        "live::bytes_of_frames_in_several_pieces",
        Kind::Before(5, 18),
        PIECES,
    ),
    except(
        "live::ssh_behind_the_first_piece",
        Kind::Before(5, 18),
        PIECES,
    ),
    except(
        "interfaces::below_what_is_guarded",
        Kind::Before(5, 15),
        ABOVE,
    ),
    except(
        "interfaces::a_port_that_comes_back",
        Kind::Before(5, 15),
        ABOVE,
    ),
    except(
        "modules::a_port_of_a_bond_that_is_guarded",
        Kind::Before(5, 15),
        ABOVE,
    ),
    except(
        "modules::udp_lite",
        Kind::Since(7, 1),
        "Linux 7.1 has no UDP-Lite any more",
    ),
    except(
        "differential::without_ethernet_header::gre_from_anybody",
        Kind::Before(5, 19),
        PANIC,
    ),
    except(
        "differential::without_ethernet_header::gre_to_whom_each_route_says",
        Kind::Before(5, 19),
        PANIC,
    ),
    except(
        "proof::receive_queues_that_come_later",
        Kind::Before(5, 15),
        QUEUES,
    ),
    except("modules::netkit", Kind::Before(6, 7), NETKIT),
    except("handed_on::by_redirect_peer", Kind::Before(6, 6), TCX),
    except("modules::ppp", Kind::Cloud, PPP),
    except(
        "differential::without_ethernet_header::ppp",
        Kind::Cloud,
        PPP,
    ),
];

const fn except(test: &'static str, on: Kind, why: &'static str) -> Exception {
    Exception { test, on, why }
}

impl Exception {
    /// The one that is made for a test on a release, if any.
    pub(super) fn find(test: &str, release: &str) -> Option<&'static Self> {
        let mut all = EXCEPTIONS.iter().filter(|it| it.test == test);
        all.find(|exception| match exception.on {
            Kind::Before(major, minor) => version(release).is_some_and(|it| it < (major, minor)),
            Kind::Since(major, minor) => version(release).is_some_and(|it| it >= (major, minor)),
            Kind::Cloud => release.contains("cloud"),
        })
    }
}

/// Those in which the tests with these names are, in their order; all where none is named.
pub(super) fn binaries(names: &[String]) -> Result<Vec<&'static Binary>> {
    let binary = |name: &String| name.split("::").next().unwrap_or_default().to_owned();
    let wanted: Vec<String> = names.iter().map(binary).collect();
    for name in &wanted {
        if !BINARIES.iter().any(|binary| binary.name == name) {
            let names: Vec<&str> = BINARIES.iter().map(|binary| binary.name).collect();
            bail!(
                "no test {name} runs on other kernels; these do: {}",
                names.join(", ")
            );
        }
    }
    let all = BINARIES.iter();
    let is_wanted =
        |it: &&Binary| wanted.is_empty() || wanted.iter().any(|wanted| wanted == it.name);
    Ok(all.filter(is_wanted).collect())
}

/// The two numbers that a release begins with.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
