//! The custom resources as data, and their parsing.
//!
//! Role: what people write and read through the Kubernetes API. Inputs: YAML by way of serde. Outputs: CRD schemas, a
//! parsed [`crate::domain::policy::Policy`]. Must never import: a kube client, other rooms than `domain`.

pub mod class;
pub mod condition;
pub mod crd;
pub mod decision;
pub mod guard;
pub mod logs;
pub mod parse;
pub mod pods;
pub mod probes;
pub mod providers;
pub mod reference;
pub mod status;

pub use class::{GuardClass, GuardClassSpec, GuardClassStatus};
pub use guard::{DeploymentGuard, DeploymentGuardSpec};
pub use status::DeploymentGuardStatus;

/// The API group of both kinds.
pub const GROUP: &str = "deploymentguard.dev";
/// Marks the class that guards without `className` get.
pub const DEFAULT_CLASS_ANNOTATION: &str = "deploymentguard.dev/is-default-class";

#[cfg(test)]
mod cel_tests;
#[cfg(test)]
mod parse_tests;
