//! `DeploymentGuard`: guards one workload.
//!
//! Role: the spec a team writes; every doc sentence here becomes `kubectl explain`. Inputs and outputs: plain data with
//! its schema. Must never import: a kube client, other rooms.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Decision;
use super::logs::Logs;
use super::pods::Pods;
use super::probes::ProbeSpec;
use super::status::DeploymentGuardStatus;

/// Guards one workload: watches its rollouts, compares the new revision with the old one, and undoes the bad ones.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[cfg_attr(test, kube(cel))]
#[kube(
    group = "deploymentguard.dev",
    version = "v1alpha1",
    kind = "DeploymentGuard",
    plural = "deploymentguards",
    shortname = "dg",
    category = "deploymentguard",
    namespaced,
    status = "DeploymentGuardStatus",
    derive = "PartialEq",
    doc = "Guards one workload: watches its rollouts, compares the new revision with the old one, and undoes the bad ones.",
    selectable = ".spec.targetRef.name",
    selectable = ".spec.mode",
    validation = Rule::new("self.metadata.name.size() <= 200").message("metadata.name must have at most 200 characters, because objects that belong to the guard are named after it"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name", description = "The guarded workload"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "What the guard may do"),
    printcolumn(name = "Healthy", type_ = "string", json_path = r#".status.conditions[?(@.type=="Healthy")].status"#, description = "Verdict on the current revision"),
    printcolumn(name = "State", type_ = "string", json_path = r#".status.conditions[?(@.type=="Healthy")].reason"#, description = "Why"),
    printcolumn(name = "Score", type_ = "integer", json_path = ".status.healthScore", description = "Health score, 0 to 100"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".status.lastDecision.decision", description = "The last decision"),
    printcolumn(name = "Confidence", type_ = "integer", json_path = ".status.lastDecision.confidence", description = "Confidence of the last decision in percent"),
    printcolumn(name = "Decider", type_ = "string", json_path = ".status.lastDecision.decider", priority = 1, description = "Who decided"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.current.revision", priority = 1, description = "The current revision"),
    printcolumn(name = "Rollbacks", type_ = "integer", json_path = ".status.rollbacksToday", priority = 1, description = "Undos in the last 24 hours"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextEvaluation", priority = 1, description = "When the guard looks again"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Healthy")].message"#, priority = 1, description = "The verdict as a sentence"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentGuardSpec {
    /// The workload to guard, in the same namespace. It cannot be changed: create another guard instead.
    #[x_kube(validation = Rule::new("self == oldSelf").message("targetRef is immutable: create another guard for another workload"))]
    pub target_ref: TargetRef,

    /// The GuardClass that says where metrics come from and what this guard may do at most. Empty: the default class,
    /// the one annotated `deploymentguard.dev/is-default-class: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,

    /// What the guard may do. Observe judges and records and touches nothing; Recommend also says what to do, in an
    /// event; Approve asks a person and undoes what they approve; Enforce undoes bad rollouts. The class's `maxMode` is
    /// the most it can be.
    #[serde(default)]
    pub mode: Mode,

    /// Stop judging. What is being verified is still verified, and nothing is undone.
    #[serde(default)]
    pub suspend: bool,

    /// How a rollout is judged.
    #[serde(default)]
    pub analysis: Analysis,

    /// What is measured, at most 8 signals. Empty: the class's default presets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub signals: Vec<SignalSpec>,

    /// Which states of pods prove a release bad without any metric.
    #[serde(default)]
    pub pods: Pods,

    /// How the logs of both revisions are read and compared. What is found explains; it never causes a rollback.
    #[serde(default)]
    pub logs: Logs,

    /// Questions put to the pods of both revisions, at most 8. What is found explains; it never causes a rollback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub probes: Vec<ProbeSpec>,

    /// How a bad rollout is undone, and how often.
    #[serde(default)]
    pub rollback: Rollback,

    /// Which language models of the class are asked for a second opinion, and how much they may decide.
    #[serde(default)]
    pub decision: Decision,
}

/// Names the workload to guard.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.kind in ['Deployment', 'StatefulSet', 'DaemonSet'] && self.apiVersion == 'apps/v1'").message("targetRef must name an apps/v1 Deployment, StatefulSet or DaemonSet"))]
pub struct TargetRef {
    /// API version of the workload.
    #[serde(default = "apps_v1")]
    #[schemars(length(max = 63))]
    pub api_version: String,
    /// Kind of the workload: Deployment, StatefulSet or DaemonSet.
    #[serde(default = "deployment")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn apps_v1() -> String {
    "apps/v1".into()
}

fn deployment() -> String {
    "Deployment".into()
}

/// What a guard may do.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Judge and record, touch nothing.
    #[default]
    Observe,
    /// Say what to do as well.
    Recommend,
    /// Ask a person, and undo what they approve.
    Approve,
    /// Undo bad rollouts.
    Enforce,
}

/// How a rollout is judged.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.interval == 'Auto' || duration(self.interval) >= duration('1s')").message("analysis.interval must be Auto or at least 1s"))]
#[x_kube(validation = Rule::new("duration(self.window) >= duration('2s') && (self.interval == 'Auto' || duration(self.window) >= duration(self.interval) + duration(self.interval))").message("analysis.window must be at least twice analysis.interval, and at least 2s"))]
#[x_kube(validation = Rule::new("duration(self.window) > duration(self.warmup)").message("analysis.window must be longer than analysis.warmup, or nothing is ever counted"))]
#[x_kube(validation = Rule::new("duration(self.window) <= duration('24h') && duration(self.warmup) <= duration('1h')").message("analysis.window can be 24h at most, analysis.warmup 1h"))]
#[x_kube(validation = Rule::new("self.interval == 'Auto' || duration(self.interval) <= duration('1h')").message("analysis.interval can be 1h at most"))]
#[x_kube(validation = Rule::new("double(self.falseRollbackRate.replace('%', '')) > 0.0 && double(self.falseRollbackRate.replace('%', '')) <= 20.0").message("analysis.falseRollbackRate must be more than 0% and at most 20%"))]
pub struct Analysis {
    /// Time between two evaluations: Auto (the scrape interval seen in the samples, 1 to 15 s) or a duration of at
    /// least 1s such as 5s.
    #[schemars(length(max = 16), regex(pattern = r"^(Auto|([0-9]{1,6}(ms|s|m|h))+)$"))]
    #[serde(default = "defaults::interval")]
    pub interval: String,
    /// A new pod's requests count from this long after it became Ready, so that a cold start is not taken for a fault.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::warmup")]
    pub warmup: String,
    /// How long a rollout is watched, counted from its first Ready pod. At its end the guard decides.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::window")]
    pub window: String,
    /// Requests the new revision must have answered before it gets a score.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default = "defaults::min_requests")]
    pub min_requests: i32,
    /// What the end of the window means when nothing could be proven. Continue: CONTINUE with Healthy Unknown. Hold:
    /// INCONCLUSIVE, and the guard keeps watching. No rollout is ever paused.
    #[serde(default = "defaults::on_inconclusive")]
    pub on_inconclusive: OnInconclusive,
    /// Who judges. Evidence: counts of the new revision against the old one, step by step, with a bound on false
    /// rollbacks. Seed: 100 - 2 x error % - 0.5 x (memory % above 70) - 0.01 x (p95 milliseconds above 500), bad below
    /// 50 twice running.
    #[serde(default = "defaults::scorer")]
    pub scorer: Scorer,
    /// With what the new revision is compared. Concurrent: old pods that serve at the same time, with the guarantee.
    /// History: the old revision before the rollout. Auto: both, weighted by how long old pods are expected to serve.
    /// None: nothing, so that only limits count.
    #[serde(default = "defaults::baseline")]
    pub baseline: Baseline,
    /// How likely a harmless rollout may ever be rolled back by evidence, in percent such as 1% or 0.5%; per rollout,
    /// however often it is looked at. More than 0, at most 20%.
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,2}(\.[0-9]{1,4})?%$"))]
    #[serde(default = "defaults::false_rollback_rate")]
    pub false_rollback_rate: String,
    /// Whether evidence against history alone may undo; otherwise it is only recommended.
    #[serde(default = "defaults::yes")]
    pub history_may_enforce: bool,
    /// Other Deployments of the namespace whose trouble at the same time means a shared incident, not a bad release.
    /// Callers of this workload do not belong here, because they suffer with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub controls: Vec<Control>,
}

/// A workload whose trouble at the same time means a shared incident.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// Name of a Deployment in the guard's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// With what the new revision is compared.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// Both, weighted by how long old pods are expected to serve.
    Auto,
    /// Old pods that serve at the same time.
    Concurrent,
    /// The old revision before the rollout.
    History,
    /// Nothing.
    None,
}

/// What it means that a signal has no data.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoData {
    /// Nothing is concluded, and health is not certified.
    Inconclusive,
    /// Health may be certified without it.
    Pass,
    /// At the end of the window it is reported as unhealthy; it never causes a rollback.
    Fail,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            interval: defaults::interval(),
            warmup: defaults::warmup(),
            window: defaults::window(),
            min_requests: defaults::min_requests(),
            on_inconclusive: defaults::on_inconclusive(),
            scorer: defaults::scorer(),
            baseline: defaults::baseline(),
            false_rollback_rate: defaults::false_rollback_rate(),
            history_may_enforce: defaults::yes(),
            controls: Vec::new(),
        }
    }
}

/// What the end of the window means when nothing could be proven.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInconclusive {
    /// CONTINUE, Healthy Unknown.
    Continue,
    /// INCONCLUSIVE, keep watching.
    Hold,
}

/// Who judges.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// Evidence with a bound on false rollbacks.
    Evidence,
    /// The health formula.
    Seed,
}

/// One thing that is measured: exactly one of preset, ratio, histogram and gauge.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.preset) || !(self.preset in ['nginx-ingress', 'traefik']) || has(self.service)").message("preset nginx-ingress and traefik need service: the Service whose requests they count"))]
#[x_kube(validation = Rule::new("!has(self.service) || (has(self.preset) && self.preset in ['nginx-ingress', 'traefik'])").message("service is for preset nginx-ingress and traefik only"))]
#[x_kube(validation = Rule::new("(has(self.preset) ? 1 : 0) + (has(self.ratio) ? 1 : 0) + (has(self.histogram) ? 1 : 0) + (has(self.gauge) ? 1 : 0) == 1").message("each signal needs exactly one of preset, ratio, histogram and gauge"))]
pub struct SignalSpec {
    /// Name of the signal. `errors`, `latency` and `memory` are the terms of the Seed score, which shows other names only.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A ready-made set of signals, named `<name>/errors`, `<name>/latency`, `<name>/memory`, `<name>/throttling`. Auto:
    /// errors and latency from the first preset whose series the workload's pods have. micrometer, otel, aspnet, python,
    /// go, node, http-generic, grpc, istio, linkerd, envoy: errors and latency from these libraries and proxies.
    /// container-memory: working set of the containers against their limits. container-cpu-throttling: periods in which
    /// containers were throttled, shown only unless it is given a weight. nginx-ingress, traefik: errors and latency of a
    /// `service`, counted by the ingress controller for old and new pods together, so that they are compared with the time
    /// before the rollout only, and never certify health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// The Service in this namespace whose requests the preset counts; for an `IngressRoute` of Traefik with a single
    /// service, the name of the `IngressRoute`. Needed by nginx-ingress and traefik.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: Option<String>,
    /// Share of bad events among all, from two counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// Response times, from a histogram in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
    /// A value that goes up and down; named `memory` it is bytes, compared with the pod's memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauge: Option<Gauge>,
    /// Relative weight of its evidence, of each signal of a preset; 2 by default, 1 for gauges, 0 for throttling. 0: shown
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i32>,
    /// Whether health is certified only with this signal; true by default, false for gauges, throttling
    /// and what a proxy counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
    /// A limit of your own for the share of bad events, in percent such as 50%: more than that over 2 minutes and at
    /// least 20 requests is bad, whatever the old revision does. For ratios and the errors of a preset that counts
    /// requests of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,3}(\.[0-9]{1,4})?%$"))]
    pub max: Option<String>,
    /// What it means that there is no data: Inconclusive, Pass or Fail. None of them causes a rollback.
    #[serde(default = "defaults::on_no_data")]
    pub on_no_data: OnNoData,
    /// Judge and show it, without any influence.
    #[serde(default)]
    pub dry_run: bool,
}

/// Ready-made sets of signals.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// What exists for the workload's pods: the first preset that counts requests, container-memory and
    /// container-cpu-throttling.
    #[serde(rename = "Auto")]
    Auto,
    /// Spring Boot.
    Micrometer,
    /// `OpenTelemetry`, HTTP and RPC.
    Otel,
    /// prometheus-net.
    #[serde(rename = "aspnet")]
    AspNet,
    /// Starlette, Flask, Django, `FastAPI`.
    Python,
    /// promhttp.
    Go,
    /// express-prom-bundle.
    Node,
    /// Errors and latency of an HTTP server.
    HttpGeneric,
    /// grpc-ecosystem.
    Grpc,
    /// Istio.
    Istio,
    /// Linkerd.
    Linkerd,
    /// Envoy.
    Envoy,
    /// ingress-nginx, per Service.
    NginxIngress,
    /// Traefik, per Service.
    Traefik,
    /// Working set against limit.
    ContainerMemory,
    /// Throttled periods.
    ContainerCpuThrottling,
}

/// Two counters: bad events and all events.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// Counter of bad events, as a selector such as `http_requests_total{code=~"5.."}`. The operator adds namespace
    /// and pod itself.
    #[schemars(length(min = 1, max = 1024))]
    pub bad: String,
    /// Counter of all events, as a selector such as `http_requests_total`.
    #[schemars(length(min = 1, max = 1024))]
    pub total: String,
}

/// A histogram of response times.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// The bucket series in seconds, as a selector such as `http_request_duration_seconds_bucket`.
    #[schemars(length(min = 1, max = 1024))]
    pub buckets: String,
}

/// A value that goes up and down.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Gauge {
    /// The gauge, as a selector such as `process_resident_memory_bytes`.
    #[schemars(length(min = 1, max = 1024))]
    pub selector: String,
}

/// How a bad rollout is undone, and how often.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.verifyTimeout) >= duration('30s')").message("rollback.verifyTimeout must be at least 30s, because restored pods have to stay ready that long"))]
#[x_kube(validation = Rule::new("duration(self.verifyTimeout) <= duration('24h') && duration(self.cooldown) <= duration('24h')").message("rollback.verifyTimeout and rollback.cooldown can be 24h at most"))]
#[x_kube(validation = Rule::new("duration(self.badRevisionMemory) <= duration('720h')").message("rollback.badRevisionMemory can be 720h at most"))]
pub struct Rollback {
    /// Which revision to go back to. LastKnownGood: the newest one that proved good, and where none did, the one that
    /// served before this rollout began. Previous: the one that served before, whatever is known of it.
    #[serde(default = "defaults::target")]
    pub target: RollbackTarget,
    /// Undos of this workload in 24 hours; at the limit the guard only reports.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "defaults::max_per_day")]
    pub max_per_day: i32,
    /// Time after an undo in which no other one is made.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::cooldown")]
    pub cooldown: String,
    /// How long the restored revision may take to become ready; at least its progress deadline is waited for.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::verify_timeout")]
    pub verify_timeout: String,
    /// How long a revision that was undone stays known as bad: pushed again unchanged, it is not judged again before,
    /// unless the guard is annotated `deploymentguard.dev/retry`. 0s forgets at once.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::bad_revision_memory")]
    pub bad_revision_memory: String,
    /// What to do about a bad release of a workload that Flux or Argo CD applies, and would apply again after an undo.
    /// Recommend: say what to change in Git, and touch nothing. Suspend: keep them from applying it for `suspendFor` or
    /// until Git has another revision, and undo. Rollback: undo; you vouch that they leave the pod template alone.
    #[serde(default = "defaults::git_ops")]
    pub git_ops: GitOps,
    /// How long `gitOps: Suspend` suspends at most.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::suspend_for")]
    pub suspend_for: String,
    /// StatefulSets.
    #[serde(default)]
    pub stateful_set: StatefulSetRollback,
    /// What to do about pods of the bad revision where the update strategy is OnDelete, so that nobody replaces them.
    /// Alert: name them. Delete: delete them one by one, each once the one before is Ready.
    #[serde(default = "defaults::on_delete")]
    pub on_delete: StuckPods,
    /// Approvals: of `mode: Approve`, of revisions whose pod template is annotated
    /// `deploymentguard.dev/irreversible: "true"`, and of StatefulSets with volumes.
    #[serde(default)]
    pub approval: Approval,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            target: defaults::target(),
            max_per_day: defaults::max_per_day(),
            cooldown: defaults::cooldown(),
            verify_timeout: defaults::verify_timeout(),
            bad_revision_memory: defaults::bad_revision_memory(),
            git_ops: defaults::git_ops(),
            suspend_for: defaults::suspend_for(),
            stateful_set: StatefulSetRollback::default(),
            on_delete: defaults::on_delete(),
            approval: Approval::default(),
        }
    }
}

/// How StatefulSets are undone.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetRollback {
    /// A StatefulSet waits for a broken pod for ever, also after its template was put back. Delete: such pods of the bad
    /// revision are deleted one by one, lowest ordinal first. Alert: they are named.
    #[serde(default = "defaults::stuck_pods")]
    pub stuck_pods: StuckPods,
    /// StatefulSets with volumeClaimTemplates, whose data an undo does not undo. Approve: ask a person, whatever the mode.
    /// Enforce: as the guard's mode says.
    #[serde(default = "defaults::with_volumes")]
    pub with_volumes: WithVolumes,
}

impl Default for StatefulSetRollback {
    fn default() -> Self {
        Self { stuck_pods: defaults::stuck_pods(), with_volumes: defaults::with_volumes() }
    }
}

/// What to do about pods that their controller does not replace.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckPods {
    /// Delete them one by one.
    Delete,
    /// Name them in an event.
    Alert,
}

/// StatefulSets with volumes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithVolumes {
    /// Ask a person, whatever the mode.
    Approve,
    /// As the mode says.
    Enforce,
}

/// What to do about a workload that Flux or Argo CD applies.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitOps {
    /// Say what to change in Git.
    Recommend,
    /// Suspend them, then undo.
    Suspend,
    /// Undo.
    Rollback,
}

/// How approvals are waited for.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('10s') && duration(self.timeout) <= duration('24h')").message("rollback.approval.timeout must lie between 10s and 24h"))]
pub struct Approval {
    /// How long an approval is waited for; after it the decision has expired and nothing is undone.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::approval_timeout")]
    pub timeout: String,
}

impl Default for Approval {
    fn default() -> Self {
        Self { timeout: defaults::approval_timeout() }
    }
}

/// Which revision to go back to.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackTarget {
    /// The newest one that proved good.
    LastKnownGood,
    /// The one that served before this rollout began.
    Previous,
}

/// Defaults, field by field, because the API server fills them in one by one.
mod defaults {
    use super::{Baseline, GitOps, OnInconclusive, OnNoData, RollbackTarget, Scorer, StuckPods, WithVolumes};

    pub(super) fn interval() -> String {
        "Auto".into()
    }

    pub(super) fn warmup() -> String {
        "60s".into()
    }

    pub(super) fn window() -> String {
        "30m".into()
    }

    pub(super) const fn min_requests() -> i32 {
        20
    }

    pub(super) const fn on_inconclusive() -> OnInconclusive {
        OnInconclusive::Continue
    }

    pub(super) const fn scorer() -> Scorer {
        Scorer::Evidence
    }

    pub(super) const fn baseline() -> Baseline {
        Baseline::Auto
    }

    pub(super) fn false_rollback_rate() -> String {
        "1%".into()
    }

    pub(super) const fn yes() -> bool {
        true
    }

    pub(super) const fn on_no_data() -> OnNoData {
        OnNoData::Inconclusive
    }

    pub(super) const fn target() -> RollbackTarget {
        RollbackTarget::LastKnownGood
    }

    pub(super) const fn max_per_day() -> i32 {
        2
    }

    pub(super) fn cooldown() -> String {
        "10m".into()
    }

    pub(super) fn verify_timeout() -> String {
        "10m".into()
    }

    pub(super) fn bad_revision_memory() -> String {
        "24h".into()
    }

    pub(super) const fn git_ops() -> GitOps {
        GitOps::Recommend
    }

    pub(super) fn suspend_for() -> String {
        "1h".into()
    }

    pub(super) const fn stuck_pods() -> StuckPods {
        StuckPods::Delete
    }

    pub(super) const fn with_volumes() -> WithVolumes {
        WithVolumes::Approve
    }

    pub(super) const fn on_delete() -> StuckPods {
        StuckPods::Alert
    }

    pub(super) fn approval_timeout() -> String {
        "15m".into()
    }
}
