//! What language models were asked and what they said, for people to read.
//!
//! Role: keeps the last calls of a guard with what left the cluster and what came back. Inputs: the guard and its calls.
//! Outputs: a ConfigMap that the guard owns, bounded in calls and bytes. Must never import: other rooms than `domain` and
//! `api`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use serde::{Deserialize, Serialize};

use super::owner::Owner;
use super::ring::{Change, RingError, Rings, Sort, name};
use crate::domain::advice::Usage;
use crate::domain::managers;
use crate::domain::redact::Redactor;
use crate::domain::sample::key_of;

/// Marks ConfigMaps that hold calls.
pub const ADVICE_LABEL: &str = "deploymentguard.dev/advice";
/// Most calls of one guard.
pub const MAX_CALLS: usize = 10;
/// Most bytes of one guard's calls, keys included.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most bytes of a request. A prompt has half of it at most; with every byte escaped one call still fits into the ring.
pub const MAX_SENT: usize = 32 * 1024;
/// Most bytes of a reply.
pub const MAX_REPLIED: usize = 8 * 1024;
/// The longest of the short texts.
const MAX_WORD: usize = 256;

const SORT: Sort = Sort { suffix: "-advice", label: ADVICE_LABEL, manager: managers::ADVICE };

/// One call of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Names the question; the calls of one run of the chain share it.
    pub ask: String,
    /// Its place among the calls of that question, from 1.
    pub number: u32,
    /// The decision that it was about, where one was made before the question.
    pub decision: Option<String>,
    /// The revision that was judged.
    pub revision: String,
    /// When it was asked.
    pub at: Timestamp,
    /// Name of the provider.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// Version of the prompt's template.
    pub prompt_version: u32,
    /// `answered`, or the word of a failure.
    pub outcome: &'static str,
    /// How long it took.
    pub milliseconds: u64,
    /// What it cost.
    pub usage: Usage,
    /// The body as it left, after redaction; empty if nothing left.
    pub sent: String,
    /// The text that came back; empty if none did.
    pub replied: String,
}

/// One call as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeptCall {
    /// When it was asked, RFC 3339.
    pub at: String,
    /// Names the question.
    pub ask: String,
    /// Its place among the calls of that question.
    pub number: u32,
    /// The decision that it was about, if it came after one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The revision that was judged.
    pub revision: String,
    /// Name of the provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Version of the prompt's template.
    pub prompt_version: u32,
    /// `answered`, or the word of a failure.
    pub outcome: String,
    /// How long it took.
    pub milliseconds: u64,
    /// Tokens.
    pub usage: KeptUsage,
    /// The body of the request; empty if nothing was sent.
    pub sent: String,
    /// Whether `sent` is to the byte what left. What `dataPolicy: Full` lets out and is not stored is missing from it.
    pub exact: bool,
    /// What came back, redacted and cut.
    pub replied: String,
}

/// Tokens of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeptUsage {
    /// Of the prompt.
    pub input: u64,
    /// Of the reply.
    pub output: u64,
}

/// Keeps calls.
#[derive(Clone)]
pub struct Prompts {
    rings: Rings,
}

impl Prompts {
    /// A writer that waits at most `time_out` for one answer.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>, time_out: Duration) -> Self {
        Self { rings: Rings::new(client, redactor, time_out) }
    }

    /// Puts calls into the guard's ring, in one write, and returns the ConfigMap's name. What is in it already changes
    /// nothing. Whoever calls this leads: leadership is asked immediately before.
    ///
    /// # Errors
    /// When the ConfigMap is somebody else's, keeps changing, or cannot be written.
    pub async fn keep(&self, owner: &Owner, calls: &[Call]) -> Result<String, RingError> {
        let new: BTreeMap<String, String> =
            calls.iter().map(|call| (key(call), encode(call, self.rings.redactor()))).collect();
        self.rings.write(owner, SORT, |ring| push(ring, &new)).await
    }
}

/// The name of the ConfigMap with a guard's calls.
#[must_use]
pub fn config_map_name(guard: &str) -> String {
    name(guard, SORT.suffix)
}

fn key(call: &Call) -> String {
    let ask: String = key_of(&call.ask).chars().take(240).collect();
    if call.number <= 1 { ask } else { format!("{ask}.{}", call.number) }
}

/// A call as JSON. The body has been through the gate and is not changed by looking at it once more, but under `Full`.
fn encode(call: &Call, redactor: &Redactor) -> String {
    let word = |text: &str| redactor.redact(text, MAX_WORD).as_str().to_owned();
    let sent = cut(redactor.redact(&call.sent, MAX_SENT).as_str(), MAX_SENT);
    let kept = KeptCall {
        at: call.at.to_string(),
        ask: word(&call.ask),
        number: call.number,
        decision: call.decision.as_deref().map(word),
        revision: word(&call.revision),
        provider: word(&call.provider),
        model: word(&call.model),
        prompt_version: call.prompt_version,
        outcome: call.outcome.to_owned(),
        milliseconds: call.milliseconds,
        usage: KeptUsage { input: call.usage.input, output: call.usage.output },
        exact: sent == call.sent,
        sent,
        replied: cut(redactor.redact(&call.replied, MAX_REPLIED).as_str(), MAX_REPLIED),
    };
    // Text and whole numbers: this does not fail.
    serde_json::to_string(&kept).unwrap_or_else(|_| "{}".to_owned())
}

fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// Puts new entries into a ring: the newest stay. `None` if none of them is new.
fn push(ring: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Option<Change> {
    let fresh: BTreeMap<&String, &String> = new.iter().filter(|(key, _)| !ring.contains_key(*key)).collect();
    if fresh.is_empty() {
        return None;
    }
    let mut all: Vec<(Timestamp, &String, &String)> =
        ring.iter().chain(fresh.iter().map(|(key, value)| (*key, *value))).map(|(k, v)| (time_of(v), k, v)).collect();
    all.sort_by(|a, b| b.cmp(a));
    let mut change = Change::default();
    let mut bytes = 0;
    for (place, (_, key, value)) in all.into_iter().enumerate() {
        bytes += key.len() + value.len();
        let stays = place < MAX_CALLS && bytes <= MAX_BYTES;
        match (stays, ring.contains_key(key)) {
            (true, false) => {
                change.added.insert(key.clone(), value.clone());
            }
            (false, true) => change.dropped.push(key.clone()),
            _ => {}
        }
    }
    Some(change).filter(|change| !change.added.is_empty() || !change.dropped.is_empty())
}

/// When a call was made; what cannot be read is the oldest.
fn time_of(value: &str) -> Timestamp {
    serde_json::from_str::<KeptCall>(value).ok().and_then(|call| call.at.parse().ok()).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
#[path = "prompts_tests.rs"]
mod tests;
