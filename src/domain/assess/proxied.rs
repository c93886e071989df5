//! Steps of what a proxy counts for a whole Service.
//!
//! Role: which requests belong to the revision under judgement where nobody can tell pods apart: all of them, from the
//! first Ready new pod on. Inputs: counters of proxies, lives of pods. Outputs: closed steps. Must never import: other
//! rooms.

use std::time::Duration;

use jiff::Timestamp;

use super::evidence::{Extras, tests};
use super::quantile_ms;
use crate::domain::evidence::{Counters, PodLife, Tally, replay};
use crate::domain::judge::{Seen, Sides, SignalDesign};
use crate::domain::process::Counts;
use crate::domain::rollout::Side;

/// Who serves behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mixture {
    /// The first new pod was Ready.
    since: Option<Timestamp>,
    /// The last new pod is out of its warm-up.
    grown: Option<Timestamp>,
}

impl Mixture {
    /// What the pods say.
    pub(super) fn of(lives: &[PodLife], warmup: Duration) -> Self {
        let new = || lives.iter().filter(|life| life.side == Some(Side::New));
        let first = new().filter_map(|life| life.grown_from).min();
        let last = new().filter(|life| life.gone.is_none()).filter_map(|life| life.grown_from).max();
        Self { since: first.and_then(|first| first.checked_sub(warmup).ok()), grown: last.or(first) }
    }
}

/// Proxies as pods of one side that were there before anybody looked: what one had counted when it is first seen is not
/// known. Their counts are grown-up from `grown` on.
#[must_use]
pub fn lives(counters: &Counters, grown: Option<Timestamp>) -> Vec<PodLife> {
    let life = |pod: &crate::domain::rollout::PodName| PodLife {
        pod: pod.clone(),
        side: Some(Side::New),
        created: Timestamp::UNIX_EPOCH,
        grown_from: grown,
        container_starts: Vec::new(),
        gone: None,
        containers: Vec::new(),
    };
    counters.pods.keys().map(life).collect()
}

/// The steps that closed since the last one; none before a new pod was Ready.
pub(super) fn closed(
    counters: &Counters,
    until: Timestamp,
    design: &SignalDesign,
    mixture: Mixture,
    extras: &mut Extras,
) -> Vec<(Timestamp, Seen)> {
    let Some(since) = mixture.since else { return Vec::new() };
    let replayed = replay(counters, &lives(counters, mixture.grown), until.max(since), None);
    extras.scrape = extras.scrape.or(replayed.scrape);
    if !counters.bounds.is_empty() && extras.p95_ms.is_none() {
        let mut all = replayed.open.new.clone();
        for step in &replayed.closed {
            all.merge(&step.new);
            all.merge(&step.new_young);
        }
        extras.p95_ms = quantile_ms(0.95, &counters.bounds, &all.parts, all.total).map(|found| found.value);
    }
    let seen = |step: &crate::domain::evidence::Step| {
        let sides = |bad: &dyn Fn(&Tally) -> u64| {
            let side = |tally: &Tally| (tally.pods > 0).then(|| Counts::new(bad(tally), tally.total));
            Sides { young: side(&step.new_young), grown: side(&step.new), old: None, history: None }
        };
        Some((step.to, Seen::Counts(tests(counters, design, &sides)?)))
    };
    replayed.closed.iter().filter_map(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::judge::{History, Kind, OnNoData, Overlap, SignalHistory, SignalSettings};
    use crate::domain::rollout::PodName;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn pod(name: &str, side: Side, ready: Option<i64>) -> PodLife {
        PodLife {
            pod: PodName::new("shop", name),
            side: Some(side),
            created: at(0),
            grown_from: ready.map(|ready| at(ready + 60)),
            container_starts: Vec::new(),
            gone: None,
            containers: Vec::new(),
        }
    }

    fn design() -> SignalDesign {
        let signal = SignalSettings {
            name: "ingress/errors".into(),
            term: None,
            kind: Kind::Ratio,
            weight: 2,
            critical: true,
            max_ppm: None,
            limit: None,
            on_no_data: OnNoData::Inconclusive,
            dry_run: false,
            proxied: true,
        };
        let settings = crate::domain::judge::Settings {
            alpha_ppm: 10_000,
            window: Duration::from_mins(30),
            baseline: crate::domain::judge::Baseline::Auto,
            min_requests: 20,
            history_may_enforce: true,
            tells_young: true,
            first_wave: None,
            controls: 0,
            signals: vec![signal],
        };
        let steps = vec![vec![Counts::new(1, 100)]; 60];
        let history = History { signals: vec![SignalHistory { steps, ..SignalHistory::default() }] };
        let step = Duration::from_secs(10);
        let design =
            crate::domain::judge::Design::new(&settings, &history, Overlap::Never, Duration::from_mins(1), step);
        design.signals[0].clone()
    }

    /// Two proxies that were there long before, a hundred requests each in ten seconds.
    fn counters() -> Counters {
        let mut counters = Counters::new(2, Vec::new());
        for proxy in ["10.0.0.1:10254", "10.0.0.2:10254"] {
            for step in 0..60_i64 {
                let count = u64::try_from(step).unwrap() + 7_000;
                counters.push(&PodName::new("", proxy), at(step * 10), at(step * 10), &[count * 100, count]);
            }
        }
        counters
    }

    fn sides(lives: &[PodLife]) -> Vec<(i64, Sides)> {
        let mixture = Mixture::of(lives, Duration::from_mins(1));
        let found = closed(&counters(), at(0), &design(), mixture, &mut Extras::default());
        found
            .into_iter()
            .map(|(to, seen)| match seen {
                Seen::Counts(tests) => (to.as_second() - 1_700_000_000, tests[0]),
                Seen::Values { .. } => panic!("a value"),
            })
            .collect()
    }

    #[test]
    fn nothing_belongs_to_the_new_revision_before_its_first_pod_is_ready() {
        assert_eq!(sides(&[pod("new", Side::New, None), pod("old", Side::Old, Some(-900))]), Vec::new());
        let found = sides(&[pod("new", Side::New, Some(200)), pod("old", Side::Old, Some(-900))]);
        assert_eq!(found.first().map(|(to, _)| *to), Some(210));
        assert_eq!(found.len(), 39);
    }

    #[test]
    fn requests_are_young_until_the_last_new_pod_is_grown_up_whoever_serves_them() {
        let lives = [pod("a", Side::New, Some(100)), pod("b", Side::New, Some(200)), pod("old", Side::Old, Some(-900))];
        for (to, sides) in sides(&lives) {
            assert_eq!(sides.young.is_some(), to <= 260, "{to}");
            assert_eq!(sides.grown.is_some(), to > 260, "{to}");
            assert_eq!(sides.old, None);
            assert_eq!(sides.new_total(), Counts::new(2, 200), "{to}");
        }
    }

    #[test]
    fn a_proxy_that_comes_or_starts_again_brings_no_requests_of_before() {
        let mut counters = Counters::new(2, Vec::new());
        for step in 0..60_i64 {
            let count = u64::try_from(step).unwrap();
            counters.push(&PodName::new("", "a:1"), at(step * 10), at(step * 10), &[count * 100, count]);
            if step >= 30 {
                counters.push(&PodName::new("", "b:1"), at(step * 10), at(step * 10), &[9_000 + count * 100, 8_000]);
            }
        }
        let lives = [pod("new", Side::New, Some(100))];
        let mixture = Mixture::of(&lives, Duration::from_mins(1));
        let found = closed(&counters, at(0), &design(), mixture, &mut Extras::default());
        let totals = found.iter().map(|(_, seen)| match seen {
            Seen::Counts(tests) => tests[0].new_total(),
            Seen::Values { .. } => Counts::default(),
        });
        assert!(
            totals.clone().all(|counts| counts.total <= 200 && counts.bad <= 1),
            "{:?}",
            totals.collect::<Vec<_>>()
        );
    }
}
