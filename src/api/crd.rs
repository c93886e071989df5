//! The custom resource definitions as YAML.
//!
//! Role: what `deployment-guard crd` prints and `crds/` holds. Inputs: the types. Outputs: text. Must never import: a
//! kube client, other rooms.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{DeploymentGuard, GuardClass};

/// Both definitions.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![DeploymentGuard::crd(), GuardClass::crd()]
}

/// Both definitions as one YAML stream.
///
/// # Errors
/// If a definition cannot be written as YAML.
pub fn yaml() -> Result<String, serde_saphyr::SerializeError> {
    let mut text = String::new();
    for definition in all() {
        text.push_str("---\n");
        text.push_str(&one(&definition)?);
    }
    Ok(text)
}

/// One definition as YAML.
///
/// # Errors
/// If the definition cannot be written as YAML.
pub fn one(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(definition)
}
