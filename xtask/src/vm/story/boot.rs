//! What is filtered while the gateway boots, and as soon as an interface appears.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::reach;
use crate::vm::{
    gateway::{Gateway, PAUSE},
    network::{GATEWAY, INTERFACE, PROVIDER, SCANNER},
    probe::{self, Answer, Protocol},
    traffic,
};

/// How long a listed source waits for one answer while nothing answers yet.
const KNOCK: Duration = Duration::from_millis(100);
/// How long after sshd the gateway's listener may come up.
const LIMIT: Duration = Duration::from_mins(2);

/// An interface that the config names and that was not there at boot.
pub(super) fn late(gateway: &Gateway<'_>) -> Result<String> {
    let found = gateway.run(
        "sed -i.kept 's/^interfaces = \\[/&\"late0\", /' /etc/sipguard/sipguard.toml\n\
         sipguard -q apply\n\
         ip link add late0 type veth peer name late1\n\
         begun=$(date +%s%N)\n\
         tries=0\n\
         until ip -details link show late0 | grep -q prog/xdp; do\n\
         tries=$((tries + 1)); [ $tries -lt 600 ] || { echo late0 is not guarded; exit 1; }\n\
         sleep 0.1\n\
         done\n\
         echo $((($(date +%s%N) - begun) / 1000000))\n\
         ip link delete late0\n\
         mv /etc/sipguard/sipguard.toml.kept /etc/sipguard/sipguard.toml\n\
         sipguard -q apply",
    )?;
    Ok(format!("{} ms after it was there", found.trim()))
}

/// Reboots, with everybody asking from the first moment on.
pub(super) fn again(gateway: &mut Gateway<'_>) -> Result<String> {
    reboot(gateway, Gateway::switch_on)
}

/// Reboots without a cable, which is put in when sshd runs: what was known before is filtered by until then, and from then on.
pub(super) fn unplugged(gateway: &mut Gateway<'_>) -> Result<String> {
    let found = reboot(gateway, Gateway::switch_on_unplugged)?;
    let plugged = gateway.run(&format!(
        "journalctl --boot --output short-monotonic --unit systemd-networkd --grep '{INTERFACE}: Gained carrier' | sed -n 's/^\\[ *//; s/\\].*//p'\n\
         systemctl show --value --property ActiveEnterTimestampMonotonic ssh"
    ))?;
    let times = plugged.split_whitespace().map(str::parse);
    let times = times.collect::<Result<Vec<f64>, _>>();
    let Ok(&[cable, sshd]) = times.as_deref() else {
        bail!("the gateway says of its cable:\n{plugged}");
    };
    ensure!(
        sshd / 1e6 < cable,
        "the cable was in at {cable:.1} s already: {found}"
    );
    Ok(format!("{found}, cable {cable:.1} s"))
}

fn reboot<'a>(
    gateway: &mut Gateway<'a>,
    switch_on: impl FnOnce(&mut Gateway<'a>) -> Result<()>,
) -> Result<String> {
    gateway.switch_off("systemctl reboot")?;
    let parties = [(&SCANNER, KNOCK), (&PROVIDER, KNOCK)];
    let ((), [scanner, provider]) = traffic::during(parties, || {
        switch_on(gateway)?;
        gateway.until_ssh()?;
        // Long enough for the listener to be up, however slow the rest of the boot is.
        let started = Instant::now();
        let ([from, _], [to, _]) = (PROVIDER.addresses, GATEWAY.addresses);
        while probe::ask(Protocol::Tcp, from, (to, 5060).into(), probe::SOON)? != Answer::Reply {
            ensure!(
                started.elapsed() < LIMIT,
                "the gateway's listener is not back"
            );
            thread::sleep(PAUSE);
        }
        Ok(())
    })?;
    ensure!(
        scanner.arrived == 0,
        "{} of {} unlisted questions arrived during boot",
        scanner.arrived,
        scanner.asked
    );
    ensure!(
        provider.arrived > 0,
        "the listed source was not answered during boot"
    );
    reach::nobody_unlisted_was_heard(gateway)?;
    let times = Times::read(gateway)?;
    Ok(format!(
        "{} unlisted questions: nothing; {times}",
        scanner.asked
    ))
}

/// Reboots with a file that is wrong by then: what was in force before stands in, and whoever looks is told.
pub(super) fn spoiled(gateway: &mut Gateway<'_>, spoil: &str) -> Result<String> {
    gateway.run(&format!(
        "cd /etc/sipguard\n\
         cp sipguard.toml /root/sipguard.toml\n\
         echo 192.0.2.66 > blocked.txt\n\
         sed -i 's/^admins/blocked = {{ file = \"blocked.txt\" }}\\n&/; 0,/^allow/s/^allow/deny = [\"blocked\"]\\n&/' sipguard.toml\n\
         sipguard -q apply\n\
         {spoil}"
    ))?;
    let found = again(gateway)?;
    let said = gateway.run(
        "journalctl --boot --unit sipguard --output cat\n\
         sipguard status --check || true",
    )?;
    ensure!(
        // Of the first run, as in `Times::read`.
        said.contains("code=exited, status=5/")
            && said.contains("what was in force before is applied instead"),
        "nobody is told:\n{said}"
    );
    gateway.run(
        "cd /etc/sipguard\n\
         mv /root/sipguard.toml sipguard.toml\n\
         rm -f blocked.txt\n\
         systemctl restart sipguard",
    )?;
    reach::as_guarded(gateway)?;
    Ok(found)
}

/// When a boot came to what, in seconds of the kernel's clock.
struct Times {
    filter: f64,
    network: f64,
    sshd: f64,
}

impl Times {
    /// When the link was pinned, and systemd's own record; an error where the order is not the one that is promised. What systemd says of
    /// sipguard's unit is of its last run: udev runs it again for each interface that appears, where the first run has failed.
    fn read(gateway: &Gateway<'_>) -> Result<Self> {
        let said = gateway.run(&format!(
            "echo \"$(stat --format=%.9Y /sys/fs/bpf/sipguard/links/{INTERFACE}) $(date +%s.%N) $(cut -d' ' -f1 /proc/uptime)\"\n\
             systemctl show --value --property ExecMainStartTimestampMonotonic systemd-networkd\n\
             systemctl show --value --property ExecMainStartTimestampMonotonic ssh",
        ))?;
        let numbers = said
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<f64>, _>>();
        let Ok([pinned, now, since_boot, network, sshd]) = numbers.as_deref() else {
            bail!("the gateway says of the boot:\n{said}");
        };
        let times = Self {
            filter: since_boot - (now - pinned),
            network: network / 1e6,
            sshd: sshd / 1e6,
        };
        let ordered = times.filter < times.network && times.network < times.sshd;
        ensure!(ordered, "the order is wrong: {times}");
        Ok(times)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            filter,
            network,
            sshd,
        } = self;
        write!(
            f,
            "in force at {filter:.1} s, network {network:.1} s, sshd {sshd:.1} s"
        )
    }
}
