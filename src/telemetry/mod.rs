//! Logs, metrics and health of the operator itself.
//!
//! Role: decoration; nothing here decides anything. Inputs: what happened, as enums. Outputs: log lines, `/metrics`,
//! `/healthz`, `/readyz`. Must never import: `controller`, `console`, `leader`, `learn`.

pub mod health;
pub mod logs;
pub mod metrics;
