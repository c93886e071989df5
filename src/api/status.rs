//! `DeploymentGuard.status`: what was seen, decided and done.
//!
//! Role: the record people and pipelines read; integers only, because the API warns on floats. Inputs and outputs: plain
//! data with its schema. Must never import: a clock, a kube client, other rooms.

use jiff::{Timestamp, Unit};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// What was seen, decided and done.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentGuardStatus {
    /// The generation of the guard that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Healthy, Reconciling, RolledBack, MetricsAvailable, `GitOpsManaged`, Stalled.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The workload that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// The revision that the workload asks for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<CurrentStatus>,
    /// Health score of the current revision, 0 to 100; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub health_score: Option<i32>,
    /// The last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<DecisionRecord>,
    /// Earlier decisions, newest first.
    #[schemars(length(max = 10))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastDecision>,
    /// Each signal, new revision against old.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalStatus>,
    /// What was found in pod states, logs and by probes, new findings first.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingStatus>,
    /// Revisions that proved good, the latest first.
    #[schemars(length(max = 10))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_good: Vec<KnownGood>,
    /// What serves, or served before the rollout, where it is none of these: its template is kept all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<KeptTemplate>,
    /// What the pods read besides their template, as it was when a revision was last known to be well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<KnownConfiguration>,
    /// How far the analysis got; read by the operator after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStatus>,
    /// An undo that was decided and is not verified yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoStatus>,
    /// Whether the last undo helped: the restored revision is judged against what was before the bad release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recheck: Option<RecheckStatus>,
    /// A decision that waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_action: Option<PendingAction>,
    /// Revisions that were undone and are not judged again while they are remembered, the latest first.
    #[schemars(length(max = 10))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_revisions: Vec<BadRevisionStatus>,
    /// The value of the annotation `deploymentguard.dev/retry` that was followed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub retried: Option<String>,
    /// Undos in the last 24 hours.
    pub rollbacks_today: i32,
    /// When undos were sent, in the last 24 hours.
    #[schemars(length(max = 100))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rollback_times: Vec<String>,
    /// When the guard looks again, while something is going on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub next_evaluation: Option<String>,
}

/// The workload that was found.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetStatus {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid of the object.
    pub uid: String,
    /// The workload's generation that was looked at.
    pub observed_generation: i64,
}

/// The revision that the workload asks for now.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CurrentStatus {
    /// Its pod-template-hash.
    pub revision: String,
    /// Images of its containers.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// When it was first seen.
    pub started_at: String,
    /// When its first pod became Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_ready_at: Option<String>,
    /// The revision it is compared with and would be undone to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// How often containers of its worst pod ended in their first 5 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_exits: Option<i32>,
    /// The same of the revision it is compared with: so many ends are nothing new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_start_exits: Option<i32>,
    /// Serving, Judging, Held, Certified (not worse so far, still watched), Condemned, AwaitingApproval, KnownBad (undone
    /// before and back again), Restoring, Passed or Unproven.
    pub state: String,
}

/// One decision with everything that led to it.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionRecord {
    /// Names the decision.
    pub id: String,
    /// ROLLBACK, CONTINUE or INCONCLUSIVE.
    pub decision: String,
    /// Confidence in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub confidence: Option<i32>,
    /// Health score, 0 to 100; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub health_score: Option<i32>,
    /// Why, in sentences.
    #[schemars(length(max = 2048))]
    pub reasoning: String,
    /// Who decided.
    pub decider: String,
    /// The reason as one word.
    pub reason: String,
    /// What kind of failure it was, of a ROLLBACK: crash, oom, image, `config_error`, `memory_leak`, `database_timeout`,
    /// `dependency_unavailable`, performance, `rate_limit` or other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<String>,
    /// From what the kind of failure was read, the clearest first.
    #[schemars(length(max = 4))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failure_evidence: Vec<String>,
    /// What was found in pod states, logs and by probes; completed after an act, which never waits for it.
    #[schemars(length(max = 8))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingStatus>,
    /// What was measured on the new revision.
    pub metrics: DecisionMetrics,
    /// How the health score came about.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<ContributionStatus>,
    /// The chance of what was seen without a regression, at its smallest: 1 in N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<String>,
    /// The rule that kept the decision from being carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clamped_by: Option<String>,
    /// The revision that was judged.
    pub from_revision: String,
    /// The revision to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<String>,
    /// RollingBack, RolledBack, AwaitingApproval, Recommended or None.
    pub action: String,
    /// Why nothing was done, or how the undo ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub action_reason: Option<String>,
    /// How far the revision to go back to is trusted: Certified, PodsOnly or NeverJudged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_trust: Option<String>,
    /// Which ConfigMaps and Secrets were changed beside the rollout since a revision was last known to be well, and what
    /// could not be looked at; of a ROLLBACK, completed after an act, which never waits for it.
    #[schemars(length(max = 8))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configuration: Vec<String>,
    /// What a person would type or change, where nothing was done.
    #[schemars(length(max = 4))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// What a language model said about it, and what came of that; completed after an act, which never waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<AdviceStatus>,
    /// Every question to a language model that belongs to it.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptStatus>,
    /// Who approved or rejected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub answered_by: Option<String>,
    /// Fields that only the restored template has; client-side apply and helm 3 will not remove them.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_restored: Vec<String>,
    /// When it was decided.
    pub time: String,
    /// How long things took.
    pub durations: Durations,
    /// The training sample, as ConfigMap/key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_ref: Option<String>,
}

/// What a language model said, and what came of it.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AdviceStatus {
    /// Who said it: `llm/` and the provider's name.
    #[schemars(length(max = 68))]
    pub by: String,
    /// ROLLBACK, CONTINUE or INCONCLUSIVE.
    pub proposed: String,
    /// How sure it says it is, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub confidence: i32,
    /// What kind of failure it sees.
    pub failure_class: String,
    /// Why, in its words.
    #[schemars(length(max = 600))]
    pub reasoning: String,
    /// What it cites: signals (S1, ...), facts (P1, ...) and findings (F1, ...) of what it was told.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What it thinks would help.
    #[schemars(length(max = 400))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_fix: Option<String>,
    /// What kept it from being done, as a word; empty if nothing did, or if it wanted nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clamped_by: Option<String>,
    /// The same as a sentence.
    #[schemars(length(max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clamp: Option<String>,
    /// When it was said.
    pub time: String,
}

/// One question to a language model.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AttemptStatus {
    /// Who was asked: `llm/` and the provider's name.
    #[schemars(length(max = 68))]
    pub decider: String,
    /// `answered`, or why there was no answer, such as `timeout`.
    #[schemars(length(max = 32))]
    pub outcome: String,
    /// How long it took.
    pub milliseconds: i64,
}

/// What was measured on the new revision.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionMetrics {
    /// Share of failed requests in parts per million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate_ppm: Option<i64>,
    /// Memory in percent of the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i64>,
    /// 95th percentile of the response time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_time_ms: Option<i64>,
}

/// What one term took from the health score.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ContributionStatus {
    /// The signal or term.
    pub term: String,
    /// The measured value with its unit.
    pub value: String,
    /// Points taken, in hundredths.
    pub points_hundredths: i64,
}

/// How long things took, as durations such as `12.3s`.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Durations {
    /// From the first sight of the revision to the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detection_to_decision: Option<String>,
    /// From the decision to the patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_to_undo: Option<String>,
    /// From the patch to the verified restoration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_to_restored: Option<String>,
    /// From the first sight of the bad revision to the verified restoration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detection_to_restored: Option<String>,
}

/// An earlier decision in short.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PastDecision {
    /// Names the decision.
    pub id: String,
    /// ROLLBACK, CONTINUE or INCONCLUSIVE.
    pub decision: String,
    /// The reason as one word.
    pub reason: String,
    /// What was done.
    pub action: String,
    /// The revision that was judged.
    pub from_revision: String,
    /// Health score, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_score: Option<i32>,
    /// When.
    pub time: String,
}

/// One signal, new revision against old.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SignalStatus {
    /// Full name, such as `http/errors`.
    pub name: String,
    /// Good, Worse, Unproven (neither), Shown (of no influence), Waiting (too few events), Missing or Errored.
    pub state: String,
    /// The new revision's value with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The old revision's value with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Counts on both sides, or why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// The preset that the numbers come from; of Auto, which series made it choose that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub origin: Option<String>,
    /// The PromQL that it was resolved to, without pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub query: Option<String>,
}

/// Something found in pod states, logs or by a probe. It helps people and names the failure; it never causes a rollback.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct FindingStatus {
    /// What it is, in a few words.
    #[schemars(length(max = 128))]
    pub issue: String,
    /// The log line, the probe's answer or the kubelet's words, without secrets.
    #[schemars(length(max = 512))]
    pub context: String,
    /// What usually helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub suggested_fix: Option<String>,
    /// pods, logs/CONTAINER or probe/NAME.
    pub source: String,
    /// The service it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub service: Option<String>,
    /// The kind of failure it points to.
    pub class: String,
    /// How often on the new revision.
    pub new: i64,
    /// How often on the old revision; absent if it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<i64>,
    /// New, More (clearly more than the old revision), Known (as on the old revision) or Unknown.
    pub novelty: String,
}

/// The restored revision while it is judged for one question: did the undo help? It never causes another undo.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RecheckStatus {
    /// The decision that was carried out.
    pub decision: String,
    /// The restored revision.
    pub revision: String,
    /// When it served again.
    pub since: String,
    /// Until when it is judged.
    pub until: String,
}

/// A decision that waits for a person.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PendingAction {
    /// The decision; an approval has to name it.
    pub decision: String,
    /// What would be done: Rollback.
    pub action: String,
    /// Uid of the workload that was judged.
    pub workload_uid: String,
    /// The revision that was judged bad.
    pub from_revision: String,
    /// The revision to go back to.
    pub to_revision: String,
    /// Why a person is asked.
    #[schemars(length(max = 512))]
    pub why: String,
    /// What it rests on.
    #[schemars(length(max = 1024))]
    pub reasoning: String,
    /// What to type to approve it.
    #[schemars(length(max = 512))]
    pub approve: String,
    /// What to type to reject it.
    #[schemars(length(max = 512))]
    pub reject: String,
    /// When it was asked for.
    pub asked_at: String,
    /// Until when it is waited for.
    pub expires_at: String,
    /// The answer that was read last and did not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub ignored: Option<String>,
}

/// A revision that was undone.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BadRevisionStatus {
    /// Its hash.
    pub revision: String,
    /// The decision that undid it.
    pub decision: String,
    /// When it was undone.
    pub undone_at: String,
    /// Until when it is not judged again.
    pub until: String,
}

/// A revision that proved good.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct KnownGood {
    /// Its hash.
    pub revision: String,
    /// When it had proved good.
    pub at: String,
    /// Certified, or PodsOnly where nothing could be measured.
    pub trust: String,
    /// The ControllerRevision of the guard that holds its template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Stands for that template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// Stands for everything in it that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substance_hash: Option<String>,
    /// How.
    pub how: String,
}

/// A template that is kept of a revision.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct KeptTemplate {
    /// The revision's hash.
    pub revision: String,
    /// The ControllerRevision of the guard that holds its template.
    pub template: String,
    /// Stands for that template.
    pub template_hash: String,
    /// Stands for everything in it that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substance_hash: Option<String>,
}

/// What pods read besides their template, as it was.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct KnownConfiguration {
    /// The revision that was well.
    pub revision: String,
    /// ConfigMaps and Secrets, as far as their metadata could be read.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ConfigurationStatus>,
}

/// A ConfigMap or Secret, as it was.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigurationStatus {
    /// ConfigMap or Secret.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub resource_version: String,
}

/// How far the analysis got.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AnalysisStatus {
    /// Opaque state of the judge.
    #[schemars(length(max = 8192))]
    pub checkpoint: String,
    /// What was fixed when the rollout began, as JSON: the false rollback rate, and for each signal its weight, the parts
    /// it is compared with, bursts (phi) and the allowed ratio against old pods and against history, in parts per million;
    /// boundaries in thousandths of a millisecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub design: Option<String>,
    /// Why there is no verdict yet, or what it would be now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// With what the rollout is compared, and the smallest regression that can be seen in its window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub plan: Option<String>,
    /// The chance of what was seen without a regression, at its smallest so far: 1 in N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<String>,
    /// When the last step closed that was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_until: Option<String>,
    /// What a language model said last about this rollout, and what came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<AdviceStatus>,
    /// The questions that led to it.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptStatus>,
    /// Calls of language models for this rollout, of `decision.maxCallsPerRollout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_calls: Option<i32>,
}

/// An undo that was decided and is not verified yet.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct UndoStatus {
    /// The decision it carries out.
    pub decision: String,
    /// Uid of the workload that was judged.
    pub workload_uid: String,
    /// The revision that was judged.
    pub from_revision: String,
    /// The revision to go back to.
    pub to_revision: String,
    /// The ControllerRevision of the guard that holds its template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Stands for that template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// When it was decided; written before the patch is sent.
    pub intended_at: String,
    /// When the patch was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
}

/// A moment as the API writes it, in whole seconds.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.round(Unit::Second).unwrap_or(at).to_string()
}

/// A moment to the millisecond, for what is computed with.
#[must_use]
pub fn time_ms(at: Timestamp) -> String {
    at.round(Unit::Millisecond).unwrap_or(at).to_string()
}

/// Reads a moment back; what cannot be read was written by another version and counts as absent.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Schema of an optional moment.
#[must_use]
pub fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "nullable": true})
}

/// Schema of a moment.
#[must_use]
pub fn date_time_required(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}
