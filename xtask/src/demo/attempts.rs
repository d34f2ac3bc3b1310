//! What a stranger tries: it works before sipguard, and does not after.

use anyhow::{Result, bail};

use super::{
    checklist::Check,
    network::{Network, family},
    sip::{self, Transport},
    web,
};

/// How many seconds the stranger waits for an answer that may never come.
const PATIENCE: u64 = 2;

#[derive(Clone, Copy)]
pub(super) enum Expected {
    Found,
    Nothing,
}

impl Expected {
    fn check<'a>(
        self,
        what: String,
        attempt: impl FnOnce() -> Result<Option<String>> + Send + 'a,
    ) -> Check<'a> {
        Check::new(what, move || match (self, attempt()?) {
            (Self::Found, Some(found)) => Ok(found),
            (Self::Nothing, None) => Ok("nothing".to_owned()),
            (Self::Found, None) => bail!("nothing"),
            (Self::Nothing, Some(found)) => bail!(found),
        })
    }
}

/// Over UDP and TCP, IPv4 and IPv6.
pub(super) fn all(network: &Network, expected: Expected) -> Vec<Check<'_>> {
    let scanner = &network.scanner;
    let mut attempts = Vec::new();
    for pair @ (_, to) in scanner.to(&network.gateway) {
        let family = family(to);
        attempts.push(expected.check(format!("svmap, UDP, {family}"), move || {
            Ok(sip::scan(&scanner.host, to)?.map(|agent| format!("“{agent}”")))
        }));
        attempts.push(expected.check(format!("a call, TCP, {family}"), move || {
            let calls = sip::call(&scanner.host, pair, Transport::Tcp, 1, PATIENCE)?;
            Ok((calls.completed > 0).then(|| "completed".to_owned()))
        }));
        attempts.push(expected.check(format!("web page, {family}"), move || {
            web::fetch(&scanner.host, to, PATIENCE)
        }));
    }
    attempts
}
