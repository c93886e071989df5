//! How many undos the guards of a class made lately.
//!
//! Role: counts them for the storm breaker, in this process at once and in the class's status for the next one. Inputs:
//! undos. Outputs: their moments. Must never import: `cli`, `console`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::memory::GuardKey;
use crate::api::GuardClass;
use crate::api::class::{StormBreakerStatus, StormUndo};
use crate::api::status::{parse_time, time_ms};
use crate::domain::guardrail::lies_within;
use crate::domain::policy::StormPolicy;

/// Undos that a class lists.
const KEPT: usize = 100;

/// One undo: by which guard, when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Undo {
    guard: String,
    at: Timestamp,
}

/// By decision: one that is carried out again after a crash counts once.
type Undos = BTreeMap<String, Undo>;

/// The undos of every class.
#[derive(Debug, Default)]
pub struct Storms(Mutex<HashMap<String, Undos>>);

/// The undos of one class, while nobody else can add one.
pub struct OfClass<'a> {
    all: MutexGuard<'a, HashMap<String, Undos>>,
    class: String,
}

impl Storms {
    /// The undos of a class: what this process saw and what status remembers of others.
    #[must_use]
    pub fn of(&self, class: &GuardClass) -> OfClass<'_> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let undos = all.entry(class.name_any()).or_default();
        let stored = class.status.as_ref().and_then(|status| status.storm_breaker.as_ref());
        for undo in stored.iter().flat_map(|stored| &stored.undos) {
            if let Some(at) = parse_time(&undo.time) {
                let known = Undo { guard: undo.guard.clone(), at };
                undos.entry(undo.decision.clone()).or_insert(known);
            }
        }
        OfClass { all, class: class.name_any() }
    }
}

impl OfClass<'_> {
    /// When undos were decided, those of other decisions than `except`.
    #[must_use]
    pub fn moments(&self, except: &str) -> Vec<Timestamp> {
        let undos = self.all.get(&self.class);
        undos.into_iter().flatten().filter(|(decision, _)| *decision != except).map(|(_, undo)| undo.at).collect()
    }

    /// One more.
    pub fn add(&mut self, at: Timestamp, guard: &GuardKey, decision: &str) {
        let undos = self.all.entry(self.class.clone()).or_default();
        let guard = format!("{}/{}", guard.namespace, guard.name);
        undos.entry(decision.to_owned()).or_insert(Undo { guard, at });
    }

    /// What status says of them; those that no longer count are forgotten.
    #[must_use]
    pub fn status(&mut self, policy: StormPolicy, now: Timestamp) -> StormBreakerStatus {
        let undos = self.all.entry(self.class.clone()).or_default();
        undos.retain(|_, undo| lies_within(undo.at, policy.within, now));
        let mut listed: Vec<_> = undos
            .iter()
            .map(|(decision, undo)| {
                let entry = StormUndo { time: time_ms(undo.at), guard: undo.guard.clone(), decision: decision.clone() };
                (undo.at, entry)
            })
            .collect();
        listed.sort_by_key(|(at, _)| *at);
        let surplus = listed.len().saturating_sub(KEPT);
        let most = usize::try_from(policy.undos).unwrap_or(usize::MAX);
        StormBreakerStatus {
            open: listed.len() >= most,
            undos: listed.into_iter().skip(surplus).map(|(_, entry)| entry).collect(),
        }
    }
}

/// The class's policy; one that cannot be read counts as the default, until its guards say so.
#[must_use]
pub fn policy(class: &GuardClass) -> StormPolicy {
    let spec = &class.spec.storm_breaker;
    let within = spec.within.parse::<kube::core::Duration>().ok().filter(|within| !within.is_negative());
    let default = StormPolicy::default();
    StormPolicy {
        undos: u32::try_from(spec.undos).unwrap_or(default.undos),
        within: within.map_or(default.within, Duration::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(undos: &[(&str, &str)]) -> GuardClass {
        let entry =
            |(time, decision): &(&str, &str)| serde_json::json!({"time": time, "guard": "a/b", "decision": decision});
        let stored: Vec<_> = undos.iter().map(entry).collect();
        serde_json::from_value(serde_json::json!({
            "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": "default"},
            "spec": {"prometheus": {"url": "http://p"}}, "status": {"stormBreaker": {"open": false, "undos": stored}},
        }))
        .unwrap()
    }

    #[test]
    fn undos_are_counted_once_also_after_a_restart_and_forgotten_in_time() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let key = GuardKey { namespace: "a".into(), name: "b".into() };
        let storms = Storms::default();
        let class = class(&[("2026-01-01T00:09:00Z", "d1"), ("2026-01-01T00:00:00Z", "d0")]);
        storms.of(&class).add(now, &key, "d2");
        storms.of(&class).add(now, &key, "d1");
        assert_eq!(storms.of(&class).moments("").len(), 3);
        assert_eq!(storms.of(&class).moments("d2").len(), 2);
        let status = storms.of(&class).status(StormPolicy::default(), now);
        let decisions: Vec<_> = status.undos.iter().map(|undo| undo.decision.as_str()).collect();
        assert_eq!((status.open, decisions), (false, vec!["d1", "d2"]));
        storms.of(&class).add(now, &key, "d3");
        assert!(storms.of(&class).status(StormPolicy::default(), now).open);
    }
}
