//! Workloads whose trouble at the same time means a shared incident.
//!
//! Role: reads the controls of a guard as it reads its own workload. Inputs: a case and its policy. Outputs: pods and
//! readings of each control; one that cannot be read says nothing. Must never import: `cli`, `console`.

use std::sync::Arc;

use super::case::Case;
use super::memory::{Control, Past};
use super::past;
use crate::domain::assess::{ControlView, MetricReadings};
use crate::domain::evidence::PodLife;
use crate::domain::plan::Current;
use crate::domain::policy::{Interval, Policy, Target};
use crate::domain::rollout::Side;
use crate::observe::pods::WorkloadKey;
use crate::observe::prometheus::{PrometheusSource, ReadRequest};
use crate::observe::workload;

/// One control at one look.
pub struct Seen {
    name: String,
    lives: Vec<PodLife>,
    readings: MetricReadings,
    past: Arc<Past>,
}

impl Seen {
    /// As the judge sees it.
    #[must_use]
    pub fn view(&self) -> ControlView<'_> {
        ControlView { name: &self.name, lives: &self.lives, readings: &self.readings, history: &self.past.history }
    }
}

/// Reads every control.
pub async fn read(
    case: &mut Case<'_>,
    source: &PrometheusSource,
    policy: &Policy,
    current: &Current,
    (since, interval): (jiff::Timestamp, Interval),
) -> Vec<Seen> {
    let mut seen = Vec::new();
    // What a proxy counts is the guarded workload's Service, not the control's.
    let signals = policy.signals.iter().filter(|signal| !signal.is_proxied()).cloned().collect();
    let policy = &Policy { signals, ..policy.clone() };
    for target in &policy.analysis.controls {
        let Some(mut control) = refresh(case, target).await else { continue };
        let pods = case.ctx.pods.of_owners(&control.workload.1.pod_owners());
        let lives = |side| -> Vec<PodLife> {
            pods.iter().map(|pod| PodLife::of(pod, Some(side), policy.analysis.warmup)).collect()
        };
        if control.past.is_none() {
            // Before the rollout began its pods were what the old revision is for the guarded workload.
            let read = past::read(source, policy, &lives(Side::Old), (current.started, case.now)).await;
            control.past = read.ok().map(Arc::new);
        }
        let known = case.controls();
        known.retain(|known| known.name != control.name);
        known.push(control.clone());
        let Some(past) = control.past else { continue };
        let lives = lives(Side::New);
        let request =
            ReadRequest { signals: policy.signals.clone(), lives: lives.clone(), since, until: case.now, interval };
        seen.push(Seen { name: control.name, readings: source.read(request).await, lives, past });
    }
    seen
}

/// The control as last read, read anew if it changed.
async fn refresh(case: &mut Case<'_>, target: &Target) -> Option<Control> {
    let key = WorkloadKey { namespace: case.target.namespace.clone(), target: target.clone() };
    let version = case.ctx.workloads.get(&key)?.version;
    let known = case.controls().iter().find(|known| known.name == target.name).cloned();
    if let Some(known) = known.as_ref().filter(|known| known.workload.0 == version) {
        return Some(known.clone());
    }
    match workload::fetch(&case.ctx.client, &key).await {
        Ok(Some(workload)) => Some(Control {
            name: target.name.clone(),
            workload: (version, workload),
            past: known.and_then(|known| known.past),
        }),
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(%error, control = %target.name, "the control could not be read");
            known
        }
    }
}
