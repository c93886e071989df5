//! A second opinion by a language model: what is asked, what counts as an answer, and how much it may decide.
//!
//! Role: prompts, replies, the chain of providers, budgets and breakers as pure state. Inputs: evidence, findings and what
//! providers answered. Outputs: what to ask next, or an opinion. Must never import: other rooms, a clock.

pub mod authority;
pub mod breaker;
pub mod budget;
pub mod chain;
pub mod endpoint;
pub mod prompt;
pub mod provider;
pub mod reply;
pub mod request;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod injection_tests;

use std::fmt;
use std::time::Duration;

/// How an endpoint is made to answer in JSON, best first; an endpoint that refuses one is asked by the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The server holds the model to the schema.
    JsonSchema,
    /// The server holds the model to JSON; the schema stands in the prompt.
    JsonObject,
    /// Nothing is promised; the first balanced object counts.
    Text,
}

/// Why a provider gave no opinion. None of these is an opinion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came in time.
    Timeout,
    /// Nobody listens, or the name does not resolve.
    Unreachable,
    /// The certificate does not convince.
    Tls,
    /// 401 or 403: the key is wrong or missing.
    Unauthorized,
    /// 404, or the server's word that it does not know the model.
    UnknownModel,
    /// 429, and when to come back.
    RateLimited(Option<Duration>),
    /// 5xx.
    Server(u16),
    /// Another refusal of the request.
    Refused(u16),
    /// It wants the request somewhere else; the key does not go there.
    Redirected,
    /// More bytes than an answer may have.
    TooLarge,
    /// The answer was cut off at the token limit.
    Truncated,
    /// The model declined to answer.
    Declined,
    /// Nothing is in it.
    Empty,
    /// What came is not the reply that was asked for.
    Unreadable,
    /// It can be read, and means nothing: out of range, an id that was not given, an unknown word.
    Invalid,
    /// The breaker is open after failures in a row.
    BreakerOpen,
    /// A budget of the class, or the calls of the rollout, are used up.
    BudgetExhausted,
    /// What would be sent could not be made safe.
    NotSendable,
}

impl Failure {
    /// The word in records, status and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Unauthorized => "unauthorized",
            Self::UnknownModel => "unknown_model",
            Self::RateLimited(_) => "rate_limited",
            Self::Server(_) => "server_error",
            Self::Refused(_) => "refused",
            Self::Redirected => "redirected",
            Self::TooLarge => "too_large",
            Self::Truncated => "truncated",
            Self::Declined => "declined",
            Self::Empty => "empty",
            Self::Unreadable => "unreadable",
            Self::Invalid => "invalid",
            Self::BreakerOpen => "breaker_open",
            Self::BudgetExhausted => "budget_exhausted",
            Self::NotSendable => "not_sendable",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Tokens of one call, as the provider counts them; zero where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub input: u64,
    /// Of the reply.
    pub output: u64,
}

/// What a provider said, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The reply's text.
    pub text: String,
    /// How it was asked.
    pub rung: Rung,
    /// What it cost.
    pub usage: Usage,
}
