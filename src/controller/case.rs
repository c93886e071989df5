//! One look at one guard, while it lasts.
//!
//! Role: holds what is known and what will be written, so that every way out writes the same way. Inputs: a guard and the
//! context. Outputs: status, events, memory, the next wake-up. Must never import: `cli`, `console`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

mod recall;
mod state;

use super::configuration::{Judged, Told};
use super::context::Context;
use super::counsel::Question;
use super::error::Error;
use super::memory::{GuardKey, Remembered, Shelf};
use super::progress;
use crate::api::condition::{self, Observed, Truth, Type};
use crate::api::parse;
use crate::api::status::{DeploymentGuardStatus, TargetStatus, time, time_ms};
use crate::api::{DeploymentGuard, GuardClass};
use crate::domain::approval;
use crate::domain::known_good::Kept;
use crate::domain::outcome::Reason;
use crate::domain::plan::{self, Changes, Due, Progress, Stage};
use crate::domain::policy::{Policy, Target};
use crate::domain::redact::SERVER_MESSAGE;
use crate::domain::rollout::{PodFact, PodName, RevisionHash, Tool, Workload};
use crate::observe::pods::WorkloadKey;
use crate::observe::workload;
use crate::record::events::EventReason;
use crate::record::owner::Owner;
use crate::record::status;

/// While nothing is due, how long until a look at nothing in particular (a missed watch event, a changed Secret).
const IDLE: Duration = Duration::from_mins(10);

/// What opening a case gives.
pub enum Opened<'a> {
    /// Nothing is due.
    Rest(Action),
    /// Something is.
    Due(Box<Case<'a>>),
}

/// One look at one guard.
pub struct Case<'a> {
    /// The shared context.
    pub ctx: &'a Context,
    /// The guard.
    pub guard: &'a DeploymentGuard,
    /// Its place.
    pub key: GuardKey,
    /// Its workload's place.
    pub target: WorkloadKey,
    /// What status remembers.
    pub progress: Progress,
    /// What is due.
    pub due: Due,
    /// The moment of this look.
    pub now: Timestamp,
    /// The status as it will be written.
    pub draft: DeploymentGuardStatus,
    /// The name under which this look recorded the rollout, if it did.
    pub recorded: Option<String>,
    /// The pods that proved a release bad, as they were seen.
    pub proof: Option<serde_json::Value>,
    /// The revision that this look judged bad.
    pub judged: Option<Judged>,
    /// What was changed beside it, if that was looked at before anything was done.
    pub told: Option<Told>,
    /// What language models are to explain once it is done.
    pub question: Option<Question>,
    /// What there is to say to people.
    notes: Vec<(EventReason, String, Option<ObjectReference>)>,
    remembered: Remembered,
    /// The memory as it was before this look, for when the look fails.
    before: Remembered,
    changes: Changes,
    observed: Vec<Observed>,
    wake: Option<Timestamp>,
}

impl<'a> Case<'a> {
    /// Opens a case, or finds that nothing is due.
    ///
    /// # Errors
    /// If the object has no name, which the API server never lets happen.
    pub fn open(guard: &'a DeploymentGuard, ctx: &'a Context) -> Result<Opened<'a>, Error> {
        let now = ctx.now();
        let key = guard_key(guard).ok_or(Error::Unnamed("namespace"))?;
        let uid = guard.uid().ok_or(Error::Unnamed("uid"))?;
        if guard.metadata.deletion_timestamp.is_some() {
            return Ok(Opened::Rest(Action::await_change()));
        }
        let target = target_key(guard);
        if let Some(guards) = ctx.guards.get() {
            ctx.memory.prime(|| guards.state().iter().filter_map(relation).collect());
        }
        let (remembered, mut changes) = ctx.memory.take(&key, &uid, created(guard), &target).unwrap_or_else(|| {
            let status = guard.status.clone().unwrap_or_default();
            (Remembered { uid, status, ..Remembered::default() }, Changes::default())
        });
        let seen = (guard.metadata.generation.unwrap_or_default(), versions(ctx, guard));
        changes.guard = remembered.seen.as_ref() != Some(&seen);
        let progress = progress::read(&remembered.status);
        let due = plan::due(&progress, changes, now);
        if let Due::Rest(until) = due {
            return Ok(Opened::Rest(requeue(until, now)));
        }
        Ok(Opened::Due(Box::new(Self {
            ctx,
            guard,
            key,
            target,
            progress,
            due,
            now,
            draft: remembered.status.clone(),
            recorded: None,
            proof: None,
            judged: None,
            told: None,
            question: None,
            notes: Vec::new(),
            before: remembered.clone(),
            remembered: Remembered { seen: Some(seen), ..remembered },
            changes,
            observed: Vec::new(),
            wake: None,
        })))
    }

    /// Says something about a condition; the last word on each counts.
    pub fn observe_condition(&mut self, type_: Type, truth: impl Into<Truth>, reason: Reason, message: &str) {
        self.observed.push(Observed::new(type_, truth, reason, message));
    }

    /// The template of a revision that the guard keeps.
    #[must_use]
    pub fn kept(&self, revision: &RevisionHash) -> Option<Kept> {
        self.progress.kept().remove(revision)
    }

    /// The templates that are kept, as far as this process knows.
    pub const fn shelf(&mut self) -> &mut Shelf {
        &mut self.remembered.shelf
    }

    /// What status says about kept templates is to be looked at again.
    pub fn doubt_kept(&mut self) {
        self.remembered.shelf = Shelf::default();
    }

    /// The guard as the owner of what is kept for it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            namespace: self.key.namespace.clone(),
            guard: self.key.name.clone(),
            api_version: DeploymentGuard::api_version(&()).into_owned(),
            uid: self.guard.metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// An annotation of the guard.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<String> {
        self.guard.annotations().get(key).cloned()
    }

    /// Says something to people, once per transition.
    pub fn note(&mut self, reason: EventReason, text: String) {
        self.notes.push((reason, text, None));
    }

    /// Says something about a pod, on the guard and on the pod. Events of the same reason about the same objects are joined
    /// under the first one's words; another pod is another object.
    pub fn note_of_pod(&mut self, reason: EventReason, text: String, pod: &PodName, uid: &str) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod.name.to_string()),
            namespace: Some(pod.namespace.to_string()),
            uid: Some(uid.to_owned()),
            ..Default::default()
        };
        self.notes.push((reason, text, Some(about)));
    }

    /// Looks again at that moment, or earlier if something else wants to.
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// Measures again at that moment; looks for other reasons do not.
    pub fn measure_at(&mut self, at: Timestamp) {
        self.remembered.metrics_due = Some(at);
        self.wake_at(at);
    }

    /// When metrics are read next; `None` if they are due.
    #[must_use]
    pub fn metrics_due(&self) -> Option<Timestamp> {
        self.remembered.metrics_due.filter(|_| !self.changes.guard)
    }

    /// Takes back every wake-up: nothing is going on any more.
    pub fn rest(&mut self) {
        self.wake = None;
    }

    /// Looks again after that time.
    pub fn wake_in(&mut self, wait: Duration) {
        self.wake_at(self.now.checked_add(wait).unwrap_or(Timestamp::MAX));
    }

    /// Parses the guard under its class, or says in status why that cannot be done.
    pub fn parse(&mut self) -> Option<(Arc<GuardClass>, Arc<Policy>)> {
        let class = match self.ctx.class_of(self.guard) {
            Ok(class) => class,
            Err(error) => {
                self.not_ready(Reason::UnknownClass, &error.to_string());
                return None;
            }
        };
        match self.parsed(&class) {
            Ok(_) if self.guard.spec.suspend && self.progress.undo.is_none() => {
                self.draft.next_evaluation = None;
                self.observe_condition(Type::Ready, true, Reason::Suspended, "spec.suspend is set");
                self.observe_condition(Type::Reconciling, false, Reason::Suspended, "spec.suspend is set");
                self.observe_condition(
                    Type::Healthy,
                    Truth::Unknown,
                    Reason::Suspended,
                    "spec.suspend is set: nothing is judged",
                );
                self.observe_condition(Type::Stalled, false, Reason::Suspended, "");
                None
            }
            Ok(policy) => Some((class, policy)),
            Err(error) => {
                self.not_ready(Reason::InvalidSpec, &error.to_string());
                None
            }
        }
    }

    /// The policy, parsed once for each version of guard and class: the user's patterns take a while to compile.
    fn parsed(&mut self, class: &GuardClass) -> Result<Arc<Policy>, parse::InvalidSpec> {
        if let Some((of, policy)) = &self.remembered.policy
            && self.remembered.seen.as_ref() == Some(of)
        {
            return Ok(policy.clone());
        }
        let policy = Arc::new(parse::policy(&self.guard.spec, &class.spec)?);
        self.remembered.policy = self.remembered.seen.clone().map(|seen| (seen, policy.clone()));
        Ok(policy)
    }

    /// Reads the workload and its pods, or says in status why they cannot be guarded.
    ///
    /// # Errors
    /// If the API server cannot be read.
    pub async fn observe(&mut self) -> Result<Option<(Workload, Vec<PodFact>)>, Error> {
        if let Some(first) = self.ctx.memory.guards_of(&self.target).first().filter(|first| **first != self.key) {
            let message =
                format!("DeploymentGuard {} already guards {}; delete one of the two", first.name, self.target.target);
            self.not_ready(Reason::TargetAlreadyGuarded, &message);
            return Ok(None);
        }
        let Some(mut workload) = self.workload().await? else {
            let target = &self.target;
            let message = format!("{} {} does not exist", target.target.kind, target.target.name);
            self.not_ready(Reason::TargetNotFound, &message);
            return Ok(None);
        };
        if workload.terminating {
            self.not_ready(Reason::TargetNotFound, "the workload is being deleted");
            return Ok(None);
        }
        if let Some(canary) = &workload.canary {
            let message = format!(
                "Flagger's {canary} releases {} and judges it itself; delete this guard, or guard a workload that Flagger \
                 does not own",
                self.target.target
            );
            self.not_ready(Reason::TargetOwnedByController, &message);
            return Ok(None);
        }
        if self.draft.target.as_ref().is_some_and(|target| target.uid != *workload.uid) {
            // Another object under the same name: what is known of the last one does not speak of it.
            self.draft.current = None;
            self.draft.undo = None;
            self.draft.analysis = None;
            self.draft.known_good.clear();
            self.draft.served = None;
            self.draft.configuration = None;
            self.progress.good.clear();
            self.progress.served = None;
        }
        workload.kept = self.progress.kept();
        self.draft.target = Some(TargetStatus {
            kind: self.target.target.kind.to_string(),
            name: self.target.target.name.clone(),
            uid: workload.uid.to_string(),
            observed_generation: workload.generation,
        });
        self.observe_condition(Type::Ready, true, Reason::Accepted, "configuration valid, target found");
        match workload.applier.as_ref().filter(|applier| applier.tool != Tool::Helm) {
            Some(applier) => {
                let message = format!("{applier} applies the workload");
                self.observe_condition(Type::GitOpsManaged, true, Reason::AppliedByGitOps, &message);
            }
            None => self.unapplied(&workload),
        }
        match self.stall() {
            Some((stuck, reason, message)) => self.observe_condition(Type::Stalled, stuck, reason, &message),
            None => self.observe_condition(Type::Stalled, false, Reason::Accepted, ""),
        }
        let pods = self.ctx.pods.of_owners(&workload.pod_owners());
        Ok(Some((workload, pods)))
    }

    /// Nothing applies the workload, or nothing for now because we suspended it.
    fn unapplied(&mut self, workload: &Workload) {
        let Some(marker) = &workload.suspension else {
            self.observe_condition(Type::GitOpsManaged, false, Reason::NotManaged, "");
            return;
        };
        let until = time(marker.until);
        let text = format!(
            "the Flux Kustomization {} applies the workload, but not before {until} at the latest: it is suspended for \
             decision {}",
            marker.kustomization.as_deref().unwrap_or_default(),
            marker.decision
        );
        let message = self.ctx.redactor.redact(&text, SERVER_MESSAGE);
        self.observe_condition(Type::GitOpsManaged, true, Reason::SyncSuspended, message.as_str());
    }

    /// What keeps the last verdict on the current revision from being carried out, and whether only a person can change that:
    /// what was asked for is no standstill.
    fn stall(&self) -> Option<(bool, Reason, String)> {
        let current = self.progress.current.as_ref()?;
        if current.stage == Stage::KnownBad {
            let said = condition::find(&self.draft.conditions, Type::Healthy)?;
            return Some((true, Reason::RollbackReverted, said.message.clone()));
        }
        let last = self.draft.last_decision.as_ref()?;
        let helped =
            !last.action_reason.as_deref().unwrap_or_default().starts_with(Reason::RollbackDidNotHelp.as_str());
        let about = match current.stage {
            Stage::Condemned => Some(last.from_revision.as_str()),
            Stage::Unproven => last.to_revision.as_deref(),
            Stage::Serving if !helped => last.to_revision.as_deref(),
            _ => None,
        };
        if about != Some(current.revision.as_str()) {
            return None;
        }
        let why = last.action_reason.as_deref()?;
        let (word, message) = why.split_once(": ").unwrap_or((why, why));
        let reason = Reason::parse(word)?;
        let asked_for =
            matches!(reason, Reason::SuppressedByMode | Reason::Suspended | Reason::Superseded | Reason::Rejected);
        Some((!asked_for, reason, message.to_owned()))
    }

    /// The workload, read only if the watch saw it change since the last read.
    async fn workload(&mut self) -> Result<Option<Workload>, Error> {
        let Some(seen) = self.ctx.workloads.get(&self.target) else {
            self.remembered.workload = None;
            return Ok(None);
        };
        // While nothing goes on, only the spec matters; status churn buys no read.
        let busy = self.progress.undo.is_some()
            || self.progress.current.as_ref().is_none_or(|current| current.stage.is_active());
        if let Some((version, workload)) = &self.remembered.workload
            && (*version == seen.version || (!busy && workload.generation == seen.generation && !workload.owns_template))
            && workload.uid == seen.uid
            && workload.suspension.as_ref() == seen.suspension.as_deref()
            // The ReplicaSet of a new template appears without a change of the Deployment's own.
            && workload.current.is_some()
        {
            return Ok(Some(workload.clone()));
        }
        let fetched = workload::fetch(&self.ctx.client, &self.target).await?;
        self.remembered.workload = fetched.clone().map(|workload| (seen.version, workload));
        Ok(fetched)
    }

    /// The workload as last read, if nothing says that it has to be read again.
    #[must_use]
    pub fn known_workload(&self) -> Option<&Workload> {
        self.remembered.workload.as_ref().map(|(_, workload)| workload)
    }

    /// The workload has to be read again: we changed it.
    pub fn workload_is_stale(&mut self) {
        self.remembered.workload = None;
    }

    /// Writes what was found: status, events, memory. The end of every look.
    ///
    /// # Errors
    /// If the status cannot be written.
    pub async fn close(mut self) -> Result<Action, Error> {
        if let Err(error) = self.write(false).await {
            return self.give_up(error);
        }
        self.tell().await;
        let wake = self.wake;
        self.draft.next_evaluation = wake.map(time);
        self.ctx.failures.clear(&self.key);
        self.remembered.status.next_evaluation = wake.map(time_ms);
        self.ctx.memory.keep(&self.key, self.remembered);
        // Counted from the end of this look: it may have waited for a slow Prometheus.
        Ok(requeue(wake, self.ctx.now()))
    }

    /// Writes the status now if it says something new, because what follows may take long.
    ///
    /// # Errors
    /// If the status cannot be written.
    pub async fn write_news(&mut self) -> Result<(), Error> {
        self.settle_conditions();
        let news = status::is_news(&self.remembered.status, &self.draft);
        if news { self.write(false).await } else { Ok(()) }
    }

    /// Puts what was observed into the draft.
    fn settle_conditions(&mut self) {
        let generation = self.guard.metadata.generation;
        self.draft.observed_generation = generation;
        for type_ in Type::GUARD {
            let said = self.observed.iter().any(|observed| observed.type_ == type_);
            if !said && condition::find(&self.draft.conditions, type_).is_none() {
                self.observe_condition(type_, Truth::Unknown, Reason::Idle, "nothing is known yet");
            }
        }
        self.draft.conditions = condition::merge(&self.draft.conditions, &self.observed, generation, self.now);
        self.observed.clear();
    }

    /// Writes the status now, because something must not happen before it stands.
    ///
    /// # Errors
    /// If the status cannot be written.
    pub async fn write(&mut self, must: bool) -> Result<(), Error> {
        self.settle_conditions();
        self.draft.next_evaluation = self.wake.map(time);
        let before = &self.remembered.status;
        if must || status::worth_writing(before, &self.draft, self.remembered.written, self.now) {
            if !self.ctx.leadership.holds() {
                return Err(Error::LeaseLost);
            }
            let api: Api<DeploymentGuard> = Api::namespaced(self.ctx.client.clone(), &self.key.namespace);
            self.put(&api).await?;
            self.remembered.written = Some(self.now);
            self.before.written = Some(self.now);
            self.before.status = self.draft.clone();
        }
        let current = self.draft.current.as_ref();
        let state = current.and_then(|current| Stage::parse(&current.state)).map(Stage::as_str);
        self.ctx.metrics.guard_state(self.remembered.counted_as, state);
        self.remembered.counted_as = state;
        self.remembered.status = self.draft.clone();
        Ok(())
    }

    /// Stores the draft over the version that was seen last. Of other changes than ours to the guard only those to its
    /// status matter: whoever made one leads by now, or did, and what it says counts.
    async fn put(&mut self, api: &Api<DeploymentGuard>) -> Result<(), Error> {
        let over = async |version: Option<&str>, draft: &DeploymentGuardStatus| {
            status::apply_over(api, &self.key.name, draft, status::MANAGER, version).await
        };
        let (version, known) = self.remembered.stored.clone().unwrap_or_else(|| seen(self.guard));
        let written = match over(Some(&version), &self.draft).await {
            Err(error) if error.is_conflict() => {
                let Some(guard) = status::stored(api, &self.key.name).await? else { return Err(error.into()) };
                let stored = seen(&guard);
                if stored.1 != known {
                    let status = guard.status.unwrap_or_default();
                    self.before = Remembered {
                        uid: self.before.uid.clone(),
                        status,
                        stored: Some(stored),
                        counted_as: self.before.counted_as,
                        ..Remembered::default()
                    };
                    return Err(Error::StatusTaken);
                }
                over(Some(&stored.0), &self.draft).await?
            }
            written => written?,
        };
        let stored = Some(seen(&written));
        self.remembered.stored.clone_from(&stored);
        self.before.stored = stored;
        Ok(())
    }

    /// A step failed: the next look begins where this one did, but for what was written, so that nothing is lost and
    /// nothing is done twice.
    ///
    /// # Errors
    /// Always: the step's error.
    pub fn give_up(self, error: Error) -> Result<Action, Error> {
        self.ctx.memory.keep(&self.key, self.before);
        self.ctx.memory.restore(&self.key, self.changes);
        Err(error)
    }

    async fn tell(&mut self) {
        let guard = self.guard.object_ref(&());
        let workload = self.draft.target.as_ref().map(|target| ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some(target.kind.clone()),
            name: Some(target.name.clone()),
            namespace: Some(self.key.namespace.clone()),
            uid: Some(target.uid.clone()),
            ..Default::default()
        });
        for (reason, text, about) in std::mem::take(&mut self.notes) {
            tracing::info!(
                namespace = %self.key.namespace,
                guard = %self.key.name,
                reason = reason.as_str(),
                "{text}"
            );
            let failed = self.ctx.events.publish(&guard, about.as_ref().or(workload.as_ref()), reason, &text).await;
            self.ctx.metrics.event(if failed == 0 { "ok" } else { "error" });
        }
    }
}

fn requeue(until: Option<Timestamp>, now: Timestamp) -> Action {
    let wait = until.map_or(IDLE, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    // A moment later than asked, so that the time has come when the look begins.
    Action::requeue(wait.min(IDLE).max(Duration::from_millis(20)))
}

/// A guard's place.
#[must_use]
pub fn guard_key(guard: &DeploymentGuard) -> Option<GuardKey> {
    Some(GuardKey { namespace: guard.namespace()?, name: guard.name_any() })
}

/// The place of a guard's workload.
fn target_key(guard: &DeploymentGuard) -> WorkloadKey {
    let namespace: Arc<str> = guard.namespace().unwrap_or_default().into();
    let target = parse::target(&guard.spec)
        .unwrap_or_else(|_| Target { kind: crate::domain::policy::Kind::Deployment, name: String::new() });
    WorkloadKey { namespace, target }
}

/// A guard's version, and what stands for its status.
fn seen(guard: &DeploymentGuard) -> (String, u64) {
    (guard.resource_version().unwrap_or_default(), status::fingerprint(&guard.status.clone().unwrap_or_default()))
}

fn relation(guard: &Arc<DeploymentGuard>) -> Option<(GuardKey, Option<Timestamp>, WorkloadKey)> {
    Some((guard_key(guard)?, created(guard), target_key(guard)))
}

fn created(guard: &DeploymentGuard) -> Option<Timestamp> {
    guard.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

/// Changes whenever a change of the class could change the policy, or a person answered.
fn versions(ctx: &Context, guard: &DeploymentGuard) -> String {
    let class = match ctx.class_of(guard) {
        Ok(class) => format!("{}@{}", class.name_any(), class.metadata.generation.unwrap_or_default()),
        Err(error) => error.to_string(),
    };
    let said = |key: &&str| guard.annotations().get(*key).cloned().unwrap_or_default();
    let said: Vec<String> = [approval::APPROVE, approval::REJECT, approval::RETRY].iter().map(said).collect();
    format!("{class} {said:?}")
}
