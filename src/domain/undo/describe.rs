//! A workload and its revisions, read from raw objects.
//!
//! Role: fills `rollout::Workload`. Inputs: a raw Deployment and raw ReplicaSets. Outputs: the workload, or which piece
//! is missing. Must never import: other rooms.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ownership::owns_template;
use super::template::{controller_of, find_revision, hash_of, is_controlled_by, number_of};
use super::{LAST_ROLLBACK, SKIP, UndoError};
use crate::domain::rollout::{Revision, RevisionHash, Workload};

/// The API server's default of `progressDeadlineSeconds`.
const DEFAULT_PROGRESS_DEADLINE: u32 = 600;

/// Reads a Deployment and those of the ReplicaSets that it controls.
///
/// # Errors
/// When a piece is missing that every stored Deployment or ReplicaSet has.
pub fn describe_deployment(deployment: &Value, replica_sets: &[Value]) -> Result<Workload, UndoError> {
    let uid = text(deployment, "/metadata/uid")?;
    let owned: Vec<&Value> = replica_sets.iter().filter(|set| is_controlled_by(set, uid)).collect();
    let template = deployment.pointer("/spec/template").ok_or_else(|| missing(deployment, "/spec/template"))?;
    let mut revisions = BTreeMap::new();
    for set in &owned {
        // Sets are labelled when they are made; one without a label is somebody's hand-made set, which has no identity.
        let Some(hash) = hash_of(set) else { continue };
        let revision = Revision {
            hash: hash.clone(),
            uid: text(set, "/metadata/uid")?.into(),
            number: number_of(set),
            images: images(set),
            // The ReplicaSet controller names its pods after the set.
            pod_prefix: format!("{}-", text(set, "/metadata/name")?),
        };
        revisions.insert(hash, revision);
    }
    Ok(Workload {
        uid: uid.into(),
        generation: integer(deployment, "/metadata/generation")?
            .ok_or_else(|| missing(deployment, "/metadata/generation"))?,
        observed_generation: integer(deployment, "/status/observedGeneration")?.unwrap_or(0),
        replicas: count(deployment, "/spec/replicas")?.unwrap_or(1),
        paused: flag(deployment, "/spec/paused")?,
        waves: waves(deployment, count(deployment, "/spec/replicas")?.unwrap_or(1)),
        min_ready_seconds: count(deployment, "/spec/minReadySeconds")?.unwrap_or(0),
        progress_deadline_seconds: count(deployment, "/spec/progressDeadlineSeconds")?
            .unwrap_or(DEFAULT_PROGRESS_DEADLINE),
        controlled_by: controller_of(deployment).map(owner_name),
        skip: annotation(deployment, SKIP),
        last_rollback: annotation(deployment, LAST_ROLLBACK),
        owns_template: owns_template(deployment),
        current: current(template, &owned),
        revisions,
        terminating: deployment.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()),
    })
}

/// In how many waves a rolling update replaces the pods; none where all of them go first.
fn waves(deployment: &Value, replicas: u32) -> Option<u32> {
    if deployment.pointer("/spec/strategy/type").and_then(Value::as_str) == Some("Recreate") {
        return None;
    }
    let of = |pointer: &str, up: bool| match deployment.pointer(pointer) {
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        given => {
            // The API server's default is 25 %; surge is rounded up, unavailability down.
            let text = given.and_then(Value::as_str).unwrap_or("25%");
            let percent: u32 = text.strip_suffix('%').and_then(|text| text.parse().ok()).unwrap_or(25);
            let pods = u64::from(replicas) * u64::from(percent);
            u32::try_from(if up { pods.div_ceil(100) } else { pods / 100 }).unwrap_or(0)
        }
    };
    let surge = of("/spec/strategy/rollingUpdate/maxSurge", true);
    let unavailable = of("/spec/strategy/rollingUpdate/maxUnavailable", false);
    Some(replicas.div_ceil((surge + unavailable).max(1)).max(1))
}

fn current(template: &Value, owned: &[&Value]) -> Option<RevisionHash> {
    find_revision(template, owned.iter().copied())
}

/// An annotation's value.
pub(super) fn annotation(object: &Value, key: &str) -> Option<String> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str().map(str::to_owned)
}

/// `Kind/name` for messages.
pub(super) fn object_name(object: &Value) -> String {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or("object");
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
    format!("{kind}/{name}")
}

/// The error for a missing piece.
pub(super) fn missing(object: &Value, pointer: &'static str) -> UndoError {
    UndoError::Missing { object: object_name(object), pointer }
}

fn malformed(object: &Value, pointer: &'static str) -> UndoError {
    UndoError::Malformed { object: object_name(object), pointer }
}

fn present<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

/// A required string.
pub(super) fn text<'a>(object: &'a Value, pointer: &'static str) -> Result<&'a str, UndoError> {
    present(object, pointer)
        .ok_or_else(|| missing(object, pointer))?
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| malformed(object, pointer))
}

fn integer(object: &Value, pointer: &'static str) -> Result<Option<i64>, UndoError> {
    present(object, pointer).map(|value| value.as_i64().ok_or_else(|| malformed(object, pointer))).transpose()
}

fn count(object: &Value, pointer: &'static str) -> Result<Option<u32>, UndoError> {
    integer(object, pointer)?.map(|value| u32::try_from(value).map_err(|_| malformed(object, pointer))).transpose()
}

/// An optional boolean that is false when absent.
pub(super) fn flag(object: &Value, pointer: &'static str) -> Result<bool, UndoError> {
    present(object, pointer).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| malformed(object, pointer)))
}

fn images(set: &Value) -> Vec<String> {
    set.pointer("/spec/template/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|container| container.get("image")?.as_str().map(str::to_owned))
        .collect()
}

fn owner_name(owner: &Value) -> String {
    let part = |key| owner.get(key).and_then(Value::as_str).unwrap_or("unknown");
    format!("{}/{}", part("kind"), part("name"))
}
