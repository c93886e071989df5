//! The outside worlds, one file each: what is seen becomes plain data for the domain.
//!
//! Role: watches, API reads and metric queries. Inputs: a client or an HTTP endpoint. Outputs: facts and readings. Must
//! never import: `act`, `record`, `controller`, `console`.

pub mod configuration;
pub mod events;
pub mod joined;
pub mod logs;
pub mod nodes;
pub mod pods;
pub mod probes;
pub mod prometheus;
pub mod rights;
pub mod watch;
pub mod workload;
