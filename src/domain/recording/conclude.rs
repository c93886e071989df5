//! The decision at the end of a recording.
//!
//! Role: what the findings of a replay come to, in the words of a decision record; nobody else is asked here, so a grey
//! zone stays unproven. Inputs: the last judgement. Outputs: `Conclusion`. Must never import: other rooms.

use crate::domain::judge::{Finding, Judgement};
use crate::domain::outcome::{Confidence, HealthScore, Reason, Verdict};
use crate::domain::policy::OnInconclusive;

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// What was decided.
    pub decision: Verdict,
    /// In percent.
    pub confidence: u8,
    /// 0–100; none without data.
    pub health_score: Option<u8>,
    /// Why, as one word of the API.
    pub reason: Reason,
    /// The step that decided, from 1; none if the end of the recording did.
    pub deciding_step: Option<u64>,
    /// Why, as a sentence.
    pub message: String,
}

impl Conclusion {
    fn of(decision: Verdict, reason: Reason, step: Option<u64>, judged: &Judgement) -> Self {
        Self {
            decision,
            confidence: judged.confidence.map_or(0, Confidence::value),
            health_score: judged.score.map(HealthScore::points),
            reason,
            deciding_step: step,
            message: judged.reasoning.clone(),
        }
    }

    /// An end that proves nothing.
    pub(super) fn unproven(reason: Reason, message: String, on_inconclusive: OnInconclusive) -> Self {
        let decision = match on_inconclusive {
            OnInconclusive::Continue => Verdict::Continue,
            OnInconclusive::Hold => Verdict::Inconclusive,
        };
        Self { decision, confidence: 0, health_score: None, reason, deciding_step: None, message }
    }
}

/// Whether a step decides by itself.
pub(super) fn at_step(judged: &Judgement, step: u64) -> Option<Conclusion> {
    match judged.finding {
        Finding::Harm { .. } => Some(Conclusion::of(Verdict::Rollback, Reason::EvidenceOfHarm, Some(step), judged)),
        Finding::LimitBroken { .. } => {
            Some(Conclusion::of(Verdict::Rollback, Reason::LimitExceeded, Some(step), judged))
        }
        _ => None,
    }
}

/// What the end decides. `certified` is the step at which health was proven.
pub(super) fn at_end(
    judged: Option<&Judgement>,
    certified: Option<u64>,
    on_inconclusive: OnInconclusive,
) -> Conclusion {
    let Some(judged) = judged else {
        return Conclusion::unproven(
            Reason::InsufficientData,
            "the recording has no steps".to_owned(),
            on_inconclusive,
        );
    };
    let reason = match &judged.finding {
        Finding::SharedIncident { .. } => {
            return Conclusion::of(Verdict::Inconclusive, Reason::SharedIncident, None, judged);
        }
        Finding::TrafficLost { .. } => return Conclusion::of(Verdict::Inconclusive, Reason::TrafficLost, None, judged),
        _ if certified.is_some() => {
            return Conclusion::of(Verdict::Continue, Reason::AnalysisPassed, certified, judged);
        }
        Finding::Nothing => Reason::NoTraffic,
        _ => Reason::InsufficientData,
    };
    let unproven = Conclusion::unproven(reason, String::new(), on_inconclusive);
    Conclusion::of(unproven.decision, reason, None, judged)
}
