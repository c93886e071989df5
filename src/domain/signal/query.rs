//! One query per measure and set of pods: raw counters with the time of their samples.
//!
//! Role: the only place that writes PromQL. Inputs: a measure and pod names. Outputs: query text whose series carry the
//! label `dg`, which says what a series is. Never a rate: counts are differenced in `evidence`. Must never import: other
//! rooms.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{GaugeBy, Matcher, Measure, Operator, Selector};
use crate::domain::rollout::PodName;

/// The label that says what a series is.
pub const LABEL: &str = "dg";
/// Bad events.
pub const PART_BAD: &str = "bad";
/// All events.
pub const PART_TOTAL: &str = "total";
/// Bucket counters, with the label `le`.
pub const PART_BUCKET: &str = "bucket";
/// The value of a gauge.
pub const PART_VALUE: &str = "value";
/// When the sample was taken, in seconds since the epoch.
pub const PART_AT: &str = "at";

/// A rendered query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(String);

impl Query {
    /// Everything a measure needs of these pods, in one query.
    #[must_use]
    pub fn new(measure: &Measure, pods: &[PodName]) -> Self {
        // A proxy's own pod and namespace say nothing about whose requests it counts.
        let proxied = measure.is_proxied();
        let matchers = if proxied { Vec::new() } else { pod_matchers(pods) };
        let (sum, max, sum_le) = if proxied {
            ("sum by (instance)", "max by (instance)", "sum by (instance,le)")
        } else {
            ("sum by (namespace,pod)", "max by (namespace,pod)", "sum by (namespace,pod,le)")
        };
        let mut text = String::new();
        let mut part = |by, of: &Selector, name| push(&mut text, by, &of.to_string(), name);
        let timed = match measure.counted() {
            Measure::Ratio { bad, total } => {
                let total = total.with(&matchers);
                part(sum, &bad.with(&matchers), PART_BAD);
                part(sum, &total, PART_TOTAL);
                (max, total)
            }
            Measure::Histogram { buckets, .. } => {
                let buckets = buckets.with(&matchers);
                part(sum_le, &buckets, PART_BUCKET);
                (max, buckets)
            }
            // `counted` gives none of these.
            Measure::Proxied(_) => return Self(String::new()),
            Measure::Gauge { selector, by } => {
                let selector = selector.with(&matchers);
                let (value, at) = match by {
                    GaugeBy::Container => ("max by (namespace,pod,container)", "max by (namespace,pod,container)"),
                    GaugeBy::Pod => ("sum by (namespace,pod)", "max by (namespace,pod)"),
                };
                part(value, &selector, PART_VALUE);
                (at, selector)
            }
        };
        push(&mut text, timed.0, &format!("timestamp({})", timed.1), PART_AT);
        Self(text)
    }

    /// The query as PromQL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn push(text: &mut String, by: &str, of: &str, name: &str) {
    let or = if text.is_empty() { "" } else { " or " };
    // Writing to a string cannot fail.
    let _ = write!(text, "{or}label_replace({by} ({of}),\"{LABEL}\",\"{name}\",\"\",\"\")");
}

/// Matchers that hold a selector to these pods; a cross product over namespaces, so readers drop what nobody asked for.
pub(super) fn pod_matchers(pods: &[PodName]) -> Vec<Matcher> {
    let spaces: BTreeSet<&str> = pods.iter().map(|pod| &*pod.namespace).collect();
    let names: BTreeSet<&str> = pods.iter().map(|pod| &*pod.name).collect();
    // Outside of brackets a dash is itself, and pod names are full of them.
    let escape = |word: &&str| regex::escape(word).replace("\\-", "-");
    let alternation = |words: &BTreeSet<&str>| words.iter().map(escape).collect::<Vec<_>>().join("|");
    let space = match spaces.first() {
        Some(only) if spaces.len() == 1 => Matcher::new("namespace", Operator::Equal, only),
        _ => Matcher::new("namespace", Operator::Matches, &alternation(&spaces)),
    };
    vec![space, Matcher::new("pod", Operator::Matches, &alternation(&names))]
}

impl Selector {
    /// For selectors that only match on `__name__`.
    pub(super) fn without_name(mut self) -> Self {
        self.name = None;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Preset, measure_of};
    use super::*;

    fn memory() -> Measure {
        measure_of(Preset::ContainerMemory).unwrap()
    }

    #[test]
    fn a_ratio_is_one_query_of_three_parts_held_to_the_pods() {
        let total = Selector::parse("http_requests_total").unwrap();
        let bad = Selector::parse("http_requests_total{code=~'5..'}").unwrap();
        let query =
            Query::new(&Measure::Ratio { bad, total }, &[PodName::new("shop", "b.1"), PodName::new("shop", "a")]);
        let held = |more: &str| format!("http_requests_total{{{more}namespace=\"shop\",pod=~\"a|b\\\\.1\"}}");
        assert_eq!(
            query.as_str(),
            format!(
                "label_replace(sum by (namespace,pod) ({}),\"dg\",\"bad\",\"\",\"\") or \
                 label_replace(sum by (namespace,pod) ({}),\"dg\",\"total\",\"\",\"\") or \
                 label_replace(max by (namespace,pod) (timestamp({})),\"dg\",\"at\",\"\",\"\")",
                held("code=~\"5..\","),
                held(""),
                held("")
            )
        );
    }

    #[test]
    fn several_namespaces_become_an_alternation() {
        let query = Query::new(&memory(), &[PodName::new("a", "x"), PodName::new("b", "y")]);
        assert!(query.as_str().contains(r#"namespace=~"a|b",pod=~"x|y""#), "{}", query.as_str());
        assert!(query.as_str().contains("max by (namespace,pod,container)"));
        assert!(!query.as_str().contains("rate("));
    }

    #[test]
    fn no_pods_match_no_series() {
        let query = Query::new(&memory(), &[]);
        assert!(query.as_str().contains(r#"pod=~"""#));
    }
}
