//! The header's `analysis`: the fields of a guard's `spec.analysis`, with its defaults.
//!
//! Role: what was asked for. What means nothing without a cluster is read, checked and left. Inputs: JSON. Outputs:
//! `Asked`. Must never import: other rooms.

use std::time::Duration;

use super::json::{Fields, Json, Path, Wrong, unknown};
use crate::domain::evidence::number::to_count;
use crate::domain::judge::{Baseline, PPM};
use crate::domain::policy::{OnInconclusive, Scorer};

const FIELDS: [&str; 10] = [
    "interval",
    "warmup",
    "window",
    "minRequests",
    "baseline",
    "falseRollbackRate",
    "controls",
    "historyMayEnforce",
    "scorer",
    "onInconclusive",
];
const DAY: Duration = Duration::from_hours(24);
/// α, in parts per million.
const MOST_ALPHA: u32 = PPM / 5;

/// How the rollout is to be judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) warmup: Duration,
    pub(super) window: Duration,
    pub(super) min_requests: u64,
    pub(super) baseline: Baseline,
    pub(super) alpha_ppm: u32,
    pub(super) history_may_enforce: bool,
    pub(super) scorer: Scorer,
    pub(super) on_inconclusive: OnInconclusive,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            warmup: Duration::from_mins(1),
            window: Duration::from_mins(30),
            min_requests: 20,
            baseline: Baseline::Auto,
            alpha_ppm: PPM / 100,
            history_may_enforce: true,
            scorer: Scorer::Evidence,
            on_inconclusive: OnInconclusive::Continue,
        }
    }
}

impl Asked {
    /// Reads `analysis`.
    pub(super) fn read(json: &Json<'_>, path: &Path<'_>) -> Result<Self, Wrong> {
        let fields = json.fields(path, &FIELDS)?;
        let mut asked = Self::default();
        if let Some(interval) = fields.get("interval") {
            let path = path.field("interval");
            if interval.text(&path)? != "Auto" {
                duration(interval, &path, Duration::from_secs(1), Duration::from_hours(1))?;
            }
        }
        if let Some(warmup) = fields.get("warmup") {
            asked.warmup = duration(warmup, &path.field("warmup"), Duration::ZERO, Duration::from_hours(1))?;
        }
        if let Some(window) = fields.get("window") {
            asked.window = duration(window, &path.field("window"), Duration::from_secs(2), DAY)?;
        }
        if let Some(least) = fields.get("minRequests") {
            let path = path.field("minRequests");
            asked.min_requests = least.count(&path)?;
            if !(1..=1_000_000).contains(&asked.min_requests) {
                return path.wrong(format!("is {}, but must lie between 1 and 1000000", asked.min_requests));
            }
        }
        if let Some(rate) = fields.get("falseRollbackRate") {
            let path = path.field("falseRollbackRate");
            asked.alpha_ppm = percent(rate, &path)?;
            if !(1..=MOST_ALPHA).contains(&asked.alpha_ppm) {
                return path.wrong("must be more than 0% and at most 20%");
            }
        }
        if let Some(may) = fields.get("historyMayEnforce") {
            asked.history_may_enforce = may.bool(&path.field("historyMayEnforce"))?;
        }
        asked.read_words(&fields, path)?;
        Ok(asked)
    }

    fn read_words(&mut self, fields: &Fields<'_>, path: &Path<'_>) -> Result<(), Wrong> {
        if let Some(word) = fields.get("baseline") {
            let known = [
                ("Auto", Baseline::Auto),
                ("Concurrent", Baseline::Concurrent),
                ("History", Baseline::History),
                ("None", Baseline::None),
            ];
            self.baseline = choice(word, &path.field("baseline"), &known)?;
        }
        if let Some(word) = fields.get("scorer") {
            self.scorer = scorer(word, &path.field("scorer"))?;
        }
        if let Some(word) = fields.get("onInconclusive") {
            let known = [("Continue", OnInconclusive::Continue), ("Hold", OnInconclusive::Hold)];
            self.on_inconclusive = choice(word, &path.field("onInconclusive"), &known)?;
        }
        if let Some(controls) = fields.get("controls") {
            let path = path.field("controls");
            for (index, control) in controls.list(&path)?.iter().enumerate() {
                let path = path.index(index);
                if let Json::Text(_) = control {
                    continue;
                }
                if let Some(name) = control.fields(&path, &["name"])?.get("name") {
                    name.text(&path.field("name"))?;
                }
            }
        }
        Ok(())
    }
}

/// Reads `scorer`, which may also stand in the header itself.
pub(super) fn scorer(json: &Json<'_>, path: &Path<'_>) -> Result<Scorer, Wrong> {
    choice(json, path, &[("Evidence", Scorer::Evidence), ("Seed", Scorer::Seed)])
}

/// One of some words.
pub(super) fn choice<T: Copy>(json: &Json<'_>, path: &Path<'_>, known: &[(&str, T)]) -> Result<T, Wrong> {
    let text = json.text(path)?;
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    path.wrong(format!("is {}, which {}", json.shown(), unknown(text, &words)))
}

/// A share such as `1%` or `0.5%`, in parts per million.
pub(super) fn percent(json: &Json<'_>, path: &Path<'_>) -> Result<u32, Wrong> {
    let text = json.text(path)?;
    let number = text
        .strip_suffix('%')
        .map(str::trim)
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    let ppm = number
        .and_then(|digits| digits.parse::<f64>().ok())
        .and_then(|percent| to_count((percent * 10_000.0).round()))
        .and_then(|ppm| u32::try_from(ppm).ok())
        .filter(|ppm| *ppm <= PPM);
    match ppm {
        Some(ppm) => Ok(ppm),
        None => path.wrong(format!("is {}, but must be a share in percent such as \"1%\" or \"0.5%\"", json.shown())),
    }
}

/// A duration such as `30m` or `1h30m`, within limits.
fn duration(json: &Json<'_>, path: &Path<'_>, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    let text = json.text(path)?;
    match parse_duration(text) {
        Some(found) if found < least => {
            path.wrong(format!("is {}, but must be at least {} s", json.shown(), least.as_secs()))
        }
        Some(found) if found > most => {
            path.wrong(format!("is {}, but can be {} h at most", json.shown(), most.as_secs() / 3600))
        }
        Some(found) => Ok(found),
        None => path.wrong(format!("is {}, which is no duration; write for example 30s, 5m or 1h30m", json.shown())),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits).filter(|digits| digits.len() <= 6)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (length, unit) = if rest.starts_with("ms") {
            (2, Duration::from_millis(1))
        } else if rest.starts_with('s') {
            (1, Duration::from_secs(1))
        } else if rest.starts_with('m') {
            (1, Duration::from_mins(1))
        } else if rest.starts_with('h') {
            (1, Duration::from_hours(1))
        } else {
            return None;
        };
        rest = rest.get(length..)?;
        sum = sum.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
    }
    (!text.is_empty()).then_some(sum)
}

/// The text of a duration that reads back exactly, to the millisecond.
pub(super) fn duration_text(duration: Duration) -> String {
    // Seconds beyond six digits would not read back.
    let ms = duration.as_millis();
    format!("{}h{}s{}ms", ms / 3_600_000, ms % 3_600_000 / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back() {
        for (text, seconds) in [("30m", 1800.0), ("1h30m", 5400.0), ("500ms", 0.5), ("0s", 0.0), ("90061s", 90_061.0)] {
            let read = parse_duration(text).unwrap();
            assert!((read.as_secs_f64() - seconds).abs() < 1e-9, "{text}");
            assert_eq!(parse_duration(&duration_text(read)), Some(read));
        }
        for bad in ["", "30", "m", "1d", "-5s", "1.5h", "30 m", "9999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
