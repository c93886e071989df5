//! One guard on one screen.
//!
//! Role: tells where a rollout stands, on what that rests, and what happens next. Inputs: a guard as raw JSON, `now`, a
//! [`Look`]. Outputs: text. Must never import: a clock, a client, `console`.

use jiff::Timestamp;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::phases::{Mark, phases};
use super::seen::{Seen, text};
use super::times::{clock, relative};
use super::{Look, Page, Tone, next, table};

/// Findings that have room.
const FINDINGS: usize = 3;

/// The screen.
pub(in crate::cli) fn screen(guard: &Value, now: Timestamp, look: Look) -> String {
    let (guard, mut page) = (Seen::new(guard), Page::new(look));
    head(&mut page, &guard);
    way(&mut page, &guard, now);
    metrics(&mut page, &guard);
    signals(&mut page, &guard);
    evidence(&mut page, &guard);
    findings(&mut page, &guard);
    decision(&mut page, &guard, now);
    next::write(&mut page, &guard, now);
    page.finish()
}

/// The same in one line, without anything that changes by itself.
pub(in crate::cli) fn line(guard: &Value) -> String {
    let guard = Seen::new(guard);
    let healthy = guard.condition("Healthy");
    let state = if healthy.reason.is_empty() { "not looked at yet".to_owned() } else { healthy.reason };
    let revision = guard.text("/status/current/revision");
    let revision = if revision.is_empty() { revision } else { format!(" revision {revision}") };
    let message = if healthy.message.is_empty() { String::new() } else { format!(": {}", healthy.message) };
    format!("{}{revision} {state}{message}", guard.key())
}

/// The tone of what is said about health.
pub(super) fn tone(status: &str) -> Tone {
    match status {
        "True" => Tone::Good,
        "False" => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn head(page: &mut Page, guard: &Seen) {
    let (kind, name) = (guard.text("/spec/targetRef/kind"), guard.text("/spec/targetRef/name"));
    let kind = if kind.is_empty() { "Deployment".to_owned() } else { kind };
    let mode = guard.text("/spec/mode");
    let mode = if mode.is_empty() { String::new() } else { format!("  mode {mode}") };
    page.line(&[(Tone::Strong, guard.key()), (Tone::Dim, format!("  {kind} {name}{mode}"))]);
    let healthy = guard.condition("Healthy");
    let word = if healthy.reason.is_empty() { "not looked at yet".to_owned() } else { healthy.reason.clone() };
    let score = guard.number("/status/healthScore").map(|score| format!("  score {score}")).unwrap_or_default();
    page.line(&[(tone(&healthy.status), word), (Tone::Plain, score)]);
    let revision = guard.text("/status/current/revision");
    if !revision.is_empty() {
        let against = guard.text("/status/current/baseline");
        let against = if against.is_empty() { against } else { format!(" against {against}") };
        let images: Vec<&str> = guard.items("/status/current/images").into_iter().filter_map(Value::as_str).collect();
        let images = if images.is_empty() { String::new() } else { format!(" ({})", images.join(", ")) };
        page.words(0, Tone::Plain, &format!("revision {revision}{against}{images}"));
    }
    // What a decision says in full stands below it.
    let told = guard.decision_is_of_current() || guard.is_undone() || guard.condition("Ready").is("False");
    if !healthy.message.is_empty() && !told {
        page.words(0, Tone::Plain, &healthy.message);
    }
}

fn way(page: &mut Page, guard: &Seen, now: Timestamp) {
    let phases = phases(guard, now);
    if phases.is_empty() {
        return;
    }
    page.blank();
    for phase in phases {
        let (sign, tone) = match phase.mark {
            Mark::Done => (page.sign("✓", "+"), Tone::Good),
            Mark::Now => (page.sign("▶", ">"), Tone::Warn),
            Mark::Bad => (page.sign("✗", "x"), Tone::Bad),
            Mark::Ahead => (page.sign("·", "-"), Tone::Dim),
        };
        let at = phase.at.map(|at| format!("{}  {}", clock(at, now), relative(at, now))).unwrap_or_default();
        let at = if phase.note.is_empty() || at.is_empty() { at } else { format!("{at}, ") };
        let named = format!(" {:<10} ", phase.name);
        let of_text = if phase.mark == Mark::Ahead { Tone::Dim } else { Tone::Plain };
        page.line(&[(Tone::Plain, "  "), (tone, sign), (of_text, &named), (of_text, &at), (of_text, &phase.note)]);
    }
}

/// Said only where it is not well: being blind is a fact of its own, and no verdict.
fn metrics(page: &mut Page, guard: &Seen) {
    let available = guard.condition("MetricsAvailable");
    if available.is("False") {
        page.title("Metrics cannot be read");
        page.words(2, Tone::Warn, &available.message);
        page.words(2, Tone::Dim, "This is neither good nor bad for the release; states of pods are still judged.");
    }
}

fn signals(page: &mut Page, guard: &Seen) {
    let signals = guard.items("/status/signals");
    if signals.is_empty() {
        return;
    }
    page.title("Signals");
    let widest = signals.iter().map(|one| text(one, "/name").width() + text(one, "/state").width()).max().unwrap_or(0);
    let values =
        signals.iter().map(|one| text(one, "/value").width() + text(one, "/baseline").width()).max().unwrap_or(0);
    let free = page.look().width.saturating_sub(widest + values + 12);
    let cells = if free < 8 { 0 } else { (free / 2).min(12) };
    let mut rows = Vec::new();
    for signal in &signals {
        let state = text(signal, "/state");
        let of_state = match state.as_str() {
            "Good" => Tone::Good,
            "Worse" => Tone::Bad,
            "Missing" | "Errored" => Tone::Warn,
            _ => Tone::Dim,
        };
        let (new, old) = (text(signal, "/value"), text(signal, "/baseline"));
        let (new_share, old_share) = shares(&new, &old);
        let side = |page: &Page, share: Option<f64>, said: String| match share {
            Some(share) if cells > 0 => format!("{} {said}", page.bar(share, cells)),
            _ if said.is_empty() => "-".to_owned(),
            _ => said,
        };
        let (new, old) = (side(page, new_share, new), side(page, old_share, old));
        rows.push(vec![
            (Tone::Plain, format!("  {}", text(signal, "/name"))),
            (of_state, state),
            (if of_state == Tone::Bad { Tone::Bad } else { Tone::Plain }, new),
            (Tone::Plain, old),
        ]);
    }
    table::draw(page, &[("  SIGNAL", 0), ("STATE", 0), ("NEW", 0), ("OLD", 0)], &rows);
    for signal in signals.iter().filter(|one| ["Worse", "Missing", "Errored", "Shown"].contains(&&*text(one, "/state")))
    {
        let message = text(signal, "/message");
        if !message.is_empty() {
            page.words(4, Tone::Dim, &format!("{}: {message}", text(signal, "/name")));
        }
    }
}

/// Two values with units as parts of the larger one; nothing where they cannot be compared.
fn shares(new: &str, old: &str) -> (Option<f64>, Option<f64>) {
    let (read_new, read_old) = (amount(new), amount(old));
    if let (Some((_, one)), Some((_, other))) = (&read_new, &read_old)
        && one != other
    {
        return (None, None);
    }
    let most = read_new.iter().chain(&read_old).map(|(amount, _)| *amount).fold(0.0, f64::max);
    let share = |read: Option<(f64, String)>| read.map(|(amount, _)| if most > 0.0 { amount / most } else { 0.0 });
    (share(read_new), share(read_old))
}

/// A number and its unit.
fn amount(text: &str) -> Option<(f64, String)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: f64 = number.replace(',', "").parse().ok()?;
    (number.is_finite() && number >= 0.0).then(|| (number, unit.trim().to_owned()))
}

fn evidence(page: &mut Page, guard: &Seen) {
    let of_decision = guard.decision_is_of_current() || guard.is_undone();
    let place = if of_decision { "/status/lastDecision/oneIn" } else { "/status/analysis/oneIn" };
    let one_in = guard.text(place);
    let Some((times, _)) = one_in.strip_prefix("1 in ").and_then(amount) else { return };
    let threshold = guard.threshold();
    page.title("Evidence");
    let share = if times > 1.0 { times.ln() / threshold.ln() } else { 0.0 };
    let bar = page.bar(share, 20);
    let tone = if times >= threshold { Tone::Bad } else { Tone::Plain };
    page.line(&[(Tone::Plain, "  "), (tone, bar.as_str()), (Tone::Plain, " "), (tone, one_in.as_str())]);
    let needed = format!("{threshold:.0}");
    page.words(
        2,
        Tone::Dim,
        &format!("Chance of what was seen without a regression, at most; a rollback needs 1 in {needed}."),
    );
}

fn findings(page: &mut Page, guard: &Seen) {
    let of_decision = guard.decision_is_of_current() || guard.is_undone();
    let mut findings = guard.items("/status/findings");
    if findings.is_empty() && of_decision {
        findings = guard.items("/status/lastDecision/findings");
    }
    if findings.is_empty() {
        return;
    }
    page.title("Findings");
    for finding in findings.iter().take(FINDINGS) {
        let count = |field: &str| finding.pointer(field).and_then(Value::as_i64);
        let old = count("/old").map_or_else(|| "unknown".to_owned(), |old| old.to_string());
        let (novelty, source, issue) = (text(finding, "/novelty"), text(finding, "/source"), text(finding, "/issue"));
        let new = count("/new").unwrap_or_default();
        let tone = if novelty == "New" || novelty == "More" { Tone::Bad } else { Tone::Plain };
        page.words(2, tone, &format!("{novelty} in {source}: {issue} ({new} times, old revision {old})"));
        let fix = text(finding, "/suggestedFix");
        for (before, said) in [("", text(finding, "/context")), ("usually helps: ", fix)] {
            if !said.is_empty() {
                page.words(6, Tone::Dim, &format!("{before}{said}"));
            }
        }
    }
    if let Some(more) = findings.len().checked_sub(FINDINGS).filter(|more| *more > 0) {
        page.words(2, Tone::Dim, &format!("and {more} more"));
    }
}

fn decision(page: &mut Page, guard: &Seen, now: Timestamp) {
    let get = |field: &str| guard.text(&format!("/status/lastDecision/{field}"));
    let verdict = get("decision");
    if verdict.is_empty() {
        return;
    }
    let earlier = !(guard.decision_is_of_current() || guard.is_undone());
    page.title(if earlier { "Last decision, about an earlier revision" } else { "Decision" });
    let tone = if verdict == "ROLLBACK" { Tone::Bad } else { Tone::Plain };
    let sure = guard.number("/status/lastDecision/confidence").map(|sure| format!(", confidence {sure} %"));
    let when = guard.at("/status/lastDecision/time").map(|at| format!(", {}", relative(at, now)));
    let (by, reason) = (get("decider"), get("reason"));
    let rest = format!(" by {by} ({reason}){}{}", sure.unwrap_or_default(), when.unwrap_or_default());
    page.words(2, tone, &format!("{verdict}{rest}"));
    if earlier {
        return;
    }
    page.words(2, Tone::Plain, &get("reasoning"));
    let action = match get("action").as_str() {
        "RolledBack" => format!("Went back from {} to {}.", get("fromRevision"), get("toRevision")),
        "RollingBack" => "An undo is under way.".to_owned(),
        "AwaitingApproval" => "Waits for a person.".to_owned(),
        "Recommended" => "Nothing was changed; what to do was recommended.".to_owned(),
        "" | "None" => "Nothing was changed.".to_owned(),
        other => format!("{other}."),
    };
    page.words(2, Tone::Plain, &format!("{action} {}", get("actionReason")));
    let advised = get("advice/reasoning");
    if !advised.is_empty() {
        page.words(2, Tone::Dim, &format!("{} says: {advised}", get("advice/by")));
    }
    let more = format!(
        "{} explain -n {} {}",
        page.look().program,
        guard.text("/metadata/namespace"),
        guard.text("/metadata/name")
    );
    page.words(2, Tone::Dim, &format!("The whole of it: {more}"));
}
