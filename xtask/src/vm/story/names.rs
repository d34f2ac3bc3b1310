//! A provider who is listed by name: what changes at the name server changes here by itself, and what ends in between ends nothing here.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{boot, config, reach};
use crate::{
    netns::{Host, Process},
    vm::{
        gateway::{Gateway, PAUSE},
        network::{ADMIN, GATEWAY, PROVIDER},
        probe::{self, Answer, Protocol},
    },
};

/// How long an answer is good, in seconds: nobody is asked again sooner.
const TTL: u32 = 30;
/// How long a change may take beside that, on a machine of software.
const SOON: Duration = Duration::from_mins(2);

/// The administrator's name server.
pub(super) struct Server<'a> {
    host: &'a Host,
    running: Option<Process>,
}

impl<'a> Server<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        Self {
            host,
            running: None,
        }
    }

    /// Has the provider's name say this from now on.
    fn says(&mut self, addresses: &str) {
        // The one before has to be gone: the port is its own.
        self.running = None;
        let [address, _] = ADMIN.addresses;
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null"])
            .args(["--no-resolv", "--no-hosts", "--user=root", "--pid-file="])
            .args(["--bind-interfaces", "--local=/example/"])
            .arg(format!("--listen-address={address}"))
            .arg(format!("--host-record={},{addresses},{TTL}", config::NAME));
        self.running = Some(self.host.spawn(&mut command));
        self.host.wait_until_bound("udp", 53);
    }

    /// The name is somebody else's at first.
    pub(super) fn other(&mut self, gateway: &Gateway<'_>) -> Result<String> {
        self.says("203.0.113.99");
        gateway.put(&config::named())?;
        gateway.run("systemctl reload sipguard")?;
        let took = until_listed(gateway, "203.0.113.99")?;
        reach::every_port(&PROVIDER, probe::SOON, Answer::Nothing)?;
        Ok(format!("asked and in force {took:.1} s after the reload"))
    }

    /// And then it is the provider's.
    pub(super) fn change(&mut self, gateway: &Gateway<'_>) -> Result<String> {
        let [four, six] = PROVIDER.addresses;
        self.says(&format!("{four},{six}"));
        let started = Instant::now();
        let limit = Duration::from_secs(TTL.into()) + SOON;
        let [to, _] = GATEWAY.addresses;
        while probe::ask(Protocol::Tcp, four, (to, 5060).into(), probe::SOON)? != Answer::Reply {
            ensure!(
                started.elapsed() < limit,
                "the provider's new address is not in force"
            );
            thread::sleep(PAUSE);
        }
        let took = started.elapsed().as_secs_f64();
        until_listed(gateway, &six.to_string())?;
        reach::as_guarded(gateway)?;
        Ok(format!(
            "in force {took:.1} s later, where an answer is good for {TTL} s"
        ))
    }

    /// Where no agent runs, systemd has it put in force when there is something.
    pub(super) fn without_agent(&mut self, gateway: &Gateway<'_>) -> Result<String> {
        let [four, six] = PROVIDER.addresses;
        gateway.run("systemctl stop sipguard-agent")?;
        self.says(&format!("{four},{six},203.0.113.98"));
        until_listed(gateway, "203.0.113.98")?;
        let said = gateway.run(
            "echo $(stat --format=%.9Z /var/lib/sipguard-fetch/providers.json) $(date +%s.%N) $(cut -d' ' -f1 /proc/uptime)\n\
             systemctl show --value --property InactiveExitTimestampMonotonic sipguard-refresh\n\
             systemctl start sipguard-agent",
        )?;
        let numbers = said.split_whitespace().map(str::parse);
        let numbers = numbers.collect::<Result<Vec<f64>, _>>();
        let Ok(&[found, now, since_boot, started]) = numbers.as_deref() else {
            bail!("the gateway says of its path unit:\n{said}");
        };
        let took = started / 1e6 - (since_boot - (now - found));
        // The clocks are read one behind the other.
        ensure!(
            took > -0.1,
            "it is in force, and not by the path unit, which has not started since"
        );
        reach::as_guarded(gateway)?;
        Ok(format!("started {:.0} ms after it was found", took * 1e3))
    }

    /// Nobody answers any more, and nobody asks either for a moment.
    pub(super) fn lost(&mut self, gateway: &Gateway<'_>) -> Result<String> {
        self.running = None;
        gateway.run(
            "systemctl kill --signal=KILL sipguard-fetch\n\
             tries=0\n\
             until systemctl show --property=NRestarts sipguard-fetch | grep -q '=[1-9]'; do\n\
             tries=$((tries + 1)); [ $tries -lt 600 ] || { echo it does not come back; exit 1; }\n\
             sleep 0.1\n\
             done\n\
             systemctl is-active sipguard-fetch sipguard-refresh.path",
        )?;
        reach::as_guarded(gateway)
    }

    /// Nor does anybody after a boot, which finds no network either; then the name is gone from the config again.
    pub(super) fn reboot(gateway: &mut Gateway<'_>) -> Result<String> {
        let found = boot::unplugged(gateway)?;
        reach::as_guarded(gateway)?;
        gateway.put(&config::good())?;
        gateway.run("systemctl reload sipguard")?;
        reach::as_guarded(gateway)?;
        Ok(found)
    }
}

/// Waits until an address is in force, and says how many seconds that took.
fn until_listed(gateway: &Gateway<'_>, address: &str) -> Result<f64> {
    let started = Instant::now();
    gateway.run(&format!(
        "tries=0\n\
         until sipguard list | grep -qF '{address}'; do\n\
         tries=$((tries + 1))\n\
         [ $tries -lt 300 ] || {{ sipguard status; systemctl status 'sipguard*'; exit 1; }} >&2\n\
         sleep 0.2\n\
         done"
    ))?;
    Ok(started.elapsed().as_secs_f64())
}
