//! DeploymentGuard: watches ordinary rollouts, compares the new revision with the old one, and undoes the bad ones.
//!
//! Data walks one way: watch → observe → assess → decide → act → record. `ARCHITECTURE.md` says who may import whom.

pub mod act;
pub mod advise;
pub mod api;
pub mod cli;
pub mod controller;
pub mod domain;
pub mod failpoint;
pub mod leader;
pub mod observe;
pub mod record;
pub mod telemetry;
