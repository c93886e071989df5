//! What a guard asks for, parsed once.
//!
//! Role: the validated form of a spec; after parsing nobody reads the spec again. Inputs: none (built by `api::parse`).
//! Outputs: newtypes whose ranges hold by construction. Must never import: other rooms.

use std::fmt;
use std::time::Duration;

use super::advice::provider::DecisionPolicy;
use super::facts::PodPolicy;
use super::judge::{Baseline, Kind as SignalKind, Settings, SignalSettings};
use super::logs::LogPolicy;
use super::probe::ProbePolicy;
use super::signal::{Preset, Signal, Source, Term};

/// The kinds of workload a guard may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The resource of the API, as rights name it.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }

    /// The kind as it stands in manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// The resource as people type it after `kubectl`.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The workload a guard watches; always in the guard's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Which kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.resource(), self.name)
    }
}

/// What a guard may do. Ordered: a class clamps by `min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Judge and record, touch nothing.
    Observe,
    /// Say what to do, touch nothing.
    Recommend,
    /// Ask a person, and undo what they approve.
    Approve,
    /// Undo bad rollouts.
    Enforce,
}

impl Mode {
    /// The word in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "Observe",
            Self::Recommend => "Recommend",
            Self::Approve => "Approve",
            Self::Enforce => "Enforce",
        }
    }
}

/// How long to wait between two evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// The scrape interval seen in the samples, held between 1 s and 15 s.
    Auto,
    /// As the user says; at least 1 s.
    Every(Duration),
}

impl Interval {
    /// The shortest and the longest interval that `Auto` chooses.
    pub const AUTO_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

    /// The interval in force, given the scrape interval seen so far.
    #[must_use]
    pub fn resolve(self, scrape: Option<Duration>) -> Duration {
        let (least, most) = Self::AUTO_RANGE;
        match self {
            Self::Every(every) => every,
            // Looked at too seldom, a short scrape interval could not be told from a long one.
            Self::Auto => scrape.map_or(least, |seen| seen.clamp(least, most)),
        }
    }
}

/// What the end of the window means when nothing was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInconclusive {
    /// CONTINUE, with Healthy Unknown.
    Continue,
    /// INCONCLUSIVE, and keep watching.
    Hold,
}

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// Evidence with a bound on false rollbacks.
    Evidence,
    /// The original health formula.
    Seed,
}

/// How a rollout is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// Time between two evaluations.
    pub interval: Interval,
    /// A new pod's requests count only this long after it became Ready.
    pub warmup: Duration,
    /// How long a rollout is watched, from its first Ready pod.
    pub window: Duration,
    /// Requests the new revision must have answered before a score is given.
    pub min_requests: u64,
    /// What an unproven end means.
    pub on_inconclusive: OnInconclusive,
    /// The judge.
    pub scorer: Scorer,
    /// With what the new revision is compared.
    pub baseline: Baseline,
    /// α in parts per million.
    pub alpha_ppm: u32,
    /// Whether evidence against history alone may undo.
    pub history_may_enforce: bool,
    /// Workloads whose trouble at the same time means a shared incident.
    pub controls: Vec<Target>,
}

impl Default for Analysis {
    /// As the API server fills them in.
    fn default() -> Self {
        Self {
            interval: Interval::Auto,
            warmup: Duration::from_mins(1),
            window: Duration::from_mins(30),
            min_requests: 20,
            on_inconclusive: OnInconclusive::Continue,
            scorer: Scorer::Evidence,
            baseline: Baseline::Auto,
            alpha_ppm: 10_000,
            history_may_enforce: true,
            controls: Vec::new(),
        }
    }
}

/// Which revision to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackTarget {
    /// The newest one that proved good; where none did, the one before.
    LastKnownGood,
    /// The one that served before this rollout began.
    Previous,
}

/// What to do about a workload that something else applies again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitOpsPolicy {
    /// Say what to change where it is applied from.
    Recommend,
    /// Suspend whoever applies it for a while, then undo.
    Suspend,
    /// Undo: the user vouches that nobody applies the template again.
    Rollback,
}

/// What to do about pods of a bad revision that their controller does not replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckPods {
    /// Delete them, one by one.
    Delete,
    /// Say so.
    Alert,
}

/// How an undo is done and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPolicy {
    /// Which revision to go back to.
    pub target: RollbackTarget,
    /// Undos of one workload in 24 hours.
    pub max_per_day: u32,
    /// Time after an undo in which no other one is made.
    pub cooldown: Duration,
    /// How long the restored revision may take to become ready.
    pub verify_timeout: Duration,
    /// How long a revision that was undone is not judged again.
    pub bad_revision_memory: Duration,
    /// What to do about a workload that something else applies.
    pub git_ops: GitOpsPolicy,
    /// How long whoever applies it stays suspended.
    pub suspend_for: Duration,
    /// Pods of a `StatefulSet` that it does not replace.
    pub stuck_pods: StuckPods,
    /// Pods that nobody replaces, because the strategy is `OnDelete`.
    pub on_delete: StuckPods,
    /// Whether a `StatefulSet` with volumes is undone without asking.
    pub volumes_without_asking: bool,
    /// How long an approval is waited for.
    pub approval_timeout: Duration,
}

impl Default for RollbackPolicy {
    /// As the API server fills them in.
    fn default() -> Self {
        Self {
            target: RollbackTarget::LastKnownGood,
            max_per_day: 2,
            cooldown: Duration::from_mins(10),
            verify_timeout: Duration::from_mins(10),
            bad_revision_memory: Duration::from_hours(24),
            git_ops: GitOpsPolicy::Recommend,
            suspend_for: Duration::from_hours(1),
            stuck_pods: StuckPods::Delete,
            on_delete: StuckPods::Alert,
            volumes_without_asking: false,
            approval_timeout: Duration::from_mins(15),
        }
    }
}

/// When so many undos at once look like something else: of all guards of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormPolicy {
    /// More undos than this are recommended only.
    pub undos: u32,
    /// Counted over this time.
    pub within: Duration,
}

impl Default for StormPolicy {
    fn default() -> Self {
        Self { undos: 3, within: Duration::from_mins(10) }
    }
}

/// A parsed guard.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The guarded workload.
    pub target: Target,
    /// What may be done, already clamped by the class.
    pub mode: Mode,
    /// The mode the guard asked for, before the class clamped it.
    pub asked_mode: Mode,
    /// How to judge.
    pub analysis: Analysis,
    /// What to measure.
    pub signals: Vec<Signal>,
    /// Which states of pods are hard facts.
    pub pods: PodPolicy,
    /// How logs are read.
    pub logs: LogPolicy,
    /// What is asked of pods.
    pub probes: ProbePolicy,
    /// How to undo.
    pub rollback: RollbackPolicy,
    /// When undos of the class become too many.
    pub storm: StormPolicy,
    /// Who is asked for a second opinion.
    pub decision: DecisionPolicy,
}

impl Policy {
    /// What the evidence scorer is asked to do; one signal for each full name, in the order in which they are read.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let signals = self.signals.iter().flat_map(|signal| {
            signal.full_names().into_iter().map(|name| {
                let term = Term::of(&name);
                let kind = match (&signal.source, term) {
                    (Source::Histogram { .. }, _)
                    | (Source::Preset(_) | Source::Proxied { .. }, Some(Term::Latency)) => SignalKind::Tail,
                    (Source::Gauge { .. } | Source::Preset(_), Some(Term::Memory)) => SignalKind::Leak,
                    (Source::Gauge { .. }, _) => SignalKind::Level,
                    (Source::Ratio { .. } | Source::Preset(_) | Source::Proxied { .. }, _) => SignalKind::Ratio,
                };
                let gauge = matches!(kind, SignalKind::Level | SignalKind::Leak);
                // Being throttled harms nobody by itself: what it does to users is seen in their requests.
                let throttling = signal.preset() == Some(Preset::ContainerCpuThrottling);
                let weight = if throttling { 0 } else { 1 + u32::from(!gauge) };
                SignalSettings {
                    name,
                    term,
                    kind,
                    weight: signal.demands.weight.unwrap_or(weight),
                    critical: signal.demands.critical.unwrap_or(!gauge && !throttling && !signal.is_proxied()),
                    max_ppm: signal.demands.max_ppm.filter(|_| kind == SignalKind::Ratio),
                    // Memory is read in percent of its limit.
                    limit: (kind == SignalKind::Leak).then_some(100),
                    on_no_data: signal.demands.on_no_data,
                    dry_run: signal.demands.dry_run,
                    proxied: signal.is_proxied(),
                }
            })
        });
        Settings {
            alpha_ppm: self.analysis.alpha_ppm,
            window: self.analysis.window,
            baseline: self.analysis.baseline,
            min_requests: self.analysis.min_requests,
            history_may_enforce: self.analysis.history_may_enforce,
            tells_young: true,
            first_wave: None,
            controls: self.analysis.controls.len(),
            signals: signals.collect(),
        }
    }
}
