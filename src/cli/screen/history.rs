//! Past decisions as a table.
//!
//! Role: a row for each decision that status remembers, the newest first, with its reward. Inputs: a guard as raw JSON,
//! rewards by decision, `now`, a [`Look`]. Outputs: text, or a value for programs. Must never import: a clock, a client, `console`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::seen::{Seen, text};
use super::times::{clock, relative};
use super::{Look, Page, Tone, table};

/// The rewards that samples hold, by decision; those that are not due yet are missing.
pub(in crate::cli) type Rewards = BTreeMap<String, f64>;

/// Past decisions for programs, the newest first.
pub(in crate::cli) fn value(guard: &Value, rewards: &Rewards) -> Value {
    let guard = Seen::new(guard);
    let last = guard.items("/status/history").into_iter();
    let newest = guard.decision();
    let of = |past: &Value| {
        let id = text(past, "/id");
        let fields =
            ["id", "time", "decision", "decider", "reason", "action", "fromRevision", "toRevision", "healthScore"];
        let mut told: serde_json::Map<String, Value> =
            fields.iter().filter_map(|field| Some(((*field).to_owned(), past.get(*field)?.clone()))).collect();
        told.insert("reward".to_owned(), rewards.get(&id).map_or(Value::Null, |reward| json!(reward)));
        Value::Object(told)
    };
    let decisions: Vec<Value> = newest.iter().copied().chain(last).map(of).collect();
    json!({"guard": guard.key(), "decisions": decisions})
}

/// The table.
pub(in crate::cli) fn screen(guard: &Value, rewards: &Rewards, now: Timestamp, look: Look) -> String {
    let told = value(guard, rewards);
    let decisions = told["decisions"].as_array().cloned().unwrap_or_default();
    let mut page = Page::new(look);
    if decisions.is_empty() {
        page.words(0, Tone::Plain, &format!("{} has decided nothing yet.", text(&told, "/guard")));
        return page.finish();
    }
    let rows: Vec<Vec<(Tone, String)>> = decisions.iter().map(|one| row(one, now)).collect();
    let columns = [
        ("WHEN", 0),
        ("AGO", 4),
        ("DECISION", 0),
        ("REASON", 0),
        ("ACTION", 0),
        ("REVISION", 2),
        ("SCORE", 5),
        ("REWARD", 1),
        ("ID", 6),
    ];
    table::draw(&mut page, &columns, &rows);
    page.finish()
}

fn row(past: &Value, now: Timestamp) -> Vec<(Tone, String)> {
    let get = |field: &str| (Tone::Plain, or(text(past, field)));
    let at: Option<Timestamp> = text(past, "/time").parse().ok();
    let verdict = text(past, "/decision");
    let tone = if verdict == "ROLLBACK" { Tone::Bad } else { Tone::Plain };
    let score = past["healthScore"].as_i64().map_or_else(|| "-".to_owned(), |score| score.to_string());
    let reward = past["reward"].as_f64().map_or_else(|| "-".to_owned(), |reward| format!("{reward:+.2}"));
    vec![
        (Tone::Dim, at.map_or_else(|| "-".to_owned(), |at| clock(at, now))),
        (Tone::Dim, at.map_or_else(|| "-".to_owned(), |at| relative(at, now))),
        (tone, or(verdict)),
        get("/reason"),
        get("/action"),
        get("/fromRevision"),
        (Tone::Plain, score),
        (Tone::Plain, reward),
        get("/id"),
    ]
}

fn or(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
