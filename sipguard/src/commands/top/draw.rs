//! A view, drawn. What strangers say comes through [`Said`] alone, so that a column is as wide as its letters are many.

use compact_str::CompactString;
use jiff::Timestamp;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::bar,
    text::{Line, Span},
    widgets::{Paragraph, Sparkline},
};
use sipguard::{
    agent::{
        attempts,
        knocks::{Attempted, Few, Knock},
    },
    prose::{Grouped, Scaled, count, local},
};
use sipguard_lists::said::Said;

use super::{
    rates::{By, History},
    view::{Page, Prompt, Row, View},
};
use crate::commands::knocks::says;

/// From this width on there is room for three graphs beside each other.
const WIDE: u16 = 72;
/// How many lines of them are shown.
const GRAPHS: u16 = 4;

const HELP: &str = "\
q          leave
up, down   mark another source; also page up, page down, home, end
Enter      all that is known of it
s          sort by knocks, last seen, first seen, what they try, address
/          only sources with this in them: an address, a number, a User-Agent, a country, scan, ...
Esc        back, or all sources again
a          let the marked source in (asks first; as `sipguard allow`)
d          keep it out (asks first; as `sipguard deny`)
Ctrl-L     draw everything anew
?          this page

The graphs have every packet, one bar a second. The sources are a sample: those that the kernel told of since this began.";

/// Styles, or none where no colours are wanted; what is marked is reversed all the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Colours {
    coloured: bool,
}

impl Colours {
    pub(super) fn new(coloured: bool) -> Self {
        Self { coloured }
    }

    fn of(self, colour: Color) -> Style {
        if self.coloured {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn bad(self) -> Style {
        self.of(Color::Red)
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn warning(self) -> Style {
        self.of(Color::Yellow)
    }
}

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, now: Timestamp, colours: Colours) {
    let area = frame.area();
    let wide = area.width >= WIDE && area.height >= 16;
    let graphs = if wide { GRAPHS + 1 } else { 1 };
    let said = last(view, area.width, colours);
    let lines = said.width().div_ceil(usize::from(area.width.max(1)));
    let lines = u16::try_from(lines).unwrap_or(u16::MAX);
    let [top, graphs, body, last] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(graphs),
        Constraint::Min(0),
        // Where a word does not fit, it needs one more.
        Constraint::Length(if lines > 1 { lines.min(4) + 1 } else { 1 }),
    ])
    .areas(area);
    draw_title(frame, top, view, now, colours);
    if wide {
        draw_graphs(frame, graphs, view, colours);
    } else {
        draw_graph(frame, graphs, "dropped", &view.rates.dropped, colours);
    }
    match view.page {
        Page::Sources => draw_sources(frame, body, view, now, colours),
        Page::Source(source) => {
            let lines = match view.knocks.get(source) {
                Some(knock) => describe(knock, now, colours),
                None => vec![Line::raw(format!(
                    "{source} is forgotten: others knock more"
                ))],
            };
            draw_page(frame, body, view, lines);
        }
        Page::Help => draw_page(frame, body, view, HELP.lines().map(Line::raw).collect()),
    }
    draw_lines(frame, last, vec![said]);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, view: &View, now: Timestamp, colours: Colours) {
    let rates = &view.rates;
    let mut spans = vec![Span::styled("sipguard top", TITLE)];
    if view.in_force {
        spans.extend([
            Span::raw("  dropped "),
            Span::styled(format!("{}/s", short(rates.dropped.now())), colours.bad()),
        ]);
    } else {
        spans.push(Span::styled("  NOTHING IS IN FORCE", colours.bad()));
    }
    if view.in_force && area.width >= WIDE {
        spans.extend([
            Span::raw(format!(
                " ({}/s)  passed ",
                Scaled(rates.dropped_bits, "bit")
            )),
            Span::styled(format!("{}/s", short(rates.passed.now())), colours.good()),
        ]);
    }
    let time = local(now);
    // The day is known.
    let time = time.split(' ').next_back().unwrap_or_default().to_owned();
    let [left, right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(9)]).areas(area);
    frame.render_widget(Line::from(spans), left);
    frame.render_widget(Line::styled(time, DIM).right_aligned(), right);
}

/// Three columns of graphs.
fn draw_graphs(frame: &mut Frame<'_>, area: Rect, view: &View, colours: Colours) {
    let columns = [
        ("DROPPED BY INTERFACE", By::Interface),
        ("BY SERVICE", By::Service),
        ("BY REASON", By::Reason),
    ];
    let areas = Layout::horizontal([Constraint::Fill(1); 3])
        .spacing(2)
        .areas::<3>(area);
    for (area, (title, by)) in areas.into_iter().zip(columns) {
        let rows = Layout::vertical([Constraint::Length(1); 1 + GRAPHS as usize])
            .areas::<{ 1 + GRAPHS as usize }>(area);
        let [first, rows @ ..] = rows;
        frame.render_widget(Line::styled(title, TITLE), first);
        let histories = view.rates.by(by, rows.len());
        for (row, (name, history)) in rows.into_iter().zip(histories) {
            draw_graph(frame, row, name, history, colours);
        }
    }
}

/// `eth0      ▁▂▅█  1,234`
fn draw_graph(frame: &mut Frame<'_>, area: Rect, name: &str, history: &History, colours: Colours) {
    let [label, graph, number] = Layout::horizontal([
        Constraint::Length(10),
        Constraint::Min(0),
        Constraint::Length(8),
    ])
    .areas(area);
    let style = if history.passes {
        colours.good()
    } else {
        colours.bad()
    };
    frame.render_widget(Line::raw(Said(name).to_string()), label);
    let seconds = history.last(usize::from(graph.width));
    // The newest one stands at the right.
    let indent = graph
        .width
        .saturating_sub(u16::try_from(seconds.len()).unwrap_or(u16::MAX));
    let graph = Rect {
        x: graph.x + indent,
        width: graph.width - indent,
        ..graph
    };
    let bars = Sparkline::default()
        .data(seconds)
        .bar_set(bar::NINE_LEVELS)
        .style(style);
    frame.render_widget(bars, graph);
    frame.render_widget(Line::raw(short(history.now())).right_aligned(), number);
}

/// What a column shows of a source.
type Cell = fn(&Row<'_>, Timestamp) -> String;

/// Of the table of sources: the first four fill a narrow screen. The last one that has room takes what is left.
const COLUMNS: [(&str, usize, Cell); 6] = [
    ("SOURCE", ADDRESS, |row, _| row.knock.source.to_string()),
    ("TOLD", 4, |row, _| tiny(row.knock.told)),
    ("LAST", 4, |row, now| ago(row.knock.last, now)),
    ("TRIES", 11, |row, _| {
        row.attempt.map_or("", Attempted::words).to_owned()
    }),
    ("FIRST", 5, |row, now| ago(row.knock.first, now)),
    ("SAYS", 24, |row, _| says(row.knock)),
];
/// As wide as an IPv4 address is at most.
const ADDRESS: usize = 15;
/// Between two columns.
const GAP: usize = 2;

fn draw_sources(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &mut View,
    now: Timestamp,
    colours: Colours,
) {
    let [titles, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    view.rows = usize::from(body.height);
    let rows = view.sources();
    let place = view.place(&rows);
    // The mark is always among those that are shown.
    let first = (place + 1).saturating_sub(view.rows);
    let shown = rows.iter().enumerate().skip(first).take(view.rows);
    // The widest address that is shown has room, unless that would leave too little for the others.
    let addresses = shown
        .clone()
        .map(|(_, row)| row.knock.source.to_string().len());
    let widest = addresses.max().unwrap_or_default();
    let columns = columns(usize::from(area.width), widest);
    let marked = rows.get(place).map(|row| row.knock.source);
    let line = |cells: Vec<String>| {
        let cells = cells.iter().zip(&columns).map(|(cell, (width, _))| {
            let cut: String = cell.chars().take(*width).collect();
            format!("{cut:<width$}")
        });
        let text = cells.collect::<Vec<_>>().join("  ");
        text.trim_end().to_owned()
    };
    let words = COLUMNS.iter().map(|(title, ..)| (*title).to_owned());
    frame.render_widget(Line::styled(line(words.collect()), TITLE), titles);
    if rows.is_empty() {
        let nobody = match (&*view.filter, &view.deaf) {
            ("", None) => "nobody has knocked since this began".to_owned(),
            ("", Some(_)) => String::new(),
            (filter, _) => format!("nobody with \"{}\" has knocked", Said(filter)),
        };
        draw_lines(frame, body, vec![Line::styled(nobody, DIM)]);
        return;
    }
    let lines = shown.map(|(index, row)| {
        let cells = columns.iter().map(|(_, cell)| cell(row, now)).collect();
        let mut style = match row.attempt {
            Some(Attempted::TollFraud) => colours.bad(),
            Some(Attempted::BruteForce) => colours.warning(),
            Some(Attempted::Scan) | None => Style::new(),
        };
        let mut text = line(cells);
        if index == place {
            style = style.add_modifier(Modifier::REVERSED);
            text = format!("{text:<width$}", width = usize::from(area.width));
        }
        Line::styled(text, style)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), body);
    view.shown = marked;
}

/// Those columns that have room, and how much each has.
fn columns(width: usize, address: usize) -> Vec<(usize, Cell)> {
    let all: usize = COLUMNS.iter().map(|(_, wanted, _)| wanted + GAP).sum();
    let spare = (width + GAP).saturating_sub(all);
    let mut columns = Vec::new();
    let mut left = width;
    for (place, (_, mut wanted, cell)) in COLUMNS.into_iter().enumerate() {
        if place == 0 {
            wanted = address.clamp(ADDRESS, ADDRESS + spare).min(left);
        } else if wanted > left {
            break;
        }
        columns.push((wanted, cell));
        left = left.saturating_sub(wanted + GAP);
    }
    if let Some((last, _)) = columns.last_mut() {
        *last += left;
    }
    columns
}

/// All that is known of a source.
fn describe<'l>(knock: &Knock, now: Timestamp, colours: Colours) -> Vec<Line<'l>> {
    let mut lines = vec![Line::styled(knock.source.to_string(), TITLE)];
    let mut line = |label: &str, text: String, style: Style| {
        if !text.is_empty() {
            lines.push(Line::from(vec![
                Span::styled(format!("{label:<11}"), DIM),
                Span::styled(text, style),
            ]));
        }
    };
    let plain = Style::new();
    let seen = |time: Timestamp| format!("{} ({} ago)", local(time), ago(time, now));
    line("first", seen(knock.first), plain);
    line("last", seen(knock.last), plain);
    let minutes = count(knock.minutes as usize, "minute", "minutes");
    line(
        "knocks",
        format!("{} told of, in {minutes}", Grouped(knock.told)),
        plain,
    );
    for attempt in attempts::of(knock).iter().rev() {
        let style = match attempt.what() {
            Attempted::TollFraud => colours.bad(),
            Attempted::BruteForce | Attempted::Scan => colours.warning(),
        };
        line(
            "tries",
            format!("{}: {attempt}", attempt.what().words()),
            style,
        );
    }
    let ports = knock
        .ports
        .iter()
        .map(|seen| times(&seen.what.to_string(), seen.times));
    let services = texts(&knock.services);
    line("services", services, plain);
    line("ports", ports.collect::<Vec<_>>().join(", "), plain);
    line("methods", texts(&knock.methods), plain);
    line("User-Agent", texts(&knock.user_agents), plain);
    line("users", texts(&knock.users), plain);
    let mut numbers: Vec<(String, Style, Vec<String>)> = Vec::new();
    for seen in knock.numbers.iter() {
        let number = &seen.what;
        let (risk, style) = if number.high_risk {
            (", high-risk", colours.bad())
        } else {
            ("", plain)
        };
        let text = format!("{number}{risk}");
        let dialled = number.dialled.as_deref();
        let way = dialled.map(|dialled| times(&Said(dialled).to_string(), seen.times));
        match numbers.iter_mut().find(|(known, ..)| *known == text) {
            Some((.., ways)) => ways.extend(way),
            None => numbers.push((text, style, Vec::from_iter(way))),
        }
    }
    for (number, style, ways) in numbers {
        line("number", number, style);
        line("  as", ways.join(", "), style);
    }
    lines
}

fn texts<const N: usize>(few: &Few<CompactString, N>) -> String {
    let texts = few
        .iter()
        .map(|seen| times(&Said(&seen.what).to_string(), seen.times));
    texts.collect::<Vec<_>>().join(", ")
}

/// `INVITE ×7`
fn times(text: &str, times: u32) -> String {
    match times {
        1 => text.to_owned(),
        _ => format!("{text} ×{}", Grouped(times.into())),
    }
}

/// What may be longer than the screen: the view says how many lines have gone up.
fn draw_page(frame: &mut Frame<'_>, area: Rect, view: &mut View, lines: Vec<Line<'_>>) {
    view.scrolled = view.scrolled.min(lines.len().saturating_sub(1));
    draw_lines(frame, area, lines.into_iter().skip(view.scrolled).collect());
}

fn draw_lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    let wrap = ratatui::widgets::Wrap { trim: false };
    frame.render_widget(Paragraph::new(lines).wrap(wrap), area);
}

/// What the last line says; it is several where it is a question or an answer that needs them.
fn last<'l>(view: &View, width: u16, colours: Colours) -> Line<'l> {
    match &view.prompt {
        Prompt::Filter => Line::from(vec![
            Span::styled("/", TITLE),
            Span::raw(view.filter.clone()),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ]),
        Prompt::Ask(say) => Line::styled(format!("{}? y/n", say.command()), colours.warning()),
        Prompt::Message(message) => Line::styled(message.clone(), colours.warning()),
        Prompt::None => {
            if let Some(why) = &view.deaf {
                return Line::styled(format!("no events: {why}"), colours.warning());
            }
            let (shown, filter) = match &*view.filter {
                "" => (view.knocks.len(), String::new()),
                filter => (view.sources().len(), format!(" with \"{}\"", Said(filter))),
            };
            let known = count(shown, "source", "sources");
            let leave = if width >= WIDE { "  q leave" } else { "" };
            let sort = view.sort.name();
            Line::styled(format!("{known}{filter} by {sort}  ? help{leave}"), DIM)
        }
    }
}

/// In at most six letters.
fn short(number: u64) -> String {
    if number < 100_000 {
        Grouped(number).to_string()
    } else {
        Scaled(number, "").to_string().replace(' ', "")
    }
}

/// In at most four letters.
fn tiny(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}k", number / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", number / 1_000_000),
        _ => "many".to_owned(),
    }
}

/// In at most three letters.
fn ago(time: Timestamp, now: Timestamp) -> String {
    match now.duration_since(time).as_secs().max(0) {
        seconds @ 0..100 => format!("{seconds}s"),
        seconds @ 100..6_000 => format!("{}m", seconds / 60),
        seconds @ 6_000..360_000 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
