//! The charts of a run, as SVG.

use std::{iter, path::Path};

use anyhow::{Result, anyhow};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::ranged1d::IntoSegmentedCoord as _,
    prelude::{
        Circle, IntoDrawingArea as _, PathElement, Rectangle, SVGBackend, SegmentValue, Text,
    },
    style::{
        Color as _, FontTransform, IntoFont as _, IntoTextStyle as _, RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{figures::Figures, veth::Receives};

const SIZE: (u32, u32) = (820, 380);
const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xb0, 0xb0, 0xb0);
const NOTHING: RGBColor = RGBColor(0xd6, 0x27, 0x28);

/// One bar: what it stands for, and how high it is.
type Bar = (String, f64);

pub(super) fn draw(figures: &Figures, folder: &Path) -> Result<()> {
    let most = figures
        .micro
        .iter()
        .map(|row| row.entries)
        .max()
        .unwrap_or_default();
    let of_size = |row: &&super::micro::Row| row.entries == most && row.filter != "empty";
    let cost = figures.micro.iter().filter(of_size);
    let cost: Vec<Bar> = cost
        .map(|row| (row.case.clone(), row.ns_over_empty as f64))
        .collect();
    bars(
        &folder.join("packet.svg"),
        &format!("ns a packet over an empty program, {most} entries"),
        &cost,
    )?;

    let rates = figures.veth.iter().filter(|row| {
        row.receives == Receives::SameProcessor
            && row.frames == "IPv4"
            && row.entries.is_none_or(|entries| entries == 1_000)
    });
    let rates: Vec<Bar> = rates
        .map(|row| (row.filter.clone(), 1e3 / row.fast_ns))
        .collect();
    bars(
        &folder.join("veth.svg"),
        "million packets a second dropped by one processor, 1,000 entries",
        &rates,
    )?;

    calls(&folder.join("calls.svg"), &figures.calls)?;

    let most = figures
        .apply
        .iter()
        .map(|row| row.entries)
        .max()
        .unwrap_or_default();
    let times = figures.apply.iter().filter(|row| row.entries == most);
    let times: Vec<Bar> = times.map(|row| (row.what.clone(), row.seconds)).collect();
    bars(
        &folder.join("policy.svg"),
        &format!("seconds until {most} entries are in force"),
        &times,
    )
}

fn bars(file: &Path, title: &str, bars: &[Bar]) -> Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", file.display());
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let longest = bars.iter().map(|(_, length)| *length).fold(0.0, f64::max) * 1.15;
    let rows = bars.len();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20).into_font())
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(240)
        .build_cartesian_2d(0.0..longest, (0..rows - 1).into_segmented())
        .map_err(|error| failed(&error))?;
    // The first bar on top.
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) => bars
            .iter()
            .rev()
            .nth(*place)
            .map_or(String::new(), |bar| bar.0.clone()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows)
        .y_label_formatter(&name)
        .label_style(
            ("sans-serif", 15)
                .into_font()
                .transform(FontTransform::None),
        )
        .draw()
        .map_err(|error| failed(&error))?;
    let shapes = bars
        .iter()
        .rev()
        .enumerate()
        .map(|(place, (name, length))| {
            let is_ours = ["sipguard", "drop", "pass"]
                .iter()
                .any(|ours| name.starts_with(ours));
            let colour = if is_ours { OURS } else { OTHERS };
            let mut bar = Rectangle::new(
                [
                    (0.0, SegmentValue::Exact(place)),
                    (*length, SegmentValue::Exact(place + 1)),
                ],
                colour.filled(),
            );
            bar.set_margin(3, 3, 0, 0);
            bar
        });
    chart.draw_series(shapes).map_err(|error| failed(&error))?;
    let figures = bars.iter().rev().enumerate().map(|(place, (_, length))| {
        let at = (*length + longest * 0.01, SegmentValue::CenterOf(place));
        let figure = if *length < 10.0 {
            format!("{length:.2}")
        } else {
            format!("{length:.0}")
        };
        let style = ("sans-serif", 15).into_font().into_text_style(&SIZE);
        Text::new(figure, at, style.pos(Pos::new(HPos::Left, VPos::Center)))
    });
    chart.draw_series(figures).map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

/// Per cent of calls completed at each rate of the flood, a line for each filter.
fn calls(file: &Path, rows: &[super::calls::Row]) -> Result<()> {
    let mut filters: Vec<&str> = Vec::new();
    let mut rates: Vec<String> = Vec::new();
    for row in rows {
        let rate = match row.wanted {
            Some(0) => "no flood".to_owned(),
            Some(rate) => format!("{} k/s", rate / 1_000),
            None => "as fast as it goes".to_owned(),
        };
        if !filters.contains(&row.filter.as_str()) {
            filters.push(&row.filter);
        }
        if !rates.contains(&rate) {
            rates.push(rate);
        }
    }
    if rates.len() < 2 {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", file.display());
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "per cent of calls completed, by packets of a flood",
            ("sans-serif", 20).into_font(),
        )
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d((0..rates.len() - 1).into_segmented(), 0.0..105.0)
        .map_err(|error| failed(&error))?;
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) => rates.get(*place).cloned().unwrap_or_default(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(rates.len())
        .x_label_formatter(&name)
        .y_label_formatter(&|share| format!("{share:.0}"))
        .label_style(("sans-serif", 15).into_font())
        .draw()
        .map_err(|error| failed(&error))?;
    for filter in filters {
        let colour = match filter {
            "no filter" => NOTHING,
            name if name.starts_with("sipguard") => OURS,
            _ => OTHERS,
        };
        let of_filter = rows.iter().filter(|row| row.filter == filter);
        let points: Vec<(SegmentValue<usize>, f64)> = of_filter
            .enumerate()
            .map(|(place, row)| {
                let share = row.completed as f64 * 100.0 / f64::from(row.calls);
                (SegmentValue::CenterOf(place), share)
            })
            .collect();
        let dots = points
            .iter()
            .map(|point| Circle::new(point.clone(), 4, colour.filled()));
        chart.draw_series(dots).map_err(|error| failed(&error))?;
        chart
            .draw_series(iter::once(PathElement::new(points, colour.stroke_width(3))))
            .map_err(|error| failed(&error))?
            .label(filter)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .margin(16)
        .label_font(("sans-serif", 15).into_font())
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}
