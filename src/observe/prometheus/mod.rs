//! Prometheus, read so that nothing is ever guessed.
//!
//! Role: one range query per measure for every guard that asks at the same time. Inputs: signals, pods, a time range.
//! Outputs: readings; a source that fails is a reading, never an error of the caller. Must never import: other rooms than
//! `domain`, other files of this room.

mod decode;
mod transport;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared, join_all};
use jiff::Timestamp;

use crate::domain::assess::{Measured, MetricReadings, MissingReason, Reading, SignalReading};
use crate::domain::evidence::{PodLife, look_back};
use crate::domain::redact::{Redactor, SERVER_MESSAGE};
use crate::domain::rollout::PodName;
use crate::domain::signal::{Measure, Preset, Query, Signal, Source, Term, discovery_selector, resolve_http_generic};

pub use transport::{QueryObserver, SourceConfig, SourceError};
use transport::{Series, Transport};

/// Series are looked for on this many pods of a workload; they are alike.
const DISCOVERY_PODS: usize = 4;
/// A missing series is looked for again after this time.
const DISCOVER_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(15);
/// The longest stretch that is read at once; more is missed evidence.
const LONGEST: Duration = Duration::from_secs(3600);
/// The coarsest grid.
const COARSEST: Duration = Duration::from_secs(15);
/// A scrape that has just begun is not in the store yet.
const SETTLE: Duration = Duration::from_millis(500);

/// What one guard wants to know.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Names the guard and its rollout, for what was resolved.
    pub key: String,
    /// The signals.
    pub signals: Vec<Signal>,
    /// The pods of both sides.
    pub lives: Vec<PodLife>,
    /// From where; a look-back is added.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Distance of the points on the grid, 1 s to 15 s.
    pub resolution: Duration,
}

type Answer = Result<Vec<Series>, SourceError>;
type Pending = Shared<BoxFuture<'static, Arc<Answer>>>;

/// Questions that wait for others like them.
#[derive(Default)]
struct Board {
    groups: HashMap<GroupKey, Group>,
}

struct Group {
    pods: Arc<Mutex<Vec<PodName>>>,
    answer: Pending,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct GroupKey {
    measure: String,
    grid: Grid,
}

/// Points in time at which everything is read, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Grid {
    start: i64,
    end: i64,
    step: i64,
}

impl Grid {
    /// The same for all guards that ask at about the same time for about the same stretch, so that they share a query.
    fn new(since: Timestamp, until: Timestamp, resolution: Duration) -> Self {
        let step = i64::try_from(resolution.min(COARSEST).as_secs()).unwrap_or(1).max(1);
        let until = until.checked_sub(SETTLE).unwrap_or(until).as_second();
        let end = until - until.rem_euclid(step);
        let back = i64::try_from(look_back(resolution.min(COARSEST)).as_secs()).unwrap_or(60);
        let longest = i64::try_from(LONGEST.as_secs()).unwrap_or(3600);
        let wanted = (end - since.as_second() + back).clamp(60, longest);
        let mut span = 60;
        while span < wanted {
            span *= 2;
        }
        let span = span.min(longest);
        Self { start: end - (span - span.rem_euclid(step)), end, step }
    }
}

#[derive(Debug, Clone)]
struct Known {
    errors: Result<Measure, MissingReason>,
    latency: Result<Measure, MissingReason>,
    looked: Timestamp,
}

/// One Prometheus.
pub struct PrometheusSource {
    transport: Arc<Transport>,
    redactor: Redactor,
    board: Arc<Mutex<Board>>,
    resolved: Mutex<HashMap<String, Known>>,
}

impl PrometheusSource {
    /// A source with these settings.
    ///
    /// # Errors
    /// If the address or a certificate cannot be used.
    pub fn new(config: SourceConfig, observer: Arc<dyn QueryObserver>) -> Result<Self, SourceError> {
        Ok(Self {
            transport: Arc::new(Transport::new(config, observer)?),
            redactor: Redactor::new(),
            board: Arc::default(),
            resolved: Mutex::default(),
        })
    }

    /// Whether it answers at all, and how fast.
    ///
    /// # Errors
    /// If it does not.
    pub async fn probe(&self) -> Result<Duration, SourceError> {
        let started = std::time::Instant::now();
        self.transport.instant("vector(1)").await?;
        Ok(started.elapsed())
    }

    /// Reads every signal. What cannot be read is a reading, too.
    pub async fn read(&self, request: ReadRequest) -> MetricReadings {
        let pods: Vec<PodName> = request.lives.iter().map(|life| life.pod.clone()).collect();
        let grid = Grid::new(request.since, request.until, request.resolution);
        let mut planned = Vec::new();
        for signal in &request.signals {
            planned.extend(self.plan(signal, &request, &pods).await);
        }
        let reads = planned.into_iter().map(|(name, measure)| self.one(name, measure, &pods, grid));
        MetricReadings { signals: join_all(reads).await }
    }

    /// The measures behind a signal.
    async fn plan(&self, signal: &Signal, request: &ReadRequest, pods: &[PodName]) -> Vec<(String, Reading<Measure>)> {
        let names = signal.full_names();
        if let Source::Preset(Preset::HttpGeneric) = signal.source {
            let known = self.discover(request, pods).await;
            return names
                .into_iter()
                .map(|name| {
                    let measure = match (&known, Term::of(&name)) {
                        (Err(text), _) => Reading::Errored(text.clone()),
                        (Ok(known), Some(Term::Errors)) => found(&known.errors),
                        (Ok(known), _) => found(&known.latency),
                    };
                    (name, measure)
                })
                .collect();
        }
        let measure = signal.measure().map_or(Reading::Missing(MissingReason::NotMeasured), Reading::Value);
        names.into_iter().map(|name| (name, measure.clone())).collect()
    }

    async fn discover(&self, request: &ReadRequest, pods: &[PodName]) -> Result<Known, String> {
        if pods.is_empty() {
            let missing = || Err(MissingReason::NoPods);
            return Ok(Known { errors: missing(), latency: missing(), looked: request.until });
        }
        if let Some(known) = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).get(&request.key) {
            let complete = known.errors.is_ok() && known.latency.is_ok();
            if complete || request.until.duration_since(known.looked) < DISCOVER_AGAIN {
                return Ok(known.clone());
            }
        }
        let few: Vec<PodName> = pods.iter().take(DISCOVERY_PODS).cloned().collect();
        let series = self.transport.instant(&discovery_selector(&few).to_string()).await.map_err(|e| self.text(&e))?;
        let labels: Vec<BTreeMap<String, String>> = series.into_iter().map(|series| series.labels).collect();
        let found = resolve_http_generic(&labels);
        let known = Known { errors: found.errors, latency: found.latency, looked: request.until };
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.insert(request.key.clone(), known.clone());
        Ok(known)
    }

    /// Forgets what was resolved for a guard's rollout.
    pub fn forget(&self, key: &str) {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    async fn one(&self, name: String, measure: Reading<Measure>, pods: &[PodName], grid: Grid) -> SignalReading {
        let term = Term::of(&name);
        let (query, reading) = match measure {
            Reading::Value(measure) if pods.is_empty() => (measure.key(), Reading::Missing(MissingReason::NoPods)),
            Reading::Value(measure) => {
                let answer = self.ask(&measure, pods, grid).await;
                let reading = match &*answer {
                    Ok(series) => match decode::measured(&measure, series, pods) {
                        Ok(Some(measured)) => Reading::Value(measured),
                        Ok(None) => Reading::Missing(MissingReason::NoSeries),
                        Err(text) => Reading::Errored(text),
                    },
                    Err(error) => Reading::Errored(self.text(error)),
                };
                (measure.key(), reading)
            }
            Reading::Missing(reason) => (String::new(), Reading::<Measured>::Missing(reason)),
            Reading::Errored(text) => (String::new(), Reading::Errored(text)),
        };
        SignalReading { name, term, query, reading }
    }

    /// Joins others who ask the same, or begins a group that waits a moment for them.
    async fn ask(&self, measure: &Measure, pods: &[PodName], grid: Grid) -> Arc<Answer> {
        let key = GroupKey { measure: measure.key(), grid };
        let answer = {
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            let group = board.groups.entry(key.clone()).or_insert_with(|| {
                let wanted = Arc::new(Mutex::new(Vec::new()));
                let answer = answer(self.transport.clone(), self.board.clone(), key, measure.clone(), wanted.clone());
                Group { pods: wanted, answer: answer.boxed().shared() }
            });
            group.pods.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(pods);
            group.answer.clone()
        };
        answer.await
    }

    fn text(&self, error: &SourceError) -> String {
        self.redactor.redact(&error.to_string(), SERVER_MESSAGE).as_str().to_owned()
    }
}

fn found(measure: &Result<Measure, MissingReason>) -> Reading<Measure> {
    match measure {
        Ok(measure) => Reading::Value(measure.clone()),
        Err(reason) => Reading::Missing(*reason),
    }
}

async fn answer(
    transport: Arc<Transport>,
    board: Arc<Mutex<Board>>,
    key: GroupKey,
    measure: Measure,
    pods: Arc<Mutex<Vec<PodName>>>,
) -> Arc<Answer> {
    tokio::time::sleep(transport.collect()).await;
    // Whoever comes from now on begins a group of their own.
    board.lock().unwrap_or_else(PoisonError::into_inner).groups.remove(&key);
    let mut pods = std::mem::take(&mut *pods.lock().unwrap_or_else(PoisonError::into_inner));
    pods.sort_unstable();
    pods.dedup();
    let Grid { start, end, step } = key.grid;
    let chunks = pods.chunks(transport.chunk()).map(|chunk| {
        let query = Query::new(&measure, chunk);
        let transport = transport.clone();
        async move { transport.range(query.as_str(), start, end, step).await }
    });
    let mut all = Vec::new();
    for part in join_all(chunks).await {
        match part {
            Ok(series) => all.extend(series),
            Err(error) => return Arc::new(Err(error)),
        }
    }
    Arc::new(Ok(all))
}
