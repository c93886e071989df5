//! The whole judge as it ships: design frozen from what was seen before, strata, several signals, checkpointed state.
//!
//! Compared with old pods only (`baseline: Concurrent`), which is what the guarantee is about. What was seen before the
//! rollout is 30 minutes of four old pods, so φ, r₀ and boundaries are its own estimates.

use std::time::Duration;

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::judge::{
    Baseline, Design, Finding, History, Kind, Observed, OnNoData, Overlap, Row, Seen as Shown, Settings, Sides,
    SignalHistory, SignalSettings, State, judge,
};
use deployment_guard::domain::process::Counts;
use jiff::Timestamp;

use super::{Rule, Run, Seen, Verdict, slower};
use crate::generator::{self, BUCKETS, Dice, STEPS};

/// Old pods before the rollout.
const PODS: u64 = 4;

/// The judge at work.
pub struct Shipped {
    settings: Settings,
    history: History,
    state: State,
    began: Timestamp,
    steps: i64,
}

fn signal(name: &str, kind: Kind) -> SignalSettings {
    SignalSettings {
        name: name.to_owned(),
        term: None,
        kind,
        weight: 1,
        critical: true,
        max_ppm: None,
        limit: None,
        on_no_data: OnNoData::Inconclusive,
        dry_run: false,
        proxied: false,
    }
}

/// Errors before the rollout: what the scenario drew, or pods that fail independently at the usual rate.
fn errors_before(run: &Run, dice: &mut Dice) -> SignalHistory {
    let drawn = |dice: &mut Dice| {
        let each = a_pod_and_step(run);
        let step = |dice: &mut Dice| {
            let n = dice.poisson(each);
            dice.requests(n, run.setup.usual)
        };
        (0..PODS).map(|_| (0..STEPS).map(|_| step(dice)).collect()).collect()
    };
    let pods: Vec<Vec<Counts>> = if run.setup.before.is_empty() { drawn(dice) } else { run.setup.before.clone() };
    let steps = (0..STEPS).map(|step| vec![pods.iter().filter_map(|pod| pod.get(step)).copied().sum()]).collect();
    let pods = pods.iter().map(|pod| pod.iter().map(|counts| vec![*counts]).collect()).collect();
    SignalHistory { steps, pods, ..SignalHistory::default() }
}

/// Response times before the rollout.
fn times_before(run: &Run, dice: &mut Dice, (median, spread): (f64, f64)) -> SignalHistory {
    let each = a_pod_and_step(run);
    let row = |dice: &mut Dice| -> Row {
        let n = dice.poisson(each);
        let parts = generator::buckets(dice, n, median, spread);
        (0..parts.len()).map(|bound| slower(&parts, bound, n)).collect()
    };
    let pods: Vec<Vec<Row>> = (0..PODS).map(|_| (0..STEPS).map(|_| row(dice)).collect()).collect();
    let sum = |step: usize| {
        let rows = || pods.iter().filter_map(move |pod| pod.get(step));
        (0..BUCKETS.len()).map(|bound| rows().filter_map(|row| row.get(bound)).copied().sum()).collect()
    };
    SignalHistory { bounds: BUCKETS.to_vec(), steps: (0..STEPS).map(sum).collect(), pods, ..SignalHistory::default() }
}

/// Requests of an old pod in a step, on average.
fn a_pod_and_step(run: &Run) -> f64 {
    let all: Counts = run.seen.iter().map(|seen| seen.old).sum();
    let steps = u64::try_from(run.seen.len().max(1)).unwrap_or(1);
    to_f64(all.total) / to_f64(steps * PODS)
}

impl Shipped {
    /// Fixes the design; what was seen before has dice of its own, so that the release stays the same for all rules.
    pub fn new(run: &Run, dice: &mut Dice) -> Self {
        let [grown, _, latency] = run.setup.weights;
        let (mut signals, mut seen) = (Vec::new(), Vec::new());
        if grown > 0.0 {
            signals.push(signal("errors", Kind::Ratio));
            seen.push(errors_before(run, dice));
        }
        if let Some(times) = run.setup.times.filter(|_| latency > 0.0) {
            signals.push(signal("latency", Kind::Tail));
            seen.push(times_before(run, dice, times));
        }
        let settings = Settings {
            alpha_ppm: 10_000,
            window: Duration::from_mins(30),
            baseline: Baseline::Concurrent,
            min_requests: 20,
            history_may_enforce: true,
            tells_young: true,
            first_wave: None,
            controls: 0,
            signals,
        };
        let history = History { signals: seen };
        let overlap = Overlap::For(Duration::from_mins(30));
        let design = Design::new(&settings, &history, overlap, Duration::from_mins(1), Duration::from_secs(15));
        let began = Timestamp::UNIX_EPOCH;
        Self { state: State::new(design, began), settings, history, began, steps: 0 }
    }

    /// The signals of one step, in the order of the design.
    fn shown(&self, seen: &Seen) -> Vec<Option<Shown>> {
        let side = |counts: Counts, there: bool| there.then_some(counts);
        let of = |signal: &SignalSettings, bounds: &[u64]| match signal.kind {
            Kind::Ratio => Shown::Counts(vec![Sides {
                young: side(seen.young, seen.young.total > 0),
                grown: side(seen.new, seen.young.total == 0 || seen.new.total > 0),
                old: Some(seen.old),
                history: None,
            }]),
            _ => Shown::Counts(bounds.iter().map(|bound| beyond(seen, *bound)).collect()),
        };
        let signals = self.settings.signals.iter().zip(&self.state.design.signals);
        signals.map(|(signal, design)| Some(of(signal, &design.boundaries))).collect()
    }
}

/// Both sides beyond a boundary in thousandths of a millisecond.
fn beyond(seen: &Seen, boundary: u64) -> Sides {
    let Some(latency) = &seen.latency else { return Sides::default() };
    let bound = BUCKETS.iter().position(|bound| (bound * 1000.0 - to_f64(boundary)).abs() < 0.5).unwrap_or(0);
    Sides {
        grown: Some(slower(&latency.new, bound, seen.new.total)),
        old: Some(slower(&latency.old, bound, seen.old.total)),
        ..Sides::default()
    }
}

impl Rule for Shipped {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        self.steps += 1;
        let at = Timestamp::from_second(self.began.as_second() + 15 * self.steps).unwrap_or(self.began);
        let observed = Observed { at, signals: self.shown(seen), pods: None, settled: true };
        let limits = vec![None; self.settings.signals.len()];
        self.state.step(&self.history, &limits, &observed);
        // The sentence of a judgement costs more than the evidence; it is asked for only where it may matter.
        if self.state.ln_e() >= self.state.design.threshold()
            && matches!(judge(&self.settings, &self.state).finding, Finding::Harm { .. })
        {
            return Some(Verdict::RollBack);
        }
        self.state.certified.is_some().then_some(Verdict::Certified)
    }
}
