//! A live rollout as a recording that replays to the bit.
//!
//! Role: the writer's half of the format; `t` is in seconds from the rollout's start, and what was fixed is written down.
//! Inputs: what the judge was given. Outputs: lines of text without a line break. Must never import: other rooms.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::SCHEMA;
use super::analysis::duration_text;
use crate::domain::evidence::number::to_f64;
use crate::domain::judge::{
    Baseline, Design, History, Kind, Observed, OnNoData, PPM, Row, Seen, Settings, Sides, SignalDesign, SignalHistory,
};
use crate::domain::policy::{OnInconclusive, Scorer};
use crate::domain::process::Counts;

/// The first line.
#[must_use]
pub fn write_header(
    settings: &Settings,
    design: &Design,
    history: &History,
    scorer: Scorer,
    on_inconclusive: OnInconclusive,
) -> String {
    let word = |baseline: Baseline| match baseline {
        Baseline::Auto => "auto",
        Baseline::Concurrent => "concurrent",
        Baseline::History => "history",
        Baseline::None => "none",
    };
    let step = to_f64(design.step_ms) / 1000.0;
    let growth: Map<String, Value> = named(settings, design, history)
        .filter(|(_, _, past)| !past.start_growth.is_empty())
        .map(|(name, _, past)| (name.clone(), json!(past.start_growth)))
        .collect();
    let mut header = json!({
        "schema": SCHEMA,
        "baseline": word(settings.baseline),
        "analysis": {
            "window": duration_text(settings.window),
            "minRequests": settings.min_requests,
            "falseRollbackRate": percent(settings.alpha_ppm),
            "historyMayEnforce": settings.history_may_enforce,
            "scorer": match scorer { Scorer::Evidence => "Evidence", Scorer::Seed => "Seed" },
            "onInconclusive": match on_inconclusive {
                OnInconclusive::Continue => "Continue",
                OnInconclusive::Hold => "Hold",
            },
        },
        "signals": signals(settings),
        "rollout": rollout(design),
        "history": lines(settings, design, history, |past| (&past.steps, -1.0), step),
    });
    let start = lines(settings, design, history, |past| (&past.start, 1.0), step);
    if let Some(header) = header.as_object_mut() {
        if !start.is_empty() {
            header.insert("start".to_owned(), json!(start));
        }
        if !growth.is_empty() {
            header.insert("growth".to_owned(), Value::Object(growth));
        }
    }
    header.to_string()
}

/// The line of one closed step.
#[must_use]
pub fn write_step(design: &Design, began: Timestamp, observed: &Observed) -> String {
    write_step_beside(design, began, observed, &[])
}

/// As [`write_step`], with the moments at which a control was worse than its own past, noted before this step was judged.
#[must_use]
pub fn write_step_beside(design: &Design, began: Timestamp, observed: &Observed, suffered: &[Timestamp]) -> String {
    let seconds = |at: Timestamp| at.duration_since(began).as_secs_f64();
    let mut signals = Map::new();
    for (design, seen) in design.signals.iter().zip(&observed.signals) {
        if let Some(seen) = seen {
            signals.insert(design.name.clone(), reading(design, seen));
        }
    }
    let mut line = json!({
        "t": seconds(observed.at),
        "signals": signals,
        "settled": observed.settled,
    });
    if let (false, Some(line)) = (suffered.is_empty(), line.as_object_mut()) {
        let moments: Vec<f64> = suffered.iter().copied().map(seconds).collect();
        line.insert("controlSuffered".to_owned(), json!(moments));
    }
    if let (Some((new, old)), Some(line)) = (observed.pods, line.as_object_mut()) {
        line.insert("pods".to_owned(), json!({ "new": new, "old": old }));
    }
    line.to_string()
}

fn share(ppm: u32) -> f64 {
    f64::from(ppm) / f64::from(PPM)
}

fn percent(ppm: u32) -> String {
    format!("{}%", f64::from(ppm) / f64::from(PPM / 100))
}

fn named<'a>(
    settings: &'a Settings,
    design: &'a Design,
    history: &'a History,
) -> impl Iterator<Item = (&'a String, &'a SignalDesign, &'a SignalHistory)> {
    let signals = settings.signals.iter().zip(&design.signals).zip(&history.signals);
    signals.map(|((asked, design), past)| (&asked.name, design, past))
}

fn signals(settings: &Settings) -> Vec<Value> {
    let one = |signal: &crate::domain::judge::SignalSettings| {
        let max = signal.max_ppm.map(|ppm| json!(percent(ppm))).or_else(|| signal.limit.map(|limit| json!(limit)));
        let mut entry = json!({
            "name": signal.name,
            "weight": signal.weight,
            "critical": signal.critical,
            "dryRun": signal.dry_run,
            "onNoData": match signal.on_no_data {
                OnNoData::Inconclusive => "Inconclusive",
                OnNoData::Pass => "Pass",
                OnNoData::Fail => "Fail",
            },
        });
        if let (Some(max), Some(entry)) = (max, entry.as_object_mut()) {
            entry.insert("max".to_owned(), max);
        }
        entry
    };
    settings.signals.iter().map(one).collect()
}

fn rollout(design: &Design) -> Value {
    let by_name = |of: &dyn Fn(&SignalDesign) -> Option<Value>| {
        let found = design.signals.iter().filter_map(|signal| Some((signal.name.clone(), of(signal)?)));
        Value::Object(found.collect())
    };
    json!({
        "steps": design.steps,
        "startMass": share(design.start_mass),
        "stepSeconds": to_f64(design.step_ms) / 1000.0,
        "weights": by_name(&|signal| Some(json!(share(signal.weight)))),
        "phi": by_name(&|signal| Some(json!(signal.phi.map(share)))),
        "r0Eff": by_name(&|signal| Some(json!(signal.ratio.map(share)))),
        "boundaries": by_name(&|signal| {
            let ms: Vec<f64> = signal.boundaries.iter().map(|thousandths| to_f64(*thousandths) / 1000.0).collect();
            (signal.kind == Kind::Tail).then(|| json!(ms))
        }),
        "signals": by_name(&|signal| Some(fixed(signal))),
    })
}

fn fixed(signal: &SignalDesign) -> Value {
    let strata = signal.strata;
    let mut entry = json!({
        "kind": signal.kind,
        "strata": { "young": share(strata.young), "grown": share(strata.grown), "history": share(strata.history) },
        "historySteps": signal.history_steps,
        "noisy": signal.noisy,
        "unseen": signal.unseen,
    });
    if let (Some(sigma), Some(entry)) = (signal.sigma, entry.as_object_mut()) {
        entry.insert("sigma".to_owned(), json!(sigma.map(share)));
    }
    if let (true, Some(entry)) = (signal.proxied, entry.as_object_mut()) {
        entry.insert("proxied".to_owned(), json!(true));
    }
    entry
}

/// Rows of counts at whole steps before or after the rollout's start, and values at their own times.
fn lines(
    settings: &Settings,
    design: &Design,
    history: &History,
    rows: impl Fn(&SignalHistory) -> (&Vec<Row>, f64),
    step: f64,
) -> Vec<Value> {
    let mut found: Vec<(f64, &String, Value)> = Vec::new();
    for (name, design, past) in named(settings, design, history) {
        let (rows, side) = rows(past);
        for (index, row) in rows.iter().enumerate() {
            let away = if side < 0.0 { rows.len() - index } else { index + 1 };
            let t = side * to_f64(u64::try_from(away).unwrap_or(u64::MAX)) * step;
            found.extend(old_row(design, past, row).map(|row| (t, name, row)));
        }
        if side < 0.0 {
            let values = past.values.iter().filter(|(at, value)| at.is_finite() && value.is_finite());
            found.extend(values.map(|(at, value)| (*at, name, json!({ "old": { "value": value } }))));
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lines: Vec<(f64, Map<String, Value>)> = Vec::new();
    for (t, name, row) in found {
        match lines.last_mut().filter(|(before, signals)| before.total_cmp(&t).is_eq() && !signals.contains_key(name)) {
            Some((_, signals)) => {
                signals.insert(name.clone(), row);
            }
            None => lines.push((t, [(name.clone(), row)].into_iter().collect())),
        }
    }
    lines.into_iter().map(|(t, signals)| json!({ "t": t, "signals": signals })).collect()
}

fn old_row(design: &SignalDesign, past: &SignalHistory, row: &Row) -> Option<Value> {
    if design.kind != Kind::Tail {
        return Some(json!({ "old": row.first()? }));
    }
    let one = |chosen: &u64| {
        let ms = to_f64(*chosen) / 1000.0;
        let column = past.bounds.iter().position(|bound| super::line::thousandths(*bound) == Some(*chosen))?;
        Some(json!({ "ms": ms, "old": row.get(column)? }))
    };
    let all: Option<Vec<Value>> = design.boundaries.iter().map(one).collect();
    all.map(|all| json!({ "boundaries": all }))
}

fn reading(design: &SignalDesign, seen: &Seen) -> Value {
    match seen {
        Seen::Values { new, old } => {
            let mut entry = Map::new();
            for (side, value) in [("new", new), ("old", old)] {
                if let Some(value) = value.filter(|value| value.is_finite()) {
                    entry.insert(side.to_owned(), json!({ "value": value }));
                }
            }
            Value::Object(entry)
        }
        Seen::Counts(tests) if design.kind == Kind::Tail => {
            let one = |(chosen, sides): (&u64, &Sides)| {
                let mut entry = counts(sides);
                entry.insert("ms".to_owned(), json!(to_f64(*chosen) / 1000.0));
                Value::Object(entry)
            };
            json!({ "boundaries": design.boundaries.iter().zip(tests).map(one).collect::<Vec<Value>>() })
        }
        Seen::Counts(tests) => Value::Object(tests.first().map(counts).unwrap_or_default()),
    }
}

fn counts(sides: &Sides) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut add = |name: &str, counts: Option<Counts>| {
        if let Some(counts) = counts {
            entry.insert(name.to_owned(), json!(counts));
        }
    };
    add("old", sides.old);
    add("oldHistory", sides.history);
    if sides.young.is_none() {
        add("new", sides.grown);
        return entry;
    }
    let mut strata = Map::new();
    for (name, part) in [("young", sides.young), ("grown", sides.grown)] {
        if let Some(part) = part {
            strata.insert(name.to_owned(), json!(part));
        }
    }
    entry.insert("strata".to_owned(), Value::Object(strata));
    entry
}
