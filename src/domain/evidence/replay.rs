//! Replays a range of samples into steps.
//!
//! Role: when a step closes, and which interval counts where. Inputs: counters, lives, the time of the last closed step.
//! Outputs: `Replay`. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::counter::{Anchor, Gain};
use super::{Counters, PodCounters, PodLife, Replay, Step, Tally};
use crate::domain::rollout::{PodName, Side};

/// One pod under replay.
struct Track<'a> {
    life: &'a PodLife,
    counters: &'a PodCounters,
    starts: Vec<Timestamp>,
    next: usize,
    anchor: Option<Anchor>,
    /// The newest sample when the last step closed.
    closed_at: Option<Timestamp>,
    /// Whether it contributed to the open step: as new, new and young, old.
    contributed: [bool; 3],
}

/// Replays counters from the close of the last step. `scrape` overrides the interval seen in the samples.
#[must_use]
pub fn replay(counters: &Counters, lives: &[PodLife], from: Timestamp, scrape: Option<Duration>) -> Replay {
    let lives: BTreeMap<&PodName, &PodLife> = lives.iter().map(|life| (&life.pod, life)).collect();
    let mut tracks: Vec<Track<'_>> = lives
        .values()
        .filter(|life| life.side.is_some())
        .filter_map(|life| counters.pods.get(&life.pod).map(|found| Track::new(life, found)))
        .collect();
    let grid: BTreeSet<Timestamp> =
        tracks.iter().flat_map(|track| track.counters.times.iter().map(|time| time.0)).collect();
    let seen = scrape_interval(counters);
    let patience = scrape.or(seen).map(|interval| interval.saturating_mul(2));
    let mut closed = Vec::new();
    let mut open = empty(from);
    let mut warm = false;
    for at in grid {
        if at > from && !warm {
            warm = true;
            close(&mut tracks);
        }
        for track in &mut tracks {
            if let Some((side, gain)) = track.advance(at, counters.width, open.from, at > from) {
                let tally = match side {
                    0 => &mut open.new,
                    1 => &mut open.new_young,
                    _ => &mut open.old,
                };
                tally.count(gain.row.first().copied().unwrap_or(0), gain.row.get(1..).unwrap_or_default());
            }
        }
        if at > from {
            open.to = at;
            if may_close(&tracks, at, patience) {
                count_pods(&mut open, &tracks);
                closed.push(std::mem::replace(&mut open, empty(at)));
                close(&mut tracks);
            }
        }
    }
    count_pods(&mut open, &tracks);
    Replay { closed, open, scrape: seen }
}

/// The median distance between successive samples of a pod.
#[must_use]
pub fn scrape_interval(counters: &Counters) -> Option<Duration> {
    let mut distances: Vec<Duration> = Vec::new();
    for pod in counters.pods.values() {
        for pair in pod.times.windows(2) {
            if let [(_, earlier), (_, later)] = pair
                && later > earlier
                && let Ok(distance) = Duration::try_from(later.duration_since(*earlier))
            {
                distances.push(distance);
            }
        }
    }
    let middle = distances.len() / 2;
    (!distances.is_empty()).then(|| *distances.select_nth_unstable(middle).1)
}

fn empty(from: Timestamp) -> Step {
    Step { from, to: from, new: Tally::default(), new_young: Tally::default(), old: Tally::default() }
}

fn close(tracks: &mut [Track<'_>]) {
    for track in tracks {
        track.closed_at = track.anchor.as_ref().map(|anchor| anchor.sampled);
        track.contributed = [false; 3];
    }
}

fn count_pods(step: &mut Step, tracks: &[Track<'_>]) {
    let [mut new, mut young, mut old] = [0; 3];
    for track in tracks {
        new += u64::from(track.contributed[0]);
        young += u64::from(track.contributed[1]);
        old += u64::from(track.contributed[2]);
    }
    (step.new.pods, step.new_young.pods, step.old.pods) = (new, young, old);
}

/// Every counted pod has a newer sample than at the last close, or has been missing for two scrape intervals.
fn may_close(tracks: &[Track<'_>], at: Timestamp, patience: Option<Duration>) -> bool {
    let mut news = false;
    for track in tracks {
        let Some(anchor) = &track.anchor else {
            continue;
        };
        if track.closed_at.is_none_or(|closed| anchor.sampled > closed) {
            news = true;
            continue;
        }
        let gone = track.life.gone.is_some_and(|gone| gone <= at);
        let missing = patience.is_some_and(|patience| {
            Duration::try_from(at.duration_since(anchor.sampled)).is_ok_and(|absent| absent > patience)
        });
        if !gone && !missing {
            return false;
        }
    }
    news
}

impl<'a> Track<'a> {
    fn new(life: &'a PodLife, counters: &'a PodCounters) -> Self {
        let mut starts = life.container_starts.clone();
        starts.sort_unstable();
        Self { life, counters, starts, next: 0, anchor: None, closed_at: None, contributed: [false; 3] }
    }

    /// Reads the row at this grid time, if there is one; returns what counts.
    fn advance(&mut self, at: Timestamp, width: usize, last_close: Timestamp, counting: bool) -> Option<(usize, Gain)> {
        let mut gained = None;
        while let Some((grid, sampled)) = self.counters.times.get(self.next).copied() {
            if grid > at {
                break;
            }
            let row = self.counters.values.get(self.next * width..(self.next + 1) * width);
            self.next += 1;
            let Some(row) = row.filter(|_| grid == at) else {
                continue;
            };
            gained = match &mut self.anchor {
                Some(anchor) => anchor.advance(sampled, row, &self.starts),
                None => self.first_sight(sampled, row, last_close, counting),
            };
        }
        let gain = gained.filter(|_| counting)?;
        let grown = self.life.grown_from.is_some_and(|grown| gain.began >= grown);
        let side = match self.life.side? {
            Side::New if grown => 0,
            Side::New => 1,
            Side::Old => 2,
        };
        if let Some(contributed) = self.contributed.get_mut(side) {
            *contributed = true;
        }
        Some((side, gain))
    }

    /// A pod created after the last step closed began at zero; of any other the past is unknown.
    fn first_sight(&mut self, sampled: Timestamp, row: &[u64], last_close: Timestamp, counting: bool) -> Option<Gain> {
        if counting && self.life.created > last_close && sampled > self.life.created {
            let anchor = self.anchor.insert(Anchor::new(self.life.created, vec![0; row.len()]));
            return anchor.advance(sampled, row, &[]);
        }
        self.anchor = Some(Anchor::new(sampled, row.to_vec()));
        None
    }
}
