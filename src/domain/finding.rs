//! What was found in logs, probes and pod states: for people, for the failure class, never for the evidence.
//!
//! Role: the one form in which something found is kept, shown and recorded. Inputs: none. Outputs: plain data. A finding
//! never causes a rollback: a log line is written by anybody. Must never import: other rooms.

use std::fmt;

use super::outcome::FailureClass;

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// In the logs of a container.
    Logs {
        /// The container's name.
        container: String,
    },
    /// By a probe.
    Probe {
        /// The probe's name.
        name: String,
    },
    /// In the states of pods.
    Pods,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Logs { container } => write!(f, "logs/{container}"),
            Self::Probe { name } => write!(f, "probe/{name}"),
            Self::Pods => f.write_str("pods"),
        }
    }
}

/// How it stands against the old revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Novelty {
    /// The old revision does not have it.
    New,
    /// The old revision has it too, but clearly less of it.
    More,
    /// The old revision could not be looked at.
    Unknown,
    /// The old revision has as much of it: it weighs nothing.
    Known,
}

impl Novelty {
    /// The word in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::More => "More",
            Self::Unknown => "Unknown",
            Self::Known => "Known",
        }
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub source: Source,
    /// What it is, in a few words such as `connection refused`.
    pub issue: String,
    /// The masked log line, the probe's answer, the kubelet's message. From outside: redacted before it is stored.
    pub context: String,
    /// What usually helps; empty if nobody knows.
    pub suggested_fix: String,
    /// The service it speaks of, if it names one.
    pub service: Option<String>,
    /// The kind of failure it points to.
    pub class: FailureClass,
    /// How often, on pods of the new revision.
    pub new: u64,
    /// How often on pods of the old revision in comparable time; `None` if they could not be looked at.
    pub old: Option<u64>,
    /// How that compares.
    pub novelty: Novelty,
}
