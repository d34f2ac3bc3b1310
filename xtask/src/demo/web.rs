//! The gateway's web page, and fetching it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    process::Command,
    thread,
};

use anyhow::{Result, bail};

use crate::netns::Host;

const PORT: u16 = 80;
const PAGE: &str = "Gateway: please log in";

/// curl's exit status when its time is up.
const TIMED_OUT: i32 = 28;

/// Serves the page until the demo ends.
pub(super) fn serve(host: &Host) -> Result<()> {
    // On Linux this takes IPv4 as well.
    let listener = host.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))?;
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // A visitor who leaves early is no concern of a web server.
            let _ = client.read(&mut [0; 4096]);
            let _ = write!(
                client,
                "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{PAGE}"
            );
        }
    });
    Ok(())
}

/// What the page says; nothing where no connection came about in `seconds`.
pub(super) fn fetch(host: &Host, address: IpAddr, seconds: u64) -> Result<Option<String>> {
    let curl = host.run(
        Command::new("curl")
            .args(["--disable", "--silent", "--show-error", "--noproxy", "*"])
            .args(["--max-time", &seconds.to_string()])
            .arg(format!("http://{}/", SocketAddr::new(address, PORT))),
    );
    match curl.status.code() {
        Some(0) if curl.stdout == PAGE => Ok(Some(format!("“{PAGE}”"))),
        Some(TIMED_OUT) => Ok(None),
        _ => bail!("{} {}", curl.stdout, curl.stderr.trim()),
    }
}
