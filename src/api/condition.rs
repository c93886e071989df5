//! Conditions: the contract of every status.
//!
//! Role: build and merge conditions so that `lastTransitionTime` moves only when the status flips. Inputs: what is true
//! now, and `now`. Outputs: the list to write. Must never import: a clock, other rooms than `domain`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::outcome::Reason;

/// One observation about an object, as `metav1.Condition`.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// Why, as one word.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, as a sentence.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When the status last changed.
    #[schemars(schema_with = "super::status::date_time_required")]
    pub last_transition_time: String,
    /// The generation of the object that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The three states of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// What kinds of condition there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Configuration valid, target found, able to act.
    Ready,
    /// Verdict on the current revision.
    Healthy,
    /// A rollout is being judged or an undo verified.
    Reconciling,
    /// The current revision is one that the guard restored.
    RolledBack,
    /// The last read of the metrics worked.
    MetricsAvailable,
    /// Language models of the class answer; classes only.
    LLMAvailable,
    /// Something else applies the workload.
    GitOpsManaged,
    /// Nothing will go on without a person.
    Stalled,
}

impl Type {
    /// The conditions of a guard, in the order in which they are shown.
    pub const GUARD: [Self; 7] = [
        Self::Ready,
        Self::Healthy,
        Self::Reconciling,
        Self::RolledBack,
        Self::MetricsAvailable,
        Self::GitOpsManaged,
        Self::Stalled,
    ];

    /// As it stands in `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Healthy => "Healthy",
            Self::Reconciling => "Reconciling",
            Self::RolledBack => "RolledBack",
            Self::MetricsAvailable => "MetricsAvailable",
            Self::LLMAvailable => "LLMAvailable",
            Self::GitOpsManaged => "GitOpsManaged",
            Self::Stalled => "Stalled",
        }
    }
}

/// A condition without its times: what the domain has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which condition.
    pub type_: Type,
    /// Its state.
    pub truth: Truth,
    /// Why, as one word.
    pub reason: Reason,
    /// Why, as a sentence.
    pub message: String,
}

impl Observed {
    /// Says something about one condition.
    #[must_use]
    pub fn new(type_: Type, truth: impl Into<Truth>, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, truth: truth.into(), reason, message: message.into() }
    }
}

/// Puts what was observed over the previous conditions; what was not observed stays as it is.
#[must_use]
pub fn merge(previous: &[Condition], observed: &[Observed], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut merged = previous.to_vec();
    for new in observed {
        let condition = Condition {
            type_: new.type_.as_str().into(),
            status: new.truth.as_str().into(),
            reason: new.reason.as_str().into(),
            message: new.message.clone(),
            last_transition_time: super::status::time(now),
            observed_generation: generation,
        };
        match merged.iter_mut().find(|old| old.type_ == condition.type_) {
            Some(old) if old.status == condition.status => {
                *old = Condition { last_transition_time: old.last_transition_time.clone(), ..condition };
            }
            Some(old) => *old = condition,
            None => merged.push(condition),
        }
    }
    let order = |condition: &Condition| Type::GUARD.iter().position(|known| known.as_str() == condition.type_);
    merged.sort_by_key(order);
    merged
}

/// The condition of this type, if it was ever set.
#[must_use]
pub fn find(conditions: &[Condition], type_: Type) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let healthy = |truth, reason| [Observed::new(Type::Healthy, truth, reason, "m")];
        let first = merge(&[], &healthy(Truth::Unknown, Reason::NewRevisionDetected), Some(1), at(10));
        let same = merge(&first, &healthy(Truth::Unknown, Reason::Analyzing), Some(1), at(20));
        assert_eq!(same[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(same[0].reason, "Analyzing");
        let flipped = merge(&same, &healthy(Truth::True, Reason::AnalysisPassed), Some(1), at(30));
        assert_eq!(flipped[0].last_transition_time, "1970-01-01T00:00:30Z");
    }

    #[test]
    fn what_was_not_observed_stays() {
        let ready = merge(&[], &[Observed::new(Type::Ready, true, Reason::Accepted, "")], Some(1), at(1));
        let both =
            merge(&ready, &[Observed::new(Type::Healthy, false, Reason::ScoreBelowThreshold, "")], Some(1), at(2));
        assert_eq!(both.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["Ready", "Healthy"]);
    }
}
