//! Every node of the cluster in a few words, from one watch.
//!
//! Role: says which nodes are in trouble of their own. Inputs: watch events. Outputs: the trouble of a node. Must never
//! import: other rooms than `domain`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// Conditions that are bad while True.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Something is wrong.
    Trouble {
        /// What.
        what: Arc<str>,
        /// Since when, if it is pressure, which pods may cause.
        pressure_since: Option<Timestamp>,
    },
    /// Nothing is, since then.
    Well(Option<Timestamp>),
}

type States = HashMap<Arc<str>, State>;

/// The nodes, by name.
#[derive(Debug, Default)]
pub struct NodeIndex {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    synced: bool,
    states: States,
    arriving: Option<States>,
}

impl NodeIndex {
    /// Whether the first list is complete.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).synced
    }

    /// What is wrong with a node, pressure that began after `since` left out; `None` if nothing is, or nobody knows it.
    #[must_use]
    pub fn trouble(&self, node: &str, since: Timestamp) -> Option<Arc<str>> {
        match self.state(node)? {
            State::Trouble { pressure_since: Some(began), .. } if began > since => None,
            State::Trouble { what, .. } => Some(what),
            State::Well(_) => None,
        }
    }

    /// Since when nothing is wrong with a node, as its conditions tell.
    #[must_use]
    pub fn well_since(&self, node: &str) -> Option<Timestamp> {
        match self.state(node)? {
            State::Trouble { .. } => None,
            State::Well(since) => since,
        }
    }

    fn state(&self, node: &str) -> Option<State> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).states.get(node).cloned()
    }

    /// Takes one watch event; says whether the trouble of any node changed.
    pub fn apply(&self, event: Event<Node>) -> bool {
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        match event {
            Event::Init => {
                inner.arriving = Some(States::new());
                false
            }
            Event::InitApply(node) => {
                set(inner.arriving.get_or_insert_default(), &node);
                false
            }
            Event::InitDone => {
                let arrived = inner.arriving.take().unwrap_or_default();
                inner.synced = true;
                std::mem::replace(&mut inner.states, arrived) != inner.states
            }
            Event::Apply(node) => set(&mut inner.states, &node),
            Event::Delete(node) => inner.states.remove(node.name_any().as_str()).is_some(),
        }
    }
}

/// Says whether anything changed; a node that appears and is well changes nothing for anybody.
fn set(states: &mut States, node: &Node) -> bool {
    let name = node.name_any();
    let state = trouble(node).unwrap_or_else(|| State::Well(well_since(node)));
    let is_well = matches!(state, State::Well(_));
    match states.insert(name.as_str().into(), state.clone()) {
        Some(before) => before != state,
        None => !is_well,
    }
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// When the last of its troubles ended.
fn well_since(node: &Node) -> Option<Timestamp> {
    let telling =
        |condition: &&NodeCondition| condition.type_ == "Ready" || PRESSURES.contains(&condition.type_.as_str());
    let times = conditions(node).iter().filter(telling).filter_map(|condition| condition.last_transition_time.as_ref());
    times.map(|at| at.0).max()
}

fn trouble(node: &Node) -> Option<State> {
    let conditions = conditions(node);
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    if let Some(ready) = ready.filter(|ready| ready.status != "True") {
        let what = format!("not ready ({})", ready.reason.as_deref().unwrap_or("no reason given")).into();
        return Some(State::Trouble { what, pressure_since: None });
    }
    let pressed =
        |condition: &&NodeCondition| condition.status == "True" && PRESSURES.contains(&condition.type_.as_str());
    conditions.iter().find(pressed).map(|condition| State::Trouble {
        what: condition.type_.as_str().into(),
        pressure_since: condition.last_transition_time.as_ref().map(|at| at.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: &str, pressure: &str) -> Node {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": pressure, "lastTransitionTime": "2026-01-01T00:00:09Z"},
                {"type": "Ready", "status": ready, "reason": "KubeletStopped", "lastTransitionTime": "2026-01-01T00:00:05Z"}
            ]}
        }))
        .unwrap()
    }

    #[test]
    fn only_a_change_of_trouble_wakes_anybody() {
        let index = NodeIndex::default();
        assert!(!index.apply(Event::Apply(node("True", "False"))));
        assert!(index.apply(Event::Apply(node("Unknown", "False"))));
        assert_eq!(index.trouble("n1", Timestamp::MAX).as_deref(), Some("not ready (KubeletStopped)"));
        assert!(!index.apply(Event::Apply(node("Unknown", "False"))));
        assert!(index.apply(Event::Apply(node("True", "True"))));
        assert_eq!(index.trouble("n1", Timestamp::MAX).as_deref(), Some("MemoryPressure"));
        assert_eq!(index.trouble("n1", Timestamp::MIN), None, "the release may have caused it");
        assert!(index.apply(Event::Apply(node("True", "False"))));
        assert_eq!(index.trouble("n1", Timestamp::MAX), None);
        assert_eq!(index.well_since("n1").unwrap().to_string(), "2026-01-01T00:00:09Z");
    }

    #[test]
    fn a_node_that_a_new_list_does_not_show_is_forgotten() {
        let index = NodeIndex::default();
        index.apply(Event::Apply(node("False", "False")));
        index.apply(Event::Init);
        assert!(index.apply(Event::InitDone));
        assert_eq!(index.trouble("n1", Timestamp::MAX), None);
    }
}
