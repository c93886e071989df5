//! One client per language model of a class, made anew when the class or its Secrets change.
//!
//! Role: from a parsed class to something that can be asked. Inputs: policies, Secrets of the own namespace. Outputs:
//! providers, or why there is none. Whoever asks one while it is replaced ends with the one it has. Must never import:
//! `cli`, `console`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use super::secrets::SecretReader;
use super::sources::NoSource;
use crate::advise::{Ports, Provider, Secrets};
use crate::domain::advice::prompt::DataPolicy;
use crate::domain::advice::provider::{HeaderValue, LlmPolicy, ProviderPolicy, SecretKey};

/// The language models of every class.
pub struct Providers {
    reader: SecretReader,
    known: Mutex<HashMap<String, Vec<Known>>>,
}

struct Known {
    policy: ProviderPolicy,
    /// What the gate of its ports was made of.
    gate: (DataPolicy, Vec<String>),
    secrets: Secrets,
    provider: Arc<Provider>,
}

/// A provider by name, or why it cannot be asked.
pub type Named = (String, Result<Arc<Provider>, NoSource>);

impl Providers {
    /// Providers whose Secrets `reader` reads.
    #[must_use]
    pub fn new(reader: SecretReader) -> Self {
        Self { reader, known: Mutex::default() }
    }

    /// The provider of a class as last made.
    #[must_use]
    pub fn get(&self, class: &str, name: &str) -> Option<Arc<Provider>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(class)?.iter().find(|known| known.policy.name == name).map(|known| known.provider.clone())
    }

    /// Forgets a deleted class.
    pub fn forget(&self, class: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(class);
    }

    /// All providers of a class in its order, made anew where settings or Secrets changed. `ports` is called once for
    /// each that is.
    pub async fn ensure(&self, class: &str, policy: &LlmPolicy, ports: impl Fn() -> Ports) -> Vec<Named> {
        let gate = (policy.data, policy.redaction_patterns.clone());
        let (mut named, mut made): (Vec<Named>, Vec<Known>) = (Vec::new(), Vec::new());
        for (index, one) in policy.providers.iter().enumerate() {
            let secrets = secrets(Some(&self.reader), index, one).await;
            let provider = secrets.and_then(|secrets| {
                let provider = match self.unchanged(class, one, &gate, &secrets) {
                    Some(provider) => provider,
                    None => make(one, &secrets, ports())?,
                };
                let known = Known { policy: one.clone(), gate: gate.clone(), secrets, provider: provider.clone() };
                made.push(known);
                Ok(provider)
            });
            named.push((one.name.clone(), provider));
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(class.to_owned(), made);
        named
    }

    fn unchanged(
        &self,
        class: &str,
        policy: &ProviderPolicy,
        gate: &(DataPolicy, Vec<String>),
        secrets: &Secrets,
    ) -> Option<Arc<Provider>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Known| known.policy == *policy && known.gate == *gate && alike(&known.secrets, secrets);
        known.get(class)?.iter().find(same).map(|known| known.provider.clone())
    }
}

/// A client of one provider.
///
/// # Errors
/// If a setting or the content of a Secret cannot be used.
pub fn make(policy: &ProviderPolicy, secrets: &Secrets, ports: Ports) -> Result<Arc<Provider>, NoSource> {
    Provider::new(policy.clone(), secrets.clone(), ports).map(Arc::new).map_err(|error| NoSource(error.to_string()))
}

/// What the Secrets say that a provider names. Without a reader, only a provider that names none can be asked.
///
/// # Errors
/// If one cannot be read; the message names field, Secret and key.
pub async fn secrets(
    reader: Option<&SecretReader>,
    index: usize,
    policy: &ProviderPolicy,
) -> Result<Secrets, NoSource> {
    let field = |name: &str| format!("providers[{index}].{name}");
    let mut secrets = Secrets::default();
    if let Some(SecretKey { name, key }) = &policy.api_key {
        let field = field("apiKeySecretRef");
        secrets.api_key = Some(SecretString::from(there(reader, &field)?.text(&field, name, key).await?));
    }
    for (place, (header, value)) in policy.headers.iter().enumerate() {
        let value = match value {
            HeaderValue::Plain(value) => value.clone(),
            HeaderValue::Secret(SecretKey { name, key }) => {
                let field = field(&format!("headers[{place}].valueSecretRef"));
                there(reader, &field)?.text(&field, name, key).await?
            }
        };
        secrets.headers.push((header.clone(), SecretString::from(value)));
    }
    if let Some(SecretKey { name, key }) = &policy.authorities {
        let field = field("tls.caSecretRef");
        secrets.authorities = Some(there(reader, &field)?.bytes(&field, name, key).await?);
    }
    Ok(secrets)
}

fn there<'r>(reader: Option<&'r SecretReader>, field: &str) -> Result<&'r SecretReader, NoSource> {
    reader.ok_or_else(|| NoSource(format!("spec.{field} names a Secret, and there is no cluster to read it from")))
}

fn alike(one: &Secrets, other: &Secrets) -> bool {
    let text = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
    let headers = |secrets: &Secrets| -> Vec<(String, String)> {
        secrets.headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect()
    };
    text(&one.api_key) == text(&other.api_key) && headers(one) == headers(other) && one.authorities == other.authorities
}

#[cfg(test)]
#[path = "providers_tests.rs"]
mod tests;
