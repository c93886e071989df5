//! What a guard reads of logs, and how much.
//!
//! Role: the parsed form of `spec.logs`. Inputs: `api::logs::parse`. Outputs: plain data for the adapter and the tally.
//! Must never import: other rooms.

use super::patterns::Patterns;

/// Pods of one side whose logs are read, unless somebody asks for another number.
pub const PODS: usize = 5;
/// Bytes of one container that are read at a time, unless somebody asks for another number.
pub const BYTES: u64 = 1024 * 1024;

/// How logs are read and judged.
#[derive(Debug, Clone)]
pub struct LogPolicy {
    /// Whether they are read at all.
    pub enabled: bool,
    /// The built-in patterns and the user's.
    pub patterns: Patterns,
    /// Pods of one side whose logs are read.
    pub max_pods: usize,
    /// Bytes of one container that are read at a time.
    pub max_bytes: u64,
}

impl Default for LogPolicy {
    /// As the API server fills it in.
    fn default() -> Self {
        Self { enabled: true, patterns: Patterns::built_in(), max_pods: PODS, max_bytes: BYTES }
    }
}
