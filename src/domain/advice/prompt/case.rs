//! What a model is told about.
//!
//! Role: plain data between what was assessed and the prompt. Inputs: assessments, findings, templates. Outputs: rows and
//! lines. Must never import: other rooms.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::advice::authority::Zone;
use crate::domain::assess::{SignalVerdict, SignalView};
use crate::domain::finding::Finding;
use crate::domain::outcome::Reason;
use crate::domain::process::Counts;
use crate::domain::signal::Term;

/// Everything there is to say about a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Kind, namespace and name.
    pub workload: String,
    /// Where the evidence stands.
    pub zone: Zone,
    /// α as a share.
    pub alpha: f64,
    /// ln E in all.
    pub ln_e: Option<f64>,
    /// Signals: `S1`, `S2`, ….
    pub signals: Vec<SignalRow>,
    /// Hard facts: `P1`, ….
    pub facts: Vec<FactRow>,
    /// Findings: `F1`, …, the most telling first.
    pub findings: Vec<Finding>,
    /// Seconds since the rollout began, and what was then.
    pub timeline: Vec<(i64, Milestone)>,
    /// What differs between the templates.
    pub changes: Vec<Change>,
    /// What people wrote on the workload, such as the cause of the change.
    pub notes: Vec<String>,
}

/// One signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalRow {
    /// Its full name.
    pub name: String,
    /// The term it feeds.
    pub term: Option<Term>,
    /// How it stands.
    pub verdict: SignalVerdict,
    /// Its value on the new revision, with a unit.
    pub new: String,
    /// Its value on the old one.
    pub old: String,
    /// Bad of all events, new and old.
    pub counted: Option<(Counts, Counts)>,
    /// ln E of harm.
    pub ln_e: Option<f64>,
    /// Weight and what is allowed.
    pub allowed: String,
}

impl SignalRow {
    /// Of a signal as it was assessed.
    #[must_use]
    pub fn of(view: &SignalView) -> Self {
        Self {
            name: view.name.clone(),
            term: view.term,
            verdict: view.verdict,
            new: view.new.clone(),
            old: view.old.clone(),
            counted: view.counted,
            ln_e: view.ln_e,
            allowed: view.terms.clone(),
        }
    }
}

/// A hard fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactRow {
    /// Which one.
    pub reason: Reason,
    /// As people read it; it may quote the kubelet and names.
    pub sentence: String,
}

/// Moments of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Milestone {
    /// A template nobody judged yet was seen.
    Began,
    /// The first new pod was ready.
    FirstReady,
    /// Every wanted pod carried the revision and was ready.
    Complete,
    /// This moment.
    Now,
    /// The window ends.
    WindowEnds,
}

impl Milestone {
    /// The words in the prompt.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Began => "the rollout began",
            Self::FirstReady => "the first new pod was ready",
            Self::Complete => "the rollout was complete",
            Self::Now => "now",
            Self::WindowEnds => "the watch ends",
        }
    }
}

/// What sort of thing changed in the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// An image.
    Image,
    /// A variable of the environment; its value is never told.
    Environment,
    /// Requests and limits.
    Resources,
    /// A container came or went.
    Container,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Image, Self::Environment, Self::Resources, Self::Container];

    /// The word in the prompt.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Environment => "environment",
            Self::Resources => "resources",
            Self::Container => "container",
        }
    }
}

/// One difference between the templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of what sort.
    pub kind: ChangeKind,
    /// Where: a container, and what of it.
    pub what: String,
    /// Before; empty if it was not there, or is not told.
    pub old: String,
    /// Now; empty if it is not there any more, or is not told.
    pub new: String,
}

impl Change {
    /// As one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let side = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        match (self.kind, self.old.as_str(), self.new.as_str()) {
            (ChangeKind::Environment | ChangeKind::Container, ..) => format!("{} {}", self.what, self.new),
            (_, old, new) => format!("{}, before {}, now {}", self.what, side(old), side(new)),
        }
    }
}

/// What differs between two pod templates: images, names of variables, requests and limits. Values of variables are not
/// told.
#[must_use]
pub fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let (before, now) = (containers(old), containers(new));
    let mut found = Vec::new();
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        found.push(change(ChangeKind::Container, name, "", "was removed"));
    }
    for (name, now) in now {
        let Some(before) = before.get(name) else {
            found.push(change(ChangeKind::Container, name, "", "was added"));
            continue;
        };
        let image = |container: &Value| text(container, "/image");
        if image(before) != image(now) {
            found.push(change(ChangeKind::Image, name, &image(before), &image(now)));
        }
        found.extend(environment(name, before, now));
        found.extend(resources(name, before, now));
    }
    found.sort_by_key(|change| change.kind);
    found
}

fn change(kind: ChangeKind, what: &str, old: &str, new: &str) -> Change {
    Change { kind, what: what.to_owned(), old: old.to_owned(), new: new.to_owned() }
}

fn containers(template: &Value) -> BTreeMap<&str, &Value> {
    ["/spec/initContainers", "/spec/containers"]
        .iter()
        .filter_map(|path| template.pointer(path)?.as_array())
        .flatten()
        .filter_map(|container| Some((container.get("name")?.as_str()?, container)))
        .collect()
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn environment(container: &str, old: &Value, new: &Value) -> Vec<Change> {
    let (before, now) = (variables(old), variables(new));
    let say = |name: &str, how: &str| change(ChangeKind::Environment, &format!("{container} {name}"), "", how);
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| say(name, "was removed"));
    let come = now.iter().filter_map(|(name, value)| match before.get(name) {
        None => Some(say(name, "was added")),
        Some(old) if old != value => Some(say(name, "has another value")),
        Some(_) => None,
    });
    gone.chain(come).collect()
}

fn variables(container: &Value) -> BTreeMap<&str, &Value> {
    let list = container.get("env").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|entry| Some((entry.get("name")?.as_str()?, entry))).collect()
}

fn resources(container: &str, old: &Value, new: &Value) -> Vec<Change> {
    let (before, now) = (quantities(old), quantities(new));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let side = |side: &BTreeMap<String, String>, name: &String| side.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| {
            change(ChangeKind::Resources, &format!("{container} {name}"), &side(&before, name), &side(&now, name))
        })
        .collect()
}

fn quantities(container: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for sort in ["limits", "requests"] {
        let each = container.pointer(&format!("/resources/{sort}")).and_then(Value::as_object);
        for (name, value) in each.into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            found.insert(format!("{sort} {name}"), value);
        }
    }
    found
}
