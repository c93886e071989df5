//! Logs and probes of a rollout, looked at beside the looks: nothing that decides ever waits for them.
//!
//! Role: one background inspection a guard at a time; it keeps what it counted and rings when something is new. Inputs: an
//! order with the pods of both revisions. Outputs: findings. Must never import: `cli`, `console`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc::UnboundedSender;

use super::memory::GuardKey;
use crate::domain::finding::Finding;
use crate::domain::logs::{self, Exposure, LogPolicy, Mark, Tally};
use crate::domain::pod::{ContainerFact, Role, Standing};
use crate::domain::probe::compare::LAST;
use crate::domain::probe::version::tag_of;
use crate::domain::probe::{Asked, Probe, ProbePolicy, compare};
use crate::domain::redact::Redactor;
use crate::domain::rollout::{PodFact, Side};
use crate::observe::logs::{Ended, LogReading, LogRequest, LogSource, pick};
use crate::observe::probes::{Answer, PodTarget, Prober};

/// Between two inspections while nothing happens, in a rollout's first minutes and later.
const EARLY: Duration = Duration::from_secs(15);
const LATER: Duration = Duration::from_mins(1);
/// How long a rollout is young.
const YOUNG: Duration = Duration::from_mins(5);
/// Between two inspections when containers end one after the other.
const LEAST: Duration = Duration::from_secs(1);
/// How much of the old pods' past is read: as long as a fresh release needs to show what it does.
const PAST: Duration = Duration::from_mins(5);
/// Of how the old pods started, so many bytes of each container: what new pods log at their start is compared with it.
const START_BYTES: u64 = 128 * 1024;
/// A pod that was never ready is asked by probes from this long after a node took it.
const STARTING: Duration = Duration::from_mins(1);
/// Pods that are asked by probes, of each side.
const PROBED: usize = 5;

/// What is to be inspected.
#[derive(Debug, Clone)]
pub struct Order {
    /// The judged revision.
    pub revision: String,
    /// When its rollout was first seen.
    pub started: Timestamp,
    /// When this is asked.
    pub now: Timestamp,
    /// Its pods and those of the baseline, with their side.
    pub pods: Vec<(Side, PodFact)>,
    /// What of logs.
    pub logs: LogPolicy,
    /// What to probe.
    pub probes: ProbePolicy,
}

impl Order {
    fn of(&self, side: Side) -> impl Iterator<Item = &PodFact> {
        self.pods.iter().filter(move |(of, _)| *of == side).map(|(_, pod)| pod)
    }

    /// Moves whenever a container of the new revision ended: then the log says why.
    fn ended(&self) -> u32 {
        self.of(Side::New).map(PodFact::ended).fold(0, u32::saturating_add)
    }
}

/// What the inspections of a revision found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The revision.
    pub revision: String,
    /// In logs.
    pub logs: Vec<Finding>,
    /// By probes.
    pub probes: Vec<Finding>,
}

/// What is known of one rollout.
#[derive(Debug, Default)]
struct Notes {
    /// By side.
    tallies: HashMap<Side, Tally>,
    /// Seconds that were read, by side.
    read: HashMap<Side, f64>,
    /// How far the log of each container was read, and how often it had ended by then, by the pod's uid and the
    /// container's name.
    cursors: HashMap<(Arc<str>, Arc<str>), (Mark, u32)>,
    /// The last answers, by probe, side and pod.
    answers: BTreeMap<(String, bool, String), Asked>,
}

#[derive(Debug, Default)]
struct Room {
    revision: String,
    /// The same revision may be pushed again.
    started: Option<Timestamp>,
    /// Taken out while an inspection is under way.
    notes: Option<Notes>,
    last: Option<Timestamp>,
    ended: u32,
    found: Found,
}

/// Every guard's inspections.
pub struct Inspections {
    client: Client,
    source: LogSource,
    prober: Option<Prober>,
    redactor: Arc<Redactor>,
    rooms: Mutex<HashMap<GuardKey, Room>>,
    wake: Mutex<Option<UnboundedSender<GuardKey>>>,
}

impl Inspections {
    /// None yet.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>) -> Self {
        /// Probes under way at once, over all guards.
        const PROBES_AT_ONCE: usize = 32;
        let prober = Prober::new(PROBES_AT_ONCE).inspect_err(|error| tracing::error!(%error, "probes are off")).ok();
        let source = LogSource::new(client.clone(), redactor.clone());
        Self { client, source, prober, redactor, rooms: Mutex::default(), wake: Mutex::default() }
    }

    /// Where to ring when something new was found.
    pub fn ring(&self, wake: UnboundedSender<GuardKey>) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// What was found so far.
    #[must_use]
    pub fn found(&self, key: &GuardKey) -> Option<Found> {
        self.locked().get(key).map(|room| room.found.clone()).filter(|found| !found.revision.is_empty())
    }

    /// Whether logs of a revision are being read at this moment.
    #[must_use]
    pub fn is_under_way(&self, key: &GuardKey, revision: &str) -> bool {
        self.locked().get(key).is_some_and(|room| room.revision == revision && room.notes.is_none())
    }

    /// Nothing is judged any more: what was counted is let go, once nothing is under way.
    pub fn rest(&self, key: &GuardKey) {
        let mut rooms = self.locked();
        if rooms.get(key).is_some_and(|room| room.notes.is_some()) {
            rooms.remove(key);
        }
    }

    /// Forgets a deleted guard.
    pub fn forget(&self, key: &GuardKey) {
        self.locked().remove(key);
    }

    /// Inspects, if it is time and nothing is under way; says when to come again.
    pub fn order(self: &Arc<Self>, key: &GuardKey, order: Order) -> Option<Timestamp> {
        if !order.logs.enabled && order.probes.probes.is_empty() {
            return None;
        }
        let young = order.started.checked_add(YOUNG).is_ok_and(|end| order.now < end);
        let pause = if young { EARLY } else { LATER };
        let again = order.now.checked_add(pause).ok();
        let notes = {
            let mut rooms = self.locked();
            let room = rooms.entry(key.clone()).or_default();
            if room.revision != order.revision || room.started != Some(order.started) {
                *room = Room {
                    revision: order.revision.clone(),
                    started: Some(order.started),
                    notes: Some(Notes::default()),
                    ..Room::default()
                };
            }
            let ended = order.ended();
            let wait = if ended == room.ended { pause } else { LEAST };
            let due = room.last.and_then(|last| last.checked_add(wait).ok());
            if let Some(due) = due.filter(|due| *due > order.now) {
                return Some(due);
            }
            let Some(notes) = room.notes.take() else { return order.now.checked_add(LEAST).ok() };
            (room.last, room.ended) = (Some(order.now), ended);
            notes
        };
        let (this, key) = (self.clone(), key.clone());
        tokio::spawn(async move { this.inspect(key, order, notes).await });
        again
    }

    async fn inspect(self: Arc<Self>, key: GuardKey, order: Order, mut notes: Notes) {
        let ((), answers) = tokio::join!(self.read_logs(&order, &mut notes), self.probe(&key, &order));
        // Pods that are gone fail no more.
        notes.answers.retain(|(_, _, pod), _| order.pods.iter().any(|(_, there)| *there.pod.name == **pod));
        for answer in answers {
            notes.remember(answer);
        }
        let found = Found {
            revision: order.revision.clone(),
            logs: notes.log_findings(),
            probes: notes.probe_findings(&order.probes, &self.redactor),
        };
        let mut rooms = self.locked();
        // Another revision may have begun meanwhile, or the guard is gone.
        let Some(room) = rooms.get_mut(&key).filter(|room| room.started == Some(order.started)) else { return };
        (room.notes, room.found) = (Some(notes), found);
        drop(rooms);
        // Also when nothing is new: a decision may be waiting to be completed. The receiver lives as long as the loops do.
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = wake.send(key);
        }
    }

    /// The new pods first: those that crash may soon be gone.
    async fn read_logs(&self, order: &Order, notes: &mut Notes) {
        if order.logs.enabled {
            self.read_side(order, Side::New, notes).await;
            self.read_side(order, Side::Old, notes).await;
        }
    }

    async fn read_side(&self, order: &Order, side: Side, notes: &mut Notes) {
        let pods: Vec<PodFact> = pick(order.of(side), order.logs.max_pods).into_iter().cloned().collect();
        for pod in &pods {
            for container in &pod.containers {
                self.read_container(order, side, (pod, container), notes).await;
            }
        }
    }

    async fn read_container(&self, order: &Order, side: Side, at: (&PodFact, &ContainerFact), notes: &mut Notes) {
        let (pod, container) = at;
        if container.standing == Standing::Waiting && container.ended == 0 {
            return;
        }
        let place = (pod.uid.clone(), container.name.clone());
        let request = |previous, since, limit_bytes| LogRequest {
            pod: pod.pod.clone(),
            container: container.name.to_string(),
            previous,
            since,
            limit_bytes,
        };
        let cursor = notes.cursors.get(&place).copied();
        let from = order.started.checked_sub(PAST).unwrap_or(order.started).max(pod.created);
        if cursor.is_none() && side == Side::Old && pod.created < from {
            // How it started, long ago.
            self.read(&request(false, None, START_BYTES), side, &order.logs, notes).await;
        }
        let since = Some(cursor.map_or(from.into(), |(mark, _)| mark));
        let mut until = since;
        // The end of a container is told in the log of the one before, once it was started again.
        let ended = container.ended > cursor.map_or(0, |(_, ended)| ended);
        if ended && container.standing != Standing::Ended {
            let last = self.read(&request(true, since, order.logs.max_bytes), side, &order.logs, notes).await;
            until = last.and_then(|(read, _)| read).or(until);
        }
        // While it backs off both are the same log: what was read is not read again.
        let last = self.read(&request(false, until, order.logs.max_bytes), side, &order.logs, notes).await;
        let (read, whole) = last.unwrap_or((None, false));
        until = read.or(until);
        let Some(until) = until else { return };
        notes.cursors.insert(place, (until, container.ended));
        // As far as the log was read, or to this moment, if there was nothing more in it.
        let to = if whole { order.now } else { until.at };
        let seconds = to.duration_since(cursor.map_or(from, |(mark, _)| mark.at)).as_secs_f64().max(0.0);
        *notes.read.entry(side).or_default() += seconds;
    }

    async fn read(
        &self,
        request: &LogRequest,
        side: Side,
        policy: &LogPolicy,
        notes: &mut Notes,
    ) -> Option<(Option<Mark>, bool)> {
        let tally = notes.tallies.entry(side).or_default();
        let from = logs::From { container: &request.container, pod: &request.pod.name };
        let reading =
            self.source.read(request, &mut |entry| tally.add(from, &entry, &policy.patterns, &self.redactor)).await;
        if let Some(reason) = reading.unreadable() {
            tally.could_not_read(reason);
        }
        let LogReading::Read { volume, until, ended } = reading else { return None };
        tally.read(&request.container, volume);
        Some((until, ended == Ended::Whole))
    }

    async fn probe(&self, key: &GuardKey, order: &Order) -> Vec<(String, bool, Answer)> {
        let Some(prober) = self.prober.as_ref().filter(|_| !order.probes.probes.is_empty()) else { return Vec::new() };
        let target = |side: Side| {
            // A pod that is still starting is not asked yet.
            let started = |pod: &PodFact| {
                let taken = pod.scheduled.and_then(|at| at.checked_add(STARTING).ok());
                pod.first_ready.is_some() || taken.is_some_and(|at| at <= order.now)
            };
            let there = order.of(side).filter(|pod| pod.is_live() && pod.ip.is_some() && started(pod));
            let chosen = pick(there, PROBED);
            chosen.into_iter().map(move |pod| PodTarget {
                name: pod.pod.name.to_string(),
                side,
                ips: pod.ip.into_iter().collect(),
                host_network: pod.host_network,
                image_tag: app_image(pod).and_then(tag_of).map(str::to_owned),
            })
        };
        let pods: Vec<PodTarget> = target(Side::New).chain(target(Side::Old)).collect();
        let mut all = Vec::new();
        for probe in &order.probes.probes {
            let answers = prober.round(&self.client, &key.namespace, probe, &pods).await;
            all.extend(answers.into_iter().map(|answer| (probe.name.clone(), answer.side == Side::New, answer)));
        }
        all
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<GuardKey, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn app_image(pod: &PodFact) -> Option<&str> {
    pod.containers.iter().find(|container| container.role == Role::App).map(|container| &*container.image)
}

impl Notes {
    fn remember(&mut self, (probe, is_new, answer): (String, bool, Answer)) {
        let asked = self
            .answers
            .entry((probe, is_new, answer.pod.clone()))
            .or_insert_with(|| Asked { pod: answer.pod.clone(), outcomes: Vec::new() });
        asked.outcomes.push(answer.outcome);
        let surplus = asked.outcomes.len().saturating_sub(LAST);
        asked.outcomes.drain(..surplus);
    }

    fn log_findings(&self) -> Vec<Finding> {
        let read = |side| self.read.get(&side).copied().unwrap_or_default();
        let exposure = Exposure { new_pod_seconds: read(Side::New), old_pod_seconds: read(Side::Old) };
        let Some(new) = self.tallies.get(&Side::New) else { return Vec::new() };
        logs::findings(new, self.tallies.get(&Side::Old), exposure)
    }

    fn probe_findings(&self, policy: &ProbePolicy, redactor: &Redactor) -> Vec<Finding> {
        let of = |name: &str, is_new: bool| -> Vec<Asked> {
            let all = self.answers.iter().filter(|((probe, new, _), _)| probe == name && *new == is_new);
            all.map(|(_, asked)| asked.clone()).collect()
        };
        let found = |probe: &Probe| compare(probe, &of(&probe.name, true), &of(&probe.name, false), redactor);
        policy.probes.iter().filter_map(found).collect()
    }
}
