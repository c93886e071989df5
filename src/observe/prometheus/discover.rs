//! Which metrics a workload has.
//!
//! Role: asks for the series of a few pods and remembers what presets mean for them. Inputs: lives of pods.
//! Outputs: `Resolved`. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::batch::Grid;
use super::http::{Http, SourceError};
use crate::domain::assess::MissingReason;
use crate::domain::evidence::PodLife;
use crate::domain::rollout::{PodName, Side};
use crate::domain::signal::{
    LabelSet, Preset, Resolved, Selector, Signal, addresses, discovery_selector, named_pods_selector, resolve,
};

/// Pods asked for, of each side.
const PODS: usize = 3;
/// What is still missing is looked for again after this time.
const RETRY: Duration = Duration::from_secs(15);
/// Workloads remembered.
const REMEMBERED: usize = 4096;

/// What was found, by preset and the first pod of the new side.
pub(super) struct Discovery {
    http: Arc<Http>,
    known: Mutex<BTreeMap<(Preset, PodName), (Resolved, Instant)>>,
}

impl Discovery {
    pub(super) fn new(http: Arc<Http>) -> Self {
        Self { http, known: Mutex::default() }
    }

    pub(super) async fn resolve(
        &self,
        preset: Preset,
        lives: &[PodLife],
        grid: &Grid,
    ) -> Result<Resolved, SourceError> {
        let mut pods = Vec::new();
        for side in [Side::New, Side::Old] {
            let mut of_side: Vec<&PodName> =
                lives.iter().filter(|life| life.side == Some(side)).map(|life| &life.pod).collect();
            of_side.sort();
            pods.extend(of_side.into_iter().take(PODS).cloned());
        }
        let old: BTreeSet<&str> =
            lives.iter().filter(|life| life.side == Some(Side::Old)).map(|life| &*life.pod.name).collect();
        let Some(key) = pods.first().map(|pod| (preset, pod.clone())) else {
            return Ok(resolve(preset, &[], &old));
        };
        if let Some(resolved) = self.remembered(&key).await {
            return Ok(resolved);
        }
        let series = self.series(&discovery_selector(preset, &pods), grid.start, grid.end).await?;
        let resolved = resolve(preset, &series, &old);
        self.remember(key, &resolved).await;
        Ok(resolved)
    }

    /// What a preset means for a Service: the first way of naming it that series have.
    pub(super) async fn resolve_proxied(
        &self,
        preset: Preset,
        (namespace, service): (&str, &str),
        grid: &Grid,
    ) -> Result<Resolved, SourceError> {
        let key = (preset, PodName::new(namespace, service));
        if let Some(resolved) = self.remembered(&key).await {
            return Ok(resolved);
        }
        let missing = || Err(MissingReason::NoSuchService);
        let mut resolved = Resolved { errors: missing(), latency: missing() };
        for address in addresses(preset, namespace, service) {
            let series = self.series(&address.discovery_selector(preset), grid.start, grid.end).await?;
            if !series.is_empty() {
                resolved = address.resolve(preset, &series);
                break;
            }
        }
        self.remember(key, &resolved).await;
        Ok(resolved)
    }

    async fn remembered(&self, key: &(Preset, PodName)) -> Option<Resolved> {
        let known = self.known.lock().await;
        let (resolved, at) = known.get(key)?;
        (resolved.is_complete() || at.elapsed() < RETRY).then(|| resolved.clone())
    }

    async fn remember(&self, key: (Preset, PodName), resolved: &Resolved) {
        let mut known = self.known.lock().await;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (resolved.clone(), Instant::now()));
    }

    /// The pods that had series of one of these signals.
    pub(super) async fn pods_named(
        &self,
        signals: &[Signal],
        namespace: &str,
        prefixes: &[String],
        start: i64,
        end: i64,
    ) -> Result<Vec<PodName>, SourceError> {
        let of_pods = signals.iter().find(|signal| !signal.is_proxied());
        let Some(signal) = of_pods.filter(|_| !prefixes.is_empty()) else { return Ok(Vec::new()) };
        let series = self.series(&named_pods_selector(&signal.source, namespace, prefixes), start, end).await?;
        let names: BTreeSet<PodName> =
            series.iter().filter_map(|labels| labels.get("pod")).map(|pod| PodName::new(namespace, pod)).collect();
        Ok(names.into_iter().collect())
    }

    async fn series(&self, selector: &Selector, start: i64, end: i64) -> Result<Vec<LabelSet>, SourceError> {
        let body = self.http.series(selector, start, end).await?;
        serde_json::from_slice(&body).map_err(|_| SourceError::NotPrometheus("it lists no series".to_owned()))
    }
}
