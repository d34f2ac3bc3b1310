//! `--drops`: a capture of what would be dropped, each packet with a comment that says why.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use sipguard::capture::{LONGEST, Packet, Time, Writer};
use sipguard_ebpf::abi::Action;

use super::{
    Input,
    fate::{Fate, Judge, Meaning},
};

pub(super) struct Drops {
    file: PathBuf,
    writer: Writer<BufWriter<File>>,
}

impl Drops {
    pub(super) fn create(file: &Path, input: &Input) -> Result<Self> {
        let is_input = input
            .metadata()
            .zip(file.metadata().ok())
            .is_some_and(|(one, other)| {
                one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
            });
        ensure!(
            !is_input,
            "{} is what is read: name another file for --drops",
            file.display()
        );
        let created =
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self {
            writer: Writer::new(BufWriter::new(created))?,
            file: file.to_owned(),
        })
    }

    /// Adds a packet that would be dropped, also if a policy that only watches says so. What the capture holds too little of is not judged.
    pub(super) fn add(&mut self, judge: &Judge, packet: &Packet<'_>, fate: &Fate) -> Result<()> {
        let (&Fate::Judged { judged, words, .. }, Ok(frame)) = (fate, packet.frame) else {
            return Ok(());
        };
        if judged.verdict.action() == Action::Pass || fate.is_cut(packet) {
            return Ok(());
        }
        let meaning = Meaning::of(words, judge.description());
        let service = meaning
            .service
            .map(|name| format!(", {name}"))
            .unwrap_or_default();
        let comment = format!(
            "packet {}{service}: {}",
            packet.number,
            judge.why(&judged, meaning)
        );
        let time = packet.time.and_then(Time::timestamp);
        // What the capture has not, nor the reader of a packet that is too long.
        let kept = LONGEST.min(packet.captured as usize);
        let length = frame.bytes.len() + (packet.length as usize).saturating_sub(kept);
        self.writer
            .add(time, &frame, length, &comment)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    pub(super) fn finish(self) -> Result<()> {
        self.writer
            .into_inner()
            .flush()
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}
