//! Verdicts, decisions and reasons: the words everything is said in.
//!
//! Role: the vocabulary shared by assess, guardrails, records and telemetry. Inputs and outputs: plain data. Must never
//! import: other rooms.

/// A health score between 0 and 100.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct HealthScore(f64);

impl HealthScore {
    /// Clamps to 0–100; what is not a number is no score.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self(value.clamp(0.0, 100.0)))
    }

    /// The exact value.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// Whole points, as status shows them; rounded down, so that a score below 50 never reads as 50.
    #[must_use]
    pub fn points(self) -> u8 {
        (0..=100).rev().find(|points| f64::from(*points) <= self.0).unwrap_or(0)
    }
}

/// Confidence in whole percent, 0–100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Confidence(u8);

impl Confidence {
    /// Clamps to 0–100 %.
    #[must_use]
    pub fn percent(value: f64) -> Self {
        Self((0..=100).rev().find(|percent| f64::from(*percent) <= value).unwrap_or(0))
    }

    /// Whole percent.
    #[must_use]
    pub fn value(self) -> u8 {
        self.0
    }
}

/// An enum of words that are part of the API, with all of them in a list, so that a test can compare them with the
/// documentation.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands in status, events and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads the word back; `None` for a word of another version.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What was decided about a rollout.
    Verdict {
        /// The new revision is worse: undo it.
        Rollback = "ROLLBACK",
        /// Leave it.
        Continue = "CONTINUE",
        /// Nobody can say; keep watching.
        Inconclusive = "INCONCLUSIVE",
    }
}

words! {
    /// Who decided.
    Decider {
        /// A fact of the API or of scraping, which needs no comparison.
        HardFact = "hard-fact",
        /// The evidence scorer.
        Evidence = "evidence",
        /// The original formula.
        SeedFormula = "seed-formula",
        /// A language model; records add its name.
        Llm = "llm",
    }
}

words! {
    /// What was done about a decision.
    ActionTaken {
        /// The undo is decided and written down, not yet confirmed.
        RollingBack = "RollingBack",
        /// The workload was put back.
        RolledBack = "RolledBack",
        /// A person is asked.
        AwaitingApproval = "AwaitingApproval",
        /// People were told what to do.
        Recommended = "Recommended",
        /// Nothing; the record says why.
        None = "None",
    }
}

words! {
    /// Reasons of conditions and decisions: part of the API.
    Reason {
        /// A template nobody judged yet.
        NewRevisionDetected = "NewRevisionDetected",
        /// New pods are not old enough to count.
        WarmingUp = "WarmingUp",
        /// Being judged.
        Analyzing = "Analyzing",
        /// Judged and fine.
        AnalysisPassed = "AnalysisPassed",
        /// The evidence reached what the false rollback rate asks for.
        EvidenceOfHarm = "EvidenceOfHarm",
        /// A limit that the user set was broken.
        LimitExceeded = "LimitExceeded",
        /// Old pods, or a control, suffer at the same time.
        SharedIncident = "SharedIncident",
        /// The new revision serves nobody although it is ready, scraped, and would get its share.
        SilentRevision = "SilentRevision",
        /// The new revision gets next to no traffic.
        TrafficLost = "TrafficLost",
        /// Evidence against history alone may not undo here.
        HistoryOnly = "HistoryOnly",
        /// Containers of new pods end again and again.
        CrashLoop = "CrashLoop",
        /// Containers of new pods are killed for their memory.
        OomKilled = "OOMKilled",
        /// The image cannot be had.
        ImagePullFailed = "ImagePullFailed",
        /// What a container is configured with is missing.
        ConfigError = "ConfigError",
        /// A container cannot be created or started.
        ContainerStartFailed = "ContainerStartFailed",
        /// A container's hook fails.
        HookFailed = "HookFailed",
        /// The kubelet kills containers whose liveness or startup probe fails.
        LivenessProbeFailed = "LivenessProbeFailed",
        /// A volume cannot be mounted.
        VolumeMountFailed = "VolumeMountFailed",
        /// New pods do not become Ready.
        NeverReady = "NeverReady",
        /// The progress deadline passed with new pods that are not well.
        ProgressDeadlineExceeded = "ProgressDeadlineExceeded",
        /// A node explains better what new pods do.
        NodeProblem = "NodeProblem",
        /// No node takes the new pods.
        Unschedulable = "Unschedulable",
        /// New pods are not let in: quota, admission.
        ReplicaFailure = "ReplicaFailure",
        /// Others cannot pull from the registry either.
        RegistryUnavailable = "RegistryUnavailable",
        /// The seed score was below 50 twice running.
        ScoreBelowThreshold = "ScoreBelowThreshold",
        /// Something needed for a verdict was not measured.
        InsufficientData = "InsufficientData",
        /// The new revision answered too few requests.
        NoTraffic = "NoTraffic",
        /// The metrics could not be read.
        PrometheusUnreachable = "PrometheusUnreachable",
        /// A language model decided where evidence left room.
        LLMDecision = "LLMDecision",
        /// Language models answer.
        LLMAnswers = "LLMAnswers",
        /// No language model answers.
        LLMUnavailable = "LLMUnavailable",
        /// No language model was asked yet.
        LLMNotAsked = "LLMNotAsked",
        /// Metrics are being read.
        MetricsRead = "MetricsRead",
        /// No pod of the new revision became Ready.
        NoNewRevisionPods = "NoNewRevisionPods",
        /// The undo was verified, and what it was made for is gone.
        RollbackSucceeded = "RollbackSucceeded",
        /// The undo was refused by the API server.
        RollbackFailed = "RollbackFailed",
        /// The restored revision did not become ready in time.
        RollbackTimedOut = "RollbackTimedOut",
        /// The undo was sent and is being verified.
        RollbackStarted = "RollbackStarted",
        /// An admission policy refused the undo.
        AdmissionRejected = "AdmissionRejected",
        /// The workload already carries the revision it should get.
        SkippedAlreadyCurrent = "SkippedAlreadyCurrent",
        /// Somebody pushed in between; their push stands.
        Superseded = "Superseded",
        /// The undo came up, and what it was made for is still there: the release was not the cause.
        RollbackDidNotHelp = "RollbackDidNotHelp",
        /// The revision that was undone is back: somebody or something applied it again.
        RollbackReverted = "RollbackReverted",
        /// There is nothing to go back to.
        NoKnownGoodRevision = "NoKnownGoodRevision",
        /// A person has to approve the undo.
        AwaitingApproval = "AwaitingApproval",
        /// Nobody approved it in time.
        ApprovalExpired = "ApprovalExpired",
        /// A person rejected it.
        Rejected = "Rejected",
        /// What the revision did cannot be undone with it.
        IrreversibleRevision = "IrreversibleRevision",
        /// Flux or Argo CD applies the workload and would revert an undo.
        SuppressedByGitOps = "SuppressedByGitOps",
        /// Something else applies the workload.
        AppliedByGitOps = "AppliedByGitOps",
        /// What applies the workload is suspended for an undo.
        SyncSuspended = "SyncSuspended",
        /// Nothing applies the workload again and again.
        NotManaged = "NotManaged",
        /// Too many undos of the class at once.
        StormBreakerOpen = "StormBreakerOpen",
        /// Nobody replaces pods, because the update strategy is OnDelete.
        OnDeleteStrategy = "OnDeleteStrategy",
        /// A `StatefulSet` waits for a broken pod.
        StuckStatefulSetPod = "StuckStatefulSetPod",
        /// Both revisions run the same; only annotations of the template differ.
        SameRevisionRestarted = "SameRevisionRestarted",
        /// A Service needs a port that the revision to go back to does not have.
        ServicePortMissing = "ServicePortMissing",
        /// A configuration that the pods read was changed in place.
        ConfigurationChanged = "ConfigurationChanged",
        /// The number of pods was changed a moment ago.
        Scaling = "Scaling",
        /// The operator lacks a right that the guard needs.
        Forbidden = "Forbidden",
        /// The workload is paused.
        WorkloadPaused = "WorkloadPaused",
        /// The mode allows no action.
        SuppressedByMode = "SuppressedByMode",
        /// `maxPerDay` or `cooldown` allows no action now.
        RollbackLimitReached = "RollbackLimitReached",
        /// The workload does not exist.
        TargetNotFound = "TargetNotFound",
        /// Another controller owns the workload.
        TargetOwnedByController = "TargetOwnedByController",
        /// Another guard has the same target.
        TargetAlreadyGuarded = "TargetAlreadyGuarded",
        /// The workload asks to be skipped.
        SkippedByAnnotation = "SkippedByAnnotation",
        /// The spec cannot be used.
        InvalidSpec = "InvalidSpec",
        /// The class does not exist.
        UnknownClass = "UnknownClass",
        /// `spec.suspend` is set.
        Suspended = "Suspended",
        /// Configuration valid, target found.
        Accepted = "Accepted",
        /// Nothing is being judged.
        Idle = "Idle",
        /// Was already serving when the guard arrived.
        NotJudged = "NotJudged",
        /// No undo was ever made.
        NoRollback = "NoRollback",
        /// No replicas are wanted, so there is nothing to judge.
        ScaledToZero = "ScaledToZero",
    }
}

words! {
    /// What kind of failure it was: what people, prompts and training samples sort decisions by.
    FailureClass {
        /// The process ends by itself.
        Crash = "crash",
        /// The kernel ended it for using more memory than its limit.
        Oom = "oom",
        /// The image cannot be had.
        Image = "image",
        /// Something it is configured with is missing or wrong.
        ConfigError = "config_error",
        /// Memory grows until it ends.
        MemoryLeak = "memory_leak",
        /// A database does not answer in time.
        DatabaseTimeout = "database_timeout",
        /// Something it depends on cannot be reached.
        DependencyUnavailable = "dependency_unavailable",
        /// It answers more slowly.
        Performance = "performance",
        /// Somebody limits its rate.
        RateLimit = "rate_limit",
        /// None of the others.
        Other = "other",
        /// Nothing failed.
        None = "none",
    }
}
