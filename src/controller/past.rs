//! What the old revision did before a rollout, read once.
//!
//! Role: the shortest of 30 minutes, 2 hours and a day with enough bad events; the old revision's own start; pods that are
//! gone. Inputs: a case, the old pods. Outputs: `Past`, or nothing while Prometheus cannot answer. Must never import:
//! `cli`, `console`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::memory::Past;
use crate::domain::assess::{self, Measured, MetricReadings, share_of_limit};
use crate::domain::evidence::{Counters, GaugePoint, PodLife, bin, scrape_interval};
use crate::domain::judge::{History, MAX_HISTORY_STEPS, SignalHistory};
use crate::domain::policy::{Interval, Policy};
use crate::domain::process::Counts;
use crate::domain::rollout::{PodName, Side};
use crate::domain::signal::{Demands, Selector, Signal, SignalName, Source, Term};
use crate::observe::prometheus::{PrometheusSource, ReadRequest, SourceError};

/// How far back is looked, until there are enough bad events.
const REACHES: [Duration; 3] = [Duration::from_mins(30), Duration::from_hours(2), Duration::from_hours(24)];
/// Bad events that are enough.
const ENOUGH_BAD: u64 = 100;
/// How long a signal that cannot be read is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// How much of the recent past is read as finely as possible, to see the scrape interval.
const FINE: Duration = Duration::from_mins(2);

/// Reads the past of the old pods before `before`; `Err` says why it cannot be read now.
///
/// # Errors
/// If a signal could not be read: the next look tries again.
pub async fn read(
    source: &PrometheusSource,
    policy: &Policy,
    old: &[PodLife],
    (before, now): (Timestamp, Timestamp),
) -> Result<Past, String> {
    let patient = is_awaited(before, now);
    let reader = Reader { source, policy, old, before, patient };
    let scrape = reader.scrape().await?;
    let finest = scrape.unwrap_or(Interval::AUTO_RANGE.1).max(Duration::from_secs(1));
    let mut found: Option<(MetricReadings, Duration, Duration)> = None;
    for reach in REACHES {
        let even = reach.div_f64(1440.0).as_secs().max(1);
        let resolution = finest.max(Duration::from_secs(even));
        let readings = reader.stretch(reach, resolution).await?;
        let enough = reader.history(&readings, reach, resolution).signals.iter().all(enough_bad);
        // Looking further back would read the same again, only coarser.
        let all = !readings.signals.iter().any(|signal| reaches_back(signal.reading.value(), before, reach));
        found = Some((readings, reach, resolution));
        if enough || all {
            break;
        }
    }
    let Some((readings, reach, resolution)) = found else { return Ok(Past::default()) };
    let mut history = reader.history(&readings, reach, resolution);
    // Read as finely as what there is allows: coarse steps of a short past are soon used up.
    let first = readings.signals.iter().filter_map(|signal| first_sample(counters(signal.reading.value()?)?)).min();
    let span = first.and_then(|first| Duration::try_from(before.duration_since(first)).ok());
    if let Some(span) = span.filter(|span| span.mul_f64(1.5) < reach && resolution > finest) {
        let finer = finest.max(Duration::from_secs(span.div_f64(1440.0).as_secs() + 1));
        history = reader.history(&reader.stretch(span, finer).await?, span, finer);
    }
    let step = policy.analysis.interval.resolve(scrape).max(scrape.unwrap_or_default()).as_secs_f64();
    for signal in &mut history.signals {
        signal.longer = signal.longer.map(|seconds| seconds / step);
    }
    reader.add_start(&mut history, finest).await?;
    Ok(Past { history, scrape })
}

/// Pods of the rollout that the API server has forgotten, by the beginning of their names. Their whole life is taken for
/// old enough to count: what they did before they were first seen is not counted anyway.
///
/// # Errors
/// If Prometheus does not answer; nobody may take that for "there are none".
pub async fn forgotten(
    source: &PrometheusSource,
    policy: &Policy,
    namespace: &str,
    (prefix, side): (&str, Side),
    known: &[PodLife],
    (since, until): (Timestamp, Timestamp),
) -> Result<Vec<PodLife>, SourceError> {
    let request =
        ReadRequest { signals: policy.signals.clone(), lives: Vec::new(), since, until, interval: Interval::Auto };
    let known: BTreeSet<&PodName> = known.iter().map(|life| &life.pod).collect();
    let named = source.pods_named(&request, namespace, &[prefix.to_owned()]).await?;
    let gone = named.into_iter().filter(|pod| !known.contains(pod)).map(|pod| PodLife {
        pod,
        side: Some(side),
        created: Timestamp::UNIX_EPOCH,
        grown_from: Some(Timestamp::UNIX_EPOCH),
        container_starts: Vec::new(),
        gone: Some(until),
        containers: Vec::new(),
    });
    Ok(gone.take(MOST_FORGOTTEN).collect())
}

/// Whether every one of these pods was scraped all the while.
pub async fn scraped(source: &PrometheusSource, pods: &[PodLife], (since, until): (Timestamp, Timestamp)) -> bool {
    let (Ok(name), Ok(selector)) = (SignalName::parse("up"), Selector::parse("up")) else { return false };
    let up = Signal { name, source: Source::Gauge { selector }, demands: Demands::default() };
    let request =
        ReadRequest { signals: vec![up], lives: pods.to_vec(), since, until, interval: Interval::Every(EVERY) };
    let readings = source.read_past(request, EVERY).await;
    let Some(Measured::Gauge(points)) = readings.signals.first().and_then(|signal| signal.reading.value()) else {
        return false;
    };
    pods.iter().all(|life| {
        let own: Vec<_> = points.iter().filter(|point| point.pod == life.pod).collect();
        // Five minutes hold ten of these; one may be missing at each end.
        own.len() >= 8 && own.iter().all(|point| point.value >= 1.0)
    })
}

/// Distance of the moments at which scraping is looked at.
const EVERY: Duration = Duration::from_secs(30);
/// Forgotten pods that are asked about.
const MOST_FORGOTTEN: usize = 500;

/// Whether what was before the rollout is still waited for.
#[must_use]
pub fn is_awaited(before: Timestamp, now: Timestamp) -> bool {
    before.checked_add(PATIENCE).is_ok_and(|end| now < end)
}

struct Reader<'a> {
    source: &'a PrometheusSource,
    policy: &'a Policy,
    old: &'a [PodLife],
    before: Timestamp,
    patient: bool,
}

impl Reader<'_> {
    /// The scrape interval, seen where the old pods were scraped last: those that another release replaced before this one
    /// are gone for longer than a fine stretch reaches.
    async fn scrape(&self) -> Result<Option<Duration>, String> {
        let seen = |readings: &MetricReadings| {
            readings.signals.iter().filter_map(|signal| scrape_interval(counters(signal.reading.value()?)?)).min()
        };
        let recent = seen(&self.stretch(FINE, Duration::from_secs(1)).await?);
        if recent.is_some() {
            return Ok(recent);
        }
        let [reach, ..] = REACHES;
        let coarse = self.stretch(reach, Interval::AUTO_RANGE.1).await?;
        let last = coarse.signals.iter().filter_map(|signal| last_sample(counters(signal.reading.value()?)?)).max();
        let Some(last) = last else { return Ok(None) };
        // The coarse read steps over what came after its last point.
        let until = last.checked_add(Interval::AUTO_RANGE.1).unwrap_or(last).min(self.before);
        let since = until.checked_sub(FINE).unwrap_or(until);
        Ok(seen(&self.between(since, until, Duration::from_secs(1)).await?))
    }

    async fn stretch(&self, reach: Duration, resolution: Duration) -> Result<MetricReadings, String> {
        let since = self.before.checked_sub(reach).unwrap_or(Timestamp::UNIX_EPOCH);
        self.between(since, self.before, resolution).await
    }

    async fn between(
        &self,
        since: Timestamp,
        until: Timestamp,
        resolution: Duration,
    ) -> Result<MetricReadings, String> {
        let request = ReadRequest {
            signals: self.policy.signals.clone(),
            lives: self.old.to_vec(),
            since,
            until,
            interval: Interval::Every(resolution),
        };
        let readings = self.source.read_past(request, resolution).await;
        // A signal that cannot be read is waited for at first; later the others begin without it.
        let error = if self.patient { readings.error() } else { readings.blinding_error() };
        match error {
            Some(error) => Err(error.to_owned()),
            None => Ok(readings),
        }
    }

    fn history(&self, readings: &MetricReadings, reach: Duration, resolution: Duration) -> History {
        let from = self.before.checked_sub(reach).unwrap_or(Timestamp::UNIX_EPOCH);
        let signals =
            readings.signals.iter().zip(self.proxied()).map(|(signal, proxied)| match signal.reading.value() {
                Some(Measured::Ratio(found) | Measured::Histogram(found)) => {
                    let long = reach > *REACHES.first().unwrap_or(&reach);
                    if proxied {
                        let lives = assess::lives(found, self.alone_since());
                        // Where pods cannot be told apart, nobody knows what was their own start.
                        SignalHistory { start: Vec::new(), ..self.counted(found, &lives, from, resolution, long) }
                    } else {
                        self.counted(found, self.old, from, resolution, long)
                    }
                }
                Some(Measured::Gauge(points)) => self.valued(points, resolution, signal.term == Some(Term::Memory)),
                None => SignalHistory::default(),
            });
        History { signals: signals.collect() }
    }

    /// For each full name, whether a proxy counts it.
    fn proxied(&self) -> Vec<bool> {
        let each = |signal: &Signal| vec![signal.is_proxied(); signal.full_names().len()];
        self.policy.signals.iter().flat_map(each).collect()
    }

    /// From when on the old revision alone served, as far as is known: when its youngest pod was out of its warm-up. Before
    /// that, another revision may have been behind the same Service.
    fn alone_since(&self) -> Option<Timestamp> {
        let known = |life: &&PodLife| life.created > Timestamp::UNIX_EPOCH && life.created < self.before;
        self.old.iter().filter(known).filter_map(|life| life.grown_from).max()
    }

    fn counted(
        &self,
        found: &Counters,
        lives: &[PodLife],
        from: Timestamp,
        resolution: Duration,
        long: bool,
    ) -> SignalHistory {
        let binned = bin(found, lives, from, self.before, resolution);
        let tests = |row: &[u64]| -> Vec<Counts> {
            let total = row.first().copied().unwrap_or(0);
            let parts = row.get(1..).unwrap_or_default();
            if found.bounds.is_empty() {
                return vec![Counts::new(parts.first().copied().unwrap_or(0), total)];
            }
            parts.iter().map(|below| Counts::new(total.saturating_sub(*below), total)).collect()
        };
        let surplus = binned.steps.len().saturating_sub(MAX_HISTORY_STEPS);
        let bins = || binned.steps.iter().skip(surplus);
        let width = if found.bounds.is_empty() { 1 } else { found.bounds.len() };
        let none = vec![Counts::default(); width];
        let steps = bins().map(|pods| {
            let mut sum = none.clone();
            for row in pods.values() {
                for (sum, counts) in sum.iter_mut().zip(tests(row)) {
                    *sum = sum.plus(counts);
                }
            }
            sum
        });
        let names: BTreeSet<&PodName> = bins().flat_map(BTreeMap::keys).collect();
        let pods = names
            .into_iter()
            .map(|name| bins().map(|pods| pods.get(name).map_or_else(|| none.clone(), |row| tests(row))).collect());
        SignalHistory {
            bounds: found.bounds.clone(),
            steps: steps.collect(),
            pods: pods.collect(),
            start: binned.start.iter().map(|row| tests(row)).collect(),
            long,
            longer: Some(resolution.as_secs_f64()),
            ..SignalHistory::default()
        }
    }

    /// A gauge: the mean of the pods in each step, memory in percent of its limit.
    fn valued(&self, points: &[GaugePoint], resolution: Duration, of_limit: bool) -> SignalHistory {
        let length = i64::try_from(resolution.as_millis()).unwrap_or(i64::MAX).max(1);
        let mut bins: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
        for point in points.iter().filter(|point| point.sampled < self.before) {
            let Some(life) = self.old.iter().find(|life| life.pod == point.pod) else { continue };
            let value = if of_limit { share_of_limit(life, point) } else { Some(point.value) };
            let Some(value) = value else { continue };
            let before = self.before.as_millisecond() - point.sampled.as_millisecond();
            let bin = bins.entry(-before.div_euclid(length)).or_default();
            bin.0 += value;
            bin.1 += 1.0;
        }
        let seconds = resolution.as_secs_f64();
        let values = bins.into_iter().map(|(index, (sum, count))| {
            let index = f64::from(i32::try_from(index).unwrap_or(i32::MIN));
            ((index - 1.0) * seconds, sum / count)
        });
        SignalHistory { values: values.collect(), ..SignalHistory::default() }
    }

    /// The old revision's own start, where it lies outside of what was read.
    async fn add_start(&self, history: &mut History, resolution: Duration) -> Result<(), String> {
        // Of pods that the API server has forgotten nobody knows when they began.
        let known = self.old.iter().map(|life| life.created).filter(|created| *created > Timestamp::UNIX_EPOCH);
        let Some(first) = known.min() else { return Ok(()) };
        let length = self.policy.analysis.window.min(Duration::from_mins(30)) + self.policy.analysis.warmup;
        let until = first.checked_add(length).unwrap_or(self.before).min(self.before);
        let readings = self.between(first, until, resolution).await?;
        for ((known, signal), proxied) in history.signals.iter_mut().zip(&readings.signals).zip(self.proxied()) {
            if proxied {
                continue;
            }
            match signal.reading.value() {
                Some(Measured::Ratio(found) | Measured::Histogram(found)) => {
                    known.start = self.counted(found, self.old, first, resolution, false).start;
                }
                Some(Measured::Gauge(points)) => {
                    let values = self.valued(points, resolution, signal.term == Some(Term::Memory)).values;
                    known.start_growth = values
                        .windows(2)
                        .filter_map(|pair| match pair {
                            [a, b] if a.1 > 0.0 => Some((b.1 - a.1) / a.1),
                            _ => None,
                        })
                        .collect();
                }
                None => {}
            }
        }
        Ok(())
    }
}

fn counters(measured: &Measured) -> Option<&Counters> {
    match measured {
        Measured::Ratio(found) | Measured::Histogram(found) => Some(found),
        Measured::Gauge(_) => None,
    }
}

fn first_sample(found: &Counters) -> Option<Timestamp> {
    found.pods.values().filter_map(|pod| pod.times.first()).map(|(at, _)| *at).min()
}

fn last_sample(found: &Counters) -> Option<Timestamp> {
    found.pods.values().filter_map(|pod| pod.times.last()).map(|(at, _)| *at).max()
}

/// Whether counters go back to nearly the beginning of what was asked for.
fn reaches_back(measured: Option<&Measured>, before: Timestamp, reach: Duration) -> bool {
    let Some(found) = measured.and_then(counters) else { return false };
    let first = first_sample(found);
    let nearly = before.checked_sub(reach.mul_f64(0.9)).unwrap_or(Timestamp::UNIX_EPOCH);
    first.is_some_and(|first| first <= nearly)
}

/// Whether a ratio signal saw enough bad events; of other signals nothing is asked.
fn enough_bad(signal: &SignalHistory) -> bool {
    let bad: u64 = signal.steps.iter().filter_map(|row| row.first()).map(|counts| counts.bad).sum();
    !signal.bounds.is_empty() || signal.steps.is_empty() || bad >= ENOUGH_BAD
}
