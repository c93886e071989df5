//! The HTTP side: time-outs, limits, warnings, errors told apart.
//!
//! Role: sends queries through `prometheus-http-query` and reads the raw answer, because the crate drops warnings. Inputs:
//! PromQL. Outputs: series, or why not. Must never import: other rooms than `domain`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use prometheus_http_query::{Client, Error};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;

/// Queries side by side.
const CONCURRENCY: usize = 4;

/// Told of every query.
pub trait QueryObserver: Send + Sync {
    /// A query ended after this time.
    fn queried(&self, outcome: &'static str, took: Duration);
}

/// How to reach a Prometheus.
pub struct SourceConfig {
    /// Base URL.
    pub url: String,
    /// How long one query may take.
    pub timeout: Duration,
    /// Certificate authorities to trust instead of the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Bearer token.
    pub bearer: Option<SecretString>,
    /// Pods per query.
    pub chunk: usize,
    /// How long a question waits for others like it.
    pub collect: Duration,
    /// Largest answer in bytes.
    pub body_limit: usize,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout: Duration::from_secs(10),
            ca_pem: None,
            bearer: None,
            chunk: 2_000,
            collect: Duration::from_millis(200),
            body_limit: 32 << 20,
        }
    }
}

/// Why a source did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// Nobody answers there.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An HTTP error, with what Prometheus said about it.
    #[error("answered {code}: {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Its message.
        message: String,
    },
    /// Something that is no answer of Prometheus.
    #[error("answered something that is not Prometheus' JSON: {0}")]
    Unreadable(String),
    /// More than can be taken.
    #[error("answered more than {0} bytes")]
    TooLarge(usize),
    /// The answer is not complete.
    #[error("answered with a warning, so the answer may be incomplete: {0}")]
    Incomplete(String),
}

impl SourceError {
    /// The error's class, for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timeout",
            Self::Refused { .. } => "refused",
            Self::Unreadable(_) => "unreadable",
            Self::TooLarge(_) => "too_large",
            Self::Incomplete(_) => "incomplete",
        }
    }
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Evaluation times in seconds and values.
    pub points: Vec<(i64, f64)>,
}

/// The way to one Prometheus.
pub struct Transport {
    client: Client,
    timeout: Duration,
    chunk: usize,
    collect: Duration,
    body_limit: usize,
    gate: Semaphore,
    observer: Arc<dyn QueryObserver>,
}

#[derive(Deserialize)]
struct Body {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    result: serde_json::Value,
    #[serde(rename = "resultType")]
    result_type: String,
}

#[derive(Deserialize)]
struct Raw {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    histograms: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    histogram: Option<serde::de::IgnoredAny>,
}

impl Transport {
    /// A way with these settings.
    pub fn new(config: SourceConfig, observer: Arc<dyn QueryObserver>) -> Result<Self, SourceError> {
        let settings = |error: &dyn std::fmt::Display| SourceError::Settings(error.to_string());
        let mut headers = HeaderMap::new();
        if let Some(token) = &config.bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                .map_err(|_| SourceError::Settings("the bearer token has characters that a header cannot hold".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout)
            // A redirect could lead the token to another host.
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers);
        if let Some(pem) = &config.ca_pem {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| settings(&error))?;
            if roots.is_empty() {
                return Err(SourceError::Settings("the CA bundle holds no certificate".into()));
            }
            builder = builder.tls_certs_only(roots);
        } else if config.url.starts_with("http://") {
            // Without a system bundle the builder would fail, though no certificate is needed.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| settings(&error))?;
        let client = Client::from(http, &config.url).map_err(|error| settings(&error))?;
        let SourceConfig { timeout, chunk, collect, body_limit, .. } = config;
        Ok(Self { client, timeout, chunk: chunk.max(1), collect, body_limit, gate: Semaphore::new(CONCURRENCY), observer })
    }

    /// Pods per query.
    pub const fn chunk(&self) -> usize {
        self.chunk
    }

    /// How long a question waits for others like it.
    pub const fn collect(&self) -> Duration {
        self.collect
    }

    /// Evaluates a query on a grid.
    pub async fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Vec<Series>, SourceError> {
        let step = f64::from(i32::try_from(step).unwrap_or(1));
        self.send(self.client.query_range(query, start, end, step).post_raw()).await
    }

    /// Evaluates a query now.
    pub async fn instant(&self, query: &str) -> Result<Vec<Series>, SourceError> {
        self.send(self.client.query(query).post_raw()).await
    }

    async fn send(
        &self,
        query: impl Future<Output = Result<reqwest::Response, Error>>,
    ) -> Result<Vec<Series>, SourceError> {
        let _slot = self.gate.acquire().await;
        let started = Instant::now();
        let whole = async { read(query.await.map_err(|error| self.unreachable(&error))?, self.body_limit).await };
        let result = match tokio::time::timeout(self.timeout, whole).await {
            Ok(result) => result,
            Err(_) => Err(SourceError::TimedOut(self.timeout)),
        };
        let outcome = result.as_ref().map_or_else(SourceError::category, |_| "ok");
        self.observer.queried(outcome, started.elapsed());
        result
    }

    fn unreachable(&self, error: &Error) -> SourceError {
        let Error::Client(client) = error else { return SourceError::Unreachable(error.to_string()) };
        let Some(inner) = client.inner() else { return SourceError::Unreachable(error.to_string()) };
        if inner.is_timeout() {
            return SourceError::TimedOut(self.timeout);
        }
        // The innermost cause says what a person wants to know: refused, no such host, certificate.
        let mut cause: &dyn std::error::Error = inner;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        SourceError::Unreachable(cause.to_string())
    }
}

async fn read(response: reqwest::Response, limit: usize) -> Result<Vec<Series>, SourceError> {
    let status = response.status();
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| SourceError::Unreadable(error.to_string()))?;
        if bytes.len().saturating_add(part.len()) > limit {
            return Err(SourceError::TooLarge(limit));
        }
        bytes.extend_from_slice(&part);
    }
    let body: Body = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(_) if !status.is_success() => {
            return Err(SourceError::Refused { code: status.as_u16(), message: beginning(&bytes) });
        }
        Err(_) => return Err(SourceError::Unreadable(beginning(&bytes))),
    };
    if body.status != "success" || !status.is_success() {
        let message = body.error.unwrap_or_else(|| "without saying why".into());
        return Err(SourceError::Refused { code: status.as_u16(), message });
    }
    if let Some(warning) = body.warnings.first() {
        return Err(SourceError::Incomplete(warning.clone()));
    }
    let data = body.data.ok_or_else(|| SourceError::Unreadable("success without data".into()))?;
    match data.result_type.as_str() {
        "matrix" | "vector" => {}
        other => return Err(SourceError::Unreadable(format!("a {other} where series were expected"))),
    }
    let raw: Vec<Raw> = serde_json::from_value(data.result).map_err(|e| SourceError::Unreadable(e.to_string()))?;
    raw.into_iter().map(series).collect()
}

fn series(raw: Raw) -> Result<Series, SourceError> {
    if raw.histogram.is_some() || !raw.histograms.is_empty() {
        return Err(SourceError::Unreadable("a native histogram where numbers were expected".into()));
    }
    let points = raw.values.into_iter().chain(raw.value);
    let points = points.map(|(at, value)| {
        let value = value.parse::<f64>().map_err(|_| SourceError::Unreadable(format!("{value:?} is no number")))?;
        let at = jiff::Timestamp::UNIX_EPOCH
            .checked_add(jiff::SignedDuration::try_from_secs_f64(at).unwrap_or_default())
            .map_or(0, |at| at.as_second());
        Ok((at, value))
    });
    Ok(Series { labels: raw.metric, points: points.collect::<Result<_, SourceError>>()? })
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(120).collect()
}
