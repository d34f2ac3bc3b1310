//! Networks of countries, from a database in MaxMind's format. It is read by a process of its own, which is this program with `--countries`: it
//! ends, and with it goes the memory that a database takes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{BufRead, BufReader, BufWriter, Read as _, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use maxminddb::{Reader, WithinOptions};
use serde::Deserialize;
use sipguard_lists::{address, country::Country, found::MAX_ENTRIES, said::Said, task::Countries};

/// The most bytes that a database may have.
const MAX_BYTES: u64 = 256 << 20;
/// The most bytes that are read of what is wrong with one.
const MAX_MESSAGE: u64 = 400;

/// Those that were found, each country's in order.
pub(crate) type Networks = BTreeMap<Country, Vec<IpNet>>;

/// A database that is looked into again and again.
pub(crate) struct Database {
    file: PathBuf,
    /// Which file it was, and what was looked for.
    seen: Option<(Stamp, BTreeSet<Country>)>,
}

/// Its number, and when it was changed.
type Stamp = (u64, u64, i64, i64);

impl Database {
    pub(crate) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            seen: None,
        }
    }

    /// Looks for countries; `None` where neither they nor the file are others than the last time. Of some there may be none.
    pub(crate) fn look(
        &mut self,
        countries: &BTreeSet<Country>,
    ) -> Option<Result<Networks, String>> {
        let metadata = match fs::metadata(&self.file) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.seen = None;
                let file = self.file.display();
                return Some(Err(format!("cannot read {file}: {error}")));
            }
        };
        let stamp = (
            metadata.dev(),
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        if let Some((seen, looked_for)) = &self.seen
            && (seen, looked_for) == (&stamp, countries)
        {
            return None;
        }
        self.seen = Some((stamp, countries.clone()));
        Some(self.ask(countries).map_err(|error| format!("{error:#}")))
    }

    /// What is to be said of a country of which there is no network.
    pub(crate) fn missing(&self, country: Country) -> String {
        format!("{} has no network of {country}", self.file.display())
    }

    fn ask(&self, countries: &BTreeSet<Country>) -> Result<Networks> {
        let mut child = Command::new("/proc/self/exe")
            .arg("--countries")
            .arg(&self.file)
            .args(countries.iter().map(Country::to_string))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("a process cannot be started")?;
        let read = child.stdout.take().context("its output")?;
        let read = read_networks(BufReader::new(read));
        if read.is_err() {
            // It may have ended itself.
            let _ = child.kill();
        }
        let mut message = String::new();
        if let Some(error) = child.stderr.take() {
            error.take(MAX_MESSAGE).read_to_string(&mut message)?;
        }
        if child.wait()?.success() {
            return read;
        }
        let message = message.trim().lines().last().unwrap_or_default();
        let message = message.strip_prefix("sipguard-fetch: ").unwrap_or(message);
        bail!("{message}")
    }
}

/// Reads what [`print()`] writes.
fn read_networks(lines: impl BufRead) -> Result<Networks> {
    let mut networks = Networks::new();
    for line in lines.lines() {
        let line = line?;
        let (country, network) = line.split_once(' ').unwrap_or_default();
        let of_one = networks.entry(country.parse()?).or_default();
        of_one.push(network.parse()?);
    }
    Ok(networks)
}

/// Writes a line for each network of these countries.
pub(crate) fn print(file: &Path, countries: &BTreeSet<Country>, out: impl Write) -> Result<()> {
    let shown = file.display();
    let metadata = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?;
    ensure!(metadata.is_file(), "{shown} is no file");
    let too_much = MAX_BYTES >> 20;
    ensure!(
        metadata.len() <= MAX_BYTES,
        "{shown} has more than {too_much} MiB"
    );
    let damaged = |error: maxminddb::MaxMindDbError| {
        let error = error.to_string();
        anyhow::anyhow!("{shown} is no database, or a damaged one: {}", Said(&error))
    };
    let reader = Reader::open_readfile(file).map_err(damaged)?;
    let mut out = BufWriter::new(out);
    // Most networks have records in common.
    let mut records = HashMap::new();
    let mut count = 0;
    for found in reader.networks(WithinOptions::default()).map_err(damaged)? {
        let found = found.map_err(damaged)?;
        let Some(offset) = found.offset() else {
            continue;
        };
        let country = if let Some(&known) = records.get(&offset) {
            known
        } else {
            let record: Option<Record<'_>> = found.decode().map_err(damaged)?;
            let country = record.and_then(|record| record.code()?.parse::<Country>().ok());
            records.insert(offset, country);
            country
        };
        let Some(country) = country.filter(|country| countries.contains(country)) else {
            continue;
        };
        let network = found.network().map_err(damaged)?;
        let network = IpNet::new(network.ip(), network.prefix())?.trunc();
        let mut parts = Vec::new();
        address::without_special(network, &mut |part| parts.push(part));
        for part in parts {
            if Countries::WIDEST.is_beyond(part) {
                bail!("{shown} has {part} for {country}, which can't be");
            }
            count += 1;
            ensure!(
                count <= MAX_ENTRIES,
                "{shown} has more than {MAX_ENTRIES} networks of these countries"
            );
            writeln!(out, "{country} {part}")?;
        }
    }
    ensure!(
        records.values().any(Option::is_some),
        "{shown} says of no network in which country it is"
    );
    Ok(out.flush()?)
}

/// What is said of a network, as far as it is of interest. Databases that are made for one purpose are flat.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    country: Option<Told<'a>>,
    #[serde(default)]
    country_code: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Told<'a> {
    Nested {
        #[serde(borrow, default)]
        iso_code: Option<&'a str>,
    },
    /// Its code, or its name.
    Flat(&'a str),
}

impl<'a> Record<'a> {
    fn code(&self) -> Option<&'a str> {
        self.country_code.or(match self.country {
            Some(Told::Nested { iso_code }) => iso_code,
            Some(Told::Flat(text)) => Some(text),
            None => None,
        })
    }
}
