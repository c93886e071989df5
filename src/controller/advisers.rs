//! The language models of every class: who can be asked, what they may cost, how they did lately.
//!
//! Role: breakers, budgets and the last word of each provider, shared by all guards of a class. Inputs: classes, calls.
//! Outputs: providers with leave to call them, status. A provider that fails is data. Must never import: `cli`, `console`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::providers::Providers;
use super::sources::NoSource;
use crate::advise::{CallObserver, Failed, Gate, Ports, Provider};
use crate::api::class::{BudgetStatus, GuardClass, ProviderStatus, UsedStatus};
use crate::api::condition::{Observed, Truth, Type};
use crate::api::providers as spec;
use crate::api::status::{parse_time, time};
use crate::domain::advice::breaker::Breaker;
use crate::domain::advice::budget::{Budget, Price, Reservation, Used};
use crate::domain::advice::prompt::DataPolicy;
use crate::domain::advice::provider::LlmPolicy;
use crate::domain::advice::request::{Sendable, redact_request};
use crate::domain::advice::{Answer, Failure, Rung, Usage};
use crate::domain::outcome::Reason;
use crate::domain::redact::{Redactor, SERVER_MESSAGE};
use crate::telemetry::metrics::Metrics;

/// Tokens that a reply may have at most; as the wire formats ask for.
const REPLY: u64 = 2048;

/// The language models of every class.
pub struct Advisers {
    providers: Providers,
    redactor: Arc<Redactor>,
    metrics: Arc<Metrics>,
    classes: Mutex<HashMap<String, Arc<ClassAdvisers>>>,
}

/// The language models of one class.
pub struct ClassAdvisers {
    name: String,
    /// What the class says about them.
    pub policy: LlmPolicy,
    /// What blackens prompts and requests.
    pub redactor: Arc<Redactor>,
    /// Of all versions of the class.
    state: Arc<Mutex<State>>,
    /// Why some cannot be asked at all.
    unusable: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    budget: Budget,
    providers: BTreeMap<String, Seen>,
}

/// How a provider did.
#[derive(Debug, Default)]
struct Seen {
    breaker: Breaker,
    rung: Option<Rung>,
    last_success: Option<Timestamp>,
    last_error: Option<(&'static str, String)>,
    latency: Option<Duration>,
    today: Used,
}

/// Requests leave here, and nowhere else.
struct Choke {
    redactor: Arc<Redactor>,
    metrics: Arc<Metrics>,
}

impl Gate for Choke {
    fn let_out(&self, body: String) -> Result<Sendable, Failure> {
        let sendable = redact_request(&body, &self.redactor)?;
        for (kind, pieces) in sendable.taken() {
            self.metrics.redacted(kind.as_str(), *pieces);
        }
        Ok(sendable)
    }
}

impl CallObserver for Metrics {
    fn called(&self, provider: &str, outcome: &'static str, took: Duration, usage: Usage) {
        self.llm_called(provider, outcome, took, (usage.input, usage.output));
    }
}

impl Advisers {
    /// No class yet.
    #[must_use]
    pub fn new(providers: Providers, redactor: Arc<Redactor>, metrics: Arc<Metrics>) -> Self {
        Self { providers, redactor, metrics, classes: Mutex::default() }
    }

    /// The models of a class as last made.
    #[must_use]
    pub fn of(&self, class: &str) -> Option<Arc<ClassAdvisers>> {
        self.locked().get(class).cloned()
    }

    /// Forgets a deleted class.
    pub fn forget(&self, class: &str) {
        self.providers.forget(class);
        self.locked().remove(class);
    }

    /// Makes the models of a class anew where it or its Secrets changed.
    ///
    /// # Errors
    /// If the class says something about them that cannot be used.
    pub async fn ensure(&self, class: &GuardClass) -> Result<Arc<ClassAdvisers>, NoSource> {
        let name = class.name_any();
        let policy = spec::parse(&class.spec).map_err(|error| NoSource(error.to_string()))?;
        let key = class.metadata.uid.clone().unwrap_or_default();
        let redactor = self.redactor_of(&policy, key.as_bytes())?;
        let ports = || Ports {
            gate: Arc::new(Choke { redactor: redactor.clone(), metrics: self.metrics.clone() }),
            observer: self.metrics.clone(),
            redactor: self.redactor.clone(),
        };
        let named = self.providers.ensure(&name, &policy, ports).await;
        let unusable = named.into_iter().filter_map(|(name, made)| Some((name, made.err()?.0))).collect();
        let mut classes = self.locked();
        let known = classes.get(&name).map(|known| known.state.clone());
        let state = known.unwrap_or_else(|| Arc::new(Mutex::new(State::of(class))));
        let advisers = Arc::new(ClassAdvisers { name: name.clone(), policy, redactor, state, unusable });
        classes.insert(name, advisers.clone());
        Ok(advisers)
    }

    /// The provider of a class, if it can be asked at all.
    #[must_use]
    pub fn provider(&self, class: &ClassAdvisers, name: &str) -> Option<Arc<Provider>> {
        self.providers.get(&class.name, name)
    }

    fn redactor_of(&self, policy: &LlmPolicy, key: &[u8]) -> Result<Arc<Redactor>, NoSource> {
        let known = self.locked();
        let same = known.values().find(|known| {
            known.policy.data == policy.data && known.policy.redaction_patterns == policy.redaction_patterns
        });
        // Compiling the patterns takes a while; the key is the class's own.
        if let Some(same) = same.filter(|same| same.redactor.has_key(key)) {
            return Ok(same.redactor.clone());
        }
        drop(known);
        let made = DataPolicy::redactor(policy.data, &policy.redaction_patterns, key);
        made.map(Arc::new)
            .map_err(|error| NoSource(format!("spec.redactionPatterns[{}] {}", error.place, error.problem)))
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Arc<ClassAdvisers>>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What an earlier leader used stays used.
    fn of(class: &GuardClass) -> Self {
        let stored = class.status.as_ref().and_then(|status| status.budget.as_ref());
        let read = |used: &UsedStatus| {
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            Used::stored(
                used.since.as_deref().and_then(parse_time),
                count(used.calls),
                count(used.tokens),
                count(used.spend_micros),
            )
        };
        let budget = stored.map(|stored| Budget { hour: read(&stored.hour), day: read(&stored.day) });
        Self { budget: budget.unwrap_or_default(), providers: BTreeMap::new() }
    }
}

/// Leave for one call.
#[derive(Debug)]
pub struct Leave {
    reservation: Reservation,
    price: Price,
}

impl ClassAdvisers {
    /// How a provider is asked best, as far as was found out.
    #[must_use]
    pub fn rung(&self, provider: &str) -> Rung {
        self.locked().providers.get(provider).and_then(|seen| seen.rung).unwrap_or(Rung::JsonSchema)
    }

    /// Remembers how a provider answered.
    pub fn learn(&self, provider: &str, rung: Rung) {
        self.locked().providers.entry(provider.to_owned()).or_default().rung = Some(rung);
    }

    /// Leave to call, with what it may cost set aside.
    ///
    /// # Errors
    /// If the breaker is open, or a budget is used up.
    pub fn admit(&self, provider: &str, prompt_tokens: usize, now: Timestamp) -> Result<Leave, Failure> {
        let price = self.policy.providers.iter().find(|one| one.name == provider).and_then(|one| one.price);
        let price = price.unwrap_or_default();
        let most = Usage { input: u64::try_from(prompt_tokens).unwrap_or(u64::MAX), output: REPLY };
        let mut state = self.locked();
        let reservation = state.budget.reserve(&self.policy.budgets, price, most, now);
        let reservation = reservation.map_err(|_| Failure::BudgetExhausted)?;
        let admitted = state.providers.entry(provider.to_owned()).or_default().breaker.admit(now);
        if let Err(failure) = admitted {
            state.budget.give_back(reservation);
            return Err(failure);
        }
        Ok(Leave { reservation, price })
    }

    /// What came of a call.
    pub fn settle(
        &self,
        provider: &str,
        leave: Leave,
        answer: &Result<Answer, Failed>,
        took: Duration,
        now: Timestamp,
    ) {
        let usage = answer.as_ref().map_or_else(|failed| failed.usage, |answer| answer.usage);
        let mut state = self.locked();
        if matches!(answer, Err(failed) if failed.failure == Failure::NotSendable) {
            state.budget.give_back(leave.reservation);
            return;
        }
        state.budget.settle(leave.reservation, usage);
        let seen = state.providers.entry(provider.to_owned()).or_default();
        seen.latency = Some(took);
        seen.today.count(usage, leave.price, now);
        match answer {
            Ok(_) => {
                seen.breaker.succeeded();
                seen.last_success = Some(now);
                seen.last_error = None;
            }
            Err(failed) => {
                seen.breaker.failed(&failed.failure, now);
                seen.last_error = Some((failed.failure.word(), failed.said.clone()));
            }
        }
    }

    /// Notes that the reply of a provider that answered could not be used. Its breaker stays closed: the text of one
    /// workload may be to blame.
    pub fn misread(&self, provider: &str, outcome: &'static str) {
        let mut state = self.locked();
        let seen = state.providers.entry(provider.to_owned()).or_default();
        seen.last_error = Some((outcome, "it answered, and the reply cannot be used".to_owned()));
    }

    /// Each provider, for the class's status.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Vec<ProviderStatus> {
        let state = self.locked();
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let of = |one: &crate::domain::advice::provider::ProviderPolicy| {
            let unusable = self.unusable.get(&one.name);
            let Some(seen) = state.providers.get(&one.name) else {
                return ProviderStatus {
                    name: one.name.clone(),
                    last_error: unusable.map(|_| "unusable".to_owned()),
                    message: unusable.map(|problem| self.cut(problem)),
                    ..ProviderStatus::default()
                };
            };
            let today = seen.today.in_day(now);
            let error =
                unusable.map(|problem| ("unusable", problem)).or(seen.last_error.as_ref().map(|(w, m)| (*w, m)));
            ProviderStatus {
                name: one.name.clone(),
                last_success: seen.last_success.map(time),
                last_error: error.map(|(word, _)| word.to_owned()),
                message: error.map(|(_, said)| self.cut(said)),
                latency_ms: seen.latency.map(|took| i64::try_from(took.as_millis()).unwrap_or(i64::MAX)),
                breaker: Some(seen.breaker.position(now).as_str().to_owned()),
                calls_today: Some(whole(today.calls)),
                tokens_today: Some(whole(today.tokens)),
                spend_today: one.price.map(|_| money(today.spend)),
            }
        };
        self.policy.providers.iter().map(of).collect()
    }

    /// What all of them used.
    #[must_use]
    pub fn budget(&self, now: Timestamp) -> BudgetStatus {
        let budget = self.locked().budget.at(now);
        let of = |used: &Used| {
            let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            UsedStatus {
                since: used.since.map(time),
                calls: whole(used.calls),
                tokens: whole(used.tokens),
                spend_micros: whole(used.spend),
            }
        };
        BudgetStatus { hour: of(&budget.hour), day: of(&budget.day) }
    }

    /// Whether anybody answers, for the class's conditions; nothing where nobody is configured.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> Option<Observed> {
        let all = self.status(now);
        if all.is_empty() {
            return None;
        }
        let well = |one: &&ProviderStatus| one.last_success.is_some() && one.last_error.is_none();
        let asked = |one: &&ProviderStatus| one.last_success.is_some() || one.last_error.is_some();
        let (answer, total) = (all.iter().filter(well).count(), all.len());
        let trouble = all.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.last_error.as_deref()?)));
        let trouble: Vec<String> = trouble.collect();
        Some(if answer > 0 {
            let rest = if trouble.is_empty() { String::new() } else { format!("; {}", trouble.join(", ")) };
            let message = format!("{answer} of {total} answered when they were last asked{rest}");
            Observed::new(Type::LLMAvailable, true, Reason::LLMAnswers, message)
        } else if all.iter().any(|one| asked(&one)) {
            let message = format!("{}; the algorithm decides alone", trouble.join(", "));
            Observed::new(Type::LLMAvailable, false, Reason::LLMUnavailable, message)
        } else {
            let message = "nobody was asked yet; deployment-guard llm-check asks each provider once";
            Observed::new(Type::LLMAvailable, Truth::Unknown, Reason::LLMNotAsked, message)
        })
    }

    fn cut(&self, text: &str) -> String {
        self.redactor.redact(text, SERVER_MESSAGE).as_str().to_owned()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Millionths as a decimal number.
fn money(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
