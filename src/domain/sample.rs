//! Training samples: one per decision, kept in a bounded ring.
//!
//! Role: the form of a sample and what the ring keeps. Inputs: decisions and what they were made from. Outputs: the keys
//! and values of a ConfigMap. Must never import: other rooms, a hash function or a clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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

/// The longest of the short texts in a sample that has to be cut.
const MAX_WORD_CHARS: usize = 128;

/// The longest key of a ConfigMap.
const MAX_KEY_BYTES: usize = 253;

/// What a ring holds after a sample was put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingChange {
    /// The key of the sample.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Keys that make room for it, oldest first.
    pub dropped: Vec<String>,
}

/// The JSON text that is the same for equal values: keys sorted, no spaces.
#[must_use]
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let pairs: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::String(key.clone()), canonical(value)))
                .collect();
            format!("{{{}}}", pairs.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

/// The sample as JSON of at most [`MAX_SAMPLE_BYTES`]. Evidence that is too long is replaced by its beginning, marked.
#[must_use]
pub fn encode(sample: &Sample) -> String {
    let text = to_text(sample);
    if text.len() <= MAX_SAMPLE_BYTES {
        return text;
    }
    let evidence = canonical(&sample.state.evidence);
    let mut cut = sample.clone();
    let mut keep = MAX_SAMPLE_BYTES;
    loop {
        cut.state.evidence = truncated(&evidence, keep);
        let text = to_text(&cut);
        if text.len() <= MAX_SAMPLE_BYTES {
            return text;
        }
        if keep == 0 {
            shorten(&mut cut);
            return to_text(&cut);
        }
        keep = keep.saturating_sub(text.len().saturating_sub(MAX_SAMPLE_BYTES).max(1));
    }
}

/// Puts a sample into the ring. `None` when this decision is already in it.
#[must_use]
pub fn push(ring: &BTreeMap<String, String>, decision_id: &str, sample: &Sample, retain: usize) -> Option<RingChange> {
    let key = key_of(decision_id);
    if ring.contains_key(&key) {
        return None;
    }
    let value = encode(sample);
    let mut kept: Vec<(Timestamp, &String, usize)> =
        ring.iter().map(|(key, value)| (time_of(value), key, key.len() + value.len())).collect();
    // Newest first, so that the oldest are at the end.
    kept.sort_by(|a, b| b.cmp(a));
    let mut bytes = key.len() + value.len() + kept.iter().map(|(_, _, bytes)| bytes).sum::<usize>();
    let mut dropped = Vec::new();
    while kept.len() >= retain.max(1) || bytes > MAX_RING_BYTES {
        let Some((_, key, size)) = kept.pop() else { break };
        bytes = bytes.saturating_sub(size);
        dropped.push(key.clone());
    }
    Some(RingChange { key, value, dropped })
}

/// A decision's id as a key that a ConfigMap takes.
#[must_use]
pub fn key_of(decision_id: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let key: String = decision_id.chars().map(allowed).take(MAX_KEY_BYTES).collect();
    if key.is_empty() { "unnamed".to_owned() } else { key }
}

/// When a stored sample was made; what cannot be read is the oldest.
fn time_of(value: &str) -> Timestamp {
    serde_json::from_str::<Value>(value)
        .ok()
        .and_then(|sample| sample.get("time")?.as_str()?.parse().ok())
        .unwrap_or(Timestamp::MIN)
}

fn truncated(evidence: &str, keep: usize) -> Value {
    let end = (0..=keep.min(evidence.len())).rev().find(|end| evidence.is_char_boundary(*end)).unwrap_or(0);
    let mut map = Map::new();
    map.insert("truncated".to_owned(), json!(true));
    map.insert("bytes".to_owned(), json!(evidence.len()));
    map.insert("beginning".to_owned(), json!(evidence.get(..end)));
    Value::Object(map)
}

fn shorten(sample: &mut Sample) {
    for word in [
        &mut sample.time,
        &mut sample.state.deployment_id,
        &mut sample.action,
        &mut sample.decider,
        &mut sample.policy_version,
        &mut sample.evidence_hash,
    ] {
        *word = word.chars().take(MAX_WORD_CHARS).collect();
    }
}

fn to_text(sample: &Sample) -> String {
    // Every part of a sample is JSON already, so this does not fail.
    serde_json::to_string(sample).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
