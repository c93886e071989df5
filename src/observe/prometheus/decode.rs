//! From series to what a signal measured.
//!
//! Role: puts the parts of one query together again, pod by pod. Inputs: series with the label `dg`. Outputs: counters or
//! gauges, or an error that names the labels. Must never import: other rooms than `domain`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::transport::Series;
use crate::domain::assess::Measured;
use crate::domain::evidence::number::to_count;
use crate::domain::evidence::{Counters, GaugePoint};
use crate::domain::rollout::PodName;
use crate::domain::signal::{GaugeBy, LABEL, Measure, PART_AT, PART_BAD, PART_BUCKET, PART_TOTAL, PART_VALUE};

/// The series of one pod by what they are.
type Parts<'a> = BTreeMap<PodName, HashMap<(&'a str, &'a str), &'a [(i64, f64)]>>;

/// What was measured of these pods; `None` if there is no series at all.
pub fn measured(measure: &Measure, series: &[Series], pods: &[PodName]) -> Result<Option<Measured>, String> {
    let label = match measure {
        Measure::Ratio { .. } | Measure::Gauge { by: GaugeBy::Pod, .. } => "",
        Measure::Histogram { .. } => "le",
        Measure::Gauge { by: GaugeBy::Container, .. } => "container",
    };
    let parts = group(series, pods, label)?;
    if parts.is_empty() {
        return Ok(None);
    }
    match measure {
        Measure::Ratio { .. } => ratio(&parts).map(|counters| Some(Measured::Ratio(counters))),
        Measure::Histogram { unit, .. } => {
            histogram(&parts, unit.milliseconds()).map(|counters| Some(Measured::Histogram(counters)))
        }
        Measure::Gauge { by, .. } => gauge(&parts, *by).map(|points| Some(Measured::Gauge(points))),
    }
}

fn group<'a>(series: &'a [Series], pods: &[PodName], label: &str) -> Result<Parts<'a>, String> {
    let wanted: HashSet<(&str, &str)> = pods.iter().map(|pod| (&*pod.namespace, &*pod.name)).collect();
    let mut parts = Parts::new();
    for one in series {
        let text = |name: &str| one.labels.get(name).map_or("", String::as_str);
        let (namespace, pod) = (text("namespace"), text("pod"));
        if !wanted.contains(&(namespace, pod)) {
            // A query over several namespaces may match pods that nobody asked for.
            continue;
        }
        let of_pod = parts.entry(PodName::new(namespace, pod)).or_default();
        if of_pod.insert((text(LABEL), text(label)), &one.points).is_some() {
            return Err(format!("several series where one was expected, for pod {namespace}/{pod}"));
        }
    }
    Ok(parts)
}

fn times(points: &[(i64, f64)]) -> BTreeMap<i64, f64> {
    points.iter().copied().collect()
}

fn at(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

/// The time of a sample, which Prometheus gives in seconds with a fraction.
fn sampled(seconds: f64, pod: &PodName) -> Result<Timestamp, String> {
    SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok())
        .ok_or_else(|| format!("{seconds} is no time of a sample, for pod {pod}"))
}

fn count(value: f64, pod: &PodName) -> Result<u64, String> {
    to_count(value).ok_or_else(|| format!("{value} is no count that can be differenced exactly, for pod {pod}"))
}

fn ratio(parts: &Parts<'_>) -> Result<Counters, String> {
    let mut counters = Counters::new(2, Vec::new());
    for (pod, series) in parts {
        let part = |name| series.get(&(name, "")).copied().unwrap_or_default();
        let (bad, stamps) = (times(part(PART_BAD)), times(part(PART_AT)));
        for (second, total) in part(PART_TOTAL) {
            // Without the time of its sample a count cannot be told from an old one.
            let (Some(moment), Some(stamp)) = (at(*second), stamps.get(second)) else { continue };
            let total = count(*total, pod)?;
            // Client libraries make the series of a status when they first meet it.
            let bad = count(bad.get(second).copied().unwrap_or(0.0), pod)?;
            counters.push(pod, moment, sampled(*stamp, pod)?, &[total, bad]);
        }
    }
    Ok(counters)
}

fn histogram(parts: &Parts<'_>, to_ms: f64) -> Result<Counters, String> {
    // Only bounds that every pod has can be compared.
    let mut common: Option<BTreeSet<&str>> = None;
    for series in parts.values() {
        let bounds: BTreeSet<&str> =
            series.keys().filter(|(part, _)| *part == PART_BUCKET).map(|(_, bound)| *bound).collect();
        common = Some(match common {
            Some(common) => common.intersection(&bounds).copied().collect(),
            None => bounds,
        });
    }
    let mut bounds: Vec<(f64, &str)> = Vec::new();
    for text in common.unwrap_or_default() {
        let bound = text.parse::<f64>().map_err(|_| format!("the bucket bound le={text:?} is no number"))?;
        bounds.push((bound, text));
    }
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some((_, infinite)) = bounds.pop().filter(|(bound, _)| bound.is_infinite()) else {
        return Err("the pods have no common bucket le=\"+Inf\"".into());
    };
    let mut counters = Counters::new(bounds.len() + 1, bounds.iter().map(|(bound, _)| bound * to_ms).collect());
    for (pod, series) in parts {
        let stamps = times(series.get(&(PART_AT, "")).copied().unwrap_or_default());
        let buckets: Vec<_> =
            bounds.iter().map(|(_, text)| times(series.get(&(PART_BUCKET, *text)).copied().unwrap_or_default())).collect();
        for (second, total) in series.get(&(PART_BUCKET, infinite)).copied().unwrap_or_default() {
            let (Some(moment), Some(stamp)) = (at(*second), stamps.get(second)) else { continue };
            let mut row = vec![count(*total, pod)?];
            for bucket in &buckets {
                row.push(count(bucket.get(second).copied().unwrap_or(0.0), pod)?);
            }
            counters.push(pod, moment, sampled(*stamp, pod)?, &row);
        }
    }
    Ok(counters)
}

fn gauge(parts: &Parts<'_>, by: GaugeBy) -> Result<Vec<GaugePoint>, String> {
    let mut found = Vec::new();
    for (pod, series) in parts {
        for ((part, container), points) in series {
            if *part != PART_VALUE {
                continue;
            }
            let stamps = times(series.get(&(PART_AT, *container)).copied().unwrap_or_default());
            let container: Option<Arc<str>> = (by == GaugeBy::Container).then(|| (*container).into());
            for (second, value) in *points {
                let Some(stamp) = stamps.get(second) else { continue };
                if !value.is_finite() {
                    return Err(format!("{value} is no value, for pod {pod}"));
                }
                let sampled = sampled(*stamp, pod)?;
                found.push(GaugePoint { pod: pod.clone(), container: container.clone(), sampled, value: *value });
            }
        }
    }
    Ok(found)
}
