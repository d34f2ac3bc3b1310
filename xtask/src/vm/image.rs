//! The gateway's Debian: made once with debootstrap, kept in target/vm until what it is made of changes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::network;
use crate::{
    debootstrap,
    machine::{self, said},
    netns, step,
};

const RELEASE: &str = "bookworm";
/// Beside Debian's smallest system. Perl comes with that.
const PACKAGES: &str =
    "systemd-sysv,udev,openssh-server,iproute2,sudo,linux-image-cloud-amd64,initramfs-tools";
const SIZE: &str = "1500M";

const CUSTOMISE: &str = include_str!("image/customise.sh");
const LISTENER: &str = include_str!("image/listener.pl");
const LISTENER_UNIT: &str = include_str!("image/listener.service");

/// What is needed to boot the gateway and to log in on it.
pub(super) struct Image {
    folder: PathBuf,
}

impl Image {
    pub(super) fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }

    /// The administrator's private key.
    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    /// The gateway's public keys, as ssh's `known_hosts`.
    pub(super) fn known_hosts(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }
}

/// Where the image is, and what the last run left to look at.
pub(super) fn folder() -> PathBuf {
    machine::workspace().join("target/vm")
}

/// Makes the image unless it is there, and says which of both.
///
/// To be called in a sandbox: the tree is made in memory, in its mount namespace, so that nothing of it can stay.
pub(super) fn ensure(mirror: &str) -> Result<(Image, &'static str)> {
    let image = Image { folder: folder() };
    let network = network::configuration();
    let recipe = [
        RELEASE,
        PACKAGES,
        SIZE,
        CUSTOMISE,
        LISTENER,
        LISTENER_UNIT,
        &network,
    ]
    .join("\n\n");
    let written = image.folder.join("recipe");
    if fs::read_to_string(&written).is_ok_and(|it| it == recipe) {
        return Ok((image, "kept from an earlier run"));
    }
    // Until all is done, what is there is of no recipe.
    let _ = fs::remove_file(&written);

    let root = Path::new(netns::SCRATCH).join("debian");
    for folder in [&image.folder, &root] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    // The sandbox's own does without devices.
    said(
        Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&root),
    )?;
    debootstrap::make(RELEASE, PACKAGES, &root, mirror)?;
    customise(&image, &root, &network)?;
    collect(&image, &root)?;
    said(Command::new("umount").arg(&root))?;
    fs::write(&written, recipe)?;
    Ok((image, "made with debootstrap"))
}

fn customise(image: &Image, root: &Path, network: &str) -> Result<()> {
    for stale in [image.key(), image.key().with_extension("pub")] {
        let _ = fs::remove_file(stale);
    }
    said(
        Command::new("ssh-keygen")
            .args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "cargo xtask vm",
                "-f",
            ])
            .arg(image.key()),
    )?;
    let files = [
        ("usr/local/bin/listener", LISTENER),
        ("etc/systemd/system/listener.service", LISTENER_UNIT),
        ("etc/systemd/network/uplink.network", network),
        (
            "home/admin/.ssh/authorized_keys",
            &fs::read_to_string(image.key().with_extension("pub"))?,
        ),
    ];
    for (path, text) in files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let mut chroot = Command::new("chroot");
    chroot
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .arg(root)
        .args(["sh", "-ec", CUSTOMISE]);
    step::run("making it a gateway", &mut chroot, step::LIMIT)
}

/// Copies out of the tree what is kept, and the tree itself into a file system.
fn collect(image: &Image, root: &Path) -> Result<()> {
    let keys = fs::read_to_string(root.join("etc/ssh/ssh_host_ed25519_key.pub"))?;
    let addresses = network::GATEWAY.addresses.map(|it| it.to_string());
    fs::write(
        image.known_hosts(),
        format!("{} {keys}", addresses.join(",")),
    )?;
    // Debian keeps both under their versions, with links to the newest one at the top.
    fs::copy(root.join("vmlinuz"), image.kernel()).context("the kernel")?;
    fs::copy(root.join("initrd.img"), image.initrd()).context("the initramfs")?;
    let _ = fs::remove_file(image.disk());
    let mut format = Command::new("mkfs.ext4");
    format
        .args(["-q", "-F", "-L", "gateway", "-O", "^has_journal", "-d"])
        .arg(root)
        .arg(image.disk())
        .arg(SIZE);
    step::run("making its disk", &mut format, step::LIMIT)?;
    fs::set_permissions(image.key(), fs::Permissions::from_mode(0o600))?;
    Ok(())
}
