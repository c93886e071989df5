//! Metadata of the ConfigMaps and Secrets that pods read.
//!
//! Role: resource versions and the times of the last writes, by metadata-only reads; contents never leave the API server.
//! Inputs: names. Outputs: what was seen, and to what we are blind. Must never import: other rooms than `domain`.

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};

use crate::domain::configuration::{Look, MOST, Seen};
use crate::domain::rollout::Configuration;

/// Looks at the metadata of configuration. What fails is not seen.
pub async fn look(client: &Client, namespace: &str, wanted: impl Iterator<Item = Configuration>) -> Look {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = |what: Configuration| {
        let (config_maps, secrets) = (config_maps.clone(), secrets.clone());
        async move {
            let found = if what.secret {
                secrets.get_metadata_opt(&what.name).await.map(|found| found.map(|found| found.metadata))
            } else {
                config_maps.get_metadata_opt(&what.name).await.map(|found| found.map(|found| found.metadata))
            };
            (what, found)
        }
    };
    let mut look = Look::default();
    for (what, found) in join_all(wanted.take(MOST).map(read)).await {
        match found {
            Ok(found) => look.seen.push(Seen {
                version: found.as_ref().map(|found| found.resource_version.clone().unwrap_or_default()),
                changed: found.as_ref().and_then(changed),
                what,
            }),
            Err(error) => {
                tracing::debug!(%error, name = what.name, "a configuration could not be looked at");
                look.blind_to_secrets |= what.secret;
                look.blind_to_config_maps |= !what.secret;
            }
        }
    }
    look
}

/// The time of the last write, as the API server booked it.
fn changed(found: &ObjectMeta) -> Option<Timestamp> {
    let writes = found.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref());
    writes.chain(&found.creation_timestamp).map(|time| time.0).max()
}
