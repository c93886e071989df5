//! Training samples: one per decision, kept in a bounded ring.
//!
//! Role: the form of a sample and what the ring keeps. Inputs: decisions and what they were made from. Outputs: the keys
//! and values of a ConfigMap. Must never import: other rooms, a hash function or a clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of a sample's form.
pub const SCHEMA_VERSION: u32 = 1;

/// The longest value of one sample.
pub const MAX_SAMPLE_BYTES: usize = 8 * 1024;

/// The most bytes of one ring, keys included.
pub const MAX_RING_BYTES: usize = 256 * 1024;

/// What the decision was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleState {
    /// Failed requests in percent of all, as the original system recorded it.
    pub error_rate: Option<f64>,
    /// Memory in percent of the limit.
    pub memory_usage: Option<f64>,
    /// Response time in milliseconds, 95th percentile.
    pub response_time: Option<f64>,
    /// The judged revision, as `namespace/name@hash`.
    pub deployment_id: String,
    /// The full evidence, as the judge wrote it.
    pub evidence: Value,
}

/// One decision, to learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was decided, RFC 3339.
    pub time: String,
    /// What it was decided from.
    pub state: SampleState,
    /// What was decided.
    pub action: String,
    /// Confidence, 0–100.
    pub confidence: u8,
    /// The reward; null until it falls due.
    pub reward: Option<f64>,
    /// Who decided.
    pub decider: String,
    /// Which version of the rules decided.
    pub policy_version: String,
    /// The probability with which the decider takes this action in this state; 1 for a rule.
    pub propensity: f64,
    /// SHA-256 of the canonical JSON of the evidence, in hex; filled when it is recorded.
    pub evidence_hash: String,
}
