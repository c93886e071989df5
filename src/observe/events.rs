//! What events tell of a pod that its status does not: probe kills, volumes that are not there.
//!
//! Role: one bounded read of a pod's events, asked only when its status raises the question. Inputs: a client, a pod.
//! Outputs: `Told`, or why it could not be read. Must never import: other rooms than `domain`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::domain::facts::Told;
use crate::domain::rollout::PodFact;

/// How long the answer may take: an undo may be waiting for it.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// A mount that was tried last this long ago is not being tried any more.
const STILL: Duration = Duration::from_mins(3);
/// Events read of one pod; the API server keeps them for an hour.
const MOST: u32 = 200;

/// Why events could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The API server refused or could not be reached.
    #[error("reading the events of pod {pod} failed: {source}")]
    Api {
        /// The pod's name.
        pod: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("reading the events of pod {0} took longer than {READ_TIMEOUT:?}")]
    TimedOut(String),
}

/// Reads what the events of a pod tell.
///
/// # Errors
/// If they cannot be read; then nothing is known but what the status says.
pub async fn told(client: &Client, pod: &PodFact, now: Timestamp) -> Result<Told, EventsError> {
    let api: Api<Event> = Api::namespaced(client.clone(), &pod.pod.namespace);
    let params = ListParams::default().fields(&format!("regarding.uid={}", pod.uid)).limit(MOST);
    let name = || pod.pod.name.to_string();
    match tokio::time::timeout(READ_TIMEOUT, api.list(&params)).await {
        Ok(Ok(list)) => Ok(read(&list.items, now)),
        Ok(Err(source)) => Err(EventsError::Api { pod: name(), source: Box::new(source) }),
        Err(_) => Err(EventsError::TimedOut(name())),
    }
}

fn read(events: &[Event], now: Timestamp) -> Told {
    let mut told = Told::default();
    let started = ["Pulling", "Pulled", "Created", "Started"];
    let is_start = |event: &&Event| event.reason.as_deref().is_some_and(|reason| started.contains(&reason));
    // Images are pulled when the volumes are there.
    let mounted = events.iter().filter(is_start).map(seen).max().unwrap_or(Timestamp::MIN);
    let fresh = now.checked_sub(STILL).unwrap_or(Timestamp::MIN).max(mounted);
    let (mut latest, mut failed) = (Timestamp::MIN, Timestamp::MIN);
    for event in events.iter().filter(|event| is_of_kubelet(event)) {
        let (reason, note) = (event.reason.as_deref().unwrap_or_default(), event.note.as_deref().unwrap_or_default());
        match reason {
            // The kubelet's own sentence; it kills for other causes too.
            "Killing" if note.contains("failed liveness probe") || note.contains("failed startup probe") => {
                told.probe_kills = told.probe_kills.saturating_add(times(event));
            }
            "Unhealthy" if !note.starts_with("Readiness") && seen(event) >= failed => {
                failed = seen(event);
                told.probe_failed = Some(note.into());
            }
            "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" if seen(event) >= latest.max(fresh) => {
                latest = seen(event);
                told.not_mounted = Some(note.into());
            }
            _ => {}
        }
    }
    told
}

/// The kubelet's, and the volume controller's where it attaches.
fn is_of_kubelet(event: &Event) -> bool {
    let new = event.reporting_controller.as_deref().filter(|name| !name.is_empty());
    let old = event.deprecated_source.as_ref().and_then(|source| source.component.as_deref());
    new.or(old).is_none_or(|name| matches!(name, "kubelet" | "attachdetach-controller"))
}

/// How often it happened: the kubelet counts repetitions in one object, in the old field or the new.
fn times(event: &Event) -> u32 {
    let series = event.series.as_ref().map(|series| series.count);
    let count = series.unwrap_or(0).max(event.deprecated_count.unwrap_or(0)).max(1);
    u32::try_from(count).unwrap_or(1)
}

fn seen(event: &Event) -> Timestamp {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let old = event.deprecated_last_timestamp.as_ref().map(|at| at.0);
    series.or(old).or(event.event_time.as_ref().map(|at| at.0)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn event(reason: &str, note: &str, count: i32, second: u32) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": reason}, "eventTime": null, "reason": reason, "note": note, "deprecatedCount": count,
            "deprecatedLastTimestamp": format!("2026-01-01T00:00:{second:02}Z")
        }))
        .unwrap()
    }

    #[test]
    fn only_kills_for_failed_probes_count_and_repetitions_do() {
        let told = read(
            &[
                event("Killing", "Container app failed liveness probe, will be restarted", 2, 1),
                event("Killing", "Container slow failed startup probe, will be restarted", 1, 2),
                event("Killing", "Stopping container app", 1, 3),
                event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", 9, 3),
            ],
            now(),
        );
        assert_eq!((told.probe_kills, told.not_mounted), (3, None));
        assert_eq!(told.probe_failed.as_deref(), Some("Liveness probe failed: HTTP probe failed with statuscode: 500"));
    }

    #[test]
    fn the_latest_word_on_a_volume_is_kept() {
        let told = read(
            &[
                event("FailedMount", "MountVolume.SetUp failed for volume \"c\" : configmap \"c\" not found", 4, 30),
                event("FailedMount", "older", 1, 10),
            ],
            now(),
        );
        assert!(told.not_mounted.unwrap().contains("configmap \"c\" not found"));
        // A moment too early for a cache, and mounted since.
        let mounted = [event("FailedMount", "failed to sync configmap cache", 1, 1), event("Pulling", "image", 1, 2)];
        assert_eq!(read(&mounted, now()).not_mounted, None);
        let long_ago = [event("FailedMount", "x", 1, 1)];
        assert_eq!(read(&long_ago, "2026-01-01T00:10:00Z".parse().unwrap()).not_mounted, None);
    }
}
