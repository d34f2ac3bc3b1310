//! What becomes of a gateway, from the first deployment to the purge. Each step begins with what the one before left.

mod agent;
mod boot;
mod config;
mod deployment;
mod names;
mod purge;
mod reach;
mod upgrade;

use std::path::Path;

use anyhow::{Result, ensure};

use super::{gateway::Gateway, image::Image, steps::Steps};
use crate::netns::Host;
use deployment::Deployer;
use names::Server;

/// Tells it on a thread in the network namespace with the cable, which is that host's.
pub(super) fn tell(
    outside: &Host,
    image: &Image,
    packages: &Path,
    steps: &mut Steps,
) -> Result<()> {
    let mut gateway = Gateway::new(image)?;
    let deployer = Deployer::new(image, packages);
    let mut names = Server::new(outside);

    steps.step("the gateway boots", || {
        gateway.switch_on()?;
        gateway.until_ssh()?;
        let kernel = gateway.run("uname -r")?;
        Ok(format!("Linux {}, sshd answers", kernel.trim()))
    })?;
    steps.step("before: the unlisted source is answered", reach::everybody)?;
    steps.step("deploy", || deployer.first(&gateway))?;
    steps.step("unlisted dropped, listed passes, SSH goes on", || {
        reach::as_guarded(&gateway)
    })?;
    steps.step("deploy again changes nothing", || deployer.again(&gateway))?;
    steps.step("stop and reload leave it in force", || {
        gateway.run("systemctl stop sipguard; systemctl start sipguard; systemctl reload sipguard; systemctl stop sipguard")?;
        reach::as_guarded(&gateway)
    })?;
    steps.step("a late interface is guarded", || boot::late(&gateway))?;
    steps.step("upgrade under traffic", || {
        upgrade::under_traffic(&gateway, packages)
    })?;
    steps.step("a bad config is refused", || deployer.refused(&gateway))?;
    steps.step("a config that cuts us off comes back", || {
        deployer.cut_off(&gateway)
    })?;
    steps.step("reboot: filtering before sshd accepts", || {
        boot::again(&mut gateway)
    })?;
    steps.step("reboot with a wrong config", || {
        boot::spoiled(&mut gateway, "echo 'interfaces = [' > sipguard.toml")
    })?;
    steps.step("reboot with a wrong list", || {
        boot::spoiled(&mut gateway, "echo '<html>' > blocked.txt")
    })?;
    steps.step("reboot without a list", || {
        boot::spoiled(&mut gateway, "rm blocked.txt")
    })?;
    steps.step("a provider by name, who is elsewhere", || {
        names.other(&gateway)
    })?;
    steps.step("the name changes, and nobody does anything", || {
        names.change(&gateway)
    })?;
    steps.step("the same without the agent, by the path unit", || {
        names.without_agent(&gateway)
    })?;
    steps.step("who asks is killed, who answers is gone", || {
        names.lost(&gateway)
    })?;
    steps.step("reboot without a cable, and no name server", || {
        Server::reboot(&mut gateway)
    })?;
    steps.step("the agent is killed", || agent::killed(&gateway))?;
    steps.step("a provider who is not listed any more calls", || {
        agent::moved(&gateway)
    })?;
    steps.step("purge leaves nothing", || purge::purge(&gateway))?;
    steps.step("the gateway shuts down", || {
        gateway.switch_off("systemctl poweroff")?;
        Ok("in order".to_owned())
    })
}

/// What must not change where a deployment comes to nothing.
fn in_force(gateway: &Gateway<'_>) -> Result<String> {
    let found = gateway.run(
        "sha256sum < /etc/sipguard/sipguard.toml; dpkg-query --show sipguard; sipguard list; \
         sipguard status --json | grep -q '\"in_force\":true' && echo in force",
    )?;
    ensure!(
        found.ends_with("in force\n"),
        "nothing is in force:\n{found}"
    );
    Ok(found)
}
