//! Carries out an undo.
//!
//! Role: fresh read, plan, dry run, patch, hand-back; the deletion of a stuck pod. Inputs: a client and a decided request. Outputs: what became of it.
//! Must never import: typed workload structs (they drop fields), other rooms than `domain`.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::Value;

use super::server::{Refusal, Server, Written, failed};
use super::{ActError, Fence};
use crate::domain::policy::Target;
use crate::domain::redact::{Redacted, Redactor};
use crate::domain::rollout::{PodName, RevisionHash};
use crate::domain::scope::Scope;
use crate::domain::undo::{
    Gone, LostPort, Meaning, UndoPatch, UndoPlan, UndoRequest, classify_answer, find_revision, lost_port,
    owns_template, plan_hand_back, plan_undo,
};

/// The hand of the operator.
#[derive(Clone)]
pub struct Act {
    pub(super) server: Server,
    pub(super) scope: Scope,
}

/// What became of the hand-back of field ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GiveBack {
    /// We own nothing of the template.
    NothingToDo,
    /// The fields were moved to this manager.
    Moved {
        /// Who got them.
        to: String,
    },
    /// Nobody else owns any of the template: there is nobody to give it to, and nobody to conflict with.
    NobodyToGiveTo,
    /// The workload does not exist any more.
    Gone,
}

/// What became of the deletion of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodDeletion {
    /// It is going.
    Deleted,
    /// There is no pod of that uid any more.
    Gone,
    /// A policy or a right refused it.
    Refused {
        /// What the server said, redacted and cut.
        message: Redacted,
    },
}

/// What became of an undo.
#[derive(Debug, Clone, PartialEq)]
pub enum UndoOutcome {
    /// The patch was accepted; now verify.
    Patched {
        /// The generation after the patch.
        generation: i64,
        /// The revision the workload now carries, if the object that holds it is known: a mutating policy may have made another.
        revision: Option<RevisionHash>,
        /// Fields the next client-side apply will not remove.
        only_in_good: Vec<String>,
    },
    /// This decision was carried out before; verify it.
    AlreadyDone {
        /// The present generation.
        generation: i64,
    },
    /// The workload already carries the good revision.
    AlreadyCurrent,
    /// Somebody pushed in between; their push stands.
    Superseded,
    /// The workload is paused.
    Paused,
    /// Nothing to act on.
    Gone(Gone),
    /// The good revision does not exist any more.
    NothingToGoBackTo,
    /// The good revision exists, and what it holds is no pod template.
    Unreadable,
    /// A Service targets a port by a name that the good template does not have.
    PortMissing(LostPort),
    /// A policy or a right refused it.
    AdmissionRejected {
        /// What the server said, redacted and cut.
        message: Redacted,
    },
    /// The server cannot do it.
    Failed {
        /// What the server said, redacted and cut.
        message: Redacted,
    },
}

/// How often a dry run or a patch that lost a race is planned and sent again.
const TRIES: u32 = 3;

/// How often the hand-back is tried: it competes with everybody who writes managed fields.
const GIVE_BACK_TRIES: u32 = 5;

/// What one attempt came to.
enum Attempt {
    Finished(UndoOutcome),
    Again(Refusal),
}

/// What an undo would come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Preview {
    /// The API server would take it.
    Would {
        /// The template that is there.
        present: Value,
        /// The one that would be put back.
        good: Value,
        /// Fields the next client-side apply will not remove.
        only_in_good: Vec<String>,
    },
    /// Nothing would be sent, or it would be refused.
    WouldNot(UndoOutcome),
}

/// What comes before the write.
enum Prepared {
    /// The dry run went well; the patch, and what holds the revisions.
    Ready(Box<UndoPatch>, Vec<Value>),
    /// There is nothing to write.
    Not(Attempt),
}

impl Act {
    /// A hand that waits at most `call_time_out` for one answer.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>, call_time_out: Duration) -> Self {
        Self { server: Server::new(client, redactor, call_time_out), scope: Scope::default() }
    }

    /// The same where what is suspended lies in these namespaces.
    #[must_use]
    pub fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Carries out an undo: dry run, patch, hand-back of ownership. Safe to repeat: a decision acts at most once.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before a write.
    pub async fn undo(&self, request: &UndoRequest, fence: Fence<'_>) -> Result<UndoOutcome, ActError> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.attempt(request, fence).await? {
                Attempt::Finished(outcome) => {
                    if matches!(outcome, UndoOutcome::Patched { .. } | UndoOutcome::AlreadyDone { .. }) {
                        self.give_back_at_once(request, fence).await;
                    }
                    return Ok(outcome);
                }
                Attempt::Again(refusal) => last = Some(refusal),
            }
        }
        match last {
            Some(refusal) => Ok(UndoOutcome::Failed { message: refusal.message }),
            None => Err(ActError::Conflict { step: "the undo", tries: TRIES }),
        }
    }

    /// Hands back what our undo owns of the template. Call it whenever `Workload::owns_template`.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before a write.
    pub async fn give_back(&self, namespace: &str, target: &Target, fence: Fence<'_>) -> Result<GiveBack, ActError> {
        const STEP: &str = "the hand-back";
        for _ in 0..GIVE_BACK_TRIES {
            let Some(workload) = self.server.workload(namespace, target).await? else { return Ok(GiveBack::Gone) };
            if !owns_template(&workload) {
                return Ok(GiveBack::NothingToDo);
            }
            let Some(plan) = plan_hand_back(&workload) else { return Ok(GiveBack::NobodyToGiveTo) };
            check(fence, STEP)?;
            crate::failpoint!("before-hand-back");
            match self.server.patch(STEP, namespace, target, &plan.operations, false).await? {
                Written::Object(_) => {
                    crate::failpoint!("after-hand-back");
                    return Ok(GiveBack::Moved { to: plan.to });
                }
                Written::Refused(refusal) if matches!(refusal.answer.code, 404 | 409 | 422) => {}
                Written::Refused(refusal) => return Err(failed(STEP, refusal)),
            }
        }
        Err(ActError::Conflict { step: STEP, tries: GIVE_BACK_TRIES })
    }

    /// Deletes a pod that keeps a restored revision from coming up; another pod of its name stays.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before the write.
    pub async fn delete_pod(&self, pod: &PodName, uid: &str, fence: Fence<'_>) -> Result<PodDeletion, ActError> {
        const STEP: &str = "deleting a stuck pod";
        check(fence, STEP)?;
        Ok(match self.server.delete_pod(STEP, pod, uid).await? {
            Written::Object(_) => PodDeletion::Deleted,
            // Not there, or not this one.
            Written::Refused(refusal) if matches!(refusal.answer.code, 404 | 409) => PodDeletion::Gone,
            Written::Refused(refusal) => PodDeletion::Refused { message: refusal.message },
        })
    }

    /// What an undo would change, as far as the API server tells before it is made: everything but the write is done.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before the dry run.
    pub async fn preview(&self, request: &UndoRequest, fence: Fence<'_>) -> Result<Preview, ActError> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.prepare(request, fence).await? {
                Prepared::Ready(patch, _) => {
                    let UndoPatch { template, good, only_in_good, .. } = *patch;
                    return Ok(Preview::Would { present: template, good, only_in_good });
                }
                Prepared::Not(Attempt::Finished(outcome)) => return Ok(Preview::WouldNot(outcome)),
                Prepared::Not(Attempt::Again(refusal)) => last = Some(refusal),
            }
        }
        match last {
            Some(refusal) => Ok(Preview::WouldNot(UndoOutcome::Failed { message: refusal.message })),
            None => Err(ActError::Conflict { step: "the dry run of the undo", tries: TRIES }),
        }
    }

    async fn attempt(&self, request: &UndoRequest, fence: Fence<'_>) -> Result<Attempt, ActError> {
        const STEP: &str = "the undo";
        let (patch, revisions) = match self.prepare(request, fence).await? {
            Prepared::Ready(patch, revisions) => (patch, revisions),
            Prepared::Not(attempt) => return Ok(attempt),
        };
        check(fence, STEP)?;
        crate::failpoint!("before-patch");
        match self.server.patch(STEP, &request.namespace, &request.target, &patch.operations, false).await? {
            Written::Object(object) => {
                crate::failpoint!("after-patch");
                Ok(Attempt::Finished(UndoOutcome::Patched {
                    generation: generation(&object),
                    revision: object
                        .pointer("/spec/template")
                        .and_then(|template| find_revision(request, template, &revisions)),
                    only_in_good: patch.only_in_good,
                }))
            }
            Written::Refused(refusal) => self.refused(request, &patch, refusal).await,
        }
    }

    /// Everything before the write: fresh reads, the plan, the dry run.
    async fn prepare(&self, request: &UndoRequest, fence: Fence<'_>) -> Result<Prepared, ActError> {
        const STEP: &str = "the dry run of the undo";
        let not = |outcome| Ok(Prepared::Not(Attempt::Finished(outcome)));
        let Some(workload) = self.server.workload(&request.namespace, &request.target).await? else {
            return not(UndoOutcome::Gone(Gone::Absent));
        };
        let revisions = self.server.revisions(&request.namespace, &request.target, &workload).await?;
        let kept = match &request.kept {
            Some(kept) => self.server.kept(&request.namespace, &kept.name).await?,
            None => None,
        };
        let patch = match plan_undo(request, &workload, &revisions, kept.as_ref())? {
            UndoPlan::Patch(patch) => patch,
            UndoPlan::AlreadyDone => return not(already_done(&workload)),
            UndoPlan::Superseded => return not(UndoOutcome::Superseded),
            UndoPlan::Paused => return not(UndoOutcome::Paused),
            UndoPlan::AlreadyCurrent => return not(UndoOutcome::AlreadyCurrent),
            UndoPlan::TargetGone(gone) => return not(UndoOutcome::Gone(gone)),
            UndoPlan::NothingToGoBackTo => return not(UndoOutcome::NothingToGoBackTo),
            UndoPlan::Unreadable => return not(UndoOutcome::Unreadable),
        };
        if let Some(lost) = self.lost_port(request, &patch).await? {
            return not(UndoOutcome::PortMissing(lost));
        }
        // A dry run writes nothing, but a policy may count it: it is fenced like a write.
        check(fence, STEP)?;
        crate::failpoint!("before-dry-run");
        match self.server.patch(STEP, &request.namespace, &request.target, &patch.operations, true).await? {
            Written::Object(_) => Ok(Prepared::Ready(patch, revisions)),
            Written::Refused(refusal) => self.refused(request, &patch, refusal).await.map(Prepared::Not),
        }
    }

    /// A Service that the undo would lead nowhere. Services are read only where a name would be lost; who may not read them
    /// goes on without knowing.
    async fn lost_port(&self, request: &UndoRequest, patch: &UndoPatch) -> Result<Option<LostPort>, ActError> {
        if patch.lost_ports.is_empty() {
            return Ok(None);
        }
        let services = self.server.services(&request.namespace).await?;
        Ok(lost_port(&services, &patch.good, &patch.lost_ports))
    }

    /// Reads again to find out what a refusal meant.
    async fn refused(&self, request: &UndoRequest, sent: &UndoPatch, refusal: Refusal) -> Result<Attempt, ActError> {
        let fresh = self.server.workload(&request.namespace, &request.target).await?;
        let outcome = match classify_answer(&refusal.answer, request, sent, fresh.as_ref())? {
            Meaning::AlreadyDone => fresh.as_ref().map_or(UndoOutcome::Gone(Gone::Absent), already_done),
            Meaning::Superseded => UndoOutcome::Superseded,
            Meaning::Paused => UndoOutcome::Paused,
            Meaning::Gone(gone) => UndoOutcome::Gone(gone),
            Meaning::Retry => return Ok(Attempt::Again(refusal)),
            Meaning::AdmissionRejected => UndoOutcome::AdmissionRejected { message: refusal.message },
            Meaning::Failed => UndoOutcome::Failed { message: refusal.message },
        };
        Ok(Attempt::Finished(outcome))
    }

    /// The undo stands whatever becomes of this; reconcile hands back later what is left.
    async fn give_back_at_once(&self, request: &UndoRequest, fence: Fence<'_>) {
        if let Err(error) = self.give_back(&request.namespace, &request.target, fence).await {
            tracing::warn!(
                %error,
                category = error.category(),
                decision = request.decision_id,
                "ownership of the template was not handed back yet"
            );
        }
    }
}

pub(super) fn check(fence: Fence<'_>, step: &'static str) -> Result<(), ActError> {
    if fence() { Ok(()) } else { Err(ActError::FenceLost { step }) }
}

fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

fn already_done(object: &Value) -> UndoOutcome {
    UndoOutcome::AlreadyDone { generation: generation(object) }
}
