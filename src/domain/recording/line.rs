//! One line: a closed step, or one reading before the rollout.
//!
//! Role: text to sides and values, with every count checked. Inputs: JSON and the names of the signals. Outputs: `Line`.
//! Must never import: other rooms.

use super::Form;
use super::json::{Fields, Json, Path, Wrong, shown};
use crate::domain::evidence::number::to_count;
use crate::domain::judge::Sides;
use crate::domain::process::Counts;

/// Beyond this, `t` is not in seconds.
const LATEST: f64 = 1e11;
/// Boundaries of one histogram.
const MAX_BOUNDARIES: usize = 64;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) t: f64,
    /// By signal, in the order of the header.
    pub(super) signals: Vec<Option<Reading>>,
    pub(super) pods: Option<(u64, u64)>,
    pub(super) settled: Option<bool>,
    /// When a workload that was named as a control was worse than its own past, noted before this step.
    pub(super) suffered: Vec<f64>,
}

/// What one signal showed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// Closed, and nothing there.
    Nothing,
    Counts(Sides),
    /// By boundary in thousandths of a millisecond.
    Boundaries(Vec<(u64, Sides)>),
    Values {
        new: Option<f64>,
        old: Option<f64>,
    },
}

impl Reading {
    pub(super) const fn form(&self) -> Option<Form> {
        match self {
            Self::Nothing => None,
            Self::Counts(_) => Some(Form::Counts),
            Self::Boundaries(_) => Some(Form::Boundaries),
            Self::Values { .. } => Some(Form::Values),
        }
    }
}

/// Which line it is: history carries the old side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    History,
    Step,
}

impl Line {
    pub(super) fn read(json: &Json<'_>, path: &Path<'_>, which: Which, names: &[String]) -> Result<Self, Wrong> {
        let known: &[&str] = match which {
            Which::History => &["t", "signals"],
            Which::Step => &["t", "signals", "pods", "settled", "controlSuffered"],
        };
        let fields = json.fields(path, known)?;
        let Some(t) = fields.get("t") else {
            return path.field("t").wrong("is missing; write the seconds at which the step closed");
        };
        let t = {
            let path = path.field("t");
            let t = t.number(&path)?;
            if t.abs() > LATEST {
                return path.wrong(format!("is {t}, but must be in seconds; milliseconds are divided by 1000"));
            }
            t
        };
        let mut signals = vec![None; names.len()];
        let at = path.field("signals");
        let Some(listed) = fields.get("signals") else {
            return at.wrong("is missing; write {} where nothing was measured");
        };
        for (name, reading) in listed.object(&at)? {
            let path = at.field(name);
            let Some(slot) = names.iter().position(|known| known == name).and_then(|at| signals.get_mut(at)) else {
                return path.wrong(format!(
                    "is not among the signals of the header ({}); add it there or leave it out here",
                    shown(&names.join(", "))
                ));
            };
            if *reading != Json::Null {
                *slot = Some(read_signal(reading, &path, which, name)?);
            }
        }
        let pods = fields.get("pods").map(|json| read_pods(json, &path.field("pods"))).transpose()?;
        let settled = fields.get("settled").map(|json| json.bool(&path.field("settled"))).transpose()?;
        let suffered = match fields.get("controlSuffered") {
            Some(moments) => read_moments(moments, &path.field("controlSuffered"))?,
            None => Vec::new(),
        };
        Ok(Self { t, signals, pods, settled, suffered })
    }
}

fn read_moments(json: &Json<'_>, path: &Path<'_>) -> Result<Vec<f64>, Wrong> {
    json.list(path)?.iter().enumerate().map(|(index, moment)| moment.number(&path.index(index))).collect()
}

fn read_pods(json: &Json<'_>, path: &Path<'_>) -> Result<(u64, u64), Wrong> {
    let fields = json.fields(path, &["new", "old"])?;
    let of = |name: &str| match fields.get(name) {
        Some(count) => count.count(&path.field(name)),
        None => Ok(0),
    };
    Ok((of("new")?, of("old")?))
}

fn read_signal(json: &Json<'_>, path: &Path<'_>, which: Which, name: &str) -> Result<Reading, Wrong> {
    if which == Which::History
        && json.object(path)?.iter().any(|(name, _)| ["new", "strata", "oldHistory"].contains(&name.as_ref()))
    {
        return path.wrong("carries more than old; before the rollout there is no other side");
    }
    let known: &[&str] = match which {
        Which::History => &["old", "boundaries"],
        Which::Step => &["new", "old", "strata", "oldHistory", "boundaries"],
    };
    let fields = json.fields(path, known)?;
    if let Some(boundaries) = fields.get("boundaries") {
        for other in ["new", "old", "strata", "oldHistory"] {
            if fields.get(other).is_some() {
                return path.field(other).wrong("stands beside boundaries; put it into each of them");
            }
        }
        return read_boundaries(boundaries, &path.field("boundaries"), which).map(Reading::Boundaries);
    }
    let sides = (
        fields.get("new").map(|json| (json, path.field("new"))),
        fields.get("old").map(|json| (json, path.field("old"))),
    );
    let is_value = |side: &Option<(&Json<'_>, Path<'_>)>| match side {
        Some((json, path)) => json.object(path).map(|found| found.iter().any(|(name, _)| name == "value")),
        None => Ok(false),
    };
    let (new_value, old_value) = (is_value(&sides.0)?, is_value(&sides.1)?);
    if new_value || old_value {
        for other in ["strata", "oldHistory"] {
            if fields.get(other).is_some() {
                return path.field(other).wrong("holds counts, but this signal has values");
            }
        }
        let value = |side: Option<(&Json<'_>, Path<'_>)>| match side {
            Some((json, path)) => read_value(json, &path, name),
            None => Ok(None),
        };
        return Ok(Reading::Values { new: value(sides.0)?, old: value(sides.1)? });
    }
    let found = read_sides(&fields, path)?;
    Ok(found.map_or(Reading::Nothing, Reading::Counts))
}

fn read_boundaries(json: &Json<'_>, path: &Path<'_>, which: Which) -> Result<Vec<(u64, Sides)>, Wrong> {
    let known: &[&str] = match which {
        Which::History => &["ms", "old"],
        Which::Step => &["ms", "new", "old", "strata", "oldHistory"],
    };
    let items = json.list(path)?;
    if items.len() > MAX_BOUNDARIES {
        return path.wrong(format!(
            "has {} entries, but can have {MAX_BOUNDARIES}; keep those near which requests are",
            items.len()
        ));
    }
    let mut found: Vec<(u64, Sides)> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let fields = item.fields(&path, known)?;
        let at = path.field("ms");
        let Some(ms) = fields.get("ms") else {
            return at.wrong("is missing; write the boundary in milliseconds");
        };
        let Some(thousandths) = thousandths(ms.number(&at)?) else {
            return at.wrong(format!("is {}, but must be a positive number of milliseconds", ms.shown()));
        };
        if found.iter().any(|(known, _)| *known == thousandths) {
            return at.wrong(format!("is {}, which stands twice", ms.shown()));
        }
        found.push((thousandths, read_sides(&fields, &path)?.unwrap_or_default()));
    }
    Ok(found)
}

/// A boundary in whole thousandths of a millisecond.
pub(super) fn thousandths(ms: f64) -> Option<u64> {
    to_count((ms * 1000.0).round()).filter(|thousandths| *thousandths > 0)
}

/// The sides of one test; none if nothing is there at all.
fn read_sides(fields: &Fields<'_>, path: &Path<'_>) -> Result<Option<Sides>, Wrong> {
    let side = |name: &str| match fields.get(name) {
        Some(json) => read_counts(json, &path.field(name)),
        None => Ok(None),
    };
    let (new, old, history) = (side("new")?, side("old")?, side("oldHistory")?);
    let mut sides = Sides { young: None, grown: new, old, history };
    if let Some(strata) = fields.get("strata") {
        let path = path.field("strata");
        let parts = strata.fields(&path, &["young", "grown"])?;
        let part = |name: &str| match parts.get(name) {
            Some(json) => read_counts(json, &path.field(name)),
            None => Ok(None),
        };
        (sides.young, sides.grown) = (part("young")?, part("grown")?);
        if let Some(new) = new
            && sides.new_total() != new
        {
            let sum = sides.new_total();
            return path.wrong(format!(
                "adds up to {} of {}, but new is {} of {}; leave out one of the two",
                sum.bad, sum.total, new.bad, new.total
            ));
        }
    }
    Ok((sides != Sides::default()).then_some(sides))
}

/// A side; an empty one is as good as none.
fn read_counts(json: &Json<'_>, path: &Path<'_>) -> Result<Option<Counts>, Wrong> {
    if json.object(path)?.is_empty() {
        return Ok(None);
    }
    let fields = json.fields(path, &["bad", "total"])?;
    let of = |name: &str| match fields.get(name) {
        Some(count) => count.count(&path.field(name)),
        None => path.field(name).wrong("is missing; a side has both bad and total, or is left out"),
    };
    let (bad, total) = (of("bad")?, of("total")?);
    if bad > total {
        return path.field("bad").wrong(format!("is {bad}, which is more than total ({total})"));
    }
    Ok(Some(Counts { bad, total }))
}

fn read_value(json: &Json<'_>, path: &Path<'_>, name: &str) -> Result<Option<f64>, Wrong> {
    let fields = json.fields(path, &["value"])?;
    let Some(value) = fields.get("value") else { return Ok(None) };
    let path = path.field("value");
    let value = value.number(&path)?;
    if value < 0.0 && crate::domain::signal::Term::of(name).is_some() {
        return path.wrong(format!("is {value}, but cannot be negative"));
    }
    Ok(Some(value))
}
