//! Everything that is suspended is given back, because the operator goes away.
//!
//! Role: what the sweep does when time is up, done now, as the only one who writes. Inputs: a client, the Lease, where to
//! look. Outputs: what was given back and what was not. Must never import: `cli`, `console`.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;

use super::run::CALL_TIMEOUT;
use super::suspensions::{Giver, place};
use crate::act::{Act, Found, Resumed};
use crate::domain::git_ops::{Marker, Place};
use crate::domain::policy::Kind;
use crate::domain::redact::{Redactor, SERVER_MESSAGE};
use crate::domain::scope::Scope;
use crate::leader::Leadership;
use crate::observe::joined;
use crate::observe::workload::WorkloadIndex;
use crate::record::events::Events;
use crate::telemetry::metrics::Metrics;

/// Why it is given back.
const WHY: &str = "DeploymentGuard is being removed";
/// How long the lists of workloads are waited for.
const LISTS: Duration = Duration::from_secs(60);

/// What became of everything that was suspended.
#[derive(Debug, Default)]
pub struct Returned {
    /// Applied again by who applied it before.
    pub resumed: Vec<Place>,
    /// Still suspended, and why.
    pub left: Vec<(Place, String)>,
}

/// Why nothing could be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The workloads could not be listed.
    #[error("the workloads could not be listed in {LISTS:?}; the log above says why")]
    Lists,
    /// Objects that suspend a sync besides workloads could not be listed.
    #[error(transparent)]
    Others(#[from] crate::act::ActError),
}

/// Gives back everything that is suspended, whatever its marker says of time.
///
/// # Errors
/// When what is suspended cannot be found out.
pub async fn everything(
    client: &Client,
    scope: &Scope,
    leadership: &Leadership,
    instance: Option<String>,
) -> Result<Returned, ResumeError> {
    let redactor = Arc::new(Redactor::new());
    let act = Act::new(client.clone(), redactor.clone(), CALL_TIMEOUT).within(scope.clone());
    let events = Events::new(client.clone(), instance, CALL_TIMEOUT);
    let metrics = Metrics::default();
    let giver = Giver { act: &act, leadership, events: &events, metrics: &metrics, redactor: &redactor };
    let mut returned = Returned::default();
    for (place, marker) in suspended(client, scope, &act).await? {
        match giver.give_back(&place, &marker, WHY).await {
            Ok(Resumed::Done) => returned.resumed.push(place),
            // Somebody else gave it back, or it is gone.
            Ok(Resumed::NotDue) => {}
            Ok(Resumed::Refused(message)) => returned.left.push((place, message.as_str().to_owned())),
            Err(error) => {
                let why = redactor.redact(&error.to_string(), SERVER_MESSAGE);
                returned.left.push((place, why.as_str().to_owned()));
            }
        }
    }
    Ok(returned)
}

/// Everything that carries a marker.
async fn suspended(client: &Client, scope: &Scope, act: &Act) -> Result<Vec<(Place, Marker)>, ResumeError> {
    let index = WorkloadIndex::default();
    tokio::select! {
        () = list::<Deployment>(&index, Kind::Deployment, joined::events(client, scope)) => {}
        () = list::<StatefulSet>(&index, Kind::StatefulSet, joined::events(client, scope)) => {}
        () = list::<DaemonSet>(&index, Kind::DaemonSet, joined::events(client, scope)) => {}
        () = complete(&index) => {}
        () = tokio::time::sleep(LISTS) => {}
    }
    if !index.is_synced() {
        return Err(ResumeError::Lists);
    }
    let workloads = index.suspended().into_iter();
    let workloads = workloads.filter_map(|(key, seen)| Some((place(&key), Marker::clone(seen.suspension.as_ref()?))));
    let others = act.suspended().await?.into_iter().flatten().flatten();
    Ok(workloads.chain(others.map(|Found { place, marker, .. }| (place, marker))).collect())
}

/// Follows a watch for ever.
async fn list<K>(
    index: &WorkloadIndex,
    kind: Kind,
    events: impl Stream<Item = Result<watcher::Event<PartialObjectMeta<K>>, watcher::Error>>,
) {
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => drop(index.apply(kind, event)),
            Err(error) => tracing::warn!(%error, what = kind.name(), "the watch failed and is tried again"),
        }
    }
}

async fn complete(index: &WorkloadIndex) {
    while !index.is_synced() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
