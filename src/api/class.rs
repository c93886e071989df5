//! `GuardClass`: where metrics come from, and what guards of the class may do at most.
//!
//! Role: the spec a platform team writes, and whether its sources answer. Inputs and outputs: plain data with its
//! schema. Must never import: a kube client, other rooms.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::guard::{Mode, Preset};
use super::providers::{Budgets, DataPolicy, ProviderSpec};

/// Where metrics come from, and what guards of this class may do at most.
#[allow(clippy::duplicated_attributes, reason = "columns share types, not attributes")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[cfg_attr(test, kube(cel))]
#[kube(
    group = "deploymentguard.dev",
    version = "v1alpha1",
    kind = "GuardClass",
    plural = "guardclasses",
    shortname = "gclass",
    category = "deploymentguard",
    status = "GuardClassStatus",
    derive = "PartialEq",
    doc = "Where metrics come from, and what guards of this class may do at most.",
    printcolumn(
        name = "Prometheus",
        type_ = "string",
        json_path = ".spec.prometheus.url",
        description = "Where metrics come from"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the class can be used"
    ),
    printcolumn(
        name = "Metrics",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="MetricsAvailable")].status"#,
        description = "Whether Prometheus answers"
    ),
    printcolumn(
        name = "Max Mode",
        type_ = "string",
        json_path = ".spec.maxMode",
        description = "What its guards may do at most"
    ),
    printcolumn(
        name = "Last Contact",
        type_ = "date",
        json_path = ".status.prometheus.lastSuccess",
        description = "When Prometheus last answered"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="MetricsAvailable")].message"#,
        priority = 1,
        description = "What was wrong"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.providers) || !has(self.budgets) || !has(self.budgets.spendPerDay) || self.providers.all(one, has(one.price))").message("budgets.spendPerDay needs a price on every provider, or nobody knows what a call costs; write 0 for a server of your own"))]
pub struct GuardClassSpec {
    /// The Prometheus, or anything that speaks its HTTP API, such as Thanos, Mimir and VictoriaMetrics.
    pub prometheus: Prometheus,
    /// Signals of guards that name none, in order. Auto, the default: errors and latency from the first preset whose
    /// series the workload's pods have, container-memory and container-cpu-throttling. Not nginx-ingress and traefik, which
    /// need the name of a Service.
    #[serde(default = "default_presets")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = Rule::new("!self.exists(preset, preset in ['nginx-ingress', 'traefik'])").message("presets: nginx-ingress and traefik need the name of a Service; list them in the signals of a guard"))]
    pub presets: Vec<Preset>,
    /// What guards of this class may do at most, whatever they ask for.
    #[serde(default = "enforce")]
    pub max_mode: Mode,
    /// When undos of the class's guards become too many to be true, such as when Prometheus lies.
    #[serde(default)]
    pub storm_breaker: StormBreaker,
    /// Language models that may be asked for a second opinion, at most 16. Guards order their `decision.chain` by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub providers: Vec<ProviderSpec>,
    /// What all providers together may be asked.
    #[serde(default)]
    pub budgets: Budgets,
    /// What may leave the cluster in a prompt. MetricsOnly: numbers, and no text of pods. Redacted: masked log lines,
    /// names and images too, with secrets and personal data taken out. Full: with only credentials taken out.
    #[serde(default)]
    pub data_policy: DataPolicy,
    /// What is taken out of prompts besides, at most 32 regular expressions without look-around. Of one with a group
    /// named `secret` only that group is taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub redaction_patterns: Vec<String>,
}

/// When undos become too many: further ones are recommended only, until fewer lie within the time.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.within) >= duration('1m') && duration(self.within) <= duration('24h')").message("stormBreaker.within must lie between 1m and 24h"))]
pub struct StormBreaker {
    /// Undos of all guards of the class within that time; every further one is recommended only.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub undos: i32,
    /// The time over which undos are counted.
    #[serde(default = "ten_minutes")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    pub within: String,
}

impl Default for StormBreaker {
    fn default() -> Self {
        Self { undos: three(), within: ten_minutes() }
    }
}

fn three() -> i32 {
    3
}

fn ten_minutes() -> String {
    "10m".into()
}

fn default_presets() -> Vec<Preset> {
    vec![Preset::Auto]
}

fn enforce() -> Mode {
    Mode::Enforce
}

/// How to reach Prometheus.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.url.startsWith('http://') || self.url.startsWith('https://')").message("prometheus.url must start with http:// or https://"))]
#[x_kube(validation = Rule::new("!self.url.contains('@')").message("prometheus.url must not contain credentials: put a token into a Secret and name it in prometheus.bearerTokenSecretRef"))]
#[x_kube(validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')").message("prometheus.tls needs a prometheus.url that starts with https://"))]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('100ms') && duration(self.timeout) <= duration('2m')").message("prometheus.timeout must lie between 100ms and 2m"))]
pub struct Prometheus {
    /// Base URL, such as `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// How long one query may take.
    #[serde(default = "ten_seconds")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m))+$"))]
    pub timeout: String,
    /// TLS settings; without them the system's certificate authorities are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// A Secret in the operator's namespace whose value is sent as bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
}

fn ten_seconds() -> String {
    "10s".into()
}

/// TLS settings.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A Secret in the operator's namespace with certificate authorities to trust, as PEM, instead of the system's.
    pub ca_secret_ref: SecretKeyRef,
}

/// One key of a Secret in the operator's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. It lies in the operator's namespace; no other can be named.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Whether the class can be used, and whether its sources answer.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GuardClassStatus {
    /// The generation that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, MetricsAvailable, `LLMAvailable`.
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last contact with Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<SourceStatus>,
    /// The undos that the storm breaker counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_breaker: Option<StormBreakerStatus>,
    /// Each language model, and what it cost.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderStatus>,
    /// What all of them together used in this hour and this day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetStatus>,
}

/// What language models used, against the class's budgets.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    /// In this hour.
    pub hour: UsedStatus,
    /// In this day.
    pub day: UsedStatus,
}

/// What was used in one stretch of time; it begins with its first call.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct UsedStatus {
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::status::date_time")]
    pub since: Option<String>,
    /// Calls.
    pub calls: i64,
    /// Tokens, of prompts and replies.
    pub tokens: i64,
    /// Millionths of the currency of the prices.
    pub spend_micros: i64,
}

/// One language model: whether it answers, and what it cost.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderStatus {
    /// Name of the provider.
    #[schemars(length(max = 63))]
    pub name: String,
    /// When it last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::status::date_time")]
    pub last_success: Option<String>,
    /// Why it gave no answer when it was last asked, as a word such as timeout; empty after a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub last_error: Option<String>,
    /// What it said then, redacted; empty after a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    /// How long it took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<i64>,
    /// Closed: it is asked. Open: it failed several times running and is not asked for a while. HalfOpen: the next call
    /// tries whether it works again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Closed", "Open", "HalfOpen"]))]
    pub breaker: Option<String>,
    /// Calls today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_today: Option<i64>,
    /// Tokens today, of prompts and replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_today: Option<i64>,
    /// What they cost, in the currency of the prices; empty without a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub spend_today: Option<String>,
}

/// The undos that the storm breaker counts.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct StormBreakerStatus {
    /// Whether further undos are recommended only.
    pub open: bool,
    /// The undos of the class's guards within the time, newest last.
    #[schemars(length(max = 100))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undos: Vec<StormUndo>,
}

/// One undo that the storm breaker counts.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct StormUndo {
    /// When it was decided.
    pub time: String,
    /// The guard, as namespace/name.
    pub guard: String,
    /// The decision.
    pub decision: String,
}

/// The last contact with a source.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceStatus {
    /// When it last answered; written at most once a minute while nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::status::date_time")]
    pub last_success: Option<String>,
    /// What it said when it last failed, redacted; empty after a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_error: Option<String>,
    /// How long it took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<i64>,
}
