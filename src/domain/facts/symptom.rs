//! What is wrong with one pod, and whether it has lasted long enough to count.
//!
//! Role: reads the families of decision.md off one pod. Inputs: a `PodFact`, what events tell of it, the policy. Outputs:
//! symptoms. Must never import: other rooms, a clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::policy::{CrashLoop, PodPolicy, Readiness};
use super::{FactKind, Told};
use crate::domain::pod::{ContainerFact, Exit, Family, Role, Standing};
use crate::domain::rollout::{PodFact, Workload};

/// What is wrong with one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symptom {
    /// What it is called if it becomes a hard fact.
    pub kind: FactKind,
    /// When it counts.
    pub rule: Rule,
    /// Where and how it shows.
    pub sample: Sample,
}

/// When a symptom counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Ends beyond what the previous revision's start had; counted over all pods.
    Ends(u32),
    /// Kills for memory; counted over all pods.
    MemoryKills(u32),
    /// Kills for failed probes; counted over all pods.
    ProbeKills(u32),
    /// From this moment on, if it lasts.
    From(Timestamp),
}

/// One pod's words for it, to be shown to people. Reason and message are from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The pod's name.
    pub pod: Arc<str>,
    /// The container and what it is for, if one is at fault.
    pub container: Option<(Arc<str>, Role)>,
    /// Exit code of the last end.
    pub exit_code: Option<i32>,
    /// The kubelet's word.
    pub reason: Arc<str>,
    /// The kubelet's or the container's sentence.
    pub message: Arc<str>,
    /// The image, where that is the matter.
    pub image: Option<Arc<str>>,
}

/// How a pod is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Lens<'a> {
    /// Which states count.
    pub policy: &'a PodPolicy,
    /// Its workload.
    pub workload: &'a Workload,
    /// Ends per pod that the previous revision's own start had.
    pub allowed_exits: u32,
    /// Ends before this moment do not count.
    pub since: Timestamp,
    /// Whether the template changed what decides about places.
    pub placement_changed: bool,
    /// Now.
    pub now: Timestamp,
}

/// Ends before a pod is this old are its start.
const START: Duration = super::START;
/// Kills by probes count for this long.
const KILLS_WITHIN: Duration = Duration::from_mins(10);
/// A node that came back gives its pods at least this long.
const NODE_GRACE: Duration = Duration::from_mins(1);

/// Everything that is wrong with a pod. `well_since`: since when its node is well; what lasts, lasts from then on.
#[must_use]
pub fn symptoms(pod: &PodFact, told: Option<&Told>, well_since: Option<Timestamp>, lens: &Lens<'_>) -> Vec<Symptom> {
    if pod.disrupted.is_some() {
        // The cluster ends it; what its containers do on the way says nothing about the release.
        return Vec::new();
    }
    // While its node was away a pod could do nothing about it.
    let came_back = well_since.filter(|since| pod.scheduled.is_some_and(|taken| taken < *since));
    let lens = &Lens { since: came_back.map_or(lens.since, |since| since.max(lens.since)), ..*lens };
    let mut found = Vec::new();
    found.extend(killed(pod, told, lens));
    found.extend(crashed(pod, told, lens));
    found.extend(out_of_memory(pod, lens));
    found.extend(pod.containers.iter().filter_map(|container| obstructed(pod, container, lens)));
    found.extend(not_mounted(pod, told, lens));
    found.extend(not_ready(pod, well_since, lens));
    for symptom in &mut found {
        if let (Rule::From(due), Some(since)) = (&mut symptom.rule, came_back) {
            *due = (*due).max(after(since, NODE_GRACE));
        }
    }
    found
}

fn sample(pod: &PodFact, container: Option<&ContainerFact>, exit: Option<&Exit>) -> Sample {
    Sample {
        pod: pod.pod.name.clone(),
        container: container.map(|container| (container.name.clone(), container.role)),
        exit_code: exit.and_then(|exit| exit.code),
        reason: exit.map_or_else(|| "".into(), |exit| exit.reason.clone()),
        message: exit.and_then(|exit| exit.message.clone()).unwrap_or_else(|| "".into()),
        image: None,
    }
}

fn recent<'a>(pod: &'a PodFact, lens: &Lens<'_>) -> impl Iterator<Item = (&'a ContainerFact, &'a Exit)> {
    let since = lens.since;
    pod.containers.iter().flat_map(move |container| container.exits_since(since).map(move |exit| (container, exit)))
}

/// The kubelet killed it because a probe failed.
fn killed(pod: &PodFact, told: Option<&Told>, lens: &Lens<'_>) -> Option<Symptom> {
    lens.policy.liveness_kills?;
    let told = told.filter(|told| told.probe_kills > 0)?;
    let (count, last) = probe_kills(pod, told, lens);
    let (container, exit) = last.filter(|_| count > 0)?;
    Some(Symptom {
        kind: FactKind::LivenessKills,
        rule: Rule::ProbeKills(count),
        sample: Sample {
            message: told.probe_failed.clone().unwrap_or_else(|| "".into()),
            ..sample(pod, Some(container), Some(exit))
        },
    })
}

/// Kills that events tell of and ends confirm; events alone are written by anybody.
fn probe_kills<'a>(pod: &'a PodFact, told: &Told, lens: &Lens<'_>) -> (u32, Option<(&'a ContainerFact, &'a Exit)>) {
    let since = lens.now.checked_sub(KILLS_WITHIN).unwrap_or(lens.since).max(lens.since);
    let probed =
        |(container, exit): &(&ContainerFact, &Exit)| container.is_probed && exit.at >= since && !exit.is_oom();
    let ends: Vec<_> = recent(pod, lens).filter(probed).collect();
    let count = u32::try_from(ends.len()).unwrap_or(u32::MAX).min(told.probe_kills);
    (count, ends.last().copied())
}

fn crashed(pod: &PodFact, told: Option<&Told>, lens: &Lens<'_>) -> Option<Symptom> {
    let CrashLoop { within, .. } = lens.policy.crash_loop?;
    let since = lens.now.checked_sub(within).unwrap_or(lens.since).max(lens.since);
    let within: Vec<_> = recent(pod, lens).filter(|(_, exit)| exit.at >= since).collect();
    let counted = |ends: usize| u32::try_from(ends).unwrap_or(u32::MAX);
    let grown = after(pod.created, START);
    let early = counted(within.iter().filter(|(_, exit)| exit.at <= grown).count());
    let late = counted(within.len()).saturating_sub(early);
    let kills = lens.policy.liveness_kills.and(told).map_or(0, |told| probe_kills(pod, told, lens).0);
    let excess = early.saturating_sub(lens.allowed_exits).saturating_add(late).saturating_sub(kills);
    let (container, exit) = within.last().filter(|_| excess > 0)?;
    // Whatever ended it most often gives the name.
    let most =
        |is: fn(&(&ContainerFact, &Exit)) -> bool| within.iter().filter(|end| is(end)).count() * 2 > within.len();
    let hooked = |(container, _): &(&ContainerFact, &Exit)| {
        container.trouble.as_ref().is_some_and(|trouble| trouble.family == Family::Hook)
    };
    let kind = if most(|(_, exit)| exit.is_oom()) {
        FactKind::OutOfMemory
    } else if most(hooked) {
        FactKind::Hook
    } else if most(|(_, exit)| Family::of(&exit.reason) == Some(Family::Start)) {
        FactKind::Start
    } else {
        FactKind::CrashLoop
    };
    let mut sample = sample(pod, Some(container), Some(exit));
    if let Some(trouble) = container.trouble.as_deref().filter(|_| kind == FactKind::Hook) {
        // The hook's own failure says more than how the container was ended for it.
        (sample.reason, sample.message, sample.exit_code) = (trouble.reason.clone(), trouble.message.clone(), None);
    }
    Some(Symptom { kind, rule: Rule::Ends(excess), sample })
}

/// Kills for memory have a threshold of their own, lower than that of ends in general.
fn out_of_memory(pod: &PodFact, lens: &Lens<'_>) -> Option<Symptom> {
    lens.policy.oom_kills?;
    let all: Vec<_> = recent(pod, lens).filter(|(_, exit)| exit.is_oom()).collect();
    let (container, exit) = all.last()?;
    Some(Symptom {
        kind: FactKind::OutOfMemory,
        rule: Rule::MemoryKills(u32::try_from(all.len()).unwrap_or(u32::MAX)),
        sample: sample(pod, Some(container), Some(exit)),
    })
}

/// Something keeps a container from starting, and its family's time runs.
fn obstructed(pod: &PodFact, container: &ContainerFact, lens: &Lens<'_>) -> Option<Symptom> {
    let trouble = container.trouble.as_deref()?;
    let (kind, patience) = match trouble.family {
        Family::Image => (FactKind::ImagePull, lens.policy.image_pull?),
        Family::Config => (FactKind::Config, lens.policy.start_errors?),
        Family::Start => (FactKind::Start, lens.policy.start_errors?),
        Family::Hook => (FactKind::Hook, lens.policy.start_errors?),
    };
    let patient = after(trouble.since, patience);
    let hopeless = trouble.hopeless_since.map(|since| after(since, PodPolicy::hopeless(patience)));
    let sample = Sample {
        pod: pod.pod.name.clone(),
        container: Some((container.name.clone(), container.role)),
        exit_code: None,
        reason: trouble.reason.clone(),
        message: trouble.message.clone(),
        image: (trouble.family == Family::Image).then(|| container.image.clone()),
    };
    Some(Symptom { kind, rule: Rule::From(hopeless.map_or(patient, |hopeless| hopeless.min(patient))), sample })
}

/// A node took the pod, nothing was started, and an event says that a volume is not there.
fn not_mounted(pod: &PodFact, told: Option<&Told>, lens: &Lens<'_>) -> Option<Symptom> {
    let patience = lens.policy.volume_mounts?;
    let scheduled = pod.scheduled.filter(|_| awaits_volumes(pod))?;
    let message = told.and_then(|told| told.not_mounted.clone())?;
    Some(Symptom {
        kind: FactKind::VolumeMount,
        rule: Rule::From(after(scheduled, patience)),
        sample: Sample { message, reason: "FailedMount".into(), ..sample(pod, None, None) },
    })
}

/// Whether nothing of the pod has started and nothing says why: then it may wait for a volume.
#[must_use]
pub fn awaits_volumes(pod: &PodFact) -> bool {
    let untouched = |container: &ContainerFact| {
        container.standing == Standing::Waiting && container.ended == 0 && container.trouble.is_none()
    };
    pod.is_live() && !pod.containers.is_empty() && pod.containers.iter().all(untouched)
}

fn not_ready(pod: &PodFact, well_since: Option<Timestamp>, lens: &Lens<'_>) -> Option<Symptom> {
    let patience = match lens.policy.readiness {
        Some(Readiness::ProgressDeadline) => Duration::from_secs(lens.workload.progress_deadline_seconds.into()),
        Some(Readiness::Within(patience)) => patience,
        // The workload's own deadline still needs a pod that is not well.
        None if lens.policy.progress_deadline => Duration::MAX,
        None => return None,
    };
    // Once it was Ready, losing it is a matter of its requests and its probes.
    // A template that asks for what no node has is the release's own matter.
    let homeless = (pod.unschedulable.is_some() && lens.placement_changed).then_some(pod.created);
    let scheduled = pod.scheduled.or(homeless).filter(|_| pod.first_ready.is_none() && pod.is_live())?;
    let scheduled = well_since.map_or(scheduled, |since| since.max(scheduled));
    let container = pod.containers.iter().find(|container| !container.ready && container.role != Role::Init);
    Some(Symptom {
        kind: FactKind::NeverReady,
        rule: Rule::From(after(scheduled, patience)),
        sample: Sample {
            message: pod.unschedulable.clone().unwrap_or_else(|| "".into()),
            ..sample(pod, container, None)
        },
    })
}

fn after(at: Timestamp, patience: Duration) -> Timestamp {
    at.checked_add(patience).unwrap_or(Timestamp::MAX)
}
