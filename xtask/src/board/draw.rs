//! The board as a picture: each panel where it stands, with what it shows.

use std::{collections::BTreeMap, fmt::Display, path::Path};

use anyhow::{Context as _, Result, anyhow};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::Shift,
    drawing::DrawingArea,
    prelude::{IntoDrawingArea as _, PathElement, Polygon, Rectangle, SVGBackend, Text},
    style::{Color as _, IntoFont as _, RGBColor, WHITE},
};
use serde_json::Value;

use super::prometheus::Series;

/// Grafana's grid has 24 columns; this is how large one cell of it is here, in pixels.
const COLUMN: i32 = 50;
const ROW: i32 = 28;
const MARGIN: i32 = 4;
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2e);
const PALE: RGBColor = RGBColor(0x6a, 0x73, 0x7d);
const BACKGROUND: RGBColor = RGBColor(0xf4, 0xf5, 0xf5);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
/// Grafana's first ones.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x56, 0xa6, 0x4b),
    RGBColor(0xe0, 0xb4, 0x00),
    RGBColor(0x32, 0x74, 0xd9),
    RGBColor(0xff, 0x78, 0x0a),
    RGBColor(0xe0, 0x2f, 0x44),
    RGBColor(0x8f, 0x3b, 0xb8),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What a line is called, and its values at moments.
type Line = (String, Vec<(f64, f64)>);
/// Answers an expression.
type Asked<'a> = &'a dyn Fn(&str) -> Result<Vec<Series>>;

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

pub(super) fn board(file: &Path, panels: &[Value], asked: Asked<'_>) -> Result<()> {
    let place = |panel: &Value, key: &str| -> Result<i32> {
        let number = panel["gridPos"][key]
            .as_i64()
            .context("a panel has no place")?;
        Ok(i32::try_from(number)?)
    };
    let mut rows = 0;
    for panel in panels {
        rows = rows.max(place(panel, "y")? + place(panel, "h")?);
    }
    let size = (24 * COLUMN, rows * ROW);
    let size = (u32::try_from(size.0)?, u32::try_from(size.1)?);
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&BACKGROUND).map_err(failed)?;
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| place(panel, key));
        let (left, top) = (x? * COLUMN, y? * ROW);
        let area = area.clone().shrink((left, top), (w? * COLUMN, h? * ROW));
        let area = area.margin(MARGIN, MARGIN, MARGIN, MARGIN);
        area.fill(&WHITE).map_err(failed)?;
        let title = panel["title"].as_str().unwrap_or_default();
        let font = ("sans-serif", 15).into_font().color(&INK);
        area.draw(&Text::new(title.to_owned(), (8, 7), font))
            .map_err(failed)?;
        let area = area.margin(26, 4, 8, 8);
        let lines = lines(panel, asked)?;
        match panel["type"].as_str() {
            Some("stat") => number(&area, panel, &lines)?,
            Some("table") => table(&area, &lines)?,
            _ => graph(&area, panel, lines)?,
        }
    }
    area.present().map_err(failed)
}

fn lines(panel: &Value, asked: Asked<'_>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for target in panel["targets"].as_array().context("it asks for nothing")? {
        let expression = target["expr"].as_str().context("it asks for nothing")?;
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        for series in asked(expression)? {
            let name = if legend.is_empty() {
                all(&series.metric)
            } else {
                named(legend, &series.metric)
            };
            lines.push((name, series.values().collect()));
        }
    }
    Ok(lines)
}

/// As Grafana fills it in.
fn named(legend: &str, labels: &BTreeMap<String, String>) -> String {
    let mut name = legend.to_owned();
    for (label, value) in labels {
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    // Of labels that it has not, nothing is shown.
    while let Some((before, (_, behind))) = name
        .split_once("{{")
        .and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        name = format!("{before}{behind}");
    }
    name.trim().to_owned()
}

/// Those that say something, for a table.
fn all(labels: &BTreeMap<String, String>) -> String {
    let said = labels.iter();
    let said = said.filter(|(label, _)| !["__name__", "job", "instance"].contains(&label.as_str()));
    let said: Vec<_> = said
        .map(|(label, value)| format!("{label} {value}"))
        .collect();
    said.join(", ")
}

fn number(area: &Area<'_>, panel: &Value, lines: &[Line]) -> Result<()> {
    let last = lines.first().and_then(|(_, values)| values.last());
    let Some(&(time, value)) = last else {
        return Ok(());
    };
    let defaults = &panel["fieldConfig"]["defaults"];
    let mapped = &defaults["mappings"][0]["options"][value.to_string()];
    let text = match (mapped["text"].as_str(), defaults["unit"].as_str()) {
        (Some(text), _) => text.to_owned(),
        (None, Some("dateTimeFromNow")) => {
            format!("{:.0} minutes ago", (time - value / 1_000.0) / 60.0)
        }
        (None, unit) => with_unit(value, unit),
    };
    let is_coloured = panel["options"]["colorMode"] == "background";
    let steps = &defaults["thresholds"]["steps"];
    let mut above = steps.as_array().into_iter().flatten();
    // The highest one that it reaches.
    let step = above.rfind(|step| step["value"].as_f64().is_none_or(|least| value >= least));
    let colour = mapped["color"]
        .as_str()
        .or(step.and_then(|it| it["color"].as_str()));
    let colour = match colour {
        _ if !is_coloured => INK,
        Some("red") => COLOURS[4],
        Some("orange") => COLOURS[3],
        _ => COLOURS[0],
    };
    let (width, height) = area.dim_in_pixel();
    if is_coloured {
        area.fill(&colour).map_err(failed)?;
    }
    let font = ("sans-serif", 28).into_font();
    let (text_width, text_height) = font.box_size(&text).map_err(failed)?;
    let middle = (
        (i32::try_from(width)? - i32::try_from(text_width)?) / 2,
        (i32::try_from(height)? - i32::try_from(text_height)?) / 2,
    );
    let font = font.color(if is_coloured { &WHITE } else { &INK });
    area.draw(&Text::new(text, middle, font)).map_err(failed)
}

fn table(area: &Area<'_>, lines: &[Line]) -> Result<()> {
    let font = ("sans-serif", 14).into_font().color(&INK);
    let mut height = 4;
    for (name, values) in lines {
        // What there is no more stands in no table.
        let (Some((_, value)), Some(end)) = (values.last(), last(lines)) else {
            continue;
        };
        if values.last().is_some_and(|(time, _)| *time < end) {
            continue;
        }
        let text = format!("{name}: {value}");
        area.draw(&Text::new(text, (2, height), font.clone()))
            .map_err(failed)?;
        height += 20;
    }
    Ok(())
}

/// The last moment of all lines.
fn last(lines: &[Line]) -> Option<f64> {
    let times = lines.iter().filter_map(|(_, values)| values.last());
    times.map(|(time, _)| *time).reduce(f64::max)
}

fn graph(area: &Area<'_>, panel: &Value, mut lines: Vec<Line>) -> Result<()> {
    let defaults = &panel["fieldConfig"]["defaults"];
    let unit = defaults["unit"].as_str();
    let custom = &defaults["custom"];
    let opacity = custom["fillOpacity"].as_f64().unwrap_or_default() / 100.0;
    if custom["stacking"]["mode"] == "normal" {
        stack(&mut lines);
    }
    let times = lines.iter().flat_map(|(_, values)| values);
    let times = times.map(|(time, _)| *time);
    let Some(begin) = times.clone().reduce(f64::min) else {
        let font = ("sans-serif", 14).into_font().color(&PALE);
        return area
            .draw(&Text::new("no data", (8, 8), font))
            .map_err(failed);
    };
    let end = times.reduce(f64::max).unwrap_or(begin) + 1.0;
    let values = lines.iter().flat_map(|(_, values)| values);
    let most = values.map(|(_, value)| *value).fold(1.0, f64::max) * 1.3;
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(22)
        .y_label_area_size(64)
        .build_cartesian_2d(begin..end, 0.0..most)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|time| format!("{:.0} s", time - begin))
        .y_label_formatter(&|value| with_unit(*value, unit))
        .label_style(("sans-serif", 12).into_font().color(&PALE))
        .draw()
        .map_err(failed)?;
    // The highest of a stack first, so that those below it are seen.
    for (number, (name, values)) in lines.into_iter().enumerate().rev() {
        let colour = COLOURS[number % COLOURS.len()];
        if opacity > 0.0 {
            let ground = [values.last(), values.first()];
            let ground = ground.into_iter().flatten().map(|(time, _)| (*time, 0.0));
            let around: Vec<_> = values.iter().copied().chain(ground).collect();
            let below = Polygon::new(around, colour.mix(opacity).filled());
            chart.draw_series([below]).map_err(failed)?;
        }
        chart
            .draw_series([PathElement::new(values, colour.stroke_width(2))])
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(6)
        .label_font(("sans-serif", 12).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    let (width, height) = area.dim_in_pixel();
    let around = [(0, 0), (i32::try_from(width)?, i32::try_from(height)?)];
    area.draw(&Rectangle::new(around, WHITE.mix(0.0)))
        .map_err(failed)
}

/// Each on top of those before it.
fn stack(lines: &mut [Line]) {
    // All are asked for the same moments.
    let mut below = BTreeMap::<String, f64>::new();
    for (_, values) in lines {
        for (time, value) in values {
            let sum = below.entry(time.to_string()).or_default();
            *sum += *value;
            *value = *sum;
        }
    }
}

/// As short as a board has it.
fn with_unit(value: f64, unit: Option<&str>) -> String {
    let (value, thousand) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 && unit != Some("s") => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = usize::from(value < 10.0 && value.fract() > 0.05);
    let unit = match unit {
        Some("pps") => " p/s",
        Some("bps") => " b/s",
        Some("s") => " s",
        _ => "",
    };
    format!("{value:.digits$} {thousand}{unit}")
        .replace("  ", " ")
        .trim_end()
        .to_owned()
}
