//! A guard as far as it can be read.
//!
//! Role: reads fields that may be absent, of another version, or written by anybody. Inputs: raw JSON. Outputs: text
//! without control characters, numbers, moments. Must never import: a clock, a client, `console`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::parse;
use crate::cli::explain::plain;

/// A guard.
pub(in crate::cli) struct Seen(Value);

/// What the operator does when nothing is set.
const WARMUP: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(30 * 60);
const ALPHA_PPM: u32 = 10_000;

/// A condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Condition {
    pub(in crate::cli) status: String,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
    pub(in crate::cli) generation: Option<i64>,
}

impl Condition {
    pub(in crate::cli) fn is(&self, status: &str) -> bool {
        self.status == status
    }
}

impl Seen {
    pub(in crate::cli) fn new(guard: &Value) -> Self {
        Self(plain::value(guard))
    }

    pub(in crate::cli) fn text(&self, pointer: &str) -> String {
        text(&self.0, pointer)
    }

    pub(in crate::cli) fn number(&self, pointer: &str) -> Option<i64> {
        self.0.pointer(pointer)?.as_i64()
    }

    pub(in crate::cli) fn flag(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(in crate::cli) fn has(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).is_some_and(|found| !found.is_null())
    }

    pub(in crate::cli) fn at(&self, pointer: &str) -> Option<Timestamp> {
        self.text(pointer).parse().ok()
    }

    pub(in crate::cli) fn items(&self, pointer: &str) -> Vec<&Value> {
        self.0.pointer(pointer).and_then(Value::as_array).map(|items| items.iter().collect()).unwrap_or_default()
    }

    /// A condition; empty if it was never set.
    pub(in crate::cli) fn condition(&self, type_: &str) -> Condition {
        let found = self.items("/status/conditions").into_iter().find(|one| text(one, "/type") == type_);
        let read = |one: &Value| Condition {
            status: text(one, "/status"),
            reason: text(one, "/reason"),
            message: text(one, "/message"),
            generation: one.pointer("/observedGeneration").and_then(Value::as_i64),
        };
        found.map(read).unwrap_or_default()
    }

    /// The last decision, if there is one.
    pub(super) fn decision(&self) -> Option<&Value> {
        self.0.pointer("/status/lastDecision").filter(|decision| decision.is_object())
    }

    /// Namespace and name.
    pub(in crate::cli) fn key(&self) -> String {
        format!("{}/{}", self.text("/metadata/namespace"), self.text("/metadata/name"))
    }

    /// Where the current revision stands.
    pub(in crate::cli) fn state(&self) -> String {
        self.text("/status/current/state")
    }

    pub(in crate::cli) fn warmup(&self) -> Duration {
        self.time("/spec/analysis/warmup", WARMUP)
    }

    pub(in crate::cli) fn window(&self) -> Duration {
        self.time("/spec/analysis/window", WINDOW)
    }

    fn time(&self, pointer: &str, default: Duration) -> Duration {
        let text = self.text(pointer);
        // Nothing reads as no time at all.
        parse::duration(pointer, &text).ok().filter(|_| !text.is_empty()).unwrap_or(default)
    }

    /// How unlikely without a regression what a rollback rests on has to be: 1 in so many.
    pub(in crate::cli) fn threshold(&self) -> f64 {
        let ppm = parse::percent("falseRollbackRate", &self.text("/spec/analysis/falseRollbackRate"));
        let ppm = ppm.ok().filter(|ppm| (1..=200_000).contains(ppm)).unwrap_or(ALPHA_PPM);
        1e6 / f64::from(ppm)
    }

    /// Whether the revision that serves is one that the guard put back, or is about to.
    pub(in crate::cli) fn is_undone(&self) -> bool {
        let action = self.text("/status/lastDecision/action");
        let sent = self.has("/status/undo/sentAt") || action == "RollingBack" && self.has("/status/undo");
        self.condition("RolledBack").is("True") || sent
    }

    /// Whether the last decision speaks of the revision that serves.
    pub(in crate::cli) fn decision_is_of_current(&self) -> bool {
        let of = self.text("/status/lastDecision/fromRevision");
        !of.is_empty() && of == self.text("/status/current/revision")
    }
}

/// A field of a value that was made plain.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).map(plain::line).unwrap_or_default()
}
