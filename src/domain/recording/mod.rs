//! Recorded rollouts: a header, then one line a closed step, judged by the code that judges live ones.
//!
//! Role: the file format `deploymentguard.dev/replay/v1`, read strictly and written to the bit. Inputs: lines of text, or
//! what a live rollout was judged from. Outputs: evidence step by step, one decision; or which field of which line is
//! wrong and how to put it right. Must never import: other rooms.

mod analysis;
mod conclude;
mod header;
mod json;
mod line;
mod opinion;
mod past;
mod replay;
mod rollout;
mod seed;
mod write;

use std::fmt;

pub use conclude::Conclusion;
pub use header::Header;
pub use opinion::write_opinion;
pub use replay::{Replay, StepReport, StepSignal};
pub use write::{write_header, write_step, write_step_beside};

/// The format, as the header names it.
pub const SCHEMA: &str = "deploymentguard.dev/replay/v1";
/// The longest line.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;
/// The longest header, which holds the history.
pub const MAX_HEADER_BYTES: usize = 16 * 1024 * 1024;
/// The most signals.
pub const MAX_SIGNALS: usize = 8;

/// What is wrong with a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line of the file, from 1.
    pub line: u64,
    /// The field, with the way to it; empty if it is the line itself.
    pub field: String,
    /// What is wrong and how to put it right.
    pub message: String,
}

impl Fault {
    /// A fault of a line itself.
    #[must_use]
    pub fn of_line(line: u64, message: impl Into<String>) -> Self {
        Self { line, field: String::new(), message: message.into() }
    }

    fn new(line: u64, wrong: json::Wrong) -> Self {
        Self { line, field: wrong.field, message: wrong.message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "line" } else { &self.field };
        write!(f, "{}: {field}: {}", self.line, self.message)
    }
}

/// How a signal is given. It keeps its form through a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Bad of all events.
    Counts,
    /// Slow of all events, for each boundary.
    Boundaries,
    /// A value.
    Values,
}

impl Form {
    const fn words(self) -> &'static str {
        match self {
            Self::Counts => "counts (bad, total)",
            Self::Boundaries => "counts by boundary (boundaries)",
            Self::Values => "values (value)",
        }
    }
}

#[cfg(test)]
mod tests;
