//! Which states of pods are hard facts, and from when on.
//!
//! Role: the validated form of `spec.pods`. Inputs: none (built by `api::pods`). Outputs: plain data. Must never import:
//! other rooms.

use std::time::Duration;

/// Which states of pods are hard facts. Each can be off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPolicy {
    /// Whether any of them counts.
    pub enabled: bool,
    /// Containers that end again and again.
    pub crash_loop: Option<CrashLoop>,
    /// Kills for memory, over all new pods.
    pub oom_kills: Option<u32>,
    /// Images that cannot be pulled for this long.
    pub image_pull: Option<Duration>,
    /// Containers that cannot be created or started, or whose hooks fail, for this long.
    pub start_errors: Option<Duration>,
    /// Volumes that cannot be mounted for this long.
    pub volume_mounts: Option<Duration>,
    /// Pods that are not Ready this long after a node took them.
    pub readiness: Option<Readiness>,
    /// Kills by the kubelet for failed liveness or startup probes, over all new pods.
    pub liveness_kills: Option<u32>,
    /// The Deployment's own progress deadline, together with a failing pod.
    pub progress_deadline: bool,
}

/// Containers that end again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashLoop {
    /// Ends over at least two new pods.
    pub exits: u32,
    /// Ends of one pod.
    pub pod_exits: u32,
    /// Within this time.
    pub within: Duration,
}

/// Until when a pod has to be Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The workload's progress deadline.
    ProgressDeadline,
    /// So long after a node took it.
    Within(Duration),
}

impl PodPolicy {
    /// What waiting cannot heal is waited for this long: two answers of a registry, not one.
    pub const HOPELESS: Duration = Duration::from_secs(10);

    /// How long a family that may heal is waited for, or less where it is said that it cannot.
    #[must_use]
    pub fn hopeless(patience: Duration) -> Duration {
        patience.min(Self::HOPELESS)
    }
}

impl Default for PodPolicy {
    /// As the API server fills it in.
    fn default() -> Self {
        Self {
            enabled: true,
            crash_loop: Some(CrashLoop { exits: 4, pod_exits: 3, within: Duration::from_mins(5) }),
            oom_kills: Some(2),
            image_pull: Some(Duration::from_mins(1)),
            start_errors: Some(Duration::from_mins(1)),
            volume_mounts: Some(Duration::from_mins(2)),
            readiness: Some(Readiness::ProgressDeadline),
            liveness_kills: Some(2),
            progress_deadline: true,
        }
    }
}
