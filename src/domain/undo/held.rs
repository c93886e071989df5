//! The template of a revision, to be kept.
//!
//! Role: takes a template out of the workload's own history, as it stands there. Inputs: raw objects of a fresh read.
//! Outputs: the template and what stands for it. Must never import: other rooms.

use serde_json::Value;

use super::describe::{fingerprint, held_template, identity, number, substance, text};
use super::template::{is_controlled_by, normalise};
use crate::domain::policy::Kind;
use crate::domain::rollout::RevisionHash;

/// A template as the workload's history holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The template, without what servers add.
    pub template: Value,
    /// Stands for it.
    pub fingerprint: u64,
    /// Stands for everything in it that runs.
    pub substance: u64,
    /// The number of its revision, for people.
    pub number: u64,
}

/// The template of a revision of the workload with this uid, if its history still holds it.
#[must_use]
pub fn held(kind: Kind, uid: &str, workload: &Value, holders: &[Value], revision: &RevisionHash) -> Option<Held> {
    if text(workload, "/metadata/uid").ok()? != uid {
        return None;
    }
    let owned = holders.iter().filter(|holder| is_controlled_by(holder, uid));
    let holder = owned.into_iter().find(|holder| identity(kind, holder).as_ref() == Some(revision))?;
    let template = normalise(held_template(kind, holder)?);
    Some(Held {
        fingerprint: fingerprint(&template),
        substance: substance(&template),
        number: number(kind, holder),
        template,
    })
}
