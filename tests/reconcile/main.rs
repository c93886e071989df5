//! The whole control loop against a recording API server and a scripted Prometheus, in real time but short.
//!
//! Role: what only all parts together can show: the order of writes, crashes between two of them, faults of the world.
//! Inputs: pushes, faults, deletions. Outputs: statuses and the list of requests. Nothing here leaves the process but a
//! port on 127.0.0.1.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // A test that cannot go on says so.

mod advice;
mod api_server;
mod approval;
mod causes;
mod deployments;
mod evidence;
mod facts;
mod faults;
mod gitops;
mod kept;
mod kinds;
mod namespaces;
mod patches;
mod prometheus;
mod quiet;
mod rig;
mod rights;
mod sets;
mod targets;
mod undoing;
mod verdicts;
mod versions;
