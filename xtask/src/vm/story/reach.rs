//! Who gets an answer from the gateway.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};

use crate::vm::{
    gateway::Gateway,
    network::{GATEWAY, PROVIDER, Party, SCANNER},
    probe::{self, Answer, PATIENCE, Protocol, SOON},
};

/// Where the gateway's listener listens.
const PORTS: [(Protocol, u16); 3] = [
    (Protocol::Udp, 5060),
    (Protocol::Tcp, 5060),
    (Protocol::Tcp, 80),
];

/// Nothing guards it: this shows that the questions are good ones.
pub(super) fn everybody() -> Result<String> {
    let asked = every_port(&SCANNER, PATIENCE, Answer::Reply)?;
    Ok(format!("{asked} of {asked} questions"))
}

/// The provider is answered, the scanner is not, and its questions have not reached the listener either.
pub(super) fn as_guarded(gateway: &Gateway<'_>) -> Result<String> {
    hear_anew(gateway)?;
    let (silent, answered) = thread::scope(|scope| {
        let scanner = scope.spawn(|| every_port(&SCANNER, SOON, Answer::Nothing));
        let answered = every_port(&PROVIDER, PATIENCE, Answer::Reply);
        let silent = scanner.join().map_err(|_| anyhow!("a probe panicked"))?;
        Ok::<_, anyhow::Error>((silent?, answered?))
    })?;
    nobody_unlisted_was_heard(gateway)?;
    Ok(format!(
        "{silent} unlisted questions: nothing; {answered} listed: answers"
    ))
}

/// Has the listener forget whom it heard.
pub(super) fn hear_anew(gateway: &Gateway<'_>) -> Result<()> {
    gateway.run("systemctl reload listener").map(drop)
}

/// The listener's own word for it: an answer might have been lost on its way, or come late.
pub(super) fn nobody_unlisted_was_heard(gateway: &Gateway<'_>) -> Result<()> {
    let heard = gateway.run("cat /run/heard")?;
    let from = |party: &Party| {
        let lines = heard.lines().filter_map(|line| line.split_once(' '));
        let known = party.addresses.map(|address| address.to_string());
        lines
            .filter(|(_, from)| known.iter().any(|it| it == from))
            .count()
    };
    ensure!(
        from(&SCANNER) == 0,
        "the gateway's listener heard the unlisted source:\n{heard}"
    );
    ensure!(
        from(&PROVIDER) > 0,
        "the gateway's listener heard nobody:\n{heard}"
    );
    Ok(())
}

/// Asks every port from both addresses at once; returns how many questions that were.
pub(super) fn every_port(party: &Party, patience: Duration, expected: Answer) -> Result<usize> {
    let questions: Vec<(Protocol, IpAddr, IpAddr, u16)> = PORTS
        .iter()
        .flat_map(|&(protocol, port)| {
            let ways = party.addresses.into_iter().zip(GATEWAY.addresses);
            ways.map(move |(from, to)| (protocol, from, to, port))
        })
        .collect();
    thread::scope(|scope| {
        let asked: Vec<_> = questions
            .iter()
            .map(|&(protocol, from, to, port)| {
                scope.spawn(move || probe::ask(protocol, from, (to, port).into(), patience))
            })
            .collect();
        for (asked, (protocol, from, to, port)) in asked.into_iter().zip(&questions) {
            let answer = asked.join().map_err(|_| anyhow!("a probe panicked"))??;
            ensure!(
                answer == expected,
                "{protocol:?} from {from} to {to} port {port}: {answer:?}, not {expected:?}"
            );
        }
        Ok(questions.len())
    })
}
