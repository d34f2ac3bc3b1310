//! The network cards that are tried, and the kernels.

use crate::kernels::matrix::{self, Kernel};

/// A card that QEMU models.
#[derive(Debug)]
pub(super) struct Card {
    /// What it is called on the command line and in the table.
    pub(super) name: &'static str,
    /// QEMU's device, with what makes this card different from an ordinary one.
    device: &'static str,
    /// Pairs of queues.
    queues: u32,
    /// The kernel's module for it.
    pub(super) module: &'static str,
    /// The first kernel whose driver runs XDP programs; none does where there is none.
    native_since: Option<(u32, u32)>,
    /// Whether the machine sleeps in its story, when those of the others are over. Once a boot: Linux 7.2.13 was seen to hang at the second time.
    pub(super) sleeps: bool,
}

impl Card {
    /// Whether its driver runs XDP programs, on a release.
    pub(super) fn runs_xdp(&self, release: &str) -> bool {
        let version = matrix::version(release);
        self.native_since
            .is_some_and(|since| version.is_some_and(|version| version >= since))
    }
}

pub(super) const CARDS: &[Card] = &[
    virtio("virtio_net", "virtio-net-pci"),
    virtio(
        "virtio_net, no mergeable buffers",
        "virtio-net-pci,mrg_rxbuf=off",
    ),
    virtio(
        "virtio_net, no offload control",
        "virtio-net-pci,ctrl_guest_offloads=off",
    ),
    virtio("virtio_net, MTU 9000", "virtio-net-pci,host_mtu=9000"),
    Card {
        native_since: Some((6, 6)),
        ..card("vmxnet3", "vmxnet3", "vmxnet3")
    },
    Card {
        native_since: Some((5, 10)),
        ..card("igb", "igb", "igb")
    },
    card("e1000e", "e1000e", "e1000e"),
    // Last, so that it does not wait for many others.
    Card {
        queues: 2,
        sleeps: true,
        ..virtio("virtio_net, two queues", "virtio-net-pci,mq=on,vectors=6")
    },
];

const fn card(name: &'static str, device: &'static str, module: &'static str) -> Card {
    Card {
        name,
        device,
        queues: 1,
        module,
        native_since: None,
        sleeps: false,
    }
}

const fn virtio(name: &'static str, device: &'static str) -> Card {
    Card {
        native_since: Some((4, 10)),
        ..card(name, device, "virtio_net")
    }
}

/// What the other end of each card's cable is plugged into.
const PEER: Card = virtio("peer", "virtio-net-pci");

/// One end of a cable: a tap of this machine's, and a card of the other's.
pub(super) struct End {
    pub(super) tap: String,
    /// In hexadecimal, as the guest's kernel has it.
    pub(super) address: String,
    card: &'static Card,
}

/// Both ends of a card's cable: the card's own, and the other one.
pub(super) fn cable(number: usize) -> [End; 2] {
    let end = |card, end: &str| End {
        tap: format!("{end}{number}"),
        address: format!("02:51:90:{:02x}:00:{number:02x}", end.as_bytes()[0]),
        card,
    };
    [end(&CARDS[number], "card"), end(&PEER, "peer")]
}

impl End {
    /// Whether the tap has several queues.
    pub(super) fn multiqueue(&self) -> bool {
        self.card.queues > 1
    }

    /// QEMU's arguments for it.
    pub(super) fn arguments(&self) -> [String; 4] {
        let Self { tap, address, card } = self;
        let queues = match card.queues {
            1 => String::new(),
            queues => format!(",queues={queues}"),
        };
        [
            "-netdev".to_owned(),
            format!("tap,id={tap},ifname={tap},script=no,downscript=no{queues}"),
            "-device".to_owned(),
            format!("{},netdev={tap},mac={address},romfile=", card.device),
        ]
    }
}

/// Those with all drivers: Debian's kernels for virtual machines leave some out.
pub(super) const KERNELS: &[Kernel] = &[
    kernel("6.1", "bookworm"),
    kernel("6.12", "trixie"),
    kernel("newest", "sid"),
];

const fn kernel(name: &'static str, suite: &'static str) -> Kernel {
    Kernel {
        name,
        suite,
        package: "linux-image-amd64",
        only: &[],
    }
}
