//! The guarantee: at most one effective undo per decision and per rollout, whatever is killed when.
//!
//! Role: the operator's own control loop, cut at every request, against a model of the API server in this process. Inputs:
//! stories of crashes, lost answers, pushes and changes of leadership. Outputs: what was written to the workload, judged
//! write by write. Nothing here leaves the process, and time is the story's.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // A test that cannot go on says so.

#[path = "../reconcile/api_server.rs"]
#[allow(dead_code)] // Its other user needs the rest.
mod api_server;
mod interleavings;
#[path = "../reconcile/patches.rs"]
#[allow(dead_code)]
mod patches;
mod replica;
mod stage;
mod watchdog;
mod world;
