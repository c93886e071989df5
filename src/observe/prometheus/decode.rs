//! From the JSON of a range query to counters and gauges of pods.
//!
//! Role: refuses what is not plainly a value: NaN, fractions and negative numbers in counters, counters beyond 2^53,
//! several series where one was expected, native histograms. A fault of one pod stays with that pod. Inputs: bytes.
//! Outputs: `Table`. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, Visitor};

use crate::domain::assess::{Measured, MissingReason, Reading};
use crate::domain::evidence::number::to_count;
use crate::domain::evidence::{Counters, GaugePoint};
use crate::domain::rollout::PodName;
use crate::domain::signal::{Measure, PART_AT, PART_BAD, PART_BUCKET, PART_TOTAL, PART_VALUE, Unit};

#[derive(Deserialize)]
struct Matrix {
    #[serde(rename = "resultType")]
    kind: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: Labels,
    #[serde(default)]
    values: Vec<Point>,
    histograms: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    instance: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    le: String,
    #[serde(default)]
    dg: String,
}

/// Grid time in seconds, value.
#[derive(Deserialize, Clone, Copy)]
struct Point(f64, Number);

/// Prometheus writes values as text; it is read in place.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::custom("not a number"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The series of one pod, sorted by what they are. A gauge's labels are its containers, a histogram's its boundaries.
#[derive(Default)]
struct Parts {
    series: BTreeMap<(Part, String), Vec<Point>>,
    fault: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Bad,
    Total,
    Bucket,
    Value,
    At,
}

/// What is known of one pod: grid and sample times, then `width` numbers a row.
#[derive(Default)]
struct Rows {
    bounds: Vec<f64>,
    times: Vec<(Timestamp, Timestamp)>,
    values: Vec<u64>,
    gauges: Vec<(Timestamp, GaugePoint)>,
}

/// Answers by pod.
#[derive(Default)]
pub(super) struct Table {
    pods: BTreeMap<PodName, Result<Rows, Arc<str>>>,
}

/// Reads the `data` of a range query.
pub(super) fn table(body: &[u8], measure: &Measure, pods: &[PodName]) -> Result<Table, String> {
    let matrix: Matrix =
        serde_json::from_slice(body).map_err(|_| "the answer holds no series of numbers".to_owned())?;
    if matrix.kind != "matrix" {
        return Err("the answer is not a matrix".to_owned());
    }
    let wanted: BTreeSet<&PodName> = pods.iter().collect();
    let mut parts: BTreeMap<PodName, Parts> = BTreeMap::new();
    for series in matrix.result {
        let labels = &series.metric;
        // A proxy is whoever Prometheus scraped; nobody asked for it by name.
        let pod = if measure.is_proxied() {
            PodName::new("", &labels.instance)
        } else {
            PodName::new(&labels.namespace, &labels.pod)
        };
        if measure.is_proxied() || wanted.contains(&pod) {
            parts.entry(pod).or_default().add(series);
        }
    }
    let rows = parts.into_iter().map(|(pod, parts)| {
        let rows = parts.rows(&pod, measure).map_err(|fault| Arc::from(format!("pod {}: {fault}", pod.name)));
        (pod, rows)
    });
    Ok(Table { pods: rows.collect() })
}

impl Parts {
    fn add(&mut self, series: Series) {
        let Labels { container, le, dg, .. } = series.metric;
        let part = match dg.as_str() {
            PART_BAD => Part::Bad,
            PART_TOTAL => Part::Total,
            PART_BUCKET => Part::Bucket,
            PART_VALUE => Part::Value,
            PART_AT => Part::At,
            _ => return self.fault = Some("a series without the label dg".to_owned()),
        };
        if series.histograms.is_some() {
            return self.fault =
                Some("native histograms are not supported; name the classic _bucket series".to_owned());
        }
        let label = if part == Part::Bucket { le } else { container };
        if self.series.insert((part, label), series.values).is_some() {
            self.fault = Some("several series for the same namespace, pod, container and le".to_owned());
        }
    }

    fn rows(self, pod: &PodName, measure: &Measure) -> Result<Rows, String> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match measure.counted() {
            Measure::Ratio { .. } => {
                let columns = vec![self.points(Part::Total, ""), self.points(Part::Bad, "")];
                self.counters(&columns, Vec::new())
            }
            Measure::Histogram { unit, .. } => self.histogram(*unit),
            Measure::Gauge { .. } => self.gauges(pod),
            Measure::Proxied(_) => Ok(Rows::default()),
        }
    }

    fn points(&self, part: Part, label: &str) -> &[Point] {
        self.series.get(&(part, label.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The first column is the total; without it the pod is missing. An absent part is 0.
    fn counters(&self, columns: &[&[Point]], bounds: Vec<f64>) -> Result<Rows, String> {
        let mut rows = Rows { bounds, ..Rows::default() };
        let mut at = Cursor::new(self.points(Part::At, ""));
        let (Some(total), parts) = (columns.first(), columns.get(1..).unwrap_or_default()) else {
            return Ok(rows);
        };
        let mut parts: Vec<Cursor<'_>> = parts.iter().map(|points| Cursor::new(points)).collect();
        for point in *total {
            let Some(sampled) = at.at(point.0) else {
                continue;
            };
            rows.times.push((time(point.0)?, time(sampled)?));
            rows.values.push(count(point.1.0)?);
            for part in &mut parts {
                rows.values.push(part.at(point.0).map_or(Ok(0), count)?);
            }
        }
        Ok(rows)
    }

    fn histogram(&self, unit: Unit) -> Result<Rows, String> {
        let mut finite: Vec<(f64, &[Point])> = Vec::new();
        let mut total: &[Point] = &[];
        for ((part, le), points) in &self.series {
            if *part != Part::Bucket {
                continue;
            }
            let bound: f64 = le.parse().map_err(|_| "a bucket whose le is not a number".to_owned())?;
            if bound.is_nan() || bound == f64::NEG_INFINITY || (bound.is_infinite() && !total.is_empty()) {
                return Err("a bucket whose le cannot be used".to_owned());
            }
            if bound.is_infinite() {
                total = points;
            } else {
                finite.push((bound * unit.milliseconds(), points));
            }
        }
        finite.sort_by(|a, b| a.0.total_cmp(&b.0));
        // `1` and `1.0` are the same boundary, written by different versions of a library.
        if finite.windows(2).any(|pair| matches!(pair, [a, b] if a.0 >= b.0)) {
            return Err("several series for the same le".to_owned());
        }
        let columns: Vec<&[Point]> = std::iter::once(total).chain(finite.iter().map(|(_, points)| *points)).collect();
        self.counters(&columns, finite.iter().map(|(bound, _)| *bound).collect())
    }

    fn gauges(&self, pod: &PodName) -> Result<Rows, String> {
        let mut rows = Rows::default();
        for ((part, container), points) in &self.series {
            if *part != Part::Value {
                continue;
            }
            let mut at = Cursor::new(self.points(Part::At, container));
            let name: Option<Arc<str>> = (!container.is_empty()).then(|| container.as_str().into());
            for Point(grid, Number(value)) in points {
                let Some(sampled) = at.at(*grid) else {
                    continue;
                };
                if !value.is_finite() {
                    return Err(format!("a gauge is {value}"));
                }
                let point =
                    GaugePoint { pod: pod.clone(), container: name.clone(), sampled: time(sampled)?, value: *value };
                rows.gauges.push((time(*grid)?, point));
            }
        }
        Ok(rows)
    }
}

/// Walks the points of a series along with another one's times.
struct Cursor<'a> {
    rest: &'a [Point],
}

impl<'a> Cursor<'a> {
    fn new(points: &'a [Point]) -> Self {
        Self { rest: points }
    }

    fn at(&mut self, grid: f64) -> Option<f64> {
        while let [first, rest @ ..] = self.rest {
            if first.0 < grid {
                self.rest = rest;
            } else {
                return (first.0 <= grid).then_some(first.1.0);
            }
        }
        None
    }
}

fn count(value: f64) -> Result<u64, String> {
    to_count(value).ok_or_else(|| format!("a counter is {value}, which is not a whole number from 0 to 2^53"))
}

fn time(seconds: f64) -> Result<Timestamp, String> {
    let milliseconds = to_count((seconds * 1000.0).round()).and_then(|ms| i64::try_from(ms).ok());
    milliseconds
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .ok_or_else(|| "a sample has no usable time".to_owned())
}

impl Table {
    /// The same error for every pod.
    pub(super) fn failed(pods: &[PodName], text: &str) -> Self {
        let text: Arc<str> = text.into();
        Self { pods: pods.iter().map(|pod| (pod.clone(), Err(text.clone()))).collect() }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.pods.extend(other.pods);
    }

    /// What one guard asked for.
    pub(super) fn reading(
        &self,
        measure: &Measure,
        pods: &BTreeSet<PodName>,
        start: i64,
        end: i64,
    ) -> Reading<Measured> {
        let mut found: Vec<(&PodName, &Rows)> = Vec::new();
        let asked = |pod: &&PodName| measure.is_proxied() || pods.contains(*pod);
        for (pod, rows) in self.pods.iter().filter(|(pod, _)| asked(pod)) {
            match rows {
                Ok(rows) => found.push((pod, rows)),
                Err(text) => return Reading::Errored(text.to_string()),
            }
        }
        let asked = |at: &Timestamp| (start..=end).contains(&at.as_second());
        let measure = measure.counted();
        match measure {
            Measure::Gauge { .. } => {
                let points = found.iter().flat_map(|(_, rows)| rows.gauges.iter().filter(|point| asked(&point.0)));
                let points: Vec<GaugePoint> = points.map(|point| point.1.clone()).collect();
                if points.is_empty() {
                    Reading::Missing(MissingReason::NoSeries)
                } else {
                    Reading::Value(Measured::Gauge(points))
                }
            }
            Measure::Ratio { .. } | Measure::Histogram { .. } | Measure::Proxied(_) => {
                let counters = gather(measure, &found, asked);
                match measure {
                    _ if counters.pods.is_empty() => Reading::Missing(MissingReason::NoSeries),
                    Measure::Histogram { .. } => Reading::Value(Measured::Histogram(counters)),
                    _ => Reading::Value(Measured::Ratio(counters)),
                }
            }
        }
    }
}

/// Counters of several pods on common boundaries; a boundary that a pod lacks takes the count of the next lower one.
fn gather(measure: &Measure, found: &[(&PodName, &Rows)], asked: impl Fn(&Timestamp) -> bool) -> Counters {
    let mut bounds: Vec<f64> = found.iter().flat_map(|(_, rows)| rows.bounds.iter().copied()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let ratio = matches!(measure, Measure::Ratio { .. });
    let width = 1 + if ratio { 1 } else { bounds.len() };
    let mut counters = Counters::new(width, bounds);
    counters.common = counters
        .bounds
        .iter()
        .map(|bound| found.iter().all(|(_, rows)| rows.bounds.iter().any(|own| own.total_cmp(bound).is_eq())))
        .collect();
    let mut row = Vec::with_capacity(width);
    for (pod, rows) in found {
        let own = 1 + if ratio { 1 } else { rows.bounds.len() };
        // For each common boundary the pod's own column.
        let columns: Vec<usize> =
            counters.bounds.iter().map(|bound| rows.bounds.iter().take_while(|own| *own <= bound).count()).collect();
        for ((at, sampled), values) in rows.times.iter().zip(rows.values.chunks_exact(own)) {
            if !asked(at) {
                continue;
            }
            row.clear();
            if ratio {
                row.extend_from_slice(values);
            } else {
                row.extend(values.first());
                row.extend(
                    columns.iter().map(
                        |column| {
                            if *column == 0 { 0 } else { values.get(*column).copied().unwrap_or(0) }
                        },
                    ),
                );
            }
            counters.push(pod, *at, *sampled, &row);
        }
    }
    counters
}
