//! `spec.pods`: which states of pods are hard facts.
//!
//! Role: the spec a team writes, and its parsing. Inputs: YAML by way of serde. Outputs: a schema, a `PodPolicy`. Must
//! never import: a kube client, other rooms than `domain`.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{InvalidSpec, invalid, within};
use crate::domain::facts::{self, PodPolicy, Readiness};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// Which states of pods prove a release bad without any metric. Each can be off.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Pods {
    /// Whether any of them counts.
    pub enabled: bool,
    /// Containers, init and sidecar containers too, that end again and again, more often than at the old revision's start.
    pub crash_loop: CrashLoop,
    /// Containers that the kernel kills for using more memory than their limit, more often than on the old revision.
    pub oom_kills: Kills,
    /// Images that cannot be pulled. What does not exist, or may never be pulled, is waited for 10 s at most.
    pub image_pull: Lasting,
    /// Containers that cannot be created or started, missing configuration, failing hooks. A key missing in a ConfigMap or
    /// Secret that exists is waited for 10 s at most.
    pub start_errors: Lasting,
    /// Volumes that cannot be mounted.
    pub volume_mounts: VolumeMounts,
    /// Pods that do not become Ready.
    pub readiness: ReadyBy,
    /// Containers that the kubelet kills because a liveness or startup probe fails.
    pub liveness_kills: Kills,
    /// The Deployment's progress deadline, together with a new pod that is not well.
    pub progress_deadline: Switch,
}

/// Containers that end again and again.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.within) >= duration('1s') && duration(self.within) <= duration('1h')").message("pods.crashLoop.within must lie between 1s and 1h"))]
pub struct CrashLoop {
    /// Whether it counts.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// Ends over at least two new pods.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "defaults::exits")]
    pub exits: i32,
    /// Ends of one new pod.
    #[schemars(range(min = 1, max = 12))]
    #[serde(default = "defaults::pod_exits")]
    pub pod_exits: i32,
    /// Within this time.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::within")]
    pub within: String,
}

/// Kills over all new pods.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Kills {
    /// Whether they count.
    pub enabled: bool,
    /// Kills over all new pods.
    #[schemars(range(min = 1, max = 100))]
    pub count: i32,
}

/// Something that lasts.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.after) >= duration('1s') && duration(self.after) <= duration('1h')").message("after must lie between 1s and 1h"))]
pub struct Lasting {
    /// Whether it counts.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// From when on.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::after")]
    pub after: String,
}

/// Volumes that cannot be mounted.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.after) >= duration('1s') && duration(self.after) <= duration('1h')").message("after must lie between 1s and 1h"))]
pub struct VolumeMounts {
    /// Whether they count.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// From when on, counted from the moment a node took the pod.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::mounted_after")]
    pub after: String,
}

/// Until when pods have to be Ready.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.deadline == 'Auto' || (duration(self.deadline) >= duration('1s') && duration(self.deadline) <= duration('24h'))").message("pods.readiness.deadline must be Auto or lie between 1s and 24h"))]
pub struct ReadyBy {
    /// Whether it counts.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// So long after a node took the pod. Auto: the workload's progressDeadlineSeconds, 10 minutes where it has none.
    #[schemars(length(max = 16), regex(pattern = r"^(Auto|([0-9]{1,6}(ms|s|m|h))+)$"))]
    #[serde(default = "defaults::deadline")]
    pub deadline: String,
}

/// On or off.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Switch {
    /// Whether it counts.
    pub enabled: bool,
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            enabled: true,
            crash_loop: CrashLoop::default(),
            oom_kills: Kills::default(),
            image_pull: Lasting::default(),
            start_errors: Lasting::default(),
            volume_mounts: VolumeMounts::default(),
            readiness: ReadyBy::default(),
            liveness_kills: Kills::default(),
            progress_deadline: Switch::default(),
        }
    }
}

impl Default for CrashLoop {
    fn default() -> Self {
        Self { enabled: true, exits: defaults::exits(), pod_exits: defaults::pod_exits(), within: defaults::within() }
    }
}

impl Default for Kills {
    fn default() -> Self {
        Self { enabled: true, count: 2 }
    }
}

impl Default for Lasting {
    fn default() -> Self {
        Self { enabled: true, after: defaults::after() }
    }
}

impl Default for VolumeMounts {
    fn default() -> Self {
        Self { enabled: true, after: defaults::mounted_after() }
    }
}

impl Default for ReadyBy {
    fn default() -> Self {
        Self { enabled: true, deadline: defaults::deadline() }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Defaults, field by field, because the API server fills them in one by one.
mod defaults {
    pub(super) const fn yes() -> bool {
        true
    }

    pub(super) const fn exits() -> i32 {
        4
    }

    pub(super) const fn pod_exits() -> i32 {
        3
    }

    pub(super) fn within() -> String {
        "5m".into()
    }

    pub(super) fn after() -> String {
        "60s".into()
    }

    pub(super) fn mounted_after() -> String {
        "120s".into()
    }

    pub(super) fn deadline() -> String {
        "Auto".into()
    }
}

/// Parses `spec.pods`.
///
/// # Errors
/// If a field has a value that cannot be used; the error names the field and the cure.
pub fn policy(spec: &Pods) -> Result<PodPolicy, InvalidSpec> {
    let lasting = |field: &str, enabled: bool, after: &str| {
        enabled.then(|| within(&format!("pods.{field}.after"), after, SECOND, HOUR)).transpose()
    };
    let kills = |field: &str, spec: &Kills| {
        spec.enabled.then(|| count(&format!("pods.{field}.count"), spec.count, 100)).transpose()
    };
    let crash_loop = |spec: &CrashLoop| -> Result<facts::CrashLoop, InvalidSpec> {
        Ok(facts::CrashLoop {
            exits: count("pods.crashLoop.exits", spec.exits, 100)?,
            pod_exits: count("pods.crashLoop.podExits", spec.pod_exits, 12)?,
            within: within("pods.crashLoop.within", &spec.within, SECOND, HOUR)?,
        })
    };
    let readiness = |spec: &ReadyBy| match spec.deadline.as_str() {
        "Auto" => Ok(Readiness::ProgressDeadline),
        text => within("pods.readiness.deadline", text, SECOND, 24 * HOUR).map(Readiness::Within),
    };
    Ok(PodPolicy {
        enabled: spec.enabled,
        crash_loop: spec.crash_loop.enabled.then(|| crash_loop(&spec.crash_loop)).transpose()?,
        oom_kills: kills("oomKills", &spec.oom_kills)?,
        image_pull: lasting("imagePull", spec.image_pull.enabled, &spec.image_pull.after)?,
        start_errors: lasting("startErrors", spec.start_errors.enabled, &spec.start_errors.after)?,
        volume_mounts: lasting("volumeMounts", spec.volume_mounts.enabled, &spec.volume_mounts.after)?,
        readiness: spec.readiness.enabled.then(|| readiness(&spec.readiness)).transpose()?,
        liveness_kills: kills("livenessKills", &spec.liveness_kills)?,
        progress_deadline: spec.progress_deadline.enabled,
    })
}

fn count(field: &str, value: i32, most: u32) -> Result<u32, InvalidSpec> {
    u32::try_from(value)
        .ok()
        .filter(|value| (1..=most).contains(value))
        .ok_or_else(|| invalid(field, format!("must lie between 1 and {most}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(spec: serde_json::Value) -> Result<PodPolicy, InvalidSpec> {
        policy(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn what_the_api_server_fills_in_is_what_the_domain_takes_for_granted() {
        assert_eq!(parse(json!({})).unwrap(), PodPolicy::default());
    }

    #[test]
    fn each_fact_can_be_off_and_a_bad_number_is_named() {
        let off = parse(json!({"imagePull": {"enabled": false}, "crashLoop": {"enabled": false}})).unwrap();
        assert_eq!((off.image_pull, off.crash_loop), (None, None));
        let cases = [
            (json!({"crashLoop": {"podExits": 0}}), "spec.pods.crashLoop.podExits must lie between 1 and 12"),
            (json!({"oomKills": {"count": -1}}), "spec.pods.oomKills.count must lie between 1 and 100"),
            (json!({"imagePull": {"after": "2h"}}), "spec.pods.imagePull.after is 2h, but can be 1 h at most"),
            (json!({"readiness": {"deadline": "soon"}}), "spec.pods.readiness.deadline is \"soon\""),
        ];
        for (spec, wanted) in cases {
            let error = parse(spec).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
