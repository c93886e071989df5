//! The way of a rollout through its phases.
//!
//! Role: detected, warm-up, analysing, decided, undone, verified, each with when. Inputs: a guard, `now`. Outputs: phases
//! in their order. Must never import: a clock, a client, `console`.

use std::time::Duration;

use jiff::Timestamp;

use super::seen::Seen;
use super::times::{between, clock, span};

/// Steps are counted every few seconds; after this time without one it is said.
const STALE: Duration = Duration::from_secs(60);

/// How far a phase got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Done,
    Now,
    Bad,
    Ahead,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) mark: Mark,
    /// When it ended, or began if it goes on.
    pub(super) at: Option<Timestamp>,
    pub(super) note: String,
}

fn phase(name: &'static str, mark: Mark, at: Option<Timestamp>, note: impl Into<String>) -> Phase {
    Phase { name, mark, at, note: note.into() }
}

/// The phases; none where nothing is or was judged.
pub(super) fn phases(guard: &Seen, now: Timestamp) -> Vec<Phase> {
    if guard.is_undone() {
        return undone(guard);
    }
    let state = guard.state();
    if !guard.has("/status/current") || state == "Serving" {
        return Vec::new();
    }
    let decided = guard.decision_is_of_current();
    let mut phases = vec![phase("detected", Mark::Done, guard.at("/status/current/startedAt"), "")];
    phases.extend(judging(guard, now, decided));
    phases.extend(outcome(guard, &state, decided));
    phases
}

/// Warm-up and analysis.
fn judging(guard: &Seen, now: Timestamp, decided: bool) -> Vec<Phase> {
    let ready = guard.at("/status/current/firstReadyAt");
    let warm = ready.and_then(|ready| ready.checked_add(guard.warmup()).ok());
    let window = guard.window();
    let (Some(ready), Some(warm)) = (ready, warm) else {
        let (mark, note) =
            if decided { (Mark::Done, "no pod became Ready") } else { (Mark::Now, "no new pod is Ready yet") };
        let analysing = if decided { Mark::Done } else { Mark::Ahead };
        return vec![phase("warm-up", mark, None, note), phase("analysing", analysing, None, "pods and their states")];
    };
    let end = ready.checked_add(window).unwrap_or(Timestamp::MAX);
    let ended = guard.at("/status/lastDecision/time").filter(|_| decided);
    let watched = |until: Timestamp| format!("{} of {}", span(between(ready, until).min(window)), span(window));
    let certified = guard.state() == "Certified";
    if let Some(ended) = ended.filter(|_| !certified) {
        let early = ended < warm;
        let note = if early { "decided before its end" } else { "" };
        return vec![
            phase("warm-up", Mark::Done, Some(warm.min(ended)), note),
            phase("analysing", Mark::Done, Some(ended), watched(ended)),
        ];
    }
    if now < warm {
        let note = format!("until {}", clock(warm, now));
        return vec![
            phase("warm-up", Mark::Now, Some(ready), note),
            phase("analysing", Mark::Ahead, None, "pods are watched already"),
        ];
    }
    let over = if now > end { ", and on" } else { "" };
    let mut note = format!("{}{over}", watched(now));
    let counted = guard.at("/status/analysis/countedUntil").filter(|at| between(*at, now) > STALE);
    if let Some(counted) = counted {
        note = format!("{note}, nothing counted since {}", clock(counted, now));
    }
    if guard.state() == "Passed" || guard.state() == "Unproven" {
        return vec![
            phase("warm-up", Mark::Done, Some(warm), ""),
            phase("analysing", Mark::Done, Some(end.min(now)), ""),
        ];
    }
    vec![phase("warm-up", Mark::Done, Some(warm), ""), phase("analysing", Mark::Now, Some(warm), note)]
}

/// What was decided about the revision that serves, and what came of it.
fn outcome(guard: &Seen, state: &str, decided: bool) -> Vec<Phase> {
    if !decided {
        return vec![phase("decided", Mark::Ahead, None, "")];
    }
    let verdict = guard.text("/status/lastDecision/decision");
    let bad = verdict == "ROLLBACK";
    let by = guard.text("/status/lastDecision/decider");
    let decision = phase(
        "decided",
        if bad { Mark::Bad } else { Mark::Done },
        guard.at("/status/lastDecision/time"),
        format!("{verdict} by {by}"),
    );
    let undo = match state {
        "AwaitingApproval" => phase("undone", Mark::Now, None, "waits for a person"),
        _ if guard.has("/status/undo") => phase("undone", Mark::Now, None, "on its way"),
        _ if bad => phase("undone", Mark::Bad, None, "no; see below"),
        _ => return vec![decision],
    };
    vec![decision, undo, phase("verified", Mark::Ahead, None, "")]
}

/// The way of the revision that was undone.
fn undone(guard: &Seen) -> Vec<Phase> {
    let decided = guard.at("/status/lastDecision/time");
    let took = |field: &str| seconds(&guard.text(&format!("/status/lastDecision/durations/{field}")));
    let before = |at: Timestamp| at.checked_sub(took("detectionToDecision")?).ok();
    let after = |at: Timestamp, field: &str| at.checked_add(took(field)?).ok();
    let detected = decided.and_then(before);
    let sent = guard.at("/status/undo/sentAt").or_else(|| after(decided?, "decisionToUndo"));
    let verified = sent.and_then(|sent| after(sent, "undoToRestored"));
    let by = guard.text("/status/lastDecision/decider");
    let from = guard.text("/status/lastDecision/fromRevision");
    let to = guard.text("/status/lastDecision/toRevision");
    let verification = match verified {
        Some(at) => phase("verified", Mark::Done, Some(at), format!("{to} serves again")),
        None if guard.has("/status/undo") => phase("verified", Mark::Now, None, format!("waits for the pods of {to}")),
        None => phase("verified", Mark::Bad, None, guard.condition("RolledBack").reason),
    };
    vec![
        phase("detected", Mark::Done, detected, format!("revision {from}")),
        phase("analysing", Mark::Done, decided, ""),
        phase("decided", Mark::Bad, decided, format!("{} by {by}", guard.text("/status/lastDecision/decision"))),
        phase("undone", Mark::Done, sent, format!("back to {to}")),
        verification,
    ]
}

/// A time as records write it, such as `8.3s`.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}
