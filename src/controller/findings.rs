//! Findings in status, bounded: what is new against the old revision first.
//!
//! Role: from findings of the domain to status, by source, so that each source replaces only its own. Inputs: a case and
//! findings. Outputs: `status.findings`. Must never import: `cli`, `console`.

use super::case::Case;
use crate::api::status::FindingStatus;
use crate::domain::finding::{Finding, Novelty, Source};

/// Findings that status shows.
const MOST: usize = 16;
/// Findings that a decision keeps.
const MOST_OF_DECISION: usize = 8;

/// Where a source's findings begin in `source`.
const fn family(source: &Source) -> &'static str {
    match source {
        Source::Pods => "pods",
        Source::Logs { .. } => "logs/",
        Source::Probe { .. } => "probe/",
    }
}

/// Shows the findings of one kind of source in the place of its last ones.
pub fn show(case: &mut Case<'_>, source: Source, found: &[Finding]) {
    let family = family(&source);
    let mut all: Vec<FindingStatus> =
        case.draft.findings.iter().filter(|known| !known.source.starts_with(family)).cloned().collect();
    all.extend(found.iter().map(status));
    all.sort_by_key(rank);
    all.truncate(MOST);
    case.draft.findings = all;
}

/// The findings that a decision about the current revision keeps.
#[must_use]
pub fn of_decision(case: &Case<'_>) -> Vec<FindingStatus> {
    case.draft.findings.iter().take(MOST_OF_DECISION).cloned().collect()
}

fn rank(finding: &FindingStatus) -> (usize, i64) {
    let order = [Novelty::New, Novelty::More, Novelty::Unknown, Novelty::Known];
    (order.iter().position(|novelty| novelty.as_str() == finding.novelty).unwrap_or(order.len()), -finding.new)
}

fn status(finding: &Finding) -> FindingStatus {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    FindingStatus {
        issue: cut(&finding.issue, 128),
        context: cut(&finding.context, 512),
        suggested_fix: (!finding.suggested_fix.is_empty()).then(|| cut(&finding.suggested_fix, 400)),
        source: finding.source.to_string(),
        service: finding.service.as_deref().map(|service| cut(service, 128)),
        class: finding.class.to_string(),
        new: count(finding.new),
        old: finding.old.map(count),
        novelty: finding.novelty.as_str().into(),
    }
}
