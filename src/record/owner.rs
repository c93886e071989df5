//! The guard that owns what is kept for it.
//!
//! Role: owner references and labels of objects that go with their guard. Inputs: the guard. Outputs: metadata. Must never
//! import: other rooms than `domain` and `api`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The longest value of a label.
const MAX_LABEL: usize = 63;

/// The kind of the owner.
const KIND: &str = "DeploymentGuard";

/// Names the guard, where its name fits into a label.
pub const GUARD_LABEL: &str = "deploymentguard.dev/guard";

/// The guard that something belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the guard and of what it owns.
    pub namespace: String,
    /// Name of the guard.
    pub guard: String,
    /// `apiVersion` of the guard.
    pub api_version: String,
    /// Uid of the guard.
    pub uid: String,
}

impl Owner {
    /// Has the object deleted with the guard, and never before: the guard's deletion waits for nothing.
    #[must_use]
    pub fn reference(&self, controller: bool) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version.clone(),
            kind: KIND.to_owned(),
            name: self.guard.clone(),
            uid: self.uid.clone(),
            controller: Some(controller),
            block_owner_deletion: Some(false),
        }
    }

    /// A label of ours, and the guard's name where it fits.
    #[must_use]
    pub fn labels(&self, key: &str, value: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        if self.guard.len() <= MAX_LABEL {
            labels.insert(GUARD_LABEL.to_owned(), self.guard.clone());
        }
        labels
    }

    /// Whether an object is this guard's.
    #[must_use]
    pub fn owns(&self, found: &ObjectMeta) -> bool {
        found.owner_references.iter().flatten().any(|other| other.uid == self.uid)
    }

    /// Whether it was left by an earlier guard of this name, and is about to be collected.
    #[must_use]
    pub fn owned_before(&self, found: &ObjectMeta) -> bool {
        found.owner_references.iter().flatten().any(|other| other.kind == KIND && other.name == self.guard)
    }
}
