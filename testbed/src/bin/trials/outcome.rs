//! What a trial showed. Input: reports of the load, and what the guard's status said. Output: a verdict, and whether it
//! is the right one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::scenario::Trial;

/// The tag of the release.
const RELEASE: &str = "v2";

/// What became of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rolled back, and the old template stands in the Deployment.
    Undone,
    /// Called bad, and still there.
    Condemned,
    /// Decided otherwise.
    Kept,
    /// Nothing was decided in time.
    Undecided,
    /// The trial itself failed.
    Broken(String),
}

impl Verdict {
    /// A word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Undone => "undone",
            Self::Condemned => "condemned, not undone",
            Self::Kept => "kept",
            Self::Undecided => "undecided",
            Self::Broken(_) => "trial broke off",
        }
    }
}

/// Answers of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Good ones.
    pub ok: u64,
    /// Bad ones.
    pub errors: u64,
}

/// What the clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Per version; `none` are requests without an answer.
    pub by_version: BTreeMap<String, Count>,
    /// The release's first answer.
    pub first: Option<Timestamp>,
    /// The release's first bad answer.
    pub first_error: Option<Timestamp>,
}

impl Answers {
    /// Adds the seconds up.
    pub fn count(reports: &[Value]) -> Self {
        let mut answers = Self::default();
        for second in reports.iter().filter(|line| line.get("final").is_none()) {
            for (version, counts) in second["by_version"].as_object().into_iter().flatten() {
                let sum = answers.by_version.entry(version.clone()).or_default();
                sum.ok += counts["ok"].as_u64().unwrap_or_default();
                sum.errors += counts["errors"].as_u64().unwrap_or_default();
            }
            let release = &second["by_version"][RELEASE];
            let time = |field: &str| release[field].as_str().and_then(|time| time.parse().ok());
            answers.first = answers.first.or_else(|| time("first_at"));
            answers.first_error = answers.first_error.or_else(|| time("first_error_at"));
        }
        answers
    }

    /// Bad answers of the release.
    pub fn bad(&self) -> u64 {
        self.by_version.get(RELEASE).map_or(0, |count| count.errors)
    }
}

/// What was measured; times in seconds.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What became of the release.
    pub verdict: Verdict,
    /// From the push to the first sample of a new pod.
    pub push_to_sample: Option<f64>,
    /// From the push to the accepted patch.
    pub push_to_undo: Option<f64>,
    /// From the first bad answer that a client got (where no answers fail, the first answer) to the accepted patch.
    pub bad_to_undo: Option<f64>,
    /// What clients saw.
    pub answers: Answers,
    /// `status.lastDecision`.
    pub decision: Value,
    /// `status.signals` at the end.
    pub signals: Value,
    /// `status.analysis.message` at the end.
    pub note: String,
}

impl Measured {
    /// A trial that failed itself.
    pub fn broken(why: String) -> Self {
        Self {
            verdict: Verdict::Broken(why),
            push_to_sample: None,
            push_to_undo: None,
            bad_to_undo: None,
            answers: Answers::default(),
            decision: Value::Null,
            signals: Value::Null,
            note: String::new(),
        }
    }
}

/// A trial and what it showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub trial: Trial,
    /// What.
    pub measured: Measured,
}

impl Outcome {
    /// Bad ones are to be undone, the others not; what broke off or stayed undecided has shown neither.
    pub fn right(&self) -> bool {
        let wanted = if self.trial.scenario.bad { Verdict::Undone } else { Verdict::Kept };
        self.measured.verdict == wanted
    }

    /// Why, as the guard says it, or what broke.
    pub fn why(&self) -> &str {
        if let Verdict::Broken(why) = &self.measured.verdict {
            return why;
        }
        self.measured.decision["reasoning"].as_str().unwrap_or(&self.measured.note)
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let measured = &self.measured;
        json!({
            "scenario": self.trial.scenario.name,
            "rollout": self.trial.rollout.word(),
            "number": self.trial.number,
            "bad": self.trial.scenario.bad,
            "verdict": measured.verdict.word(),
            "right": self.right(),
            "why": self.why(),
            "pushToSampleSeconds": measured.push_to_sample,
            "pushToUndoSeconds": measured.push_to_undo,
            "badToUndoSeconds": measured.bad_to_undo,
            "answers": measured.answers.by_version,
            "lastDecision": measured.decision,
            "signals": measured.signals,
            "note": measured.note,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_answer_of_the_release_counts_not_of_the_old_one() {
        let reports = [
            json!({"by_version": {"v1": {"ok": 9, "errors": 1, "first_error_at": "2026-01-01T00:00:01Z"}}}),
            json!({"by_version": {"v2": {"ok": 3, "errors": 0, "first_at": "2026-01-01T00:00:02Z"}}}),
            json!({"by_version": {"v2": {"ok": 1, "errors": 2, "first_at": "2026-01-01T00:00:03Z",
                "first_error_at": "2026-01-01T00:00:03.5Z"}}}),
            json!({"final": true, "by_version": {"v2": {"ok": 4, "errors": 2}}}),
        ];
        let answers = Answers::count(&reports);
        assert_eq!(answers.first, Some("2026-01-01T00:00:02Z".parse().unwrap()));
        assert_eq!(answers.first_error, Some("2026-01-01T00:00:03.5Z".parse().unwrap()));
        assert_eq!((answers.bad(), &answers.by_version["v2"].ok), (2, &4));
    }
}
