//! What the fetcher has found, without a fetcher: the files that it writes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_lists::{
    found::{Entry, Head, Writer},
    prefix,
};

use crate::netns::SCRATCH;

/// What the fetcher has found.
#[derive(Debug)]
pub struct Found {
    folder: PathBuf,
    source: &'static str,
    name: Option<&'static str>,
    url: Option<&'static str>,
    changed: i64,
    /// Why nobody answers any more, and since when.
    error: Option<(&'static str, Timestamp)>,
    /// Since when each has been in the list.
    first: BTreeMap<IpNet, Timestamp>,
}

impl Found {
    fn new(source: &'static str) -> Self {
        let folder = Path::new(SCRATCH).join("sipguard-fetch");
        fs::create_dir_all(&folder).expect("a sandbox has room for it");
        Self {
            folder,
            source,
            name: None,
            url: None,
            changed: Timestamp::now().as_second() - 3600,
            error: None,
            first: BTreeMap::new(),
        }
    }

    /// For a source of one name.
    #[must_use]
    pub fn name(source: &'static str, name: &'static str) -> Self {
        Self {
            name: Some(name),
            ..Self::new(source)
        }
    }

    /// For a list.
    #[must_use]
    pub fn url(source: &'static str, url: &'static str) -> Self {
        Self {
            url: Some(url),
            ..Self::new(source)
        }
    }

    /// Writes these prefixes, which are another list than before.
    pub fn are<'p>(&mut self, prefixes: impl IntoIterator<Item = &'p str>) {
        let prefixes = prefixes.into_iter();
        self.all(prefixes.map(|prefix| prefix::parse(prefix).expect("a prefix")));
    }

    /// Changed so long ago, the next time that it is written.
    pub fn changed_before(&mut self, passed: SignedDuration) {
        self.changed = (Timestamp::now() - passed).as_second();
        // Nobody was in it before he was seen.
        self.first.clear();
    }

    /// Has not been answered for so long, the next time that it is written.
    pub fn fails(&mut self, error: &'static str, passed: SignedDuration) {
        self.error = Some((error, Timestamp::now() - passed));
    }

    /// The same.
    pub fn all(&mut self, prefixes: impl IntoIterator<Item = IpNet>) {
        self.changed += 1;
        let changed = Timestamp::from_second(self.changed).expect("a time");
        let error = self.error.take();
        let asked = error.map_or(changed, |_| Timestamp::now());
        let mut head = Head::new(self.source, asked, asked + SignedDuration::from_secs(300));
        head.answered = Some(error.map_or(changed, |(_, since)| since));
        head.error = error.map(|(error, _)| error.to_owned());
        head.changed = Some(changed);
        head.url = self.url.map(str::to_owned);
        // As the fetcher does it: whole, or not at all.
        let (new, file) = ["new", "json"]
            .map(|end| self.folder.join(format!("{}.{end}", self.source)))
            .into();
        let mut writer = Writer::new(File::create(&new).expect("a file"), &head).expect("room");
        let before = std::mem::take(&mut self.first);
        for prefix in prefixes {
            let first = before.get(&prefix).copied().unwrap_or(changed);
            self.first.insert(prefix, first);
        }
        for (&prefix, &first) in &self.first {
            let entry = Entry {
                prefix,
                first,
                last: changed,
                end: None,
                comment: self.name.map(str::to_owned),
            };
            writer.entry(&entry).expect("room");
        }
        writer.finish().expect("room");
        fs::rename(new, file).expect("the same folder");
    }

    /// Where it stands.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.source))
    }
}
