//! Pods with raw counters, as a Prometheus that is not ideal shows them.
//!
//! Role: everything that happens between a request and a step: scrape phases, two replicas that answer in turn, stale and
//! missing samples, counters that begin anew, pods that come later. The steps are counted by the code that ships. Inputs:
//! pods and their error rates. Outputs: what was seen in each closed step.

use std::time::Duration;

use deployment_guard::domain::evidence::{Counters, PodLife, Step, Tally, replay};
use deployment_guard::domain::process::Counts;
use deployment_guard::domain::rollout::{PodName, Side};
use jiff::Timestamp;
use rand_distr::Poisson;

use crate::generator::Dice;
use crate::rules::Seen;

/// Seconds before the rollout that are simulated too.
const BEFORE: i64 = 120;
/// Seconds of the window.
pub const WINDOW: i64 = 1800;
/// Seconds between scrapes.
const INTERVAL: i64 = 15;
/// Seconds between the points of a range query.
const GRID: i64 = 5;
/// Prometheus answers with the newest sample of these seconds.
const LOOKBACK: i64 = 300;

/// One pod; seconds since the start of the rollout.
#[derive(Clone)]
pub struct Pod {
    pub side: Side,
    pub created: i64,
    /// It serves from here.
    pub ready: i64,
    /// Its container starts anew here, and the counters with it.
    pub restarts: Vec<i64>,
    /// Requests a second.
    pub traffic: f64,
}

impl Pod {
    /// A pod that has long been there.
    pub fn settled(side: Side, traffic: f64) -> Self {
        Self { side, created: -10_000, ready: -10_000, restarts: Vec::new(), traffic }
    }
}

/// How samples get lost or late.
#[derive(Clone, Copy, Default)]
pub struct Scraping {
    /// Every pod is scraped at its own moment.
    pub phases: bool,
    /// Two replicas with phases of their own answer in turn.
    pub replicas: bool,
    /// The chance that a scrape fails, and leaves no sample.
    pub missing: f64,
    /// The chance a scrape that the target hangs for four scrapes, while the old sample stays on show.
    pub stale: f64,
    /// The API server never shows restarts.
    pub unseen_restarts: bool,
}

/// What a cluster looks like in one run.
pub struct World {
    pub pods: Vec<Pod>,
    pub scraping: Scraping,
    /// After Ready, a pod is young for so many seconds.
    pub warmup: i64,
}

/// Total and bad of one pod since it was created, at the end of each second.
struct Life {
    total: Vec<u64>,
    bad: Vec<u64>,
}

/// The error rate of a pod at a second.
pub type Rate<'a> = &'a dyn Fn(&Pod, i64) -> f64;

impl World {
    /// A number of settled pods on each side that share the requests of a step.
    pub fn settled(pods: u32, a_step: f64) -> Self {
        let traffic = a_step / 15.0 / f64::from(pods);
        let of = |side| (0..pods).map(move |_| Pod::settled(side, traffic));
        let pods = of(Side::New).chain(of(Side::Old)).collect();
        Self { pods, scraping: Scraping::default(), warmup: 0 }
    }

    /// What the shipped code counts.
    pub fn seen(&self, dice: &mut Dice, rate: Rate<'_>) -> Vec<Seen> {
        let counters = self.counters(dice, rate);
        let scrape = Duration::from_secs(15);
        replay(&counters, &self.lives(), at(0), Some(scrape)).closed.iter().map(count).collect()
    }

    /// What a reader counts that takes every decrease for a reset and every point of the grid for a step.
    pub fn seen_naively(&self, dice: &mut Dice, rate: Rate<'_>) -> Vec<Seen> {
        let counters = self.counters(dice, rate);
        let mut steps = vec![Seen::default(); usize::try_from(WINDOW / INTERVAL).unwrap_or(0)];
        for (index, pod) in self.pods.iter().enumerate() {
            let Some(found) = counters.pods.get(&name(index)) else { continue };
            let rows: Vec<&[u64]> = found.values.chunks_exact(2).collect();
            for (times, rows) in found.times.windows(2).zip(rows.windows(2)) {
                let ([_, (grid, _)], [before, after]) = (times, rows) else { continue };
                let step = (grid.as_second() - at(0).as_second() - GRID).div_euclid(INTERVAL);
                let Some(step) = usize::try_from(step).ok().and_then(|step| steps.get_mut(step)) else { continue };
                let gain = |i: usize| if after[i] >= before[i] { after[i] - before[i] } else { after[i] };
                let side = if pod.side == Side::New { &mut step.new } else { &mut step.old };
                *side = side.plus(Counts::new(gain(1), gain(0)));
            }
        }
        steps
    }

    fn lives(&self) -> Vec<PodLife> {
        let life = |(index, pod): (usize, &Pod)| PodLife {
            pod: name(index),
            side: Some(pod.side),
            created: at(pod.created),
            grown_from: Some(at(pod.ready + self.warmup)),
            container_starts: if self.scraping.unseen_restarts {
                Vec::new()
            } else {
                pod.restarts.iter().map(|second| at(*second)).collect()
            },
            gone: None,
            containers: Vec::new(),
        };
        self.pods.iter().enumerate().map(life).collect()
    }

    fn counters(&self, dice: &mut Dice, rate: Rate<'_>) -> Counters {
        let mut counters = Counters::new(2, Vec::new());
        for (index, pod) in self.pods.iter().enumerate() {
            let life = live(dice, pod, rate);
            let own = if self.scraping.phases { dice.whole(0, INTERVAL) } else { 0 };
            let other = if self.scraping.replicas { dice.whole(0, INTERVAL) } else { own };
            let replicas = [self.scrapes(dice, pod, own), self.scrapes(dice, pod, other)];
            let grid = (-BEFORE / 2..=WINDOW).step_by(5).enumerate();
            for (turn, point) in grid {
                let scrapes = &replicas[turn % 2];
                let newest = scrapes.partition_point(|(second, _)| *second <= point);
                let Some((second, there)) = newest.checked_sub(1).and_then(|i| scrapes.get(i)).copied() else {
                    continue;
                };
                if there && second > point - LOOKBACK {
                    counters.push(&name(index), at(point), at(second), &value(&life, pod, second));
                }
            }
        }
        counters
    }

    /// When a replica scrapes a pod, and whether the sample is there; a target that hangs is not in the list.
    fn scrapes(&self, dice: &mut Dice, pod: &Pod, phase: i64) -> Vec<(i64, bool)> {
        let mut hangs = 0;
        let mut found = Vec::new();
        for second in (phase - BEFORE + INTERVAL..=WINDOW).step_by(15) {
            let missing = self.scraping.missing > 0.0 && dice.chance() < self.scraping.missing;
            if self.scraping.stale > 0.0 && hangs == 0 && dice.chance() < self.scraping.stale {
                hangs = 4;
            }
            if hangs > 0 {
                hangs -= 1;
            } else if second > pod.ready {
                found.push((second, !missing));
            }
        }
        found
    }
}

/// A pod's requests, second by second.
fn live(dice: &mut Dice, pod: &Pod, rate: Rate<'_>) -> Life {
    let mut life = Life { total: Vec::new(), bad: Vec::new() };
    let (mut total, mut bad) = (0, 0);
    let traffic = Poisson::new(pod.traffic).ok();
    for second in -BEFORE..=WINDOW {
        if second > pod.ready {
            let n = traffic.as_ref().map_or(0, |traffic| dice.arrivals(traffic));
            total += n;
            bad += dice.binomial(n, rate(pod, second));
        }
        life.total.push(total);
        life.bad.push(bad);
    }
    life
}

/// What the counters of a pod show at a second.
fn value(life: &Life, pod: &Pod, second: i64) -> [u64; 2] {
    let index = |second: i64| usize::try_from(second + BEFORE).unwrap_or(0);
    let at = |counts: &[u64], second| counts.get(index(second)).copied().unwrap_or(0);
    let begun = pod.restarts.iter().copied().filter(|restart| *restart <= second).max();
    let since = |counts: &[u64]| at(counts, second) - begun.map_or(0, |begun| at(counts, begun));
    [since(&life.total), since(&life.bad)]
}

fn count(step: &Step) -> Seen {
    let counts = |tally: &Tally| Counts::new(tally.parts.first().copied().unwrap_or(0), tally.total);
    Seen { new: counts(&step.new), young: counts(&step.new_young), old: counts(&step.old), latency: None }
}

fn name(index: usize) -> PodName {
    PodName::new("shop", &format!("p{index:02}"))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap_or_default()
}
