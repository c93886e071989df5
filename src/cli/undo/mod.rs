//! `deployment-guard undo`: the safe undo, made by a person.
//!
//! Role: finds what to go back to, shows what that changes, and lets `act` do it exactly as the operator does. Inputs: the
//! cluster, with the rights of whoever asks; a guard is used where there is one. Outputs: lines; 0 if undone or shown, 1 if
//! something objects, 2 for usage and rights, 4 without an API server. Must never import: `console`. It writes once, or not at all.

mod choice;
mod diff;

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use self::choice::{Route, route};
use self::diff::{Change, diff};
use super::cluster::{self, Cluster, Failure};
use super::explain::plain;
use super::guards::{self, Place};
use super::status::said;
use super::{answer, screen};
use crate::act::{Act, ActError, Preview, UndoOutcome};
use crate::api::status::DeploymentGuardStatus;
use crate::controller::progress;
use crate::domain::guardrail::{self, Clamp};
use crate::domain::plan::Progress;
use crate::domain::policy::{Kind, Target};
use crate::domain::recommend;
use crate::domain::redact::Redactor;
use crate::domain::rollout::Workload;
use crate::domain::undo::{KeptTemplate, UndoRequest};

/// Exit code where something objects.
const NOT_DONE: u8 = 1;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Put the last good revision of a workload back: only if nobody changed it meanwhile, only if nothing would revert it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A guard, or a workload such as deployment/api, statefulset/db or daemonset/agent, which needs no guard.
    name: String,
    #[command(flatten)]
    place: Place,
    /// Show what would change, ask the API server whether it would take it, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Hash of the revision to go back to; else the newest that proved good, or the one before.
    #[arg(long, value_name = "HASH")]
    to_revision: Option<String>,
    /// Undo without being asked.
    #[arg(short, long)]
    yes: bool,
}

/// Undoes.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cluster::run(undo(arguments))?.or_else(Failure::report)
}

/// What is undone, and the guard that watches it.
struct Case {
    target: Target,
    guard: Option<Value>,
    workload: Workload,
    progress: Progress,
}

async fn undo(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let cluster = arguments.place.connect().await?;
    let case = find(&cluster, arguments).await?;
    if let Some(why) = under_way(&case) {
        return Err(Failure::Refused(why));
    }
    let route = route(&case.workload, &case.progress, arguments.to_revision.as_deref())
        .map_err(|why| Failure::Refused(format!("{} in namespace {}: {why}", case.target, cluster.namespace)))?;
    if let Some(clamp) = guardrail::objection_to_a_person(&case.workload, &route.from, &route.to.revision) {
        return Ok(objected(&cluster, &case, &route, &clamp));
    }
    let request = request(&cluster, &case, &route);
    let act = Act::new(cluster.client.clone(), Arc::new(Redactor::new()), CALL_TIMEOUT);
    // Whether to act is for the person to say, not for a leader; what is written is tested by the API server.
    let fence = || true;
    let preview = act.preview(&request, &fence).await.map_err(|error| failed(&cluster, error, None))?;
    let (present, good) = match preview {
        Preview::Would { present, good, .. } => (present, good),
        Preview::WouldNot(outcome) => return concluded(&cluster, &case, &route, &outcome),
    };
    show(&cluster, &case, &route, &diff(&present, &good, &Redactor::new()))?;
    if arguments.dry_run {
        return said("Dry run: the API server would take it, and nothing was changed.\n");
    }
    if !arguments.yes {
        let namespace = &cluster.namespace;
        let instead = format!(
            "{} undo -n {namespace} {} --to-revision {} --yes",
            super::program(),
            arguments.name,
            route.to.revision
        );
        answer::ask("Undo?", &instead)?;
    }
    let outcome = act.undo(&request, &fence).await.map_err(|error| failed(&cluster, error, Some(&route)))?;
    concluded(&cluster, &case, &route, &outcome)
}

/// The workload that a name means, and its guard.
async fn find(cluster: &Cluster, arguments: &Arguments) -> Result<Case, Failure> {
    let (target, guard) = match arguments.name.split_once('/') {
        Some((kind, name)) => {
            let target = Target { kind: kind_of(kind).map_err(Failure::Refused)?, name: name.to_owned() };
            check(&target.name)?;
            let guard = guard_of(cluster, &target).await?;
            (target, guard)
        }
        None => by_bare_name(cluster, &arguments.name).await?,
    };
    let mut workload = cluster.workload(&target).await?.ok_or_else(|| {
        Failure::Refused(format!("there is no {target} in namespace {}; -n names another one", cluster.namespace))
    })?;
    let progress = match &guard {
        Some(guard) => remembered(guard, arguments.to_revision.is_some()).map_err(Failure::Refused)?,
        None => Progress::default(),
    };
    workload.kept = progress.kept();
    Ok(Case { target, guard, workload, progress })
}

fn check(name: &str) -> Result<(), Failure> {
    guards::not_a_name(name)
        .map_or(Ok(()), |_| Err(Failure::Refused(format!("\"{}\" is no name of a workload", plain::line(name)))))
}

/// A name without a kind: of a guard, or of the only workload that has it.
async fn by_bare_name(cluster: &Cluster, name: &str) -> Result<(Target, Option<Value>), Failure> {
    check(name)?;
    let guard = match guards::find(cluster, name).await {
        Ok(guard) => guard,
        Err(failure @ Failure::Unreachable(_)) => return Err(failure),
        // Without the right to read guards it may be a workload.
        Err(Failure::Refused(_)) => None,
    };
    let Some(guard) = guard else {
        let target = only_workload(cluster, name).await?;
        let guard = guard_of(cluster, &target).await?;
        return Ok((target, guard));
    };
    let target = guards::target(&guard).map_err(Failure::Refused)?;
    if target.name != name {
        let others = workloads(cluster, name).await?;
        if let Some(other) = others.first() {
            return Err(Failure::Refused(format!(
                "{name} is ambiguous in namespace {}: the guard of that name guards {target}, and there is {other}; say \
                 {target} or {other}",
                cluster.namespace
            )));
        }
    }
    Ok((target, Some(guard)))
}

/// The guard of a workload; of several one that is about to act.
async fn guard_of(cluster: &Cluster, target: &Target) -> Result<Option<Value>, Failure> {
    let mut guards = guards::of_workload(cluster, target).await?;
    guards.sort_by_key(|guard| !acts(guard));
    Ok(guards.into_iter().next())
}

/// Whether it undoes, or waits for an answer, as far as any version says so.
fn acts(guard: &Value) -> bool {
    ["undo", "pendingAction"].iter().any(|field| guard["status"][field].is_object())
}

fn kind_of(word: &str) -> Result<Kind, String> {
    let word = word.to_lowercase();
    let short = |kind: Kind| match kind {
        Kind::Deployment => "deploy",
        Kind::StatefulSet => "sts",
        Kind::DaemonSet => "ds",
    };
    let bare = word.split('.').next().unwrap_or_default();
    let known = Kind::ALL.into_iter().find(|kind| [kind.resource(), kind.plural(), short(*kind)].contains(&bare));
    known.ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.resource()).collect();
        format!("{} is no kind that can be undone{}", plain::line(&word), guards::suggestion(&word, &known))
    })
}

/// The workloads of a name.
async fn workloads(cluster: &Cluster, name: &str) -> Result<Vec<Target>, Failure> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let target = Target { kind, name: name.to_owned() };
        if cluster.workload(&target).await?.is_some() {
            found.push(target);
        }
    }
    Ok(found)
}

/// The one workload of a name; several are asked about.
async fn only_workload(cluster: &Cluster, name: &str) -> Result<Target, Failure> {
    let found = workloads(cluster, name).await?;
    let namespace = &cluster.namespace;
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::Refused(format!(
            "there is neither a guard nor a workload {} in namespace {namespace}; -n names another one",
            plain::line(name)
        ))),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::Refused(format!("{name} is ambiguous in namespace {namespace}: say {}", several.join(" or "))))
        }
    }
}

/// What the guard remembers. If another version wrote it so that it cannot be read, nobody knows which revisions it undid:
/// then a person has to name one, and the guard must not be acting.
fn remembered(guard: &Value, named: bool) -> Result<Progress, String> {
    if guard["status"].is_null() {
        return Ok(Progress::default());
    }
    match serde_json::from_value::<DeploymentGuardStatus>(guard["status"].clone()) {
        Ok(status) => Ok(progress::read(&status)),
        Err(_) if acts(guard) => Err(format!(
            "the guard is undoing something or waits for an answer, and its status is of another version: use {} of the \
             operator's version",
            super::program()
        )),
        Err(_) if named => Ok(Progress::default()),
        Err(_) => Err(format!(
            "the guard's status is of another version, so it is not known which revisions proved good and which were undone: \
             name one with --to-revision, or use {} of the operator's version",
            super::program()
        )),
    }
}

/// Why it is left to the guard: there is one undo at a time.
fn under_way(case: &Case) -> Option<String> {
    let of_this = |uid: &str| *uid == *case.workload.uid;
    if let Some(undo) = case.progress.undo.as_ref().filter(|undo| of_this(&undo.workload_uid)) {
        return Some(format!(
            "the guard is undoing revision {} at this moment (decision {})",
            undo.from, undo.decision
        ));
    }
    let pending = case.progress.pending.as_ref().filter(|pending| of_this(&pending.workload_uid))?;
    let line = case.guard.as_ref().and_then(answer::waits)?;
    Some(format!("decision {} of the guard waits for a person: answer that one instead: {line}", pending.decision))
}

fn request(cluster: &Cluster, case: &Case, route: &Route) -> UndoRequest {
    let kept = case.progress.kept().remove(&route.to.revision);
    let owner = case.guard.as_ref().and_then(|guard| guard["metadata"]["uid"].as_str()).unwrap_or_default();
    UndoRequest {
        decision_id: choice::id(&route.from, Timestamp::now()),
        namespace: cluster.namespace.clone(),
        target: case.target.clone(),
        uid: case.workload.uid.clone(),
        from: route.from.clone(),
        to: route.to.revision.clone(),
        kept: kept.map(|kept| KeptTemplate { name: kept.name, template: kept.template, owner: owner.to_owned() }),
    }
}

/// What would change.
fn show(cluster: &Cluster, case: &Case, route: &Route, changes: &[Change]) -> Result<(), Failure> {
    let look = super::terminal::Terminal::of_output().look;
    let mut page = screen::Page::new(look);
    let (from, to) = (&route.from, &route.to.revision);
    let trust = route.to.trust.sentence();
    page.words(
        0,
        screen::Tone::Strong,
        &format!("{} in namespace {}: from revision {from} back to {to}; {trust}.", case.target, cluster.namespace),
    );
    for change in changes {
        let (sign, tone, text) = match (&change.before, &change.after) {
            (Some(before), Some(after)) => ("~", screen::Tone::Warn, format!("{}: {before} -> {after}", change.path)),
            (None, Some(after)) => ("+", screen::Tone::Good, format!("{}: {after}", change.path)),
            (before, None) => {
                ("-", screen::Tone::Bad, format!("{}: {}", change.path, before.as_deref().unwrap_or_default()))
            }
        };
        page.words(2, tone, &format!("{sign} {text}"));
    }
    said(&page.finish()).map(|_| ())
}

/// Nothing is done; what a person would do instead is said.
fn objected(cluster: &Cluster, case: &Case, route: &Route, clamp: &Clamp) -> ExitCode {
    super::terminal::note(&format!("not undone ({}): {}", clamp.reason, plain::line(&clamp.message)));
    let to = Some(&route.to);
    for command in recommend::commands(&cluster.namespace, &case.target, &case.workload, to, clamp.reason) {
        super::terminal::note(&format!("  {}", plain::line(&command)));
    }
    ExitCode::from(NOT_DONE)
}

/// What became of it.
fn concluded(cluster: &Cluster, case: &Case, route: &Route, outcome: &UndoOutcome) -> Result<ExitCode, Failure> {
    let (from, to) = (&route.from, &route.to.revision);
    let why = match outcome {
        UndoOutcome::Patched { only_in_good, .. } => {
            let mut text = format!(
                "Put revision {to} back in the place of {from}. See: kubectl -n {} rollout status {}\n",
                cluster.namespace, case.target
            );
            if !only_in_good.is_empty() {
                let fields: Vec<String> = only_in_good.iter().map(|field| plain::line(field)).collect();
                let fields = fields.join(", ");
                let _ = writeln!(
                    text,
                    "The next client-side apply will not remove what only the restored template has: {fields}"
                );
            }
            return said(&text);
        }
        UndoOutcome::AlreadyDone { .. } | UndoOutcome::AlreadyCurrent => {
            return said(&format!("The workload carries revision {to} already; nothing was changed.\n"));
        }
        UndoOutcome::Superseded => "another template was pushed in between, and stands".to_owned(),
        UndoOutcome::Paused => "the Deployment is paused; resume it with kubectl rollout resume".to_owned(),
        UndoOutcome::Gone(_) => "the workload is gone, or was made anew".to_owned(),
        UndoOutcome::NothingToGoBackTo => format!("revision {to} no longer exists; push a fixed version"),
        UndoOutcome::Unreadable => format!("what revision {to} holds is no pod template; push a fixed version"),
        UndoOutcome::PortMissing(lost) => format!(
            "Service {} targets the port {:?}, which revision {to} does not have: it would lead nowhere; roll back the \
             Service as well",
            lost.service, lost.port
        ),
        UndoOutcome::AdmissionRejected { message } => {
            format!("the API server's rights or policies refuse it: {}", message.as_str())
        }
        UndoOutcome::Failed { message } => format!("the API server refuses it: {}", message.as_str()),
    };
    super::terminal::note(&format!("not undone: {}", plain::line(&why)));
    Ok(ExitCode::from(NOT_DONE))
}

fn failed(cluster: &Cluster, error: ActError, sent: Option<&Route>) -> Failure {
    let again = |route: &Route| {
        format!(
            "; whether it was undone is not known: run it again with --to-revision {}, which undoes nothing twice",
            route.to.revision
        )
    };
    let after = sent.map(again).unwrap_or_default();
    match error {
        ActError::TimedOut { .. } | ActError::Transport { .. } => {
            Failure::Unreachable(format!("context {}: {error}{after}", cluster.context))
        }
        ActError::Api { code: 500.., .. } => Failure::Unreachable(format!("{error}{after}")),
        ActError::Api { code: 403, message, step } => {
            Failure::Refused(format!("you may not go on with {step}: {}", message.as_str()))
        }
        other => Failure::Refused(other.to_string()),
    }
}
