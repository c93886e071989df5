//! Plots as SVG.
//!
//! Role: false rollbacks of all rules with limits, delays as shares over time, and one path of "1 in N".

use std::path::Path;

use anyhow::{Result, anyhow};
use deployment_guard::domain::evidence::number::to_f64;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::generator::Dice;
use crate::report::Row;
use crate::rules::{ALPHA, ERRORS, Evidence, NAMES, Rule, Run, Verdict};
use crate::runner::Decided;
use crate::scenarios::Kind;
use crate::statistics::{limits, two_stream_bound};

/// Colours that people with colour vision deficiency can tell apart (Okabe and Ito 2008).
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 0, 0),
    RGBColor(110, 110, 110),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(120, 200, 170),
    RGBColor(0, 114, 178),
    RGBColor(150, 190, 230),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
];
/// Where a share of zero is drawn on the log axis.
const NOTHING: f64 = 2e-4;
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn colour(rule: usize) -> RGBColor {
    COLOURS.get(rule).copied().unwrap_or(BLACK)
}

fn blank(path: &Path, size: (u32, u32)) -> Result<Area<'_>> {
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    Ok(area)
}

/// A key at a place of the picture, one line a rule.
fn key(area: &Area<'_>, at: (i32, i32)) -> Result<()> {
    let mut y = at.1;
    for (index, name) in NAMES.iter().enumerate() {
        area.draw(&Circle::new((at.0, y + 6), 4, colour(index).filled())).map_err(failed)?;
        area.draw(&Text::new(*name, (at.0 + 10, y), (FONT, 12))).map_err(failed)?;
        y += 17;
    }
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library hands values over by reference")]
fn whole(value: &f64) -> String {
    format!("{value:.0}")
}

fn place(share: f64) -> f64 {
    share.max(NOTHING)
}

/// Healthy releases by what holds of them.
fn group(kind: &Kind) -> Option<u8> {
    match kind {
        Kind::Inside => Some(0),
        Kind::Outside { .. } => Some(1),
        Kind::Without { .. } => Some(2),
        Kind::Regression(_) | Kind::AtTheBound => None,
    }
}

/// All healthy releases, all rules, on a log axis.
pub fn false_rollbacks(path: &Path, rows: &[Row]) -> Result<()> {
    // Those inside the guarantee first, those without a protection last.
    let mut shown: Vec<(u8, &Row)> = rows.iter().filter_map(|row| Some((group(&row.scenario.kind)?, row))).collect();
    shown.sort_by_key(|(group, _)| *group);
    let count = u32::try_from(shown.len())?;
    let area = blank(path, (960, 110 + 22 * count))?;
    let height = f64::from(count);
    let mut chart = ChartBuilder::on(&area)
        .caption("Healthy releases rolled back (bars: 95 % limits)", (FONT, 16))
        .margin(10)
        .margin_right(170)
        .x_label_area_size(40)
        .y_label_area_size(170)
        .build_cartesian_2d((NOTHING * 0.8..1.1).log_scale(), 0.0..height)
        .map_err(failed)?;
    let label = |value: &f64| if *value <= NOTHING { "0".to_owned() } else { format!("{} %", value * 100.0) };
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_label_formatter(&label).draw().map_err(failed)?;
    let limit = [(ALPHA, 0.0), (ALPHA, height)];
    chart.draw_series(LineSeries::new(limit, RED.stroke_width(1))).map_err(failed)?;
    for (index, (group, row)) in shown.iter().enumerate() {
        let y = height - to_f64(u64::try_from(index)?) - 0.5;
        let rules = if *group == 2 { 1 } else { NAMES.len() };
        for (rule, found) in row.found.iter().enumerate().take(rules).rev() {
            let (low, high) = limits(found.hits(), found.runs());
            let size = if rule == 0 { 5 } else { 3 };
            let shift = y + 0.06 * (4.5 - to_f64(u64::try_from(rule)?));
            // The bars of nine rules at zero would hide each other.
            if rule == 0 || found.hits() > 0 {
                let bar = [(place(low), shift), (place(high), shift)];
                chart.draw_series(LineSeries::new(bar, colour(rule).stroke_width(1))).map_err(failed)?;
            }
            let at = (place(to_f64(found.hits()) / to_f64(found.runs().max(1))), shift);
            chart.draw_series([Circle::new(at, size, colour(rule).filled())]).map_err(failed)?;
        }
        let (_, pixel) = chart.backend_coord(&(NOTHING, y));
        let ink = if *group == 0 { BLACK } else { RGBColor(120, 120, 120) };
        let style = (FONT, 12).into_font().color(&ink);
        area.draw(&Text::new(row.scenario.name, (12, pixel - 7), style)).map_err(failed)?;
    }
    let (zero, bottom) = chart.backend_coord(&(NOTHING, 0.0));
    area.draw(&Text::new("0", (zero - 4, bottom + 6), (FONT, 12))).map_err(failed)?;
    key(&area, (800, 50))?;
    let grey = (FONT, 11).into_font().color(&RGBColor(120, 120, 120));
    area.draw(&Text::new("grey: outside the guarantee", (795, 232), grey)).map_err(failed)?;
    let red = (FONT, 11).into_font().color(&RED);
    area.draw(&Text::new("red line: α = 1 %", (795, 249), red)).map_err(failed)?;
    area.present().map_err(failed)
}

/// The share of runs rolled back by each step, as a staircase.
fn cumulative(found: &Decided, last: u32) -> Vec<(f64, f64)> {
    let all = to_f64(found.runs().max(1));
    let mut stairs = vec![(0.0, 0.0)];
    let mut before = 0.0;
    for step in 1..=last {
        let done = found.rolled_back.iter().flatten().filter(|at| **at <= step).count();
        let share = 100.0 * to_f64(u64::try_from(done).unwrap_or(0)) / all;
        stairs.extend([(f64::from(step), before), (f64::from(step), share)]);
        before = share;
    }
    stairs
}

/// How long bad releases live, for three of them.
pub fn delay(path: &Path, rows: &[Row]) -> Result<()> {
    const LAST: u32 = 60;
    let wanted = ["1-to-5", "1-to-2", "0.1-to-1"];
    let shown: Vec<&Row> =
        wanted.iter().filter_map(|name| rows.iter().find(|row| row.scenario.name == *name)).collect();
    let area = blank(path, (960, 20 + 230 * u32::try_from(shown.len())?))?;
    for (part, row) in area.margin(10, 10, 10, 170).split_evenly((shown.len().max(1), 1)).iter().zip(&shown) {
        let mut chart = ChartBuilder::on(part)
            .caption(format!("{}: rolled back by step, % of releases", row.scenario.about), (FONT, 15))
            .x_label_area_size(30)
            .y_label_area_size(40)
            .build_cartesian_2d(0.0..f64::from(LAST), 0.0..102.0)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc("steps of 15 s").x_label_formatter(&whole).y_label_formatter(&whole);
        mesh.draw().map_err(failed)?;
        for (rule, found) in row.found.iter().enumerate().take(NAMES.len()).rev() {
            let width = if rule == 0 { 3 } else { 1 };
            let line = LineSeries::new(cumulative(found, LAST), colour(rule).stroke_width(width));
            chart.draw_series(line).map_err(failed)?;
        }
        if let Kind::Regression(goal) = &row.scenario.kind
            && let Some(pair) = goal.pair
        {
            let bound = two_stream_bound(pair, ERRORS, ALPHA);
            chart.draw_series(LineSeries::new([(bound, 0.0), (bound, 102.0)], RED.stroke_width(1))).map_err(failed)?;
        }
    }
    key(&area, (805, 40))?;
    let red = (FONT, 11).into_font().color(&RED);
    area.draw(&Text::new("red line: the bound", (800, 222), red)).map_err(failed)?;
    area.present().map_err(failed)
}

/// The largest E so far, step by step, as the power of ten.
fn path_of(run: &Run) -> Vec<(f64, f64)> {
    let mut rule = Evidence::new(&run.setup);
    let mut most = 0.0_f64;
    let mut path = vec![(0.0, 0.0)];
    for (step, seen) in (1_u32..).zip(&run.seen) {
        let verdict = rule.step(seen);
        most = most.max(rule.ln_e() / std::f64::consts::LN_10);
        path.push((f64::from(step), most.min(3.0)));
        if verdict == Some(Verdict::RollBack) {
            break;
        }
    }
    path
}

/// The first run of a healthy release in which chance looks like harm for a while, without a rollback.
fn unlucky(row: &Row) -> Vec<(f64, f64)> {
    let paths = (0..500).map(|run| path_of(&(row.scenario.make)(&mut Dice::new(row.scenario.name, run))));
    let seen = |path: &Vec<(f64, f64)>| path.last().is_some_and(|(_, most)| (0.9..1.7).contains(most));
    paths.into_iter().find(seen).unwrap_or_default()
}

/// One run each of a healthy release and of three bad ones.
pub fn one_in_n(path: &Path, rows: &[Row]) -> Result<()> {
    let wanted = [("edge-0", 0), ("1-to-2", 6), ("0.1-to-1", 8), ("late-1-to-5", 9)];
    let area = blank(path, (960, 330))?;
    let mut chart = ChartBuilder::on(&area)
        .caption("\"1 in N\": the largest E so far, one run each", (FONT, 16))
        .margin(10)
        .margin_right(230)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..120.0, 0.0..3.05)
        .map_err(failed)?;
    let label = |value: &f64| format!("1 in {:.0}", 10.0_f64.powf(*value));
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).y_labels(4).y_label_formatter(&label);
    mesh.x_desc("steps of 15 s").x_label_formatter(&whole).draw().map_err(failed)?;
    let limit = -ALPHA.log10();
    chart.draw_series(LineSeries::new([(0.0, limit), (120.0, limit)], RED.stroke_width(1))).map_err(failed)?;
    let mut y = 50;
    for (name, ink) in wanted {
        let Some(row) = rows.iter().find(|row| row.scenario.name == name) else { continue };
        let healthy = matches!(row.scenario.kind, Kind::Inside);
        let line = if healthy { unlucky(row) } else { path_of(&(row.scenario.make)(&mut Dice::new(name, 0))) };
        chart.draw_series(LineSeries::new(line, colour(ink).stroke_width(2))).map_err(failed)?;
        area.draw(&Circle::new((745, y + 6), 4, colour(ink).filled())).map_err(failed)?;
        let about = if healthy { "healthy, unlucky: 0 against 0.1 %" } else { row.scenario.about };
        area.draw(&Text::new(about, (755, y), (FONT, 11))).map_err(failed)?;
        y += 18;
    }
    let red = (FONT, 11).into_font().color(&RED);
    area.draw(&Text::new("red line: 1 in 100, rolled back", (745, y + 6), red)).map_err(failed)?;
    area.present().map_err(failed)
}
