use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn pod(name: &str) -> PodName {
    PodName::new("shop", name)
}

fn life(name: &str, side: Side, created: i64) -> PodLife {
    PodLife {
        pod: pod(name),
        side: Some(side),
        created: at(created),
        grown_from: Some(at(created)),
        container_starts: Vec::new(),
        gone: None,
        containers: Vec::new(),
    }
}

/// Rows of `(grid, sampled, total, bad)`.
type Row = (i64, i64, u64, u64);

fn counters(rows: &[(&str, &[Row])]) -> Counters {
    let mut counters = Counters::new(2, Vec::new());
    for (name, rows) in rows {
        for (grid, sampled, total, bad) in *rows {
            counters.push(&pod(name), at(*grid), at(*sampled), &[*total, *bad]);
        }
    }
    counters
}

fn totals(replay: &Replay) -> Vec<(u64, u64)> {
    let steps = replay.closed.iter().chain([&replay.open]);
    steps.map(|step| (step.new.total, step.new.parts.first().copied().unwrap_or(0))).collect()
}

fn one(rows: &[(i64, i64, u64, u64)], life: PodLife) -> Vec<(u64, u64)> {
    totals(&replay(&counters(&[("a", rows)]), &[life], at(0), None))
}

#[test]
fn differences_are_counted_once_and_stale_samples_add_nothing() {
    let rows = [(-5, -6, 100, 1), (5, 4, 110, 1), (10, 4, 110, 1), (15, 14, 130, 3)];
    assert_eq!(one(&rows, life("a", Side::New, -100)), [(10, 0), (20, 2), (0, 0)]);
}

#[test]
fn a_decrease_without_a_container_start_is_no_news() {
    let rows = [(-5, -6, 100, 0), (5, 4, 110, 0), (10, 9, 90, 0), (15, 14, 120, 0)];
    assert_eq!(one(&rows, life("a", Side::New, -100)), [(10, 0), (0, 0), (10, 0), (0, 0)]);
}

#[test]
fn after_three_steps_below_the_counter_is_anchored_anew_without_counting() {
    let rows = [(-5, -6, 100, 0), (5, 4, 10, 0), (10, 9, 20, 0), (15, 14, 30, 0), (20, 19, 45, 0)];
    assert_eq!(one(&rows, life("a", Side::New, -100)).iter().map(|step| step.0).sum::<u64>(), 15);
}

#[test]
fn a_container_start_explains_one_decrease_only() {
    let mut life = life("a", Side::New, -100);
    life.container_starts = vec![at(7)];
    let rows = [(-5, -6, 100, 9), (5, 4, 110, 9), (10, 9, 30, 2), (15, 14, 5, 0)];
    assert_eq!(one(&rows, life), [(10, 0), (30, 2), (0, 0), (0, 0)]);
}

#[test]
fn a_container_start_outside_the_interval_explains_nothing() {
    let mut life = life("a", Side::New, -100);
    life.container_starts = vec![at(-50)];
    assert_eq!(one(&[(-5, -6, 100, 0), (5, 4, 20, 0)], life), [(0, 0), (0, 0)]);
}

#[test]
fn a_pod_created_since_the_last_close_began_at_zero() {
    assert_eq!(one(&[(5, 4, 20, 3)], life("a", Side::New, 1)), [(20, 3), (0, 0)]);
}

#[test]
fn an_older_pod_seen_for_the_first_time_is_only_recorded() {
    assert_eq!(one(&[(5, 4, 20, 3), (10, 9, 25, 3)], life("a", Side::New, -100))[..2], [(0, 0), (5, 0)]);
}

#[test]
fn a_step_waits_for_every_pod_and_keeps_what_it_counted() {
    let rows: &[(i64, i64, u64, u64)] = &[(-5, -5, 0, 0), (5, 5, 10, 0), (10, 10, 20, 0), (15, 15, 30, 0)];
    let slow: &[(i64, i64, u64, u64)] = &[(-5, -5, 0, 0), (5, -5, 0, 0), (10, 8, 7, 0), (15, 8, 7, 0)];
    let lives = [life("a", Side::New, -100), life("b", Side::Old, -100)];
    let replay = replay(&counters(&[("a", rows), ("b", slow)]), &lives, at(0), Some(Duration::from_secs(15)));
    assert_eq!(replay.closed.len(), 1);
    assert_eq!((replay.closed[0].from, replay.closed[0].to), (at(0), at(10)));
    assert_eq!((replay.closed[0].new.total, replay.closed[0].old.total), (20, 7));
    assert_eq!(replay.open.new.total, 10);
}

#[test]
fn a_pod_missing_for_two_scrape_intervals_is_waited_for_no_longer() {
    let rows: Vec<_> = (0..8).map(|i| (i * 5, i * 5, 10 * u64::try_from(i).unwrap(), 0)).collect();
    let lives = [life("a", Side::New, -100), life("b", Side::Old, -100)];
    let found = replay(&counters(&[("a", &rows), ("b", &[(0, 0, 5, 0)])]), &lives, at(0), Some(Duration::from_secs(5)));
    assert_eq!(found.closed.first().map(|step| step.to), Some(at(15)));
    assert_eq!(found.closed[0].new.total, 30);
    let mut lives = lives;
    lives[1].gone = Some(at(2));
    let found = replay(&counters(&[("a", &rows), ("b", &[(0, 0, 5, 0)])]), &lives, at(0), Some(Duration::from_secs(5)));
    assert_eq!(found.closed.first().map(|step| step.to), Some(at(5)));
}

#[test]
fn young_intervals_are_counted_apart() {
    let mut life = life("a", Side::New, 1);
    life.grown_from = Some(at(8));
    let rows = [(5, 5, 10, 1), (10, 10, 30, 2), (15, 15, 60, 2)];
    let replay = replay(&counters(&[("a", &rows)]), &[life], at(0), None);
    let pairs: Vec<_> = replay.closed.iter().map(|step| (step.new_young.total, step.new.total)).collect();
    assert_eq!(pairs, [(10, 0), (20, 0), (0, 30)]);
}

#[test]
fn two_replicas_answering_in_turn_create_no_requests() {
    // The second replica runs 3 s behind and answers every other time.
    let rows: Vec<_> = (0_i64..40)
        .map(|i| {
            let sampled = if i % 2 == 0 { i * 5 } else { i * 5 - 8 };
            (i * 5, sampled, u64::try_from(1000 + sampled * 10).unwrap(), 0)
        })
        .collect();
    let sum: u64 = one(&rows, life("a", Side::New, -100)).iter().map(|step| step.0).sum();
    assert!(sum <= 38 * 5 * 10, "{sum}");
}

/// True counters of a pod and what a scraper with gaps sees of them.
#[derive(Debug, Clone)]
struct World {
    phase: i64,
    created: i64,
    side: Side,
    rates: Vec<u64>,
    missed: Vec<bool>,
    restart: Option<i64>,
}

const SECONDS: i64 = 120;

impl World {
    fn at(&self, second: i64) -> u64 {
        let from = match self.restart {
            Some(restart) if restart <= second => restart,
            _ => self.created,
        };
        (from..second).filter_map(|s| self.rates.get(usize::try_from(s + 30).ok()?)).sum()
    }

    fn happened(&self) -> u64 {
        let from = self.created.max(-30);
        (from..SECONDS).filter_map(|s| self.rates.get(usize::try_from(s + 30).ok()?)).sum()
    }

    fn rows(&self) -> Vec<(i64, i64, u64, u64)> {
        let mut rows = Vec::new();
        for grid in (-25..SECONDS).step_by(5) {
            let newest = (0..12)
                .map(|back| (grid - self.phase).div_euclid(10) - back)
                .find(|scrape| !self.missed.get(usize::try_from(scrape + 20).unwrap_or(0)).copied().unwrap_or(false));
            let Some(sampled) = newest.map(|scrape| scrape * 10 + self.phase).filter(|s| *s >= self.created) else {
                continue;
            };
            let total = self.at(sampled);
            rows.push((grid, sampled, total, total / 4));
        }
        rows
    }
}

fn worlds() -> impl Strategy<Value = Vec<World>> {
    let world = (
        0_i64..10,
        prop_oneof![Just(-40_i64), 1_i64..60],
        any::<bool>(),
        prop::collection::vec(0_u64..50, 150),
        prop::collection::vec(prop::bool::weighted(0.15), 60),
        prop::option::of(61_i64..110),
    )
        .prop_map(|(phase, created, new, rates, missed, restart)| {
            let side = if new { Side::New } else { Side::Old };
            World { phase, created, side, rates, missed, restart }
        });
    prop::collection::vec(world, 1..6)
}

fn build(worlds: &[World]) -> (Counters, Vec<PodLife>) {
    let mut counters = Counters::new(2, Vec::new());
    let mut lives = Vec::new();
    for (index, world) in worlds.iter().enumerate() {
        let name = format!("p{index}");
        for (grid, sampled, total, bad) in world.rows() {
            counters.push(&pod(&name), at(grid), at(sampled), &[total, bad]);
        }
        let mut life = life(&name, world.side, world.created);
        life.container_starts = world.restart.map(at).into_iter().collect();
        lives.push(life);
    }
    (counters, lives)
}

fn sum(replay: &Replay, side: Side) -> u64 {
    let steps = replay.closed.iter().chain([&replay.open]);
    steps.map(|step| if side == Side::Old { step.old.total } else { step.new.total + step.new_young.total }).sum()
}

proptest! {
    #[test]
    fn never_more_is_counted_than_happened(worlds in worlds()) {
        let (counters, lives) = build(&worlds);
        let found = replay(&counters, &lives, at(0), None);
        for side in [Side::New, Side::Old] {
            let happened: u64 = worlds.iter().filter(|world| world.side == side).map(World::happened).sum();
            prop_assert!(sum(&found, side) <= happened);
        }
        let edges = found.closed.iter().chain([&found.open]);
        let mut from = at(0);
        for step in edges {
            prop_assert_eq!(step.from, from);
            prop_assert!(step.to >= step.from);
            from = step.to;
        }
    }

    #[test]
    fn the_order_of_pods_is_irrelevant(worlds in worlds()) {
        let (counters, mut lives) = build(&worlds);
        let found = replay(&counters, &lives, at(0), None);
        lives.reverse();
        prop_assert_eq!(replay(&counters, &lives, at(0), None), found);
    }

    #[test]
    fn a_restart_of_the_operator_changes_nothing(worlds in worlds(), cut in 0_usize..8) {
        let (counters, lives) = build(&worlds);
        let scrape = Some(Duration::from_secs(10));
        let whole = replay(&counters, &lives, at(0), scrape);
        if let Some(step) = whole.closed.get(cut) {
            let rest = replay(&counters, &lives, step.to, scrape);
            prop_assert_eq!(&rest.closed[..], &whole.closed[cut + 1..]);
            prop_assert_eq!(rest.open, whole.open);
        }
    }
}

#[test]
fn the_first_sample_of_a_start_holds_everything_since_the_pod_was_created() {
    let pod = PodName::new("shop", "old");
    let mut counters = Counters::new(2, Vec::new());
    // Created at 100, first scraped at 109, after its cold start; grown-up from 130.
    for (at_second, total, bad) in [(109, 90, 30), (114, 140, 30), (134, 340, 32), (139, 390, 32)] {
        counters.push(&pod, at(at_second), at(at_second), &[total, bad]);
    }
    let life = PodLife { created: at(100), grown_from: Some(at(130)), ..life("old", Side::Old, 100) };
    let binned = bin(&counters, &[life], at(90), at(200), Duration::from_secs(5));
    assert_eq!(binned.start, vec![vec![90, 30], vec![50, 0], vec![0, 0], vec![0, 0], vec![0, 0], vec![200, 2]]);
    assert_eq!(binned.steps.len(), 1);
}
