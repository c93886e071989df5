//! From symptoms of single pods to a fact about the release, or to a better explanation.
//!
//! Role: counts over pods, the tenth that has to fail, old pods with the same, nodes, registries, schedulers. Inputs: a
//! `FactInput`. Outputs: `Report`. Must never import: other rooms, a clock.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::symptom::{self, Lens, Rule, Symptom};
use super::{FactInput, FactKind, HardFact, Hold, MOST_ALLOWED, Report, START, UNKNOWN_START, findings, words};
use crate::domain::logs::at_least;
use crate::domain::outcome::Reason;
use crate::domain::pod::is_refused;
use crate::domain::rollout::PodFact;

/// How unlikely more kills than on the old revision must be by chance.
const CHANCE: f64 = 0.05;
/// A pod that a node took this long ago had time to start.
const TIME_TO_START: Duration = Duration::from_secs(10);
/// A pod that finds no node this long holds the verdict.
const WITHOUT_PLACE: Duration = Duration::from_secs(10);
/// How long before the rollout something may have begun to be part of the same trouble.
const BEFORE: Duration = Duration::from_mins(5);

/// A pod with what is wrong with it.
pub(super) struct Patient<'a> {
    pub(super) pod: &'a PodFact,
    pub(super) symptoms: Vec<Symptom>,
    /// Why its node explains it better than the release does.
    excused: Option<String>,
}

impl Patient<'_> {
    fn had_time_to_start(&self, now: Timestamp) -> bool {
        let taken = self.pod.scheduled.and_then(|at| at.checked_add(TIME_TO_START).ok());
        let shows = |symptom: &Symptom| !matches!(symptom.rule, Rule::From(due) if due > now);
        self.pod.first_ready.is_some() || self.symptoms.iter().any(shows) || taken.is_some_and(|at| at <= now)
    }
}

/// A fact that the numbers give, before better explanations are looked for.
struct Candidate<'a> {
    kind: FactKind,
    /// The pods that show it.
    pods: Vec<&'a Patient<'a>>,
    /// The clearest of their symptoms.
    symptom: &'a Symptom,
    /// How often, where that is counted.
    count: u32,
}

pub(super) fn report(input: &FactInput<'_>) -> Report {
    let mut new = patients(input, |pod| pod.revision == input.current.revision, allowed(input));
    let old = patients(input, |pod| Some(&pod.revision) == input.current.baseline.as_ref(), 0);
    // A passed deadline is one for every pod that is not ready.
    let late = input.policy.progress_deadline && input.workload.deadline_passed;
    let by = if late { Timestamp::MAX } else { input.now };
    let found = findings::of(&new, &old, input.current.baseline_start, by);
    let mut report = Report { findings: found, next: next(input, &new), ..Report::default() };
    let explained = |fact: &Candidate<'_>| same_in_old(input, fact, &old).or_else(|| registry_down(input, fact));
    if !candidates(input, &new).is_empty() {
        excuse(input, &mut new);
        let left = candidates(input, &new);
        // What explains one fact may not explain another.
        match left.iter().find(|fact| explained(fact).is_none()) {
            Some(fact) => {
                let started = new.iter().filter(|patient| patient.excused.is_none()).count();
                report.fact = Some(HardFact {
                    kind: fact.kind,
                    sentence: words::fact(fact.kind, fact.symptom, fact.pods.len(), started, fact.count),
                    sample: fact.symptom.sample.clone(),
                });
                return report;
            }
            None => report.hold = left.first().and_then(explained).or_else(|| node_explains(&new)),
        }
    }
    report.hold = report.hold.or_else(|| without_place(input, &new));
    report
}

fn patients<'a>(input: &FactInput<'a>, wanted: impl Fn(&PodFact) -> bool, allowed_exits: u32) -> Vec<Patient<'a>> {
    let lens = Lens {
        policy: input.policy,
        workload: input.workload,
        allowed_exits,
        since: Timestamp::MIN,
        placement_changed: placement_changed(input),
        now: input.now,
    };
    let well_since = |pod: &PodFact| pod.node.as_deref().and_then(|node| input.around.node_well_since(node));
    let live = input.pods.iter().filter(|pod| pod.is_live() && wanted(pod));
    live.map(|pod| Patient {
        pod,
        symptoms: symptom::symptoms(pod, input.told.get(&pod.uid), well_since(pod), &lens),
        excused: None,
    })
    .collect()
}

fn allowed(input: &FactInput<'_>) -> u32 {
    input.current.baseline_start.map_or(UNKNOWN_START, |start| start.exits).min(MOST_ALLOWED)
}

/// How many pods have to show it: a tenth of those that had time to start, one at least, two once there are three.
fn needed(started: usize) -> usize {
    started.div_ceil(10).max(if started >= 3 { 2 } else { 1 })
}

/// The facts that the numbers give, the clearest first.
fn candidates<'a>(input: &FactInput<'_>, new: &'a [Patient<'a>]) -> Vec<Candidate<'a>> {
    let counted: Vec<&Patient<'_>> = new.iter().filter(|patient| patient.excused.is_none()).collect();
    let started = counted.iter().filter(|patient| patient.had_time_to_start(input.now)).count();
    let mut candidates = lasting(input, &counted);
    candidates.extend(out_of_memory(input, &counted));
    candidates.extend(probe_kills(input, &counted));
    candidates.extend(crashes(input, &counted));
    candidates.extend(deadline(input, &counted));
    candidates.retain(|candidate| candidate.pods.len() >= needed(started));
    candidates.sort_by_key(|candidate| candidate.kind);
    candidates
}

fn showing<'a>(
    counted: &[&'a Patient<'a>],
    count: impl Fn(&Symptom) -> Option<u32>,
) -> Vec<(&'a Patient<'a>, &'a Symptom, u32)> {
    let of = |patient: &&'a Patient<'a>| {
        patient.symptoms.iter().find_map(|symptom| Some((*patient, symptom, count(symptom)?)))
    };
    counted.iter().filter_map(of).collect()
}

fn candidate<'a>(kind: Option<FactKind>, shown: Vec<(&'a Patient<'a>, &'a Symptom, u32)>) -> Option<Candidate<'a>> {
    let (_, symptom, _) = shown.iter().max_by_key(|(_, _, count)| *count)?;
    Some(Candidate {
        kind: kind.unwrap_or(symptom.kind),
        symptom,
        count: shown.iter().map(|(_, _, count)| *count).fold(0, u32::saturating_add),
        pods: shown.into_iter().map(|(patient, _, _)| patient).collect(),
    })
}

fn lasting<'a>(input: &FactInput<'_>, counted: &[&'a Patient<'a>]) -> Vec<Candidate<'a>> {
    let kinds = [
        FactKind::ImagePull,
        FactKind::Config,
        FactKind::Start,
        FactKind::Hook,
        FactKind::VolumeMount,
        FactKind::NeverReady,
    ];
    let of = |kind: FactKind| {
        let long_enough = |symptom: &Symptom| match symptom.rule {
            Rule::From(due) if symptom.kind == kind && due <= input.now => Some(1),
            _ => None,
        };
        candidate(Some(kind), showing(counted, long_enough))
    };
    kinds.into_iter().filter_map(of).collect()
}

fn crashes<'a>(input: &FactInput<'_>, counted: &[&'a Patient<'a>]) -> Option<Candidate<'a>> {
    let limits = input.policy.crash_loop?;
    let shown = showing(counted, |symptom| match symptom.rule {
        Rule::Ends(count) => Some(count),
        _ => None,
    });
    let total = shown.iter().map(|(_, _, count)| *count).fold(0, u32::saturating_add);
    let one = shown.iter().any(|(_, _, count)| *count >= limits.pod_exits);
    // That all pods end once at the same moment is an incident, not a loop.
    let several = shown.len() >= 2 && total >= limits.exits && shown.iter().any(|(_, _, count)| *count >= 2);
    candidate(None, shown).filter(|_| one || several)
}

/// Kills for memory: often enough, and more per pod and hour than on the old revision.
fn out_of_memory<'a>(input: &FactInput<'_>, counted: &[&'a Patient<'a>]) -> Option<Candidate<'a>> {
    let least = input.policy.oom_kills?;
    let shown = showing(counted, |symptom| match symptom.rule {
        Rule::MemoryKills(count) => Some(count),
        _ => None,
    });
    let found = candidate(None, shown).filter(|found| found.count >= least)?;
    let hours = |pods: &mut dyn Iterator<Item = &PodFact>| -> f64 {
        pods.map(|pod| input.now.duration_since(pod.created).as_secs_f64().max(1.0) / 3600.0).sum()
    };
    let old = || {
        let of_old = |pod: &&PodFact| Some(&pod.revision) == input.current.baseline.as_ref() && pod.is_live();
        input.pods.iter().filter(of_old)
    };
    let kills = |pod: &PodFact| -> u32 {
        // What ended an old pod before anybody looked is taken for the same as what ended it last.
        let of = |container: &crate::domain::pod::ContainerFact| {
            let last = container.exits.last().is_some_and(crate::domain::pod::Exit::is_oom);
            if last { container.ended } else { 0 }
        };
        pod.containers.iter().map(of).sum()
    };
    let old_hours = hours(&mut old());
    let old_kills: u32 = old().map(kills).sum();
    let new_hours = hours(&mut counted.iter().map(|patient| patient.pod));
    // Without any kill of the old revision every one is more; else chance must not explain it.
    let share = new_hours / (new_hours + old_hours).max(f64::MIN_POSITIVE);
    let kills = u64::from(found.count);
    let more = old_kills == 0 || at_least(kills, kills + u64::from(old_kills), share) < CHANCE;
    more.then_some(found)
}

fn probe_kills<'a>(input: &FactInput<'_>, counted: &[&'a Patient<'a>]) -> Option<Candidate<'a>> {
    let least = input.policy.liveness_kills?;
    let shown = showing(counted, |symptom| match symptom.rule {
        Rule::ProbeKills(count) => Some(count),
        _ => None,
    });
    candidate(None, shown).filter(|found| found.count >= least)
}

/// The deadline alone proves nothing: quota and scheduling let it pass too.
fn deadline<'a>(input: &FactInput<'_>, counted: &[&'a Patient<'a>]) -> Option<Candidate<'a>> {
    if !input.policy.progress_deadline || !input.workload.deadline_passed {
        return None;
    }
    let placed = |pod: &PodFact| pod.unschedulable.is_none() || placement_changed(input);
    let unwell = |patient: &&&Patient<'_>| patient.pod.ready_since.is_none() && placed(patient.pod);
    let pods: Vec<&Patient<'_>> = counted.iter().filter(unwell).copied().collect();
    let symptom = pods.iter().flat_map(|patient| &patient.symptoms).min_by_key(|symptom| symptom.kind)?;
    Some(Candidate { kind: FactKind::Progress, pods, symptom, count: 1 })
}

/// Old pods that show the same, in a like share, make it nothing new.
fn same_in_old(input: &FactInput<'_>, fact: &Candidate<'_>, old: &[Patient<'_>]) -> Option<Hold> {
    let since = input.now.checked_sub(BEFORE).unwrap_or(input.now);
    let alike = |patient: &&Patient<'_>| {
        // What it did at its own start is what the new revision is allowed as well.
        let grown = patient.pod.created.checked_add(START).unwrap_or(Timestamp::MAX).max(since);
        let recent = patient.pod.containers.iter().any(|container| container.exits_since(grown).next().is_some());
        let unready = patient.pod.ready_since.is_none();
        match fact.symptom.rule {
            Rule::Ends(_) => recent && patient.symptoms.iter().any(|s| matches!(s.rule, Rule::Ends(_))),
            // Counted by rate already.
            Rule::MemoryKills(_) => false,
            Rule::ProbeKills(_) => recent && patient.pod.containers.iter().any(|container| container.is_probed),
            Rule::From(_) if matches!(fact.kind, FactKind::NeverReady | FactKind::Progress) => unready,
            Rule::From(_) => patient.symptoms.iter().any(|symptom| symptom.kind == fact.kind),
        }
    };
    let sick = old.iter().filter(alike).count();
    let new_pods = input.pods.iter().filter(|pod| pod.is_live() && pod.revision == input.current.revision).count();
    // At least half the share that the new revision has.
    let like_share = sick > 0 && sick * 2 * new_pods.max(1) >= fact.pods.len() * old.len();
    like_share.then(|| Hold {
        reason: Reason::SharedIncident,
        message: words::shared(fact.kind, fact.symptom, sick, old.len()),
    })
}

/// Others who cannot pull from the same registry at the same time.
fn registry_down(input: &FactInput<'_>, fact: &Candidate<'_>) -> Option<Hold> {
    let image = fact.symptom.sample.image.as_deref().filter(|_| fact.kind == FactKind::ImagePull)?;
    let hopeless = fact
        .pods
        .iter()
        .flat_map(|patient| &patient.pod.containers)
        .any(|container| container.trouble.as_ref().is_some_and(|trouble| trouble.hopeless_since.is_some()));
    // Who is turned away for a wrong pull secret does not find the registry down.
    let refused = is_refused(&fact.symptom.sample.message);
    let since = input.current.started.checked_sub(BEFORE).unwrap_or(input.current.started);
    let registry = registry(image);
    let other = input.around.cannot_pull(registry, since).filter(|_| !hopeless && !refused)?;
    Some(Hold { reason: Reason::RegistryUnavailable, message: words::registry(registry, &other, fact.symptom) })
}

/// The registry of an image's name.
#[must_use]
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// A node is the better explanation: in trouble itself, or others began to fail there too while new pods are well
/// elsewhere. One failing pod alone proves nothing about its node.
fn excuse(input: &FactInput<'_>, new: &mut [Patient<'_>]) {
    let well: Vec<_> = new
        .iter()
        .filter(|patient| patient.pod.ready_since.is_some() && patient.symptoms.is_empty())
        .map(|patient| patient.pod.node.clone())
        .collect();
    let since = input.current.started.checked_sub(BEFORE).unwrap_or(input.current.started);
    let mut asked = BTreeMap::new();
    for patient in new.iter_mut().filter(|patient| !patient.symptoms.is_empty()) {
        let Some(node) = patient.pod.node.clone() else { continue };
        let well_elsewhere = well.iter().any(|other| other.as_ref() != Some(&node));
        let explain = || {
            if let Some(trouble) = input.around.node_trouble(&node, input.current.started) {
                return Some(format!("node {node} is in trouble: {trouble}"));
            }
            let other = input.around.fails_on(&node, since).filter(|_| well_elsewhere)?;
            Some(format!("on node {node} {other} fails too, while new pods are ready elsewhere"))
        };
        patient.excused.clone_from(asked.entry(node.clone()).or_insert_with(explain));
    }
}

fn node_explains(new: &[Patient<'_>]) -> Option<Hold> {
    let why = new.iter().find_map(|patient| patient.excused.clone())?;
    let message = format!("pods of the new revision fail, but {why}; that says nothing about the release");
    Some(Hold { reason: Reason::NodeProblem, message })
}

fn placement_changed(input: &FactInput<'_>) -> bool {
    input.workload.placement_changed(&input.current.revision, input.current.baseline.as_ref())
}

/// Pods that are not let in or find no place. If the template changed what decides about that, it is the release's
/// matter, and its deadlines count.
fn without_place(input: &FactInput<'_>, new: &[Patient<'_>]) -> Option<Hold> {
    if placement_changed(input) {
        return None;
    }
    if let Some(message) = &input.workload.replica_failure {
        let message = format!("pods of the new revision cannot be made: {message}");
        return Some(Hold { reason: Reason::ReplicaFailure, message });
    }
    // A surge pod may wait a moment for one that leaves.
    let long = |pod: &PodFact| place_due(pod).is_some_and(|due| due <= input.now);
    let waiting: Vec<_> = new
        .iter()
        .filter(|patient| long(patient.pod))
        .filter_map(|patient| patient.pod.unschedulable.as_deref())
        .collect();
    let message = format!("{} of the new revision's pods find no node: {}", waiting.len(), waiting.first()?);
    Some(Hold { reason: Reason::Unschedulable, message })
}

/// From when on a pod without a place is worth a word.
fn place_due(pod: &PodFact) -> Option<Timestamp> {
    pod.unschedulable.as_ref().and_then(|_| pod.created.checked_add(WITHOUT_PLACE).ok())
}

/// When something that lasts will have lasted long enough.
fn next(input: &FactInput<'_>, new: &[Patient<'_>]) -> Option<Timestamp> {
    let due = |symptom: &Symptom| match symptom.rule {
        Rule::From(due) => Some(due),
        _ => None,
    };
    let lasting = new.iter().flat_map(|patient| &patient.symptoms).filter_map(due);
    let stuck = new.iter().filter(|patient| symptom::awaits_volumes(patient.pod));
    let mounts = stuck.filter_map(|patient| patient.pod.scheduled?.checked_add(input.policy.volume_mounts?).ok());
    let places = new.iter().filter_map(|patient| place_due(patient.pod));
    lasting.chain(mounts).chain(places).filter(|at| *at > input.now).min()
}
