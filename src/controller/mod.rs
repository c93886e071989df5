//! The control loops: watches wired to reconciles.
//!
//! Role: run until the lease is lost or somebody says stop. Inputs: a client and settings. Outputs: an end with its
//! reason; an unexpected one is an error. Must never import: `cli`, `console`.

pub mod advisers;
pub mod approval;
pub mod case;
pub mod class;
pub mod configuration;
pub mod context;
pub mod controls;
pub mod counsel;
pub mod decision;
pub mod error;
pub mod facts;
pub mod findings;
pub mod hearing;
pub mod inspect;
pub mod judge;
pub mod memory;
pub mod past;
pub mod progress;
pub mod providers;
pub mod recheck;
pub mod reconcile;
pub mod restore;
pub mod resume;
pub mod rights;
pub mod run;
pub mod secrets;
pub mod sources;
pub mod storms;
mod stuck;
pub mod suspensions;
pub mod templates;
pub mod verdict;
pub mod verification;

pub use run::{Ended, Settings, run};
