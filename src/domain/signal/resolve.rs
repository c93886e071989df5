//! From a preset to what is asked, given what exists.
//!
//! Role: the choice among the rows of the table. Inputs: a preset, label sets that Prometheus listed. Outputs: `Measure`s
//! with why, or what is missing. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};

use super::{Durations, GaugeBy, Held, Matcher, Measure, Operator, Preset, Requests, Selector, Shape, Source};
use crate::domain::assess::MissingReason;
use crate::domain::rollout::PodName;

/// The labels of one series, `__name__` among them.
pub type LabelSet = BTreeMap<String, String>;

/// Labels that carry a path.
const PATHS: &[&str] = &["path", "route", "handler", "uri", "endpoint", "http_route", "http_target"];

/// Probe and scrape paths.
const PROBES: &str = "/(metrics|actuator|healthz?|livez?|readyz?|ready|live|ping)(/.*)?";

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is asked of Prometheus.
    pub measure: Measure,
    /// The preset it comes from.
    pub preset: Preset,
    /// The series whose existence decided.
    pub series: String,
}

impl Found {
    /// Where the numbers come from, for people.
    #[must_use]
    pub fn sentence(&self, asked: Preset) -> String {
        match asked {
            Preset::Auto => format!("{}: Auto found {} for these pods", self.preset, self.series),
            _ => self.preset.to_string(),
        }
    }
}

/// What a preset that counts requests means for one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Failed requests of all requests.
    pub errors: Result<Found, MissingReason>,
    /// Response times.
    pub latency: Result<Found, MissingReason>,
}

impl Resolved {
    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.errors.is_ok() && self.latency.is_ok()
    }
}

/// The selector that lists the series a preset may choose from, for a few pods.
#[must_use]
pub fn discovery_selector(preset: Preset, pods: &[PodName]) -> Selector {
    discovery_of(preset, &super::query::pod_matchers(pods))
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
        Source::Preset(preset) => match measure_of(*preset) {
            None | Some(Measure::Proxied(_)) => return discovery_of(*preset, &held),
            Some(Measure::Gauge { selector, .. }) => selector,
            Some(Measure::Ratio { total, .. }) => total,
            Some(Measure::Histogram { buckets, .. }) => buckets,
        },
        // No proxy knows pods.
        Source::Proxied { preset, .. } => return discovery_of(*preset, &held),
        Source::Ratio { total, .. } => total.clone(),
        Source::Histogram { buckets } => buckets.clone(),
        Source::Gauge { selector } => selector.clone(),
    };
    selector.with(&held)
}

fn discovery_of(preset: Preset, held: &[Matcher]) -> Selector {
    Selector::of("", vec![names_matcher(preset)]).with(held).without_name()
}

/// Every name that a preset may choose.
pub(super) fn names_matcher(preset: Preset) -> Matcher {
    let rows: Vec<(&[Requests], &[Durations])> = preset.candidates().into_iter().map(served_by).collect();
    let mut names: Vec<String> = Vec::new();
    let counters = rows.iter().flat_map(|(requests, _)| requests.iter().map(|one| one.counter.to_owned()));
    let buckets = rows.iter().flat_map(|(_, durations)| durations.iter().map(bucket));
    for name in counters.chain(buckets) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Matcher::new("__name__", Operator::Matches, &names.join("|"))
}

fn served_by(preset: Preset) -> (&'static [Requests], &'static [Durations]) {
    match preset.known().shape {
        Shape::Served(requests, durations) | Shape::Proxied(requests, durations) => (requests, durations),
        Shape::Memory(_) | Shape::Throttling(..) | Shape::First(_) => (&[], &[]),
    }
}

fn bucket(durations: &Durations) -> String {
    format!("{}_bucket", durations.histogram)
}

/// Chooses counters, outcome label and histogram among the series that exist. Series of the old revision's pods come
/// first: they have been there from the beginning, so that the choice stays what it was at the first look.
#[must_use]
pub fn resolve(preset: Preset, series: &[LabelSet], old: &BTreeSet<&str>) -> Resolved {
    let of_old = |set: &&LabelSet| set.get("pod").is_some_and(|pod| old.contains(pod.as_str()));
    let (before, all) = (Existing::of(series.iter().filter(of_old)), Existing::of(series.iter()));
    let candidates = preset.candidates();
    let look = |of: &Existing| {
        let errors = candidates.iter().find_map(|preset| of.errors(*preset));
        // What counts the requests also times them, if it can: both then speak of the same requests.
        let first = errors.as_ref().map(|found| found.preset);
        let latency = first.into_iter().chain(candidates.iter().copied()).find_map(|preset| of.latency(preset));
        (errors, latency)
    };
    let ((errors, latency), (any_errors, any_latency)) = (look(&before), look(&all));
    let counted = candidates.iter().flat_map(|preset| served_by(*preset).0).any(|one| all.has(one.counter));
    let no_errors = if counted { MissingReason::NoStatusLabel } else { MissingReason::NoRequestCounter };
    Resolved {
        errors: errors.or(any_errors).ok_or(no_errors),
        latency: latency.or(any_latency).ok_or(MissingReason::NoHistogram),
    }
}

/// The labels of what exists, by metric name.
struct Existing<'a> {
    labels: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Existing<'a> {
    fn of(series: impl Iterator<Item = &'a LabelSet>) -> Self {
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for set in series {
            if let Some(name) = set.get("__name__") {
                labels.entry(name).or_default().extend(set.keys().map(String::as_str));
            }
        }
        Self { labels }
    }

    fn has(&self, name: &str) -> bool {
        self.labels.contains_key(name)
    }

    fn errors(&self, preset: Preset) -> Option<Found> {
        served_by(preset).0.iter().find_map(|one| {
            let labels = self.labels.get(one.counter)?;
            let outcome = one.outcome.iter().find(|label| labels.contains(**label))?;
            let total = Selector::of(one.counter, served(labels, one.only));
            let bad = total.with(&[Matcher::new(outcome, Operator::Matches, one.bad)]);
            Some(Found { measure: Measure::Ratio { bad, total }, preset, series: one.counter.to_owned() })
        })
    }

    fn latency(&self, preset: Preset) -> Option<Found> {
        served_by(preset).1.iter().find_map(|one| {
            let name = bucket(one);
            let labels = self.labels.get(name.as_str())?;
            let buckets = Selector::of(&name, served(labels, one.only));
            Some(Found { measure: Measure::Histogram { buckets, unit: one.unit }, preset, series: name })
        })
    }
}

/// What a preset means that needs no question first: what cAdvisor tells of containers.
#[must_use]
pub fn measure_of(preset: Preset) -> Option<Measure> {
    // Not the sum over the pod, and not the container that only holds the network.
    let containers = || ["", "POD"].map(|name| Matcher::new("container", Operator::NotEqual, name)).to_vec();
    match preset.known().shape {
        Shape::Served(..) | Shape::Proxied(..) | Shape::First(_) => None,
        Shape::Memory(name) => {
            Some(Measure::Gauge { selector: Selector::of(name, containers()), by: GaugeBy::Container })
        }
        Shape::Throttling(bad, total) => {
            Some(Measure::Ratio { bad: Selector::of(bad, containers()), total: Selector::of(total, containers()) })
        }
    }
}

/// Every path-like label excludes probes and scrapes.
fn served(labels: &BTreeSet<&str>, only: &[Held]) -> Vec<Matcher> {
    let paths = PATHS.iter().filter(|label| labels.contains(**label));
    let held = only.iter().map(|(label, operator, value)| Matcher::new(label, *operator, value));
    paths.map(|label| Matcher::new(label, Operator::NotMatches, PROBES)).chain(held).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, labels: &[&str]) -> LabelSet {
        let pairs = labels.iter().map(|label| ((*label).to_owned(), "x".to_owned()));
        pairs.chain([("__name__".to_owned(), name.to_owned())]).collect()
    }

    fn generic(series: &[LabelSet]) -> Resolved {
        resolve(Preset::HttpGeneric, series, &BTreeSet::new())
    }

    fn auto(series: &[LabelSet], old: &[&str]) -> Resolved {
        resolve(Preset::Auto, series, &old.iter().copied().collect())
    }

    fn of_pod(pod: &str, mut set: LabelSet) -> LabelSet {
        set.insert("pod".to_owned(), pod.to_owned());
        set
    }

    fn text(found: &Result<Found, MissingReason>) -> String {
        match found {
            Ok(found) => found.measure.key(),
            Err(reason) => format!("{reason:?}"),
        }
    }

    #[test]
    fn the_usual_client_library_is_understood() {
        let found = generic(&[
            series("http_requests_total", &["code", "method"]),
            series("http_request_duration_seconds_bucket", &["le", "method"]),
        ]);
        assert_eq!(text(&found.errors), r#"ratio http_requests_total{code=~"5.."} of http_requests_total"#);
        assert_eq!(text(&found.latency), "histogram http_request_duration_seconds_bucket in Seconds");
    }

    #[test]
    fn probe_paths_are_left_out_where_a_path_label_exists() {
        let found = generic(&[series("http_requests_total", &["status", "path"])]);
        let total = r#"http_requests_total{path!~"/(metrics|actuator|healthz?|livez?|readyz?|ready|live|ping)(/.*)?"}"#;
        assert!(text(&found.errors).ends_with(total), "{}", text(&found.errors));
        assert_eq!(found.latency, Err(MissingReason::NoHistogram));
    }

    #[test]
    fn the_count_of_a_histogram_serves_when_it_carries_a_status() {
        let found = generic(&[
            series("http_server_requests_seconds_count", &["status", "uri"]),
            series("http_server_requests_seconds_bucket", &["status", "uri", "le"]),
        ]);
        assert!(text(&found.errors).starts_with("ratio http_server_requests_seconds_count{status=~\"5..\""));
        assert!(found.latency.is_ok());
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(generic(&[]).errors, Err(MissingReason::NoRequestCounter));
        let found = generic(&[series("http_requests_total", &["method"])]);
        assert_eq!(found.errors, Err(MissingReason::NoStatusLabel));
    }

    #[test]
    fn a_counter_with_a_status_wins_over_a_better_known_one_without() {
        let found = generic(&[
            series("http_requests_total", &["method"]),
            series("http_request_duration_seconds_count", &["code"]),
        ]);
        assert!(text(&found.errors).contains("http_request_duration_seconds_count"));
    }

    #[test]
    fn discovery_asks_for_known_names_of_these_pods_only() {
        let text = discovery_selector(Preset::HttpGeneric, &[PodName::new("shop", "a-1")]).to_string();
        assert!(text.starts_with("{__name__=~\"http_requests_total|"), "{text}");
        assert!(text.contains(r#"namespace="shop",pod=~"a-1""#), "{text}");
    }

    #[test]
    fn auto_takes_the_first_preset_whose_series_exist_and_says_why() {
        let found = auto(
            &[
                series("istio_requests_total", &["response_code", "reporter"]),
                series("istio_request_duration_milliseconds_bucket", &["le", "reporter"]),
                series("http_server_requests_seconds_count", &["status", "uri"]),
            ],
            &[],
        );
        let (errors, latency) = (found.errors.unwrap(), found.latency.unwrap());
        assert_eq!((errors.preset, latency.preset), (Preset::Micrometer, Preset::Istio));
        let said = "micrometer: Auto found http_server_requests_seconds_count for these pods";
        assert_eq!(errors.sentence(Preset::Auto), said);
        assert_eq!(errors.sentence(Preset::Micrometer), "micrometer");
    }

    #[test]
    fn what_counts_the_requests_also_times_them_if_it_can() {
        let found = auto(
            &[
                series("http_requests_total", &["code"]),
                series("http_request_duration_seconds_bucket", &["le"]),
                series("http_server_requests_seconds_bucket", &["le"]),
            ],
            &[],
        );
        assert_eq!(found.errors.unwrap().preset, Preset::Go);
        assert_eq!(found.latency.unwrap().series, "http_request_duration_seconds_bucket");
    }

    #[test]
    fn a_release_that_brings_another_library_does_not_change_what_is_asked() {
        let old = of_pod("old-1", series("istio_requests_total", &["response_code"]));
        let new = of_pod("new-1", series("http_server_requests_seconds_count", &["status"]));
        let found = auto(&[old.clone(), new.clone()], &["old-1"]);
        assert_eq!(found.errors.unwrap().preset, Preset::Istio);
        assert_eq!(auto(&[old, new], &[]).errors.unwrap().preset, Preset::Micrometer);
    }

    #[test]
    fn histograms_in_milliseconds_are_read_as_such_also_where_the_name_does_not_say_it() {
        let found = auto(&[series("envoy_http_downstream_rq_time_bucket", &["le"])], &[]);
        assert!(text(&found.latency).ends_with("in Milliseconds"), "{}", text(&found.latency));
        assert!(text(&found.latency).contains(r#"envoy_http_conn_manager_prefix!="admin""#));
    }

    #[test]
    fn throttled_periods_are_a_share_of_all_periods_of_the_containers_alone() {
        let measure = measure_of(Preset::ContainerCpuThrottling).unwrap();
        let containers = r#"{container!="",container!="POD"}"#;
        let text = format!(
            "ratio container_cpu_cfs_throttled_periods_total{containers} of container_cpu_cfs_periods_total{containers}"
        );
        assert_eq!(measure.key(), text);
    }

    #[test]
    fn discovery_for_auto_asks_for_each_name_once() {
        let text = discovery_selector(Preset::Auto, &[PodName::new("shop", "a-1")]).to_string();
        let names = text.split('"').nth(1).unwrap();
        let all: Vec<&str> = names.split('|').collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len());
        assert!(all.contains(&"istio_requests_total") && all.contains(&"grpc_server_handling_seconds_bucket"));
    }
}
