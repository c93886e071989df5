//! What a refusal meant.
//!
//! Role: tells 4xx answers apart by reading again, because their codes do not. Inputs: the answer, the plan, a fresh
//! read. Outputs: the meaning. Must never import: other rooms.

use serde_json::Value;

use super::describe::{annotation, flag, missing, text};
use super::plan::{Gone, UndoPatch};
use super::template::same_template;
use super::{LAST_ROLLBACK, UndoError, UndoRequest};
use crate::domain::policy::Kind;

/// The cause with which a namespace that is being deleted refuses writes.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// An error answer of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// `reason` of the Status.
    pub reason: String,
    /// `field` of every cause in `details.causes`; empty strings for causes without one.
    pub cause_fields: Vec<String>,
    /// `reason` of every cause in `details.causes`.
    pub cause_reasons: Vec<String>,
}

/// What it meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It was ours after all: the decision is already carried out.
    AlreadyDone,
    /// Somebody pushed in between; their push stands.
    Superseded,
    /// Somebody paused or resumed the workload in between.
    Paused,
    /// Nothing to act on.
    Gone(Gone),
    /// Nothing differs and nobody gave a reason: plan and send again.
    Retry,
    /// A policy or a right refused it.
    AdmissionRejected,
    /// The object would be invalid, or the server cannot do it.
    Failed,
}

/// Tells a refusal apart. `fresh` is the object read after the answer, `None` when it does not exist.
///
/// # Errors
/// When the fresh object lacks a piece that every stored workload has.
pub fn classify_answer(
    answer: &Answer,
    request: &UndoRequest,
    sent: &UndoPatch,
    fresh: Option<&Value>,
) -> Result<Meaning, UndoError> {
    let Some(fresh) = fresh else { return Ok(Meaning::Gone(Gone::Absent)) };
    if text(fresh, "/metadata/uid")? != &*request.uid {
        return Ok(Meaning::Gone(Gone::Recreated));
    }
    let deleted = fresh.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    if deleted || answer.cause_reasons.iter().any(|reason| reason == NAMESPACE_TERMINATING) {
        return Ok(Meaning::Gone(Gone::Terminating));
    }
    if answer.code == 404 {
        return Ok(Meaning::Gone(Gone::Absent));
    }
    let last_rollback = annotation(fresh, LAST_ROLLBACK);
    if last_rollback.as_deref() == Some(request.decision_id.as_str()) {
        return Ok(Meaning::AlreadyDone);
    }
    let template = fresh.pointer("/spec/template").ok_or_else(|| missing(fresh, "/spec/template"))?;
    if !same_template(template, &sent.template) || last_rollback.as_deref() != sent.last_rollback.as_str() {
        return Ok(Meaning::Superseded);
    }
    if request.target.kind == Kind::Deployment && flag(fresh, "/spec/paused")? {
        return Ok(Meaning::Paused);
    }
    Ok(meaning_of_causes(answer))
}

/// Everything we tested for still holds, so it was somebody's rule, or a race that is over.
fn meaning_of_causes(answer: &Answer) -> Meaning {
    if answer.code == 403 {
        Meaning::AdmissionRejected
    } else if answer.cause_fields.is_empty() {
        Meaning::Retry
    } else if answer.cause_fields.iter().any(|field| !field.is_empty()) {
        Meaning::Failed
    } else {
        Meaning::AdmissionRejected
    }
}
