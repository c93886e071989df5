//! Hard facts: what pod states alone prove about a release.
//!
//! Role: from the states of all pods to one fact, or to what is the better explanation. Inputs: `PodFact`s, what events
//! tell of them, the policy, a look around. Outputs: `Report`. No metric is needed and nobody is asked. Must never
//! import: other rooms, a clock.

mod findings;
mod policy;
mod symptom;
mod weigh;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use policy::{CrashLoop, PodPolicy, Readiness};
pub use symptom::{Sample, Symptom};
pub use weigh::registry;

use super::finding::Finding;
use super::outcome::Reason;
use super::plan::Current;
use super::rollout::{PodFact, Workload};

/// A service may end once or twice at every start, waiting for its database: allowed where nobody saw the old one start.
const UNKNOWN_START: u32 = 2;
/// However badly the old revision started: what ends more often than that is a loop all the same.
const MOST_ALLOWED: u32 = 3;
/// How long after its creation a pod is starting.
const START: Duration = Duration::from_mins(5);
/// Of an old pod whose ends nobody saw one by one, at most so many can have belonged to its start.
const MOST_UNSEEN: u32 = 2;

/// What a hard fact is about, the clearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FactKind {
    /// The image cannot be had.
    ImagePull,
    /// What a container is configured with is missing.
    Config,
    /// A container cannot be created or started.
    Start,
    /// A hook fails.
    Hook,
    /// The kernel kills containers for their memory.
    OutOfMemory,
    /// The kubelet kills containers whose probes fail.
    LivenessKills,
    /// Containers end again and again.
    CrashLoop,
    /// A volume cannot be mounted.
    VolumeMount,
    /// The Deployment's progress deadline passed with a pod that is not well.
    Progress,
    /// Pods do not become Ready.
    NeverReady,
}

impl FactKind {
    /// The reason of the decision.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::ImagePull => Reason::ImagePullFailed,
            Self::Config => Reason::ConfigError,
            Self::Start => Reason::ContainerStartFailed,
            Self::Hook => Reason::HookFailed,
            Self::OutOfMemory => Reason::OomKilled,
            Self::LivenessKills => Reason::LivenessProbeFailed,
            Self::CrashLoop => Reason::CrashLoop,
            Self::VolumeMount => Reason::VolumeMountFailed,
            Self::Progress => Reason::ProgressDeadlineExceeded,
            Self::NeverReady => Reason::NeverReady,
        }
    }
}

/// What events tell of a pod that its status does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// How often the kubelet killed a container of it because a liveness or startup probe failed.
    pub probe_kills: u32,
    /// What the probe said when it failed last.
    pub probe_failed: Option<Arc<str>>,
    /// Why a volume could not be mounted, in the kubelet's words.
    pub not_mounted: Option<Arc<str>>,
}

/// How the previous revision's own pods start: what they do then is nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StartRecord {
    /// Ends of containers in the first minutes, of the worst pod.
    pub exits: u32,
}

impl StartRecord {
    /// What is known of the start of these pods.
    #[must_use]
    pub fn of<'a>(pods: impl IntoIterator<Item = &'a PodFact>) -> Option<Self> {
        pods.into_iter().map(|pod| Self { exits: start_exits(pod) }).reduce(Self::worst)
    }

    /// The worse of two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        Self { exits: self.exits.max(other.exits) }
    }
}

fn start_exits(pod: &PodFact) -> u32 {
    let until = pod.created.checked_add(START).unwrap_or(Timestamp::MAX);
    let of = |container: &super::pod::ContainerFact| {
        let (seen, unseen): (Vec<_>, Vec<_>) = container.exits.iter().partition(|exit| exit.code.is_some());
        let seen_in_time = seen.iter().filter(|exit| exit.at <= until).count();
        // More ends than are remembered one by one, and those that nobody saw.
        let counted = usize::try_from(container.ended).unwrap_or(usize::MAX);
        let unknown = counted.saturating_sub(seen.len()).max(unseen.len());
        u32::try_from(seen_in_time)
            .unwrap_or(u32::MAX)
            .saturating_add(u32::try_from(unknown).unwrap_or(u32::MAX).min(MOST_UNSEEN))
    };
    pod.containers.iter().map(of).fold(0, u32::saturating_add)
}

/// What the rest of the cluster looks like; asked only when a fact is about to be stated.
pub trait Around {
    /// What is wrong with a node.
    ///
    /// Pressure that began since then may be the release's own work, and is none.
    fn node_trouble(&self, node: &str, since: Timestamp) -> Option<Arc<str>>;
    /// Since when nothing is wrong with it.
    fn node_well_since(&self, node: &str) -> Option<Timestamp>;
    /// A pod of somebody else that began to fail on the node since then, as `namespace/name`.
    fn fails_on(&self, node: &str, since: Timestamp) -> Option<String>;
    /// A pod of somebody else that cannot pull from the registry since then, though its image may exist.
    fn cannot_pull(&self, registry: &str, since: Timestamp) -> Option<String>;
}

/// What is looked at.
#[derive(Clone, Copy)]
pub struct FactInput<'a> {
    /// Now.
    pub now: Timestamp,
    /// Which states count.
    pub policy: &'a PodPolicy,
    /// The judged revision.
    pub current: &'a Current,
    /// Its workload.
    pub workload: &'a Workload,
    /// Pods of every revision.
    pub pods: &'a [PodFact],
    /// What events tell, by uid.
    pub told: &'a BTreeMap<Arc<str>, Told>,
    /// The rest of the cluster.
    pub around: &'a dyn Around,
}

/// What pod states prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardFact {
    /// What it is about.
    pub kind: FactKind,
    /// In sentences. From outside in part: redacted before it is stored.
    pub sentence: String,
    /// One pod's words for it.
    pub sample: Sample,
}

/// Something else explains what pods do: nothing is undone for it, and it does not pass either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}

/// What a look at the pods gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The release is bad.
    pub fact: Option<HardFact>,
    /// Something else is wrong.
    pub hold: Option<Hold>,
    /// What is seen so far, proven or not.
    pub findings: Vec<Finding>,
    /// When a fact may come true with nothing else happening.
    pub next: Option<Timestamp>,
}

/// The pods whose events have to be read before a report can be made, by name.
#[must_use]
pub fn questions<'a>(policy: &PodPolicy, current: &Current, pods: &'a [PodFact], now: Timestamp) -> Vec<&'a PodFact> {
    let ended = |pod: &PodFact| pod.containers.iter().any(|container| container.is_probed && container.ended > 0);
    let stuck = |pod: &PodFact| {
        let due = policy.volume_mounts.zip(pod.scheduled).and_then(|(wait, at)| at.checked_add(wait).ok());
        due.is_some_and(|due| due <= now) && symptom::awaits_volumes(pod)
    };
    let asks = |pod: &&PodFact| {
        (policy.liveness_kills.is_some() && ended(pod)) || (policy.volume_mounts.is_some() && stuck(pod))
    };
    let new = pods.iter().filter(|pod| policy.enabled && pod.revision == current.revision && pod.is_live());
    new.filter(asks).collect()
}

/// Looks at the pods.
#[must_use]
pub fn report(input: &FactInput<'_>) -> Report {
    if input.policy.enabled { weigh::report(input) } else { Report::default() }
}

#[cfg(test)]
mod tests;
