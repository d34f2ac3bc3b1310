//! JSON, a line for each packet: put together by hand, because it is the same few words over and over again.

use std::{
    fmt::Display,
    io::{self, Write},
};

use sipguard::{capture::Packet, datapath::Description, policy::protocol_name};

use super::fate::{ALL_WORDS, Fate, Judge, Meaning};

/// Writes lines.
pub(super) struct Lines {
    /// For each verdict what is always the same of it: action, reason, service; and whether it is carried out.
    verdicts: Vec<[String; 2]>,
    /// The same of what is in force.
    live: Vec<String>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(judge: &Judge) -> Self {
        let verdicts = ALL_WORDS.map(|words| verdict(Meaning::of(words, judge.description())));
        let live = judge.other_description().map_or_else(Vec::new, live);
        Self {
            verdicts: verdicts.collect(),
            live,
            line: Vec::new(),
        }
    }

    pub(super) fn write(
        &mut self,
        out: &mut dyn Write,
        packet: &Packet<'_>,
        fate: &Fate,
    ) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        write!(line, "{{\"n\":{}", packet.number)?;
        match fate {
            Fate::Judged { judged, words, now } => {
                let [verdict, enforced] = &self.verdicts[*words as usize];
                line.extend_from_slice(verdict.as_bytes());
                match judged.asked {
                    Some(asked) => write!(
                        line,
                        ",\"source\":\"{}\",\"protocol\":\"{}\",\"port\":{}",
                        asked.source(),
                        protocol_name(asked.protocol),
                        asked.port()
                    )?,
                    None => line.extend_from_slice(NO_SOURCE.as_bytes()),
                }
                line.extend_from_slice(enforced.as_bytes());
                if packet.is_truncated() {
                    line.extend_from_slice(b",\"truncated\":true");
                }
                if let Some(now) = now {
                    line.extend_from_slice(self.live[*now as usize].as_bytes());
                }
            }
            Fate::Sent => {
                line.extend_from_slice(NO_VERDICT.as_bytes());
                line.extend_from_slice(b",\"direction\":\"out\"");
            }
            Fate::LeftOut(why) => {
                line.extend_from_slice(NO_VERDICT.as_bytes());
                write!(line, ",\"left_out\":{}", text(why))?;
            }
        }
        line.extend_from_slice(b"}\n");
        out.write_all(line)
    }
}

const NO_SOURCE: &str = ",\"source\":null,\"protocol\":null,\"port\":null";
const NO_VERDICT: &str = ",\"action\":null,\"reason\":null,\"service\":null,\"source\":null,\"protocol\":null,\"port\":null";

fn verdict(meaning: Meaning<'_>) -> [String; 2] {
    let service = meaning.service.map_or_else(|| "null".to_owned(), text);
    let reason = named(meaning);
    let verdict = format!(
        ",\"action\":\"{}\",\"reason\":{reason},\"service\":{service}",
        meaning.action()
    );
    [verdict, enforced(meaning).to_owned()]
}

fn live(description: &Description) -> Vec<String> {
    let said = |words| {
        let meaning = Meaning::of(words, description);
        let (action, reason, enforced) = (meaning.action(), named(meaning), enforced(meaning));
        format!(",\"live\":{{\"action\":\"{action}\",\"reason\":{reason}{enforced}}}")
    };
    ALL_WORDS.map(said).collect()
}

fn named(meaning: Meaning<'_>) -> String {
    match meaning.reason {
        sipguard_ebpf::abi::Reason::None => "null".to_owned(),
        reason => text(reason.name()),
    }
}

/// Added only where it says something.
const fn enforced(meaning: Meaning<'_>) -> &'static str {
    if meaning.enforced {
        ""
    } else {
        ",\"enforced\":false"
    }
}

/// In quotation marks, and whatever needs it escaped.
fn text(text: impl Display) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}
