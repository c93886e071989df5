//! Scaling as an explanation of what was measured.
//!
//! Role: for a while after the number of wanted pods changed in the middle of a rollout, evidence of harm from metrics may
//! come from cold pods and moved traffic. Inputs: how many pods are wanted, `now`. Outputs: a hold. Must never import:
//! other rooms, a clock.

use std::time::Duration;

use jiff::Timestamp;

use super::facts::Hold;
use super::guardrail::lies_within;
use super::outcome::Reason;

/// How long a change counts.
const SETTLES: Duration = Duration::from_mins(1);

/// How long changes that follow each other count in all: an autoscaler that answers to a bad release must not protect it.
const LONGEST: Duration = Duration::from_mins(5);

/// How many pods were wanted during a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    replicas: u32,
    change: Option<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    from: u32,
    at: Timestamp,
    /// When the first of the changes was seen that follow each other so closely.
    first: Timestamp,
}

impl Scaling {
    /// What is known after a look. The first look of a rollout knows of no change: what was pushed with the template is
    /// part of the release.
    #[must_use]
    pub fn seen(before: Option<Self>, replicas: u32, now: Timestamp) -> Self {
        let Some(before) = before else { return Self { replicas, change: None } };
        if before.replicas == replicas {
            return before;
        }
        let going_on = before.change.filter(|change| lies_within(change.at, SETTLES, now));
        let first = going_on.map_or(now, |change| change.first);
        Self { replicas, change: Some(Change { from: before.replicas, at: now, first }) }
    }

    /// Why evidence of harm from metrics does not count now, if so.
    #[must_use]
    pub fn hold(&self, now: Timestamp) -> Option<Hold> {
        let change = self.change?;
        let counts = lies_within(change.at, SETTLES, now) && lies_within(change.first, LONGEST, now);
        counts.then(|| Hold {
            reason: Reason::Scaling,
            message: format!(
                "the number of wanted pods was changed from {} to {} {} s ago; evidence of harm from metrics is not acted \
                 on before {} s have passed",
                change.from,
                self.replicas,
                now.duration_since(change.at).as_secs().max(0),
                SETTLES.as_secs()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::fixture::at;

    fn holds(looks: &[(i64, u32)], now: i64) -> bool {
        let known =
            looks.iter().fold(None, |known, (second, replicas)| Some(Scaling::seen(known, *replicas, at(*second))));
        known.is_some_and(|known| known.hold(at(now)).is_some())
    }

    #[test]
    fn a_change_in_the_middle_of_a_rollout_counts_for_a_minute() {
        assert!(!holds(&[(0, 2)], 1), "nothing changed");
        assert!(!holds(&[(0, 2), (10, 2)], 11));
        assert!(holds(&[(0, 2), (10, 5)], 10));
        assert!(holds(&[(0, 2), (10, 5), (30, 5)], 69));
        assert!(!holds(&[(0, 2), (10, 5), (30, 5)], 70));
        assert!(holds(&[(0, 5), (10, 2)], 20), "fewer pods take more traffic each");
        let hold = Scaling::seen(Some(Scaling::seen(None, 2, at(0))), 5, at(10)).hold(at(30)).unwrap();
        assert_eq!(hold.reason, Reason::Scaling);
        assert!(hold.message.contains("from 2 to 5 20 s ago"), "{}", hold.message);
    }

    #[test]
    fn what_is_lost_with_the_memory_holds_nothing() {
        assert!(!holds(&[(20, 5)], 21), "a new process has seen no change");
    }

    #[test]
    fn an_autoscaler_that_never_rests_protects_nobody_for_ever() {
        let looks: Vec<_> = (0_u32..40).map(|n| (i64::from(n) * 30, n + 2)).collect();
        assert!(holds(&looks[..10], 290), "it has been scaling for less than five minutes");
        assert!(!holds(&looks, 39 * 30));
    }

    proptest! {
        #[test]
        fn a_hold_needs_a_change_of_the_last_minute(
            changes in proptest::collection::vec((0_i64..600, 1_u32..4), 0..12),
            later in 0_i64..200,
        ) {
            let mut looks = changes;
            looks.sort_unstable();
            let now = looks.last().map_or(0, |(second, _)| *second) + later;
            let recent = looks.windows(2).any(|pair| {
                matches!(pair, [(_, before), (second, after)] if before != after && now - second < 60)
            });
            prop_assert!(recent || !holds(&looks, now));
        }
    }
}
