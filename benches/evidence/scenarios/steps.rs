//! Healthy releases whose counts are drawn step by step.

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::process::{Counts, phi_between_pods, spread_between_pods, widened};

use super::{Kind, Scenario};
use crate::generator::{self, Dice, STEPS, Wandering, seen, sticky, with_latency};
use crate::rules::{ERRORS, Run, Seen, Setup, slower};

/// Requests a step of one side, in most scenarios.
const N: u64 = 750;
/// Pods of one side where pods matter, and requests of each.
const PODS: u64 = 4;
const EACH: u64 = 188;
/// Response times of the service: median in milliseconds, standard deviation in log.
pub const TIMES: (f64, f64) = (80.0, 0.5);

pub fn scenarios() -> Vec<Scenario> {
    let mut all = steady();
    all.extend(traffic());
    all.extend(bursts());
    all.extend(lasting());
    all.extend(latency());
    all
}

/// Both sides at fixed rates and requests.
pub fn fixed(setup: Setup, new: (f64, u64), old: (f64, u64)) -> impl Fn(&mut Dice) -> Run + Sync + Send {
    move |dice| {
        let seen = generator::steps(|_| seen(dice.requests(new.1, new.0), dice.requests(old.1, old.0)));
        Run { setup: setup.clone(), seen }
    }
}

fn healthy(rate: f64, new: u64, old: u64) -> impl Fn(&mut Dice) -> Run + Sync + Send {
    fixed(Setup::errors(rate), (rate, new), (rate, old))
}

/// At the edge of what is allowed, where the null is hardest.
fn edge(rate: f64, n: u64) -> impl Fn(&mut Dice) -> Run + Sync + Send {
    fixed(Setup::errors(rate), (ERRORS.ratio * rate + ERRORS.excess, n), (rate, n))
}

fn steady() -> Vec<Scenario> {
    let bound = fixed(Setup::errors(0.01), (2.0 * 0.01 + 0.002, N), (0.01, N));
    vec![
        Scenario::inside("steady-0.05", "0.05 % errors, 750 requests a step and side", healthy(0.0005, N, N)),
        Scenario::inside("steady-1", "1 % errors, 750/750", healthy(0.01, N, N)).must_be_certified(),
        Scenario::inside("steady-5", "5 % errors, 750/750", healthy(0.05, N, N)),
        Scenario::inside("steady-20", "20 % errors, 750/750", healthy(0.2, N, N)),
        Scenario::inside("edge-1", "1 % against the allowed 1.35 %, 750/750", edge(0.01, N)),
        Scenario::inside("edge-5", "5 % against the allowed 6.35 %, 750/750", edge(0.05, N)),
        Scenario::inside("edge-0", "no errors against the allowed 0.1 %, 750/750", edge(0.0, N)),
        Scenario::inside("edge-low", "20 % against the allowed 25.1 %, 3/3", edge(0.2, 3)),
        Scenario::inside("low-3", "1 % errors, 3/3", healthy(0.01, 3, 3)),
        Scenario::inside("low-3-20", "20 % errors, 3/3", healthy(0.2, 3, 3)),
        Scenario::inside("uneven", "1 % errors, 150 new and 1,350 old requests a step", healthy(0.01, 150, 1350)),
        Scenario::new("at-the-bound", "1 % against 2.2 %: what a certificate excludes", Kind::AtTheBound, bound),
    ]
}

fn traffic() -> Vec<Scenario> {
    let daily = |dice: &mut Dice| {
        let phase = dice.chance();
        let seen = generator::steps(|step| {
            let day = phase + to_f64(u64::try_from(step).unwrap_or(0)) * 15.0 / 86_400.0;
            let wave = 1.0 + 0.8 * (std::f64::consts::TAU * day).sin();
            let (new, old) = (dice.poisson(750.0 * wave), dice.poisson(750.0 * wave));
            let rate = 0.01 * (2.0 - wave);
            seen(dice.requests(new, rate), dice.requests(old, rate))
        });
        Run { setup: Setup::errors(0.01), seen }
    };
    let trickle = |dice: &mut Dice| {
        let seen = generator::steps(|_| {
            let (new, old) = (dice.poisson(1.5), dice.poisson(1.5));
            seen(dice.requests(new, 0.01), dice.requests(old, 0.01))
        });
        Run { setup: Setup::errors(0.01), seen }
    };
    vec![
        Scenario::inside("daily", "Poisson traffic on a daily curve, errors with it", daily),
        Scenario::inside("trickle", "1 % errors, 0.2 requests a second in all", trickle),
        Scenario::outside(
            "leaves-balancer",
            "1 % errors, 75 requests a step; a new pod that fails one gets no more in this step",
            "nothing: the requests of a side must not depend on its errors",
            |dice| leaves_balancer(dice, false),
        ),
        Scenario::outside(
            "both-leave-balancer",
            "the same on both sides",
            "nothing: the requests of a side must not depend on its errors",
            |dice| leaves_balancer(dice, true),
        ),
    ]
}

/// One pod a side; whoever reacts takes no more requests in a step after its first error.
fn leaves_balancer(dice: &mut Dice, both: bool) -> Run {
    let seen = generator::steps(|_| {
        let stops = |dice: &mut Dice| {
            let first = dice.geometric(0.01);
            if first <= 75 { Counts::new(1, first) } else { Counts::new(0, 75) }
        };
        let new = stops(dice);
        let old = if both { stops(dice) } else { dice.requests(75, 0.01) };
        seen(new, old)
    });
    Run { setup: Setup::errors(0.01), seen }
}

fn bursts() -> Vec<Scenario> {
    const PHI: &str = "φ, measured between the old pods before the rollout";
    vec![
        Scenario::inside("routed-bursts", "errors in bursts of 8, each routed by itself, 750/750", routed),
        Scenario::inside("sticky-phi", "errors in clusters of 8 on one pod; φ measured", |dice| {
            clustered(dice, true, 0.01, &|_| 8)
        }),
        Scenario::inside("sticky-phi-edge", "the same, 1 % against the allowed 1.35 %", |dice| {
            clustered(dice, true, 0.0135, &|_| 8)
        }),
        Scenario::outside(
            "sticky-mixed-phi",
            "clusters of 1, 2, … 8 on average, on one pod; φ measured",
            PHI,
            |dice| clustered(dice, true, 0.01, &|dice| dice.geometric(1.0 / 8.0)),
        ),
        Scenario::without("sticky-blind", "errors in clusters of 8 on one pod; φ = 1", PHI, |dice| {
            clustered(dice, false, 0.01, &|_| 8)
        }),
    ]
}

fn routed(dice: &mut Dice) -> Run {
    let seen = generator::steps(|_| {
        let bad = 8 * dice.poisson(2.0 * to_f64(N) * 0.01 / 8.0);
        let new = dice.binomial(bad, 0.5);
        seen(Counts::new(new, N), Counts::new(bad - new, N))
    });
    Run { setup: Setup::errors(0.01), seen }
}

/// Steps of pods as pods with steps.
fn by_pod(steps: &[Vec<Counts>]) -> Vec<Vec<Counts>> {
    let pods = steps.first().map_or(0, Vec::len);
    (0..pods).map(|pod| steps.iter().filter_map(|step| step.get(pod)).copied().collect()).collect()
}

type Size<'a> = &'a dyn Fn(&mut Dice) -> u64;

/// Clusters of 8 on average; the old pods fail 1 %.
fn clustered(dice: &mut Dice, measured: bool, rate: f64, size: Size<'_>) -> Run {
    let pods = |dice: &mut Dice, rate| (0..PODS).map(|_| sticky(dice, EACH, rate, size, 8.0)).collect::<Vec<_>>();
    let mut setup = Setup::errors(0.01);
    if measured {
        let history: Vec<Vec<Counts>> = (0..STEPS).map(|_| pods(dice, 0.01)).collect();
        setup.phi = phi_between_pods(history.iter().map(Vec::as_slice)).unwrap_or(1.0);
        setup.before = by_pod(&history);
    }
    let seen = generator::steps(|_| seen(pods(dice, rate).into_iter().sum(), pods(dice, 0.01).into_iter().sum()));
    Run { setup, seen }
}

fn lasting() -> Vec<Scenario> {
    const SPREAD: &str = "r0 widened by the spread that the old pods showed before";
    vec![
        Scenario::outside("spread-widened", "pods differ for good (σ 0.5 in log), 4/4; r0 widened", SPREAD, |dice| {
            spread(dice, true)
        }),
        Scenario::without("spread-blind", "pods differ for good (σ 0.5 in log), 4/4; r0 = 1.25", SPREAD, |dice| {
            spread(dice, false)
        }),
        Scenario::inside("wandering-shared", "the error rate wanders, the same for both sides", |dice| {
            wandering(dice, 0.7, true)
        }),
        Scenario::outside(
            "wandering-apart",
            "each side's error rate wanders by itself (σ 0.35 in log)",
            "r0 and δ up to their size; beyond that nothing, as long as the drift lasts",
            |dice| wandering(dice, 0.35, false),
        ),
        Scenario::without(
            "overlapping-rates",
            "1 % against 1.35 %, read every 15 s as the increase over 5 minutes instead of as counts",
            "counters are read raw, and each request counts once",
            overlapping,
        ),
    ]
}

fn spread(dice: &mut Dice, measured: bool) -> Run {
    let rates = |dice: &mut Dice| (0..PODS).map(|_| 0.01 * (0.5 * dice.normal() - 0.125).exp()).collect::<Vec<f64>>();
    let (new, old) = (rates(dice), rates(dice));
    let step = |dice: &mut Dice, rates: &[f64]| rates.iter().map(|rate| dice.requests(EACH, *rate)).collect::<Vec<_>>();
    let mut setup = Setup::errors(0.01);
    if measured {
        let history: Vec<Vec<Counts>> = (0..STEPS).map(|_| step(dice, &old)).collect();
        setup.phi = phi_between_pods(history.iter().map(Vec::as_slice)).unwrap_or(1.0);
        setup.before = by_pod(&history);
        let whole: Vec<Counts> = setup.before.iter().map(|pod| pod.iter().copied().sum()).collect();
        let found = spread_between_pods(&whole, setup.phi);
        setup.ratio = widened(ERRORS.ratio, Some(found), Some((PODS, PODS)));
        if setup.ratio > 3.0 {
            // Too noisy: the signal is left out, and says so.
            setup.weights = [0.0; 3];
        }
    }
    let seen = generator::steps(|_| seen(step(dice, &new).into_iter().sum(), step(dice, &old).into_iter().sum()));
    Run { setup, seen }
}

fn wandering(dice: &mut Dice, size: f64, shared: bool) -> Run {
    let (mut new, mut old) = (Wandering::new(dice, size, 0.95), Wandering::new(dice, size, 0.95));
    let seen = generator::steps(|_| {
        let ours = 0.01 * new.next(dice);
        let theirs = if shared { ours } else { 0.01 * old.next(dice) };
        seen(dice.requests(N, ours), dice.requests(N, theirs))
    });
    Run { setup: Setup::errors(0.01), seen }
}

/// Each step shows the sum of the last twenty.
fn overlapping(dice: &mut Dice) -> Run {
    let raw: Vec<Seen> = (0..STEPS + 20).map(|_| seen(dice.requests(N, 0.0135), dice.requests(N, 0.01))).collect();
    let sum = |steps: &[Seen], side: fn(&Seen) -> Counts| steps.iter().map(side).sum::<Counts>();
    let seen = raw.windows(20).take(STEPS).map(|steps| seen(sum(steps, |s| s.new), sum(steps, |s| s.old))).collect();
    Run { setup: Setup::errors(0.01), seen }
}

fn latency() -> Vec<Scenario> {
    let alone = "response times lognormal (80 ms, σ 0.5) in the default buckets; latency alone";
    vec![
        Scenario::inside("latency", alone, |dice| timed(dice, TIMES, 1.0, [0.0, 0.0, 1.0], 0.01)),
        Scenario::inside("default-weights", "the same, errors and latency at ½ each", |dice| {
            timed(dice, TIMES, 1.0, [0.5, 0.0, 0.5], 0.01)
        }),
    ]
}

/// A release whose new side takes `longer` times as long and fails at `rate`; the old one fails 1 %.
pub fn timed(dice: &mut Dice, times: (f64, f64), longer: f64, weights: [f64; 3], rate: f64) -> Run {
    let (median, spread) = times;
    let before = generator::buckets(dice, 40 * N, median, spread);
    let shares: Vec<Counts> = (0..before.len()).map(|bound| slower(&before, bound, 40 * N)).collect();
    let boundaries = deployment_guard::domain::process::choose_boundaries(&shares, 3);
    let seen = generator::steps(|_| {
        let step = seen(dice.requests(N, rate), dice.requests(N, 0.01));
        with_latency(dice, step, longer, median, spread)
    });
    Run { setup: Setup { weights, boundaries, times: Some(times), ..Setup::errors(0.01) }, seen }
}
