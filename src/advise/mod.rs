//! Language models behind HTTP: one question out, one bounded answer back.
//!
//! Role: speak three wire formats, turn every way to fail into a [`Failure`]. Inputs: a provider's policy with its
//! Secrets read, a prompt, a time. Outputs: an [`Answer`] whose text nobody has judged yet. Decides nothing and repeats
//! nothing. Must never import: other rooms than `domain`.

mod anthropic;
mod client;
mod dialect;
mod gemini;
mod openai;
mod refusal;
mod resolve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::client::Got;
use self::dialect::Dialect;
use crate::domain::advice::provider::{ProviderPolicy, Wire};
use crate::domain::advice::request::{Sendable, redact_request};
use crate::domain::advice::{Answer, Failure, Rung, Usage};
use crate::domain::redact::{Redactor, SERVER_MESSAGE};

/// Most bytes of an answer.
pub const MAX_BODY: usize = 1024 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Who the model is and what it must keep to.
    pub system: String,
    /// The case.
    pub user: String,
    /// What the reply must look like, as a JSON schema.
    pub schema: Value,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}: {said}")]
pub struct Failed {
    /// In one word.
    pub failure: Failure,
    /// In a sentence, the server's or ours, redacted, 256 characters at most.
    pub said: String,
    /// What it cost all the same.
    pub usage: Usage,
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        failed.failure
    }
}

/// A provider cannot even be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("provider {provider}: {problem}")]
pub struct Unusable {
    /// Its name.
    pub provider: String,
    /// What is wrong and what to do about it; nothing of a Secret's content.
    pub problem: String,
}

/// Counts calls.
pub trait CallObserver: Send + Sync {
    /// A request was sent and is over, whatever came of it; `outcome` is `success` or the word of a failure.
    fn called(&self, provider: &str, outcome: &'static str, took: Duration, usage: Usage);
}

/// The one place through which a request's body leaves.
pub trait Gate: Send + Sync {
    /// What is sent instead of `body`.
    ///
    /// # Errors
    /// If it cannot be made safe; then nothing is sent.
    fn let_out(&self, body: String) -> Result<Sendable, Failure>;
}

/// For questions that hold nothing of anybody: whatever looks like a secret stays inside.
impl Gate for Redactor {
    fn let_out(&self, body: String) -> Result<Sendable, Failure> {
        redact_request(&body, self)
            .and_then(|body| if body.taken().is_empty() { Ok(body) } else { Err(Failure::NotSendable) })
    }
}

/// What the Secrets of a provider say.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The key.
    pub api_key: Option<SecretString>,
    /// Headers in the order of the policy, plain ones too.
    pub headers: Vec<(String, SecretString)>,
    /// Certificate authorities as PEM.
    pub authorities: Option<Vec<u8>>,
}

/// What every provider shares.
#[derive(Clone)]
pub struct Ports {
    /// What leaves, leaves here.
    pub gate: Arc<dyn Gate>,
    /// Counts calls.
    pub observer: Arc<dyn CallObserver>,
    /// For what servers say.
    pub redactor: Arc<Redactor>,
}

/// One language model that can be asked.
pub struct Provider {
    policy: ProviderPolicy,
    url: Url,
    client: reqwest::Client,
    /// What is taken out of everything a server says, because it may say back what it was sent.
    hidden: Vec<SecretString>,
    dialect: Dialect,
    ports: Ports,
}

/// Nothing of the Secrets.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.policy.name).finish_non_exhaustive()
    }
}

impl Provider {
    /// A provider that is not asked yet.
    ///
    /// # Errors
    /// If the URL, a header, a certificate or the proxy cannot be used.
    pub fn new(policy: ProviderPolicy, secrets: Secrets, ports: Ports) -> Result<Self, Unusable> {
        let unusable = |problem: String| Unusable { provider: policy.name.clone(), problem };
        let url = url(&policy).map_err(unusable)?;
        let client = client::build(&policy, &url, &secrets).map_err(unusable)?;
        let plain = |name: &String| policy.headers.iter().any(|(other, value)| other == name && value.is_plain());
        let mut hidden: Vec<SecretString> = secrets.api_key.into_iter().collect();
        hidden.extend(secrets.headers.into_iter().filter(|(name, _)| !plain(name)).map(|(_, value)| value));
        hidden.retain(|secret| !secret.expose_secret().trim().is_empty());
        Ok(Self { policy, url, client, hidden, dialect: Dialect::default(), ports })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.policy.name
    }

    /// What the class says about it.
    #[must_use]
    pub const fn policy(&self) -> &ProviderPolicy {
        &self.policy
    }

    /// Where requests go; without a key.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.url.as_str()
    }

    /// Asks once. An endpoint that refuses a parameter which only newer or older models know is asked again at once
    /// without it, twice at most, and from then on always so.
    ///
    /// # Errors
    /// If no answer came within `within`, or the provider's own time-out if that is shorter, or it is none.
    pub async fn ask(&self, prompt: &Prompt, rung: Rung, within: Duration) -> Result<Answer, Failed> {
        let deadline = Instant::now() + within.min(self.policy.timeout);
        loop {
            let manner = self.dialect.manner();
            let body = self.body(prompt, rung, manner).to_string();
            let body = self.ports.gate.let_out(body).map_err(|failure| self.failed(failure, "it was not sent"))?;
            let started = Instant::now();
            let answer = match timeout_at(deadline, self.call(&body, rung)).await {
                Ok(answer) => answer,
                Err(_) => Err(self.failed(Failure::Timeout, "there was no whole answer in time")),
            };
            let (outcome, usage) = answer
                .as_ref()
                .map_or_else(|failed| (failed.failure.word(), failed.usage), |answer| ("success", answer.usage));
            self.ports.observer.called(&self.policy.name, outcome, started.elapsed(), usage);
            match answer {
                Err(Failed { failure: Failure::Refused(400 | 422), said, .. }) if self.dialect.learn(manner, &said) => {
                }
                answer => return answer,
            }
        }
    }

    fn body(&self, prompt: &Prompt, rung: Rung, manner: dialect::Manner) -> Value {
        match self.policy.wire {
            Wire::OpenAi => openai::request(&self.policy.model, prompt, rung, manner),
            Wire::Anthropic => anthropic::request(&self.policy.model, prompt, rung, manner),
            Wire::Gemini => gemini::request(prompt, rung),
        }
    }

    async fn call(&self, body: &Sendable, rung: Rung) -> Result<Answer, Failed> {
        let body = body.as_str().to_owned();
        let got =
            client::exchange(&self.client, &self.url, body).await.map_err(|(why, said)| self.failed(why, &said))?;
        self.read(&got, rung)
    }

    fn read(&self, got: &Got, rung: Rung) -> Result<Answer, Failed> {
        let json: Option<Value> = serde_json::from_slice(&got.body).ok();
        if let Some((failure, said)) = refusal::of(got, json.as_ref()) {
            return Err(self.failed(failure, &said));
        }
        if got.body.iter().all(u8::is_ascii_whitespace) {
            return Err(self.failed(Failure::Empty, "it answered nothing"));
        }
        let Some(json) = json else {
            return Err(self.failed(Failure::Unreadable, "it did not answer in JSON; is the baseURL that of the API?"));
        };
        let said = match self.policy.wire {
            Wire::OpenAi => openai::read(&json),
            Wire::Anthropic => anthropic::read(&json),
            Wire::Gemini => gemini::read(&json),
        };
        match said.text {
            Ok(text) if text.trim().is_empty() => {
                Err(Failed { usage: said.usage, ..self.failed(Failure::Empty, "the reply has no text") })
            }
            Ok(text) => Ok(Answer { text, rung, usage: said.usage }),
            Err((failure, why)) => Err(Failed { usage: said.usage, ..self.failed(failure, &why) }),
        }
    }

    fn failed(&self, failure: Failure, said: &str) -> Failed {
        let mut said = said.to_owned();
        for secret in &self.hidden {
            said = said.replace(secret.expose_secret().trim(), "[redacted:key]");
        }
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let said = self.ports.redactor.redact(&said, SERVER_MESSAGE).as_str().to_owned();
        Failed { failure, said, usage: Usage::default() }
    }
}

/// What a format found in an answer: its text or why there is none, and what it cost.
struct Said {
    text: Result<String, (Failure, String)>,
    usage: Usage,
}

/// Where a format is asked, below the base URL. Who writes the whole address down is understood too.
fn url(policy: &ProviderPolicy) -> Result<Url, String> {
    // The class was checked when it was parsed; nothing is sent on the word of another file.
    let mut url = crate::domain::advice::endpoint::base_url(&policy.base_url, true)?;
    let last = match policy.wire {
        Wire::OpenAi => vec!["chat".to_owned(), "completions".to_owned()],
        Wire::Anthropic => vec!["messages".to_owned()],
        Wire::Gemini => {
            let model = policy.model.strip_prefix("models/").unwrap_or(&policy.model);
            vec!["models".to_owned(), format!("{model}:generateContent")]
        }
    };
    if url.path().trim_end_matches('/').ends_with(&format!("/{}", last.join("/"))) {
        return Ok(url);
    }
    url.path_segments_mut().map_err(|()| "the baseURL has no path".to_owned())?.pop_if_empty().extend(last);
    Ok(url)
}

/// A prompt for models that are not held to the schema by their server.
fn with_schema(prompt: &Prompt) -> String {
    let schema = &prompt.schema;
    format!(
        "{}\n\nAnswer with one JSON object and nothing else. It must match this JSON schema:\n{schema}",
        prompt.system
    )
}

/// A count of tokens, wherever it stands; what is none counts nothing.
fn tokens(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// The headers by which a format learns who asks.
fn credentials(wire: Wire, key: Option<&SecretString>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if wire == Wire::Anthropic {
        headers.insert("anthropic-version", reqwest::header::HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = key {
        let key = key.expose_secret().trim();
        let (name, value) = match wire {
            Wire::OpenAi => ("authorization", format!("Bearer {key}")),
            Wire::Anthropic => ("x-api-key", key.to_owned()),
            Wire::Gemini => ("x-goog-api-key", key.to_owned()),
        };
        headers.insert(name, client::sensitive(&value).ok_or("the key is empty, or no header can carry it")?);
    }
    Ok(headers)
}
