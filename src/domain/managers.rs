//! Names under which the API server books what we write: one field manager per concern.
//!
//! Role: the only place that spells them. Inputs and outputs: constants. Must never import: anything.

/// Undoes of workloads. Its ownership of template fields is handed back after each undo.
pub const UNDO: &str = "deployment-guard/undo";

/// What suspends the sync of a workload, and what remembers it.
pub const GIT_OPS: &str = "deployment-guard/git-ops";

/// Status of guards.
pub const STATUS: &str = "deployment-guard/status";

/// Status of guard classes.
pub const CLASS_STATUS: &str = "deployment-guard/class-status";

/// The storm breaker's count in the status of classes.
pub const STORM: &str = "deployment-guard/storm-breaker";

/// Templates that proved good.
pub const TEMPLATES: &str = "deployment-guard/templates";

/// Sample ConfigMaps.
pub const SAMPLES: &str = "deployment-guard/samples";

/// What language models were asked and said.
pub const ADVICE: &str = "deployment-guard/advice";

/// The leader's Lease.
pub const LEASE: &str = "deployment-guard/lease";

/// The controller named in events.
pub const REPORTER: &str = "deployment-guard";

/// Answers of people, given with the command line.
pub const ANSWER: &str = "deployment-guard/answer";
