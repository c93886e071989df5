//! Healthy releases whose raw counters pass through scraping and counting.

use deployment_guard::domain::rollout::Side;

use super::Scenario;
use crate::generator::Dice;
use crate::rules::{Run, Setup};
use crate::world::{Pod, Scraping, WINDOW, World};

const A_STEP: f64 = 750.0;

pub fn scenarios() -> Vec<Scenario> {
    let mut all = measured();
    all.extend(starts());
    all.extend(outages());
    all
}

fn run(world: &World, dice: &mut Dice) -> Run {
    Run { setup: Setup::errors(0.01), seen: world.seen(dice, &|_, _| 0.01) }
}

fn world(scraping: Scraping) -> World {
    World { scraping, ..World::settled(4, A_STEP) }
}

const REPLICAS: Scraping = Scraping { phases: true, replicas: true, missing: 0.0, stale: 0.0, unseen_restarts: false };

fn measured() -> Vec<Scenario> {
    let phases = || Scraping { phases: true, ..Scraping::default() };
    let restarts = move |dice: &mut Dice, unseen| {
        let mut world = world(Scraping { unseen_restarts: unseen, ..phases() });
        for pod in &mut world.pods {
            pod.restarts = vec![dice.whole(30, 900), dice.whole(900, WINDOW)];
        }
        run(&world, dice)
    };
    vec![
        Scenario::inside("scrape-phases", "1 % errors, 4/4 pods, each scraped at its own moment", move |dice| {
            run(&world(phases()), dice)
        }),
        Scenario::inside("two-replicas", "two Prometheus replicas answer in turn", |dice| run(&world(REPLICAS), dice)),
        Scenario::without(
            "two-replicas-naive",
            "two replicas answer in turn, and every decrease is taken for a reset",
            "a decrease counts only with a container start seen in the API",
            |dice| {
                let seen = world(REPLICAS).seen_naively(dice, &|_, _| 0.01);
                Run { setup: Setup::errors(0.01), seen }
            },
        ),
        Scenario::inside("missing-scrapes", "one scrape in ten leaves no sample", move |dice| {
            run(&world(Scraping { missing: 0.1, ..phases() }), dice)
        }),
        Scenario::inside("stale-series", "targets hang for a minute now and then; the old sample stays", move |dice| {
            run(&world(Scraping { stale: 0.02, ..phases() }), dice)
        }),
        Scenario::inside("resets", "every container restarts twice", move |dice| restarts(dice, false)),
        Scenario::inside("resets-unseen", "the same, and the API never shows it", move |dice| restarts(dice, true)),
    ]
}

/// New pods of a rollout, one after the other.
fn staggered(dice: &mut Dice, apart: i64, warmup: i64) -> World {
    let mut world = World::settled(4, A_STEP);
    world.scraping.phases = true;
    world.warmup = warmup;
    let mut created = 1;
    for pod in world.pods.iter_mut().filter(|pod| pod.side == Side::New) {
        (pod.created, pod.ready) = (created, created + dice.whole(3, 15));
        created += apart;
    }
    world
}

/// 3 % errors in the first minute of a pod, 0.5 % ever after.
fn cold(pod: &Pod, second: i64) -> f64 {
    if second - pod.ready < 60 { 0.03 } else { 0.005 }
}

fn starts() -> Vec<Scenario> {
    let strata = |dice: &mut Dice| {
        let world = staggered(dice, 60, 60);
        let seen = world.seen(dice, &cold);
        Run { setup: Setup { weights: [0.8, 0.2, 0.0], ..Setup::errors(0.005) }, seen }
    };
    let blind = |dice: &mut Dice| {
        let world = staggered(dice, 60, 0);
        Run { setup: Setup::errors(0.005), seen: world.seen(dice, &cold) }
    };
    vec![
        Scenario::inside("staggered", "new pods come one a minute, 1 % errors", |dice| {
            let world = staggered(dice, 60, 0);
            run(&world, dice)
        }),
        Scenario::inside("cold-start", "3 % errors in a pod's first minute, then 0.5 %; young pods apart", strata),
        Scenario::without(
            "cold-start-blind",
            "3 % errors in a pod's first minute, then 0.5 %; young pods not kept apart",
            "young pods are compared with a wider allowance, grown-up ones apart from them",
            blind,
        ),
    ]
}

/// Half of all requests fail for a while, on both sides.
fn outage(dice: &mut Dice, capped: bool, naive: bool) -> Run {
    let world = World { scraping: Scraping { phases: true, ..Scraping::default() }, ..World::settled(1, A_STEP) };
    let begins = dice.whole(60, WINDOW - 120);
    let ends = begins + dice.whole(5, 60);
    let rate = |_: &Pod, second: i64| if (begins..ends).contains(&second) { 0.5 } else { 0.01 };
    let seen = if naive { world.seen_naively(dice, &rate) } else { world.seen(dice, &rate) };
    Run { setup: Setup { capped, ..Setup::errors(0.01) }, seen }
}

fn outages() -> Vec<Scenario> {
    const STEPS: &str = "a step closes when every pod has a newer sample; no single step may decide";
    let about = "half of all requests fail for 5 to 60 s on both sides; one pod each, scraped at its own moment";
    let uncapped = "shared outages, and a single step may decide";
    let naive = "the same, and every 15 s are a step, whether all pods were scraped or not";
    vec![
        Scenario::outside("shared-outage", about, STEPS, |dice| outage(dice, true, false)),
        Scenario::without("shared-outage-uncapped", uncapped, STEPS, |dice| outage(dice, false, false)),
        Scenario::without("shared-outage-naive", naive, STEPS, |dice| outage(dice, false, true)),
    ]
}
