//! Many guards as a table.
//!
//! Role: a row for each guard, and the rows in columns. Inputs: guards as raw JSON, `now`, a [`Look`]. Outputs: text. A row
//! keeps a few words, so that thousands of guards stay small. Must never import: a clock, a client, `console`.

use jiff::Timestamp;
use serde_json::Value;

use super::seen::Seen;
use super::status::tone;
use super::times::age;
use super::{Look, Page, Tone, table};

/// Longest sentence that a row keeps.
const MESSAGE: usize = 160;

/// What is shown of one guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Row {
    namespace: String,
    name: String,
    target: String,
    mode: String,
    healthy: String,
    state: String,
    score: String,
    decision: String,
    decider: String,
    revision: String,
    undone: String,
    age: String,
    message: String,
}

impl Row {
    pub(in crate::cli) fn of(guard: &Value, now: Timestamp) -> Self {
        let guard = Seen::new(guard);
        let healthy = guard.condition("Healthy");
        let number = |pointer: &str| guard.number(pointer).map_or_else(|| "-".to_owned(), |number| number.to_string());
        let or = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        // What is wrong with the guard itself comes before what it thinks of a release.
        let ready = guard.condition("Ready");
        let told = if ready.is("False") { &ready } else { &healthy };
        let kind = guard.text("/spec/targetRef/kind").to_lowercase();
        let kind = if kind.is_empty() { "deployment".to_owned() } else { kind };
        Self {
            namespace: guard.text("/metadata/namespace"),
            name: guard.text("/metadata/name"),
            target: format!("{kind}/{}", guard.text("/spec/targetRef/name")),
            mode: if guard.flag("/spec/suspend") { "Suspended".to_owned() } else { or(guard.text("/spec/mode")) },
            healthy: or(healthy.status.clone()),
            state: or(told.reason.clone()),
            score: number("/status/healthScore"),
            decision: or(guard.text("/status/lastDecision/decision")),
            decider: or(guard.text("/status/lastDecision/decider")),
            revision: or(guard.text("/status/current/revision")),
            undone: number("/status/rollbacksToday"),
            age: guard.at("/metadata/creationTimestamp").map_or_else(|| "-".to_owned(), |at| age(at, now)),
            message: told.message.chars().take(MESSAGE).collect(),
        }
    }
}

/// The table. With `all`, guards of all namespaces.
pub(in crate::cli) fn screen(rows: &[Row], all: bool, look: Look) -> String {
    let mut page = Page::new(look);
    let columns = [
        ("NAMESPACE", u8::from(!all) * 20),
        ("NAME", 0),
        ("TARGET", 6),
        ("MODE", 2),
        ("HEALTHY", 0),
        ("STATE", 0),
        ("SCORE", 7),
        ("DECISION", 3),
        ("DECIDER", 8),
        ("REVISION", 5),
        ("UNDONE", 9),
        ("AGE", 1),
        ("MESSAGE", 10),
    ];
    let first = usize::from(!all);
    let cells = |row: &Row| -> Vec<(Tone, String)> {
        let plain = |text: &String| (Tone::Plain, text.clone());
        let healthy = (tone(&row.healthy), row.healthy.clone());
        let all = vec![
            plain(&row.namespace),
            (Tone::Strong, row.name.clone()),
            plain(&row.target),
            plain(&row.mode),
            healthy,
            plain(&row.state),
            plain(&row.score),
            plain(&row.decision),
            plain(&row.decider),
            plain(&row.revision),
            plain(&row.undone),
            plain(&row.age),
            (Tone::Dim, row.message.clone()),
        ];
        all.into_iter().skip(first).collect()
    };
    let rows: Vec<Vec<(Tone, String)>> = rows.iter().map(cells).collect();
    table::draw(&mut page, columns.get(first..).unwrap_or_default(), &rows);
    page.finish()
}
