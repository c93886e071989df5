//! Bad releases, with what must be reached.

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::rollout::Side;

use super::steps::{TIMES, fixed, timed};
use super::{Goal, Kind, Scenario};
use crate::generator::{self, Dice, seen};
use crate::rules::{Run, Setup};
use crate::statistics::Pair;
use crate::world::World;

/// Old and new rate, old and new requests a step, the bound that the design names, median and 90th percentile to reach.
type Row = (&'static str, &'static str, (f64, f64), (u64, u64), Option<&'static str>, Option<(u32, u32)>);

const ROWS: [Row; 7] = [
    ("1-to-5", "1 → 5 % errors, 750/750", (0.01, 0.05), (750, 750), Some("0.62"), Some((2, 3))),
    ("0.1-to-1", "0.1 → 1 %, 750/750", (0.001, 0.01), (750, 750), None, Some((4, 7))),
    ("0.05-to-0.5", "0.05 → 0.5 %, 750/750", (0.0005, 0.005), (750, 750), Some("5.8"), None),
    ("1-to-2", "1 → 2 %, 750/750", (0.01, 0.02), (750, 750), Some("10.6"), Some((20, 34))),
    ("1-to-40", "1 → 40 %, 750/750", (0.01, 0.4), (750, 750), None, Some((2, 2))),
    ("uneven-1-to-5", "1 → 5 %, 150 new and 1,350 old", (0.01, 0.05), (1350, 150), Some("1.29"), Some((3, 5))),
    ("low-1-to-20", "1 → 20 %, 3/3", (0.01, 0.2), (3, 3), Some("18.1"), Some((24, 39))),
];

pub fn scenarios() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = ROWS.into_iter().map(row).collect();
    all.extend(weighted());
    all.extend(slower());
    all.extend(others());
    all
}

fn row((name, about, (old, new), (old_total, new_total), bound, reach): Row) -> Scenario {
    let pair = Pair { new_rate: new, old_rate: old, new_total: to_f64(new_total), old_total: to_f64(old_total) };
    let (median, p90) = reach.unzip();
    let goal = Goal { median, p90, bound, pair: Some(pair), ..Goal::default() };
    Scenario::new(name, about, Kind::Regression(goal), fixed(Setup::errors(old), (new, new_total), (old, old_total)))
}

/// Poisson traffic at constant rates.
fn constant(dice: &mut Dice, pair: Pair) -> Run {
    let seen = generator::steps(|_| {
        let (new, old) = (dice.poisson(pair.new_total), dice.poisson(pair.old_total));
        seen(dice.requests(new, pair.new_rate), dice.requests(old, pair.old_rate))
    });
    Run { setup: Setup::errors(pair.old_rate), seen }
}

fn reach(median: u32, p90: Option<u32>) -> Kind {
    Kind::Regression(Goal { median: Some(median), p90, ..Goal::default() })
}

fn weighted() -> Vec<Scenario> {
    const HALVES: [f64; 3] = [0.5, 0.0, 0.5];
    vec![
        Scenario::new("default-1-to-5", "1 → 5 %, errors and latency at ½ each", reach(3, Some(4)), |dice| {
            timed(dice, TIMES, 1.0, HALVES, 0.05)
        }),
        Scenario::new("default-1-to-20", "1 → 20 %, errors and latency at ½ each", reach(3, Some(3)), |dice| {
            timed(dice, TIMES, 1.0, HALVES, 0.2)
        }),
    ]
}

fn slower() -> Vec<Scenario> {
    const ALONE: [f64; 3] = [0.0, 0.0, 1.0];
    let harmless = Kind::Regression(Goal { most_found: Some(0.01), ..Goal::default() });
    let narrow = Kind::Regression(Goal::default());
    vec![
        Scenario::new("latency-1.2", "responses take 1.2 times as long", harmless, |dice| {
            timed(dice, TIMES, 1.2, ALONE, 0.01)
        }),
        Scenario::new("latency-1.2-narrow", "1.2 times as long, of 100 ms with σ 0.4", narrow, |dice| {
            timed(dice, (100.0, 0.4), 1.2, ALONE, 0.01)
        }),
        Scenario::new("latency-1.3", "responses take 1.3 times as long", reach(14, None), |dice| {
            timed(dice, TIMES, 1.3, ALONE, 0.01)
        }),
        Scenario::new("latency-1.5", "responses take 1.5 times as long", reach(2, None), |dice| {
            timed(dice, TIMES, 1.5, ALONE, 0.01)
        }),
    ]
}

fn others() -> Vec<Scenario> {
    let late = |dice: &mut Dice| {
        let seen = generator::steps(|step| {
            let rate = if step < 40 { 0.01 } else { 0.05 };
            seen(dice.requests(750, rate), dice.requests(750, 0.01))
        });
        Run { setup: Setup::errors(0.01), seen }
    };
    let little = Pair { new_rate: 0.05, old_rate: 0.01, new_total: 1.5, old_total: 1.5 };
    let few = Pair { new_rate: 0.2, old_rate: 0.01, new_total: 3.0, old_total: 3.0 };
    let each = Pair { new_total: 3.0, old_total: 3.0, ..little };
    let open = |pair| Kind::Regression(Goal { pair, ..Goal::default() });
    let onset = Kind::Regression(Goal { onset: 40, ..Goal::default() });
    vec![
        Scenario::new(
            "low-1-to-20-poisson",
            "1 → 20 %, 3/3 on average, Poisson traffic",
            open(Some(few)),
            move |dice| constant(dice, few),
        ),
        Scenario::new("late-1-to-5", "1 → 5 % from step 41 on, 750/750", onset, late),
        Scenario::new("trickle-1-to-5", "1 → 5 % at 0.2 requests a second in all", open(Some(little)), move |dice| {
            constant(dice, little)
        }),
        Scenario::new("trickle-each-1-to-5", "1 → 5 % at 0.2 requests a second on each side", open(Some(each)), {
            move |dice| constant(dice, each)
        }),
        Scenario::new("young-20", "pods fail 20 % from their start, all of them young", open(None), young),
    ]
}

/// New pods that never grow up within the window.
fn young(dice: &mut Dice) -> Run {
    let mut world = World::settled(4, 750.0);
    world.scraping.phases = true;
    world.warmup = 3600;
    for pod in world.pods.iter_mut().filter(|pod| pod.side == Side::New) {
        (pod.created, pod.ready) = (1, 5);
    }
    let seen = world.seen(dice, &|pod, _| if pod.side == Side::New { 0.2 } else { 0.005 });
    Run { setup: Setup { weights: [0.8, 0.2, 0.0], ..Setup::errors(0.005) }, seen }
}
