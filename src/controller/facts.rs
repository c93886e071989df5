//! Hard facts in a look: what pods show, what their events tell, what the cluster around them does.
//!
//! Role: gathers what the domain weighs, and watches on while metrics are being read. Inputs: a case, the indexes.
//! Outputs: a `Report`. Must never import: `cli`, `console`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;

use serde_json::json;

use super::case::Case;
use super::context::Context;
use super::judge;
use super::memory::GuardKey;
use crate::api::condition::{Truth, Type};
use crate::api::status::time;
use crate::domain::facts::{self, Around, FactInput, HardFact, Report, Told, registry};
use crate::domain::plan::{self, Current};
use crate::domain::pod::{ContainerFact, Exit, Family, is_refused};
use crate::domain::policy::Policy;
use crate::domain::rollout::{PodFact, Side, Workload};
use crate::observe::events;

/// Pods whose events are read in one look, at most.
const MOST_ASKED: usize = 20;
/// At once.
const ASKED_AT_ONCE: usize = 5;
/// Between two reads of one pod's events while nothing happens.
const EVENTS_PAUSE: Duration = Duration::from_secs(2);
/// The kubelet may write an event a moment after the status that it explains.
const EVENTS_SETTLE: Duration = Duration::from_secs(15);
/// Longest sentence of a fact.
const SENTENCE: usize = 1536;
/// Pods of which a decision keeps what was seen.
const MOST_PROOF: usize = 6;
/// And of each container, so many of its last ends.
const MOST_EXITS: usize = 4;
/// Longest words of a finding.
const CONTEXT: usize = 512;

/// What events told of a pod, and when it was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How often its containers had ended by then.
    ended: u32,
    at: Timestamp,
    told: Told,
}

/// What events told of pods, by uid.
pub type Answers = HashMap<Arc<str>, Asked>;

/// Looks at the pods of a rollout; reads events where their status raises a question.
pub async fn look(
    case: &mut Case<'_>,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    pods: &[PodFact],
) -> Report {
    let now = case.now;
    let ask = |pod: &PodFact| {
        let (client, pod) = (case.ctx.client.clone(), pod.clone());
        async move {
            let answer = events::told(&client, &pod, now).await;
            (pod, answer)
        }
    };
    let known = case.known_answers();
    let reads: Vec<_> = facts::questions(&policy.pods, current, pods, now)
        .into_iter()
        .filter(|pod| is_due(known.get(&pod.uid), pod, now))
        .take(MOST_ASKED)
        .map(ask)
        .collect();
    let answers: Vec<_> = futures::stream::iter(reads).buffer_unordered(ASKED_AT_ONCE).collect().await;
    for (pod, answer) in answers {
        match answer {
            Ok(told) => {
                case.answers().insert(pod.uid.clone(), Asked { ended: pod.ended(), at: now, told });
            }

            // Without its events a kill by a probe counts as what it is in the status: an end of the container.
            Err(error) => {
                let text = case.ctx.redactor.redact(&error.to_string(), CONTEXT);
                tracing::debug!(error = text.as_str(), "events could not be read");
                let told = case.known_answers().get(&pod.uid).map(|asked| asked.told.clone()).unwrap_or_default();
                case.answers().insert(pod.uid.clone(), Asked { ended: pod.ended(), at: now, told });
            }
        }
    }
    let told = told(case.answers());
    // Words from outside are cleaned one by one, before sentences are made of them.
    let pods: Vec<PodFact> = pods.iter().map(|pod| cleaned(case.ctx, pod)).collect();
    let mut report = state(case.ctx, now, policy, current, workload, &pods, &told);
    redact(case.ctx, &mut report);
    report
}

/// Puts what was found into status, and a hold into the conditions; facts are said with their decision.
pub fn say(case: &mut Case<'_>, report: &Report) {
    if let Some(next) = report.next {
        case.wake_at(next);
    }
    if let Some(hold) = &report.hold {
        judge::alert(case, hold.reason, &hold.message);
        case.observe_condition(Type::Healthy, Truth::Unknown, hold.reason, &hold.message);
        case.observe_condition(Type::Reconciling, true, hold.reason, &hold.message);
    }
}

/// What a fact was read from, to be kept with the decision: pods of both revisions as they were seen.
#[must_use]
pub fn proof(fact: &HardFact, current: &Current, pods: &[PodFact]) -> serde_json::Value {
    let exit = |exit: &Exit| json!({"at": time(exit.at), "code": exit.code, "reason": &*exit.reason});
    let container = |container: &ContainerFact| {
        json!({
            "name": &*container.name,
            "role": container.role.noun(),
            "ended": container.ended,
            "exits": container.exits.iter().rev().take(MOST_EXITS).map(exit).collect::<Vec<_>>(),
            "ready": container.ready,
            "trouble": container.trouble.as_ref().map(|trouble| json!({
                "reason": &*trouble.reason,
                "since": time(trouble.since),
                "hopelessSince": trouble.hopeless_since.map(time),
            })),
        })
    };
    let pod = |pod: &PodFact| {
        json!({
            "name": &*pod.pod.name,
            "side": plan::side(current, pod).map(|side| if side == Side::New { "new" } else { "old" }),
            "node": pod.node.as_deref(),
            "created": time(pod.created),
            "readySince": pod.ready_since.map(time),
            "containers": pod.containers.iter().map(container).collect::<Vec<_>>(),
        })
    };
    let mut of_sides: Vec<&PodFact> = pods.iter().filter(|pod| plan::side(current, pod).is_some()).collect();
    // A sample has room for few: those that failed first.
    of_sides.sort_by_key(|pod| (plan::side(current, pod), pod.ready_since.is_some(), Reverse(pod.ended())));
    json!({
        "fact": fact.kind.reason().as_str(),
        "oldStartExits": current.baseline_start.map(|start| start.exits),
        "pods": of_sides.into_iter().take(MOST_PROOF).map(pod).collect::<Vec<_>>(),
    })
}

fn is_due(asked: Option<&Asked>, pod: &PodFact, now: Timestamp) -> bool {
    let Some(asked) = asked else { return true };
    let fresh = |at: Timestamp| at.checked_add(EVENTS_SETTLE).is_ok_and(|until| now < until);
    let ended_lately = pod.containers.iter().filter_map(|container| container.exits.last()).any(|exit| fresh(exit.at));
    let again = asked.at.checked_add(EVENTS_PAUSE).is_ok_and(|at| at <= now);
    asked.ended != pod.ended() || (ended_lately && again) || (pod.ended() == 0 && !fresh(asked.at))
}

fn told(answers: &Answers) -> BTreeMap<Arc<str>, Told> {
    answers.iter().map(|(uid, asked)| (uid.clone(), asked.told.clone())).collect()
}

fn state(
    ctx: &Context,
    now: Timestamp,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    pods: &[PodFact],
    told: &BTreeMap<Arc<str>, Told>,
) -> Report {
    let owners = workload.pod_owners();
    let namespace = pods.first().map_or("", |pod| &*pod.pod.namespace);
    let around = Cluster { ctx, ours: &owners, namespace };
    facts::report(&FactInput { now, policy: &policy.pods, current, workload, pods, told, around: &around })
}

/// What a fact is watched for with, while something slow goes on.
pub struct Watched {
    key: GuardKey,
    policy: Policy,
    current: Current,
    workload: Workload,
    told: BTreeMap<Arc<str>, Told>,
    next: Option<Timestamp>,
    /// What was found when the watch began.
    shown: Vec<String>,
    since: Timestamp,
}

/// What pods show is shown after this long, even if metrics are still being read.
const PATIENCE: Duration = Duration::from_secs(1);

fn issues(report: &Report) -> Vec<String> {
    report.findings.iter().map(|finding| finding.issue.clone()).collect()
}

impl Watched {
    /// What this look knows.
    pub fn of(case: &mut Case<'_>, policy: &Policy, current: &Current, workload: &Workload, report: &Report) -> Self {
        Self {
            key: case.key.clone(),
            policy: policy.clone(),
            current: current.clone(),
            workload: workload.clone(),
            told: told(case.answers()),
            next: report.next,
            shown: issues(report),
            since: case.now,
        }
    }

    /// Waits until pods prove the release bad, or show something new that a slow read would keep from being seen: a dead
    /// Prometheus must not keep a crash loop waiting.
    pub async fn until_proven(mut self, ctx: &Context) -> Vec<PodFact> {
        let changed = ctx.memory.pods_of(&self.key);
        let owners = self.workload.pod_owners();
        loop {
            let now = ctx.now();
            let wait =
                self.next.map_or(Duration::MAX, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(wait.min(Duration::from_mins(10)).max(Duration::from_millis(20))) => {}
            }
            let now = ctx.now();
            let pods = ctx.pods.of_owners(&owners);
            let report = state(ctx, now, &self.policy, &self.current, &self.workload, &pods, &self.told);
            let patient = self.since.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
            let news = issues(&report) != self.shown;
            if report.fact.is_some() || (news && now >= patient) {
                return pods;
            }
            self.next = report.next.into_iter().chain(news.then_some(patient)).filter(|next| *next > now).min();
        }
    }
}

fn cleaned(ctx: &Context, pod: &PodFact) -> PodFact {
    let clean = |text: &mut Arc<str>| {
        if !text.is_empty() {
            *text = ctx.redactor.redact(text, CONTEXT).as_str().into();
        }
    };
    let mut pod = pod.clone();
    for container in &mut pod.containers {
        container.exits.iter_mut().filter_map(|exit| exit.message.as_mut()).for_each(clean);
        if let Some(trouble) = &mut container.trouble {
            clean(&mut trouble.message);
        }
    }
    pod.unschedulable.iter_mut().for_each(clean);
    pod
}

/// Words of the kubelet, of runtimes and of containers are from outside.
fn redact(ctx: &Context, report: &mut Report) {
    let clean = |text: &mut String, most: usize| {
        let redacted = ctx.redactor.redact(text, most);
        redacted.as_str().clone_into(text);
    };
    if let Some(fact) = &mut report.fact {
        clean(&mut fact.sentence, SENTENCE);
        fact.sample.message = ctx.redactor.redact(&fact.sample.message, CONTEXT).as_str().into();
    }
    if let Some(hold) = &mut report.hold {
        clean(&mut hold.message, SENTENCE);
    }
    for finding in &mut report.findings {
        clean(&mut finding.context, CONTEXT);
    }
}

/// The rest of the cluster, as the watches show it.
struct Cluster<'a> {
    ctx: &'a Context,
    ours: &'a BTreeSet<Arc<str>>,
    namespace: &'a str,
}

impl Cluster<'_> {
    /// What is said of it names no pod of another tenant.
    fn first_other(&self, is: impl Fn(&PodFact) -> bool) -> Option<String> {
        let fails = |pod: &PodFact| pod.is_live() && pod.disrupted.is_none() && is(pod);
        let found = self.ctx.pods.other(self.ours, fails)?;
        let is_ours = *found.pod.namespace == *self.namespace;
        Some(if is_ours { found.pod.to_string() } else { "a pod of another namespace".to_owned() })
    }
}

impl Around for Cluster<'_> {
    fn node_trouble(&self, node: &str, since: Timestamp) -> Option<Arc<str>> {
        self.ctx.nodes.trouble(node, since)
    }

    fn node_well_since(&self, node: &str) -> Option<Timestamp> {
        self.ctx.nodes.well_since(node)
    }

    fn fails_on(&self, node: &str, since: Timestamp) -> Option<String> {
        self.first_other(|pod| {
            pod.node.as_deref() == Some(node)
                && pod.containers.iter().any(|container| {
                    let stuck = container.trouble.as_ref().is_some_and(|trouble| trouble.since >= since);
                    // What has been ending for days says nothing about its node today.
                    let all_seen = usize::try_from(container.ended).is_ok_and(|ended| ended == container.exits.len());
                    let began = all_seen && container.exits.iter().all(|exit| exit.code.is_some() && exit.at >= since);
                    (stuck && pod.created >= since) || (began && !container.exits.is_empty())
                })
        })
    }

    fn cannot_pull(&self, wanted: &str, since: Timestamp) -> Option<String> {
        self.first_other(|pod| {
            pod.containers.iter().any(|container| {
                let trouble = container.trouble.as_ref().filter(|trouble| trouble.family == Family::Image);
                let transient = trouble.filter(|trouble| {
                    trouble.hopeless_since.is_none() && trouble.since >= since && !is_refused(&trouble.message)
                });
                // Who never ran and is older has been waiting for something else.
                let chronic = container.ended == 0 && pod.created < since;
                transient.is_some() && !chronic && registry(&container.image) == wanted
            })
        })
    }
}
