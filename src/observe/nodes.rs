//! Every node of the cluster in a few words, from one watch.
//!
//! Role: says which nodes are in trouble of their own. Inputs: watch events. Outputs: the trouble of a node. Must never
//! import: other rooms than `domain`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// Conditions that are bad while True.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

type Troubles = HashMap<Arc<str>, Arc<str>>;

/// The nodes in trouble, by name.
#[derive(Debug, Default)]
pub struct NodeIndex {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    troubles: Troubles,
    arriving: Option<Troubles>,
}

impl NodeIndex {
    /// What is wrong with a node; `None` if nothing is, or nobody knows the node.
    #[must_use]
    pub fn trouble(&self, node: &str) -> Option<Arc<str>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).troubles.get(node).cloned()
    }

    /// Takes one watch event; says whether the trouble of any node changed.
    pub fn apply(&self, event: Event<Node>) -> bool {
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        match event {
            Event::Init => {
                inner.arriving = Some(Troubles::new());
                false
            }
            Event::InitApply(node) => {
                set(inner.arriving.get_or_insert_default(), &node);
                false
            }
            Event::InitDone => {
                let arrived = inner.arriving.take().unwrap_or_default();
                std::mem::replace(&mut inner.troubles, arrived) != inner.troubles
            }
            Event::Apply(node) => set(&mut inner.troubles, &node),
            Event::Delete(node) => inner.troubles.remove(node.name_any().as_str()).is_some(),
        }
    }
}

fn set(troubles: &mut Troubles, node: &Node) -> bool {
    let name = node.name_any();
    match trouble(node) {
        Some(found) => {
            let found: Arc<str> = found.into();
            troubles.insert(name.as_str().into(), found.clone()) != Some(found)
        }
        None => troubles.remove(name.as_str()).is_some(),
    }
}

fn trouble(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    if let Some(ready) = ready.filter(|ready| ready.status != "True") {
        return Some(format!("not ready ({})", ready.reason.as_deref().unwrap_or("no reason given")));
    }
    let pressed = |condition: &&k8s_openapi::api::core::v1::NodeCondition| {
        condition.status == "True" && PRESSURES.contains(&condition.type_.as_str())
    };
    conditions.iter().find(pressed).map(|condition| condition.type_.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: &str, pressure: &str) -> Node {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": pressure}, {"type": "Ready", "status": ready, "reason": "KubeletStopped"}
            ]}
        }))
        .unwrap()
    }

    #[test]
    fn only_a_change_of_trouble_wakes_anybody() {
        let index = NodeIndex::default();
        assert!(!index.apply(Event::Apply(node("True", "False"))));
        assert!(index.apply(Event::Apply(node("Unknown", "False"))));
        assert_eq!(index.trouble("n1").as_deref(), Some("not ready (KubeletStopped)"));
        assert!(!index.apply(Event::Apply(node("Unknown", "False"))));
        assert!(index.apply(Event::Apply(node("True", "True"))));
        assert_eq!(index.trouble("n1").as_deref(), Some("MemoryPressure"));
        assert!(index.apply(Event::Apply(node("True", "False"))));
        assert_eq!(index.trouble("n1"), None);
    }

    #[test]
    fn a_node_that_a_new_list_does_not_show_is_forgotten() {
        let index = NodeIndex::default();
        index.apply(Event::Apply(node("False", "False")));
        index.apply(Event::Init);
        assert!(index.apply(Event::InitDone));
        assert_eq!(index.trouble("n1"), None);
    }
}
