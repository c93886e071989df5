//! Prometheus: raw counters of many guards in few queries.
//!
//! Role: resolves signals, batches what guards ask at the same time, reads without guessing: whatever is not plainly a
//! value is `Missing` or `Errored`. Inputs: a URL with credentials, read requests. Outputs: `MetricReadings`. Must never
//! import: `act`, `record`, `controller`, `console`.

mod batch;
mod decode;
mod discover;
mod http;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::domain::assess::{Measured, MetricReadings, MissingReason, Reading, SignalReading};
use crate::domain::evidence::{PodLife, look_back};
use crate::domain::policy::Interval;
use crate::domain::rollout::PodName;
use crate::domain::signal::{Measure, Preset, Resolved, Signal, Source, Term};

use batch::{Batcher, Grid};
use discover::Discovery;
use http::Http;
pub use http::SourceError;

/// Distance of grid times where the guard leaves it to us.
const AUTO_RESOLUTION: Duration = Duration::from_secs(5);
/// What lies further back is not read again: after a long time without requests, or without an operator, the rest counts.
const LONGEST: Duration = Duration::from_hours(1);

/// Grid times of one reading of the past; Prometheus itself refuses more than 11,000.
const MOST_POINTS: i64 = 2_000;

/// Where metrics come from.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Base URL, `http` or `https`.
    pub url: String,
    /// How long one query may take, its answer included.
    pub timeout: Duration,
    /// The only CA to trust; the system's if absent.
    pub ca_pem: Option<Vec<u8>>,
    /// Client certificate and key.
    pub identity_pem: Option<SecretString>,
    /// Bearer token.
    pub bearer: Option<SecretString>,
    /// Further headers, such as a tenant.
    pub headers: Vec<(String, SecretString)>,
    /// Most pods of one query.
    pub chunk: usize,
    /// How long requests are collected before they are asked together.
    pub collect: Duration,
    /// Most bytes of one answer.
    pub body_limit: usize,
    /// Most queries at once.
    pub concurrency: usize,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout: Duration::from_secs(10),
            ca_pem: None,
            identity_pem: None,
            bearer: None,
            headers: Vec::new(),
            chunk: 2000,
            collect: Duration::from_millis(200),
            body_limit: 32 << 20,
            concurrency: 4,
        }
    }
}

/// Told about every query.
pub trait QueryObserver: Send + Sync {
    /// One query ended: `success`, or the category of its error.
    fn queried(&self, outcome: &'static str, took: Duration);
}

/// What one guard wants to know.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Its signals.
    pub signals: Vec<Signal>,
    /// The pods of both sides.
    pub lives: Vec<PodLife>,
    /// The close of the last step; the read begins some time before.
    pub since: Timestamp,
    /// Now.
    pub until: Timestamp,
    /// The evaluation interval, which is the grid where it is given.
    pub interval: Interval,
}

/// One Prometheus, as a class describes it. Ends its task when dropped.
pub struct PrometheusSource {
    http: Arc<Http>,
    discovery: Discovery,
    batcher: Batcher,
}

impl PrometheusSource {
    /// A source; must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// If the URL, a header or a certificate cannot be used.
    #[allow(clippy::needless_pass_by_value, reason = "the credentials end with the call")]
    pub fn new(config: SourceConfig, observer: Arc<dyn QueryObserver>) -> Result<Self, SourceError> {
        let http = Arc::new(Http::new(&config, observer)?);
        let batcher = Batcher::start(http.clone(), config.chunk.max(1), config.collect);
        Ok(Self { discovery: Discovery::new(http.clone()), http, batcher })
    }

    /// Asks a trivial question.
    ///
    /// # Errors
    /// If there is no proper answer.
    pub async fn probe(&self) -> Result<Duration, SourceError> {
        self.http.probe().await
    }

    /// Reads every signal; what fails is an entry of the answer.
    pub async fn read(&self, request: ReadRequest) -> MetricReadings {
        let grid = grid(&request);
        self.read_grid(&request, grid).await
    }

    /// Reads a stretch of the past, at most [`MOST_POINTS`] grid times of it, `resolution` apart.
    pub async fn read_past(&self, request: ReadRequest, resolution: Duration) -> MetricReadings {
        let step = i64::try_from(resolution.as_secs()).unwrap_or(i64::MAX).clamp(1, 86_400);
        let end = request.until.as_second().div_euclid(step) * step;
        let start = request.since.as_second().div_euclid(step) * step;
        let grid = Grid { start: start.clamp(end - step * MOST_POINTS, end), end, step };
        self.read_grid(&request, grid).await
    }

    /// The pods whose names begin with one of these words and that had series of one of the signals in that time, also
    /// those that are gone: the API server knows only what still exists.
    ///
    /// # Errors
    /// If Prometheus does not answer.
    pub async fn pods_named(
        &self,
        request: &ReadRequest,
        namespace: &str,
        prefixes: &[String],
    ) -> Result<Vec<PodName>, SourceError> {
        let (start, end) = (request.since.as_second(), request.until.as_second());
        self.discovery.pods_named(&request.signals, namespace, prefixes, start, end).await
    }

    /// What each signal of a request resolves to, without reading it.
    pub async fn resolve(&self, request: &ReadRequest) -> Vec<Wanted> {
        self.wanted(request, &grid(request)).await
    }

    async fn wanted(&self, request: &ReadRequest, grid: &Grid) -> Vec<Wanted> {
        let nobody = !request.lives.iter().any(|life| life.side.is_some());
        let mut wanted = Vec::new();
        for signal in &request.signals {
            if let Source::Proxied { preset, service } = &signal.source {
                wanted.extend(self.wanted_of_proxies(signal, (*preset, service), request, grid).await);
                continue;
            }
            match (signal.measure(), signal.preset()) {
                (Some(measure), preset) => {
                    let origin = preset.map(|preset| preset.to_string()).unwrap_or_default();
                    wanted.extend(signal.full_names().into_iter().map(|name| Wanted {
                        name,
                        origin: origin.clone(),
                        measure: Reading::Value(measure.clone()),
                    }));
                }
                (None, Some(preset)) if !nobody => {
                    let resolved = self.discovery.resolve(preset, &request.lives, grid).await;
                    wanted.extend(signal.full_names().into_iter().map(|name| Wanted::of(name, preset, &resolved)));
                }
                (None, _) => wanted.extend(signal.full_names().into_iter().map(|name| Wanted {
                    name,
                    origin: String::new(),
                    measure: Reading::Missing(MissingReason::NoPods),
                })),
            }
        }
        wanted
    }

    /// A signal that a proxy counts; the pods only say in which namespace.
    async fn wanted_of_proxies(
        &self,
        signal: &Signal,
        (preset, service): (Preset, &str),
        request: &ReadRequest,
        grid: &Grid,
    ) -> Vec<Wanted> {
        let Some(namespace) = request.lives.first().map(|life| &*life.pod.namespace) else {
            let none = |name| Wanted { name, origin: String::new(), measure: Reading::Missing(MissingReason::NoPods) };
            return signal.full_names().into_iter().map(none).collect();
        };
        let resolved = self.discovery.resolve_proxied(preset, (namespace, service), grid).await;
        let names = signal.full_names().into_iter();
        names
            .map(|name| {
                let found = Wanted::of(name, preset, &resolved);
                let origin =
                    format!("{preset} of {service}: what the proxy counts for all pods of the Service together");
                Wanted { origin: if found.origin.is_empty() { String::new() } else { origin }, ..found }
            })
            .collect()
    }

    async fn read_grid(&self, request: &ReadRequest, grid: Grid) -> MetricReadings {
        let pods: Arc<BTreeSet<PodName>> =
            Arc::new(request.lives.iter().filter(|life| life.side.is_some()).map(|life| life.pod.clone()).collect());
        let wanted = self.wanted(request, &grid).await;
        let reads = wanted.into_iter().map(|wanted| self.read_one(wanted, pods.clone(), grid));
        MetricReadings { signals: futures::future::join_all(reads).await }
    }

    async fn read_one(&self, wanted: Wanted, pods: Arc<BTreeSet<PodName>>, grid: Grid) -> SignalReading {
        let Wanted { name, origin, measure } = wanted;
        let query = measure.value().map(Measure::key).unwrap_or_default();
        let reading: Reading<Measured> = match measure {
            Reading::Value(measure) if measure.is_proxied() => {
                // Asked once, for whoever asks the same.
                let once = Arc::new(BTreeSet::from([PodName::new("", "")]));
                self.batcher.read(measure, once, grid).await
            }
            Reading::Value(_) if pods.is_empty() => Reading::Missing(MissingReason::NoPods),
            Reading::Value(measure) => self.batcher.read(measure, pods, grid).await,
            Reading::Missing(reason) => Reading::Missing(reason),
            Reading::Errored(text) => Reading::Errored(text),
        };
        SignalReading { term: Term::of(&name), name, origin, query, reading }
    }
}

/// One signal, and what it resolved to.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The full name.
    pub name: String,
    /// The preset it comes from, and why that one; empty if it comes from none.
    pub origin: String,
    /// What is asked, or why nothing is.
    pub measure: Reading<Measure>,
}

impl Wanted {
    fn of(name: String, preset: Preset, resolved: &Result<Resolved, SourceError>) -> Self {
        let found = match resolved {
            Err(error) => {
                return Self { name, origin: String::new(), measure: Reading::Errored(error.to_string()) };
            }
            Ok(resolved) if Term::of(&name) == Some(Term::Latency) => &resolved.latency,
            Ok(resolved) => &resolved.errors,
        };
        match found {
            Ok(found) => Self { name, origin: found.sentence(preset), measure: Reading::Value(found.measure.clone()) },
            Err(reason) => Self { name, origin: String::new(), measure: Reading::Missing(*reason) },
        }
    }
}

/// Grid times are whole multiples of the resolution, so that every read of a rollout sees the same ones.
fn grid(request: &ReadRequest) -> Grid {
    let (least, most) = Interval::AUTO_RANGE;
    let resolution = match request.interval {
        Interval::Auto => AUTO_RESOLUTION,
        Interval::Every(every) => every.clamp(least, most),
    };
    let step = i64::try_from(resolution.as_secs()).unwrap_or(1).max(1);
    let floor = |time: Timestamp| time.as_second().div_euclid(step) * step;
    let earliest = request.until.checked_sub(LONGEST).unwrap_or(request.since);
    let since = request.since.max(earliest);
    let from = since.checked_sub(look_back(resolution)).unwrap_or(since);
    let (start, end) = (floor(from), floor(request.until));
    Grid { start: start.min(end), end, step }
}

#[cfg(test)]
mod grid_tests {
    use super::*;

    fn request(since: i64, until: i64, interval: Interval) -> ReadRequest {
        let at = |second| Timestamp::from_second(second).unwrap();
        ReadRequest { signals: Vec::new(), lives: Vec::new(), since: at(since), until: at(until), interval }
    }

    #[test]
    fn what_lies_an_hour_back_is_not_read_again() {
        let grid = grid(&request(0, 100_000, Interval::Every(Duration::from_secs(5))));
        assert_eq!(grid.end, 100_000);
        assert_eq!(grid.start, 100_000 - 3600 - 60);
    }

    #[test]
    fn times_are_multiples_of_the_step_and_in_order() {
        for (since, until) in [(1003, 1009), (1009, 1003), (0, 7)] {
            let grid = grid(&request(since, until, Interval::Auto));
            assert!(grid.start <= grid.end);
            assert_eq!((grid.start.rem_euclid(grid.step), grid.end.rem_euclid(grid.step)), (0, 0));
        }
    }
}
