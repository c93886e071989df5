//! What one side logged, counted.
//!
//! Role: counts of signatures per container, bounded, mergeable. Inputs: entries, patterns, a redactor. Outputs: counts
//! with one redacted example each; nothing is kept that did not go through the redactor. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use super::join::Entry;
use super::lines::Volume;
use super::mask::mask;
use super::patterns::{Patterns, service};
use super::severity::Severity;
use crate::domain::outcome::FailureClass;
use crate::domain::redact::Redactor;

/// Signatures that are kept.
pub const MOST_SIGNATURES: usize = 256;
/// Of these, kept free for what a pattern or a trace names, so that noise cannot crowd it out.
const RESERVED: usize = 64;
/// Characters of an example.
pub const MOST_CHARS_OF_EXAMPLE: usize = 400;
/// Characters of a service's name.
const MOST_CHARS_OF_SERVICE: usize = 100;
/// Names of pods that are kept for each signature.
const MOST_PODS: usize = 32;
/// Known texts, so that a text which comes again is neither redacted nor compared again.
const MOST_SEEN: usize = 4096;

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From<'t> {
    /// The container's name.
    pub container: &'t str,
    /// The pod's name.
    pub pod: &'t str,
}

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The container's name.
    pub container: String,
    /// The masked and redacted text.
    pub signature: String,
}

/// A pattern that an entry matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// What it is called.
    pub name: String,
    /// What usually helps.
    pub suggested_fix: String,
    /// The kind of failure.
    pub class: FailureClass,
}

/// One signature's count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// The worst that was said.
    pub severity: Severity,
    /// The pattern it matched, if any.
    pub issue: Option<Issue>,
    /// Whether it is a stack trace or a panic.
    pub trace: bool,
    /// The service it names, redacted.
    pub service: Option<String>,
    /// The first one, redacted.
    pub example: String,
    /// When it was first seen, by the node's clock.
    pub first: Option<Timestamp>,
    /// When it was last seen.
    pub last: Option<Timestamp>,
    /// Pods it was seen on; at most 32 are told apart.
    pub pods: BTreeSet<String>,
}

/// What one side logged.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: BTreeMap<Key, Counted>,
    /// Hashes of texts before redaction. The hasher has no random seed.
    seen: BTreeMap<u64, Key>,
    overflow: u64,
    read: BTreeMap<String, Volume>,
    unreadable: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an entry, if it is an error, matches a pattern, or is a stack trace.
    pub fn add(&mut self, from: From<'_>, entry: &Entry, patterns: &Patterns, redactor: &Redactor) {
        let found = patterns.find(entry);
        if found.is_none() && entry.severity < Severity::Error && entry.trace.is_none() {
            return;
        }
        let masked = signature(entry);
        let mut hasher = DefaultHasher::new();
        (from.container, &masked).hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(counted) = self.seen.get(&hash).and_then(|key| self.counts.get_mut(key)) {
            counted.again(entry, from.pod);
            return;
        }
        // A secret may be cut into harmless parts by masking, so it is taken out before.
        let text = redactor.redact(&entry.text, MOST_CHARS_OF_EXAMPLE * 4);
        let signature = with_status(mask(text.as_str()), entry.status);
        let key = Key { container: from.container.to_owned(), signature };
        if self.seen.len() >= MOST_SEEN {
            self.seen.clear();
        }
        if let Some(counted) = self.counts.get_mut(&key) {
            counted.again(entry, from.pod);
            self.seen.insert(hash, key);
            return;
        }
        let weighty = found.is_some() || entry.trace.is_some();
        if self.counts.len() >= if weighty { MOST_SIGNATURES } else { MOST_SIGNATURES - RESERVED } {
            self.overflow += 1;
            return;
        }
        let counted = Counted {
            count: 1,
            severity: entry.severity,
            issue: found.map(|found| Issue {
                name: found.issue.to_owned(),
                suggested_fix: found.suggested_fix.to_owned(),
                class: found.class,
            }),
            trace: entry.trace.is_some(),
            service: found
                .and_then(|_| service(&entry.text))
                .map(|name| redactor.redact(&name, MOST_CHARS_OF_SERVICE).as_str().to_owned()),
            example: example(entry, redactor),
            first: entry.at,
            last: entry.at,
            pods: BTreeSet::from([from.pod.to_owned()]),
        };
        self.counts.insert(key.clone(), counted);
        self.seen.insert(hash, key);
    }

    /// Notes that a container's log was read, and how much of it.
    pub fn read(&mut self, container: &str, volume: Volume) {
        *self.read.entry(container.to_owned()).or_default() += volume;
    }

    /// Notes that a log could not be read. `reason` comes from a fixed set.
    pub fn could_not_read(&mut self, reason: &str) {
        *self.unreadable.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds what another tally of the same side counted.
    pub fn merge(&mut self, other: Self) {
        self.overflow = self.overflow.saturating_add(other.overflow);
        for (key, theirs) in other.counts {
            let room = self.counts.len() < MOST_SIGNATURES;
            match self.counts.get_mut(&key) {
                Some(ours) => ours.merge(theirs),
                None if room => {
                    self.counts.insert(key, theirs);
                }
                None => self.overflow = self.overflow.saturating_add(theirs.count),
            }
        }
        for (container, volume) in other.read {
            *self.read.entry(container).or_default() += volume;
        }
        for (reason, times) in other.unreadable {
            *self.unreadable.entry(reason).or_default() += times;
        }
    }

    /// The counts.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<Key, Counted> {
        &self.counts
    }

    /// Entries that were not counted because there were too many signatures.
    #[must_use]
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// How much was read of each container.
    #[must_use]
    pub const fn volumes(&self) -> &BTreeMap<String, Volume> {
        &self.read
    }

    /// What could not be read, and how often, by reason.
    #[must_use]
    pub const fn unreadable(&self) -> &BTreeMap<String, u64> {
        &self.unreadable
    }
}

/// The signature of an entry, before redaction. The status of a request belongs to it.
#[must_use]
pub fn signature(entry: &Entry) -> String {
    with_status(mask(&entry.text), entry.status)
}

fn with_status(masked: String, status: Option<u16>) -> String {
    match status {
        Some(status) => format!("{masked} → {status}"),
        None => masked,
    }
}

fn example(entry: &Entry, redactor: &Redactor) -> String {
    let mut text = entry.text.clone();
    if let Some(status) = entry.status {
        text = format!("{text} → {status}");
    }
    if let Some(frame) = entry.trace.as_ref().and_then(|trace| trace.frame.as_ref()) {
        text = format!("{text} at {frame}");
    }
    redactor.redact(&text, MOST_CHARS_OF_EXAMPLE).as_str().to_owned()
}

impl Counted {
    fn again(&mut self, entry: &Entry, pod: &str) {
        self.count = self.count.saturating_add(1);
        self.severity = self.severity.max(entry.severity);
        self.first = earliest(self.first, entry.at);
        self.last = self.last.max(entry.at);
        if self.pods.len() < MOST_PODS && !self.pods.contains(pod) {
            self.pods.insert(pod.to_owned());
        }
    }

    fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.severity = self.severity.max(other.severity);
        self.first = earliest(self.first, other.first);
        self.last = self.last.max(other.last);
        let room = MOST_PODS.saturating_sub(self.pods.len());
        self.pods.extend(other.pods.into_iter().take(room));
    }
}

/// The earlier of two times; an unknown one does not count.
fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
