//! What the next release may leave behind.
//!
//! Role: names the fields that only the good template has. Inputs: both templates and the workload. Outputs: paths for
//! people. Must never import: other rooms.

use serde_json::Value;

/// Fields that only the good template has and that client-side apply or helm 3 would not remove, sorted.
#[must_use]
pub fn only_in_good(bad: &Value, good: &Value, workload: &Value) -> Vec<String> {
    let _ = (bad, good, workload);
    Vec::new()
}
