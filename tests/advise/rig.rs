//! A provider as a test wants it, and what it did.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use deployment_guard::advise::{CallObserver, Gate, Ports, Prompt, Provider, Secrets};
use deployment_guard::domain::advice::provider::{ProviderPolicy, Wire};
use deployment_guard::domain::advice::request::{Sendable, redact_request};
use deployment_guard::domain::advice::{Failure, Usage};
use deployment_guard::domain::redact::Redactor;
use secrecy::SecretString;
use serde_json::json;

/// A key of no known vendor, so that only the rule "what was sent is taken out" can hide it.
pub const KEY: &str = "sk-test-k3y-th4t-is-s3cret";
pub const SECOND: Duration = Duration::from_secs(1);

/// What was counted.
#[derive(Default)]
pub struct Calls(pub Mutex<Vec<(&'static str, Usage)>>);

impl Calls {
    pub fn outcomes(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(|(outcome, _)| *outcome).collect()
    }
}

impl CallObserver for Calls {
    fn called(&self, _: &str, outcome: &'static str, _: Duration, usage: Usage) {
        self.0.lock().unwrap().push((outcome, usage));
    }
}

/// Lets everything out that the redactor finds clean.
pub struct Open;

impl Gate for Open {
    fn let_out(&self, body: String) -> Result<Sendable, Failure> {
        redact_request(&body, &redactor())
    }
}

pub fn policy(wire: Wire, base: &str) -> ProviderPolicy {
    ProviderPolicy {
        name: "one".into(),
        wire,
        model: "a-model".into(),
        base_url: base.into(),
        api_key: None,
        headers: Vec::new(),
        authorities: None,
        proxy: None,
        timeout: Duration::from_secs(5),
        retries: 0,
        price: None,
    }
}

pub fn secrets() -> Secrets {
    Secrets { api_key: Some(SecretString::from(format!("{KEY}\n"))), ..Secrets::default() }
}

pub fn ports(gate: Arc<dyn Gate>) -> (Ports, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    (Ports { gate, observer: calls.clone(), redactor: redactor() }, calls)
}

/// Compiled once: there are many patterns.
pub fn redactor() -> Arc<Redactor> {
    static REDACTOR: LazyLock<Arc<Redactor>> = LazyLock::new(|| Arc::new(Redactor::new()));
    REDACTOR.clone()
}

pub fn provider(wire: Wire, base: &str) -> (Provider, Arc<Calls>) {
    let (ports, calls) = ports(Arc::new(Open));
    (Provider::new(policy(wire, base), secrets(), ports).unwrap(), calls)
}

pub fn prompt() -> Prompt {
    Prompt {
        system: "You judge releases.".into(),
        user: "S1: error rate 5.2 % against 1.0 %.".into(),
        schema: json!({
            "type": "object",
            "properties": {
                "decision": {"type": "string", "enum": ["ROLLBACK", "CONTINUE", "INCONCLUSIVE"]},
                "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
            },
            "required": ["decision", "confidence"],
            "additionalProperties": false,
        }),
    }
}
