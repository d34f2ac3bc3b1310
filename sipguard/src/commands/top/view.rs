//! What is shown, and what keys make of it. Nothing here knows a terminal, so that tests can press keys.

use std::{cmp::Reverse, net::IpAddr};

use sipguard::{
    agent::{
        attempts::{self, Attempt},
        knocks::{Attempted, Knock, Knocks},
    },
    policy::Action,
};
use sipguard_lists::{prefix, said::Said};

use super::{keys::Key, rates::Rates};

/// By what sources are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Those that knocked most first.
    Knocks,
    /// Those that knocked last first.
    Last,
    /// Those that are new first.
    First,
    /// Those that try the worst first.
    Tries,
    Address,
}

impl Sort {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Knocks, "knocks"),
        (Self::Last, "last seen"),
        (Self::First, "first seen"),
        (Self::Tries, "what they try"),
        (Self::Address, "address"),
    ];

    pub(super) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(sort, _)| *sort == self);
        found.map_or("", |(_, name)| name)
    }

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|(sort, _)| *sort == self);
        let next = place.map_or(0, |place| (place + 1) % Self::ALL.len());
        Self::ALL[next].0
    }
}

/// What fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Sources,
    /// All that is known of one.
    Source(IpAddr),
    Help,
}

/// What is to be done that others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Do {
    Leave,
    Redraw,
    /// A person has said yes.
    Say(Say),
}

/// What `sipguard allow` or `sipguard deny` is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Say {
    pub(super) action: Action,
    pub(super) source: IpAddr,
    /// `None`: all of them.
    pub(super) service: Option<String>,
}

impl Say {
    /// The command that says the same.
    pub(super) fn command(&self) -> String {
        let action = match self.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        };
        match &self.service {
            Some(service) => format!("sipguard {action} {} --service {service}", self.source),
            None => format!("sipguard {action} {}", self.source),
        }
    }
}

/// What the last line is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    None,
    /// A filter is being typed.
    Filter,
    /// A question that y answers.
    Ask(Say),
    /// What came of something, until the next key.
    Message(String),
}

pub(super) struct View {
    pub(super) knocks: Knocks,
    pub(super) rates: Rates,
    pub(super) sort: Sort,
    /// Only sources that have this somewhere.
    pub(super) filter: String,
    pub(super) page: Page,
    pub(super) prompt: Prompt,
    /// The source that is marked, wherever it stands.
    marked: Option<IpAddr>,
    /// The source whose row was reversed when it was drawn last.
    pub(super) shown: Option<IpAddr>,
    /// How many lines of a page have gone up.
    pub(super) scrolled: usize,
    /// How many rows had room when it was drawn last.
    pub(super) rows: usize,
    /// Why no events come, where none do.
    pub(super) deaf: Option<String>,
    /// Whether anything filters.
    pub(super) in_force: bool,
}

/// One source and what it tries.
pub(super) struct Row<'v> {
    pub(super) knock: &'v Knock,
    pub(super) attempt: Option<Attempted>,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            // Nothing is hidden from whoever may see every packet.
            knocks: Knocks::default(),
            rates: Rates::default(),
            sort: Sort::Knocks,
            filter: String::new(),
            page: Page::Sources,
            prompt: Prompt::None,
            marked: None,
            shown: None,
            scrolled: 0,
            rows: 10,
            deaf: None,
            in_force: true,
        }
    }

    /// The sources that are wanted, sorted.
    pub(super) fn sources(&self) -> Vec<Row<'_>> {
        let wanted = self.filter.to_ascii_lowercase();
        let mut rows: Vec<_> = self
            .knocks
            .iter()
            .filter(|knock| wanted.is_empty() || words(knock).any(|word| word.contains(&wanted)))
            .map(|knock| Row {
                knock,
                attempt: attempts::of(knock).last().map(Attempt::what),
            })
            .collect();
        rows.sort_by(|one, other| {
            let by = |row: &Row<'_>| {
                let knock = row.knock;
                match self.sort {
                    Sort::Knocks => (Reverse(i128::from(knock.told)), None),
                    Sort::Last => (Reverse(knock.last.as_nanosecond()), None),
                    Sort::First => (Reverse(knock.first.as_nanosecond()), None),
                    Sort::Tries => (Reverse(i128::from(knock.told)), row.attempt),
                    Sort::Address => (Reverse(0), None),
                }
            };
            let ((one_number, one_try), (other_number, other_try)) = (by(one), by(other));
            other_try
                .cmp(&one_try)
                .then(one_number.cmp(&other_number))
                .then(one.knock.source.cmp(&other.knock.source))
        });
        rows
    }

    /// Where the mark is to be drawn: at the first one, where its source is not among them.
    pub(super) fn place(&self, rows: &[Row<'_>]) -> usize {
        place(rows, self.marked).unwrap_or_default()
    }

    /// Where it is for who presses a key: others may have come in front since it was drawn.
    fn pressed(&self, rows: &[Row<'_>]) -> usize {
        let place = place(rows, self.marked).or_else(|| place(rows, self.shown));
        place.unwrap_or_default()
    }

    /// Whether it asks something that y answers.
    pub(super) fn asks(&self) -> bool {
        matches!(self.prompt, Prompt::Ask(_))
    }

    /// The source that the keys are about.
    fn source(&self) -> Option<IpAddr> {
        if let Page::Source(source) = self.page {
            return Some(source);
        }
        let rows = self.sources();
        Some(rows.get(self.pressed(&rows))?.knock.source)
    }

    fn go(&mut self, steps: isize) {
        let rows = self.sources();
        let last = rows.len().saturating_sub(1);
        let place = self.pressed(&rows).saturating_add_signed(steps).min(last);
        self.marked = rows.get(place).map(|row| row.knock.source);
    }

    /// Takes a key; returns what others are to do.
    pub(super) fn press(&mut self, key: Key) -> Option<Do> {
        match (&self.prompt, key) {
            (_, Key::Interrupt) => return Some(Do::Leave),
            (_, Key::Redraw) => return Some(Do::Redraw),
            (Prompt::Filter, _) => self.type_filter(key),
            (Prompt::Ask(say), Key::Letter('y' | 'Y')) => {
                let say = say.clone();
                self.prompt = Prompt::None;
                return Some(Do::Say(say));
            }
            (Prompt::Ask(_), _) => {
                self.prompt = Prompt::Message("nothing was changed".to_owned());
            }
            (Prompt::None | Prompt::Message(_), _) => {
                self.prompt = Prompt::None;
                return self.command(key);
            }
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Letter(letter) if self.filter.len() < 64 => self.filter.push(letter),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.prompt = Prompt::None,
            Key::Escape => {
                self.filter.clear();
                self.prompt = Prompt::None;
            }
            _ => {}
        }
    }

    fn command(&mut self, key: Key) -> Option<Do> {
        let page = isize::try_from(self.rows.max(1)).unwrap_or(1);
        match key {
            Key::Letter('q') => return Some(Do::Leave),
            Key::Letter('?' | 'h') => {
                self.scrolled = 0;
                self.page = match self.page {
                    Page::Help => Page::Sources,
                    _ => Page::Help,
                };
            }
            Key::Escape | Key::Backspace if self.page != Page::Sources => {
                self.page = Page::Sources;
            }
            Key::Escape => self.filter.clear(),
            Key::Letter('a') => self.ask(Action::Allow),
            Key::Letter('d') => self.ask(Action::Deny),
            _ if self.page != Page::Sources => self.scroll(key),
            Key::Letter('s') => self.sort = self.sort.next(),
            Key::Letter('/') => self.prompt = Prompt::Filter,
            Key::Enter => {
                if let Some(source) = self.source() {
                    self.marked = Some(source);
                    self.page = Page::Source(source);
                    self.scrolled = 0;
                }
            }
            Key::Up | Key::Letter('k') => self.go(-1),
            Key::Down | Key::Letter('j') => self.go(1),
            Key::PageUp => self.go(-page),
            Key::PageDown => self.go(page),
            Key::Home | Key::Letter('g') => self.go(isize::MIN),
            Key::End | Key::Letter('G') => self.go(isize::MAX),
            _ => {}
        }
        None
    }

    /// A page that may have no room.
    fn scroll(&mut self, key: Key) {
        self.scrolled = match key {
            Key::Up | Key::Letter('k') => self.scrolled.saturating_sub(1),
            // Drawing finds out how far that may go.
            Key::Down | Key::Letter('j') => self.scrolled + 1,
            Key::PageUp => self.scrolled.saturating_sub(self.rows),
            Key::PageDown => self.scrolled + self.rows,
            Key::Home => 0,
            _ => self.scrolled,
        };
    }

    /// Who knocks at one service is let in to that one, and kept out of all.
    fn ask(&mut self, action: Action) {
        let Some(source) = self.source() else { return };
        // An IPv4 address in IPv6 form can't be said on the command line, and so not be taken back.
        if let Err(error) = prefix::parse(&source.to_string()) {
            self.prompt = Prompt::Message(error.to_string());
            return;
        }
        let service = self
            .knocks
            .get(source)
            .and_then(|knock| knock.services.most())
            .filter(|_| action == Action::Allow);
        let service = service.map(ToString::to_string);
        if action == Action::Allow && service.is_none() {
            let message = format!("{source} knocked at no service: use `sipguard allow`");
            self.prompt = Prompt::Message(message);
            return;
        }
        // Sources move while somebody reads the question.
        self.marked = Some(source);
        self.prompt = Prompt::Ask(Say {
            action,
            source,
            service,
        });
    }
}

fn place(rows: &[Row<'_>], source: Option<IpAddr>) -> Option<usize> {
    rows.iter().position(|row| Some(row.knock.source) == source)
}

/// All that is shown of a source, in small letters.
fn words(knock: &Knock) -> impl Iterator<Item = String> {
    let said = |text: &str| Said(text).to_string().to_ascii_lowercase();
    let texts = knock
        .methods
        .iter()
        .map(|seen| &seen.what)
        .chain(knock.users.iter().map(|seen| &seen.what))
        .chain(knock.user_agents.iter().map(|seen| &seen.what))
        .chain(knock.services.iter().map(|seen| &seen.what));
    let numbers = knock.numbers.iter().flat_map(|seen| {
        let number = &seen.what;
        [&number.dialled, &number.number, &number.country]
            .into_iter()
            .flatten()
    });
    let attempts = attempts::of(knock).into_iter();
    [knock.source.to_string()]
        .into_iter()
        .chain(texts.chain(numbers).map(move |text| said(text)))
        .chain(attempts.map(|attempt| attempt.what().words().to_owned()))
}
