//! What an error asks of the caller.
//!
//! Role: one word shared by the errors of all rooms, so that the error policy needs no knowledge of them. Inputs and
//! outputs: plain data. Must never import: other rooms.

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Only after something changed.
    Never,
    /// At once: somebody else wrote in between.
    Conflict,
    /// Later, and later still when it fails again.
    Backoff,
}
