//! Whether a question was asked before.
//!
//! Role: equal hashes for looks that show the same evidence. Counts move at every look, so numbers enter by their size: E
//! in whole steps of its logarithm, no counts. Inputs: a case, the policy. Outputs: a SHA-256 in hex. The boundary is no
//! part of it. Must never import: other rooms.

use sha2::{Digest, Sha256};

use super::{Case, DataPolicy, PROMPT_VERSION};
use crate::domain::logs::mask::mask;
use crate::domain::sample::canonical;
use serde_json::json;

/// Hashes what would be asked.
#[must_use]
pub fn evidence_hash(case: &Case, policy: DataPolicy) -> String {
    let mut signals: Vec<String> =
        case.signals.iter().map(|row| format!("{}|{}|{}", row.name, row.verdict.as_str(), size(row.ln_e))).collect();
    let mut facts: Vec<String> = case.facts.iter().map(|fact| fact.reason.as_str().to_owned()).collect();
    let mut findings: Vec<String> = case
        .findings
        .iter()
        .map(|finding| {
            let (novelty, context) = (finding.novelty.as_str(), mask(&finding.context));
            format!("{}|{}|{novelty}|{}|{context}", finding.source, finding.issue, finding.class)
        })
        .collect();
    let mut changes: Vec<String> =
        case.changes.iter().map(|change| format!("{}|{}", change.kind.as_str(), change.sentence())).collect();
    for list in [&mut signals, &mut facts, &mut findings, &mut changes] {
        list.sort();
        list.dedup();
    }
    let gist = json!({
        "version": PROMPT_VERSION, "policy": policy.as_str(), "workload": case.workload, "zone": case.zone.as_str(),
        "e": size(case.ln_e), "signals": signals, "facts": facts, "findings": findings, "changes": changes,
    });
    hex::encode(Sha256::digest(canonical(&gist).as_bytes()))
}

/// ln E in whole steps; below 1 there is none.
fn size(ln_e: Option<f64>) -> String {
    ln_e.filter(|ln_e| ln_e.is_finite()).map_or_else(|| "-".to_owned(), |ln_e| format!("{:.0}", ln_e.max(0.0).floor()))
}
