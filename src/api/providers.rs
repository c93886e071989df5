//! `providers[]` of a class: language models that may be asked for a second opinion.
//!
//! Role: what a platform team writes about them, and its parsing. Inputs: a class's spec. Outputs: an [`LlmPolicy`], or
//! an error that names field and cure. Must never import: a kube client, other rooms than `domain`.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class::{GuardClassSpec, SecretKeyRef, Tls};
use super::parse::{InvalidSpec, duration, invalid};
use crate::domain::advice::budget::{Limits, Price as Prices};
use crate::domain::advice::endpoint;
use crate::domain::advice::prompt::DataPolicy as Data;
use crate::domain::advice::provider::{HeaderValue, LlmPolicy, ProviderPolicy, SecretKey, Wire};
use crate::domain::redact::Redactor;

/// Most providers of a class.
pub const MOST_PROVIDERS: usize = 16;
/// Names that mean something else in a guard's chain.
const RESERVED: &[&str] = &["algorithm", "model", "human"];
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Headers that are set by the operator, or would change where a request ends.
const OWN_HEADERS: &[&str] =
    &["host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding"];

/// One language model behind an address.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.baseURL) || self.baseURL.startsWith('http://') || self.baseURL.startsWith('https://')").message("providers[].baseURL must start with http:// or https://"))]
#[x_kube(validation = Rule::new("!has(self.baseURL) || !self.baseURL.contains('@')").message("providers[].baseURL must not contain credentials: put the key into a Secret and name it in apiKeySecretRef"))]
#[x_kube(validation = Rule::new("!has(self.tls) || !has(self.baseURL) || self.baseURL.startsWith('https://')").message("providers[].tls needs a baseURL that starts with https://"))]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('100ms') && duration(self.timeout) <= duration('60s')").message("providers[].timeout must lie between 100ms and 60s"))]
#[x_kube(validation = Rule::new("!(self.name in ['algorithm', 'model', 'human'])").message("providers[].name must not be algorithm, model or human, which mean something else in decision.chain"))]
pub struct ProviderSpec {
    /// Name of the provider, as `decision.chain` of guards, status and metrics show it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How it is spoken to. openai: chat completions, for OpenAI, Together AI, vLLM, Ollama, Groq, OpenRouter, Azure and
    /// everything that calls itself compatible. anthropic: messages. gemini: generateContent.
    pub kind: ProviderKind,
    /// The model, by the name that the provider gives it.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// Where it is, up to what follows the version, such as `https://api.together.xyz/v1`; a query such as
    /// `?api-version=2024-10-21` is kept. Empty: the public address of OpenAI, Anthropic or Google. Redirects are never
    /// followed; link-local and metadata addresses are never asked.
    #[serde(default, rename = "baseURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub base_url: Option<String>,
    /// A Secret in the operator's namespace with the key that the provider gave you; read again when it changes. Empty:
    /// no key is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
    /// Headers to send besides, such as `api-key` for Azure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub headers: Vec<HeaderSpec>,
    /// TLS settings; without them the system's certificate authorities are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// An HTTP proxy on the way, such as `http://proxy.infra.svc:3128`. Empty: none, whatever the operator's environment
    /// says. Behind a proxy, addresses that the provider's name stands for are not seen and so not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^http://[^@]+$"))]
    pub proxy: Option<String>,
    /// How long one call may take, 100ms to 60s; the guard's `decision.deadline` is for all calls together.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m))+$"))]
    #[serde(default = "eight_seconds")]
    pub timeout: String,
    /// How often a call is repeated after 429 or 5xx, within the deadline.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "one")]
    pub retries: i32,
    /// What it costs; `budgets.spendPerDay` needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceSpec>,
    /// Permit a baseURL that starts with http:// and does not lie in the cluster. Anybody on the way then reads the key
    /// and the prompt.
    #[serde(default, rename = "allowPlainHTTP")]
    pub allow_plain_http: bool,
}

/// How a provider is spoken to.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
    /// generateContent.
    Gemini,
}

/// A header that is sent with each call.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueSecretRef)").message("each header needs exactly one of value and valueSecretRef"))]
pub struct HeaderSpec {
    /// Name of the header.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// What it says, for everybody to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: Option<String>,
    /// A Secret in the operator's namespace with what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_secret_ref: Option<SecretKeyRef>,
}

/// Prices for a million tokens, in any currency, the same one for all providers of a class.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PriceSpec {
    /// A million tokens of prompts, such as "0.88".
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"))]
    pub input_per_million: String,
    /// A million tokens of replies, such as "0.88".
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"))]
    pub output_per_million: String,
}

/// What all providers of the class together may be asked. What is used up is not asked for until time has passed; the
/// algorithm decides meanwhile.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Budgets {
    /// Calls in an hour.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub calls_per_hour: i32,
    /// Calls in a day.
    #[serde(default = "thousand")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub calls_per_day: i32,
    /// Tokens in an hour, of prompts and replies. Empty: as many as the calls need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tokens_per_hour: Option<i64>,
    /// Tokens in a day. Empty: as many as the calls need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tokens_per_day: Option<i64>,
    /// Spend in a day, such as "2.50", in the currency of the prices. Empty: as much as the calls cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"))]
    pub spend_per_day: Option<String>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            calls_per_hour: hundred(),
            calls_per_day: thousand(),
            tokens_per_hour: None,
            tokens_per_day: None,
            spend_per_day: None,
        }
    }
}

/// What may leave the cluster in a prompt.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataPolicy {
    /// Numbers, and no text of pods.
    MetricsOnly,
    /// Text of pods too, with secrets and personal data taken out.
    #[default]
    Redacted,
    /// Text of pods with only credentials taken out.
    Full,
}

fn eight_seconds() -> String {
    "8s".into()
}

const fn one() -> i32 {
    1
}

const fn hundred() -> i32 {
    100
}

const fn thousand() -> i32 {
    1000
}

/// Parses the language models of a class.
///
/// # Errors
/// If a field has a value that cannot be used; the error names the field and the cure.
pub fn parse(class: &GuardClassSpec) -> Result<LlmPolicy, InvalidSpec> {
    if class.providers.len() > MOST_PROVIDERS {
        return Err(invalid("providers", format!("are more than {MOST_PROVIDERS}; leave some out")));
    }
    let mut providers: Vec<ProviderPolicy> = Vec::new();
    for (index, spec) in class.providers.iter().enumerate() {
        let parsed = provider(index, spec)?;
        if providers.iter().any(|other| other.name == parsed.name) {
            return Err(invalid(format!("providers[{index}].name"), format!("{} stands there twice", parsed.name)));
        }
        providers.push(parsed);
    }
    Redactor::new()
        .with(&class.redaction_patterns)
        .map_err(|error| invalid(format!("redactionPatterns[{}]", error.place), error.problem))?;
    let budgets = budgets(&class.budgets)?;
    if let Some(free) = providers.iter().position(|one| budgets.spend_per_day.is_some() && one.price.is_none()) {
        let problem =
            "is missing, so that nobody knows what budgets.spendPerDay allows; write 0 for a server of your own";
        return Err(invalid(format!("providers[{free}].price"), problem));
    }
    Ok(LlmPolicy {
        providers,
        budgets,
        data: match class.data_policy {
            DataPolicy::MetricsOnly => Data::MetricsOnly,
            DataPolicy::Redacted => Data::Redacted,
            DataPolicy::Full => Data::Full,
        },
        redaction_patterns: class.redaction_patterns.clone(),
    })
}

fn provider(index: usize, spec: &ProviderSpec) -> Result<ProviderPolicy, InvalidSpec> {
    let refuse = |field: &str, problem: &str| invalid(format!("providers[{index}].{field}"), problem);
    if RESERVED.contains(&spec.name.as_str()) {
        return Err(refuse("name", "means something else in decision.chain; choose another"));
    }
    let wire = match spec.kind {
        ProviderKind::OpenAi => Wire::OpenAi,
        ProviderKind::Anthropic => Wire::Anthropic,
        ProviderKind::Gemini => Wire::Gemini,
    };
    if spec.model.trim().is_empty() || spec.model.chars().any(char::is_control) {
        return Err(refuse("model", "is no name of a model"));
    }
    let base = spec.base_url.as_deref().unwrap_or_else(|| wire.public_url());
    let url = endpoint::base_url(base, spec.allow_plain_http).map_err(|problem| refuse("baseURL", &problem))?;
    if spec.tls.is_some() && url.scheme() != "https" {
        return Err(refuse("tls", "needs a baseURL that starts with https://"));
    }
    if let Some(proxy) = &spec.proxy {
        // Nothing in the clear goes over it but what goes in the clear anyway.
        endpoint::base_url(proxy, true).map_err(|problem| refuse("proxy", &problem))?;
    }
    let timeout = duration(&format!("providers[{index}].timeout"), &spec.timeout)?;
    if timeout < TIMEOUTS.0 || timeout > TIMEOUTS.1 {
        return Err(refuse("timeout", "must lie between 100ms and 60s"));
    }
    let price = spec.price.as_ref().map(|price| {
        let micros = |field: &str, text: &str| micros(text).ok_or_else(|| refuse(field, "is no price such as 0.88"));
        Ok(Prices {
            input: micros("price.inputPerMillion", &price.input_per_million)?,
            output: micros("price.outputPerMillion", &price.output_per_million)?,
        })
    });
    Ok(ProviderPolicy {
        name: spec.name.clone(),
        wire,
        model: spec.model.clone(),
        base_url: url.into(),
        api_key: spec.api_key_secret_ref.as_ref().map(secret),
        headers: headers(index, &spec.headers)?,
        authorities: spec.tls.as_ref().map(|tls| secret(&tls.ca_secret_ref)),
        proxy: spec.proxy.clone(),
        timeout,
        retries: u8::try_from(spec.retries)
            .ok()
            .filter(|retries| *retries <= 1)
            .ok_or_else(|| refuse("retries", "must be 0 or 1"))?,
        price: price.transpose()?,
    })
}

fn headers(index: usize, specs: &[HeaderSpec]) -> Result<Vec<(String, HeaderValue)>, InvalidSpec> {
    let one = |(place, spec): (usize, &HeaderSpec)| {
        let refuse = |problem: &str| invalid(format!("providers[{index}].headers[{place}]"), problem);
        let name = spec.name.to_lowercase();
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(refuse("is set by the operator; leave it out"));
        }
        let value = match (&spec.value, &spec.value_secret_ref) {
            (Some(value), None) => HeaderValue::Plain(value.clone()),
            (None, Some(reference)) => HeaderValue::Secret(secret(reference)),
            _ => return Err(refuse("needs exactly one of value and valueSecretRef")),
        };
        Ok((name, value))
    };
    specs.iter().enumerate().map(one).collect()
}

fn secret(reference: &SecretKeyRef) -> SecretKey {
    SecretKey { name: reference.name.clone(), key: reference.key.clone() }
}

fn budgets(spec: &Budgets) -> Result<Limits, InvalidSpec> {
    let count = |field: &str, number: i64| {
        u64::try_from(number).map_err(|_| invalid(format!("budgets.{field}"), "must not be negative"))
    };
    Ok(Limits {
        calls_per_hour: Some(count("callsPerHour", spec.calls_per_hour.into())?),
        calls_per_day: Some(count("callsPerDay", spec.calls_per_day.into())?),
        tokens_per_hour: spec.tokens_per_hour.map(|number| count("tokensPerHour", number)).transpose()?,
        tokens_per_day: spec.tokens_per_day.map(|number| count("tokensPerDay", number)).transpose()?,
        spend_per_day: spec
            .spend_per_day
            .as_deref()
            .map(|text| {
                micros(text).ok_or_else(|| invalid("budgets.spendPerDay", "is no amount of money such as 2.50"))
            })
            .transpose()?,
    })
}

/// Millionths, from a decimal number with six places at most. Exactly: money is not counted in floats.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    Some(whole * 1_000_000 + part)
}

#[cfg(test)]
#[path = "providers_tests.rs"]
mod tests;
