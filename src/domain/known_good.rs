//! Which revision to go back to.
//!
//! Role: what it takes to be known as good, and the choice among what is known. Inputs: what status remembers, what still
//! exists. Outputs: a revision and how far it is trusted. Must never import: other rooms, a clock.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::plan::{BadRevision, Current};
use super::policy::RollbackTarget;
use super::rollout::RevisionHash;

/// How a revision proved good, the least trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// It served before; nobody judged it.
    NeverJudged,
    /// No pod state spoke against it during a whole window; nothing could be measured.
    PodsOnly,
    /// Every critical signal was certified to the end of a window, and nothing held.
    Certified,
}

impl Trust {
    const ALL: [Self; 3] = [Self::NeverJudged, Self::PodsOnly, Self::Certified];

    /// The word in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverJudged => "NeverJudged",
            Self::PodsOnly => "PodsOnly",
            Self::Certified => "Certified",
        }
    }

    /// Reads the word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trust| trust.as_str() == word)
    }

    /// The word for people, in a sentence about a revision to go back to.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NeverJudged => "it served before and was never judged, so it is trusted little",
            Self::PodsOnly => "its pods were well for a whole window and nothing was measured, so it is trusted little",
            Self::Certified => "it proved good",
        }
    }
}

/// A revision that proved good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenGood {
    /// Which.
    pub revision: RevisionHash,
    /// When it had proved good.
    pub at: Timestamp,
    /// How.
    pub trust: Trust,
    /// Its template, if the guard keeps it by now.
    pub kept: Option<Kept>,
}

/// A template that the guard keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The `ControllerRevision` that holds it.
    pub name: String,
    /// Stands for it.
    pub template: u64,
    /// Stands for everything in it that runs, where that is remembered.
    pub substance: Option<u64>,
}

/// The revisions whose templates the guard keeps: those that proved good, and the one that a bad release would be undone
/// to without them. It is kept while it serves, because the history of a workload may be gone a moment after a push.
#[must_use]
pub fn to_keep(good: &[ProvenGood], current: Option<&Current>) -> BTreeSet<RevisionHash> {
    good.iter().map(|good| good.revision.clone()).chain(current.and_then(Current::serves).cloned()).collect()
}

/// The revision to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub revision: RevisionHash,
    /// How far it is trusted.
    pub trust: Trust,
}

impl Choice {
    /// One that was made before: how far it was trusted stands in its record, and is not weighed again.
    #[must_use]
    pub fn made_before(revision: &RevisionHash) -> Self {
        Self { revision: revision.clone(), trust: Trust::NeverJudged }
    }
}

/// Chooses: the newest revision that proved good and still exists, else the one before. What is known as bad, and the
/// judged revision itself, are never chosen.
#[must_use]
pub fn choose(
    target: RollbackTarget,
    current: &Current,
    good: &[ProvenGood],
    bad: &[BadRevision],
    exists: impl Fn(&RevisionHash) -> bool,
) -> Option<Choice> {
    let eligible = |revision: &RevisionHash| {
        *revision != current.revision && !bad.iter().any(|bad| bad.revision == *revision) && exists(revision)
    };
    let trust = |revision: &RevisionHash| good.iter().find(|good| good.revision == *revision).map(|good| good.trust);
    let proven = || {
        let newest = good.iter().filter(|good| eligible(&good.revision)).max_by_key(|good| good.at)?;
        Some(Choice { revision: newest.revision.clone(), trust: newest.trust })
    };
    let before = || {
        let revision = current.baseline.clone().filter(|revision| eligible(revision))?;
        let trust = trust(&revision).unwrap_or(Trust::NeverJudged);
        Some(Choice { revision, trust })
    };
    match target {
        RollbackTarget::LastKnownGood => proven().or_else(before),
        RollbackTarget::Previous => before(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::fixture::at;
    use crate::domain::plan::Stage;

    fn hash(name: &str) -> RevisionHash {
        RevisionHash::new(name)
    }

    fn current(revision: &str, baseline: Option<&str>) -> Current {
        Current { baseline: baseline.map(hash), ..Current::new(hash(revision), at(100), Stage::Judging) }
    }

    fn good(revision: &str, second: i64, trust: Trust) -> ProvenGood {
        ProvenGood { revision: hash(revision), at: at(second), trust, kept: None }
    }

    fn bad(revision: &str) -> BadRevision {
        BadRevision { revision: hash(revision), decision: "d".into(), undone: at(0), until: at(1000) }
    }

    fn chosen(
        target: RollbackTarget,
        good: &[ProvenGood],
        bad: &[BadRevision],
        gone: &[&str],
    ) -> Option<(String, Trust)> {
        let current = current("v4", Some("v3"));
        choose(target, &current, good, bad, |revision| !gone.contains(&revision.as_str()))
            .map(|choice| (choice.revision.to_string(), choice.trust))
    }

    #[test]
    fn the_newest_that_proved_good_comes_before_the_previous_one() {
        use RollbackTarget::{LastKnownGood, Previous};
        let known = [good("v2", 20, Trust::PodsOnly), good("v1", 10, Trust::Certified)];
        let some = |name: &str, trust| Some((name.to_owned(), trust));
        assert_eq!(chosen(LastKnownGood, &known, &[], &[]), some("v2", Trust::PodsOnly));
        assert_eq!(chosen(LastKnownGood, &known, &[], &["v2"]), some("v1", Trust::Certified));
        assert_eq!(chosen(LastKnownGood, &known, &[bad("v2")], &["v1"]), some("v3", Trust::NeverJudged));
        assert_eq!(chosen(LastKnownGood, &[], &[], &[]), some("v3", Trust::NeverJudged));
        assert_eq!(chosen(Previous, &known, &[], &[]), some("v3", Trust::NeverJudged));
        assert_eq!(chosen(Previous, &[good("v3", 5, Trust::Certified)], &[], &[]), some("v3", Trust::Certified));
        assert_eq!(chosen(LastKnownGood, &[], &[bad("v3")], &[]), None);
        assert_eq!(chosen(LastKnownGood, &[good("v4", 9, Trust::Certified)], &[], &["v3"]), None);
    }

    #[test]
    fn what_proved_good_is_kept_and_what_serves_or_served_before_a_rollout() {
        let good = [good("v2", 20, Trust::Certified), good("v1", 10, Trust::PodsOnly)];
        let kept = |current: Option<&Current>| -> Vec<String> {
            to_keep(&good, current).iter().map(ToString::to_string).collect()
        };
        assert_eq!(kept(None), ["v1", "v2"]);
        let in_stage = |stage| Current { stage, ..current("v4", Some("v3")) };
        for stage in [Stage::Serving, Stage::Passed, Stage::Certified, Stage::Unproven, Stage::Restoring] {
            assert_eq!(kept(Some(&in_stage(stage))), ["v1", "v2", "v4"], "{stage:?}");
        }
        for stage in [Stage::Judging, Stage::Held, Stage::Condemned, Stage::AwaitingApproval, Stage::KnownBad] {
            assert_eq!(kept(Some(&in_stage(stage))), ["v1", "v2", "v3"], "{stage:?}");
        }
        assert_eq!(kept(Some(&current("v4", None))), ["v1", "v2"], "what is being judged is not kept");
    }

    #[test]
    fn words_of_trust_survive_status() {
        for trust in Trust::ALL {
            assert_eq!(Trust::parse(trust.as_str()), Some(trust));
        }
    }

    proptest! {
        #[test]
        fn what_is_bad_gone_or_current_is_never_chosen(
            goods in proptest::collection::vec((0_u8..6, 0_i64..50), 0..6),
            bads in proptest::collection::vec(0_u8..6, 0..4),
            gone in proptest::collection::vec(0_u8..6, 0..4),
            previous in any::<bool>(),
        ) {
            let name = |n: u8| format!("v{n}");
            let goods: Vec<_> = goods.iter().map(|(n, at)| good(&name(*n), *at, Trust::Certified)).collect();
            let bads: Vec<_> = bads.iter().map(|n| bad(&name(*n))).collect();
            let target = if previous { RollbackTarget::Previous } else { RollbackTarget::LastKnownGood };
            let exists = |revision: &RevisionHash| !gone.iter().any(|n| name(*n) == revision.as_str());
            if let Some(choice) = choose(target, &current("v4", Some("v3")), &goods, &bads, exists) {
                prop_assert!(exists(&choice.revision));
                prop_assert!(choice.revision.as_str() != "v4");
                prop_assert!(!bads.iter().any(|bad| bad.revision == choice.revision));
            }
        }
    }
}
