//! What the controller does with the chain, without a controller.
//!
//! Role: breakers, budget, the way out and the HTTP client that ship, driven by the step function that ships. Inputs:
//! providers on loopback, a case. Outputs: what the chain came to, and when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use deployment_guard::advise::{self, CallObserver, Gate, Ports, Provider, Secrets};
use deployment_guard::domain::advice::authority::Zone;
use deployment_guard::domain::advice::breaker::Breaker;
use deployment_guard::domain::advice::budget::{Budget, Limits, Price};
use deployment_guard::domain::advice::chain::{Chain, Event, Outcome, Step, Turn};
use deployment_guard::domain::advice::prompt::{self, Case, DataPolicy, Milestone, Prompt, SignalRow, changes};
use deployment_guard::domain::advice::provider::{ProviderPolicy, Wire};
use deployment_guard::domain::advice::request::{Sendable, redact_request};
use deployment_guard::domain::advice::{Answer, Failure, Rung, Usage};
use deployment_guard::domain::assess::SignalVerdict;
use deployment_guard::domain::finding::{Finding, Novelty, Source};
use deployment_guard::domain::outcome::FailureClass;
use deployment_guard::domain::process::Counts;
use deployment_guard::domain::redact::Redactor;
use jiff::Timestamp;
use serde_json::json;
use testbed::oracle::Behaviour;
use tokio::time::Instant;

/// Drawn once a call by the controller; its price is nothing.
const BOUNDARY: &str = "q7Rk2mXw9TzB4nLc";
/// Tokens that a reply may have.
const REPLY: u64 = 2048;

struct WayOut(Redactor);

impl Gate for WayOut {
    fn let_out(&self, body: String) -> Result<Sendable, Failure> {
        redact_request(&body, &self.0)
    }
}

struct Unobserved;

impl CallObserver for Unobserved {
    fn called(&self, _: &str, _: &'static str, _: Duration, _: Usage) {}
}

/// A class: its providers, their breakers, its budget.
pub struct Shell {
    providers: Vec<Provider>,
    breakers: Vec<Mutex<Breaker>>,
    budget: Mutex<Budget>,
    limits: Limits,
    price: Price,
    deadline: Duration,
    redactor: Redactor,
}

/// What came of a decision.
pub struct Decided {
    /// Whether somebody had an opinion.
    pub opinion: bool,
    /// From the first byte of the prompt to the end.
    pub took: Duration,
}

impl Shell {
    /// Providers that behave like this, each with the whole deadline for itself.
    pub fn new(url: &str, chain: &[Behaviour], limits: Limits, price: Price, deadline: Duration) -> Result<Self> {
        let redactor = || DataPolicy::Redacted.redactor(&[], b"bench");
        let gate: Arc<dyn Gate> = Arc::new(WayOut(redactor()?));
        let shared = Arc::new(redactor()?);
        let ports = || Ports { gate: gate.clone(), observer: Arc::new(Unobserved), redactor: shared.clone() };
        let made =
            chain.iter().map(|behaviour| Provider::new(policy(url, *behaviour, deadline), Secrets::default(), ports()));
        Ok(Self {
            providers: made.collect::<Result<_, _>>()?,
            breakers: chain.iter().map(|_| Mutex::default()).collect(),
            budget: Mutex::default(),
            limits,
            price,
            deadline,
            redactor: redactor()?,
        })
    }

    /// The prompt of a case.
    pub fn prompt(&self, case: &Case) -> Result<Prompt> {
        prompt::write(case, DataPolicy::Redacted, BOUNDARY, &self.redactor)
            .map_err(|failure| anyhow::anyhow!("no prompt: {failure}"))
    }

    /// What was used by now.
    pub fn used(&self, now: Timestamp) -> Budget {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).at(now)
    }

    /// Writes the prompt and asks.
    pub async fn decide(&self, case: &Case, now: Timestamp) -> Result<Decided> {
        let started = Instant::now();
        let prompt = self.prompt(case)?;
        Ok(self.ask(&prompt, started, now).await)
    }

    /// Asks one after the other, as the step function says.
    pub async fn ask(&self, prompt: &Prompt, started: Instant, now: Timestamp) -> Decided {
        let asked =
            advise::Prompt { system: prompt.system.clone(), user: prompt.user.clone(), schema: prompt.schema.clone() };
        let turn = |provider: &Provider| Turn {
            name: provider.name().to_owned(),
            timeout: provider.policy().timeout,
            retries: 0,
            rung: Rung::JsonSchema,
        };
        let turns = self.providers.iter().map(turn).collect();
        let (mut chain, mut step) = Chain::begin(turns, prompt.known.clone(), self.deadline);
        loop {
            let event = match step {
                Step::Done(outcome) => {
                    return Decided { opinion: outcome != Outcome::NoOpinion, took: started.elapsed() };
                }
                Step::Wait { until } => {
                    tokio::time::sleep_until(started + until).await;
                    Event::TimePassed
                }
                Step::Ask { provider, rung, deadline } => {
                    let within = deadline.saturating_sub(started.elapsed());
                    match self.call(provider, &asked, prompt.tokens(), rung, within, now).await {
                        Ok(answer) => Event::Answered(answer),
                        Err(failure) => Event::Failed(failure),
                    }
                }
            };
            step = chain.next(event, started.elapsed());
        }
    }

    async fn call(
        &self,
        place: usize,
        asked: &advise::Prompt,
        tokens: usize,
        rung: Rung,
        within: Duration,
        now: Timestamp,
    ) -> Result<Answer, Failure> {
        let (Some(provider), Some(breaker)) = (self.providers.get(place), self.breakers.get(place)) else {
            return Err(Failure::Unreachable);
        };
        let most = Usage { input: u64::try_from(tokens).unwrap_or(u64::MAX), output: REPLY };
        let reservation = {
            let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
            let reserved = budget.reserve(&self.limits, self.price, most, now).map_err(|_| Failure::BudgetExhausted)?;
            if let Err(open) = breaker.admit(now) {
                budget.give_back(reserved);
                return Err(open);
            }
            reserved
        };
        let answer = provider.ask(asked, rung, within).await;
        let usage = answer.as_ref().map_or_else(|failed| failed.usage, |answer| answer.usage);
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).settle(reservation, usage);
        let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match &answer {
            Ok(_) => breaker.succeeded(),
            Err(failed) => breaker.failed(&failed.failure, now),
        }
        answer.map_err(Failure::from)
    }
}

fn policy(url: &str, behaviour: Behaviour, timeout: Duration) -> ProviderPolicy {
    ProviderPolicy {
        name: behaviour.word().to_owned(),
        wire: Wire::OpenAi,
        model: behaviour.word().to_owned(),
        base_url: format!("{url}/v1"),
        api_key: None,
        headers: Vec::new(),
        authorities: None,
        proxy: None,
        timeout,
        retries: 0,
        price: None,
    }
}

/// A release in the grey zone, with as much to say as a usual one; no two numbers give the same prompt.
pub fn case(number: u64) -> Case {
    let signal = |name: &str, ln_e: f64| SignalRow {
        name: name.to_owned(),
        term: None,
        verdict: if ln_e > 2.0 { SignalVerdict::Worse } else { SignalVerdict::Unproven },
        new: "5.2 %".to_owned(),
        old: "1.0 %".to_owned(),
        counted: Some((Counts::new(79 + number, 15_100), Counts::new(9, 900))),
        ln_e: Some(ln_e),
        allowed: "weight 33 %; allowed is 1.25 times the old share and 0.1 points".to_owned(),
    };
    let finding = |line: &str| Finding {
        source: Source::Logs { container: "api".to_owned() },
        issue: "connection refused".to_owned(),
        context: line.to_owned(),
        suggested_fix: String::new(),
        service: Some("db".to_owned()),
        class: FailureClass::DependencyUnavailable,
        new: 14,
        old: Some(0),
        novelty: Novelty::New,
    };
    let template = |tag: &str, memory: &str| {
        json!({"spec": {"containers": [{"name": "api", "image": format!("shop/api:{tag}"),
            "resources": {"limits": {"memory": memory}}}]}})
    };
    Case {
        workload: format!("Deployment shop/api-{number}"),
        zone: Zone::Grey,
        alpha: 0.01,
        ln_e: Some(3.5),
        signals: vec![signal("http/errors", 4.1), signal("http/latency", -0.4), signal("memory", 0.2)],
        facts: Vec::new(),
        findings: vec![
            finding("dial tcp <ip>:<n>: connect: connection refused \"orders\""),
            finding("java.lang.IllegalStateException: stock is negative at com.example.shop.Stock.take"),
            finding("pq: canceling statement due to statement timeout"),
            finding("payment for order <n> retried after <n> ms"),
        ],
        timeline: vec![(0, Milestone::Began), (21, Milestone::FirstReady), (180, Milestone::Now)],
        changes: changes(&template("1.4.1", "256Mi"), &template("1.4.2", "128Mi")),
        notes: vec!["change cause: pool of 20 connections".to_owned()],
    }
}
