//! Logs: from the bytes of a container to findings that are counted against the old revision.
//!
//! Role: lines, severity, joined stack traces, signatures, patterns, tallies, comparison; `docs/logs.md` explains them.
//! Inputs: bytes as the kubelet sends them, user patterns, a redactor. Outputs: a `Tally` per side and `Finding`s, which
//! never weigh as evidence: a log line is written by anybody. Must never import: kube, tokio, a clock, other rooms.

pub mod access;
pub mod compare;
pub mod frames;
pub mod join;
pub mod lines;
pub mod mask;
pub mod patterns;
pub mod policy;
mod required;
pub mod severity;
pub mod structured;
pub mod table;
pub mod tally;

pub use compare::{Exposure, at_least, findings};
pub use join::{Entry, Mark, Reader, Trace};
pub use lines::Volume;
pub use patterns::{PatternError, Patterns, UserPattern};
pub use policy::LogPolicy;
pub use severity::Severity;
pub use tally::{From, Tally};

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
