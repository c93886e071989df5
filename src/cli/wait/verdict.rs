//! What a guard says about one revision.
//!
//! Role: tells the verdict on what is waited for from verdicts on what was before, or came after. Inputs: a guard as raw
//! JSON, what is wanted. Outputs: an end, or why there is none yet. Must never import: a clock, a client, `console`.

use serde_json::Value;

use crate::cli::screen::seen::Seen;

/// What is waited for: what the workload asked for at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The workload.
    pub(super) uid: String,
    /// Its generation.
    pub(super) generation: i64,
    /// The revision of its template, once that is known.
    pub(super) revision: Option<String>,
    /// Whether proven health is waited on until the window ends.
    pub(super) whole_window: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not worse, proven.
    Healthy,
    /// Judged bad, rolled back or not.
    Bad,
    /// The guard cannot judge.
    Unusable,
    /// Nobody can say.
    Inconclusive,
    /// The person left.
    Interrupted,
}

impl End {
    /// The word in the result.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Bad => "Bad",
            Self::Unusable => "Unusable",
            Self::Inconclusive => "Inconclusive",
            Self::Interrupted => "Interrupted",
        }
    }
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is over, and why.
    Ended(End, String),
    /// The guard cannot judge as it is; if that lasts, it is over.
    Unusable(String),
    /// Not yet, and what is waited for.
    Waiting(String),
}

/// Reads it off the guard.
pub(super) fn standing(guard: &Value, wanted: &Wanted) -> Standing {
    let guard = Seen::new(guard);
    if guard.flag("/spec/suspend") {
        return Standing::Unusable("the guard is suspended (spec.suspend), so nothing is judged".to_owned());
    }
    if let Some(bad) = rolled_back(&guard, wanted) {
        return Standing::Ended(End::Bad, bad);
    }
    let ready = guard.condition("Ready");
    let of_this_spec = ready.generation.is_none() || ready.generation == guard.number("/metadata/generation");
    if ready.is("False") && of_this_spec {
        return Standing::Unusable(format!("the guard cannot judge ({}): {}", ready.reason, ready.message));
    }
    let judged = guard.number("/status/target/observedGeneration").unwrap_or_default();
    if guard.text("/status/target/uid") != wanted.uid || judged < wanted.generation {
        return Standing::Waiting(format!("the operator has not seen generation {} yet", wanted.generation));
    }
    let current = guard.text("/status/current/revision");
    if let Some(revision) = wanted.revision.as_ref().filter(|revision| **revision != current) {
        return Standing::Ended(
            End::Inconclusive,
            format!("revision {revision} was replaced by {current} before it was judged to the end"),
        );
    }
    verdict(&guard, wanted)
}

/// Whether the revision that is waited for was undone: what serves now is then another one.
fn rolled_back(guard: &Seen, wanted: &Wanted) -> Option<String> {
    let seen = guard.text("/status/target/uid") == wanted.uid
        && guard.number("/status/target/observedGeneration").unwrap_or_default() >= wanted.generation;
    let from = guard.text("/status/lastDecision/fromRevision");
    // A revision that serves again is judged again: its old record says nothing.
    let undone =
        guard.text("/status/lastDecision/action") == "RolledBack" && guard.text("/status/current/revision") != from;
    // The record names just what is waited for; or what serves is what was put back, because the undo came before this
    // command did.
    let of_wanted = wanted.revision.as_ref().is_some_and(|revision| *revision == from && undone);
    let before = seen && guard.condition("RolledBack").is("True");
    (seen && of_wanted || before).then(|| {
        let reasoning = guard.text("/status/lastDecision/reasoning");
        let to = guard.text("/status/lastDecision/toRevision");
        format!("revision {from} was rolled back to {to}: {reasoning}")
    })
}

/// The verdict on what is waited for: the guard has seen it.
fn verdict(guard: &Seen, wanted: &Wanted) -> Standing {
    let healthy = guard.condition("Healthy");
    let message = format!("{}: {}", healthy.reason, healthy.message);
    match guard.state().as_str() {
        "Passed" => Standing::Ended(End::Healthy, message),
        "Certified" if healthy.is("True") && !wanted.whole_window => Standing::Ended(End::Healthy, message),
        "Condemned" | "KnownBad" => Standing::Ended(End::Bad, message),
        "Unproven" if healthy.is("False") => Standing::Ended(End::Bad, message),
        "Unproven" => Standing::Ended(End::Inconclusive, message),
        "Serving" if healthy.is("True") => Standing::Ended(End::Healthy, message),
        "Serving" if guard.condition("Reconciling").is("True") => Standing::Waiting(message),
        "Serving" => Standing::Ended(
            End::Inconclusive,
            format!(
                "it is not judged, because it served before the guard looked, or was returned to by hand; {message}"
            ),
        ),
        "AwaitingApproval" => {
            let until = guard.text("/status/pendingAction/expiresAt");
            let decision = guard.text("/status/pendingAction/decision");
            Standing::Waiting(format!("judged bad, decision {decision} waits for a person until {until}; {message}"))
        }
        _ => Standing::Waiting(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted() -> Wanted {
        Wanted { uid: "w".into(), generation: 7, revision: Some("new".into()), whole_window: false }
    }

    fn guard(state: &str, healthy: &str, generation: i64) -> Value {
        json!({
            "metadata": {"name": "api", "namespace": "shop", "generation": 1},
            "spec": {},
            "status": {
                "target": {"uid": "w", "observedGeneration": generation},
                "current": {"revision": "new", "state": state},
                "conditions": [{"type": "Healthy", "status": healthy, "reason": "R", "message": "m"}],
            },
        })
    }

    fn end(guard: &Value) -> Option<End> {
        match standing(guard, &wanted()) {
            Standing::Ended(end, _) => Some(end),
            _ => None,
        }
    }

    #[test]
    fn every_stage_has_its_end() {
        for (state, healthy, wanted) in [
            ("Passed", "True", Some(End::Healthy)),
            ("Certified", "True", Some(End::Healthy)),
            ("Condemned", "False", Some(End::Bad)),
            ("KnownBad", "False", Some(End::Bad)),
            ("Unproven", "Unknown", Some(End::Inconclusive)),
            ("Unproven", "False", Some(End::Bad)),
            ("Serving", "Unknown", Some(End::Inconclusive)),
            ("Judging", "Unknown", None),
            ("Held", "Unknown", None),
            ("AwaitingApproval", "False", None),
            ("Dancing", "True", None),
        ] {
            assert_eq!(end(&guard(state, healthy, 7)), wanted, "{state}");
        }
        let whole = Wanted { whole_window: true, ..wanted() };
        assert!(matches!(standing(&guard("Certified", "True", 7), &whole), Standing::Waiting(_)));
        assert!(matches!(standing(&guard("Passed", "True", 7), &whole), Standing::Ended(End::Healthy, _)));
    }

    #[test]
    fn a_verdict_on_an_earlier_generation_or_another_workload_is_none() {
        for state in ["Passed", "Condemned", "Unproven", "Serving"] {
            assert_eq!(end(&guard(state, "True", 6)), None, "{state}");
            let mut other = guard(state, "True", 7);
            other["status"]["target"]["uid"] = json!("another");
            assert_eq!(end(&other), None, "{state}");
        }
        let mut undone_before = guard("Serving", "True", 6);
        undone_before["status"]["conditions"] = json!([{"type": "RolledBack", "status": "True"}]);
        assert_eq!(end(&undone_before), None, "an undo of the release before");
        assert_eq!(end(&json!({})), None);
    }

    #[test]
    fn what_was_undone_is_bad_whether_that_is_seen_while_it_happens_or_afterwards() {
        let mut undone = guard("Restoring", "Unknown", 8);
        undone["status"]["current"]["revision"] = json!("old");
        undone["status"]["lastDecision"] = json!({"fromRevision": "new", "toRevision": "old", "action": "RolledBack"});
        assert_eq!(end(&undone), Some(End::Bad));
        // This command came after the undo: it takes the restored revision for the latest.
        undone["status"]["conditions"] = json!([{"type": "RolledBack", "status": "True"}]);
        undone["status"]["target"]["observedGeneration"] = json!(7);
        assert!(matches!(
            standing(&undone, &Wanted { revision: Some("old".into()), ..wanted() }),
            Standing::Ended(End::Bad, _)
        ));
    }

    #[test]
    fn a_revision_that_was_undone_once_and_is_judged_again_is_waited_for() {
        let mut again = guard("Judging", "Unknown", 7);
        again["status"]["lastDecision"] = json!({"fromRevision": "new", "toRevision": "old", "action": "RolledBack"});
        assert_eq!(end(&again), None);
    }

    #[test]
    fn what_was_replaced_before_its_verdict_is_inconclusive_whatever_its_successor_is() {
        let mut next = guard("Passed", "True", 9);
        next["status"]["current"]["revision"] = json!("newer");
        assert_eq!(end(&next), Some(End::Inconclusive));
    }

    #[test]
    fn a_guard_that_cannot_judge_says_so_unless_its_word_is_about_an_earlier_spec() {
        let mut invalid = guard("Judging", "Unknown", 7);
        invalid["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "UnknownClass", "message": "no", "observedGeneration": 1}]);
        assert!(matches!(standing(&invalid, &wanted()), Standing::Unusable(why) if why.contains("UnknownClass")));
        invalid["metadata"]["generation"] = json!(2);
        assert!(matches!(standing(&invalid, &wanted()), Standing::Waiting(_)));
        let mut suspended = guard("Passed", "True", 7);
        suspended["spec"]["suspend"] = json!(true);
        assert!(matches!(standing(&suspended, &wanted()), Standing::Unusable(_)));
    }
}
