//! What a watch saw of one repetition, and when the fact was fulfilled by it.
//!
//! Role: reads pods, Deployments and guards as they arrive. Inputs: raw objects. Outputs: moments, and their statistics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use testbed::shop::Shop;

use crate::lock;

/// What is true of the second version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    CrashOfTwo,
    CrashOfOne,
    MissingImage,
    MissingKey,
    OutOfMemory,
    ServesBetween,
}

/// Images that do not exist and keys that are missing are waited for this long.
const HOPELESS_S: f64 = 10.0;

impl Fact {
    pub const ALL: [Self; 6] = [
        Self::CrashOfTwo,
        Self::CrashOfOne,
        Self::MissingImage,
        Self::MissingKey,
        Self::OutOfMemory,
        Self::ServesBetween,
    ];

    /// For namespaces.
    pub fn word(self) -> &'static str {
        match self {
            Self::CrashOfTwo => "crash-two",
            Self::CrashOfOne => "crash-one",
            Self::MissingImage => "image",
            Self::MissingKey => "key",
            Self::OutOfMemory => "oom",
            Self::ServesBetween => "serves",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::CrashOfTwo => "exits at once, 2 new pods",
            Self::CrashOfOne => "exits at once, 1 new pod",
            Self::MissingImage => "image that does not exist, 1 new pod",
            Self::MissingKey => "ConfigMap that does not exist, 1 new pod",
            Self::OutOfMemory => "out of memory after 1 s, 2 new pods",
            Self::ServesBetween => "serves 8 s between exits, 2 new pods",
        }
    }

    /// The slow one is repeated less often.
    pub fn repeats(self, wanted: usize) -> usize {
        if self == Self::ServesBetween { wanted.min(8) } else { wanted }
    }

    /// The version that works.
    pub fn first(self, namespace: &str) -> Shop {
        let pods = if matches!(self, Self::CrashOfTwo | Self::OutOfMemory | Self::ServesBetween) { 2 } else { 1 };
        let shop = Shop::new(namespace, "shop").replicas(pods).rolling("100%", "0");
        if self == Self::MissingImage { shop.from_registry("IfNotPresent") } else { shop }
    }

    /// The version that does not.
    pub fn second(self, first: Shop) -> Shop {
        match self {
            Self::CrashOfTwo | Self::CrashOfOne => first.version("v2").fault("EXIT_AFTER_S", "0"),
            Self::MissingImage => first.version("v99"),
            Self::MissingKey => first.version("v2").env_from_missing_key(),
            Self::OutOfMemory => first.version("v2").fault("OOM_AFTER_S", "1"),
            Self::ServesBetween => first.version("v2").fault("EXIT_AFTER_S", "8"),
        }
    }

    fn lasts(self) -> bool {
        matches!(self, Self::MissingImage | Self::MissingKey)
    }

    /// Whether so many ends of each pod are enough, as the defaults have it.
    fn fulfilled(self, ends: &BTreeMap<String, u64>) -> bool {
        let total: u64 = ends.values().sum();
        match self {
            Self::OutOfMemory => total >= 2,
            _ => total >= 4 && ends.values().filter(|count| **count > 0).count() >= 2 || ends.values().any(|n| *n >= 3),
        }
    }
}

/// One repetition.
#[derive(Clone, Debug, Default)]
pub struct Track {
    fact: Option<Fact>,
    pub available: bool,
    pub serving: bool,
    pushed: Option<Timestamp>,
    ends: BTreeMap<String, u64>,
    fulfilled: Option<Timestamp>,
    kubelet_s: Option<f64>,
    pub undone: Option<Timestamp>,
    pub decision: Option<Value>,
}

/// All repetitions by their namespace.
#[derive(Clone, Default)]
pub struct Tracks(Arc<Mutex<BTreeMap<String, Track>>>);

impl Tracks {
    /// A repetition begins.
    pub fn expect(&self, space: &str, fact: Fact) {
        lock(&self.0).insert(space.to_owned(), Track { fact: Some(fact), ..Track::default() });
    }

    /// The second version is pushed now.
    pub fn pushed(&self, space: &str) {
        if let Some(track) = lock(&self.0).get_mut(space) {
            track.pushed = Some(Timestamp::now());
        }
    }

    /// What is known now.
    pub fn of(&self, space: &str) -> Option<Track> {
        lock(&self.0).get(space).cloned()
    }

    /// Takes in what a watch delivered just now.
    pub fn note(&self, kind: &str, object: &DynamicObject) {
        let now = Timestamp::now();
        let space = object.metadata.namespace.as_deref().unwrap_or_default();
        let mut tracks = lock(&self.0);
        let Some(track) = tracks.get_mut(space) else { return };
        match kind {
            "Pod" => track.pod(object, now),
            "Deployment" => track.deployment(object, now),
            _ => track.guard(&object.data),
        }
    }
}

impl Track {
    fn deployment(&mut self, object: &DynamicObject, now: Timestamp) {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        self.available = status["availableReplicas"] == spec["replicas"];
        let undone = object.metadata.annotations.as_ref();
        if undone.is_some_and(|all| all.contains_key("deploymentguard.dev/last-rollback")) {
            self.undone.get_or_insert(now);
        }
    }

    fn guard(&mut self, data: &Value) {
        self.serving = data["status"]["current"]["state"] == "Serving";
        let decision = &data["status"]["lastDecision"];
        if decision["action"] == "RolledBack" {
            self.decision.get_or_insert_with(|| decision.clone());
        }
    }

    fn pod(&mut self, object: &DynamicObject, now: Timestamp) {
        let container = &object.data["spec"]["containers"][0];
        let old = container["image"].as_str().is_some_and(|image| image.ends_with(":v1"));
        let (Some(fact), false, None) = (self.fact, old, self.fulfilled) else { return };
        let status = &object.data["status"]["containerStatuses"][0];
        let waits = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        if fact.lasts() {
            if ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"].contains(&waits) {
                self.fulfilled = Some(now);
            }
            return;
        }
        let ended = [&status["state"]["terminated"], &status["lastState"]["terminated"]];
        let ended = ended.into_iter().find(|end| end.is_object());
        let over = u64::from(ended.is_some() && status["state"]["running"].is_null());
        let count = status["restartCount"].as_u64().unwrap_or_default() + over;
        self.ends.insert(object.metadata.uid.clone().unwrap_or_default(), count);
        if fact.fulfilled(&self.ends) {
            self.fulfilled = Some(now);
            let finished = ended.and_then(|end| end["finishedAt"].as_str()?.parse().ok());
            self.kubelet_s = finished.map(|finished| seconds(finished, now));
        }
    }

    /// From the push, and from the fulfilled fact.
    fn undo_after(&self) -> Option<(f64, f64)> {
        let waited = if self.fact?.lasts() { HOPELESS_S } else { 0.0 };
        let undone = self.undone?;
        Some((seconds(self.pushed?, undone), seconds(self.fulfilled?, undone) - waited))
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// The columns.
pub const HEADS: [&str; 7] = [
    "release",
    "undone by a hard fact",
    "push → undo",
    "push → the fact is fulfilled",
    "the fact is fulfilled → undo",
    "kubelet: end of the container → its status",
    "operator: decision → undo",
];

/// Medians and worst cases.
pub struct Measured {
    undone: usize,
    all: [Vec<f64>; 5],
}

impl Measured {
    /// Of the repetitions of one fact.
    pub fn of(tracks: &[&Track]) -> Self {
        let mut all: [Vec<f64>; 5] = Default::default();
        for track in tracks {
            let own = track.decision.as_ref().and_then(|decision| {
                decision["durations"]["decisionToUndo"].as_str()?.strip_suffix('s')?.parse::<f64>().ok()
            });
            let after = track.undo_after();
            let values = [
                after.map(|(push, _)| push),
                after.map(|(push, fact)| push - fact),
                after.map(|(_, fact)| fact),
                track.kubelet_s,
                own,
            ];
            for (list, value) in all.iter_mut().zip(values) {
                list.extend(value);
            }
        }
        for list in &mut all {
            list.sort_by(f64::total_cmp);
        }
        let by_fact =
            |track: &&&Track| track.decision.as_ref().is_some_and(|decision| decision["decider"] == "hard-fact");
        Self { undone: tracks.iter().filter(by_fact).count(), all }
    }

    /// For the table.
    pub fn row(&self, fact: Fact, wanted: usize) -> Vec<String> {
        let both = |list: &Vec<f64>| match (list.get(list.len() / 2), list.last()) {
            (Some(median), Some(worst)) => format!("{median:.2} / {worst:.2}"),
            _ => "–".to_owned(),
        };
        let head = [fact.title().to_owned(), format!("{} of {wanted}", self.undone)];
        head.into_iter().chain(self.all.iter().map(both)).collect()
    }

    /// For the file, with every single value.
    pub fn json(&self, fact: Fact, wanted: usize) -> Value {
        let [push, fulfilled, reaction, kubelet, own] = &self.all;
        json!({"fact": fact.word(), "repetitions": wanted, "undoneByHardFact": self.undone, "pushToUndoS": push,
            "pushToFactS": fulfilled, "factToUndoS": reaction, "kubeletS": kubelet, "decisionToUndoS": own})
    }
}
