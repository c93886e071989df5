//! What happens next, and what a person can do.
//!
//! Role: one answer to "and now?". Inputs: a guard, `now`. Outputs: lines of a page. Must never import: a clock, a client,
//! `console`.

use std::time::Duration;

use jiff::Timestamp;

use super::seen::Seen;
use super::times::{between, clock, relative};
use super::{Page, Tone};

/// After this time it is said that the operator is late.
const LATE: Duration = Duration::from_secs(60);

/// Writes the section.
pub(super) fn write(page: &mut Page, guard: &Seen, now: Timestamp) {
    page.title("Next");
    if guard.has("/status/pendingAction") {
        pending(page, guard, now);
        return;
    }
    let stalled = guard.condition("Stalled");
    if guard.flag("/spec/suspend") {
        page.words(2, Tone::Warn, "Nothing: the guard is suspended (spec.suspend).");
    } else if guard.condition("Ready").is("False") {
        page.words(2, Tone::Bad, &format!("Nothing until this is mended: {}", guard.condition("Ready").message));
    } else if stalled.is("True") {
        page.words(2, Tone::Bad, &format!("A person is needed ({}): {}", stalled.reason, stalled.message));
        commands(page, guard);
    } else if guard.has("/status/undo") {
        page.words(2, Tone::Plain, "The pods of the restored revision are counted until it has proved itself.");
    } else if guard.has("/status/recheck") {
        let until =
            guard.at("/status/recheck/until").map(|at| format!(" until {}", clock(at, now))).unwrap_or_default();
        page.words(2, Tone::Plain, &format!("The restored revision is watched{until}: did the undo help?"));
    } else {
        page.words(2, Tone::Plain, &usual(guard, now));
    }
    match guard.at("/status/nextEvaluation") {
        Some(at) if between(at, now) > LATE => {
            let said = format!(
                "It should have looked again at {} ({}): does the operator run?",
                clock(at, now),
                relative(at, now)
            );
            page.words(2, Tone::Warn, &said);
        }
        Some(at) if at > now => {
            page.words(2, Tone::Dim, &format!("Looks again at {} ({}).", clock(at, now), relative(at, now)));
        }
        // Numbers that merely move are written every 15 s: the next look is under way, or was and had no news.
        _ => {}
    }
}

fn usual(guard: &Seen, now: Timestamp) -> String {
    let ready = guard.at("/status/current/firstReadyAt");
    let end = ready.and_then(|ready| ready.checked_add(guard.window()).ok()).filter(|end| *end > now);
    let end = end.map(|end| format!(" at {} ({})", clock(end, now), relative(end, now)));
    match guard.state().as_str() {
        "" if !guard.has("/status") => {
            "The operator has not looked at this guard yet; if that lasts, see whether it runs.".to_owned()
        }
        "Judging" => {
            let blind = guard.condition("MetricsAvailable").is("False");
            let by = if blind {
                "Without metrics only states of its pods can prove it bad"
            } else {
                "It may be proven bad at any moment"
            };
            let end = end.map(|end| format!(" The window ends{end}.")).unwrap_or_default();
            format!("{by}; {}.{end}", consequence(guard))
        }
        "Certified" => format!("It is watched to the end of the window{}.", end.unwrap_or_default()),
        "Held" => "It is watched on until something can be proven.".to_owned(),
        _ => "The next rollout is judged.".to_owned(),
    }
}

/// What follows from being bad.
fn consequence(guard: &Seen) -> &'static str {
    match guard.text("/spec/mode").as_str() {
        "Enforce" => "it is undone then",
        "Approve" => "a person is asked then",
        "Recommend" => "what to do is recommended then",
        _ => "that is recorded then, for the guard only observes",
    }
}

/// An undo that a person has to approve.
fn pending(page: &mut Page, guard: &Seen, now: Timestamp) {
    let get = |field: &str| guard.text(&format!("/status/pendingAction/{field}"));
    let expires = guard.at("/status/pendingAction/expiresAt");
    let until = match expires {
        Some(at) if at <= now => "; the time for it is over".to_owned(),
        Some(at) => format!(" until {} ({})", clock(at, now), relative(at, now)),
        None => String::new(),
    };
    let (from, to) = (get("fromRevision"), get("toRevision"));
    page.words(2, Tone::Warn, &format!("Waits for a person{until}: go back from {from} to {to}? {}", get("why")));
    let ignored = get("ignored");
    if !ignored.is_empty() {
        page.words(2, Tone::Bad, &format!("An answer was not understood: {ignored}"));
    }
    page.words(2, Tone::Plain, "To approve or to reject:");
    for answer in ["approve", "reject"] {
        page.command(&answer_line(page.look().program, answer, guard));
    }
}

/// What a person pastes to answer.
pub(in crate::cli) fn answer_line(program: &str, answer: &str, guard: &Seen) -> String {
    let (namespace, name) = (guard.text("/metadata/namespace"), guard.text("/metadata/name"));
    format!("{program} {answer} -n {namespace} {name} {}", guard.text("/status/pendingAction/decision"))
}

/// What was recommended.
fn commands(page: &mut Page, guard: &Seen) {
    let commands = guard.items("/status/lastDecision/commands");
    if commands.is_empty() || !guard.decision_is_of_current() {
        return;
    }
    page.words(2, Tone::Plain, "What a person would do, the best first:");
    for command in commands.iter().filter_map(|command| command.as_str()) {
        page.command(command);
    }
}
