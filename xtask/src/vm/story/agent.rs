//! The agent: killed, it comes back; and a provider who is not listed any more, and calls, is told of with the command that lets him in.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{config, reach};
use crate::vm::{
    gateway::Gateway,
    network::{GATEWAY, PROVIDER},
    probe::{self, Answer, Protocol},
};

/// How long an alarm may take, on a machine of software.
const SOON: Duration = Duration::from_mins(2);

/// Its end is no end.
pub(super) fn killed(gateway: &Gateway<'_>) -> Result<String> {
    gateway.run(
        "systemctl kill --signal=KILL sipguard-agent\n\
         tries=0\n\
         until systemctl show --property=NRestarts sipguard-agent | grep -q '=[1-9]' && systemctl is-active --quiet sipguard-agent; do\n\
         tries=$((tries + 1)); [ $tries -lt 600 ] || { systemctl status sipguard-agent; exit 1; }\n\
         sleep 0.1\n\
         done",
    )?;
    reach::as_guarded(gateway)
}

/// The provider's addresses are taken out of the config, and he calls all the same.
pub(super) fn moved(gateway: &Gateway<'_>) -> Result<String> {
    let [four, _] = PROVIDER.addresses;
    let [to, _] = GATEWAY.addresses;
    gateway.put(&config::without_providers())?;
    // The agent has told of him before, when his name led elsewhere.
    let began = gateway.run("systemctl reload sipguard; date +%s")?;
    let began = began.trim();
    let started = Instant::now();
    let told = loop {
        let answer = probe::ask(Protocol::Udp, four, (to, 5060).into(), probe::SOON)?;
        ensure!(answer == Answer::Nothing, "he is let in");
        let told = gateway.run(&format!(
            "journalctl --quiet --output=cat --since=@{began} -t sipguard SIPGUARD_HAPPENED=provider_moved"
        ))?;
        let of_this = |line: &&str| line.contains(&four.to_string());
        if let Some(told) = told.lines().find(of_this) {
            break told.to_owned();
        }
        ensure!(started.elapsed() < SOON, "nobody says that he knocks");
    };
    let took = started.elapsed().as_secs_f64();
    ensure!(
        told.contains("providers seems to have moved") && told.contains("with OPTIONS"),
        "it is told: {told}"
    );
    let mend = told.split('`').nth(1).context("no command is told")?;
    gateway.run(mend)?;
    let answer = probe::ask(Protocol::Udp, four, (to, 5060).into(), probe::PATIENCE)?;
    ensure!(answer == Answer::Reply, "{mend} does not let him in");
    gateway.put(&config::good())?;
    gateway.run(&format!(
        "sipguard remove {four}; systemctl reload sipguard"
    ))?;
    reach::as_guarded(gateway)?;
    Ok(format!(
        "told {took:.1} s after he called first, and let in by the command that was told"
    ))
}
