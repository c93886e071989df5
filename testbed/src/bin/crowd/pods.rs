//! Counters as a function of time: nothing runs between two scrapes, so a crowd costs nothing while nobody looks.
//! Input: a list of pods with their rates. Output: Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use serde::Deserialize;

/// Few, because every pod has each of them.
const BUCKETS: [f64; 5] = [0.01, 0.05, 0.1, 0.5, 2.5];

/// One pod as it is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Requests per second.
    #[serde(default)]
    pub rate: f64,
    /// Share of them that fail.
    #[serde(default)]
    pub error_rate: f64,
    /// Mean of the exponential distribution of their durations.
    #[serde(default = "default_latency")]
    pub latency_ms: f64,
}

fn default_latency() -> f64 {
    40.0
}

/// Counted up to `since`; from there on the rates tell.
#[derive(Clone, Debug)]
struct Pod {
    ok: f64,
    errors: f64,
    rate: f64,
    error_rate: f64,
    latency_s: f64,
    since: Instant,
}

impl Pod {
    fn counts(&self, now: Instant) -> (f64, f64) {
        let requests = self.rate * now.saturating_duration_since(self.since).as_secs_f64();
        let ok = self.ok + requests * (1.0 - self.error_rate);
        (ok, self.errors + requests * self.error_rate)
    }
}

/// All pods by namespace and name.
#[derive(Debug, Default)]
pub struct Crowd(BTreeMap<(String, String), Pod>);

impl Crowd {
    /// Takes a new list: pods that stay keep their counts, others start at nothing or are gone.
    pub fn replace(&mut self, lines: Vec<PodLine>, now: Instant) {
        let mut old = std::mem::take(&mut self.0);
        for line in lines {
            let key = (line.namespace, line.pod);
            let (ok, errors) = old.remove(&key).map_or((0.0, 0.0), |pod| pod.counts(now));
            let pod = Pod {
                ok,
                errors,
                rate: line.rate.max(0.0),
                error_rate: line.error_rate.clamp(0.0, 1.0),
                latency_s: line.latency_ms.max(0.001) / 1000.0,
                since: now,
            };
            self.0.insert(key, pod);
        }
    }

    /// Number of pods.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The text that Prometheus reads.
    pub fn text(&self, now: Instant) -> String {
        let mut out = String::with_capacity(512 + self.0.len() * 1024);
        // Writing to a string cannot fail.
        let _ = self.write(&mut out, now);
        out
    }

    fn write(&self, out: &mut String, now: Instant) -> std::fmt::Result {
        writeln!(out, "# TYPE http_requests_total counter")?;
        for ((namespace, name), pod) in &self.0 {
            let labels = labels(namespace, name);
            let (ok, errors) = pod.counts(now);
            for (code, count) in [(200, ok), (500, errors)] {
                let count = count.floor();
                writeln!(out, "http_requests_total{{{labels},code=\"{code}\",method=\"GET\"}} {count}")?;
            }
        }
        writeln!(out, "# TYPE http_request_duration_seconds histogram")?;
        for ((namespace, name), pod) in &self.0 {
            let labels = labels(namespace, name);
            let (ok, errors) = pod.counts(now);
            let total = ok.floor() + errors.floor();
            let family = "http_request_duration_seconds";
            for le in BUCKETS {
                let count = (total * (1.0 - (-le / pod.latency_s).exp())).floor();
                writeln!(out, "{family}_bucket{{{labels},le=\"{le}\"}} {count}")?;
            }
            writeln!(out, "{family}_bucket{{{labels},le=\"+Inf\"}} {total}")?;
            writeln!(out, "{family}_sum{{{labels}}} {}", total * pod.latency_s)?;
            writeln!(out, "{family}_count{{{labels}}} {total}")?;
        }
        Ok(())
    }
}

fn labels(namespace: &str, pod: &str) -> String {
    format!("namespace=\"{}\",pod=\"{}\"", escaped(namespace), escaped(pod))
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lines(json: &str) -> Vec<PodLine> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn counters_advance_with_time_at_their_rates() {
        let start = Instant::now();
        let mut crowd = Crowd::default();
        crowd.replace(lines(r#"[{"namespace":"a","pod":"p","rate":10,"error_rate":0.25}]"#), start);
        let text = crowd.text(start + Duration::from_secs(100));
        let of = |code, count| {
            format!("http_requests_total{{namespace=\"a\",pod=\"p\",code=\"{code}\",method=\"GET\"}} {count}\n")
        };
        assert!(text.contains(&of(200, 750)), "{text}");
        assert!(text.contains(&of(500, 250)), "{text}");
        assert!(text.contains("le=\"+Inf\"} 1000\n"), "{text}");
        assert!(text.contains("_count{namespace=\"a\",pod=\"p\"} 1000\n"), "{text}");
    }

    #[test]
    fn a_pod_that_stays_never_counts_backwards_and_a_new_one_starts_at_nothing() {
        let start = Instant::now();
        let mut crowd = Crowd::default();
        crowd.replace(lines(r#"[{"namespace":"a","pod":"p","rate":10}]"#), start);
        let later = start + Duration::from_secs(10);
        crowd.replace(lines(r#"[{"namespace":"a","pod":"p"},{"namespace":"a","pod":"q","rate":1}]"#), later);
        let text = crowd.text(later);
        assert!(text.contains("pod=\"p\",code=\"200\",method=\"GET\"} 100\n"), "{text}");
        assert!(text.contains("pod=\"q\",code=\"200\",method=\"GET\"} 0\n"), "{text}");
        crowd.replace(Vec::new(), later);
        assert_eq!(crowd.len(), 0);
        assert!(!crowd.text(later).contains("pod="));
    }

    #[test]
    fn buckets_are_cumulative_and_unknown_fields_are_refused() {
        let start = Instant::now();
        let mut crowd = Crowd::default();
        crowd.replace(lines(r#"[{"namespace":"a","pod":"p","rate":100}]"#), start);
        let text = crowd.text(start + Duration::from_mins(1));
        let counts: Vec<f64> = text
            .lines()
            .filter(|line| line.contains("_bucket"))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        assert_eq!(counts.len(), BUCKETS.len() + 1);
        assert!(counts.is_sorted() && counts[0] > 0.0, "{counts:?}");
        assert!(serde_json::from_str::<Vec<PodLine>>(r#"[{"namespace":"a","pod":"p","x":1}]"#).is_err());
    }
}
