//! One Prometheus client per class, made anew when the class or its Secrets change.
//!
//! Role: from a GuardClass to something that can be asked. Inputs: classes, Secrets of the own namespace. Outputs: a
//! source, or why there is none. Must never import: `cli`, `console`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use secrecy::SecretString;

use super::secrets::SecretReader;
use crate::api::class::Prometheus;
use crate::api::parse;
use crate::observe::prometheus::{PrometheusSource, QueryObserver, SourceConfig};

/// Why a class has no source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NoSource(pub String);

/// The sources of every class.
pub struct Sources {
    reader: SecretReader,
    observer: Arc<dyn QueryObserver>,
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    spec: Prometheus,
    secrets: Secrets,
    source: Arc<PrometheusSource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Secrets {
    bearer: Option<String>,
    ca: Option<Vec<u8>>,
}

impl Sources {
    /// Sources whose Secrets lie in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: String, observer: Arc<dyn QueryObserver>) -> Self {
        Self { reader: SecretReader::new(client, namespace), observer, known: Mutex::default() }
    }

    /// The source of a class as last made.
    #[must_use]
    pub fn get(&self, class: &str) -> Option<Arc<PrometheusSource>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(class).map(|known| known.source.clone())
    }

    /// Forgets a deleted class.
    pub fn forget(&self, class: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(class);
    }

    /// The source of a class, made anew if its settings or Secrets changed.
    ///
    /// # Errors
    /// If a setting cannot be used or a Secret is missing; the message names it.
    pub async fn ensure(&self, class: &str, spec: &Prometheus) -> Result<Arc<PrometheusSource>, NoSource> {
        let secrets = self.secrets(spec).await?;
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(class).filter(|known| known.spec == *spec && known.secrets == secrets) {
                return Ok(known.source.clone());
            }
        }
        let source = Arc::new(self.make(spec, &secrets)?);
        let known = Known { spec: spec.clone(), secrets, source: source.clone() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(class.to_owned(), known);
        Ok(source)
    }

    fn make(&self, spec: &Prometheus, secrets: &Secrets) -> Result<PrometheusSource, NoSource> {
        let timeout = parse::duration("prometheus.timeout", &spec.timeout).map_err(|e| NoSource(e.to_string()))?;
        let config = SourceConfig {
            url: spec.url.clone(),
            timeout,
            ca_pem: secrets.ca.clone(),
            bearer: secrets.bearer.clone().map(SecretString::from),
            ..SourceConfig::default()
        };
        PrometheusSource::new(config, self.observer.clone()).map_err(|error| NoSource(error.to_string()))
    }

    async fn secrets(&self, spec: &Prometheus) -> Result<Secrets, NoSource> {
        let mut secrets = Secrets::default();
        if let Some(reference) = &spec.bearer_token_secret_ref {
            let (name, key) = (&reference.name, &reference.key);
            let token = self.reader.text("prometheus.bearerTokenSecretRef", name, key).await?;
            secrets.bearer = Some(token.trim().to_owned());
        }
        if let Some(tls) = &spec.tls {
            let reference = &tls.ca_secret_ref;
            secrets.ca = Some(self.reader.bytes("prometheus.tls.caSecretRef", &reference.name, &reference.key).await?);
        }
        Ok(secrets)
    }
}
