//! Whether a class can be used and its Prometheus answers.
//!
//! Role: makes each class's source and asks it regularly; monitoring the monitor is `kubectl get gclass`. Inputs: a
//! class. Outputs: its status. Must never import: `cli`, `console`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::controller::Action;

use super::advisers::ClassAdvisers;
use super::context::Context;
use super::error::Error;
use super::storms;
use crate::api::class::{GuardClass, GuardClassStatus, ProviderStatus, SourceStatus, StormBreakerStatus};
use crate::api::condition::{self, Observed, Truth, Type};
use crate::api::status::{parse_time, time};
use crate::domain::managers;
use crate::domain::outcome::Reason;
use crate::domain::redact::SERVER_MESSAGE;
use crate::record::status;

/// How often a class is asked.
const EVERY: Duration = Duration::from_secs(30);
/// While nothing changes, `lastSuccess` is written this often at most.
const QUIET: SignedDuration = SignedDuration::from_secs(60);

/// Looks at one class.
///
/// # Errors
/// If the status cannot be written.
pub async fn reconcile(class: Arc<GuardClass>, ctx: Arc<Context>) -> Result<Action, Error> {
    ctx.health.beat();
    let now = ctx.now();
    let name = class.name_any();
    let before = class.status.clone().unwrap_or_default();
    let generation = class.metadata.generation;
    let (mut observed, source) = ask(&class, &ctx, &before, now).await;
    let advisers = advisers(&class, &ctx, &mut observed, now).await;
    let after = GuardClassStatus {
        observed_generation: generation,
        conditions: condition::merge(&before.conditions, &observed, generation, now),
        prometheus: Some(source),
        storm_breaker: None,
        providers: advisers.as_ref().map(|advisers| advisers.status(now)).unwrap_or_default(),
        budget: advisers.filter(|advisers| !advisers.policy.providers.is_empty()).map(|advisers| advisers.budget(now)),
    };
    let storm = ctx.storms.of(&class).status(storms::policy(&class), now);
    // It opens with an undo, and closes with time.
    if before.storm_breaker.as_ref().unwrap_or(&StormBreakerStatus::default()) != &storm {
        write_storm(&ctx, &class, storm).await?;
    }
    let before = GuardClassStatus { storm_breaker: None, ..before };
    if worth_writing(&before, &after, now) {
        if !ctx.leadership.holds() {
            return Err(Error::LeaseLost);
        }
        let api: Api<GuardClass> = Api::all(ctx.client.clone());
        status::apply(&api, &name, &after, managers::CLASS_STATUS).await?;
    }
    Ok(Action::requeue(EVERY))
}

/// Writes what the storm breaker counts, beside what the rest of the status says.
///
/// # Errors
/// If the status cannot be written.
pub async fn write_storm(ctx: &Context, class: &GuardClass, storm: StormBreakerStatus) -> Result<(), Error> {
    if !ctx.leadership.holds() {
        return Err(Error::LeaseLost);
    }
    let api: Api<GuardClass> = Api::all(ctx.client.clone());
    let status = GuardClassStatus { storm_breaker: Some(storm), ..GuardClassStatus::default() };
    status::apply(&api, &class.name_any(), &status, managers::STORM).await?;
    Ok(())
}

/// The class's language models, made anew where something changed. What cannot be used of them makes the class not Ready;
/// its guards are judged all the same.
async fn advisers(
    class: &GuardClass,
    ctx: &Context,
    observed: &mut Vec<Observed>,
    now: Timestamp,
) -> Option<Arc<ClassAdvisers>> {
    match ctx.counsel.advisers.ensure(class).await {
        Ok(advisers) => {
            observed.extend(advisers.available(now));
            Some(advisers)
        }
        Err(error) => {
            let text = ctx.redactor.redact(&error.to_string(), SERVER_MESSAGE);
            observed.push(Observed::new(Type::Ready, false, Reason::InvalidSpec, text.as_str()));
            None
        }
    }
}

async fn ask(
    class: &GuardClass,
    ctx: &Context,
    before: &GuardClassStatus,
    now: Timestamp,
) -> (Vec<Observed>, SourceStatus) {
    let last = before.prometheus.clone().unwrap_or_default();
    let url = &class.spec.prometheus.url;
    let source = match ctx.sources.ensure(&class.name_any(), &class.spec.prometheus).await {
        Ok(source) => source,
        Err(error) => {
            let text = ctx.redactor.redact(&error.to_string(), SERVER_MESSAGE);
            let message = text.as_str().to_owned();
            let observed = vec![
                Observed::new(Type::Ready, false, Reason::InvalidSpec, &message),
                Observed::new(Type::MetricsAvailable, Truth::Unknown, Reason::InvalidSpec, &message),
            ];
            return (observed, SourceStatus { last_error: Some(cut(&message)), ..last });
        }
    };
    let ready = Observed::new(Type::Ready, true, Reason::Accepted, "the class can be used");
    let started = Instant::now();
    match source.probe().await {
        Ok(_) => {
            let latency = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
            let message = format!("{url} answers");
            let available = Observed::new(Type::MetricsAvailable, true, Reason::MetricsRead, message);
            let source = SourceStatus { last_success: Some(time(now)), last_error: None, latency_ms: Some(latency) };
            (vec![ready, available], source)
        }
        Err(error) => {
            let text = ctx.redactor.redact(&error.to_string(), SERVER_MESSAGE);
            let message = format!("{url} does not answer: {}", text.as_str());
            let available = Observed::new(Type::MetricsAvailable, false, Reason::PrometheusUnreachable, message);
            (vec![ready, available], SourceStatus { last_error: Some(cut(text.as_str())), ..last })
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(SERVER_MESSAGE).collect()
}

/// Latency and last success move all the time; they alone are written once a minute.
fn worth_writing(before: &GuardClassStatus, after: &GuardClassStatus, now: Timestamp) -> bool {
    let lasting = |status: &GuardClassStatus| {
        let error = status.prometheus.as_ref().and_then(|source| source.last_error.clone());
        let provider = |one: &ProviderStatus| (one.name.clone(), one.last_error.clone(), one.breaker.clone());
        let providers: Vec<_> = status.providers.iter().map(provider).collect();
        (status.observed_generation, status.conditions.clone(), error, providers)
    };
    let written = before.prometheus.as_ref().and_then(|s| s.last_success.as_deref()).and_then(parse_time);
    lasting(before) != lasting(after) || written.is_none_or(|at| now.duration_since(at) >= QUIET)
}
