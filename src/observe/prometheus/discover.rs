//! Which metrics a workload has.
//!
//! Role: asks for the series of a few pods and remembers what `http-generic` means for them. Inputs: lives of pods.
//! Outputs: `Resolved`. Must never import: other rooms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::batch::Grid;
use super::http::{Http, SourceError};
use crate::domain::evidence::PodLife;
use crate::domain::rollout::{PodName, Side};
use crate::domain::signal::{LabelSet, Resolved, discovery_selector, resolve_http_generic};

/// Pods asked for, of each side.
const PODS: usize = 3;
/// What is still missing is looked for again after this time.
const RETRY: Duration = Duration::from_secs(15);
/// Workloads remembered.
const REMEMBERED: usize = 4096;

/// What was found, by the first pod of the new side.
pub(super) struct Discovery {
    http: Arc<Http>,
    known: Mutex<BTreeMap<PodName, (Resolved, Instant)>>,
}

impl Discovery {
    pub(super) fn new(http: Arc<Http>) -> Self {
        Self { http, known: Mutex::default() }
    }

    pub(super) async fn resolve(&self, lives: &[PodLife], grid: &Grid) -> Result<Resolved, SourceError> {
        let mut pods = Vec::new();
        for side in [Side::New, Side::Old] {
            let mut of_side: Vec<&PodName> =
                lives.iter().filter(|life| life.side == Some(side)).map(|life| &life.pod).collect();
            of_side.sort();
            pods.extend(of_side.into_iter().take(PODS).cloned());
        }
        let Some(key) = pods.first().cloned() else {
            return Ok(resolve_http_generic(&[]));
        };
        if let Some((resolved, at)) = self.known.lock().await.get(&key)
            && ((resolved.errors.is_ok() && resolved.latency.is_ok()) || at.elapsed() < RETRY)
        {
            return Ok(resolved.clone());
        }
        let body = self.http.series(&discovery_selector(&pods), grid.start, grid.end).await?;
        let series: Vec<LabelSet> =
            serde_json::from_slice(&body).map_err(|_| SourceError::NotPrometheus("it lists no series".to_owned()))?;
        let resolved = resolve_http_generic(&series);
        let mut known = self.known.lock().await;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (resolved.clone(), Instant::now()));
        Ok(resolved)
    }
}
