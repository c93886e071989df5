//! What to send, or why not.
//!
//! Role: turns a decided undo into one conditional JSON Patch. Inputs: the request and fresh raw objects. Outputs: the
//! patch, or the reason why nothing is to be sent. Must never import: other rooms.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::describe::{annotation, current, fingerprint, flag, held_template, identity, missing, text};
use super::only_in_good::only_in_good;
use super::ports::lost_names;
use super::template::{is_controlled_by, normalise};
use super::{LAST_ROLLBACK, UndoError, UndoRequest};
use crate::domain::policy::Kind;
use crate::domain::rollout::RevisionHash;

/// Why there is nothing left to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Deleted.
    Absent,
    /// Deleted and made again under the same name: another object.
    Recreated,
    /// Being deleted, or its namespace is.
    Terminating,
}

/// The patch, and what is remembered about the object it was made for.
#[derive(Debug, Clone, PartialEq)]
pub struct UndoPatch {
    /// The JSON Patch, an array of operations.
    pub operations: Value,
    /// Fields that only the good template has and that client-side apply will not remove with the next release.
    pub only_in_good: Vec<String>,
    /// Names of ports that the good template lacks and the present one has.
    pub lost_ports: BTreeSet<String>,
    /// The good template.
    pub good: Value,
    /// The template that was read, as it was read.
    pub template: Value,
    /// The last rollback as it was read.
    pub(super) last_rollback: Value,
}

/// What an undo comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum UndoPlan {
    /// Send this.
    Patch(Box<UndoPatch>),
    /// This decision was already carried out.
    AlreadyDone,
    /// The template is not the judged one any more.
    Superseded,
    /// The workload is paused; we never resume it.
    Paused,
    /// The workload already carries the good template.
    AlreadyCurrent,
    /// Nothing to act on.
    TargetGone(Gone),
    /// The good revision does not exist any more.
    NothingToGoBackTo,
    /// The good revision exists, and what it holds is no pod template.
    Unreadable,
}

/// Plans an undo against objects read this moment: the workload, what holds its revisions, and the template that the
/// guard keeps of the revision to go back to, for when the workload's own history has lost it.
///
/// # Errors
/// When the workload lacks a piece that every stored workload has.
pub fn plan_undo(
    request: &UndoRequest,
    workload: &Value,
    holders: &[Value],
    kept: Option<&Value>,
) -> Result<UndoPlan, UndoError> {
    let kind = request.target.kind;
    if text(workload, "/metadata/uid")? != &*request.uid {
        return Ok(UndoPlan::TargetGone(Gone::Recreated));
    }
    if workload.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        return Ok(UndoPlan::TargetGone(Gone::Terminating));
    }
    if annotation(workload, LAST_ROLLBACK).as_deref() == Some(request.decision_id.as_str()) {
        return Ok(UndoPlan::AlreadyDone);
    }
    let template = workload.pointer("/spec/template").ok_or_else(|| missing(workload, "/spec/template"))?;
    let owned: Vec<&Value> = holders.iter().filter(|holder| is_controlled_by(holder, &request.uid)).collect();
    let current = current(kind, template, &owned);
    if current.as_ref() == Some(&request.to) {
        return Ok(UndoPlan::AlreadyCurrent);
    }
    if current.as_ref() != Some(&request.from) {
        return Ok(UndoPlan::Superseded);
    }
    if kind == Kind::Deployment && flag(workload, "/spec/paused")? {
        return Ok(UndoPlan::Paused);
    }
    let holder = owned.iter().find(|holder| identity(kind, holder).as_ref() == Some(&request.to));
    let held = holder.and_then(|holder| held_template(kind, holder)).filter(|held| is_template(held));
    let copy = kept.and_then(|kept| genuine(request, kept));
    let Some(good) = held.or_else(|| copy.filter(|copy| is_template(copy))) else {
        let exists = holder.is_some() || copy.is_some();
        return Ok(if exists { UndoPlan::Unreadable } else { UndoPlan::NothingToGoBackTo });
    };
    Ok(UndoPlan::Patch(Box::new(patch(request, workload, template, &normalise(good)))))
}

/// The template of a kept object, if the guard controls it and it is the one that was put there; else it is as if there
/// were none.
fn genuine<'a>(request: &UndoRequest, kept: &'a Value) -> Option<&'a Value> {
    let wanted = request.kept.as_ref()?;
    let template = kept.pointer("/data/spec/template")?;
    (is_controlled_by(kept, &wanted.owner) && fingerprint(template) == wanted.template).then_some(template)
}

/// The revision of a template among the objects that hold the workload's revisions.
#[must_use]
pub fn find_revision(request: &UndoRequest, template: &Value, holders: &[Value]) -> Option<RevisionHash> {
    let owned: Vec<&Value> = holders.iter().filter(|holder| is_controlled_by(holder, &request.uid)).collect();
    current(request.target.kind, template, &owned)
}

/// Whether something has containers to run. What a `ControllerRevision` holds the API server does not check.
fn is_template(template: &Value) -> bool {
    template.pointer("/spec/containers").and_then(Value::as_array).is_some_and(|containers| !containers.is_empty())
}

fn patch(request: &UndoRequest, workload: &Value, template: &Value, good: &Value) -> UndoPatch {
    let read = |pointer: &str| workload.pointer(pointer).cloned().unwrap_or(Value::Null);
    let annotations = read("/metadata/annotations");
    let last_rollback = annotations.get(LAST_ROLLBACK).cloned().unwrap_or(Value::Null);
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": &*request.uid})];
    if request.target.kind == Kind::Deployment {
        operations.push(json!({"op": "test", "path": "/spec/paused", "value": read("/spec/paused")}));
    }
    operations.push(json!({"op": "test", "path": "/spec/template", "value": template}));
    if annotations.is_null() {
        // Without this test a map that somebody writes meanwhile would be erased.
        operations.push(json!({"op": "test", "path": "/metadata/annotations", "value": null}));
        operations.push(json!({"op": "replace", "path": "/spec/template", "value": good}));
        operations.push(json!({
            "op": "add", "path": "/metadata/annotations", "value": {LAST_ROLLBACK: request.decision_id},
        }));
    } else {
        let path = format!("/metadata/annotations/{}", LAST_ROLLBACK.replace('~', "~0").replace('/', "~1"));
        operations.push(json!({"op": "test", "path": path, "value": last_rollback}));
        operations.push(json!({"op": "replace", "path": "/spec/template", "value": good}));
        operations.push(json!({"op": "add", "path": path, "value": request.decision_id}));
    }
    UndoPatch {
        operations: Value::Array(operations),
        only_in_good: only_in_good(template, good, workload),
        lost_ports: lost_names(template, good),
        good: good.clone(),
        template: template.clone(),
        last_rollback,
    }
}
