//! The undo as pure functions over raw Kubernetes JSON.
//!
//! Role: which template is which revision, what to send, what the answer meant, whether it worked. Inputs: raw objects
//! of a fresh read, pod facts, `now`. Outputs: JSON Patches and verdicts. The only place in `domain` that names raw
//! Kubernetes JSON: typed structs silently drop fields newer than the bindings. Must never import: other rooms.

mod answer;
mod applier;
mod configuration;
mod describe;
mod held;
mod only_in_good;
mod ownership;
mod plan;
mod ports;
mod stuck;
mod template;
mod verify;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use answer::{Answer, Meaning, classify_answer};
pub use describe::{describe, fingerprint};
pub use held::{Held, held};
pub use only_in_good::only_in_good;
pub use ownership::{HandBack, owns_template, plan_hand_back};
pub use plan::{Gone, UndoPatch, UndoPlan, find_revision, plan_undo};
pub use ports::{LostPort, lost_port};
pub use stuck::{Freeing, StuckPod, stuck_pod};
pub use template::{normalise, same_template};
pub use verify::{VerifyOutcome, VerifyState, left_alone, verify, verify_deadline};

use super::policy::Target;
use super::rollout::RevisionHash;

/// The annotation that names the last decision carried out on a workload.
pub const LAST_ROLLBACK: &str = "deploymentguard.dev/last-rollback";

/// The annotation by which people say what a release is for.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// The annotation by which a workload asks to be left alone.
pub const SKIP: &str = "deploymentguard.dev/skip";

/// The annotation by which a pod template says that what its revision does cannot be undone.
pub const IRREVERSIBLE: &str = "deploymentguard.dev/irreversible";

/// The label that the Deployment controller adds to templates, and by which revisions are known.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// One decided undo: everything that is needed to carry it out, or to find out that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoRequest {
    /// The decision; written to the workload, so that it is carried out at most once.
    pub decision_id: String,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload.
    pub target: Target,
    /// The uid of the object that was judged.
    pub uid: Arc<str>,
    /// The revision that was judged bad.
    pub from: RevisionHash,
    /// The revision to put back.
    pub to: RevisionHash,
    /// Where the guard keeps its template, for when the workload's own history has lost it.
    pub kept: Option<KeptTemplate>,
}

/// A template that the guard keeps, and how to know it again: whoever may write `ControllerRevision`s must not be able to
/// have another one rolled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTemplate {
    /// The `ControllerRevision` that holds it.
    pub name: String,
    /// What [`fingerprint`] says of it.
    pub template: u64,
    /// The uid of the guard, which controls it.
    pub owner: String,
}

/// An API object that does not look as the API promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoError {
    /// A required piece is missing.
    Missing {
        /// The object, as `Kind/name`.
        object: String,
        /// The piece, as a JSON pointer.
        pointer: &'static str,
    },
    /// A piece has a type or a range it cannot have.
    Malformed {
        /// The object, as `Kind/name`.
        object: String,
        /// The piece, as a JSON pointer.
        pointer: &'static str,
    },
}

impl fmt::Display for UndoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { object, pointer } => write!(f, "{object} has no {pointer}"),
            Self::Malformed { object, pointer } => write!(f, "{object} has an unusable {pointer}"),
        }
    }
}

impl std::error::Error for UndoError {}
