//! What a guard measures: named signals, the terms they feed, and what they resolve to.
//!
//! Role: selectors as parsed data, presets as tables, queries as text. Inputs: strings of a spec, label sets that
//! Prometheus listed. Outputs: `Signal`, `Measure`, PromQL. Must never import: other rooms.

mod presets;
mod proxied;
mod query;
mod resolve;
mod selector;

use std::fmt;

use super::judge::OnNoData;

pub use presets::{Durations, Held, Known, Preset, Requests, Shape};
pub use proxied::{Address, addresses};
pub use query::{LABEL, PART_AT, PART_BAD, PART_BUCKET, PART_TOTAL, PART_VALUE, Query};
pub use resolve::{Found, LabelSet, Resolved, discovery_selector, measure_of, named_pods_selector, resolve};
pub use selector::{Matcher, Operator, Selector, SelectorError};

/// A signal's name: a DNS label, so that it may stand in paths and metric labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalName(String);

impl SignalName {
    /// The longest name.
    pub const MAX: usize = 63;

    /// Reads a name.
    ///
    /// # Errors
    /// A sentence that says what a name may look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
        let bytes = text.as_bytes();
        if bytes.len() <= Self::MAX && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().copied().all(inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a signal's name has 1 to {} lower-case letters, digits and dashes, and neither begins nor ends with a dash",
                Self::MAX
            ))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The terms of the seed formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Term {
    /// Failed requests in percent.
    Errors,
    /// The 95th percentile of response times.
    Latency,
    /// Memory in percent of the limit.
    Memory,
}

impl Term {
    /// Every term.
    pub const ALL: &'static [Self] = &[Self::Errors, Self::Latency, Self::Memory];

    /// The last segment of a signal's full name that feeds this term.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }

    /// The term a full signal name feeds, if any.
    #[must_use]
    pub fn of(full_name: &str) -> Option<Self> {
        let last = full_name.rsplit('/').next()?;
        Self::ALL.iter().copied().find(|term| term.as_str() == last)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a signal's numbers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A ready-made set.
    Preset(Preset),
    /// A ready-made set that a proxy counts for a whole Service, old and new pods together.
    Proxied {
        /// Which.
        preset: Preset,
        /// The Service, in the guard's namespace.
        service: String,
    },
    /// Bad events of all events: two counters.
    Ratio {
        /// Counter of bad events.
        bad: Selector,
        /// Counter of all events.
        total: Selector,
    },
    /// A classic histogram of durations: its `_bucket` series.
    Histogram {
        /// The `_bucket` series.
        buckets: Selector,
    },
    /// A gauge.
    Gauge {
        /// The gauge.
        selector: Selector,
    },
}

/// One thing a guard measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its name.
    pub name: SignalName,
    /// Its source.
    pub source: Source,
    /// What the guard asks of it.
    pub demands: Demands,
}

/// What a guard asks of a signal; what is absent follows from its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demands {
    /// Relative weight of its evidence.
    pub weight: Option<u32>,
    /// Whether health is certified only with it.
    pub critical: Option<bool>,
    /// The share of bad events, in parts per million, that is never accepted.
    pub max_ppm: Option<u32>,
    /// What it means that there is no data.
    pub on_no_data: OnNoData,
    /// Shown, without any influence.
    pub dry_run: bool,
}

impl Signal {
    /// The full names this signal yields, `<name>/<term>` for presets.
    #[must_use]
    pub fn full_names(&self) -> Vec<String> {
        match &self.source {
            Source::Preset(preset) | Source::Proxied { preset, .. } => {
                preset.parts().iter().map(|part| format!("{}/{part}", self.name)).collect()
            }
            _ => vec![self.name.to_string()],
        }
    }

    /// The preset, if it is one.
    #[must_use]
    pub const fn preset(&self) -> Option<Preset> {
        match self.source {
            Source::Preset(preset) | Source::Proxied { preset, .. } => Some(preset),
            _ => None,
        }
    }

    /// Whether a proxy counts it for a whole Service, so that only the time before the rollout can be compared with.
    #[must_use]
    pub const fn is_proxied(&self) -> bool {
        matches!(self.source, Source::Proxied { .. })
    }

    /// Whether the source can give what the name promises.
    ///
    /// # Errors
    /// A sentence that names the source this term needs.
    pub fn check(&self) -> Result<(), String> {
        let term = Term::of(self.name.as_str());
        let needs = match (&self.source, term) {
            (Source::Preset(_) | Source::Proxied { .. }, _)
            | (_, None)
            | (Source::Ratio { .. }, Some(Term::Errors))
            | (Source::Histogram { .. }, Some(Term::Latency))
            | (Source::Gauge { .. }, Some(Term::Memory)) => return Ok(()),
            (_, Some(Term::Errors)) => "ratio",
            (_, Some(Term::Latency)) => "histogram",
            (_, Some(Term::Memory)) => "gauge",
        };
        Err(format!(
            "a signal named {} needs a {needs}; rename it to have it shown without feeding the score",
            self.name
        ))
    }

    /// What this signal is, when no question to Prometheus is needed for that.
    #[must_use]
    pub fn measure(&self) -> Option<Measure> {
        match &self.source {
            Source::Preset(preset) => measure_of(*preset),
            // Which labels carry namespace and Service is seen in the series.
            Source::Proxied { .. } => None,
            Source::Ratio { bad, total } => Some(Measure::Ratio { bad: bad.clone(), total: total.clone() }),
            Source::Histogram { buckets } => Some(Measure::Histogram {
                buckets: buckets.clone(),
                unit: Unit::of(buckets.name().unwrap_or_default()),
            }),
            Source::Gauge { selector } => Some(Measure::Gauge { selector: selector.clone(), by: GaugeBy::Pod }),
        }
    }
}

/// The unit of a histogram's boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Seconds, as Prometheus recommends.
    Seconds,
    /// Milliseconds, as older libraries write.
    Milliseconds,
}

impl Unit {
    /// Read from the metric's name; seconds unless it says otherwise.
    #[must_use]
    pub fn of(metric: &str) -> Self {
        let stem = metric.strip_suffix("_bucket").unwrap_or(metric);
        let milliseconds = ["_milliseconds", "_millis", "_ms"].iter().any(|suffix| stem.ends_with(suffix));
        if milliseconds { Self::Milliseconds } else { Self::Seconds }
    }

    /// Milliseconds of one unit.
    #[must_use]
    pub const fn milliseconds(self) -> f64 {
        match self {
            Self::Seconds => 1000.0,
            Self::Milliseconds => 1.0,
        }
    }
}

/// What a gauge is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GaugeBy {
    /// One value a container (the highest, where a restarted container has two).
    Container,
    /// One value a pod (summed).
    Pod,
}

/// What a signal resolves to: what is asked of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// Two counters.
    Ratio {
        /// Counter of bad events.
        bad: Selector,
        /// Counter of all events.
        total: Selector,
    },
    /// Cumulative bucket counters.
    Histogram {
        /// The `_bucket` series.
        buckets: Selector,
        /// Unit of the boundaries.
        unit: Unit,
    },
    /// Values that go up and down.
    Gauge {
        /// The gauge.
        selector: Selector,
        /// What it is grouped by.
        by: GaugeBy,
    },
    /// Counters or buckets that proxies keep of a whole Service: each proxy by itself, held to no pods.
    Proxied(Box<Measure>),
}

impl Measure {
    /// What is counted, whoever counts it.
    #[must_use]
    pub fn counted(&self) -> &Self {
        match self {
            Self::Proxied(counted) => counted.counted(),
            own => own,
        }
    }

    /// Whether proxies count it.
    #[must_use]
    pub const fn is_proxied(&self) -> bool {
        matches!(self, Self::Proxied(_))
    }

    /// Canonical text; guards whose measures have the same text share queries.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Ratio { bad, total } => format!("ratio {bad} of {total}"),
            Self::Histogram { buckets, unit } => format!("histogram {buckets} in {unit:?}"),
            Self::Gauge { selector, by } => format!("gauge {selector} by {by:?}"),
            Self::Proxied(counted) => format!("{} of each proxy", counted.key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!(SignalName::parse("http-2").is_ok());
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "ü", &"a".repeat(64)] {
            assert!(SignalName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_segment_names_the_term() {
        assert_eq!(Term::of("web/errors"), Some(Term::Errors));
        assert_eq!(Term::of("memory"), Some(Term::Memory));
        assert_eq!(Term::of("web/errors/x"), None);
        assert_eq!(Term::of("my-errors"), None);
    }

    #[test]
    fn a_term_needs_its_kind_of_source() {
        let gauge = Source::Gauge { selector: Selector::parse("up").unwrap() };
        let signal = Signal { name: SignalName::parse("errors").unwrap(), source: gauge, demands: Demands::default() };
        assert!(signal.check().unwrap_err().contains("needs a ratio"));
    }

    #[test]
    fn units_are_read_from_metric_names() {
        assert_eq!(Unit::of("request_duration_milliseconds_bucket"), Unit::Milliseconds);
        assert_eq!(Unit::of("http_request_duration_seconds_bucket"), Unit::Seconds);
    }
}
