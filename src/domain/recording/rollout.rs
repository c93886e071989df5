//! The header's `rollout`: what a live rollout was fixed to when it started.
//!
//! Role: takes the place of what would be measured from the history, so that a live decision replays to the bit. All of
//! it is optional. Shares and ratios have six decimals, which hold parts per million exactly. Inputs: JSON. Outputs: a
//! `Design` put right. Must never import: other rooms.

use super::json::{Fields, Json, Path, Wrong};
use super::line::thousandths;
use crate::domain::evidence::number::to_count;
use crate::domain::judge::{Design, Kind, PPM, Strata};

const FIELDS: [&str; 8] = ["phi", "r0Eff", "weights", "boundaries", "startMass", "steps", "stepSeconds", "signals"];

/// What is fixed, by signal where it differs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Rollout {
    steps: Option<u32>,
    start_mass: Option<u32>,
    pub(super) step_ms: Option<u64>,
    phi: Vec<Option<[u32; 2]>>,
    ratio: Vec<Option<[u32; 2]>>,
    weights: Vec<Option<u32>>,
    pub(super) boundaries: Vec<Option<Vec<u64>>>,
    pub(super) signals: Vec<Fixed>,
}

/// What else is fixed of one signal.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fixed {
    pub(super) kind: Option<Kind>,
    strata: Option<Strata>,
    sigma: Option<[u32; 2]>,
    history_steps: Option<u32>,
    noisy: Option<bool>,
    unseen: Option<bool>,
    pub(super) proxied: bool,
}

impl Rollout {
    pub(super) fn read(json: &Json<'_>, path: &Path<'_>, names: &[String]) -> Result<Self, Wrong> {
        let fields = json.fields(path, &FIELDS)?;
        let mut rollout = Self {
            phi: vec![None; names.len()],
            ratio: vec![None; names.len()],
            weights: vec![None; names.len()],
            boundaries: vec![None; names.len()],
            signals: vec![Fixed::default(); names.len()],
            ..Self::default()
        };
        if let Some(steps) = fields.get("steps") {
            let path = path.field("steps");
            rollout.steps = Some(small(steps, &path, 2)?);
        }
        if let Some(mass) = fields.get("startMass") {
            rollout.start_mass = Some(share(mass, &path.field("startMass"))?);
        }
        if let Some(step) = fields.get("stepSeconds") {
            let path = path.field("stepSeconds");
            let ms = to_count((step.number(&path)? * 1000.0).round()).filter(|ms| *ms > 0);
            let Some(ms) = ms else { return path.wrong(format!("is {}, but must be positive", step.shown())) };
            rollout.step_ms = Some(ms);
        }
        if let Some(phi) = fields.get("phi") {
            rollout.phi = pairs_by_name(phi, &path.field("phi"), names, 1.0)?;
        }
        if let Some(ratio) = fields.get("r0Eff") {
            rollout.ratio = pairs_by_name(ratio, &path.field("r0Eff"), names, 1.0)?;
        }
        rollout.read_by_signal(&fields, path, names)?;
        Ok(rollout)
    }

    fn read_by_signal(&mut self, fields: &Fields<'_>, path: &Path<'_>, names: &[String]) -> Result<(), Wrong> {
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Some(weights) = fields.get("weights") {
            let path = path.field("weights");
            let listed = weights.fields(&path, &known)?;
            for (slot, name) in self.weights.iter_mut().zip(names) {
                *slot = listed.get(name).map(|weight| share(weight, &path.field(name))).transpose()?;
            }
            let sum: u64 = self.weights.iter().flatten().map(|weight| u64::from(*weight)).sum();
            if sum > u64::from(PPM) {
                return path.wrong("add up to more than 1");
            }
        }
        if let Some(boundaries) = fields.get("boundaries") {
            let path = path.field("boundaries");
            let listed = boundaries.fields(&path, &known)?;
            for (slot, name) in self.boundaries.iter_mut().zip(names) {
                *slot = listed.get(name).map(|list| milliseconds(list, &path.field(name))).transpose()?;
            }
        }
        if let Some(signals) = fields.get("signals") {
            let path = path.field("signals");
            let listed = signals.fields(&path, &known)?;
            for (slot, name) in self.signals.iter_mut().zip(names) {
                if let Some(signal) = listed.get(name) {
                    *slot = Fixed::read(signal, &path.field(name))?;
                }
            }
        }
        Ok(())
    }

    /// Puts what is fixed into a design.
    pub(super) fn fix(&self, design: &mut Design) {
        design.steps = self.steps.unwrap_or(design.steps);
        design.start_mass = self.start_mass.unwrap_or(design.start_mass);
        design.step_ms = self.step_ms.unwrap_or(design.step_ms);
        for (index, signal) in design.signals.iter_mut().enumerate() {
            let of = |list: &[Option<[u32; 2]>]| list.get(index).copied().flatten();
            signal.phi = of(&self.phi).unwrap_or(signal.phi);
            signal.ratio = of(&self.ratio).unwrap_or(signal.ratio);
            signal.weight = self.weights.get(index).copied().flatten().unwrap_or(signal.weight);
            if let Some(boundaries) = self.boundaries.get(index).cloned().flatten() {
                signal.boundaries = boundaries;
            }
            let Some(fixed) = self.signals.get(index) else { continue };
            signal.kind = fixed.kind.unwrap_or(signal.kind);
            signal.strata = fixed.strata.unwrap_or(signal.strata);
            signal.history_steps = fixed.history_steps.unwrap_or(signal.history_steps);
            signal.noisy = fixed.noisy.unwrap_or(signal.noisy);
            signal.unseen = fixed.unseen.unwrap_or(signal.unseen);
            signal.proxied |= fixed.proxied;
            if fixed.kind.is_some() || fixed.sigma.is_some() {
                signal.sigma = fixed.sigma;
            }
        }
    }
}

impl Fixed {
    fn read(json: &Json<'_>, path: &Path<'_>) -> Result<Self, Wrong> {
        let fields = json.fields(path, &["kind", "strata", "sigma", "historySteps", "noisy", "unseen", "proxied"])?;
        let of = |name: &'static str| fields.get(name);
        let words = [
            ("ratio", Kind::Ratio),
            ("tail", Kind::Tail),
            ("slow", Kind::Slow),
            ("level", Kind::Level),
            ("growth", Kind::Growth),
            ("leak", Kind::Leak),
        ];
        let strata = match of("strata") {
            Some(json) => {
                let path = path.field("strata");
                let parts = json.fields(&path, &["young", "grown", "history"])?;
                let part = |name: &str| parts.get(name).map_or(Ok(0), |json| share(json, &path.field(name)));
                Some(Strata { young: part("young")?, grown: part("grown")?, history: part("history")? })
            }
            None => None,
        };
        if strata
            .is_some_and(|all| u64::from(all.young) + u64::from(all.grown) + u64::from(all.history) > u64::from(PPM))
        {
            return path.field("strata").wrong("add up to more than 1");
        }
        let flag = |name| of(name).map(|json| json.bool(&path.field(name))).transpose();
        Ok(Self {
            kind: of("kind").map(|json| super::analysis::choice(json, &path.field("kind"), &words)).transpose()?,
            strata,
            sigma: of("sigma").map(|json| pair(json, &path.field("sigma"), 1e-6)).transpose()?,
            history_steps: of("historySteps").map(|json| small(json, &path.field("historySteps"), 0)).transpose()?,
            noisy: flag("noisy")?,
            unseen: flag("unseen")?,
            proxied: flag("proxied")?.unwrap_or(false),
        })
    }
}

/// One number for all signals, or by name a number or a pair: against old pods, against history. In parts per million.
pub(super) fn pairs_by_name(
    json: &Json<'_>,
    path: &Path<'_>,
    names: &[String],
    least: f64,
) -> Result<Vec<Option<[u32; 2]>>, Wrong> {
    if matches!(json, Json::Number(_)) {
        let all = pair(json, path, least)?;
        return Ok(vec![Some(all); names.len()]);
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let listed = json.fields(path, &known)?;
    names.iter().map(|name| listed.get(name).map(|json| pair(json, &path.field(name), least)).transpose()).collect()
}

fn pair(json: &Json<'_>, path: &Path<'_>, least: f64) -> Result<[u32; 2], Wrong> {
    if matches!(json, Json::Number(_)) {
        return Ok([parts(json, path, least)?; 2]);
    }
    match json.list(path)? {
        [old, history] => Ok([parts(old, &path.index(0), least)?, parts(history, &path.index(1), least)?]),
        _ => path.wrong("must be a number, or two: against old pods, against history"),
    }
}

fn parts(json: &Json<'_>, path: &Path<'_>, least: f64) -> Result<u32, Wrong> {
    let value = json.number(path)?;
    let ppm = to_count((value * f64::from(PPM)).round()).and_then(|ppm| u32::try_from(ppm).ok());
    match ppm.filter(|_| value >= least) {
        Some(ppm) => Ok(ppm),
        None => path.wrong(format!("is {}, but must lie between {least} and 4294", json.shown())),
    }
}

fn share(json: &Json<'_>, path: &Path<'_>) -> Result<u32, Wrong> {
    let value = json.number(path)?;
    let ppm = to_count((value * f64::from(PPM)).round()).and_then(|ppm| u32::try_from(ppm).ok());
    match ppm.filter(|ppm| *ppm <= PPM) {
        Some(ppm) => Ok(ppm),
        None => path.wrong(format!("is {}, but must lie between 0 and 1", json.shown())),
    }
}

fn small(json: &Json<'_>, path: &Path<'_>, least: u32) -> Result<u32, Wrong> {
    let count = json.count(path)?;
    match u32::try_from(count).ok().filter(|count| *count >= least) {
        Some(count) => Ok(count),
        None => path.wrong(format!("is {count}, but must lie between {least} and {}", u32::MAX)),
    }
}

fn milliseconds(json: &Json<'_>, path: &Path<'_>) -> Result<Vec<u64>, Wrong> {
    let items = json.list(path)?;
    if items.len() > 3 {
        return path.wrong("has more than three boundaries");
    }
    let each = |(index, ms): (usize, &Json<'_>)| {
        let path = path.index(index);
        match thousandths(ms.number(&path)?) {
            Some(found) => Ok(found),
            None => path.wrong(format!("is {}, but must be a positive number of milliseconds", ms.shown())),
        }
    };
    items.iter().enumerate().map(each).collect()
}
