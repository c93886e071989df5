//! The decision core: policy, evidence, decision and undo as pure functions over data.
//!
//! Role: everything that could be wrong in an interesting way. Inputs: parsed policies, readings, facts and `now` as
//! arguments. Outputs: plans, assessments, decisions, patches. Must never import: kube, tokio, reqwest, a clock, the
//! environment, the file system, randomness, or any other room of this crate.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod advice;
pub mod approval;
pub mod assess;
pub mod chain;
pub mod configuration;
pub mod evidence;
pub mod facts;
pub mod failure;
pub mod finding;
pub mod git_ops;
pub mod guardrail;
pub mod judge;
pub mod known_good;
pub mod logs;
pub mod managers;
pub mod outcome;
pub mod plan;
pub mod pod;
pub mod policy;
pub mod probe;
pub mod process;
pub mod recommend;
pub mod recording;
pub mod redact;
pub mod retry;
pub mod rollout;
pub mod sample;
pub mod scaling;
pub mod scope;
pub mod signal;
pub mod undo;

#[cfg(test)]
pub(crate) mod fixture;
