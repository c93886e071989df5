//! Secrets of the operator's own namespace, by name and key.
//!
//! Role: read what a GuardClass names, now, because Secrets change. Inputs: a field, a name, a key. Outputs: the value,
//! or a sentence that names the field and never the value. Must never import: `cli`, `console`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::sources::NoSource;

/// How long reading one Secret may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads Secrets of one namespace; no other can be named.
#[derive(Clone)]
pub struct SecretReader {
    client: Client,
    namespace: String,
}

impl SecretReader {
    /// A reader for `namespace`.
    #[must_use]
    pub const fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// The value of a key, as text.
    ///
    /// # Errors
    /// As [`SecretReader::bytes`], or if it is no text.
    pub async fn text(&self, field: &str, name: &str, key: &str) -> Result<String, NoSource> {
        let value = self.bytes(field, name, key).await?;
        String::from_utf8(value).map_err(|_| {
            NoSource(format!("spec.{field}: the key {key} of Secret {}/{name} is not text", self.namespace))
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// If it cannot be read; the message names field, Secret and key.
    pub async fn bytes(&self, field: &str, name: &str, key: &str) -> Result<Vec<u8>, NoSource> {
        let place = &self.namespace;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), place);
        let read = tokio::time::timeout(READ_TIMEOUT, api.get_opt(name)).await;
        let secret = match read {
            Ok(Ok(Some(secret))) => secret,
            Ok(Ok(None)) => {
                return Err(NoSource(format!("spec.{field} names the Secret {place}/{name}, which does not exist")));
            }
            Ok(Err(error)) => {
                return Err(NoSource(format!("spec.{field}: reading the Secret {place}/{name} failed: {error}")));
            }
            Err(_) => return Err(NoSource(format!("spec.{field}: reading the Secret {place}/{name} took too long"))),
        };
        let value = secret.data.and_then(|mut data| data.remove(key));
        value
            .map(|bytes| bytes.0)
            .ok_or_else(|| NoSource(format!("spec.{field}: the Secret {place}/{name} has no key {key}")))
    }
}
