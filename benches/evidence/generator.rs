//! Chance, and traffic step by step.
//!
//! Role: draws what a scenario needs. Inputs: the scenario's name and the number of the run, which are the whole seed, so
//! that every run repeats by itself. Outputs: counts. Raw counters of pods are in `world`.

use deployment_guard::domain::evidence::number::{to_count, to_f64};
use deployment_guard::domain::process::Counts;
use rand::{RngExt, SeedableRng};
use rand_distr::{Binomial, Distribution, Poisson, StandardNormal};
use rand_pcg::Pcg64;

use crate::rules::{Latency, Seen};

/// Steps of the window: 30 minutes of 15 s.
pub const STEPS: usize = 120;
/// Buckets that the client libraries of Prometheus have by default, in milliseconds.
pub const BUCKETS: [f64; 11] = [5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0];

/// One run's own source of chance.
pub struct Dice(Pcg64);

impl Dice {
    /// The dice of one run of a scenario.
    pub fn new(scenario: &str, run: u64) -> Self {
        // FNV-1a, because the standard hasher is not the same everywhere.
        let name = scenario
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(Pcg64::seed_from_u64(name.wrapping_add(run.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
    }

    /// Between 0 and 1.
    pub fn chance(&mut self) -> f64 {
        self.0.random()
    }

    /// A whole number from `least` up to, but without, `end`.
    pub fn whole(&mut self, least: i64, end: i64) -> i64 {
        self.0.random_range(least..end)
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// Poisson; 0 for no mean.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        Poisson::new(mean).map_or(0, |poisson| self.arrivals(&poisson))
    }

    /// Poisson, with what depends on the mean worked out before.
    pub fn arrivals(&mut self, poisson: &Poisson<f64>) -> u64 {
        to_count(poisson.sample(&mut self.0)).unwrap_or(0)
    }

    /// How many of `n` at rate `p`.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        Binomial::new(n, p.clamp(0.0, 1.0)).map_or(0, |binomial| binomial.sample(&mut self.0))
    }

    /// `n` requests, each of which fails at rate `p` by itself.
    pub fn requests(&mut self, n: u64, p: f64) -> Counts {
        Counts::new(self.binomial(n, p), n)
    }

    /// The first success at rate `p`: 1, 2, …
    pub fn geometric(&mut self, p: f64) -> u64 {
        let mut trials = 1;
        while trials < 1000 && self.chance() >= p {
            trials += 1;
        }
        trials
    }
}

/// A step of grown-up pods on both sides.
pub fn seen(new: Counts, old: Counts) -> Seen {
    Seen { new, young: Counts::default(), old, latency: None }
}

/// What both sides saw in every step.
pub fn steps(mut step: impl FnMut(usize) -> Seen) -> Vec<Seen> {
    (0..STEPS).map(&mut step).collect()
}

/// Events in clusters of `size` that all go to the same pod.
pub fn sticky(dice: &mut Dice, n: u64, p: f64, size: impl Fn(&mut Dice) -> u64, mean: f64) -> Counts {
    let clusters = dice.poisson(to_f64(n) * p / mean);
    let bad = (0..clusters).map(|_| size(dice)).sum();
    Counts::new(bad, n)
}

/// A log rate that remembers: 1 in the long run, `spread` its standard deviation in log, `memory` from step to step.
pub struct Wandering {
    level: f64,
    spread: f64,
    memory: f64,
}

impl Wandering {
    pub fn new(dice: &mut Dice, spread: f64, memory: f64) -> Self {
        Self { level: spread * dice.normal(), spread, memory }
    }

    /// The factor of the next step.
    pub fn next(&mut self, dice: &mut Dice) -> f64 {
        let fresh = self.spread * (1.0 - self.memory * self.memory).sqrt() * dice.normal();
        self.level = self.memory * self.level + fresh;
        (self.level - self.spread * self.spread / 2.0).exp()
    }
}

/// The share of a standard normal below `z` (Abramowitz and Stegun 1964, 26.2.17: wrong by less than 10⁻⁷).
fn normal_below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let factors = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let sum = factors.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    let above = sum * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z < 0.0 { above } else { 1.0 - above }
}

/// Response times of `n` requests: lognormal, put into the default buckets, cumulative.
pub fn buckets(dice: &mut Dice, n: u64, median_ms: f64, spread: f64) -> Vec<u64> {
    let (mut counted, mut below) = (0, 0.0);
    let part = |bound: &f64| {
        let share = normal_below((bound / median_ms).ln() / spread);
        // Of the requests that are slower than the bound before, those that are not slower than this one.
        let next: f64 = if below < 1.0 { (share - below) / (1.0 - below) } else { 1.0 };
        counted += dice.binomial(n - counted, next);
        below = share;
        counted
    };
    BUCKETS.iter().map(part).collect()
}

/// A step with response times on both sides; `slower` is the factor of the new side.
pub fn with_latency(dice: &mut Dice, mut step: Seen, slower: f64, median_ms: f64, spread: f64) -> Seen {
    let new = buckets(dice, step.new.total, median_ms * slower, spread);
    let old = buckets(dice, step.old.total, median_ms, spread);
    step.latency = Some(Latency { new, old });
    step
}
