//! Events: one per transition, on the guard and on its workload.
//!
//! Role: tells people who look with `kubectl describe`. Inputs: references and a sentence. Outputs: events, best effort.
//! Must never import: other rooms than `domain` and `api`. `Recorder` keeps the first note when it aggregates, so
//! reasons differ and numbers stand in status.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::domain::managers;
use crate::domain::outcome::words;

/// The longest note the API takes.
const MAX_NOTE: usize = 1024;

words! {
    /// What happened.
    EventReason {
        /// A new revision appeared.
        RolloutDetected = "RolloutDetected",
        /// Its analysis began.
        AnalysisStarted = "AnalysisStarted",
        /// It was judged fine.
        AnalysisPassed = "AnalysisPassed",
        /// It was judged bad.
        AnalysisFailed = "AnalysisFailed",
        /// Metrics cannot be read.
        MetricsUnavailable = "MetricsUnavailable",
        /// No language model gave an opinion, so the algorithm decides alone.
        LLMFallback = "LLMFallback",
        /// A budget of the class for language models is used up.
        LLMBudgetExhausted = "LLMBudgetExhausted",
        /// Old pods or a control suffer at the same time.
        SharedIncident = "SharedIncident",
        /// The new revision gets next to no traffic.
        TrafficLost = "TrafficLost",
        /// Something else explains what new pods do, or keeps them from running.
        RolloutHeld = "RolloutHeld",
        /// A configuration was changed beside a rollout that was judged bad.
        ConfigurationChanged = "ConfigurationChanged",
        /// Something new was found in logs.
        LogErrorsDetected = "LogErrorsDetected",
        /// A probe fails on the new revision.
        ProbeFailed = "ProbeFailed",
        /// An undo was sent.
        RollbackStarted = "RollbackStarted",
        /// An undo was verified.
        RollbackSucceeded = "RollbackSucceeded",
        /// An undo was refused or did not come up.
        RollbackFailed = "RollbackFailed",
        /// An undo was decided and not made.
        RollbackSkipped = "RollbackSkipped",
        /// There is nothing to go back to.
        NoKnownGoodRevision = "NoKnownGoodRevision",
        /// No more undos for now.
        RollbackLimitReached = "RollbackLimitReached",
        /// Too many undos of the class.
        StormBreakerOpen = "StormBreakerOpen",
        /// Something else applies the workload.
        GitOpsConflict = "GitOpsConflict",
        /// What applies the workload is suspended for an undo.
        SyncSuspended = "SyncSuspended",
        /// It no longer is.
        SyncResumed = "SyncResumed",
        /// A person is asked.
        ApprovalRequired = "ApprovalRequired",
        /// A person answered, or nobody did.
        ApprovalAnswered = "ApprovalAnswered",
        /// What was undone is back.
        RollbackReverted = "RollbackReverted",
        /// What was undone was not the cause.
        RollbackDidNotHelp = "RollbackDidNotHelp",
        /// A pod of the undone revision was deleted, because its controller does not replace it.
        StuckPodDeleted = "StuckPodDeleted",
        /// A pod of the undone revision has to be deleted by a person.
        StuckPodFound = "StuckPodFound",
    }
}

impl EventReason {
    const fn type_(self) -> EventType {
        match self {
            Self::RolloutDetected
            | Self::AnalysisStarted
            | Self::AnalysisPassed
            | Self::RollbackStarted
            | Self::RollbackSucceeded
            | Self::StuckPodDeleted
            | Self::SyncSuspended
            | Self::SyncResumed
            | Self::ApprovalAnswered => EventType::Normal,
            Self::AnalysisFailed
            | Self::MetricsUnavailable
            | Self::LLMFallback
            | Self::LLMBudgetExhausted
            | Self::SharedIncident
            | Self::TrafficLost
            | Self::RolloutHeld
            | Self::ConfigurationChanged
            | Self::LogErrorsDetected
            | Self::ProbeFailed
            | Self::RollbackFailed
            | Self::RollbackSkipped
            | Self::NoKnownGoodRevision
            | Self::RollbackLimitReached
            | Self::StormBreakerOpen
            | Self::GitOpsConflict
            | Self::ApprovalRequired
            | Self::RollbackReverted
            | Self::RollbackDidNotHelp
            | Self::StuckPodFound => EventType::Warning,
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::RolloutDetected
            | Self::AnalysisStarted
            | Self::AnalysisPassed
            | Self::AnalysisFailed
            | Self::MetricsUnavailable
            | Self::LLMFallback
            | Self::LLMBudgetExhausted
            | Self::SharedIncident
            | Self::TrafficLost
            | Self::RolloutHeld
            | Self::ConfigurationChanged
            | Self::LogErrorsDetected
            | Self::ProbeFailed => "Judge",
            Self::RollbackStarted
            | Self::RollbackSucceeded
            | Self::RollbackFailed
            | Self::RollbackSkipped
            | Self::NoKnownGoodRevision
            | Self::RollbackLimitReached
            | Self::StormBreakerOpen
            | Self::GitOpsConflict
            | Self::ApprovalRequired
            | Self::ApprovalAnswered
            | Self::SyncSuspended
            | Self::SyncResumed
            | Self::RollbackReverted
            | Self::RollbackDidNotHelp
            | Self::StuckPodDeleted
            | Self::StuckPodFound => "Undo",
        }
    }
}

/// Writes events. One per process: it remembers what it may aggregate.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    time_out: Duration,
}

impl Events {
    /// A writer that names this instance (the pod) as its source.
    #[must_use]
    pub fn new(client: Client, instance: Option<String>, time_out: Duration) -> Self {
        let reporter = Reporter { controller: managers::REPORTER.to_owned(), instance };
        Self { recorder: Recorder::new(client, reporter), time_out }
    }

    /// Writes one event on the guard and, where it is known, one on the workload, each related to the other. `note` is
    /// one sentence and must be redacted already where it quotes the outside. Returns how many could not be written.
    pub async fn publish(
        &self,
        guard: &ObjectReference,
        workload: Option<&ObjectReference>,
        reason: EventReason,
        note: &str,
    ) -> usize {
        let mut failed = 0;
        let both = std::iter::once((guard, workload)).chain(workload.map(|workload| (workload, Some(guard))));
        for (about, related) in both {
            let event = Event {
                type_: reason.type_(),
                reason: reason.as_str().to_owned(),
                note: Some(cut(note)),
                action: reason.action().to_owned(),
                secondary: related.cloned(),
            };
            let kind = about.kind.as_deref().unwrap_or_default();
            match tokio::time::timeout(self.time_out, self.recorder.publish(&event, about)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    failed += 1;
                    tracing::warn!(%error, reason = reason.as_str(), kind, "event was not written");
                }
                Err(_) => {
                    failed += 1;
                    tracing::warn!(reason = reason.as_str(), kind, "event was not written in time");
                }
            }
        }
        failed
    }
}

/// The API server counts bytes, not characters.
fn cut(note: &str) -> String {
    const MARK: &str = "…";
    if note.len() <= MAX_NOTE {
        return note.to_owned();
    }
    let end = (0..=MAX_NOTE - MARK.len()).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{MARK}", note.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_on_a_character_boundary() {
        for length in 1000..1100 {
            let note = "é".repeat(length);
            let kept = cut(&note);
            assert!(kept.len() <= MAX_NOTE);
            assert!(kept == note || kept.ends_with('…'));
        }
    }
}
