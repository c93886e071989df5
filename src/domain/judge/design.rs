//! What is fixed when a rollout starts: weights, bursts, allowances, boundaries, the length of the game.
//!
//! Role: nothing in it may depend on what the new revision does, or the bound on false rollbacks is void. Inputs: the
//! settings and what was seen before. Outputs: `Design`, in whole numbers so that it reads back exactly. Must never
//! import: other rooms.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BETA, Baseline, Counts, History, Kind, MAX_TESTS, OnNoData, PPM, Settings, SignalHistory, SignalSettings};
use crate::domain::evidence::number::to_count;
use crate::domain::process::{
    Allowance, DriftTest, HarmTest, Onset, SafetyTest, Scatter, UNSURE, choose_boundaries, phi_between_pods,
    phi_over_time, spread_between_pods, spread_over_time, widened,
};

/// Beyond this allowed ratio a signal says nothing any more.
const TOO_NOISY: f64 = 3.0;
/// What a cold start may do against pods that are not starting.
const YOUNG: Allowance = Allowance { ratio: 5.0, excess: 0.02 };
const YOUNG_TOP: f64 = 12.0;
/// What a level may rise before it counts.
const LEVEL_RATIO: f64 = 1.25;
/// Bets on the first step of a process.
const START_MASS_PPM: u32 = PPM / 2;

/// How the parts of one signal's evidence are weighted, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Strata {
    /// Young pods against old pods.
    pub young: u32,
    /// Grown-up pods against old pods.
    pub grown: u32,
    /// Against the old revision before the rollout.
    pub history: u32,
}

impl Strata {
    /// The same proportions, adding up to the whole; nothing stays nothing.
    fn whole(self) -> Self {
        let all = u64::from(self.young) + u64::from(self.grown) + u64::from(self.history);
        let part = |weight: u32| {
            let scaled = (u64::from(weight) * u64::from(PPM)).checked_div(all).unwrap_or(0);
            u32::try_from(scaled).unwrap_or(0)
        };
        Self { young: part(self.young), grown: part(self.grown), history: part(self.history) }
    }
}

/// How long both revisions are expected to serve side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Not at all: Recreate, or one replica.
    Never,
    /// As long as this.
    For(Duration),
}

/// One signal, fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each stands by itself, and is written so")]
pub struct SignalDesign {
    /// Full name.
    pub name: String,
    /// What it measures.
    pub kind: Kind,
    /// Its share of the mean, in parts per million; 0 if it is not in it.
    pub weight: u32,
    /// Whether health is certified only with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub critical: bool,
    /// The parts of its evidence.
    pub strata: Strata,
    /// The value that a leak must not reach, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Chosen boundaries in thousandths of a millisecond; empty unless it is a histogram.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boundaries: Vec<u64>,
    /// φ against old pods, and against history, in parts per million.
    pub phi: [u32; 2],
    /// The allowed ratio against old pods, and against history, in parts per million.
    pub ratio: [u32; 2],
    /// The scatter of a gauge's difference against old pods, and against history, in parts per million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<[u32; 2]>,
    /// Steps of history.
    pub history_steps: u32,
    /// Its scatter is too large to see anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noisy: bool,
    /// There was nothing of it before the rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// Counted by a proxy for old and new pods together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxied: bool,
}

/// A rollout, fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Design {
    /// α in parts per million.
    pub alpha: u32,
    /// T: steps over which the onset is mixed, and the stride through history.
    pub steps: u32,
    /// The mass on the first step, in parts per million.
    pub start_mass: u32,
    /// The expected length of a step in milliseconds.
    pub step_ms: u64,
    /// Signals in the order of the settings.
    pub signals: Vec<SignalDesign>,
}

/// Parts per million, rounded up: for what has to be on the safe side.
fn ppm_up(value: f64) -> u32 {
    to_count((value * f64::from(PPM)).ceil()).and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(u32::MAX)
}

pub(super) fn share(ppm: u32) -> f64 {
    f64::from(ppm) / f64::from(PPM)
}

impl Design {
    /// Fixes a rollout. `step` is the expected length of a step; `young` whether young pods are told apart at all.
    #[must_use]
    pub fn new(settings: &Settings, history: &History, overlap: Overlap, warmup: Duration, step: Duration) -> Self {
        let tails = settings.signals.iter().filter(|signal| signal.kind == Kind::Tail).count();
        let others = settings.signals.len().saturating_sub(tails);
        let each = (MAX_TESTS.saturating_sub(others + settings.controls) / tails.max(1)).clamp(1, 3);
        let step = step.max(Duration::from_secs(1));
        let steps = settings.window.as_millis().div_ceil(step.as_millis().max(1));
        let none = SignalHistory::default();
        let mut signals: Vec<SignalDesign> = settings
            .signals
            .iter()
            .enumerate()
            .map(|(index, signal)| {
                let history = history.signals.get(index).unwrap_or(&none);
                let strata = if signal.proxied {
                    proxied_strata(settings.baseline, history)
                } else {
                    strata(settings, history, overlap, warmup + 4 * step, signal.kind)
                };
                SignalDesign::new(signal, history, strata, each, settings.first_wave)
            })
            .collect();
        for (design, asked) in signals.iter_mut().zip(&settings.signals) {
            // What gives no evidence stands in nobody's way unless somebody asked for it.
            design.critical &= !asked.dry_run && (design.is_usable() || asked.on_no_data != OnNoData::Pass);
        }
        let wanted = |index: usize| {
            let signal = settings.signals.get(index).filter(|signal| !signal.dry_run);
            signal.map_or(0, |signal| u64::from(signal.weight))
        };
        let usable: Vec<u64> = signals
            .iter()
            .enumerate()
            .map(|(index, signal)| if signal.is_usable() { wanted(index) } else { 0 })
            .collect();
        let all: u64 = usable.iter().sum();
        for (signal, weight) in signals.iter_mut().zip(usable) {
            // Rounded down: the weights add up to at most 1.
            signal.weight = u32::try_from((weight * u64::from(PPM)).checked_div(all).unwrap_or(0)).unwrap_or(0);
        }
        Self {
            alpha: settings.alpha_ppm,
            steps: u32::try_from(steps).unwrap_or(u32::MAX).max(2),
            start_mass: START_MASS_PPM,
            step_ms: u64::try_from(step.as_millis()).unwrap_or(u64::MAX),
            signals,
        }
    }

    /// ln(1/α), what evidence has to reach.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        -share(self.alpha.max(1)).ln()
    }

    /// How the onset is mixed.
    #[must_use]
    pub fn onset(&self) -> Onset {
        Onset { start_mass: share(self.start_mass), steps: self.steps }
    }

    /// α as a share.
    #[must_use]
    pub fn alpha_share(&self) -> f64 {
        share(self.alpha.max(1))
    }
}

/// Which parts count how much, before the rollout.
fn strata(settings: &Settings, history: &SignalHistory, overlap: Overlap, long: Duration, kind: Kind) -> Strata {
    let enough = match kind {
        // Young pods have the previous revision's own start to be compared with, however short the rest is.
        Kind::Ratio if settings.tells_young && history.has_start() => true,
        Kind::Ratio | Kind::Tail | Kind::Slow => history.is_enough(),
        Kind::Level | Kind::Growth | Kind::Leak => history.values.len() >= super::history::LEAST_STEPS,
    };
    let of = |young: u32, grown: u32, history: u32| Strata {
        young: young * 10_000,
        grown: grown * 10_000,
        history: history * 10_000,
    };
    let all = match (settings.baseline, overlap, enough) {
        (Baseline::None, _, _) => of(0, 0, 0),
        (Baseline::History, _, _) | (Baseline::Auto, Overlap::Never, true) => of(0, 0, 100),
        (Baseline::Concurrent, _, _) | (Baseline::Auto, _, false) => of(20, 80, 0),
        (Baseline::Auto, Overlap::For(expected), true) if expected >= long => of(20, 56, 24),
        (Baseline::Auto, Overlap::For(_), true) => of(20, 0, 80),
    };
    if kind == Kind::Ratio && settings.tells_young {
        return all;
    }
    if kind == Kind::Leak {
        // It is compared with the previous revision's own start and nothing else.
        return if all == of(0, 0, 0) { all } else { of(0, 0, 100) };
    }
    // Response times and gauges know no young pods: the rest shares their part.
    Strata { young: 0, ..all }.whole()
}

/// What a proxy counts has no side of its own for old pods: history or nothing.
fn proxied_strata(baseline: Baseline, history: &SignalHistory) -> Strata {
    let compared = matches!(baseline, Baseline::Auto | Baseline::History) && history.is_enough();
    Strata { history: if compared { PPM } else { 0 }, ..Strata::default() }
}

impl SignalDesign {
    fn new(
        signal: &SignalSettings,
        history: &SignalHistory,
        strata: Strata,
        most_boundaries: usize,
        first_wave: Option<u64>,
    ) -> Self {
        let mut design = Self {
            name: signal.name.clone(),
            kind: signal.kind,
            weight: 0,
            critical: signal.critical,
            strata,
            limit: signal.limit,
            boundaries: Vec::new(),
            phi: [PPM; 2],
            ratio: [0; 2],
            sigma: None,
            history_steps: u32::try_from(history.steps.len().max(history.values.len())).unwrap_or(u32::MAX),
            noisy: false,
            unseen: !history.has_data(),
            proxied: signal.proxied,
        };
        match signal.kind {
            Kind::Ratio | Kind::Slow => design.measure_counts(history, &[0], first_wave),
            Kind::Tail => {
                let older = history.older();
                let tails: Vec<Counts> = (0..history.bounds.len())
                    .map(|test| SignalHistory::column(older, test).into_iter().sum())
                    .collect();
                let chosen = choose_boundaries(&tails, most_boundaries);
                design.boundaries = chosen
                    .iter()
                    .filter_map(|index| to_count((history.bounds.get(*index)? * 1000.0).round()))
                    .collect();
                design.measure_counts(history, &chosen, first_wave);
            }
            Kind::Level | Kind::Growth => design.measure_level(history),
            Kind::Leak => design.measure_growth(history),
        }
        design
    }

    /// φ and the allowed ratios, the widest of all tests.
    fn measure_counts(&mut self, history: &SignalHistory, tests: &[usize], first_wave: Option<u64>) {
        let base = self.allowance().ratio;
        let (mut phi, mut ratio) = ([1.0_f64; 2], [base; 2]);
        for test in tests {
            // How a start changes with age counts as bursts where nothing else is known: to the safe side.
            let start_only = history.steps.is_empty() && history.has_start();
            let older = SignalHistory::column(if start_only { &history.start } else { history.older() }, *test);
            // Too few events to know are doubt; no history at all is what a recording may have.
            let unknown = if history.steps.is_empty() && !start_only { 1.0 } else { UNSURE };
            let over_time = phi_over_time(&older).unwrap_or(unknown).max(if start_only { UNSURE } else { 1.0 });
            let longest = history.pods.iter().map(Vec::len).max().unwrap_or(0);
            let by_step: Vec<Vec<Counts>> = (0..longest)
                .map(|step| history.pods.iter().filter_map(|pod| pod.get(step)?.get(*test).copied()).collect())
                .collect();
            let between = phi_between_pods(by_step.iter().map(Vec::as_slice)).unwrap_or(over_time);
            phi = [phi[0].max(between), phi[1].max(over_time)];
            let pods: Vec<Counts> =
                history.pods.iter().map(|pod| SignalHistory::column(pod, *test).into_iter().sum()).collect();
            let count = u64::try_from(pods.len().max(1)).unwrap_or(1);
            ratio[0] = ratio[0].max(widened(
                base,
                Some(spread_between_pods(&pods, between)),
                Some((first_wave.unwrap_or(count), count)),
            ));
            let all = SignalHistory::column(&history.steps, *test);
            let over_blocks = spread_over_time(&all, over_time);
            ratio[1] = ratio[1].max(widened(base, over_blocks, None));
            if let (true, Some(spread)) = (history.pods.len() < 2, over_blocks) {
                // Pods that were not told apart: half of what lasts is taken for theirs, the rest for everybody's.
                ratio[0] = ratio[0].max(widened(base, Some(spread / 2.0), Some((1, 1))));
            }
        }
        self.phi = phi.map(ppm_up);
        self.ratio = ratio.map(ppm_up);
        self.drop_noisy_parts();
    }

    fn measure_level(&mut self, history: &SignalHistory) {
        let logs: Vec<f64> = history.values.iter().map(|(_, value)| value.max(f64::MIN_POSITIVE).ln()).collect();
        let allowed = LEVEL_RATIO.ln();
        let (sigma, ratio) = match Scatter::of(&logs) {
            Some(scatter) => (
                // Two series that scatter alike side by side; one against the mean of its own past.
                [scatter.within * std::f64::consts::SQRT_2, scatter.within * scatter.against_past()],
                [scatter.widened_beside(allowed).exp(), scatter.widened(allowed).exp()],
            ),
            // Side by side most of what is not known happens to both.
            None => ([0.25; 2], [1.5, 2.0]),
        };
        // Below one percent a difference is rounding, not scatter.
        self.sigma = Some(sigma.map(|sigma| ppm_up(sigma.max(0.01))));
        self.ratio = ratio.map(ppm_up);
        self.drop_noisy_parts();
    }

    fn measure_growth(&mut self, history: &SignalHistory) {
        let scatter = Scatter::of(&history.start_growth);
        self.sigma = scatter.map(|scatter| [ppm_up(scatter.within.max(1e-6)); 2]);
        self.ratio = [PPM; 2];
        self.unseen = scatter.is_none();
    }

    /// What scatters too much is left out and said to be.
    fn drop_noisy_parts(&mut self) {
        let noisy = self.ratio.map(|ratio| share(ratio) > TOO_NOISY);
        let before = self.strata;
        if noisy[0] {
            self.strata.grown = 0;
        }
        if noisy[1] {
            self.strata.history = 0;
        }
        self.noisy = before != self.strata;
        if self.noisy {
            self.strata = self.strata.whole();
        }
    }

    /// Whether it can give evidence at all.
    pub(super) fn is_usable(&self) -> bool {
        let parts = self.strata;
        let some = parts.young > 0 || parts.grown > 0 || parts.history > 0;
        let tests = !matches!(self.kind, Kind::Tail) || !self.boundaries.is_empty();
        some && tests && !self.unseen
    }

    /// The tests of one step.
    #[must_use]
    pub fn tests(&self) -> usize {
        if self.kind == Kind::Tail { self.boundaries.len() } else { 1 }
    }

    /// What a rise may be, before scatter widens it.
    pub(super) const fn allowance(&self) -> Allowance {
        match self.kind {
            Kind::Ratio => Allowance { ratio: 1.25, excess: 0.001 },
            _ => Allowance { ratio: 1.5, excess: 0.01 },
        }
    }

    /// Three standard deviations of a single value, as a factor.
    pub(super) fn noise(&self) -> f64 {
        let sigma = self.sigma.map_or(0.0, |sigma| share(sigma[0]));
        (3.0 * sigma / std::f64::consts::SQRT_2).exp()
    }

    const fn bound(&self) -> Allowance {
        match self.kind {
            Kind::Ratio => Allowance { ratio: 2.0, excess: 0.002 },
            _ => Allowance { ratio: 2.0, excess: 0.005 },
        }
    }

    pub(super) fn harm(&self, against_history: bool, alpha: f64) -> HarmTest {
        let at = usize::from(against_history);
        let ratio = self.ratio.get(at).map_or(self.allowance().ratio, |ratio| share(*ratio));
        HarmTest::new(Allowance { ratio, ..self.allowance() }, self.phi(against_history), alpha)
    }

    pub(super) fn young(&self, against_history: bool, alpha: f64) -> HarmTest {
        HarmTest::with_top(YOUNG, self.phi(against_history), alpha, YOUNG_TOP)
    }

    pub(super) fn safety(&self, against_history: bool) -> SafetyTest {
        SafetyTest::new(self.bound(), self.phi(against_history), BETA)
    }

    pub(super) fn drift(&self, against_history: bool) -> Option<DriftTest> {
        let at = usize::from(against_history);
        let sigma = share(*self.sigma?.get(at)?);
        let allowed = if self.kind == Kind::Leak { 0.0 } else { share(*self.ratio.get(at)?).ln() };
        Some(DriftTest { allowed, sigma })
    }

    pub(super) fn phi(&self, against_history: bool) -> f64 {
        self.phi.get(usize::from(against_history)).map_or(1.0, |phi| share(*phi))
    }
}

/// A share as percent, with as many digits as say something.
pub(super) fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    if percent >= 10.0 || percent <= 0.0 {
        format!("{percent:.0}")
    } else if percent >= 1.0 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.2}")
    }
}
