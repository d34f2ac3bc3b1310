//! `sipguard import`.
//!
//! JSON, one object:
//! ```json
//! {"from":"iptables-save","written":null,"ports":[{"protocol":"udp","port":5060,"service":"sip","ipv4":256,"ipv6_networks":0,
//! "ipv4_not_known":0,"ipv6_not_known":false}],"services":[…],"sources":[…],"notes":[{"kind":"lost","line":12,"ports":["udp 5060"],
//! "addresses":["203.0.113.0/24"],"except":[],"text":"…"}],"config":"…"}
//! ```
//! `ports` says who may come in where; `service` is null where everybody may, and nothing is to be guarded. `notes` are in the order of
//! harm: `lost`, `not_kept`, `assumed`, `harmless`. `written` is the file of `--output`.

mod from_host;
mod write;

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use sipguard::{
    config,
    import::{self, Imported, Input, Kind, Note, Options, Row, Service, Source},
    policy::Interface,
};

use super::{Context, write_json};
use crate::cli::Import;

/// No rule set is so large; a file that is was given by mistake.
const LARGEST: u64 = 1 << 30;

#[derive(Serialize)]
struct Told<'i> {
    from: &'i str,
    written: Option<&'i Path>,
    ports: &'i [Row],
    services: &'i [Service],
    sources: &'i [Source],
    notes: &'i [Note],
    config: &'i str,
}

pub(super) fn run(import: &Import, context: &Context, out: &mut dyn Write) -> Result<()> {
    let keep = match &import.output {
        Some(file) => interfaces_of(file)?,
        None => Vec::new(),
    };
    let mut options = Options {
        action: import.action.map(Into::into),
        sets: import.set.clone(),
        interfaces: import.interface.clone(),
        ..Options::default()
    };
    if options.interfaces.is_empty() {
        options.interfaces = keep
            .iter()
            .map(|interface| interface.name.clone())
            .collect();
    }
    let imported = if import.from_host {
        from_host::import(options, context)?
    } else {
        let name = match import.file.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => import.file.display().to_string(),
        };
        let text = read(&import.file).with_context(|| format!("cannot read {name}"))?;
        let input = Input {
            text: &text,
            format: import.from.map(Into::into),
        };
        import::import(&[input], &options).context(name)?
    };
    let config = imported.config(&keep);
    if let Some(file) = &import.output {
        write::whole(file, &config)?;
    }
    if context.json {
        return write_json(
            out,
            &Told {
                from: &imported.from,
                written: import.output.as_deref(),
                ports: &imported.rows,
                services: &imported.services,
                sources: &imported.sources,
                notes: &imported.notes,
                config: &config,
            },
        );
    }
    tell(&imported, context);
    match &import.output {
        None => out.write_all(config.as_bytes())?,
        Some(file) if !context.is_quiet() => {
            summary(&imported, out)?;
            writeln!(out, "Wrote {}.", file.display())?;
            if keep.is_empty() {
                writeln!(
                    out,
                    "It names no interface yet: name there those to be guarded."
                )?;
            }
        }
        Some(_) => {}
    }
    if import.output.is_none() && !context.is_quiet() && !context.terminal {
        // The config goes elsewhere: whoever sits here sees what it says.
        summary(&imported, &mut io::stderr())?;
    }
    Ok(())
}

/// The interfaces of a config that is there.
fn interfaces_of(file: &Path) -> Result<Vec<Interface>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let policy = config::load(file).with_context(|| {
        format!(
            "{} is there, and its interfaces can't be kept: correct it, or write to another file",
            file.display()
        )
    })?;
    Ok(policy.interfaces)
}

fn tell(imported: &Imported, context: &Context) {
    let mut harmless = 0;
    for note in &imported.notes {
        if note.kind == Kind::Harmless && !context.is_verbose() {
            harmless += 1;
            continue;
        }
        let begin = match note.kind {
            Kind::Lost => "may lose access: ",
            Kind::NotKept => "not kept: ",
            Kind::Assumed => "taken for granted: ",
            Kind::Harmless => "not understood, without effect: ",
        };
        context.warn(&format!("{begin}{note}"));
    }
    if harmless > 0 {
        context.warn(&format!(
            "{harmless} more notes, on what was not understood and makes no difference, are in the config"
        ));
    }
}

/// For each port, who may come in.
fn summary(imported: &Imported, out: &mut dyn Write) -> Result<()> {
    // Ports of one service that are alike stand in one line.
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for row in &imported.rows {
        let who = who(row, imported);
        let port = format!("{} {}", row.protocol, row.port);
        match lines.iter_mut().find(|(known, _)| *known == who) {
            Some((_, ports)) => ports.push(port),
            None => lines.push((who, vec![port])),
        }
    }
    for (who, ports) in lines {
        writeln!(out, "{}: {who}", ports.join(", "))?;
    }
    Ok(())
}

fn who(row: &Row, imported: &Imported) -> String {
    const EVERYBODY: u64 = 1 << 32;
    if row.service.is_none() {
        return "everybody may come in; not guarded".to_owned();
    }
    let v4 = match row.ipv4 {
        0 => "nobody by IPv4".to_owned(),
        EVERYBODY => "everybody by IPv4".to_owned(),
        1 => "1 IPv4 address".to_owned(),
        // From here on it is shorter to say who does not.
        most if most > EVERYBODY / 2 => {
            format!("everybody by IPv4 but {} addresses", EVERYBODY - most)
        }
        some => format!("{some} IPv4 addresses"),
    };
    let v6 = match row.ipv6_networks {
        0 => "nobody by IPv6".to_owned(),
        u64::MAX => "everybody by IPv6, or nearly".to_owned(),
        1 => "1 IPv6 network of 64 bits".to_owned(),
        some => format!("{some} IPv6 networks of 64 bits"),
    };
    let service = imported
        .services
        .iter()
        .find(|service| Some(&service.name) == row.service.as_ref());
    let names = service.map_or(String::new(), |service| {
        if service.allow.is_empty() {
            String::new()
        } else {
            format!(" ({})", service.allow.join(", "))
        }
    });
    let mut who = format!("{v4}, {v6}{names}");
    if row.ipv4_not_known > 0 || row.ipv6_not_known {
        let v4 = match row.ipv4_not_known {
            0 => None,
            EVERYBODY => Some("all of IPv4".to_owned()),
            count => Some(format!("{count} IPv4 addresses")),
        };
        let v6 = row.ipv6_not_known.then(|| "IPv6 addresses".to_owned());
        let some: Vec<String> = v4.into_iter().chain(v6).collect();
        who.push_str("; dropped because it is not known: ");
        who.push_str(&some.join(" and "));
    }
    who
}

fn read(file: &PathBuf) -> Result<String> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(file)?
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
    };
    if read? as u64 > LARGEST {
        bail!("it is larger than 1 GiB");
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .split(|byte| *byte == b'\n')
            .count();
        anyhow::anyhow!("line {line} is not UTF-8")
    })
}
