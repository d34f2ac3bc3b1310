//! nsd, which answers for zones, and refuses all else.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::netns::{Host, Process, until};

/// Starts it with zones by name, as in zone files, in a folder that it makes.
pub fn nsd(host: &Host, folder: &Path, address: &str, zones: &[(&str, String)]) -> Process {
    fs::create_dir(folder).expect("one folder a server");
    let path = folder.display();
    let mut config = format!(
        "server:\n ip-address: {address}\n username: \"\"\n chroot: \"\"\n database: \"\"\n pidfile: \"{path}/pid\"\n \
         xfrdfile: \"{path}/xfrd\"\n zonelistfile: \"{path}/list\"\n zonesdir: \"{path}\"\n logfile: \"{path}/log\"\n \
         server-count: 1\nremote-control:\n control-enable: no\n"
    );
    for (number, (name, text)) in zones.iter().enumerate() {
        fs::write(folder.join(format!("zone{number}")), text).expect("a folder of ours");
        writeln!(
            config,
            "zone:\n name: {name}\n zonefile: \"{path}/zone{number}\""
        )
        .expect("memory");
    }
    let file = folder.join("config");
    fs::write(&file, config).expect("a folder of ours");
    let server = host.spawn(Command::new("nsd").arg("-d").arg("-c").arg(file));
    until("nsd answers", || {
        let log = fs::read_to_string(folder.join("log"));
        log.is_ok_and(|log| log.contains("nsd started"))
    });
    server
}
