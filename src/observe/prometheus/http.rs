//! The HTTP side: bounded answers, no redirects, warnings are no values.
//!
//! Role: one query out, one checked body back. Inputs: a configuration, query text. Outputs: bytes of the `data` that
//! Prometheus answered, or a `SourceError`. Must never import: other rooms.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_http_query::{Client, Error as QueryError};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::{QueryObserver, SourceConfig};

/// Longest text of the server that is kept.
const MAX_TEXT: usize = 300;

/// Why Prometheus gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The URL, a header or a certificate cannot be used.
    #[error("cannot use {0}")]
    Config(&'static str),
    /// No connection.
    #[error("prometheus cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("prometheus did not answer in time")]
    Timeout,
    /// Refused or failed.
    #[error("prometheus answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The answer is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Not what Prometheus answers.
    #[error("the answer is not one of the prometheus api: {0}")]
    NotPrometheus(String),
    /// Perhaps only a part of the data.
    #[error("prometheus warns that the answer may be incomplete: {0}")]
    Warnings(String),
}

impl SourceError {
    /// The word for metric labels.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused { .. } => "refused",
            Self::TooLarge(_) => "too_large",
            Self::NotPrometheus(_) => "not_prometheus",
            Self::Warnings(_) => "warnings",
        }
    }
}

/// A bounded client of one Prometheus.
pub(super) struct Http {
    client: Client,
    limit: usize,
    permits: Semaphore,
    observer: Arc<dyn QueryObserver>,
}

/// The frame of every answer.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    status: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
}

impl Http {
    pub(super) fn new(config: &SourceConfig, observer: Arc<dyn QueryObserver>) -> Result<Self, SourceError> {
        let url = url::Url::parse(&config.url).map_err(|_| SourceError::Config("the url"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(SourceError::Config("the url"));
        }
        let client = build(config, url.scheme() == "https")?;
        let client = Client::from(client, &config.url).map_err(|_| SourceError::Config("the url"))?;
        let permits = Semaphore::new(config.concurrency.max(1));
        Ok(Self { client, limit: config.body_limit, permits, observer })
    }

    /// A range query; returns the `data` of the answer as JSON.
    pub(super) async fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Vec<u8>, SourceError> {
        let step = f64::from(i32::try_from(step).unwrap_or(i32::MAX));
        self.ask(self.client.query_range(query, start, end, step).post_raw()).await
    }

    /// The label sets of series; `selector` is rendered by the domain.
    pub(super) async fn series(
        &self,
        selector: &crate::domain::signal::Selector,
        start: i64,
        end: i64,
    ) -> Result<Vec<u8>, SourceError> {
        use crate::domain::signal::Operator;
        let mut ours = prometheus_http_query::Selector::new();
        // The client library does not escape values.
        let escaped: Vec<String> =
            selector.matchers().iter().map(|m| m.value.replace('\\', "\\\\").replace('"', "\\\"")).collect();
        for (matcher, value) in selector.matchers().iter().zip(&escaped) {
            ours = match matcher.operator {
                Operator::Equal => ours.eq(&matcher.label, value),
                Operator::NotEqual => ours.ne(&matcher.label, value),
                Operator::Matches => ours.regex_eq(&matcher.label, value),
                Operator::NotMatches => ours.regex_ne(&matcher.label, value),
            };
        }
        let builder = self.client.series([&ours]).map_err(|_| SourceError::Config("the selector"))?;
        self.ask(builder.start(start).end(end).get_raw()).await
    }

    pub(super) async fn probe(&self) -> Result<Duration, SourceError> {
        let start = Instant::now();
        self.ask(self.client.query("vector(1)").post_raw()).await.map(|_| start.elapsed())
    }

    async fn ask(
        &self,
        request: impl Future<Output = Result<reqwest::Response, QueryError>>,
    ) -> Result<Vec<u8>, SourceError> {
        let _permit = self.permits.acquire().await.map_err(|_| SourceError::Unreachable("shutting down".to_owned()))?;
        let start = Instant::now();
        let answer = self.answer(request).await;
        let outcome = answer.as_ref().map_or_else(SourceError::category, |_| "success");
        self.observer.queried(outcome, start.elapsed());
        answer
    }

    async fn answer(
        &self,
        request: impl Future<Output = Result<reqwest::Response, QueryError>>,
    ) -> Result<Vec<u8>, SourceError> {
        let mut response = request.await.map_err(|error| sending(&error))?;
        let status = response.status();
        let mut body: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
            if body.len() + chunk.len() > self.limit {
                return Err(SourceError::TooLarge(self.limit));
            }
            body.extend_from_slice(&chunk);
        }
        let parsed: Result<Envelope<'_>, _> = serde_json::from_slice(&body);
        if !status.is_success() {
            let text = parsed.ok().and_then(|envelope| envelope.error).unwrap_or_else(|| "no explanation".to_owned());
            return Err(SourceError::Refused { status: status.as_u16(), text: short(&text) });
        }
        let envelope = parsed.map_err(|_| SourceError::NotPrometheus("it is not its json".to_owned()))?;
        if let Some(warnings) = envelope.warnings.filter(|warnings| !warnings.is_empty()) {
            return Err(SourceError::Warnings(short(&warnings.join("; "))));
        }
        match (envelope.status.as_str(), envelope.data) {
            ("success", Some(data)) => Ok(data.get().as_bytes().to_vec()),
            ("error", _) => {
                Err(SourceError::Refused { status: status.as_u16(), text: short(&envelope.error.unwrap_or_default()) })
            }
            _ => Err(SourceError::NotPrometheus("it has no status or no data".to_owned())),
        }
    }
}

fn build(config: &SourceConfig, tls: bool) -> Result<reqwest::Client, SourceError> {
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: &str| {
        let mut value = HeaderValue::from_str(value).map_err(|_| SourceError::Config("a header's value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
        Ok(())
    };
    if let Some(token) = &config.bearer {
        add(AUTHORIZATION, &format!("Bearer {}", token.expose_secret()))?;
    }
    for (name, value) in &config.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| SourceError::Config("a header's name"))?;
        add(name, value.expose_secret())?;
    }
    let pem = config.ca_pem.as_deref().unwrap_or_default();
    let certificates =
        reqwest::Certificate::from_pem_bundle(pem).map_err(|_| SourceError::Config("the ca certificate"))?;
    if config.ca_pem.is_some() && certificates.is_empty() {
        return Err(SourceError::Config("the ca certificate"));
    }
    let identity = match &config.identity_pem {
        Some(pem) => {
            let identity = reqwest::Identity::from_pem(pem.expose_secret().as_bytes());
            Some(identity.map_err(|_| SourceError::Config("the client certificate"))?)
        }
        None => None,
    };
    let builder = || {
        let builder = reqwest::Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers.clone());
        match &identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        }
    };
    if tls
        && config.ca_pem.is_none()
        && let Ok(client) = builder().build()
    {
        return Ok(client);
    }
    // With a CA of the class, over plain HTTP, and where the system has no CAs at all.
    builder().tls_certs_only(certificates).build().map_err(|_| SourceError::Config("the tls settings"))
}

fn sending(error: &QueryError) -> SourceError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<reqwest::Error>() {
            return transport(inner);
        }
        source = inner.source();
    }
    SourceError::Unreachable("the request could not be sent".to_owned())
}

/// The innermost cause says most, and never holds the URL with its credentials.
fn transport(error: &reqwest::Error) -> SourceError {
    if error.is_timeout() {
        return SourceError::Timeout;
    }
    let mut cause = "no connection".to_owned();
    let mut source = error.source();
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    SourceError::Unreachable(short(&cause))
}

fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
