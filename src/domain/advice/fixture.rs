//! A case for tests.
//!
//! Role: what a grey release looks like. Inputs: none. Outputs: data. Must never import: other rooms.

use serde_json::json;

use super::authority::Zone;
use super::prompt::{Case, FactRow, Milestone, Prompt, SignalRow, changes};
use crate::domain::assess::SignalVerdict;
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::outcome::{FailureClass, Reason};
use crate::domain::process::Counts;
use crate::domain::signal::Term;

/// Drawn by the caller, once a call.
pub(super) const BOUNDARY: &str = "q7Rk2mXw9TzB4nLc";

pub(super) fn signal(name: &str, new: (u64, u64), old: (u64, u64), ln_e: f64) -> SignalRow {
    SignalRow {
        name: name.to_owned(),
        term: Term::of(name),
        verdict: if ln_e > 2.0 { SignalVerdict::Worse } else { SignalVerdict::Unproven },
        new: "5.2 %".to_owned(),
        old: "1.0 %".to_owned(),
        counted: Some((Counts::new(new.0, new.1), Counts::new(old.0, old.1))),
        ln_e: Some(ln_e),
        allowed: "weight 50 %; allowed is 1.25 times the old share and 0.1 points".to_owned(),
    }
}

pub(super) fn finding(novelty: Novelty, context: &str) -> Finding {
    Finding {
        source: Source::Logs { container: "api".to_owned() },
        issue: "connection refused".to_owned(),
        context: context.to_owned(),
        suggested_fix: "check that the service is up".to_owned(),
        service: Some("db".to_owned()),
        class: FailureClass::DependencyUnavailable,
        new: 14,
        old: Some(0),
        novelty,
    }
}

pub(super) fn case() -> Case {
    let template = |image: &str, memory: &str, cache: &str| {
        json!({"spec": {"containers": [{"name": "api", "image": image,
            "env": [{"name": "CACHE", "value": cache}, {"name": "LOG_LEVEL", "value": "info"}],
            "resources": {"limits": {"memory": memory}}}]}})
    };
    Case {
        workload: "Deployment shop/api".to_owned(),
        zone: Zone::Grey,
        alpha: 0.01,
        ln_e: Some(3.5),
        signals: vec![
            signal("http/errors", (79, 1510), (9, 900), 4.1),
            signal("http/latency", (61, 1510), (33, 900), -0.4),
        ],
        facts: vec![FactRow {
            reason: Reason::CrashLoop,
            sentence: "pod api-7f9c-x2 exited 2 times with code 1".to_owned(),
        }],
        findings: vec![
            finding(Novelty::New, "dial tcp <ip>:<n>: connect: connection refused \"orders\""),
            finding(Novelty::Known, "cache miss for <id>"),
        ],
        timeline: vec![
            (0, Milestone::Began),
            (21, Milestone::FirstReady),
            (180, Milestone::Now),
            (1821, Milestone::WindowEnds),
        ],
        changes: changes(&template("shop/api:1.4.1", "256Mi", "on"), &template("shop/api:1.4.2", "128Mi", "off")),
        notes: vec!["change cause: pool of 20 connections".to_owned()],
    }
}

/// Every text of the case from outside becomes this one.
pub(super) fn everywhere(text: &str) -> Vec<Case> {
    let plain = case();
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Case)| {
        let mut case = plain.clone();
        change(&mut case);
        all.push(case);
    };
    add(&|case| text.clone_into(&mut case.workload));
    add(&|case| text.clone_into(&mut case.signals[0].name));
    add(&|case| text.clone_into(&mut case.signals[0].new));
    add(&|case| text.clone_into(&mut case.signals[0].old));
    add(&|case| text.clone_into(&mut case.signals[0].allowed));
    add(&|case| text.clone_into(&mut case.facts[0].sentence));
    add(&|case| case.findings[0].source = Source::Logs { container: text.to_owned() });
    add(&|case| case.findings[0].source = Source::Probe { name: text.to_owned() });
    add(&|case| text.clone_into(&mut case.findings[0].issue));
    add(&|case| text.clone_into(&mut case.findings[0].context));
    add(&|case| text.clone_into(&mut case.findings[0].suggested_fix));
    add(&|case| case.findings[0].service = Some(text.to_owned()));
    add(&|case| text.clone_into(&mut case.changes[0].what));
    add(&|case| text.clone_into(&mut case.changes[0].old));
    add(&|case| text.clone_into(&mut case.changes[0].new));
    add(&|case| text.clone_into(&mut case.changes[1].new));
    add(&|case| text.clone_into(&mut case.notes[0]));
    all
}

/// The same in all of them at once.
pub(super) fn all_over(text: &str) -> Case {
    let mut case = case();
    let text = || text.to_owned();
    (case.workload, case.notes[0], case.facts[0].sentence) = (text(), text(), text());
    for row in &mut case.signals {
        (row.name, row.new, row.old, row.allowed) = (text(), text(), text(), text());
    }
    for finding in &mut case.findings {
        finding.source = Source::Logs { container: text() };
        (finding.issue, finding.context, finding.suggested_fix) = (text(), text(), text());
        finding.service = Some(text());
    }
    for change in &mut case.changes {
        (change.what, change.old, change.new) = (text(), text(), text());
    }
    case
}

/// A request as a provider gets it, more or less.
pub(super) fn request(prompt: &Prompt) -> String {
    json!({"model": "m", "temperature": 0, "max_tokens": 2048,
        "messages": [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": true, "schema": prompt.schema}}})
    .to_string()
}
