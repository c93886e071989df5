//! Judges every write to the workload at the moment at which it is carried out.
//!
//! Role: the invariants. Inputs: the object before and after a write, what status said by then. Outputs: broken promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::world::World;

const LAST_ROLLBACK: &str = "deploymentguard.dev/last-rollback";

/// An undo as status announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Intent {
    uid: Value,
    from: Value,
    to: Value,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Watchdog {
    intents: BTreeMap<String, Intent>,
    /// Decisions and rollouts that were undone, and what was undone of which object.
    decisions: BTreeSet<String>,
    rollouts: BTreeSet<u64>,
    revisions: BTreeSet<(String, String)>,
    pub broken: Vec<String>,
}

impl Watchdog {
    /// How many undos had an effect.
    pub fn undos(&self) -> usize {
        self.decisions.len()
    }

    fn expect(&mut self, holds: bool, what: &str, about: &Value) {
        if !holds {
            self.broken.push(format!("{what}: {about:#}"));
        }
    }

    /// A status was written.
    pub fn status(&mut self, status: &Value) {
        let undo = &status["undo"];
        let Some(decision) = undo["decision"].as_str() else { return };
        let intent = Intent {
            uid: undo["workloadUid"].clone(),
            from: undo["fromRevision"].clone(),
            to: undo["toRevision"].clone(),
        };
        let known = self.intents.entry(decision.to_owned()).or_insert_with(|| intent.clone()).clone();
        self.expect(known == intent, "a decision changed its mind", undo);
    }

    /// The workload was written by the operator.
    pub fn write(&mut self, world: &World, before: &Value, after: &Value) {
        if before == after {
            return;
        }
        self.expect(rest(before) == rest(after), "a write touched what is not ours", after);
        let last = |workload: &Value| workload["metadata"]["annotations"][LAST_ROLLBACK].clone();
        if before["spec"]["template"] == after["spec"]["template"] {
            self.expect(last(before) == last(after), "an annotation without an undo", after);
            return;
        }
        let decision = last(after).as_str().unwrap_or_default().to_owned();
        self.expect(last(before) != last(after), "an undo without a decision of its own", after);
        self.expect(before["spec"]["paused"] != true, "an undo of a paused workload", before);
        let (from, to) = (world.revision(&before["spec"]["template"]), world.revision(&after["spec"]["template"]));
        match self.intents.get(&decision).cloned() {
            None => self.broken.push(format!("an undo without an intent: {decision}")),
            Some(intent) => {
                self.expect(before["metadata"]["uid"] == intent.uid, "an undo of another object", before);
                self.expect(intent.from == *from, "an undo of what was not judged", before);
                self.expect(intent.to == *to, "an undo to another revision", after);
            }
        }
        let first = self.decisions.insert(decision);
        self.expect(first, "a decision was carried out twice", after);
        let first = self.rollouts.insert(world.rollouts.load(Ordering::SeqCst));
        self.expect(first, "a rollout was undone twice", after);
        let uid = before["metadata"]["uid"].to_string();
        let first = self.revisions.insert((uid, from));
        self.expect(first, "a revision that was undone and came back was undone again", after);
    }
}

/// Everything that the operator has no business to change.
fn rest(workload: &Value) -> Value {
    let mut rest = workload.clone();
    rest["spec"]["template"] = Value::Null;
    for key in ["managedFields", "resourceVersion", "generation"] {
        rest["metadata"][key] = Value::Null;
    }
    if let Some(annotations) = rest["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_ROLLBACK);
    }
    rest
}
