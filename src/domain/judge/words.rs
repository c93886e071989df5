//! Evidence in sentences that a person without statistics reads correctly.
//!
//! Role: numbers to words. Inputs: a state. Outputs: text. Must never import: other rooms.

use super::Kind;
use super::design::{Design, SignalDesign, percent, share};
use super::history::{History, SignalHistory};
use super::state::{Cell, SignalState, State};
use crate::domain::evidence::number::to_f64;
use crate::domain::process::{Counts, SafetyTest};
use crate::domain::signal::Term;

/// Beyond this, more digits say nothing.
const MOST: f64 = 1e9;
/// ln E from which a signal stands out: 1 in 10.
const NOTABLE: f64 = 2.3;

/// "1 in N", N = e to the power of `ln_e`, rounded down; nothing is said below 1 in 2.
#[must_use]
pub fn one_in(ln_e: f64) -> Option<String> {
    let n = ln_e.min(MOST.ln()).exp().floor();
    if n < 2.0 {
        return None;
    }
    let more = if ln_e > MOST.ln() { "less than " } else { "" };
    Some(format!("{more}1 in {}", grouped(crate::domain::evidence::number::to_count(n)?)))
}

/// A number with a comma at every thousand.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The cell of a signal that says most.
pub(super) fn loudest(signal: &SignalState) -> Option<(usize, &Cell)> {
    let ln_e = |cell: &Cell| cell.young.ln_e().max(cell.grown.ln_e()).max(cell.history.ln_e());
    signal.cells.iter().enumerate().max_by(|a, b| ln_e(a.1).total_cmp(&ln_e(b.1)))
}

/// What the new revision is compared with in words, and the counts of that side.
pub(super) fn compared(cell: &Cell, design: &SignalDesign) -> (&'static str, Counts) {
    let beside = design.strata.young > 0 || design.strata.grown > 0;
    if beside && cell.old.total > 0 && (cell.grown.steps >= cell.history.steps || design.strata.history == 0) {
        ("on the old revision", cell.old)
    } else if cell.paired.total > 0 {
        ("before the rollout", cell.paired)
    } else {
        ("on the old revision", cell.old)
    }
}

/// Milliseconds of a boundary.
pub(super) fn boundary(design: &SignalDesign, test: usize) -> String {
    let ms = design.boundaries.get(test).map_or(0.0, |thousandths| to_f64(*thousandths) / 1000.0);
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// What a signal is called in a sentence.
pub(super) fn subject(design: &SignalDesign, test: usize) -> String {
    match (design.kind, Term::of(&design.name)) {
        (Kind::Tail, _) => format!("share of requests slower than {}", boundary(design, test)),
        (Kind::Slow, _) => "share of slow requests".to_owned(),
        (Kind::Ratio, Some(Term::Errors)) => "error rate".to_owned(),
        _ => design.name.clone(),
    }
}

/// New against old with counts, and how unlikely that is without a regression.
pub(super) fn sentence(signal: &SignalState, design: &SignalDesign) -> String {
    if let Some((new, old)) = signal.values {
        let against = if old.is_finite() { format!(" against {old:.1}") } else { String::new() };
        let growth = if design.kind.must_not_fill() && signal.fills_up(design) {
            ", growing towards its limit within 6 hours"
        } else {
            ""
        };
        let (name, unit) = match (Term::of(&design.name), design.limit) {
            (Some(Term::Memory), Some(_)) => ("memory", " % of its limit"),
            _ => (design.name.as_str(), ""),
        };
        return format!("{name} {new:.1}{unit}{against}{growth}");
    }
    let Some((test, cell)) = loudest(signal) else { return String::new() };
    let (place, old) = compared(cell, design);
    let Some(rate) = cell.new.rate() else {
        return format!("{}: no requests on the new revision", subject(design, test));
    };
    let against = match old.rate() {
        Some(old) => format!(" against {} % {place}", percent(old)),
        None => " and nothing to compare it with".to_owned(),
    };
    format!(
        "{} {} %{against} ({} of {} requests)",
        subject(design, test),
        percent(rate),
        grouped(cell.new.bad),
        grouped(cell.new.total)
    )
}

/// The smallest rise that would have been noticed by now, as a multiple of the old share.
pub(super) fn excluded(signal: &SignalState, design: &SignalDesign) -> Option<f64> {
    const RISES: [f64; 10] = [1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0];
    let cell = signal.cells.first().filter(|_| !design.kind.is_gauge())?;
    let (_, old) = compared(cell, design);
    let history = old == cell.paired && cell.paired.total > 0 && cell.paired != cell.old;
    RISES.into_iter().find(|rise| {
        let bound = crate::domain::process::Allowance { ratio: *rise, excess: design.allowance().excess };
        let test = SafetyTest::new(bound, design.phi(history), super::BETA);
        let found = test.increments(cell.new, old);
        crate::domain::process::ln_sum(&found) - to_f64(8).ln() >= -super::BETA.ln()
    })
}

/// What was allowed: the null hypothesis of a signal.
pub(super) fn allowance(design: &SignalDesign, against_history: bool) -> String {
    let ratio = design.ratio.get(usize::from(against_history)).map_or(1.0, |ratio| share(*ratio));
    match design.kind {
        Kind::Ratio | Kind::Tail | Kind::Slow => {
            format!("{ratio:.2} times the old share plus {} %", percent(design.allowance().excess))
        }
        Kind::Level => format!("{ratio:.2} times the old value"),
        Kind::Growth => format!("{ratio:.2} times the old value unless it keeps growing"),
        Kind::Leak => "the growth of the previous revision at the same age".to_owned(),
    }
}

/// With what a rollout is compared, and the smallest regression that can be seen in its window.
#[must_use]
pub fn plan(design: &Design, history: &History) -> String {
    let mut texts = Vec::new();
    for (index, signal) in design.signals.iter().enumerate().filter(|(_, signal)| signal.weight > 0) {
        let share = |part: u32, what: &str| {
            let percent = part.div_ceil(super::PPM / 100);
            (part > 0).then(|| format!("{percent} % {what}"))
        };
        let parts = [
            share(signal.strata.young, "young pods against old pods"),
            share(signal.strata.grown, "pods against old pods at the same time"),
            share(signal.strata.history, "against the time before the rollout"),
        ];
        let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let seen = match history.signals.get(index).and_then(|past| visible(design, signal, past)) {
            Some(rise) => format!("; a rise to {rise} times can be seen"),
            None if signal.kind.is_gauge() => String::new(),
            None => "; there is too little traffic to see even a rise to 50 times".to_owned(),
        };
        texts.push(format!("{}: {parts}{seen}", signal.name));
    }
    texts.join(". ")
}

/// The smallest rise that would be found within the window at the traffic before the rollout, half of it on each side.
fn visible(design: &Design, signal: &SignalDesign, past: &SignalHistory) -> Option<f64> {
    const RISES: [f64; 9] = [1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0, 20.0, 50.0];
    let all: Counts = SignalHistory::column(&past.steps, 0).into_iter().sum();
    let rate = all.rate().filter(|_| !past.steps.is_empty() && !signal.kind.is_gauge())?;
    let steps = to_f64(u64::try_from(past.steps.len()).ok()?) * past.longer.unwrap_or(1.0);
    let half = to_f64(all.total) / steps * f64::from(design.steps) / 2.0;
    let counts = |share: f64| {
        let whole = |value: f64| crate::domain::evidence::number::to_count(value.round()).unwrap_or(0);
        Counts::new(whole(half * share.min(1.0)), whole(half))
    };
    // What one bet of the mixture has to gain: the threshold, its share of the weights, and the choice of ratio and onset.
    let needed = design.threshold() - share(signal.weight).ln() + f64::ln(12.0) + (2.0 * f64::from(design.steps)).ln();
    let test = signal.harm(signal.strata.grown == 0, design.alpha_share());
    RISES.into_iter().find(|rise| {
        // A service without errors is asked about the first ones: one in a thousand.
        let share = (rate * rise).max(0.001 * (rise - 1.0));
        test.increments(counts(share), counts(rate)).into_iter().any(|gain| gain >= needed)
    })
}

/// The sentence of the whole judgement.
pub(super) fn reasoning(state: &State) -> String {
    let design: &Design = &state.design;
    let mut parts: Vec<(f64, String)> = state
        .signals
        .iter()
        .zip(&design.signals)
        .filter(|(signal, design)| design.weight > 0 && signal.steps > 0)
        .map(|(signal, design)| (signal.ln_e(design), sentence(signal, design)))
        .collect();
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    if parts.first().is_some_and(|(ln_e, _)| *ln_e > NOTABLE) {
        // Where something stands out, the rest is not part of the reason.
        parts.retain(|(ln_e, _)| *ln_e > 0.0);
    }
    let mut text = parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    if let Some(chance) = one_in(state.most) {
        let comma = if text.is_empty() { "" } else { "; " };
        text = format!("{text}{comma}chance of this without a regression at most {chance}");
    }
    text
}
