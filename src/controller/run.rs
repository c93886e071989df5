//! Wiring: which watch wakes which reconcile.
//!
//! Role: start the watches, join every long task, stop together. Inputs: clients and settings. Outputs: why it ended.
//! Must never import: `cli`, `console`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::advisers::Advisers;
use super::case::guard_key;
use super::context::{Clock, Context, Failures};
use super::counsel::Counsel;
use super::error::Error;
use super::inspect::Inspections;
use super::memory::{GuardKey, Memory};
use super::providers::Providers;
use super::rights::Rights;
use super::secrets::SecretReader;
use super::sources::Sources;
use super::storms::Storms;
use super::suspensions::{self, Suspensions};
use super::{class, reconcile};
use crate::act::Act;
use crate::api::{DeploymentGuard, GuardClass};
use crate::domain::policy::Kind;
use crate::domain::redact::{Redactor, SERVER_MESSAGE};
use crate::domain::scope::Scope;
use crate::leader::Leadership;
use crate::observe::joined;
use crate::observe::nodes::NodeIndex;
use crate::observe::pods::PodIndex;
use crate::observe::prometheus::QueryObserver;
use crate::observe::watch;
use crate::observe::workload::WorkloadIndex;
use crate::record::events::Events;
use crate::record::prompts::Prompts;
use crate::record::recordings::Recordings;
use crate::record::samples::Samples;
use crate::record::templates::Templates;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// How long one API call of the operator may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many guards are looked at side by side; unbounded is kube's default. A look waits for the answer that all guards of
/// a class share, so as many as possible must be able to wait together.
const CONCURRENCY: u16 = 1024;
/// How long the first list of nodes is waited for.
const NODES: Duration = Duration::from_secs(5);
/// How often the loop beats while nothing happens.
const BEAT: Duration = Duration::from_secs(20);

/// What the control loops need to know.
pub struct Settings {
    /// The operator's namespace, where leases and Secrets are.
    pub namespace: String,
    /// Who this replica is, in events.
    pub instance: Option<String>,
    /// Where analysed rollouts are recorded, if anywhere.
    pub record: Option<std::path::PathBuf>,
    /// Where guards and workloads are looked for.
    pub scope: Scope,
    /// Whether this replica acts.
    pub leadership: Leadership,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Beats and readiness.
    pub health: Arc<Health>,
}

impl QueryObserver for Metrics {
    fn queried(&self, outcome: &'static str, took: Duration) {
        Self::queried(self, outcome, took);
    }
}

/// Why the control loops ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody said stop, and everything under way was finished.
    Stopped,
    /// A loop ended that never should.
    Unexpectedly(&'static str),
}

/// Runs the control loops until `stop`.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) -> Ended {
    let (class_reader, class_writer) = reflector::store::<GuardClass>();
    let scope = settings.scope.clone();
    let ctx = Arc::new(context(&client, settings, class_reader));
    let (wake, woken) = mpsc::unbounded_channel::<GuardKey>();
    let (rung, found) = mpsc::unbounded_channel::<GuardKey>();
    ctx.counsel.ring(rung.clone());
    ctx.inspections.ring(rung);
    let findings = pass_on(found, ctx.clone(), wake.clone());
    let pods = pods(joined::events(&client, &scope), ctx.clone(), wake.clone());
    let workloads = every_kind(&client, &scope, ctx.clone(), wake.clone());
    let nodes = nodes(client.clone(), ctx.clone(), wake.clone());
    let classes = classes(client.clone(), class_writer, ctx.clone(), wake.clone());
    let guards = guards(joined::readable(&client, &scope, any_guard), ctx.clone(), wake, woken, stop.clone());
    let class_status = class_status(client.clone(), ctx.clone(), stop.clone());
    pin_mut!(guards);
    let ended = tokio::select! {
        () = pods => Ended::Unexpectedly("the watch on pods"),
        () = workloads => Ended::Unexpectedly("the watch on workloads"),
        () = findings => Ended::Unexpectedly("the inspections"),
        () = nodes => Ended::Unexpectedly("the watch on nodes"),
        () = classes => Ended::Unexpectedly("the watch on classes"),
        () = class_status => if stop.is_cancelled() { Ended::Stopped } else { Ended::Unexpectedly("the loop over classes") },
        () = suspensions::sweep(ctx.clone()) => Ended::Unexpectedly("the sweep of suspended syncs"),
        () = beat(&ctx) => Ended::Unexpectedly("the beat"),
        () = &mut guards => return if stop.is_cancelled() { Ended::Stopped } else { Ended::Unexpectedly("the loop over guards") },
    };
    if stop.is_cancelled() {
        // What is under way is finished; the watches are not needed for that.
        guards.await;
        return Ended::Stopped;
    }
    ended
}

/// As status keeps times: a moment that was seen and the same one read back from status are equal.
fn in_milliseconds(now: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn context(client: &Client, settings: Settings, classes: reflector::Store<GuardClass>) -> Context {
    let redactor = Arc::new(Redactor::new());
    let observer: Arc<dyn QueryObserver> = settings.metrics.clone();
    let clock: Clock = Arc::new(|| in_milliseconds(Timestamp::now()));
    let providers = Providers::new(SecretReader::new(client.clone(), settings.namespace.clone()));
    let advisers = Advisers::new(providers, redactor.clone(), settings.metrics.clone());
    Context {
        client: client.clone(),
        counsel: Arc::new(Counsel::new(client.clone(), advisers, clock.clone())),
        clock,
        leadership: settings.leadership,
        guards: OnceLock::new(),
        classes,
        pods: Arc::default(),
        workloads: Arc::default(),
        nodes: Arc::default(),
        sources: Sources::new(client.clone(), settings.namespace, observer),
        rights: Rights::default(),
        storms: Storms::default(),
        suspensions: Suspensions::default(),
        memory: Memory::default(),
        act: Act::new(client.clone(), redactor.clone(), CALL_TIMEOUT).within(settings.scope),
        events: Events::new(client.clone(), settings.instance, CALL_TIMEOUT),
        inspections: Arc::new(Inspections::new(client.clone(), redactor.clone())),
        recordings: Recordings::new(settings.record),
        prompts: Prompts::new(client.clone(), redactor.clone(), CALL_TIMEOUT),
        samples: Samples::new(client.clone(), redactor.clone(), CALL_TIMEOUT),
        templates: Templates::new(client.clone(), redactor.clone(), CALL_TIMEOUT),
        redactor,
        metrics: settings.metrics,
        health: settings.health,
        failures: Failures::default(),
    }
}

/// Readiness, and a beat while nothing happens.
async fn beat(ctx: &Context) {
    loop {
        ctx.health.beat();
        if ctx.pods.is_synced() && ctx.workloads.is_synced() {
            ctx.health.set_ready();
            tokio::time::sleep(BEAT).await;
        } else {
            ctx.health.set_waiting("the first lists of pods and workloads");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Something new in logs or probes is a reason to look.
async fn pass_on(
    mut found: mpsc::UnboundedReceiver<GuardKey>,
    ctx: Arc<Context>,
    wake: mpsc::UnboundedSender<GuardKey>,
) {
    while let Some(key) = found.recv().await {
        ctx.memory.found(&key);
        wake_all(&wake, vec![key]);
    }
}

async fn pods(
    events: impl Stream<Item = Result<watcher::Event<Pod>, watcher::Error>>,
    ctx: Arc<Context>,
    wake: mpsc::UnboundedSender<GuardKey>,
) {
    let index: Arc<PodIndex> = ctx.pods.clone();
    follow(events, "pods", |event| {
        if let Some(target) = index.apply(event, ctx.now()) {
            wake_all(&wake, ctx.memory.pod_changed(&target));
        }
    })
    .await;
}

async fn every_kind(client: &Client, scope: &Scope, ctx: Arc<Context>, wake: mpsc::UnboundedSender<GuardKey>) {
    tokio::select! {
        () = workloads::<Deployment>(Kind::Deployment, joined::events(client, scope), ctx.clone(), wake.clone()) => {}
        () = workloads::<StatefulSet>(Kind::StatefulSet, joined::events(client, scope), ctx.clone(), wake.clone()) => {}
        () = workloads::<DaemonSet>(Kind::DaemonSet, joined::events(client, scope), ctx, wake) => {}
    }
}

async fn workloads<K>(
    kind: Kind,
    events: impl Stream<Item = Result<watcher::Event<PartialObjectMeta<K>>, watcher::Error>>,
    ctx: Arc<Context>,
    wake: mpsc::UnboundedSender<GuardKey>,
) {
    let index: Arc<WorkloadIndex> = ctx.workloads.clone();
    follow(events, kind.name(), |event| {
        for target in index.apply(kind, event) {
            wake_all(&wake, ctx.memory.workload_changed(&target));
        }
    })
    .await;
}

/// A node that fails, or recovers, may be the better explanation of what pods do.
async fn nodes(client: Client, ctx: Arc<Context>, wake: mpsc::UnboundedSender<GuardKey>) {
    let index: Arc<NodeIndex> = ctx.nodes.clone();
    let events = watch::events(Api::<Node>::all(client));
    follow(events, "nodes", |event| {
        if index.apply(event) {
            wake_all(&wake, ctx.memory.surroundings_changed());
        }
    })
    .await;
}

/// A guard of which only the place is known.
fn any_guard(metadata: ObjectMeta) -> Option<DeploymentGuard> {
    let spec = serde_json::from_value(json!({"targetRef": {"name": ""}})).ok()?;
    Some(DeploymentGuard { metadata, ..DeploymentGuard::new("", spec) })
}

/// A class of which only the name is known.
fn any_class(metadata: ObjectMeta) -> Option<GuardClass> {
    let spec = serde_json::from_value(json!({"prometheus": {"url": ""}})).ok()?;
    Some(GuardClass { metadata, ..GuardClass::new("", spec) })
}

/// A change of a class concerns every guard: the default may have moved.
async fn classes(
    client: Client,
    writer: reflector::store::Writer<GuardClass>,
    ctx: Arc<Context>,
    wake: mpsc::UnboundedSender<GuardKey>,
) {
    let events = reflector::reflector(writer, watch::readable(Api::all(client), any_class));
    let seen = std::sync::Mutex::new(std::collections::HashMap::new());
    follow(events, "GuardClasses", |event| {
        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = match &event {
            watcher::Event::Apply(class) | watcher::Event::InitApply(class) => {
                let version = (class.metadata.generation, class.metadata.annotations.clone());
                seen.insert(class.name_any(), version.clone()) != Some(version)
            }
            watcher::Event::Delete(class) => {
                ctx.sources.forget(&class.name_any());
                ctx.counsel.advisers.forget(&class.name_any());
                seen.remove(&class.name_any()).is_some()
            }
            watcher::Event::Init => false,
            watcher::Event::InitDone => true,
        };
        if changed && let Some(guards) = ctx.guards.get() {
            wake_all(&wake, guards.state().iter().filter_map(|guard| guard_key(guard)).collect());
        }
    })
    .await;
}

async fn follow<T>(
    events: impl Stream<Item = Result<T, watcher::Error>>,
    what: &'static str,
    mut apply: impl FnMut(T),
) {
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => apply(event),
            // The watch goes on by itself; nothing is lost but time.
            Err(error) => tracing::warn!(%error, what, "the watch failed and is tried again"),
        }
    }
}

fn wake_all(wake: &mpsc::UnboundedSender<GuardKey>, keys: Vec<GuardKey>) {
    for key in keys {
        // The receiver lives as long as the loops do.
        let _ = wake.send(key);
    }
}

async fn guards(
    events: impl Stream<Item = Result<watcher::Event<DeploymentGuard>, watcher::Error>> + Send + 'static,
    ctx: Arc<Context>,
    wake: mpsc::UnboundedSender<GuardKey>,
    woken: mpsc::UnboundedReceiver<GuardKey>,
    stop: CancellationToken,
) {
    let woken = futures::stream::unfold(woken, |mut woken| async move { Some((woken.recv().await?, woken)) });
    let (reader, writer) = reflector::store();
    let touched = kube::runtime::WatchStreamExt::touched_objects(reflector::reflector(writer, events));
    let controller = Controller::for_stream(touched, reader)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(woken.map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
        .graceful_shutdown_on(stop.cancelled_owned());
    let _ = ctx.guards.set(controller.store());
    // Before the first look every index must answer, or a guard's target would seem to be missing.
    while !(ctx.pods.is_synced() && ctx.workloads.is_synced()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whoever may not read nodes goes on without them.
    let _ = tokio::time::timeout(NODES, async {
        while !ctx.nodes.is_synced() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    if ctx.classes.wait_until_ready().await.is_err() {
        return;
    }
    controller
        .run(reconcile::reconcile, error_policy, ctx.clone())
        .for_each(|result| {
            settled(&ctx, &wake, result);
            futures::future::ready(())
        })
        .await;
}

fn error_policy(guard: Arc<DeploymentGuard>, error: &Error, ctx: Arc<Context>) -> Action {
    ctx.metrics.reconcile_failed(error.category());
    let failures = guard_key(&guard).map_or(0, |key| ctx.failures.count(key));
    error.wait(failures).map_or_else(Action::await_change, Action::requeue)
}

type Outcome = Result<(ObjectRef<DeploymentGuard>, Action), controller::Error<Error, watcher::Error>>;

fn settled(ctx: &Context, wake: &mpsc::UnboundedSender<GuardKey>, outcome: Outcome) {
    match outcome {
        Ok(_) => {}
        Err(controller::Error::ObjectNotFound(gone)) => {
            let key = GuardKey { namespace: gone.namespace.unwrap_or_default(), name: gone.name };
            // A guard that stood in the shadow of this one may now act.
            ctx.inspections.forget(&key);
            ctx.counsel.forget(&key);
            wake_all(wake, ctx.memory.forget(&key, &ctx.metrics));
        }
        Err(controller::Error::ReconcilerFailed(error, guard)) => {
            let text = ctx.redactor.redact(&error.to_string(), SERVER_MESSAGE);
            let error_text = text.as_str();
            tracing::warn!(error = error_text, category = error.category(), guard = %guard, "the look failed and is tried again");
        }
        Err(error) => tracing::warn!(%error, "the watch on guards failed and is tried again"),
    }
}

async fn class_status(client: Client, ctx: Arc<Context>, stop: CancellationToken) {
    let (reader, writer) = reflector::store();
    let events = reflector::reflector(writer, watch::readable(Api::all(client), any_class));
    let applied = kube::runtime::WatchStreamExt::applied_objects(events);
    let policy = |_: Arc<GuardClass>, error: &Error, ctx: Arc<Context>| {
        ctx.metrics.reconcile_failed(error.category());
        Action::requeue(Duration::from_secs(5))
    };
    Controller::for_stream(applied, reader)
        .with_config(Config::default().concurrency(4))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(class::reconcile, policy, ctx)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::warn!(%error, "a look at a class failed and is tried again");
            }
            futures::future::ready(())
        })
        .await;
}
