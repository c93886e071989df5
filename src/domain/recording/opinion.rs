//! What a language model said during a recorded rollout: a line between two steps.
//!
//! Role: `{"opinion": {...}}` lines, written when an opinion is heard, and what comes of one in a replay by the rules of
//! authority that judged the live one. Inputs: an opinion, or a line. Outputs: a line, or a conclusion. Must never import:
//! other rooms.

use serde::{Deserialize, Serialize};

use super::conclude::Conclusion;
use crate::domain::advice::authority::{self, Authority, Ground, Ruling};
use crate::domain::advice::prompt::Known;
use crate::domain::advice::reply::Opinion;
use crate::domain::judge::{Finding, Judgement};
use crate::domain::outcome::{Confidence, FailureClass, HealthScore, Reason, Verdict};

/// The id that stands for everything abnormal that was cited.
const CITED: &str = "cited";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    opinion: Heard,
}

/// What a replay needs of an opinion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Heard {
    /// The provider's name.
    by: String,
    /// ROLLBACK, CONTINUE or INCONCLUSIVE.
    decision: String,
    /// In percent.
    confidence: u8,
    /// What the guard let it decide.
    authority: String,
    /// Whether it cited anything that is worse than on the old revision.
    cites_abnormal: bool,
    /// Whether nothing was concluded then for a reason that is in no step: a node, scaling, an outage of the metrics.
    held: bool,
}

/// The line of an opinion.
#[must_use]
pub fn write_opinion(by: &str, authority: Authority, held: bool, known: &[Known], opinion: &Opinion) -> String {
    let cites_abnormal = known.iter().any(|known| known.abnormal && opinion.evidence.contains(&known.id));
    let heard = Heard {
        by: by.to_owned(),
        decision: opinion.verdict.to_string(),
        confidence: opinion.confidence.value(),
        authority: authority.as_str().to_owned(),
        cites_abnormal,
        held,
    };
    serde_json::to_string(&Line { opinion: heard }).unwrap_or_default()
}

/// Whether a line holds an opinion and no step.
pub(super) fn is_one(text: &str) -> bool {
    text.trim_start().strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with("\"opinion\""))
}

/// Reads a line, or says what is wrong with it.
pub(super) fn read(text: &str) -> Result<Line, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| format!("is no opinion: {error}"))?;
    let Heard { decision, confidence, authority, .. } = &line.opinion;
    if Verdict::parse(decision).is_none() {
        return Err(format!("is {decision:?} as a decision; write ROLLBACK, CONTINUE or INCONCLUSIVE"));
    }
    if Authority::parse(authority).is_none() {
        return Err(format!("is {authority:?} as an authority; write Advisory, TieBreak or Decide"));
    }
    if *confidence > 100 {
        return Err(format!("has the confidence {confidence}; write 0 to 100"));
    }
    Ok(line)
}

/// What comes of it after this step.
pub(super) fn after(line: &Line, judged: &Judgement, alpha: f64, certified: bool, step: u64) -> Option<Conclusion> {
    let Heard { by, decision, confidence, authority, cites_abnormal, held } = &line.opinion;
    let held = *held || matches!(judged.finding, Finding::SharedIncident { .. } | Finding::TrafficLost { .. });
    let ground = Ground {
        ln_e: Some(judged.ln_e).filter(|_| judged.finding != Finding::NoBaseline),
        alpha,
        fact: false,
        // A replay ends at evidence of harm.
        harmful: false,
        held,
        blind: false,
        certified,
    };
    let opinion = Opinion {
        verdict: Verdict::parse(decision)?,
        confidence: Confidence::percent(f64::from(*confidence)),
        class: FailureClass::Other,
        reasoning: String::new(),
        evidence: vec![CITED.to_owned()],
        suggested_fix: String::new(),
    };
    let known = [Known { id: CITED.to_owned(), abnormal: *cites_abnormal }];
    let ruling = authority::rule(Authority::parse(authority)?, &ground, &known, &opinion);
    (ruling == Ruling::Rollback).then(|| Conclusion {
        decision: Verdict::Rollback,
        confidence: judged.confidence.map_or(0, Confidence::value),
        health_score: judged.score.map(HealthScore::points),
        reason: Reason::LLMDecision,
        deciding_step: Some(step),
        message: format!(
            "llm/{by} proposed ROLLBACK at {confidence} % confidence, where evidence leaves room; {}",
            judged.reasoning
        ),
    })
}
