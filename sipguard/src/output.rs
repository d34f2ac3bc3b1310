//! What people read: colours, tables, numbers, times. Everything here goes to a writer that the caller gives.

use std::{
    fmt::{self, Display},
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// Standard output, which a full line or two does not flush.
pub(crate) struct Stdout(BufWriter<StdoutLock<'static>>);

impl Stdout {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, io::stdout().lock()))
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.0.get_ref().is_terminal()
    }

    /// The colours that were asked for, where it is for us to choose those that fit.
    pub(crate) fn palette(&self, choice: ColorChoice) -> Palette {
        Palette::new(resolved(choice, self.0.get_ref()))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The colours for standard error.
pub(crate) fn palette_of_errors(choice: ColorChoice) -> Palette {
    Palette::new(resolved(choice, &io::stderr()))
}

fn resolved(choice: ColorChoice, stream: &impl anstream::stream::RawStream) -> bool {
    let choice = match choice {
        ColorChoice::Auto => AutoStream::choice(stream),
        chosen => chosen,
    };
    choice != ColorChoice::Never
}

/// Styles, or none: what is not coloured is written with empty ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Palette {
    /// Titles.
    pub(crate) title: Style,
    /// What passes, what is well.
    pub(crate) good: Style,
    /// What is dropped, what is wrong.
    pub(crate) bad: Style,
    /// What to look at.
    pub(crate) warning: Style,
    /// What can be skipped.
    pub(crate) dim: Style,
}

impl Palette {
    fn new(coloured: bool) -> Self {
        if !coloured {
            return Self::default();
        }
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        Self {
            title: Style::new().bold(),
            good: colour(AnsiColor::Green),
            bad: colour(AnsiColor::Red).bold(),
            warning: colour(AnsiColor::Yellow),
            dim: Style::new().dimmed(),
        }
    }
}

/// Says what went wrong, each mistake on a line of its own. There is nobody to tell where that fails.
pub(crate) fn complain(message: &str, palette: Palette) {
    let bad = palette.bad;
    let mut stderr = io::stderr().lock();
    for line in message.lines() {
        let _ = writeln!(stderr, "{bad}sipguard:{bad:#} {line}");
    }
}

/// Says what to mind.
pub(crate) fn warn(message: &str, palette: Palette) {
    let warning = palette.warning;
    let _ = writeln!(
        io::stderr(),
        "{warning}sipguard: warning:{warning:#} {message}"
    );
}

/// Says something beside what was asked for. There is nobody to tell where that fails.
pub(crate) fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// A table of rows with a style each.
pub(crate) struct Rows {
    table: Table,
    styles: Vec<Style>,
}

impl Rows {
    /// With titles; those that begin with `>` stand over numbers.
    pub(crate) fn new(titles: &[&str], palette: Palette) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(titles.iter().map(|title| title.trim_start_matches('>')));
        for (index, title) in titles.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                if title.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self {
            table,
            styles: vec![palette.title],
        }
    }

    pub(crate) fn add(&mut self, style: Style, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
        self.styles.push(style);
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        // A cell never has a line break, so that lines are rows.
        for (line, style) in self.table.lines().zip(&self.styles) {
            writeln!(out, "{style}{}{style:#}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1,234,567`
pub(crate) struct Grouped(pub(crate) u64);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

/// `1.23 GB`, with powers of ten.
pub(crate) struct Scaled(pub(crate) u64, pub(crate) &'static str);

impl Display for Scaled {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        let mut shown = value as f64;
        let mut prefix = "";
        for next in ["k", "M", "G", "T", "P", "E"] {
            // What would be rounded up to a thousand is one of the next unit.
            if shown < 999.5 {
                break;
            }
            prefix = next;
            shown /= 1000.0;
        }
        let decimals = match shown {
            _ if prefix.is_empty() => 0,
            shown if shown < 9.995 => 2,
            shown if shown < 99.95 => 1,
            _ => 0,
        };
        f.pad(&format!("{shown:.decimals$} {prefix}{unit}"))
    }
}

/// A duration in its two largest units: `2d 3h`, `59s`.
pub(crate) fn rough(seconds: i64) -> String {
    let round = match seconds.unsigned_abs() {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    let duration = SignedDuration::from_secs(seconds / round * round);
    let (days, rest) = (duration.as_hours() / 24, duration.as_secs() % 86_400);
    match (days, rest) {
        (0, _) => format!("{duration:#}"),
        (_, 0) => format!("{days}d"),
        _ => format!("{days}d {:#}", SignedDuration::from_secs(rest)),
    }
}

/// A moment as the clock on the wall shows it.
pub(crate) fn local(moment: Timestamp) -> String {
    moment
        .to_zoned(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// `one`, `one and two`, `one, two and three`
pub(crate) fn joined(words: impl IntoIterator<Item = impl Display>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| word.to_string()).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// `1 entry`, `2 entries`
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", Grouped(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, wanted) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(Grouped(number).to_string(), wanted);
        }
        for (number, wanted) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Scaled(number, "B").to_string(), wanted);
        }
    }

    #[test]
    fn times() {
        for (seconds, wanted) in [
            (0, "0s"),
            (59, "59s"),
            (90, "1m 30s"),
            (7_259, "2h"),
            (7_300, "2h 1m"),
            (86_400, "1d"),
            (90_061, "1d 1h"),
            (7 * 86_400, "7d"),
        ] {
            assert_eq!(rough(seconds), wanted);
        }
    }

    #[test]
    fn words() {
        assert_eq!(joined(["a"; 0]), "");
        assert_eq!(joined(["a"]), "a");
        assert_eq!(joined(["a", "b"]), "a and b");
        assert_eq!(joined(["a", "b", "c"]), "a, b and c");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(count(1000, "entry", "entries"), "1,000 entries");
    }

    #[test]
    fn tables_line_up_and_have_no_trailing_space() {
        let mut rows = Rows::new(&["NAME", ">COUNT"], Palette::default());
        rows.add(Style::new(), ["eth0".to_owned(), "7".to_owned()]);
        rows.add(Style::new(), ["a".to_owned(), "1,000".to_owned()]);
        let mut out = Vec::new();
        rows.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME  COUNT\neth0      7\na     1,000\n"
        );
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Palette::new(false), Palette::default());
        assert_ne!(Palette::new(true).bad, Style::new());
    }
}
