//! What a look remembers of the ones before, and leaves to the next.
//!
//! Role: reads and writes the guard's memory in this process, which may be lost at any time. Inputs: a case. Outputs: what
//! was kept. Must never import: `cli`, `console`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Case;
use crate::controller::facts::Answers;
use crate::controller::findings::Basis;
use crate::controller::memory::{Control, Past};
use crate::domain::assess::{AssessState, Assessment};
use crate::domain::evidence::PodLife;
use crate::domain::rollout::RevisionHash;
use crate::domain::scaling::Scaling;

/// Pods that went away during a rollout and are remembered.
const MOST_GONE: usize = 500;

impl Case<'_> {
    /// How many pods are wanted, and whether that changed during the rollout.
    pub fn scaling(&mut self, replicas: u32) -> Scaling {
        let seen = Scaling::seen(self.remembered.scaling, replicas, self.now);
        *self.remembered.scaling.insert(seen)
    }

    /// Where the last evaluation of this rollout stopped; `None` after a restart, when status knows.
    #[must_use]
    pub fn checkpoint(&self) -> Option<AssessState> {
        self.evaluated().map(|assessment| assessment.state.clone())
    }

    /// Remembers an evaluation; returns the last one of this rollout that gave a score.
    pub fn last_scored(&mut self, assessment: &Assessment) -> Option<Assessment> {
        let revision = self.draft.current.as_ref().map(|current| current.revision.clone()).unwrap_or_default();
        self.remembered.evaluated = Some((revision.clone(), assessment.clone()));
        if assessment.score.is_some() {
            self.remembered.scored = Some((revision.clone(), assessment.clone()));
        }
        self.remembered.scored.clone().filter(|(of, _)| *of == revision).map(|(_, scored)| scored)
    }

    /// The scrape interval seen last.
    pub fn scrape(&mut self, seen: Option<Duration>) -> Option<Duration> {
        self.remembered.scrape = seen.or(self.remembered.scrape);
        self.remembered.scrape
    }

    /// The pods of this look, and those of the rollout that went away since: their last counts are still to be read.
    pub fn lives(&mut self, mut lives: Vec<PodLife>) -> Vec<PodLife> {
        let now = self.now;
        let gone = &mut self.remembered.gone;
        gone.retain(|known| !lives.iter().any(|life| life.pod == known.pod));
        for known in std::mem::take(&mut self.remembered.present) {
            if known.side.is_some() && !lives.iter().any(|life| life.pod == known.pod) && gone.len() < MOST_GONE {
                gone.push(PodLife { gone: Some(now), ..known });
            }
        }
        self.remembered.present.clone_from(&lives);
        lives.extend(gone.iter().cloned());
        lives
    }

    /// Remembers pods that went away while nobody looked.
    pub fn add_gone(&mut self, forgotten: &[PodLife]) {
        self.remembered.gone.extend(forgotten.iter().take(MOST_GONE).cloned());
    }

    /// ln E of the last evaluation, to the bit.
    #[must_use]
    pub fn ln_e(&self) -> Option<f64> {
        self.remembered.evaluated.as_ref().and_then(|(_, assessment)| assessment.ln_e)
    }

    /// Pods that were deleted after an undo, by uid.
    pub const fn freed(&mut self) -> &mut BTreeSet<Arc<str>> {
        &mut self.remembered.freed
    }

    /// The name under which a rollout is recorded.
    #[must_use]
    pub fn rollout(&self, revision: &RevisionHash) -> String {
        let started = self.draft.current.as_ref().map(|current| current.started_at.as_str()).unwrap_or_default();
        format!("{}.{}.{revision}.{started}", self.key.namespace, self.key.name)
    }

    /// The judging goes on from there in this process; the recording will.
    pub const fn resume_recording(&mut self, at: Timestamp) {
        self.remembered.resumed = Some(at);
    }

    /// From where the judging goes on, the first time that it is asked.
    pub const fn resumed(&mut self) -> Option<Timestamp> {
        self.remembered.resumed.take()
    }

    /// Whether this is the first look of this process at a rollout that was judged before.
    #[must_use]
    pub fn is_fresh_start(&self) -> bool {
        self.remembered.evaluated.is_none() && self.draft.analysis.is_some()
    }

    /// The controls as last read, to be read on and kept.
    pub const fn controls(&mut self) -> &mut Vec<Control> {
        &mut self.remembered.controls
    }

    /// What the last decision was made from.
    #[must_use]
    pub const fn basis(&self) -> Option<&Basis> {
        self.remembered.basis.as_ref()
    }

    /// Keeps what a decision was made from.
    pub fn keep_basis(&mut self, basis: Basis) {
        self.remembered.basis = Some(basis);
    }

    /// What events told of pods so far.
    pub const fn answers(&mut self) -> &mut Answers {
        &mut self.remembered.answers
    }

    /// The same, to be read.
    #[must_use]
    pub const fn known_answers(&self) -> &Answers {
        &self.remembered.answers
    }

    /// The last evaluation of this rollout.
    #[must_use]
    pub fn evaluated(&self) -> Option<&Assessment> {
        let (revision, assessment) = self.remembered.evaluated.as_ref()?;
        self.draft.current.as_ref().is_some_and(|current| current.revision == *revision).then_some(assessment)
    }

    /// What was seen before the rollout of a revision, if it was read already.
    #[must_use]
    pub fn past(&self, revision: &RevisionHash) -> Option<Arc<Past>> {
        let (of, past) = self.remembered.past.as_ref()?;
        (of == revision.as_str()).then(|| past.clone())
    }

    /// Takes what was seen before a bad rollout as the past of the revision that was restored.
    pub fn keep_known_past(&mut self, revision: &RevisionHash, past: Arc<Past>) {
        self.remembered.past = Some((revision.to_string(), past));
    }

    /// Another question begins: pods and conclusions of the last one do not belong to it.
    pub fn forget_pods(&mut self) {
        self.remembered.evaluated = None;
        self.remembered.scored = None;
        self.remembered.gone.clear();
        self.remembered.present.clear();
        self.remembered.metrics_due = None;
        self.remembered.scaling = None;
    }

    /// Keeps what was seen before the rollout of a revision.
    pub fn keep_past(&mut self, revision: &RevisionHash, past: Past) -> Arc<Past> {
        let past = Arc::new(past);
        self.remembered.past = Some((revision.to_string(), past.clone()));
        past
    }
}
