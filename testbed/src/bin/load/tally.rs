//! What the client saw: one line per second and a final report. Input: outcomes with their times. Output: JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::exchange::{Answer, Failure};
use crate::pacing::percentile;

/// Stands for the version when no answer named one.
const UNKNOWN: &str = "none";

/// One finished request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What came back.
    pub result: Result<Answer, Failure>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Count {
    ok: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error_at: Option<String>,
}

#[derive(Debug, Default)]
struct Sums {
    ok: u64,
    errors: u64,
    skipped: u64,
    by_version: BTreeMap<String, Count>,
    kinds: BTreeMap<String, u64>,
}

/// The running second and the whole run.
#[derive(Debug, Default)]
pub struct Tally {
    second: Sums,
    durations: Vec<Duration>,
    whole: Sums,
}

#[derive(Serialize)]
struct Line<'a> {
    t: String,
    ok: u64,
    errors: u64,
    skipped: u64,
    by_version: &'a BTreeMap<String, Count>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
}

#[derive(Serialize)]
struct Report<'a> {
    r#final: bool,
    t: String,
    seconds: f64,
    ok: u64,
    errors: u64,
    skipped: u64,
    by_version: &'a BTreeMap<String, Count>,
    error_kinds: &'a BTreeMap<String, u64>,
}

impl Tally {
    /// Counts one outcome; an answer of 400 and above is an error.
    pub fn add(&mut self, outcome: &Outcome) {
        let (version, kind) = match &outcome.result {
            Ok(answer) => {
                let kind = (answer.status >= 400).then(|| answer.status.to_string());
                (answer.version.as_deref().unwrap_or(UNKNOWN), kind)
            }
            Err(failure) => (UNKNOWN, Some(failure.word().to_owned())),
        };
        self.durations.push(outcome.took);
        self.second.add(version, kind.as_deref(), outcome.at);
        self.whole.add(version, kind.as_deref(), outcome.at);
    }

    /// A request that was due while too many were still open.
    pub fn skip(&mut self) {
        self.second.skipped += 1;
        self.whole.skipped += 1;
    }

    /// The line of the second that ends now; the next one starts empty.
    pub fn line(&mut self, now: Timestamp) -> serde_json::Result<String> {
        let mut durations = std::mem::take(&mut self.durations);
        durations.sort_unstable();
        let second = std::mem::take(&mut self.second);
        serde_json::to_string(&Line {
            t: rfc3339(now),
            ok: second.ok,
            errors: second.errors,
            skipped: second.skipped,
            by_version: &second.by_version,
            p50_ms: percentile(&durations, 50).map(millis),
            p95_ms: percentile(&durations, 95).map(millis),
        })
    }

    /// Everything since the start.
    pub fn report(&self, now: Timestamp, ran: Duration) -> serde_json::Result<String> {
        serde_json::to_string(&Report {
            r#final: true,
            t: rfc3339(now),
            seconds: millis(ran) / 1000.0,
            ok: self.whole.ok,
            errors: self.whole.errors,
            skipped: self.whole.skipped,
            by_version: &self.whole.by_version,
            error_kinds: &self.whole.kinds,
        })
    }
}

impl Sums {
    fn add(&mut self, version: &str, error: Option<&str>, at: Timestamp) {
        let count = self.by_version.entry(version.to_owned()).or_default();
        count.first_at.get_or_insert_with(|| rfc3339(at));
        let Some(kind) = error else {
            self.ok += 1;
            count.ok += 1;
            return;
        };
        self.errors += 1;
        count.errors += 1;
        count.first_error_at.get_or_insert_with(|| rfc3339(at));
        count.last_error_at = Some(rfc3339(at));
        *self.kinds.entry(kind.to_owned()).or_default() += 1;
    }
}

/// Milliseconds with one place for microseconds' tenths is enough for reading.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn outcome(at: &str, took: u64, result: Result<(u16, &str), Failure>) -> Outcome {
        Outcome {
            at: at.parse().unwrap(),
            took: Duration::from_millis(took),
            result: result.map(|(status, version)| Answer { status, version: Some(version.to_owned()) }),
        }
    }

    #[test]
    fn a_line_covers_its_second_and_the_report_the_whole_run() {
        let mut tally = Tally::default();
        let now: Timestamp = "2026-01-01T00:00:09Z".parse().unwrap();
        tally.add(&outcome("2026-01-01T00:00:01Z", 5, Ok((200, "v1"))));
        tally.add(&outcome("2026-01-01T00:00:02.0415Z", 7, Ok((500, "v2"))));
        let line: Value = serde_json::from_str(&tally.line(now).unwrap()).unwrap();
        let v2 = &line["by_version"]["v2"];
        assert_eq!((&v2["ok"], &v2["errors"]), (&json!(0), &json!(1)));
        assert_eq!(v2["first_error_at"], "2026-01-01T00:00:02.041Z");
        assert_eq!((&line["p50_ms"], &line["p95_ms"]), (&json!(5.0), &json!(7.0)));

        tally.add(&outcome("2026-01-01T00:00:03Z", 9, Ok((503, "v2"))));
        tally.add(&outcome("2026-01-01T00:00:04Z", 9, Err(Failure::TimedOut)));
        tally.skip();
        let line: Value = serde_json::from_str(&tally.line(now).unwrap()).unwrap();
        assert_eq!((&line["ok"], &line["errors"]), (&json!(0), &json!(2)));
        let report = tally.report(now, Duration::from_secs(9)).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["ok"], &report["errors"]), (&json!(1), &json!(3)));
        assert_eq!(report["skipped"], json!(1));
        assert_eq!(report["by_version"]["v2"]["first_error_at"], "2026-01-01T00:00:02.041Z");
        assert_eq!(report["by_version"]["v2"]["last_error_at"], "2026-01-01T00:00:03.000Z");
        assert_eq!(report["error_kinds"], json!({ "500": 1, "503": 1, "timeout": 1 }));
    }

    #[test]
    fn a_second_without_answers_has_no_percentiles() {
        let line = Tally::default().line(Timestamp::UNIX_EPOCH).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["p50_ms"], &line["ok"]), (&Value::Null, &json!(0)));
    }
}
