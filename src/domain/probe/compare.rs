//! New pods against old pods: what a probe found, and whether it blames the new revision.
//!
//! Role: turns repeated answers of pods into one finding per probe. Inputs: the last outcomes of every pod asked.
//! Outputs: a [`Finding`], or none; a line for status. Latency is shown, not judged. Must never import: other rooms.

use std::time::Duration;

use super::{Issue, Probe, ProbeOutcome, Question};
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::outcome::FailureClass;
use crate::domain::redact::Redactor;

/// How many of the last answers of a pod count.
pub const LAST: usize = 3;
/// How many of them must agree.
pub const REPEATED: usize = 2;
/// The longest context of a finding.
const CONTEXT: usize = 512;

/// One pod, with its last outcomes, newest last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub pod: String,
    /// What came of asking it.
    pub outcomes: Vec<ProbeOutcome>,
}

/// What is known of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Passes,
    Fails,
    /// Not asked often enough, or refused.
    Open,
}

impl Asked {
    /// The last answers; a refusal is no answer.
    fn answers(&self) -> impl Iterator<Item = &ProbeOutcome> {
        self.outcomes.iter().rev().filter(|outcome| !matches!(outcome, ProbeOutcome::Refused { .. })).take(LAST)
    }

    fn failures(&self) -> impl Iterator<Item = &ProbeOutcome> {
        self.answers().filter(|outcome| !matches!(outcome, ProbeOutcome::Ok { .. }))
    }

    fn state(&self) -> State {
        let (all, failed) = (self.answers().count(), self.failures().count());
        if failed >= REPEATED {
            State::Fails
        } else if all - failed >= REPEATED {
            State::Passes
        } else {
            State::Open
        }
    }
}

fn count(pods: &[Asked], state: State) -> usize {
    pods.iter().filter(|pod| pod.state() == state).count()
}

/// What a probe found; `None` while no new pod failed repeatedly. `old` is empty if no old pod was asked.
#[must_use]
pub fn compare(probe: &Probe, new: &[Asked], old: &[Asked], redactor: &Redactor) -> Option<Finding> {
    let failing: Vec<&Asked> = new.iter().filter(|pod| pod.state() == State::Fails).collect();
    // The newest failure of the pod that comes first by name, so that the order of asking changes nothing.
    let shown = failing.iter().min_by_key(|pod| &pod.pod).and_then(|pod| pod.failures().next())?;
    let (old_fail, old_pass) = (count(old, State::Fails), count(old, State::Passes));
    let novelty = match (old_fail, old_pass) {
        (1.., _) => Novelty::Known,
        (0, 1..) => Novelty::New,
        (0, 0) => Novelty::Unknown,
    };
    let (issue, what) = words(shown);
    let who = format!("{} of {} new pods fail", failing.len(), new.len());
    let against = match novelty {
        Novelty::Known => format!(
            "it fails on {old_fail} of {} old pods too, on both revisions, and does not blame the new one",
            old.len()
        ),
        Novelty::New | Novelty::More => format!("{old_pass} of {} old pods pass", old.len()),
        Novelty::Unknown => "old pods could not be asked often enough to compare".to_owned(),
    };
    let context = format!("{}: {who}: {what}; {against}", question(probe));
    let sum = |pods: &[Asked]| {
        pods.iter().map(|pod| u64::try_from(pod.failures().count()).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
    };
    Some(Finding {
        source: Source::Probe { name: probe.name.clone() },
        issue: issue.as_str().to_owned(),
        context: redactor.redact(&context, CONTEXT).as_str().to_owned(),
        suggested_fix: issue.usual_fix().to_owned(),
        service: None,
        class: class(issue, shown),
        new: sum(new),
        old: (old_fail + old_pass > 0).then(|| sum(old)),
        novelty,
    })
}

/// A line for people: who passes, and how fast.
#[must_use]
pub fn describe(probe: &Probe, new: &[Asked], old: &[Asked]) -> String {
    let side = |name: &str, pods: &[Asked]| {
        if pods.is_empty() {
            return format!("no {name} pods asked");
        }
        let passing = count(pods, State::Passes);
        let time = median(pods).map(|time| format!(", median {} ms", time.as_millis())).unwrap_or_default();
        format!("{passing} of {} {name} pods pass{time}", pods.len())
    };
    format!("{}: {}; {}", question(probe), side("new", new), side("old", old))
}

/// The median time of the answers that were as expected.
fn median(pods: &[Asked]) -> Option<Duration> {
    let mut times: Vec<Duration> = pods
        .iter()
        .flat_map(Asked::answers)
        .filter_map(|outcome| match outcome {
            ProbeOutcome::Ok { latency } => Some(*latency),
            _ => None,
        })
        .collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// What is asked, without the address.
fn question(probe: &Probe) -> String {
    let port = probe.port;
    match &probe.question {
        Question::Http(http) => format!("GET {} port {port} {}", http.scheme.as_str(), http.path),
        Question::Tcp => format!("TCP port {port}"),
        Question::Grpc { service } if service.is_empty() => format!("gRPC health port {port}"),
        Question::Grpc { service } => format!("gRPC health of {service} port {port}"),
    }
}

fn words(outcome: &ProbeOutcome) -> (Issue, String) {
    match outcome {
        ProbeOutcome::Failed { issue, what, .. } => (*issue, what.clone()),
        ProbeOutcome::TimedOut { stage, after } => {
            (Issue::Slow, format!("{} within {} ms", stage.missing(), after.as_millis()))
        }
        // Neither is a failure, so neither gets here.
        ProbeOutcome::Ok { .. } | ProbeOutcome::Refused { .. } => (Issue::ConnectionLost, String::new()),
    }
}

/// Where a probe says more than that it failed.
fn class(issue: Issue, shown: &ProbeOutcome) -> FailureClass {
    match (issue, shown) {
        (Issue::Slow, _) => FailureClass::Performance,
        (Issue::Status, ProbeOutcome::Failed { what, .. }) if what.starts_with("answered 429 ") => {
            FailureClass::RateLimit
        }
        _ => FailureClass::Other,
    }
}
