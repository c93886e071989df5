#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::advise::CallObserver;
use crate::api::{GuardClassSpec, providers};
use crate::domain::advice::Usage;
use crate::domain::redact::Redactor;

struct Uncounted;

impl CallObserver for Uncounted {
    fn called(&self, _: &str, _: &'static str, _: Duration, _: Usage) {}
}

fn ports() -> Ports {
    let redactor = Arc::new(Redactor::new());
    Ports { gate: redactor.clone(), observer: Arc::new(Uncounted), redactor }
}

/// An API server that has one Secret, or none; and what it was asked.
#[derive(Clone, Default)]
struct Cluster {
    key: Arc<Mutex<Option<&'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    fn set(&self, key: Option<&'static str>) {
        *self.key.lock().unwrap() = key;
    }

    fn providers(&self) -> Arc<Providers> {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            cluster.asked.lock().unwrap().push(request.uri().path().to_owned());
            let (status, body) = match *cluster.key.lock().unwrap() {
                Some(key) => {
                    let data = json!({"key": BASE64_STANDARD.encode(key)});
                    (200, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": data}))
                }
                None => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
            };
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        Arc::new(Providers::new(SecretReader::new(Client::new(service, "default"), "dg-system".into())))
    }
}

fn policy(extra: &serde_json::Value) -> LlmPolicy {
    let mut spec = json!({
        "prometheus": {"url": "http://p"},
        "providers": [
            {"name": "far", "kind": "openai", "model": "m", "apiKeySecretRef": {"name": "keys", "key": "key"}},
            {"name": "near", "kind": "openai", "model": "m", "baseURL": "http://vllm/v1"},
        ],
    });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let spec: GuardClassSpec = serde_json::from_value(spec).unwrap();
    providers::parse(&spec).unwrap()
}

/// As a task of its own, which is how the control loop does it.
async fn ensured(providers: &Arc<Providers>, policy: &LlmPolicy) -> Vec<Result<Arc<Provider>, String>> {
    let (providers, policy) = (providers.clone(), policy.clone());
    let named = tokio::spawn(async move { providers.ensure("default", &policy, ports).await }).await.unwrap();
    assert_eq!(named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["far", "near"]);
    named.into_iter().map(|(_, provider)| provider.map_err(|error| error.to_string())).collect()
}

#[tokio::test]
async fn a_provider_lasts_as_long_as_its_settings_and_its_secret() {
    let cluster = Cluster::default();
    cluster.set(Some("one"));
    let (providers, plain) = (cluster.providers(), policy(&json!({})));
    let first = ensured(&providers, &plain).await;
    let second = ensured(&providers, &plain).await;
    let same = |a: &Result<Arc<Provider>, String>, b: &Result<Arc<Provider>, String>| {
        Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())
    };
    assert!(same(&first[0], &second[0]) && same(&first[1], &second[1]));
    cluster.set(Some("two"));
    let third = ensured(&providers, &plain).await;
    assert!(!same(&second[0], &third[0]), "its key has changed");
    assert!(same(&second[1], &third[1]), "it has none");
    assert!(Arc::ptr_eq(&providers.get("default", "far").unwrap(), third[0].as_ref().unwrap()));
    let stricter = policy(&json!({"redactionPatterns": ["ticket-[0-9]+"]}));
    let fourth = ensured(&providers, &stricter).await;
    assert!(!same(&third[1], &fourth[1]), "what may leave has changed");
    providers.forget("default");
    assert!(providers.get("default", "far").is_none());
}

#[tokio::test]
async fn a_provider_whose_secret_is_gone_is_asked_no_more_and_the_others_are() {
    let cluster = Cluster::default();
    cluster.set(Some("one"));
    let (providers, policy) = (cluster.providers(), policy(&json!({})));
    ensured(&providers, &policy).await;
    cluster.set(None);
    let after = ensured(&providers, &policy).await;
    let error = after[0].as_ref().unwrap_err();
    assert_eq!(error, "spec.providers[0].apiKeySecretRef names the Secret dg-system/keys, which does not exist");
    assert!(providers.get("default", "far").is_none() && providers.get("default", "near").is_some());
    let asked = cluster.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|path| path == "/api/v1/namespaces/dg-system/secrets/keys"), "{asked:?}");
}

#[tokio::test]
async fn a_key_that_no_header_can_carry_is_said_without_its_content() {
    let cluster = Cluster::default();
    cluster.set(Some("top\nsecret"));
    let error = ensured(&cluster.providers(), &policy(&json!({}))).await.remove(0).unwrap_err();
    assert!(error.starts_with("provider far: ") && !error.contains("secret"), "{error}");
}
