//! The custom resource definitions as YAML.
//!
//! Role: what `deployment-guard crd` prints and `crds/` holds. Inputs: the types. Outputs: text. Must never import: a
//! kube client, other rooms.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use super::{DeploymentGuard, GuardClass};

/// Both definitions.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![DeploymentGuard::crd(), GuardClass::crd()];
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            unwrap_lines(schema);
        }
    }
    definitions
}

/// Descriptions come from comments, which are broken at the width of the source; `kubectl explain` breaks them itself.
fn unwrap_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(unwrap_lines);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unwrap_lines(items);
    }
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
