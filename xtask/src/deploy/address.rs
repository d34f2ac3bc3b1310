//! A host as it is named on the command line.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, Error, Result, ensure};

/// `USER@HOST[:PORT]`; an IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(super) user: String,
    /// Without brackets.
    pub(super) name: String,
    /// Where it is not said, ssh knows.
    pub(super) port: Option<u16>,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (user, rest) = text
            .rsplit_once('@')
            .context("no user; write USER@HOST or USER@HOST:PORT")?;
        let (name, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').context("a bracket is not closed")?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').context("no : before the port")?),
                };
                (name, port)
            }
            None => match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    anyhow::bail!("write an IPv6 address in brackets: {user}@[{rest}]")
                }
                Some((name, port)) => (name, Some(port)),
                None => (rest, None),
            },
        };
        // ssh would take them for options, and the name of a config file is made of it.
        ensure!(!user.is_empty() && !user.starts_with('-'), "no user");
        ensure!(
            !name.is_empty() && !name.starts_with(['-', '.']) && !name.contains('/'),
            "no host"
        );
        let port = match port {
            Some(text) => {
                let port = text.parse().ok().filter(|&port| port > 0);
                Some(port.with_context(|| format!("{text:?} is not a port"))?)
            }
            None => None,
        };
        Ok(Self {
            user: user.to_owned(),
            name: name.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, name, port } = self;
        match (name.contains(':'), port) {
            (true, Some(port)) => write!(f, "{user}@[{name}]:{port}"),
            (true, None) => write!(f, "{user}@[{name}]"),
            (false, Some(port)) => write!(f, "{user}@{name}:{port}"),
            (false, None) => write!(f, "{user}@{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn hosts_are_read_as_ssh_users_write_them() {
        let read = |text: &str| text.parse::<Address>().map_err(|error| error.to_string());
        for (text, user, name, port) in [
            ("root@gw1", "root", "gw1", None),
            ("me@gw1.example:2222", "me", "gw1.example", Some(2222)),
            ("root@192.0.2.1:22", "root", "192.0.2.1", Some(22)),
            ("root@[2001:db8::1]", "root", "2001:db8::1", None),
            ("root@[2001:db8::1]:22", "root", "2001:db8::1", Some(22)),
            ("root@[fe80::1%eth0]:22", "root", "fe80::1%eth0", Some(22)),
            ("me@realm@gw1", "me@realm", "gw1", None),
        ] {
            let address = Address {
                user: user.to_owned(),
                name: name.to_owned(),
                port,
            };
            assert_eq!(address.to_string(), text);
            assert_eq!(read(text), Ok(address));
        }
        for (text, error) in [
            ("gw1", "no user; write USER@HOST or USER@HOST:PORT"),
            ("@gw1", "no user"),
            ("root@", "no host"),
            ("root@-oProxyCommand=x", "no host"),
            ("root@../etc", "no host"),
            ("root@gw1:", "\"\" is not a port"),
            ("root@gw1:0", "\"0\" is not a port"),
            ("root@gw1:65536", "\"65536\" is not a port"),
            (
                "root@2001:db8::1",
                "write an IPv6 address in brackets: root@[2001:db8::1]",
            ),
            ("root@[2001:db8::1", "a bracket is not closed"),
            ("root@[2001:db8::1]22", "no : before the port"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
    }
}
