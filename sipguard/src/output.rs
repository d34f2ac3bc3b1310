//! What people read: colours and tables. Everything here goes to a writer that the caller gives.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
pub(crate) use sipguard::prose::{Grouped, Scaled, count, joined, local, rough};

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

#[cfg(test)]
mod tests {
    use super::*;

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
