//! What is kept between steps, and one step.
//!
//! Role: feeds each process what it may see, in the order things happened; a part that has nothing to compare with stands
//! still. Inputs: a design, the history, one closed step. Outputs: the next state. Must never import: other rooms.

use jiff::{SignedDuration, Timestamp};

use super::Kind;
use super::design::{Design, SignalDesign};
use super::history::LEAST_STEPS;
use super::{History, Observed, Seen, Sides, SignalHistory};
use crate::domain::evidence::number::{to_count, to_f64};
use crate::domain::process::{Counts, HARM_RATIOS, Harm, Safety, ln_sum};

/// Steps after which an incident that is not seen any more is over.
const INCIDENT_STEPS: u32 = 10;
/// Traffic below this part of what the share of pods predicts is lost.
const LOST_PART: f64 = 0.1;
/// How long a user's limit is measured, and over how many requests at least.
const LIMIT_TIME: SignedDuration = SignedDuration::from_mins(2);
const LIMIT_REQUESTS: u64 = 20;
/// A leak that reaches the limit within this time is harm.
const PROJECTION_SECONDS: f64 = 6.0 * 3600.0;

/// The processes of one test: a ratio, or one boundary of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cell {
    /// Young pods against old pods.
    pub young: Harm,
    /// Grown-up pods against old pods.
    pub grown: Harm,
    /// New pods against the old revision's history.
    pub history: Harm,
    /// Old pods against their own history: when they suffer too, it is not the release.
    pub incident: Harm,
    /// Not worse than old pods.
    pub safety: Safety,
    /// Not worse than the history.
    pub safety_history: Safety,
    /// Everything the new revision counted.
    pub new: Counts,
    /// Everything the old revision counted at the same time.
    pub old: Counts,
    /// Everything the new revision was paired with in history.
    pub paired: Counts,
}

/// One signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalState {
    /// The close of its last step.
    pub until: Timestamp,
    /// Its tests; one for a gauge, whose processes are `grown` and `history`.
    pub cells: Vec<Cell>,
    /// The last values of a gauge: new, and what it is compared with.
    pub values: Option<(f64, f64)>,
    /// The first value of the new revision and when.
    pub first: Option<(Timestamp, f64)>,
    /// Its steps so far.
    pub steps: u32,
    /// Steps in which both revisions were counted.
    pub shared_steps: u32,
    /// The last own step of the incident process at which it stood at 1/α or above.
    pub incident_at: Option<u32>,
    /// What counts towards the user's limit, since when.
    pub limit: Option<(Timestamp, Counts)>,
    /// The counts that broke the user's limit.
    pub limit_broken: Option<Counts>,
    /// Since when the new revision gets next to no traffic.
    pub starved_since: Option<Timestamp>,
}

/// A rollout under judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What is fixed.
    pub design: Design,
    /// When the judging began.
    pub began: Timestamp,
    /// The close of the last step of any signal.
    pub last: Timestamp,
    /// Signals in the order of the design.
    pub signals: Vec<SignalState>,
    /// The largest ln E so far.
    pub most: f64,
    /// When health was certified.
    pub certified: Option<Timestamp>,
    /// When an incident was last seen, and since when.
    pub incident: Option<(Timestamp, Timestamp)>,
    /// Whether the rollout was complete and out of warm-up at the last step.
    pub settled: bool,
}

impl State {
    /// The state before the first step.
    #[must_use]
    pub fn new(design: Design, began: Timestamp) -> Self {
        let signal = |design: &SignalDesign| SignalState {
            until: began,
            cells: vec![Cell::default(); design.tests()],
            values: None,
            first: None,
            steps: 0,
            shared_steps: 0,
            incident_at: None,
            limit: None,
            limit_broken: None,
            starved_since: None,
        };
        let signals = design.signals.iter().map(signal).collect();
        Self { design, began, last: began, signals, most: 0.0, certified: None, incident: None, settled: false }
    }

    /// One closed step. Steps come in order of time; signals that did not close stand still.
    pub fn step(&mut self, history: &History, limits: &[Option<u32>], observed: &Observed) {
        let none = SignalHistory::default();
        let design = &self.design;
        for (index, (signal, seen)) in self.signals.iter_mut().zip(&observed.signals).enumerate() {
            let (Some(seen), Some(fixed)) = (seen, design.signals.get(index)) else { continue };
            let history = history.signals.get(index).unwrap_or(&none);
            signal.steps = signal.steps.saturating_add(1);
            signal.until = observed.at;
            match seen {
                Seen::Counts(sides) => {
                    signal.count(design, fixed, history, sides);
                    signal.note_limit(limits.get(index).copied().flatten(), sides, observed.at);
                    signal.note_traffic(history, design.steps, sides, observed);
                }
                Seen::Values { new, old } => {
                    let seconds = observed.at.duration_since(self.began).as_secs_f64();
                    signal.first = signal.first.or(new.map(|new| (observed.at, new)));
                    signal.measure(design, fixed, history, (*new, *old), seconds);
                }
            }
        }
        self.last = self.last.max(observed.at);
        self.settled = observed.settled;
        self.most = self.most.max(self.ln_e());
        if self.incident_now() {
            let since = self.incident.map_or(observed.at, |(since, _)| since);
            self.incident = Some((since, observed.at));
        }
        if self.certified.is_none() && self.is_certified() {
            self.certified = Some(observed.at);
        }
    }

    /// A control suffers at this moment: unless old pods beside say otherwise, it is not the release.
    pub fn note_shared_incident(&mut self, at: Timestamp) {
        if self.ln_e_concurrent() < self.design.threshold() {
            self.incident = Some((self.incident.map_or(at, |(since, _)| since), at));
        }
    }

    /// ln E of all signals.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let mut parts: Vec<f64> = Vec::with_capacity(self.signals.len() + 1);
        let mut weight = 0.0;
        for (signal, design) in self.signals.iter().zip(&self.design.signals) {
            if design.weight > 0 {
                let share = super::design::share(design.weight);
                weight += share;
                parts.push(share.ln() + signal.ln_e(design));
            }
        }
        // What rounding, or the lack of any signal, leaves is a bet not made.
        parts.push((1.0 - weight).max(0.0).ln());
        ln_sum(&parts)
    }

    /// ln E of what old pods of the same moment say alone, weighted anew.
    #[must_use]
    pub fn ln_e_concurrent(&self) -> f64 {
        let mut parts = Vec::new();
        let mut weight = 0.0;
        for (signal, design) in self.signals.iter().zip(&self.design.signals) {
            let (young, grown) = (design.strata.young, design.strata.grown);
            let whole = super::design::share(young) + super::design::share(grown);
            if design.weight == 0 || whole <= 0.0 {
                continue;
            }
            let share = super::design::share(design.weight);
            weight += share;
            let processes: [(u32, Part); 2] = [(young, |cell| cell.young.ln_e()), (grown, |cell| cell.grown.ln_e())];
            for (part, process) in processes {
                let part = super::design::share(part) / whole;
                if part > 0.0 {
                    parts.push((share * part).ln() + mean(&signal.cells, process));
                }
            }
        }
        if weight > 0.0 { ln_sum(&parts) - f64::ln(weight) } else { f64::NEG_INFINITY }
    }

    /// Whether the old pods suffer too, or the new ones are as well off as the old pods beside them while both are worse
    /// than before.
    fn incident_now(&self) -> bool {
        let threshold = self.design.threshold();
        if self.ln_e_concurrent() >= threshold {
            return false;
        }
        self.signals.iter().zip(&self.design.signals).filter(|(_, design)| design.weight > 0).any(|(signal, design)| {
            let own = signal.cells.iter().map(|cell| cell.incident.steps).max().unwrap_or(0);
            let recent = signal.incident_at.is_some_and(|at| own.saturating_sub(at) < INCIDENT_STEPS);
            let beside = signal.shared_steps == signal.steps && signal.steps >= 3;
            let worse_than_before = mean(&signal.cells, |cell| cell.history.ln_e()) >= threshold;
            let alike = design.strata.young + design.strata.grown > 0 && self.ln_e_concurrent() <= 0.0;
            recent || (beside && worse_than_before && alike)
        })
    }

    fn is_certified(&self) -> bool {
        let mut any = false;
        let least = self.design.steps.div_ceil(3);
        for (signal, design) in self.signals.iter().zip(&self.design.signals) {
            if !design.critical || design.kind.is_gauge() {
                continue;
            }
            any = true;
            if design.weight == 0
                || signal.steps < least
                || signal.ln_e(design) > 0.0
                || signal.ln_safety(design) < -super::BETA.ln()
            {
                return false;
            }
        }
        any && self.settled && self.incident.is_none() && self.starved().is_none() && !self.limit_broken()
    }

    /// Since when the new revision gets next to no traffic, if it has been long enough.
    #[must_use]
    pub fn starved(&self) -> Option<Timestamp> {
        let long = |since: &Timestamp| self.last.duration_since(*since) >= LIMIT_TIME;
        let counted = self.signals.iter().zip(&self.design.signals);
        // Response times count grown-up pods only, so they say nothing about traffic.
        let counted = counted.filter(|(_, design)| design.weight > 0 && design.kind == Kind::Ratio);
        counted.filter_map(|(signal, _)| signal.starved_since).filter(long).min()
    }

    fn limit_broken(&self) -> bool {
        self.signals.iter().any(|signal| signal.limit_broken.is_some())
    }
}

impl SignalState {
    fn count(&mut self, design: &Design, fixed: &SignalDesign, history: &SignalHistory, sides: &[Sides]) {
        let alpha = design.alpha_share();
        let (grown, young) = (fixed.harm(false, alpha), fixed.young(false, alpha));
        let (past, young_past, safety) = (fixed.harm(true, alpha), fixed.young(true, alpha), fixed.safety(false));
        let safety_past = fixed.safety(true);
        let onset = design.onset();
        let tests = test_columns(fixed, history);
        let mut shared = false;
        let incident_steps = |cells: &[Cell]| cells.iter().map(|cell| cell.incident.steps).max();
        let before = incident_steps(&self.cells);
        for ((cell, sides), test) in self.cells.iter_mut().zip(sides).zip(tests) {
            let new = sides.new_total();
            cell.new = cell.new.plus(new);
            if let Some(old) = sides.old {
                cell.old = cell.old.plus(old);
                shared |= old.total > 0 && new.total > 0;
                if let Some(counts) = sides.young {
                    cell.young.step(onset, young.cap(), &young.increments(counts, old));
                }
                if let Some(counts) = sides.grown {
                    cell.grown.step(onset, grown.cap(), &grown.increments(counts, old));
                    cell.safety.step(safety.cap(), &safety.increments(counts, old));
                }
                let before = test.and_then(|test| history.paired(test, cell.incident.steps + 1, design.steps));
                if let Some(before) = before {
                    cell.incident.step(onset, past.cap(), &past.increments(old, before));
                }
            }
            let t = cell.history.steps + 1;
            let paired = sides.history.or_else(|| history.paired(test?, t, design.steps));
            // Both strata would share one baseline, which a product may not: the larger one bets.
            let (small, large) = (sides.young.unwrap_or_default(), sides.grown.unwrap_or_default());
            if large.total >= small.total && sides.grown.is_some() {
                let Some(paired) = paired else { continue };
                cell.paired = cell.paired.plus(paired);
                cell.history.step(onset, past.cap(), &past.increments(large, paired));
                // Other pods behind the same proxy hide harm: that makes its evidence smaller, which is safe, and would make
                // that of health larger, which is not.
                if !fixed.proxied {
                    cell.safety_history.step(safety_past.cap(), &safety_past.increments(large, paired));
                }
            } else if sides.young.is_some() {
                let start = test.and_then(|test| history.started(test, t));
                let Some(against) = start.or(paired) else { continue };
                let add = if start.is_some() { &past } else { &young_past }.increments(small, against);
                cell.paired = cell.paired.plus(against);
                cell.history.step(onset, past.cap(), &add);
            }
        }
        self.shared_steps = self.shared_steps.saturating_add(u32::from(shared));
        let threshold = design.threshold();
        // Old pods that are gone suffer no more.
        let after = incident_steps(&self.cells);
        if after > before && self.cells.iter().any(|cell| cell.incident.ln_e() >= threshold) {
            self.incident_at = after;
        } else if after == before {
            self.incident_at = None;
        }
    }

    fn measure(
        &mut self,
        design: &Design,
        fixed: &SignalDesign,
        history: &SignalHistory,
        (new, old): (Option<f64>, Option<f64>),
        seconds: f64,
    ) {
        let (Some(new), Some(cell)) = (new.filter(|value| value.is_finite()), self.cells.first_mut()) else { return };
        let onset = design.onset();
        let cap = fixed.harm(false, design.alpha_share()).cap();
        let before = self.values.map(|(value, _)| value);
        let differ = |against: f64| match fixed.kind {
            Kind::Leak => None,
            _ if against > 0.0 && new > 0.0 => Some((new / against).ln()),
            _ => None,
        };
        let step = |process: &mut Harm, past: bool, difference: Option<f64>| {
            if let (Some(test), Some(difference)) = (fixed.drift(past), difference) {
                let add: [f64; HARM_RATIOS] = test.increments(difference);
                process.step(onset, cap, &add);
            }
        };
        let old = old.filter(|value| value.is_finite());
        let step_seconds = to_f64(design.step_ms) / 1000.0;
        let paired = history.paired_value(seconds, step_seconds);
        if fixed.kind == Kind::Leak {
            let growth = before.filter(|before| *before > 0.0).map(|before| (new - before) / before);
            let index = usize::try_from(self.steps.saturating_sub(1)).unwrap_or(usize::MAX);
            let reference = history.start_growth.get(index).copied();
            step(&mut cell.history, true, growth.zip(reference).map(|(growth, reference)| growth - reference));
        } else {
            step(&mut cell.grown, false, old.and_then(differ));
            step(&mut cell.history, true, paired.and_then(differ));
            let suffers = old.zip(paired).filter(|(old, paired)| *old > 0.0 && *paired > 0.0);
            step(&mut cell.incident, true, suffers.map(|(old, paired)| (old / paired).ln()));
        }
        self.shared_steps = self.shared_steps.saturating_add(u32::from(old.is_some()));
        if cell.incident.ln_e() >= design.threshold() {
            self.incident_at = Some(cell.incident.steps);
        }
        self.values = Some((new, old.or(paired).unwrap_or(f64::NAN)));
    }

    /// Tumbling stretches of two minutes: a limit of the user's, not evidence.
    fn note_limit(&mut self, limit: Option<u32>, sides: &[Sides], at: Timestamp) {
        let (Some(limit), Some(sides)) = (limit, sides.first()) else { return };
        let (since, counts) = self.limit.unwrap_or((at, Counts::default()));
        let counts = counts.plus(sides.new_total());
        self.limit = Some((since, counts));
        if at.duration_since(since) >= LIMIT_TIME && counts.total >= LIMIT_REQUESTS {
            if counts.rate().is_some_and(|rate| rate > super::design::share(limit)) {
                self.limit_broken = Some(counts);
            }
            self.limit = None;
        }
    }

    /// What the new revision's share of pods predicts, or, without old pods, the same stretch of history.
    fn note_traffic(&mut self, history: &SignalHistory, stride: u32, sides: &[Sides], observed: &Observed) {
        let Some(sides) = sides.first() else { return };
        let old = sides.old.map_or(0, |old| old.total);
        let predicted = match (observed.pods, old) {
            (Some((new, pods)), old) if old > 0 && pods > 0 => to_f64(old) * to_f64(new) / to_f64(pods),
            (_, 0) if observed.settled || observed.pods.is_none() => {
                // The latest stretch as long as the window: nights are quieter than days.
                let length = history.longer.unwrap_or(1.0).max(1.0);
                let wanted =
                    to_count((f64::from(stride) / length).ceil()).and_then(|steps| usize::try_from(steps).ok());
                let latest = history.steps.len().saturating_sub(wanted.unwrap_or(usize::MAX).max(LEAST_STEPS));
                let latest = history.steps.get(latest..).unwrap_or_default();
                let steps = to_f64(u64::try_from(latest.len().max(1)).unwrap_or(1));
                let all: Counts = SignalHistory::column(latest, 0).into_iter().sum();
                let a_step = to_f64(all.total) / steps / history.longer.unwrap_or(1.0);
                if history.is_enough() && stride > 0 { a_step } else { 0.0 }
            }
            _ => 0.0,
        };
        // A handful of requests may be missing by chance.
        let starved = predicted >= 20.0 && to_f64(sides.new_total().total) < LOST_PART * predicted;
        self.starved_since = starved.then(|| self.starved_since.unwrap_or(observed.at));
    }

    /// ln E of this signal: the weighted mean of its parts, the mean of its boundaries.
    #[must_use]
    pub fn ln_e(&self, design: &SignalDesign) -> f64 {
        let strata = design.strata;
        let parts: [(u32, Part); 3] = [
            (strata.young, |cell| cell.young.ln_e()),
            (strata.grown, |cell| cell.grown.ln_e()),
            (strata.history, |cell| cell.history.ln_e()),
        ];
        let mut values = [f64::NEG_INFINITY; 4];
        let mut weight = 0.0;
        for (value, (part, process)) in values.iter_mut().zip(parts) {
            let share = super::design::share(part);
            weight += share;
            *value = share.ln() + mean(&self.cells, process);
        }
        if let Some(rest) = values.last_mut() {
            *rest = (1.0 - weight).max(0.0).ln();
        }
        let ln_e = ln_sum(&values);
        // A growth that would take longer than that to matter is not harm.
        if design.kind.must_not_fill() && !self.fills_up(design) { ln_e.min(0.0) } else { ln_e }
    }

    /// Whether the growth so far would reach the limit within six hours.
    #[must_use]
    pub fn fills_up(&self, design: &SignalDesign) -> bool {
        let (Some((start, first)), Some((last, compared))) = (self.first, self.values) else { return false };
        let seconds = self.until.duration_since(start).as_secs_f64();
        // Without a known limit, twice what it began with, or twice what the old revision needs if that is more.
        let base = if design.kind == Kind::Growth { first.max(compared) } else { first };
        let limit = design.limit.map_or(2.0 * base, f64::from);
        // What a level scatters by is no growth.
        let noise = if design.kind == Kind::Growth { design.noise() } else { 1.0 };
        seconds > 0.0 && last > first * noise && (limit - last) * seconds < PROJECTION_SECONDS * (last - first)
    }

    /// ln E of health: the least of all boundaries; against old pods and history weighted as the evidence of harm.
    #[must_use]
    pub fn ln_safety(&self, design: &SignalDesign) -> f64 {
        let (grown, history) = (f64::from(design.strata.grown), f64::from(design.strata.history));
        let whole = grown + history;
        let of = |cell: &Cell| {
            if whole > 0.0 {
                ln_sum(&[
                    (grown / whole).ln() + cell.safety.ln_e(),
                    (history / whole).ln() + cell.safety_history.ln_e(),
                ])
            } else {
                cell.safety.ln_e()
            }
        };
        self.cells.iter().map(of).fold(f64::INFINITY, f64::min)
    }
}

/// The column of history that each test is compared with; recordings may hold none.
fn test_columns(fixed: &SignalDesign, history: &SignalHistory) -> Vec<Option<usize>> {
    if fixed.kind != Kind::Tail {
        return vec![Some(0)];
    }
    let thousandths = |bound: &f64| crate::domain::evidence::number::to_count((bound * 1000.0).round());
    fixed
        .boundaries
        .iter()
        .map(|chosen| history.bounds.iter().position(|bound| thousandths(bound) == Some(*chosen)))
        .collect()
}

/// ln E of one process of a test.
type Part = fn(&Cell) -> f64;

/// ln of the mean of a process over tests.
fn mean(cells: &[Cell], process: Part) -> f64 {
    let values: Vec<f64> = cells.iter().map(process).collect();
    ln_sum(&values) - to_f64(u64::try_from(cells.len().max(1)).unwrap_or(1)).ln()
}
