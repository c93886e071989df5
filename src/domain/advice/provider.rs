//! Providers of language models as a class describes them, and what a guard wants of them, parsed once.
//!
//! Role: the validated form; which wire format, where, for how much. Inputs: none (built by `api::providers`). Outputs:
//! plain data that names Secrets and holds none. Must never import: other rooms.

use std::time::Duration;

use super::Rung;
use super::authority::Authority;
use super::budget::{Limits, Price};
use super::prompt::DataPolicy;

/// The format in which a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wire {
    /// Chat completions, which most servers speak.
    OpenAi,
    /// Messages.
    Anthropic,
    /// `generateContent`.
    Gemini,
}

impl Wire {
    /// The word in a class.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Where the provider that gave the format its name is found.
    #[must_use]
    pub const fn public_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
        }
    }

    /// The ways in which it can be made to answer in JSON, best first.
    #[must_use]
    pub const fn rungs(self) -> &'static [Rung] {
        match self {
            Self::OpenAi | Self::Gemini => &[Rung::JsonSchema, Rung::JsonObject, Rung::Text],
            // A tool that must be called holds the model to its schema; there is no JSON without one.
            Self::Anthropic => &[Rung::JsonSchema, Rung::Text],
        }
    }
}

/// One key of a Secret in the operator's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key in it.
    pub key: String,
}

/// What a header is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// As it stands in the class.
    Plain(String),
    /// What the Secret says.
    Secret(SecretKey),
}

impl HeaderValue {
    /// Whether everybody may read it.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderPolicy {
    /// Its name; guards order their chain by it.
    pub name: String,
    /// How it is spoken to.
    pub wire: Wire,
    /// The model that is asked.
    pub model: String,
    /// Where it is: an absolute URL without credentials.
    pub base_url: String,
    /// What proves who asks.
    pub api_key: Option<SecretKey>,
    /// Headers besides.
    pub headers: Vec<(String, HeaderValue)>,
    /// Certificate authorities to trust instead of the system's.
    pub authorities: Option<SecretKey>,
    /// An HTTP proxy on the way.
    pub proxy: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// How often a call is repeated after 429 or 5xx.
    pub retries: u8,
    /// What it costs; `None` if nobody said.
    pub price: Option<Price>,
}

/// The language models of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmPolicy {
    /// In the order of the class.
    pub providers: Vec<ProviderPolicy>,
    /// What all of them may cost.
    pub budgets: Limits,
    /// What may leave the cluster.
    pub data: DataPolicy,
    /// What is taken out besides, as regular expressions that compile.
    pub redaction_patterns: Vec<String>,
}

/// Who is asked for a second opinion, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionPolicy {
    /// Names of providers in the order in which they are asked; the algorithm comes after them.
    pub chain: Vec<String>,
    /// How much they may decide.
    pub authority: Authority,
    /// How long all of them together may take.
    pub deadline: Duration,
    /// Calls for one rollout.
    pub max_calls_per_rollout: u32,
}

impl Default for DecisionPolicy {
    /// As the API server fills them in, with a class that has no providers.
    fn default() -> Self {
        Self {
            chain: Vec::new(),
            authority: Authority::TieBreak,
            deadline: Duration::from_secs(8),
            max_calls_per_rollout: 3,
        }
    }
}
