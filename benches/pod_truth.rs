//! How soon the undo follows what the kubelet says about a pod.
//!
//! Each repetition is a shop of its own with real containers. The bench watches pods and Deployments beside the
//! operator: what it measures begins when its own watch delivers the pod status that fulfils the fact, and ends when it
//! delivers the Deployment that was undone. Repetitions: `POD_TRUTH_REPEATS`, 20 if it is not set.

mod shared;

#[path = "shared/truth.rs"]
mod truth;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use testbed::cluster::{Cluster, Component};
use testbed::shop::Shop;

use shared::Operator;
use truth::{Fact, Track, Tracks};

/// Side by side: more of them would measure the machine.
const SIDE_BY_SIDE: usize = 5;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::join().context("run this with make bench-pod-truth")?;
    let client = Client::try_default().await?;
    shared::install(&cluster).await?;
    cluster.start(Component::ImageRegistry).await?;
    let class = json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
        "metadata": {"name": "default", "annotations": {"deploymentguard.dev/is-default-class": "true"}},
        "spec": {"prometheus": {"url": cluster.prometheus_url()}, "stormBreaker": {"undos": 100, "within": "1m"}}});
    cluster.apply(&class.to_string()).await?;
    let operator = Operator::start(&shared::SHIPPED)?;
    operator.ready().await?;

    let tracks = Tracks::default();
    for (version, kind, plural) in [
        ("v1", "Pod", "pods"),
        ("apps/v1", "Deployment", "deployments"),
        ("deploymentguard.dev/v1alpha1", "DeploymentGuard", "deploymentguards"),
    ] {
        tokio::spawn(follow(shared::api(&client, version, kind, plural, None), kind, tracks.clone()));
    }
    let repeats = std::env::var("POD_TRUTH_REPEATS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let started = Instant::now();
    // Mixed, so that what disturbs for a moment disturbs all facts alike.
    let runs = (0..repeats).flat_map(|number| Fact::ALL.into_iter().map(move |fact| (fact, number)));
    let runs: Vec<_> = runs.filter(|(fact, number)| *number < fact.repeats(repeats)).collect();
    let results: Vec<(Fact, Result<Track>)> = stream::iter(runs)
        .map(|(fact, number)| {
            let (cluster, tracks) = (&cluster, &tracks);
            async move { (fact, repeat(cluster, tracks, fact, number).await) }
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .collect()
        .await;
    eprintln!("pod_truth: {} repetitions in {:.0} s", results.len(), started.elapsed().as_secs_f64());
    publish(&results)
}

/// Notes whatever one watch delivers, with the moment.
async fn follow(api: kube::Api<DynamicObject>, kind: &'static str, tracks: Tracks) {
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(object) | Event::InitApply(object))) => tracks.note(kind, &object),
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => eprintln!("pod_truth: the watch of {kind} begins anew: {error}"),
        }
    }
}

/// From the first version to the undo of the second.
async fn repeat(cluster: &Cluster, tracks: &Tracks, fact: Fact, number: usize) -> Result<Track> {
    let space = format!("truth-{}-{number}", fact.word());
    let first = fact.first(&space);
    tracks.expect(&space, fact);
    first.deploy(cluster).await?;
    until(tracks, &space, "version 1", |track| track.available).await?;
    cluster.apply(&guard(&first).to_string()).await?;
    until(tracks, &space, "the guard", |track| track.serving).await?;
    // The old revision is to have served for a moment, and pushes are not to come in step.
    tokio::time::sleep(Duration::from_millis(500 + 137 * u64::try_from(number % 7)?)).await;
    tracks.pushed(&space);
    fact.second(first).deploy(cluster).await?;
    let track = until(tracks, &space, "the undo", |track| track.undone.is_some() && track.decision.is_some()).await;
    cluster.kubectl(&["delete", "namespace", &space, "--wait=false"]).await?;
    track
}

fn guard(shop: &Shop) -> Value {
    json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
        "metadata": {"name": shop.name, "namespace": shop.namespace},
        "spec": {"targetRef": {"name": shop.name}, "mode": "Enforce"}})
}

async fn until(tracks: &Tracks, space: &str, what: &str, holds: impl Fn(&Track) -> bool) -> Result<Track> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(track) = tracks.of(space).filter(|track| holds(track)) {
            return Ok(track);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{space}: waited {} s in vain for {what}", PATIENCE.as_secs())
}

fn publish(results: &[(Fact, Result<Track>)]) -> Result<()> {
    let (mut rows, mut json, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for fact in Fact::ALL {
        let of = || results.iter().filter(move |(found, _)| *found == fact);
        let tracks: Vec<&Track> = of().filter_map(|(_, result)| result.as_ref().ok()).collect();
        notes.extend(of().filter_map(|(_, result)| Some(format!("{:#}", result.as_ref().err()?))));
        let measured = truth::Measured::of(&tracks);
        rows.push(measured.row(fact, of().count()));
        json.push(measured.json(fact, of().count()));
    }
    let mut conditions = vec![
        format!("{SIDE_BY_SIDE} shops side by side, guards with the defaults, no traffic; median / worst, in seconds"),
        "from the status that fulfils the fact; for image and key from 10 s after the first such status".to_owned(),
        "kubelet: from finishedAt, which has whole seconds, so up to 1 s too long".to_owned(),
    ];
    conditions.append(&mut notes);
    shared::publish("pod_truth", &conditions, &truth::HEADS, &rows, &json.into())
}

/// Not poisoned by a failed repetition.
fn lock<T>(mutex: &Arc<Mutex<T>>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
