//! Drivers that are known to take a native XDP program and not to run it as they should. What is not known here, the proof finds
//! (`datapath/proof.rs`).

use std::{fs, path::Path};

use super::Device;
use crate::kernel;

/// What can be known of the hardware behind an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// The driver's name, as `ethtool -i` has it.
    pub name: String,
    /// What a virtio device and its driver have agreed on, a bit a feature (virtio 1.2, section 5.1.3).
    virtio: u64,
}

impl Driver {
    /// That of an interface; `None` where there is no hardware behind it, and in a network namespace whose `/sys` is another one's.
    #[must_use]
    pub fn of(device: &Device) -> Option<Self> {
        let folder = Path::new("/sys/class/net").join(&device.name);
        let index = fs::read_to_string(folder.join("ifindex")).ok()?;
        if index.trim().parse() != Ok(device.index) {
            return None;
        }
        let driver = fs::read_link(folder.join("device/driver")).ok()?;
        let features = fs::read_to_string(folder.join("device/features")).unwrap_or_default();
        Some(Self {
            name: driver.file_name()?.to_string_lossy().into_owned(),
            virtio: bits(&features),
        })
    }
}

/// The kernel writes the lowest bit first (`features_show` in drivers/virtio/virtio.c).
fn bits(text: &str) -> u64 {
    let set = (0..64).zip(text.trim().bytes());
    set.filter(|&(_, digit)| digit == b'1')
        .fold(0, |bits, (place, _)| bits | 1 << place)
}

/// Features of virtio_net: virtio 1.2, section 5.1.3.
const MERGEABLE_BUFFERS: u64 = 1 << 15;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const GUEST_ECN: u64 = 1 << 9;
const GUEST_UFO: u64 = 1 << 10;

/// The largest MTU at which virtio_net loses no frame in native XDP before Linux 6.3: a page, less the room around a frame in it (256 and 320
/// bytes), its own header (12), an Ethernet header and two tags (`xdp_linearize_page` in drivers/net/virtio_net.c; 6.1.176).
const VIRTIO_ONE_PAGE: u32 = 3486;
/// The largest MTU at which it takes a program, or lets one go; at those in between it loses frames (`virtnet_xdp_set`; 6.1.176).
const VIRTIO_TAKES: u32 = 4063;

/// A driver that native XDP is no use on.
struct Known {
    driver: &'static str,
    /// Whether it is so for this interface, on this kernel.
    applies: fn(&Driver, &Device) -> bool,
    /// What happens there; begins with the driver.
    what: &'static str,
}

/// Each row was seen, on the kernels that it names.
const KNOWN: &[Known] = &[
    // 6.12.95, 7.2.13. Whatever the kernel's version, for distributions take drivers into older kernels.
    Known {
        driver: "vmxnet3",
        applies: |_, _| true,
        what: "vmxnet3 has no native XDP before Linux 6.6, and later forgets its program whenever the interface goes down or its MTU or rings change",
    },
    // 6.1.176, 6.12.95, 7.2.13: buffers for large packets are received by a path that runs no program (`receive_big`).
    Known {
        driver: "virtio_net",
        applies: |driver, _| {
            driver.virtio & MERGEABLE_BUFFERS == 0
                && driver.virtio & (GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_UFO) != 0
        },
        what: "virtio_net without mergeable receive buffers takes a program and never runs it (on the host: mrg_rxbuf=on, or guest_tso4, \
               guest_tso6, guest_ecn and guest_ufo off)",
    },
    // 6.1.176.
    Known {
        driver: "virtio_net",
        applies: |_, device| !kernel::at_least(6, 3) && device.mtu > VIRTIO_ONE_PAGE,
        what: "virtio_net before Linux 6.3 loses frames of more than a page in native XDP",
    },
];

/// Whether the driver would go on running a native program that is taken away: then taking it away must wait.
///
/// virtio_net before Linux 6.3 asks for the MTU whatever it is to do (`virtnet_xdp_set`), and the kernel does not look at its answer.
#[must_use]
pub fn holds_on(device: &Device) -> bool {
    !kernel::at_least(6, 3)
        && device.mtu > VIRTIO_TAKES
        && Driver::of(device).is_some_and(|driver| driver.name == "virtio_net")
}

/// The largest MTU at which an interface's driver takes a native program that does not read frames in pieces; as far as it is known.
#[must_use]
pub fn largest_mtu(device: &Device) -> u32 {
    /// What every driver with native XDP takes.
    const ANY: u32 = 1500;
    let name = Driver::of(device).map(|driver| driver.name);
    match name.as_deref() {
        Some("virtio_net") => VIRTIO_ONE_PAGE,
        // Two frames a page (`igb_xdp_setup` in drivers/net/ethernet/intel/igb/igb_main.c); 6.12.95.
        Some("igb") => 3046,
        _ => ANY,
    }
}

/// How long an interface receives nothing while its driver takes a first program, or lets the last one go, in words; `None` where it was not
/// seen to matter (6.1.176, 6.12.95).
#[must_use]
pub fn silence(device: &Device) -> Option<&'static str> {
    let driver = Driver::of(device)?;
    match driver.name.as_str() {
        // It takes the link down and up again.
        "igb" => Some("about two seconds"),
        // Less than a twentieth of a second.
        "virtio_net" => None,
        // Many set their queues up anew.
        _ => Some("a moment"),
    }
}

/// Whether only the hypervisor can turn the offloads off that keep a virtio_net interface from native XDP: without this feature the guest
/// has no say (virtio 1.2, section 5.1.3, `VIRTIO_NET_F_CTRL_GUEST_OFFLOADS`).
#[must_use]
pub fn offloads_are_the_hypervisors(device: &Device) -> bool {
    const CONTROL: u64 = 1 << 2;
    Driver::of(device)
        .is_some_and(|driver| driver.name == "virtio_net" && driver.virtio & CONTROL == 0)
}

/// Why native XDP is not to be used on an interface though its driver takes a program; `None` where nothing is known against it.
#[must_use]
pub fn unsafe_natively(device: &Device) -> Option<&'static str> {
    let driver = Driver::of(device)?;
    reason(&driver, device)
}

fn reason(driver: &Driver, device: &Device) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|known| known.driver == driver.name && (known.applies)(driver, device))
        .map(|known| known.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(mtu: u32) -> Device {
        Device {
            mtu,
            ..Device::plain(1, "eth0")
        }
    }

    fn driver(name: &str, virtio: u64) -> Driver {
        Driver {
            name: name.to_owned(),
            virtio,
        }
    }

    #[test]
    fn features_are_written_lowest_first() {
        assert_eq!(bits("0110\n"), 0b0110);
        assert_eq!(bits(""), 0);
    }

    #[test]
    fn what_is_known_of_drivers() {
        let known = |driver: &Driver| reason(driver, &device(1500)).is_some();
        assert!(known(&driver("vmxnet3", 0)));
        assert!(!known(&driver("igb", 0)));
        assert!(!known(&driver(
            "virtio_net",
            MERGEABLE_BUFFERS | GUEST_TSO4
        )));
        assert!(known(&driver("virtio_net", GUEST_TSO6)));
        // Small buffers, which programs run on.
        assert!(!known(&driver("virtio_net", 0)));
    }

    #[test]
    fn jumbo_frames_of_virtio_net_are_lost_on_old_kernels() {
        let virtio = driver("virtio_net", MERGEABLE_BUFFERS | GUEST_TSO4);
        let known = |mtu| reason(&virtio, &device(mtu)).is_some();
        assert!(!known(VIRTIO_ONE_PAGE));
        assert_eq!(known(VIRTIO_ONE_PAGE + 1), !kernel::at_least(6, 3));
    }
}
