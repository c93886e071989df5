//! One pod's counters, sample by sample.
//!
//! Role: what a decrease means. Inputs: samples in order, container starts. Outputs: differences, each event once. Must
//! never import: other rooms.

use jiff::{SignedDuration, Timestamp};

/// The API knows whole seconds, and clocks differ a little.
const SLACK: SignedDuration = SignedDuration::from_millis(1500);

/// Samples below the running maximum after which a counter is believed to have begun anew, without counting.
const RE_ANCHOR: u8 = 3;

/// The counters of one pod as last believed.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// The newest sample seen.
    pub sampled: Timestamp,
    /// Since when the believed values stand: the beginning of the next interval.
    believed: Timestamp,
    row: Vec<u64>,
    below: u8,
    starts_used: usize,
}

/// What a newer sample adds.
pub struct Gain {
    /// When the interval began.
    pub began: Timestamp,
    /// Total, then parts.
    pub row: Vec<u64>,
}

impl Anchor {
    /// First sight, at `began` with these values.
    #[must_use]
    pub fn new(began: Timestamp, row: Vec<u64>) -> Self {
        Self { sampled: began, believed: began, row, below: 0, starts_used: 0 }
    }

    /// Reads a newer sample. `starts` are sorted. All counters of a pod move together or not at all.
    pub fn advance(&mut self, sampled: Timestamp, row: &[u64], starts: &[Timestamp]) -> Option<Gain> {
        if sampled <= self.sampled {
            return None;
        }
        let before = self.sampled;
        self.sampled = sampled;
        let began = self.believed;
        if row.iter().zip(&self.row).all(|(new, old)| new >= old) {
            let gain = row.iter().zip(&self.row).map(|(new, old)| new - old).collect();
            self.believe(sampled, row);
            return Some(Gain { began, row: gain });
        }
        if self.use_start(before.min(began), sampled, starts) {
            self.believe(sampled, row);
            return Some(Gain { began, row: row.to_vec() });
        }
        self.below += 1;
        if self.below >= RE_ANCHOR {
            self.believe(sampled, row);
        }
        None
    }

    fn believe(&mut self, sampled: Timestamp, row: &[u64]) {
        self.believed = sampled;
        self.row.clear();
        self.row.extend_from_slice(row);
        self.below = 0;
    }

    /// Uses up the container starts up to this decrease, if one of them can explain it.
    fn use_start(&mut self, from: Timestamp, to: Timestamp, starts: &[Timestamp]) -> bool {
        let earliest = from.checked_sub(SLACK).unwrap_or(from);
        let latest = to.checked_add(SLACK).unwrap_or(to);
        let Some(index) = (self.starts_used..starts.len())
            .find(|index| starts.get(*index).is_some_and(|start| (earliest..=latest).contains(start)))
        else {
            return false;
        };
        self.starts_used = index + 1;
        true
    }
}
