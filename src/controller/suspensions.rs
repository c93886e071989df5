//! Syncs that are suspended for an undo, and given back.
//!
//! Role: suspends before an undo, sweeps what has lasted long enough, also when its guard is gone. Inputs: a case; watched
//! workloads and objects found by their label. Outputs: writes through `act`, events. Must never import: `cli`, `console`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

use super::case::Case;
use super::context::Context;
use crate::act::{Act, ActError, Found, Resumed, Suspended};
use crate::api::status::time;
use crate::domain::git_ops::{Marker, Object, Place, Why};
use crate::domain::plan::PendingUndo;
use crate::domain::policy::{GitOpsPolicy, Policy};
use crate::domain::redact::Redactor;
use crate::domain::rollout::Workload;
use crate::leader::Leadership;
use crate::observe::pods::WorkloadKey;
use crate::observe::workload::{self, Seen};
use crate::record::events::{EventReason, Events};
use crate::telemetry::metrics::Metrics;

/// How often suspended workloads are looked at: nothing but memory is read while there are none.
const EVERY: Duration = Duration::from_secs(5);
/// How often suspended objects are looked for that are not watched, while there are some.
const OTHERS: Duration = Duration::from_secs(15);
/// Suspended workloads of one round; the rest has to wait for the next.
const AT_ONCE: usize = 100;

/// What this process knows of suspensions without a watch.
#[derive(Debug)]
pub struct Suspensions {
    /// There may be suspended objects that are not watched.
    others: AtomicBool,
}

impl Default for Suspensions {
    fn default() -> Self {
        // Whoever led before may have left some.
        Self { others: AtomicBool::new(true) }
    }
}

/// Suspends what would revert the undo, if the guard wants that.
///
/// # Errors
/// When it is not known whether it is suspended; then nothing is undone yet.
pub async fn before_undo(
    case: &mut Case<'_>,
    policy: &Policy,
    workload: &Workload,
    undo: &PendingUndo,
) -> Result<Suspended, ActError> {
    let Some(applier) = workload.applier.as_ref().filter(|_| policy.rollback.git_ops == GitOpsPolicy::Suspend) else {
        return Ok(Suspended::NotNeeded);
    };
    let wanted = Marker {
        decision: undo.decision.clone(),
        // Counted from the decision, so that one that is carried out again writes the same.
        until: undo.intended.checked_add(policy.rollback.suspend_for).unwrap_or(Timestamp::MAX),
        bad: undo.from.to_string(),
        restored: undo.to.to_string(),
        before: Value::Null,
        kustomization: None,
        git: None,
    };
    let leadership = case.ctx.leadership.clone();
    let target = (case.key.namespace.as_str(), &case.target.target, &*workload.uid);
    let suspended = case.ctx.act.suspend(applier, target, &wanted, &move || leadership.holds()).await?;
    if let Suspended::Done { place, git } = &suspended {
        if !matches!(place.object, Object::Workload(_)) {
            case.ctx.suspensions.others.store(true, Ordering::Relaxed);
        }
        let until = time(wanted.until);
        let or_earlier = match git {
            Some(_) => "or until there is a new revision",
            None => "because what Git holds may not be read",
        };
        let message = format!(
            "{applier} does not apply the workload until {until}, {or_earlier}: {place} is suspended for decision {}",
            undo.decision
        );
        case.note(EventReason::SyncSuspended, message);
    }
    Ok(suspended)
}

/// Gives back at once what was suspended for an undo that is not made. What fails here ends with its time.
pub async fn without_undo(case: &Case<'_>, place: &Place, decision: &str) {
    let is_ours = |marker: &Marker| marker.decision == decision;
    // Said by the giver; there is nothing else to do.
    let _ = Giver::of(case.ctx).give_back_if(place, &is_ours, decision, "the undo was not made").await;
}

/// The same for a workload that carries the marker of a decision.
pub async fn without_undo_of(case: &Case<'_>, workload: &Workload, decision: &str) {
    if workload.suspension.as_ref().is_some_and(|marker| marker.decision == decision) {
        without_undo(case, &place(&case.target), decision).await;
    }
}

/// Gives back what has been suspended long enough, for ever.
pub async fn sweep(ctx: Arc<Context>) {
    let mut known = Known::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if !ctx.leadership.holds() {
            known = Known::default();
            ctx.suspensions.others.store(true, Ordering::Relaxed);
            continue;
        }
        let suspended = ctx.workloads.suspended();
        known.templates.retain(|key, _| suspended.iter().any(|(other, _)| other == key));
        for (key, seen) in suspended.into_iter().take(AT_ONCE) {
            of_workload(&ctx, &mut known, &key, &seen).await;
        }
        others(&ctx, &mut known).await;
    }
}

/// What a round leaves to the next.
#[derive(Default)]
struct Known {
    /// The revision of a workload at a generation.
    templates: HashMap<WorkloadKey, (i64, String)>,
    /// When suspended objects that are not watched were looked for.
    asked: Option<Instant>,
}

async fn of_workload(ctx: &Context, known: &mut Known, key: &WorkloadKey, seen: &Seen) {
    let Some(marker) = &seen.suspension else { return };
    let git = match marker.kustomization.as_deref().filter(|_| marker.git.is_some()) {
        Some(kustomization) => ctx.act.flux_revision(kustomization, &key.namespace, &key.target).await,
        None => None,
    };
    let template = template(ctx, known, key, seen).await;
    if let Some(why) = marker.ends(ctx.now(), template.as_deref(), git.as_deref()) {
        give_back(ctx, &place(key), marker, &why).await;
    }
}

/// The revision that a workload carries, read once a generation.
async fn template(ctx: &Context, known: &mut Known, key: &WorkloadKey, seen: &Seen) -> Option<String> {
    if let Some((generation, revision)) = known.templates.get(key)
        && *generation == seen.generation
    {
        return Some(revision.clone());
    }
    // What cannot be read now can be later; the time runs on.
    let workload = workload::fetch(&ctx.client, key).await.ok().flatten()?;
    let revision = workload.current?.to_string();
    known.templates.insert(key.clone(), (workload.generation, revision.clone()));
    Some(revision)
}

async fn others(ctx: &Context, known: &mut Known) {
    if !ctx.suspensions.others.load(Ordering::Relaxed) || known.asked.is_some_and(|asked| asked.elapsed() < OTHERS) {
        return;
    }
    known.asked = Some(Instant::now());
    let all = match ctx.act.suspended().await {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "suspended objects were not found and are looked for again");
            return;
        }
    };
    let all: Vec<Found> = all.into_iter().flatten().flatten().collect();
    ctx.suspensions.others.store(!all.is_empty(), Ordering::Relaxed);
    for Found { place, marker, git } in all {
        if let Some(why) = marker.ends(ctx.now(), None, git.as_deref()) {
            give_back(ctx, &place, &marker, &why).await;
        }
    }
}

async fn give_back(ctx: &Context, place: &Place, marker: &Marker, why: &Why) {
    // Said by the giver, and tried again in the next round.
    let _ = Giver::of(ctx).give_back(place, marker, &why.to_string()).await;
}

/// What giving back needs.
pub struct Giver<'a> {
    /// Writes.
    pub act: &'a Act,
    /// Whether we may.
    pub leadership: &'a Leadership,
    /// Told about it.
    pub events: &'a Events,
    /// Counts.
    pub metrics: &'a Metrics,
    /// Blacks out what must not be shown.
    pub redactor: &'a Redactor,
}

impl<'a> Giver<'a> {
    fn of(ctx: &'a Context) -> Self {
        let Context { act, leadership, events, metrics, redactor, .. } = ctx;
        Self { act, leadership, events, metrics, redactor }
    }

    /// Gives back what carries this marker; one that was prolonged meanwhile is another one.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before the write; it was said.
    pub async fn give_back(&self, place: &Place, marker: &Marker, why: &str) -> Result<Resumed, ActError> {
        self.give_back_if(place, &|fresh| fresh == marker, &marker.decision, why).await
    }

    async fn give_back_if(
        &self,
        place: &Place,
        is_due: &(dyn Fn(&Marker) -> bool + Send + Sync),
        decision: &str,
        why: &str,
    ) -> Result<Resumed, ActError> {
        let leadership = self.leadership.clone();
        let resumed = self.act.resume(place, is_due, &move || leadership.holds()).await;
        self.tell(place, decision, why, &resumed).await;
        resumed
    }

    async fn tell(&self, place: &Place, decision: &str, why: &str, resumed: &Result<Resumed, ActError>) {
        let decision = self.redactor.redact(decision, crate::domain::redact::SERVER_MESSAGE);
        match resumed {
            Ok(Resumed::Done) => {
                let text = format!("{place} is no longer suspended for decision {}: {why}", decision.as_str());
                tracing::info!("{text}");
                let failed = self.events.publish(&reference(place), None, EventReason::SyncResumed, &text).await;
                self.metrics.event(if failed == 0 { "ok" } else { "error" });
            }
            Ok(Resumed::NotDue) => {}
            Ok(Resumed::Refused(message)) => {
                let message = message.as_str();
                tracing::warn!(%place, message, "the suspended sync could not be given back and is tried again");
            }
            Err(error) => tracing::warn!(%error, %place, "the suspended sync was not given back yet"),
        }
    }
}

pub(super) fn place(key: &WorkloadKey) -> Place {
    Place { namespace: key.namespace.to_string(), object: Object::Workload(key.target.clone()) }
}

fn reference(place: &Place) -> ObjectReference {
    let (api_version, kind, name) = match &place.object {
        Object::Workload(target) => ("apps/v1", target.kind.name(), &target.name),
        Object::HelmRelease(name) => ("helm.toolkit.fluxcd.io/v2", "HelmRelease", name),
        Object::Application(name) => ("argoproj.io/v1alpha1", "Application", name),
    };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.clone()),
        namespace: Some(place.namespace.clone()),
        ..ObjectReference::default()
    }
}
