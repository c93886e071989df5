//! Why a reconcile failed, and when to try again.
//!
//! Role: wraps the errors of every step; sources of metrics are no errors but readings. Inputs: step errors. Outputs: a
//! category for metrics, a wait. Must never import: other rooms than those it wraps.

use std::time::Duration;

use crate::domain::retry::Retry;
use crate::observe::workload::ReadError;
use crate::record::status::StatusError;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The workload could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The guard has no namespace, name or uid, which the API server never lets happen.
    #[error("the guard has no {0}")]
    Unnamed(&'static str),
    /// Somebody else wrote the guard's status: what this process remembers is out of date.
    #[error("somebody else wrote the status meanwhile; it is read again")]
    StatusTaken,
    /// This replica no longer leads.
    #[error("the lease was lost; another replica goes on")]
    LeaseLost,
}

impl Error {
    /// The error's class, for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Read(error) => error.category(),
            Self::Status(error) => error.category(),
            Self::Unnamed(_) => "malformed",
            Self::StatusTaken => "status_taken",
            Self::LeaseLost => "lease",
        }
    }

    /// When to try again after this many failures running.
    #[must_use]
    pub fn wait(&self, failures: u32) -> Option<Duration> {
        let retry = match self {
            Self::Read(error) => error.retry(),
            Self::Status(error) => error.retry(),
            Self::Unnamed(_) => Retry::Never,
            Self::StatusTaken => Retry::Conflict,
            Self::LeaseLost => Retry::Backoff,
        };
        match retry {
            Retry::Never => None,
            Retry::Conflict => Some(Duration::from_millis(100)),
            Retry::Backoff => Some(backoff(failures)),
        }
    }
}

/// 0.5 s, doubled with each failure, 60 s at most.
fn backoff(failures: u32) -> Duration {
    let most = Duration::from_mins(1);
    Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(failures.min(10))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_capped() {
        assert_eq!(backoff(0), Duration::from_millis(500));
        assert!(backoff(3) > backoff(2));
        assert_eq!(backoff(u32::MAX), Duration::from_mins(1));
    }
}
