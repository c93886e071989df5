//! What the shop tells Prometheus, under the names that client libraries use by default. Input: finished requests.
//! Output: the text of `/metrics`.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The default buckets of the client libraries.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    code: u16,
    method: String,
}

/// The registry and the handles into it.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Histogram,
    memory: Gauge<f64, AtomicU64>,
}

impl Exposition {
    /// A silent one measures requests like any other but does not expose them.
    pub fn new(silent: bool) -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations = Histogram::new(BUCKETS);
        let memory = Gauge::<f64, AtomicU64>::default();
        let start = Gauge::<f64, AtomicU64>::default();
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            start.set(now.as_secs_f64());
        }
        if !silent {
            registry.register("http_requests", "Requests answered", requests.clone());
            registry.register("http_request_duration_seconds", "Time from request to answer", durations.clone());
        }
        registry.register("process_resident_memory_bytes", "Resident memory", memory.clone());
        registry.register("process_start_time_seconds", "Start of the process since the epoch", start);
        Self { registry, requests, durations, memory }
    }

    /// Counts one finished request.
    pub fn observe(&self, code: u16, method: &str, took: Duration) {
        let method = method.to_owned();
        self.requests.get_or_create(&Labels { code, method }).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        if let Some(bytes) = resident_bytes() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Resident memory as the kernel tells it; absent where there is no `/proc`.
fn resident_bytes() -> Option<f64> {
    parse_resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kib) * 1024.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(text: &str) -> BTreeSet<&str> {
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect()
    }

    #[test]
    fn exactly_the_promised_names_are_exposed() {
        let exposition = Exposition::new(false);
        exposition.observe(200, "GET", Duration::from_millis(3));
        exposition.observe(500, "POST", Duration::from_secs(20));
        let text = exposition.text().unwrap();
        let expected = [
            "http_request_duration_seconds_bucket",
            "http_request_duration_seconds_count",
            "http_request_duration_seconds_sum",
            "http_requests_total",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ];
        assert_eq!(names(&text), BTreeSet::from(expected), "{text}");
        assert!(text.contains("http_requests_total{code=\"200\",method=\"GET\"} 1"), "{text}");
        assert!(text.contains("http_requests_total{code=\"500\",method=\"POST\"} 1"), "{text}");
        assert!(text.contains("http_request_duration_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("http_request_duration_seconds_bucket{le=\"10.0\"} 1"), "{text}");
        assert!(text.contains("http_request_duration_seconds_bucket{le=\"+Inf\"} 2"), "{text}");
    }

    #[test]
    fn a_silent_one_exposes_only_the_process() {
        let exposition = Exposition::new(true);
        exposition.observe(200, "GET", Duration::from_millis(3));
        let text = exposition.text().unwrap();
        let expected = ["process_resident_memory_bytes", "process_start_time_seconds"];
        assert_eq!(names(&text), BTreeSet::from(expected), "{text}");
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let read = parse_resident("VmPeak:\t  900 kB\nVmRSS:\t    1024 kB\n").unwrap();
        assert!((read - 1_048_576.0).abs() < f64::EPSILON);
        assert_eq!(parse_resident("VmPeak:\t  900 kB\n"), None);
    }
}
