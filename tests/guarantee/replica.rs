//! One operator process: the real look at a guard, with a gate before every request.
//!
//! Role: its watches, its memory, its lease, and a hand on each of its requests. Inputs: a world. Outputs: requests that
//! wait for their fate.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use deployment_guard::act::Act;
use deployment_guard::api::{DeploymentGuard, GuardClass};
use deployment_guard::controller::advisers::Advisers;
use deployment_guard::controller::context::{Context, Failures};
use deployment_guard::controller::counsel::Counsel;
use deployment_guard::controller::error::Error;
use deployment_guard::controller::inspect::Inspections;
use deployment_guard::controller::memory::Memory;
use deployment_guard::controller::providers::Providers;
use deployment_guard::controller::reconcile::reconcile;
use deployment_guard::controller::rights::Rights;
use deployment_guard::controller::secrets::SecretReader;
use deployment_guard::controller::sources::Sources;
use deployment_guard::controller::storms::Storms;
use deployment_guard::controller::suspensions::Suspensions;
use deployment_guard::domain::policy::Target;
use deployment_guard::domain::redact::Redactor;
use deployment_guard::leader::Leadership;
use deployment_guard::observe::pods::WorkloadKey;
use deployment_guard::record::events::Events;
use deployment_guard::record::recordings::Recordings;
use deployment_guard::record::samples::Samples;
use deployment_guard::record::templates::Templates;
use deployment_guard::telemetry::metrics::Metrics;
use http::{Method, Request};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self};
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::watchdog::Watchdog;
use super::world::{NAME, NAMESPACE, World, class, guard};

/// Longer than any story.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    Answered,
    /// The connection breaks before it arrives.
    Lost,
    /// It is carried out, and the connection breaks before the answer.
    AnswerLost,
}

type Gate = Arc<Mutex<VecDeque<oneshot::Sender<Fate>>>>;

/// One process.
pub struct Replica {
    world: World,
    watchdog: Arc<Mutex<Watchdog>>,
    ctx: Arc<Context>,
    classes: Writer<GuardClass>,
    gate: Gate,
    lease: Arc<AtomicBool>,
    guard: Option<Arc<DeploymentGuard>>,
    look: Option<JoinHandle<Result<Action, Error>>>,
}

impl Replica {
    /// A process that has just begun, with its first lists.
    pub fn start(world: &World, watchdog: &Arc<Mutex<Watchdog>>, leads: bool) -> Self {
        let (gate, lease) = (Gate::default(), Arc::new(AtomicBool::new(leads)));
        let client = client(world, watchdog, &gate, &lease);
        let (reader, classes) = reflector::store();
        let ctx = Arc::new(context(world, client, reader, Leadership::held_while(lease.clone())));
        let mut replica = Self {
            world: world.clone(),
            watchdog: watchdog.clone(),
            ctx,
            classes,
            gate,
            lease,
            guard: None,
            look: None,
        };
        replica.refresh();
        replica
    }

    /// It is killed, and another process takes its place.
    pub fn crash(&mut self) {
        let leads = self.lease.load(Ordering::SeqCst);
        *self = Self::start(&self.world, &self.watchdog, leads);
    }

    pub fn lead(&mut self, leads: bool) {
        // Who is given the lease begins with it; who loses it is not told before it asks.
        if leads && !self.lease.load(Ordering::SeqCst) {
            *self = Self::start(&self.world, &self.watchdog, true);
        } else {
            self.lease.store(leads, Ordering::SeqCst);
        }
    }

    /// Its watches catch up with the world.
    pub fn refresh(&mut self) {
        let (api, kind) = (&self.world.api, self.world.kind);
        let key = WorkloadKey { namespace: NAMESPACE.into(), target: Target { kind, name: NAME.into() } };
        let index = &self.ctx.workloads;
        index.apply::<Deployment>(kind, watcher::Event::Init);
        if let Some(workload) = api.get(&self.world.place()) {
            let meta: PartialObjectMeta<Deployment> = typed(&workload);
            index.apply(kind, watcher::Event::InitApply(meta));
        }
        let changed = index.apply::<Deployment>(kind, watcher::Event::InitDone);
        for key in &changed {
            let _ = self.ctx.memory.workload_changed(key);
        }
        let now = self.world.now();
        self.ctx.pods.apply(watcher::Event::Init, now);
        for (_, pod) in api.all("pods") {
            self.ctx.pods.apply(watcher::Event::InitApply(typed::<Pod>(&pod)), now);
        }
        self.ctx.pods.apply(watcher::Event::InitDone, now);
        let _ = self.ctx.memory.pod_changed(&key);
        self.classes.apply_watcher_event(&watcher::Event::Apply(typed(&api.get(&class()).unwrap())));
        self.guard = Some(Arc::new(typed(&api.get(&guard()).unwrap())));
    }

    /// Begins a look, unless one is under way.
    pub async fn look(&mut self) {
        if self.look.is_none()
            && let Some(guard) = self.guard.clone()
        {
            self.look = Some(tokio::spawn(reconcile(guard, self.ctx.clone())));
            self.settle().await;
        }
    }

    /// The next request meets its fate; says whether there was one.
    pub async fn step(&mut self, fate: Fate) -> bool {
        let next = self.gate.lock().unwrap().pop_front();
        let there = next.is_some();
        if let Some(next) = next {
            let _ = next.send(fate);
        }
        self.settle().await;
        there
    }

    /// Every request is answered until the look is over.
    pub async fn run(&mut self) {
        while self.look.is_some() {
            self.step(Fate::Answered).await;
        }
    }

    /// Until it waits for a request or for the next look.
    async fn settle(&mut self) {
        for round in 0..2000_u32 {
            if self.look.as_ref().is_some_and(JoinHandle::is_finished) {
                // What failed is looked at again; the story says when.
                let ended = self.look.take().unwrap().await;
                assert!(!ended.is_err_and(|error| error.is_panic()), "the look panicked");
                self.gate.lock().unwrap().clear();
                return;
            }
            if self.look.is_none() || !self.gate.lock().unwrap().is_empty() {
                return;
            }
            tokio::task::yield_now().await;
            if round % 100 == 99 {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
        }
        panic!("the look neither ends nor asks");
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(look) = &self.look {
            look.abort();
        }
    }
}

fn typed<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"))
}

/// A client whose every request waits for its fate, and whose writes are judged.
fn client(world: &World, watchdog: &Arc<Mutex<Watchdog>>, gate: &Gate, lease: &Arc<AtomicBool>) -> Client {
    let (world, watchdog, gate, lease) = (world.clone(), watchdog.clone(), gate.clone(), lease.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (world, watchdog) = (world.clone(), watchdog.clone());
        let (tell, told) = oneshot::channel();
        if request.method() != Method::GET && is_guarded(request.uri().path()) && !lease.load(Ordering::SeqCst) {
            watchdog.lock().unwrap().broken.push(format!("sent without the lease: {}", request.uri()));
        }
        gate.lock().unwrap().push_back(tell);
        async move {
            let Ok(fate) = told.await else { return std::future::pending().await };
            let broken = || std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset");
            if fate == Fate::Lost {
                return Err(broken());
            }
            let writes = request.method() != Method::GET;
            let before = world.workload();
            let answer = world.api.serve(request).await?;
            if writes {
                let mut watchdog = watchdog.lock().unwrap();
                watchdog.write(&world, &before, &world.workload());
                watchdog.status(&world.status());
            }
            if fate == Fate::AnswerLost { Err(broken()) } else { Ok(answer) }
        }
    });
    Client::new(service, NAMESPACE)
}

/// Events and samples say what was; everything else that is written needs the lease.
fn is_guarded(path: &str) -> bool {
    !path.contains("/events") && !path.contains("/configmaps")
}

fn context(world: &World, client: Client, classes: reflector::Store<GuardClass>, leadership: Leadership) -> Context {
    // What takes long to make and knows nothing of a story is made once.
    static REDACTOR: OnceLock<Arc<Redactor>> = OnceLock::new();
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    static INSPECTIONS: OnceLock<Arc<Inspections>> = OnceLock::new();
    let redactor = REDACTOR.get_or_init(|| Arc::new(Redactor::new())).clone();
    let metrics = METRICS.get_or_init(Arc::default).clone();
    let nowhere = || Client::new(tower::service_fn(nobody), NAMESPACE);
    let inspections = INSPECTIONS.get_or_init(|| Arc::new(Inspections::new(nowhere(), redactor.clone()))).clone();
    let clock = world.clone();
    let providers = Providers::new(SecretReader::new(nowhere(), "deployment-guard".into()));
    let advisers = Advisers::new(providers, redactor.clone(), metrics.clone());
    let counsel = Arc::new(Counsel::new(nowhere(), advisers, Arc::new(jiff::Timestamp::now)));
    Context {
        client: client.clone(),
        clock: Arc::new(move || clock.now()),
        leadership,
        guards: OnceLock::new(),
        classes,
        pods: Arc::default(),
        workloads: Arc::default(),
        nodes: Arc::default(),
        sources: Sources::new(client.clone(), "deployment-guard".into(), metrics.clone()),
        rights: Rights::default(),
        storms: Storms::default(),
        suspensions: Suspensions::default(),
        memory: Memory::default(),
        act: Act::new(client.clone(), redactor.clone(), CALL_TIMEOUT),
        events: Events::new(client.clone(), None, CALL_TIMEOUT),
        counsel,
        inspections,
        recordings: Recordings::new(None),
        samples: Samples::new(client.clone(), redactor.clone(), CALL_TIMEOUT),
        templates: Templates::new(client, redactor.clone(), CALL_TIMEOUT),
        redactor,
        metrics,
        health: Arc::default(),
        failures: Failures::default(),
    }
}

async fn nobody(_: Request<Body>) -> Result<http::Response<Body>, Infallible> {
    std::future::pending().await
}
