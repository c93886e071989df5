//! A workload and its revisions, read from raw objects.
//!
//! Role: fills `rollout::Workload`. Inputs: a raw workload and the raw objects that hold its revisions. Outputs: the
//! workload, or which piece is missing. Must never import: other rooms.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::applier::{applier, template_manager};
use super::configuration::configuration;
use super::ownership::owns_template;
use super::template::{controller_of, hash_of, is_controlled_by, normalise, number_of};
use super::{CHANGE_CAUSE, IRREVERSIBLE, LAST_ROLLBACK, SKIP, UndoError};
use crate::domain::git_ops::Marker;
use crate::domain::policy::Kind;
use crate::domain::rollout::{Revision, RevisionHash, Strategy, Workload};

/// The API server's default of `progressDeadlineSeconds`.
const DEFAULT_PROGRESS_DEADLINE: u32 = 600;

/// So much of a cause of a change is kept, in characters.
const CAUSE_LENGTH: usize = 500;

/// Reads a workload and those of the objects that hold its revisions (`ReplicaSet`s or `ControllerRevision`s) that it
/// controls.
///
/// # Errors
/// When a piece is missing that every stored workload has.
pub fn describe(kind: Kind, workload: &Value, holders: &[Value]) -> Result<Workload, UndoError> {
    let uid = text(workload, "/metadata/uid")?;
    let owned: Vec<&Value> = holders.iter().filter(|holder| is_controlled_by(holder, uid)).collect();
    let template = workload.pointer("/spec/template").ok_or_else(|| missing(workload, "/spec/template"))?;
    let mut revisions = BTreeMap::new();
    for holder in &owned {
        // Sets are labelled when they are made; one without a label is somebody's hand-made set, which has no identity.
        let Some(hash) = identity(kind, holder) else { continue };
        let template = held_template(kind, holder).unwrap_or(&Value::Null);
        let revision = Revision {
            hash: hash.clone(),
            uid: if kind == Kind::Deployment { text(holder, "/metadata/uid")?.into() } else { uid.into() },
            number: number(kind, holder),
            images: images(template),
            // A ReplicaSet's pods are named after the set; the others' after the workload, whatever their revision.
            pod_prefix: if kind == Kind::Deployment {
                format!("{}-", text(holder, "/metadata/name")?)
            } else {
                String::new()
            },
            placement: placement(template),
            substance: substance(template),
            irreversible: annotation(template, IRREVERSIBLE).as_deref() == Some("true"),
            configuration: configuration(template),
        };
        revisions.insert(hash, revision);
    }
    let replicas = match kind {
        Kind::Deployment | Kind::StatefulSet => count(workload, "/spec/replicas")?.unwrap_or(1),
        Kind::DaemonSet => count(workload, "/status/desiredNumberScheduled")?.unwrap_or(0),
    };
    let generation =
        integer(workload, "/metadata/generation")?.ok_or_else(|| missing(workload, "/metadata/generation"))?;
    let observed_generation = integer(workload, "/status/observedGeneration")?.unwrap_or(0);
    Ok(Workload {
        kind,
        uid: uid.into(),
        generation,
        observed_generation,
        replicas,
        paused: flag(workload, "/spec/paused")?,
        strategy: strategy(kind, workload),
        partition: count(workload, "/spec/updateStrategy/rollingUpdate/partition")?.unwrap_or(0),
        first_ordinal: count(workload, "/spec/ordinals/start")?.unwrap_or(0),
        update_revision: workload.pointer("/status/updateRevision").and_then(Value::as_str).map(RevisionHash::new),
        has_volumes: workload
            .pointer("/spec/volumeClaimTemplates")
            .and_then(Value::as_array)
            .is_some_and(|claims| !claims.is_empty()),
        waves: waves(kind, workload, replicas),
        min_ready_seconds: count(workload, "/spec/minReadySeconds")?.unwrap_or(0),
        progress_deadline_seconds: count(workload, "/spec/progressDeadlineSeconds")?
            .unwrap_or(DEFAULT_PROGRESS_DEADLINE),
        // Conditions of the template before speak of the template before.
        replica_failure: condition(workload, "ReplicaFailure", "True")
            .filter(|_| observed_generation >= generation)
            .and_then(|condition| condition.get("message")?.as_str().map(str::to_owned)),
        deadline_passed: condition(workload, "Progressing", "False")
            .filter(|_| observed_generation >= generation)
            .is_some_and(|found| found.get("reason").and_then(Value::as_str) == Some("ProgressDeadlineExceeded")),
        controlled_by: controller_of(workload).map(owner_name),
        canary: controller_of(workload).filter(|owner| is_canary(owner)).map(owner_name),
        applier: applier(workload),
        suspension: Marker::of(workload),
        template_manager: template_manager(workload),
        change_cause: annotation(workload, CHANGE_CAUSE).map(|text| text.chars().take(CAUSE_LENGTH).collect()),
        skip: annotation(workload, SKIP),
        last_rollback: annotation(workload, LAST_ROLLBACK),
        owns_template: owns_template(workload),
        current: current(kind, template, &owned),
        revisions,
        kept: BTreeMap::new(),
        template: fingerprint(template),
        terminating: workload.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()),
    })
}

/// What pods of the revision are labelled with.
pub(super) fn identity(kind: Kind, holder: &Value) -> Option<RevisionHash> {
    match kind {
        Kind::Deployment => hash_of(holder),
        // A StatefulSet's pods carry the whole name, a DaemonSet's the hash alone.
        Kind::StatefulSet => holder.pointer("/metadata/name")?.as_str().map(RevisionHash::new),
        Kind::DaemonSet => {
            holder.pointer("/metadata/labels")?.get("controller-revision-hash")?.as_str().map(RevisionHash::new)
        }
    }
}

/// The template that a `ReplicaSet` or `ControllerRevision` holds.
pub(super) fn held_template(kind: Kind, holder: &Value) -> Option<&Value> {
    holder.pointer(if kind == Kind::Deployment { "/spec/template" } else { "/data/spec/template" })
}

pub(super) fn number(kind: Kind, holder: &Value) -> u64 {
    match kind {
        Kind::Deployment => number_of(holder),
        Kind::StatefulSet | Kind::DaemonSet => holder.get("revision").and_then(Value::as_u64).unwrap_or(0),
    }
}

/// The revision of a template among its holders; the newest number wins where two hold it.
pub(super) fn current(kind: Kind, template: &Value, owned: &[&Value]) -> Option<RevisionHash> {
    let wanted = normalise(template);
    let same = |holder: &&&Value| held_template(kind, holder).is_some_and(|held| normalise(held) == wanted);
    owned.iter().filter(same).max_by_key(|holder| number(kind, holder)).and_then(|holder| identity(kind, holder))
}

fn condition<'a>(workload: &'a Value, type_: &str, status: &str) -> Option<&'a Value> {
    let is = |condition: &&Value, key: &str, value: &str| condition.get(key).and_then(Value::as_str) == Some(value);
    let all = workload.pointer("/status/conditions")?.as_array()?;
    all.iter().find(|condition| is(condition, "type", type_) && is(condition, "status", status))
}

/// What decides whether pods are let in and find a place, as a number that differs when it does.
fn placement(template: &Value) -> u64 {
    const OF_POD: [&str; 9] = [
        "affinity",
        "nodeSelector",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
        "securityContext",
        "priorityClassName",
        "runtimeClassName",
        "hostNetwork",
    ];
    const OF_CONTAINER: [&str; 3] = ["resources", "securityContext", "ports"];
    let mut hasher = std::hash::DefaultHasher::new();
    let Some(spec) = template.get("spec") else { return 0 };
    for key in OF_POD {
        (key, spec.get(key).map(Value::to_string)).hash(&mut hasher);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get(list).and_then(Value::as_array).into_iter().flatten() {
            for key in OF_CONTAINER {
                (key, container.get(key).map(Value::to_string)).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

const fn strategy_field(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "/spec/strategy",
        Kind::StatefulSet | Kind::DaemonSet => "/spec/updateStrategy",
    }
}

fn strategy(kind: Kind, workload: &Value) -> Strategy {
    match workload.pointer(strategy_field(kind)).and_then(|strategy| strategy.get("type")?.as_str()) {
        Some("Recreate") => Strategy::Recreate,
        Some("OnDelete") => Strategy::OnDelete,
        _ => Strategy::Rolling,
    }
}

/// A template as a number: equal templates have equal ones. It is written to status, so it is the same in every version,
/// and nobody finds another template with the same one.
#[must_use]
pub fn fingerprint(template: &Value) -> u64 {
    hash(&normalise(template))
}

fn hash(value: &Value) -> u64 {
    // Maps are sorted, so equal values are equal texts.
    let digest = Sha256::digest(value.to_string());
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Everything that runs, as a number that differs when it does: the template without its annotations.
pub(super) fn substance(template: &Value) -> u64 {
    let mut template = normalise(template);
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
        metadata.remove("creationTimestamp");
    }
    hash(&template)
}

/// In how many waves a rolling update replaces the pods; none where all of them go first, or nobody knows when.
fn waves(kind: Kind, workload: &Value, replicas: u32) -> Option<u32> {
    if strategy(kind, workload) != Strategy::Rolling {
        return None;
    }
    let default = if kind == Kind::Deployment { "25%" } else { "1" };
    let of = |field: &str| workload.pointer(&format!("{}/{field}", strategy_field(kind)));
    let share = |given: Option<&Value>, default: &str, up: bool| match given {
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        given => {
            let text = given.and_then(Value::as_str).unwrap_or(default);
            let Some(percent) = text.strip_suffix('%').and_then(|text| text.parse::<u32>().ok()) else {
                return text.parse().unwrap_or(0);
            };
            let pods = u64::from(replicas) * u64::from(percent);
            u32::try_from(if up { pods.div_ceil(100) } else { pods / 100 }).unwrap_or(0)
        }
    };
    // Surge is rounded up, unavailability down.
    let unavailable = share(of("rollingUpdate/maxUnavailable"), default, false);
    let surge_default = if kind == Kind::Deployment { default } else { "0" };
    let surge = share(of("rollingUpdate/maxSurge"), surge_default, true);
    Some(replicas.div_ceil((surge + unavailable).max(1)).max(1))
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

fn images(template: &Value) -> Vec<String> {
    template
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|container| container.get("image")?.as_str().map(str::to_owned))
        .collect()
}

/// Flagger makes a primary of each workload that it releases, and owns it.
fn is_canary(owner: &Value) -> bool {
    let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
    text("kind") == "Canary" && text("apiVersion").starts_with("flagger.app/")
}

fn owner_name(owner: &Value) -> String {
    let part = |key| owner.get(key).and_then(Value::as_str).unwrap_or("unknown");
    format!("{}/{}", part("kind"), part("name"))
}
