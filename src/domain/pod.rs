//! What is kept of the containers of a pod: how they stand, how they ended, what keeps them from starting.
//!
//! Role: the facts that hard facts are read from. Inputs: none (reduced from API objects by `observe`). Outputs: plain
//! data, and how one observation follows another. Must never import: other rooms, a clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// How many ends of a container are remembered one by one.
const EXITS_KEPT: usize = 12;
/// A container that has run this long got over what kept it from starting.
const OVER_IT: Duration = Duration::from_secs(10);

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// One of the pod's containers.
    App,
    /// Runs to its end before the others start.
    Init,
    /// An init container that goes on running.
    Sidecar,
}

impl Role {
    /// The word in sentences.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::App => "container",
            Self::Init => "init container",
            Self::Sidecar => "sidecar container",
        }
    }
}

/// Reasons that stand for one kind of obstacle. The kubelet alternates between the reasons of a family, so only the
/// family's time means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// The image cannot be had.
    Image,
    /// What the container is configured with is missing.
    Config,
    /// It cannot be created or started.
    Start,
    /// A hook fails.
    Hook,
}

impl Family {
    /// The family of a waiting or terminated reason.
    #[must_use]
    pub fn of(reason: &str) -> Option<Self> {
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Some(Self::Image),
            "CreateContainerConfigError" => Some(Self::Config),
            "CreateContainerError" | "RunContainerError" | "StartError" | "ContainerCannotRun" => Some(Self::Start),
            "PreCreateHookError" | "PreStartHookError" | "PostStartHookError" => Some(Self::Hook),
            _ => None,
        }
    }
}

/// Whether a message says that waiting will not help: nobody can pull what does not exist. A ConfigMap or Secret that is
/// missing as a whole may still be made by another controller; a key missing in one that exists is the template's fault.
#[must_use]
pub fn cannot_heal(reason: &str, message: &str) -> bool {
    if matches!(reason, "ErrImageNeverPull" | "InvalidImageName") {
        return true;
    }
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match Family::of(reason) {
        Some(Family::Image) => {
            // A name that DNS does not find is a network's trouble, not the image's.
            says(&["manifest unknown", "manifest_unknown", "not found", "name unknown", "invalid reference format"])
                && !says(&["no such host", "lookup ", "dial tcp", "i/o timeout", "connection refused"])
        }
        Some(Family::Config) => says(&["couldn't find key", "could not find key", "no such key", "non-existent key"]),
        _ => false,
    }
}

/// Whether a registry answered and turned the puller away: its secret is wrong or missing.
#[must_use]
pub fn is_refused(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["denied", "unauthorized", "authorization failed", "401", "403", "forbidden"]
        .iter()
        .any(|word| message.contains(word))
}

/// How a container stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not running, and not ended either.
    Waiting,
    /// Running since.
    Running(Timestamp),
    /// Ended; an init container that ended well has done its work.
    Ended,
}

/// One end of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When, to the second; of an end that nobody saw, the earliest moment it can have been.
    pub at: Timestamp,
    /// Exit code; `None` for an end that nobody saw.
    pub code: Option<i32>,
    /// The kubelet's word: Error, Completed, `OOMKilled`, `StartError` …
    pub reason: Arc<str>,
    /// What the container left in its termination log, or the runtime's message. From outside.
    pub message: Option<Arc<str>>,
}

impl Exit {
    /// The kernel ended it for its memory.
    #[must_use]
    pub fn is_oom(&self) -> bool {
        &*self.reason == "OOMKilled"
    }
}

/// What keeps a container from starting, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kind of obstacle.
    pub family: Family,
    /// Since when it was seen without a break.
    pub since: Timestamp,
    /// Since when a message said that it cannot heal.
    pub hopeless_since: Option<Timestamp>,
    /// The last reason.
    pub reason: Arc<str>,
    /// The last message; from outside.
    pub message: Arc<str>,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFact {
    /// Container name.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// Its image, as the template names it.
    pub image: Arc<str>,
    /// Memory limit in bytes, if one is set.
    pub memory_limit: Option<u64>,
    /// Whether a liveness or startup probe may have it killed.
    pub is_probed: bool,
    /// How it stands.
    pub standing: Standing,
    /// Its own readiness.
    pub ready: bool,
    /// How often it ended, as far as the API tells.
    pub ended: u32,
    /// Its ends, oldest first; the first ones may be missing.
    pub exits: Vec<Exit>,
    /// What keeps it from starting.
    pub trouble: Option<Box<Trouble>>,
}

/// A container's status as the API shows it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glimpse {
    /// `restartCount`.
    pub restarts: u32,
    /// `ready`.
    pub ready: bool,
    /// `state.running.startedAt`.
    pub running: Option<Timestamp>,
    /// `state.waiting`: reason and message.
    pub waiting: Option<(Arc<str>, Arc<str>)>,
    /// `state.terminated`.
    pub terminated: Option<Exit>,
    /// `lastState.terminated`.
    pub last: Option<Exit>,
}

impl ContainerFact {
    /// Follows one observation after another: what the API forgets stays known.
    #[must_use]
    pub fn follow(self, before: Option<&Self>, glimpse: &Glimpse, created: Timestamp, now: Timestamp) -> Self {
        let standing = match (&glimpse.running, &glimpse.terminated) {
            (Some(since), _) => Standing::Running(*since),
            (None, Some(_)) => Standing::Ended,
            (None, None) => Standing::Waiting,
        };
        let ended = ends(self.role, glimpse);
        let exits = exits(ended, before, glimpse, created);
        let trouble = trouble(before.and_then(|known| known.trouble.as_deref()), glimpse, now);
        Self { standing, ready: glimpse.ready, ended, exits, trouble: trouble.map(Box::new), ..self }
    }

    /// Ends since a moment, those included whose time is not known but cannot be earlier.
    pub fn exits_since(&self, since: Timestamp) -> impl Iterator<Item = &Exit> {
        self.exits.iter().filter(move |exit| exit.at >= since)
    }
}

/// How often the container ended so far. An init container that ended well did what it is for.
fn ends(role: Role, glimpse: &Glimpse) -> u32 {
    let last = glimpse.terminated.as_ref().or_else(|| glimpse.last.as_ref().filter(|_| glimpse.running.is_none()));
    let counts = last.is_some_and(|exit| role != Role::Init || exit.code != Some(0));
    glimpse.restarts.saturating_add(u32::from(counts))
}

fn exits(ended: u32, before: Option<&ContainerFact>, glimpse: &Glimpse, created: Timestamp) -> Vec<Exit> {
    let mut known = before.map(|known| known.exits.clone()).unwrap_or_default();
    let counted = before.map_or(0, |known| known.ended);
    let fresh = usize::try_from(ended.saturating_sub(counted)).unwrap_or(usize::MAX);
    if fresh == 0 {
        return known;
    }
    let latest = glimpse.terminated.as_ref().or(glimpse.last.as_ref());
    // Ends between two observations leave nothing but their count.
    let earliest = known.last().map_or(created, |exit| exit.at);
    let unseen = fresh.saturating_sub(usize::from(latest.is_some())).min(EXITS_KEPT);
    let word: Arc<str> = latest.map_or_else(|| "Unknown".into(), |exit| exit.reason.clone());
    known.extend((0..unseen).map(|_| Exit { at: earliest, code: None, reason: word.clone(), message: None }));
    known.extend(latest.cloned());
    let surplus = known.len().saturating_sub(EXITS_KEPT);
    known.drain(..surplus);
    known.shrink_to_fit();
    known
}

fn trouble(before: Option<&Trouble>, glimpse: &Glimpse, now: Timestamp) -> Option<Trouble> {
    let seen = glimpse.waiting.as_ref().and_then(|(reason, message)| {
        if let Some(family) = Family::of(reason) {
            return Some((family, reason.clone(), message.clone()));
        }
        // Between two attempts the container backs off; why, its last end says.
        let last = glimpse.last.as_ref().filter(|_| &**reason == "CrashLoopBackOff")?;
        let said = last.message.clone().unwrap_or_else(|| message.clone());
        Some((Family::of(&last.reason)?, last.reason.clone(), said))
    });
    let Some((family, reason, message)) = seen else {
        let long = |since: Timestamp| since.checked_add(OVER_IT).is_ok_and(|over| over <= now);
        let over = glimpse.running.is_some_and(|since| long(since) || glimpse.ready);
        return before.filter(|_| !over).cloned();
    };
    let same = before.filter(|known| known.family == family);
    let hopeless = cannot_heal(&reason, &message).then_some(now);
    Some(Trouble {
        family,
        since: same.map_or(now, |known| known.since),
        hopeless_since: same.and_then(|known| known.hopeless_since).or(hopeless),
        reason,
        message,
    })
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
