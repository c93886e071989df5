//! Presets: which metrics, labels and paths they mean, given what exists.
//!
//! Role: tables and the choice among them. Inputs: label sets that Prometheus listed. Outputs: `Measure`s, or what is
//! missing. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};

use super::{GaugeBy, Matcher, Measure, Operator, Preset, Selector, Source, Unit};
use crate::domain::assess::MissingReason;
use crate::domain::rollout::PodName;

/// The labels of one series, `__name__` among them.
pub type LabelSet = BTreeMap<String, String>;

/// Request counters by preference; the `_count` of a known histogram follows.
const COUNTERS: &[&str] =
    &["http_requests_total", "http_server_requests_total", "http_request_total", "requests_total"];

/// Histograms of response times by preference, without `_bucket`.
const HISTOGRAMS: &[&str] = &[
    "http_request_duration_seconds",
    "http_server_request_duration_seconds",
    "http_server_requests_seconds",
    "http_requests_duration_seconds",
    "http_request_duration_milliseconds",
    "http_server_duration_milliseconds",
];

/// Labels that carry a status, by preference.
const STATUS: &[&str] =
    &["code", "status", "status_code", "response_code", "http_response_status_code", "http_status_code"];

/// Labels that carry a path.
const PATHS: &[&str] = &["path", "route", "handler", "uri", "endpoint", "http_route"];

/// Probe and scrape paths.
const PROBES: &str = "/(metrics|healthz?|livez?|readyz?|ready|live|ping)(/.*)?";

/// Failed requests.
const FAILED: &str = "5..";

/// What `http-generic` means for one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Failed requests of all requests.
    pub errors: Result<Measure, MissingReason>,
    /// Response times.
    pub latency: Result<Measure, MissingReason>,
}

/// The selector that lists the series `http-generic` may choose from, for a few pods.
#[must_use]
pub fn discovery_selector(pods: &[PodName]) -> Selector {
    discovery_of(&super::query::pod_matchers(pods))
}

/// The selector that lists a signal's series of pods by the beginning of their names, whether they still exist or not.
#[must_use]
pub fn named_pods_selector(source: &Source, namespace: &str, prefixes: &[String]) -> Selector {
    let words: Vec<String> = prefixes.iter().map(|prefix| regex::escape(prefix).replace("\\-", "-")).collect();
    let held = [
        Matcher::new("namespace", Operator::Equal, namespace),
        Matcher::new("pod", Operator::Matches, &format!("({})[a-z0-9]+", words.join("|"))),
    ];
    let selector = match source {
        Source::Preset(Preset::HttpGeneric) => return discovery_of(&held),
        Source::Preset(Preset::ContainerMemory) => match container_memory() {
            Measure::Gauge { selector, .. } => selector,
            Measure::Ratio { total, .. } => total,
            Measure::Histogram { buckets, .. } => buckets,
        },
        Source::Ratio { total, .. } => total.clone(),
        Source::Histogram { buckets } => buckets.clone(),
        Source::Gauge { selector } => selector.clone(),
    };
    selector.with(&held)
}

fn discovery_of(held: &[Matcher]) -> Selector {
    let counts = HISTOGRAMS.iter().flat_map(|name| [format!("{name}_bucket"), format!("{name}_count")]);
    let names: Vec<String> = COUNTERS.iter().map(|name| (*name).to_owned()).chain(counts).collect();
    let matcher = Matcher::new("__name__", Operator::Matches, &names.join("|"));
    Selector::of("", vec![matcher]).with(held).without_name()
}

/// Chooses counters, status label and histogram among the series that exist.
#[must_use]
pub fn resolve_http_generic(series: &[LabelSet]) -> Resolved {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for set in series {
        if let Some(name) = set.get("__name__") {
            labels.entry(name).or_default().extend(set.keys().map(String::as_str));
        }
    }
    let counts: Vec<String> = HISTOGRAMS.iter().map(|name| format!("{name}_count")).collect();
    let counters = COUNTERS.iter().copied().chain(counts.iter().map(String::as_str));
    let known: Vec<(&str, &BTreeSet<&str>)> =
        counters.filter_map(|name| labels.get(name).map(|set| (name, set))).collect();
    let errors = known
        .iter()
        .find_map(|(name, set)| {
            STATUS.iter().find(|status| set.contains(**status)).map(|status| ratio(name, status, set))
        })
        .ok_or(if known.is_empty() { MissingReason::NoRequestCounter } else { MissingReason::NoStatusLabel });
    let latency = HISTOGRAMS
        .iter()
        .find_map(|name| {
            let bucket = format!("{name}_bucket");
            let set = labels.get(bucket.as_str())?;
            Some(Measure::Histogram { unit: Unit::of(&bucket), buckets: Selector::of(&bucket, served(set)) })
        })
        .ok_or(MissingReason::NoHistogram);
    Resolved { errors, latency }
}

/// What `container-memory` means.
#[must_use]
pub fn container_memory() -> Measure {
    let matchers = ["", "POD"].map(|name| Matcher::new("container", Operator::NotEqual, name));
    let selector = Selector::of("container_memory_working_set_bytes", matchers.to_vec());
    Measure::Gauge { selector, by: GaugeBy::Container }
}

fn ratio(name: &str, status: &str, labels: &BTreeSet<&str>) -> Measure {
    let total = Selector::of(name, served(labels));
    let bad = total.with(&[Matcher::new(status, Operator::Matches, FAILED)]);
    Measure::Ratio { bad, total }
}

/// Every path-like label excludes probes and scrapes.
fn served(labels: &BTreeSet<&str>) -> Vec<Matcher> {
    let paths = PATHS.iter().filter(|label| labels.contains(**label));
    paths.map(|label| Matcher::new(label, Operator::NotMatches, PROBES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, labels: &[&str]) -> LabelSet {
        let pairs = labels.iter().map(|label| ((*label).to_owned(), "x".to_owned()));
        pairs.chain([("__name__".to_owned(), name.to_owned())]).collect()
    }

    fn text(measure: &Result<Measure, MissingReason>) -> String {
        match measure {
            Ok(measure) => measure.key(),
            Err(reason) => format!("{reason:?}"),
        }
    }

    #[test]
    fn the_usual_client_library_is_understood() {
        let found = resolve_http_generic(&[
            series("http_requests_total", &["code", "method"]),
            series("http_request_duration_seconds_bucket", &["le", "method"]),
        ]);
        assert_eq!(text(&found.errors), r#"ratio http_requests_total{code=~"5.."} of http_requests_total"#);
        assert_eq!(text(&found.latency), "histogram http_request_duration_seconds_bucket in Seconds");
    }

    #[test]
    fn probe_paths_are_left_out_where_a_path_label_exists() {
        let found = resolve_http_generic(&[series("http_requests_total", &["status", "path"])]);
        let total = r#"http_requests_total{path!~"/(metrics|healthz?|livez?|readyz?|ready|live|ping)(/.*)?"}"#;
        assert!(text(&found.errors).ends_with(total), "{}", text(&found.errors));
        assert_eq!(found.latency, Err(MissingReason::NoHistogram));
    }

    #[test]
    fn the_count_of_a_histogram_serves_when_it_carries_a_status() {
        let found = resolve_http_generic(&[
            series("http_server_requests_seconds_count", &["status", "uri"]),
            series("http_server_requests_seconds_bucket", &["status", "uri", "le"]),
        ]);
        assert!(text(&found.errors).starts_with("ratio http_server_requests_seconds_count{status=~\"5..\""));
        assert!(found.latency.is_ok());
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(resolve_http_generic(&[]).errors, Err(MissingReason::NoRequestCounter));
        let found = resolve_http_generic(&[series("http_requests_total", &["method"])]);
        assert_eq!(found.errors, Err(MissingReason::NoStatusLabel));
    }

    #[test]
    fn a_counter_with_a_status_wins_over_a_better_known_one_without() {
        let found = resolve_http_generic(&[
            series("http_requests_total", &["method"]),
            series("http_request_duration_seconds_count", &["code"]),
        ]);
        assert!(text(&found.errors).contains("http_request_duration_seconds_count"));
    }

    #[test]
    fn discovery_asks_for_known_names_of_these_pods_only() {
        let text = discovery_selector(&[PodName::new("shop", "a-1")]).to_string();
        assert!(text.starts_with("{__name__=~\"http_requests_total|"), "{text}");
        assert!(text.contains(r#"namespace="shop",pod=~"a-1""#), "{text}");
    }
}
