//! What a look says about the revision that the workload asks for now.
//!
//! Role: the conditions and the record of the current revision at the turning points of its life. Inputs: a case. Outputs:
//! its draft of the status. Must never import: `cli`, `console`.

use super::Case;
use crate::api::condition::{self, Truth, Type};
use crate::controller::progress;
use crate::domain::outcome::Reason;
use crate::domain::plan::{Current, Stage};
use crate::domain::rollout::Workload;
use crate::record::events::EventReason;

/// Reasons that cover the last verdict for as long as they hold.
const COVERING: [Reason; 8] = [
    Reason::Idle,
    Reason::Suspended,
    Reason::TargetNotFound,
    Reason::UnknownClass,
    Reason::InvalidSpec,
    Reason::TargetAlreadyGuarded,
    Reason::ScaledToZero,
    Reason::WorkloadPaused,
];

impl Case<'_> {
    pub(super) fn not_ready(&mut self, reason: Reason, message: &str) {
        self.draft.next_evaluation = None;
        self.observe_condition(Type::Ready, false, reason, message);
        self.observe_condition(Type::Stalled, true, reason, message);
        self.observe_condition(Type::Reconciling, false, reason, message);
        self.observe_condition(Type::Healthy, Truth::Unknown, reason, message);
    }

    /// Nothing to judge now.
    pub fn idle(&mut self, reason: Reason, message: &str) {
        self.draft.next_evaluation = None;
        self.observe_condition(Type::Reconciling, false, reason, message);
        self.observe_condition(Type::Healthy, Truth::Unknown, reason, message);
    }

    /// First sight of a workload that serves already.
    pub fn adopt(&mut self, current: &Current, workload: &Workload) {
        let message =
            format!("revision {} was serving before this guard; the next rollout will be judged", current.revision);
        self.fresh(current, workload);
        self.idle(Reason::NotJudged, &message);
    }

    /// Nothing new: the conditions of the last verdict stand, unless another state covered them.
    pub fn settled(&mut self, current: &Current, workload: &Workload) {
        progress::write_current(&mut self.draft, current, workload);
        self.draft.next_evaluation = None;
        let healthy = condition::find(&self.draft.conditions, Type::Healthy);
        let unknown = healthy.is_none_or(|condition| condition.status == Truth::Unknown.as_str());
        let reason = healthy.and_then(|condition| Reason::parse(&condition.reason));
        if unknown && reason.is_none_or(|reason| COVERING.contains(&reason)) {
            self.uncover(current);
        }
    }

    /// Says again what the last verdict said.
    fn uncover(&mut self, current: &Current) {
        let last = self.draft.last_decision.clone().filter(|last| last.from_revision == current.revision.as_str());
        let (truth, reason, message) = match (current.stage, last) {
            (Stage::Passed | Stage::Certified, Some(last)) => (Truth::True, Reason::AnalysisPassed, last.reasoning),
            (Stage::Condemned, Some(last)) => {
                (Truth::False, Reason::parse(&last.reason).unwrap_or(Reason::EvidenceOfHarm), last.reasoning)
            }
            (Stage::Unproven, Some(last)) => {
                (Truth::Unknown, Reason::parse(&last.reason).unwrap_or(Reason::InsufficientData), last.reasoning)
            }
            _ => (Truth::Unknown, Reason::NotJudged, format!("revision {} was not judged", current.revision)),
        };
        self.observe_condition(Type::Healthy, truth, reason, &message);
        self.observe_condition(Type::Reconciling, false, Reason::Idle, "nothing is being judged");
    }

    /// A revision nobody judged.
    pub fn begin(&mut self, current: &Current, workload: &Workload) {
        self.fresh(current, workload);
        if !current.stage.is_judging() {
            let message = format!("went back to revision {}, which served before", current.revision);
            self.idle(Reason::NotJudged, &message);
            return;
        }
        let against = current.baseline.as_ref().map_or("none".into(), ToString::to_string);
        let message = format!("revision {} is being rolled out over {against}", current.revision);
        self.observe_condition(Type::Healthy, Truth::Unknown, Reason::NewRevisionDetected, &message);
        self.observe_condition(Type::Reconciling, true, Reason::NewRevisionDetected, &message);
        self.note(EventReason::RolloutDetected, message);
    }

    /// A new current revision: what was measured and concluded about the last one no longer speaks of it.
    pub fn fresh(&mut self, current: &Current, workload: &Workload) {
        progress::write_current(&mut self.draft, current, workload);
        self.draft.health_score = None;
        self.draft.signals.clear();
        self.draft.analysis = None;
        self.remembered.evaluated = None;
        self.remembered.scored = None;
        self.remembered.past = None;
        self.remembered.gone.clear();
        self.remembered.controls.clear();
        self.remembered.present.clear();
        self.remembered.answers.clear();
        self.remembered.metrics_due = None;
        self.draft.findings.clear();
        // What was asked about another revision is no longer a question.
        self.draft.pending_action = None;
        self.draft.recheck = None;
        self.ctx.metrics.forget(&self.key.namespace, &self.key.name);
        self.observe_condition(
            Type::RolledBack,
            false,
            Reason::NoRollback,
            "the current revision was not put here by an undo",
        );
    }
}
