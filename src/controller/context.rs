//! What every reconcile shares.
//!
//! Role: clients, indexes, sources and the clock, put together once. Inputs: a client and settings. Outputs: shared
//! handles. Must never import: `cli`, `console`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use kube::Client;
use kube::runtime::reflector::Store;

use super::counsel::Counsel;
use super::inspect::Inspections;
use super::memory::{GuardKey, Memory};
use super::rights::Rights;
use super::sources::Sources;
use super::storms::Storms;
use super::suspensions::Suspensions;
use crate::act::Act;
use crate::api::{DEFAULT_CLASS_ANNOTATION, DeploymentGuard, GuardClass};
use crate::domain::redact::Redactor;
use crate::leader::Leadership;
use crate::observe::nodes::NodeIndex;
use crate::observe::pods::PodIndex;
use crate::observe::workload::WorkloadIndex;
use crate::record::events::Events;
use crate::record::recordings::Recordings;
use crate::record::samples::Samples;
use crate::record::templates::Templates;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Tells the time; tests tell another.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What every reconcile shares.
pub struct Context {
    /// Talks to the API server.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// Whether this replica may act.
    pub leadership: Leadership,
    /// Writes to workloads.
    pub act: Act,
    /// Every guard, once the controller runs.
    pub guards: OnceLock<Store<DeploymentGuard>>,
    /// Every class.
    pub classes: Store<GuardClass>,
    /// Every pod, reduced.
    pub pods: Arc<PodIndex>,
    /// Every workload, reduced.
    pub workloads: Arc<WorkloadIndex>,
    /// Every node, reduced.
    pub nodes: Arc<NodeIndex>,
    /// Every Prometheus.
    pub sources: Sources,
    /// What we may do.
    pub rights: Rights,
    /// Undos of each class.
    pub storms: Storms,
    /// Syncs that were suspended.
    pub suspensions: Suspensions,
    /// Every guard between two reconciles.
    pub memory: Memory,
    /// Writes events.
    pub events: Events,
    /// Writes training samples.
    pub samples: Samples,
    /// Keeps templates.
    pub templates: Templates,
    /// Asks language models.
    pub counsel: Arc<Counsel>,
    /// Looks at logs and probes.
    pub inspections: Arc<Inspections>,
    /// Writes recordings of analysed rollouts.
    pub recordings: Recordings,
    /// Blacks out what must not be stored.
    pub redactor: Arc<Redactor>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Beats.
    pub health: Arc<Health>,
    /// Failures running, per guard.
    pub failures: Failures,
}

/// Failures running, per guard.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<GuardKey, u32>>);

impl Failures {
    /// One more; says how many there were before.
    pub fn count(&self, key: GuardKey) -> u32 {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = failures.entry(key).or_default();
        let before = *running;
        *running = running.saturating_add(1);
        before
    }

    /// It worked.
    pub fn clear(&self, key: &GuardKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Why a guard has no class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoClass {
    /// It names one that does not exist.
    #[error("spec.className names the GuardClass {0:?}, which does not exist; create it or name another")]
    Unknown(String),
    /// It names none, and there is no default.
    #[error(
        "spec.className is empty and no GuardClass is annotated {DEFAULT_CLASS_ANNOTATION}: \"true\"; create a class"
    )]
    NoDefault,
    /// It names none, and there are several defaults.
    #[error("spec.className is empty and several GuardClasses are annotated as the default: {0}; keep one")]
    SeveralDefaults(String),
}

impl Context {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The class of a guard.
    ///
    /// # Errors
    /// If there is none, or nobody can tell which.
    pub fn class_of(&self, guard: &DeploymentGuard) -> Result<Arc<GuardClass>, NoClass> {
        let classes = self.classes.state();
        if let Some(wanted) = &guard.spec.class_name {
            let found = classes.into_iter().find(|class| class.metadata.name.as_ref() == Some(wanted));
            return found.ok_or_else(|| NoClass::Unknown(wanted.clone()));
        }
        let mut defaults: Vec<_> = classes.into_iter().filter(|class| is_default(class)).collect();
        match (defaults.pop(), defaults.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(NoClass::NoDefault),
            (Some(last), false) => {
                defaults.push(last);
                let mut names: Vec<_> = defaults.iter().filter_map(|class| class.metadata.name.clone()).collect();
                names.sort();
                Err(NoClass::SeveralDefaults(names.join(", ")))
            }
        }
    }
}

fn is_default(class: &GuardClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DEFAULT_CLASS_ANNOTATION)).is_some_and(|value| value == "true")
}
