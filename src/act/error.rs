//! Why an act did not come to an end.
//!
//! Role: failures after which nobody knows or nothing was done; refusals are outcomes, not errors. Inputs and outputs:
//! plain data. Must never import: other rooms than `domain`.

use crate::domain::redact::Redacted;
use crate::domain::retry::Retry;
use crate::domain::undo::UndoError;

/// A failed act.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API server did not answer in time; a write may have been carried out all the same.
    #[error("the API server did not answer in time while {step}")]
    TimedOut {
        /// What was asked of it.
        step: &'static str,
    },
    /// The API server answered with an error that says nothing about the undo.
    #[error("{step} failed with {code}: {message}")]
    Api {
        /// What was asked of it.
        step: &'static str,
        /// HTTP status code.
        code: u16,
        /// Its message, redacted and cut.
        message: Redacted,
    },
    /// The API server was not reached, or its answer was not understood.
    #[error("{step} failed: {message}")]
    Transport {
        /// What was asked of it.
        step: &'static str,
        /// What went wrong, redacted and cut.
        message: Redacted,
    },
    /// Leadership was lost before a write, which was therefore not sent.
    #[error("leadership was lost before {step}")]
    FenceLost {
        /// The write that was not sent.
        step: &'static str,
    },
    /// The object kept changing.
    #[error("{step} lost {tries} times against other writers")]
    Conflict {
        /// The write.
        step: &'static str,
        /// How often it was tried.
        tries: u32,
    },
    /// The API server sent an object that lacks what every object has.
    #[error("unusable object: {0}")]
    Object(#[from] UndoError),
}

impl ActError {
    /// The metric label.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "api_timeout",
            Self::Api { .. } => "api",
            Self::Transport { .. } => "api_transport",
            Self::FenceLost { .. } => "fence_lost",
            Self::Conflict { .. } => "conflict",
            Self::Object(_) => "bad_object",
        }
    }

    /// When to try again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Conflict { .. } => Retry::Conflict,
            Self::TimedOut { .. } | Self::Api { .. } | Self::Transport { .. } | Self::Object(_) => Retry::Backoff,
            // The next leader goes on; this process must not.
            Self::FenceLost { .. } => Retry::Never,
        }
    }
}
