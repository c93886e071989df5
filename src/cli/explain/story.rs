//! A decision as people read it.
//!
//! Role: picks one decision and tells it. Inputs: a guard as raw JSON, which may be of an older or a newer version, and what
//! was kept for it. Outputs: text or JSON; a field that is absent is not told. Must never import: `console`.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{Kept, plain};
use crate::api::parse::percent;
use crate::domain::advice::authority::Authority;
use crate::domain::outcome::Decider;
use crate::domain::sample::key_of;
use crate::record::prompts::KeptCall;

/// Beyond this, E says nothing more.
const MOST: f64 = 1e6;

/// One decision with everything that is known about it.
pub(super) struct Told {
    guard: String,
    spec: Value,
    /// `None` if nothing was decided yet.
    record: Option<Value>,
    /// Each signal at the decision.
    signals: Vec<Value>,
    /// They are not those of the decision but those of now.
    signals_of_now: bool,
    ln_e: Option<f64>,
    calls: Vec<KeptCall>,
    notes: Vec<String>,
    /// What goes on, where nothing was decided.
    now: String,
}

impl Told {
    /// The decision of this id, or the last one.
    pub(super) fn of(kept: &Kept, id: Option<&str>) -> Result<Self, String> {
        let guard = plain::value(&kept.guard);
        let status = guard.get("status").cloned().unwrap_or_default();
        let name = format!("{}/{}", text(&guard, "/metadata/namespace"), text(&guard, "/metadata/name"));
        let last = status.get("lastDecision").filter(|record| record.is_object());
        let wanted = id.map_or_else(|| last.map(|record| text(record, "/id")), |id| Some(id.to_owned()));
        let sample = wanted.as_deref().and_then(|id| sample(kept, id));
        let of_last = last.filter(|record| Some(text(record, "/id")) == wanted);
        let record = match (of_last, wanted.as_deref()) {
            (Some(record), _) => Some(record.clone()),
            (None, None) => None,
            (None, Some(id)) => Some(
                earlier(&status, sample.as_ref(), id)
                    .ok_or_else(|| format!("{name} has no decision {}; {}", plain::line(id), known(&status, kept)))?,
            ),
        };
        let at_decision = sample.as_ref().map(|sample| items(sample, "/state/evidence/signals")).unwrap_or_default();
        let signals_of_now = at_decision.is_empty() && of_last.is_some();
        let signals = if signals_of_now { items(&status, "/signals") } else { at_decision };
        let calls = record.as_ref().map(|record| calls_of(kept, record)).unwrap_or_default();
        Ok(Self {
            guard: name,
            spec: guard.get("spec").cloned().unwrap_or_default(),
            record,
            signals,
            signals_of_now,
            ln_e: sample.as_ref().and_then(|sample| sample.pointer("/state/evidence/lnE")?.as_f64()),
            calls,
            notes: kept.notes.iter().map(|note| plain::line(note)).collect(),
            now: text(&status, "/analysis/message"),
        })
    }

    /// For people.
    pub(super) fn text(&self, prompt: bool) -> String {
        let Some(record) = &self.record else {
            let now = if self.now.is_empty() { String::new() } else { format!(" {}.", self.now) };
            return format!("{} has decided nothing yet.{now}\n", self.guard);
        };
        let mut parts = vec![self.head(record), self.evidence(), findings(record), self.models(record, prompt)];
        parts.extend([done(record), self.bound(record)]);
        if !self.notes.is_empty() {
            parts
                .push(section("Not known", &self.notes.iter().map(|note| plain::wrapped(note, 2)).collect::<String>()));
        }
        if prompt {
            parts.push(self.sent());
        }
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }

    /// For programs. What left and came back only if it is asked for.
    pub(super) fn json(&self, prompt: bool) -> String {
        let mut calls = serde_json::to_value(&self.calls).unwrap_or_default();
        if !prompt {
            for call in calls.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                call.retain(|field, _| !["sent", "exact", "replied"].contains(&field.as_str()));
            }
        }
        let bound = self.record.as_ref().map(|record| self.bound_in_words(record));
        let whole = json!({
            "guard": self.guard, "decision": self.record, "signals": self.signals, "signalsOfNow": self.signals_of_now,
            "lnE": self.ln_e, "calls": calls, "falseRollbackBound": bound, "notes": self.notes,
        });
        format!("{}\n", plain::escaped(&serde_json::to_string_pretty(&whole).unwrap_or_default()))
    }

    fn head(&self, record: &Value) -> String {
        let get = |field: &str| text(record, field);
        let mut lines = format!("{} of {}, {}\n", or(&get("/decision"), "A decision"), self.guard, get("/time"));
        let mut row = |name: &str, said: &str| {
            if !said.is_empty() {
                let told = plain::wrapped(said, 14);
                let _ = write!(lines, "  {name:<12}{}", told.trim_start());
            }
        };
        row("id", &get("/id"));
        let against = joined(" against ", &get("/toRevision"));
        row("judged", &format!("revision {}{against}", get("/fromRevision")));
        let mut by = vec![format!("{} ({})", or(&get("/decider"), "nobody that is known any more"), get("/reason"))];
        by.extend(number(record, "/confidence").map(|percent| format!("confidence {percent} %")));
        by.extend(number(record, "/healthScore").map(|score| format!("health {score} of 100")));
        row("decided by", &by.join(", "));
        row("why", &get("/reasoning"));
        let one_in = Some(get("/oneIn")).filter(|one_in| !get("/reasoning").contains(one_in.as_str()));
        row("chance", &joined("of this without a regression at most ", &one_in.unwrap_or_default()));
        let class = get("/failureClass");
        let from: Vec<String> = items(record, "/failureEvidence").iter().map(|line| text(line, "")).collect();
        row("failure", &if from.is_empty() { class } else { format!("{class}: {}", from.join("; ")) });
        lines
    }

    fn evidence(&self) -> String {
        let mut body = String::new();
        if let Some(ln_e) = self.ln_e.filter(|ln_e| ln_e.is_finite()) {
            let limits = self.alpha().map_or_else(String::new, |alpha| {
                let grey = 1.0 / (crate::domain::judge::kappa(alpha) * alpha);
                format!("; a rollback needs {}, the grey zone begins at {}", amount(1.0 / alpha), amount(grey))
            });
            let _ = writeln!(body, "  E in all {}{limits}", amount(ln_e.exp().min(MOST)));
        }
        let mut rows = vec![["SIGNAL", "STATE", "NEW", "OLD"].map(str::to_owned)];
        for signal in &self.signals {
            let cell = |field: &str| or(&text(signal, field), "-");
            rows.push([cell("/name"), cell("/state"), cell("/value"), cell("/baseline")]);
        }
        if self.signals.is_empty() {
            body.push_str("  no signals are recorded\n");
        } else {
            for (place, row) in plain::table(&rows).iter().enumerate() {
                body.push_str(row);
                let said = place.checked_sub(1).and_then(|at| self.signals.get(at)).map(|one| text(one, "/message"));
                body.push_str(
                    &said.filter(|said| !said.is_empty()).map(|said| plain::wrapped(&said, 6)).unwrap_or_default(),
                );
            }
        }
        let title = if self.signals_of_now { "Evidence, as status shows it now" } else { "Evidence" };
        section(title, &body)
    }

    /// Who was asked, what became of it, and what that could change.
    fn models(&self, record: &Value, prompt: bool) -> String {
        let attempts = items(record, "/attempts");
        let advice = record.get("advice").filter(|advice| advice.is_object());
        if attempts.is_empty() && advice.is_none() && self.calls.is_empty() {
            return section("Language models", "  no question to one is recorded\n");
        }
        let mut rows = vec![["DECIDER", "OUTCOME", "TOOK"].map(str::to_owned)];
        for attempt in &attempts {
            let took = number(attempt, "/milliseconds").map_or_else(|| "-".to_owned(), |took| format!("{took} ms"));
            rows.push([text(attempt, "/decider"), text(attempt, "/outcome"), took]);
        }
        let mut body = if attempts.is_empty() { String::new() } else { plain::table(&rows).concat() };
        match advice {
            Some(advice) => body.push_str(&opinion(record, advice)),
            None if !attempts.is_empty() => body.push_str(
                "  Nobody gave an opinion. A failure is none, and never reads as CONTINUE: the decision is the\n  \
                 algorithm's, as it would have been without a model.\n",
            ),
            None => {}
        }
        if !self.calls.is_empty() && !prompt {
            let _ =
                writeln!(body, "  {} with what was sent and came back; --prompt shows it", counted(self.calls.len()));
        }
        section("Language models", &body)
    }

    fn bound(&self, record: &Value) -> String {
        section("Bound on false rollbacks", &plain::wrapped(&self.bound_in_words(record), 2))
    }

    fn alpha(&self) -> Option<f64> {
        let written =
            self.spec.pointer("/analysis/falseRollbackRate").map_or("1%", |rate| rate.as_str().unwrap_or("1%"));
        percent("falseRollbackRate", written)
            .ok()
            .filter(|ppm| (1..=200_000).contains(ppm))
            .map(|ppm| f64::from(ppm) / 1e6)
    }

    /// Which guarantee holds, from the settings of now.
    fn bound_in_words(&self, record: &Value) -> String {
        let decider = text(record, "/decider");
        match Decider::parse(&decider) {
            Some(Decider::HardFact) => {
                return "None is claimed: a hard fact is seen on pods and needs no statistics.".to_owned();
            }
            Some(Decider::SeedFormula) => return "None: the Seed formula has no bound.".to_owned(),
            _ if decider == "human" => return "None is claimed: a person decided.".to_owned(),
            _ if text(record, "/reason") == "LimitExceeded" => {
                return "None is claimed: a limit that was set is no evidence.".to_owned();
            }
            _ => {}
        }
        let Some(alpha) = self.alpha() else { return "Unknown: analysis.falseRollbackRate cannot be read.".to_owned() };
        let share = |share: f64| format!("{} %", amount(share * 100.0));
        let authority = self.spec.pointer("/decision/authority").and_then(Value::as_str).and_then(Authority::parse);
        let chain = items(&self.spec, "/decision/chain");
        let nobody = !chain.is_empty() && chain.iter().all(|name| name == "algorithm")
            || number(&self.spec, "/decision/maxCallsPerRollout") == Some(0);
        let conditions = "a chance per rollout, for a harmless one, under the conditions of docs/evidence.md; with the \
                          settings that the guard has now";
        let asked = !nobody && self.spec.pointer("/decision").is_some();
        match (authority.filter(|_| asked), authority.and_then(|authority| authority.bound(alpha))) {
            (Some(Authority::TieBreak), Some(bound)) => format!(
                "κα = {}: {conditions}. So much evidence and a wholly hostile model reach together, because \
                 authority TieBreak lets a model decide in the grey zone; evidence alone is held to α = {}.",
                share(bound),
                share(alpha)
            ),
            (Some(Authority::Decide), _) => format!(
                "None: authority Decide lets a model roll back below the grey zone too. Evidence alone would be held to \
                 α = {}.",
                share(alpha)
            ),
            (Some(Authority::Advisory), _) => {
                format!("α = {}: {conditions}. Authority Advisory: models explain and decide nothing.", share(alpha))
            }
            _ => format!("α = {}: {conditions}. No model has a say.", share(alpha)),
        }
    }

    fn sent(&self) -> String {
        if self.calls.is_empty() {
            return section("What left the cluster", "  nothing is kept of this decision\n");
        }
        let mut body = String::new();
        for call in &self.calls {
            let word = plain::line;
            let _ = writeln!(
                body,
                "  {}: {} ({}), prompt version {}: {} after {} ms, {} + {} tokens",
                word(&call.at),
                word(&call.provider),
                word(&call.model),
                call.prompt_version,
                word(&call.outcome),
                call.milliseconds,
                call.usage.input,
                call.usage.output,
            );
            if call.sent.is_empty() {
                body.push_str("    nothing was sent\n");
            } else {
                let exact = if call.exact { "; -o json has it to the byte" } else { ", without what is not stored" };
                let _ = writeln!(body, "   sent{exact}:\n{}", plain::body(&call.sent).trim_end());
            }
            if !call.replied.is_empty() {
                let _ = writeln!(body, "   came back:\n{}", plain::body(&call.replied).trim_end());
            }
        }
        section("What left the cluster", &body)
    }
}

fn opinion(record: &Value, advice: &Value) -> String {
    let get = |field: &str| text(advice, field);
    let mut body = String::new();
    let sure = number(advice, "/confidence").map(|percent| format!(", confidence {percent} %")).unwrap_or_default();
    let _ = writeln!(
        body,
        "  {} proposed {}{sure}{}",
        or(&get("/by"), "A model"),
        or(&get("/proposed"), "something"),
        joined(", ", &get("/failureClass"))
    );
    let cited: Vec<String> = items(advice, "/evidence").iter().map(|id| text(id, "")).collect();
    for (name, said) in [("", get("/reasoning")), ("cites ", cited.join(", ")), ("suggests: ", get("/suggestedFix"))] {
        body.push_str(&if said.is_empty() { String::new() } else { plain::wrapped(&format!("{name}{said}"), 4) });
    }
    let (by, clamp) = (get("/clampedBy"), get("/clamp"));
    let outcome = if !by.is_empty() {
        format!("It changed nothing. What held it ({by}): {}", or(&clamp, "no sentence is recorded"))
    } else if text(record, "/decider").starts_with("llm/") {
        "It decided.".to_owned()
    } else {
        "It changed nothing: the decision stands without it.".to_owned()
    };
    body + &plain::wrapped(&outcome, 2)
}

fn findings(record: &Value) -> String {
    let mut body = String::new();
    for finding in items(record, "/findings") {
        let get = |field: &str| text(&finding, field);
        let old = number(&finding, "/old").map_or_else(|| "unknown".to_owned(), |old| old.to_string());
        let new = number(&finding, "/new").unwrap_or_default();
        let _ = writeln!(
            body,
            "  {} in {}: {} ({new} times, old revision {old})",
            get("/novelty"),
            get("/source"),
            get("/issue")
        );
        for (name, said) in [("", get("/context")), ("usually helps: ", get("/suggestedFix"))] {
            body.push_str(&if said.is_empty() { String::new() } else { plain::wrapped(&format!("{name}{said}"), 6) });
        }
    }
    if body.is_empty() { body } else { section("Findings", &body) }
}

fn done(record: &Value) -> String {
    let action = text(record, "/action");
    let what = match action.as_str() {
        "RolledBack" => format!("Went back to revision {}.", or(&text(record, "/toRevision"), "that is not recorded")),
        "RollingBack" => "An undo is under way.".to_owned(),
        "AwaitingApproval" => "Waits for a person.".to_owned(),
        "Recommended" => "Nothing was changed; what to do was recommended.".to_owned(),
        "None" | "" => "Nothing was changed.".to_owned(),
        other => format!("{other}."),
    };
    let mut body = plain::wrapped(&what, 2);
    let mut add = |name: &str, said: &str| {
        body.push_str(&if said.is_empty() { String::new() } else { plain::wrapped(&format!("{name}{said}"), 2) });
    };
    add("", &text(record, "/actionReason"));
    add("held back by ", &text(record, "/clampedBy"));
    add("answered by ", &text(record, "/answeredBy"));
    let spans = [
        ("first sight to decision", "/durations/detectionToDecision"),
        ("decision to undo", "/durations/decisionToUndo"),
        ("undo to restored", "/durations/undoToRestored"),
    ];
    let took: Vec<String> = spans
        .iter()
        .map(|(name, field)| (name, text(record, field)))
        .filter(|(_, took)| !took.is_empty())
        .map(|(name, took)| format!("{name} {took}"))
        .collect();
    add("", &took.join(", "));
    for (name, field) in [("changed beside it: ", "/configuration"), ("to type: ", "/commands")] {
        for line in items(record, field) {
            add(name, &text(&line, ""));
        }
    }
    section("What was done", &body)
}

/// A decision of the history, completed from its sample; or one of which only the sample is left.
fn earlier(status: &Value, sample: Option<&Value>, id: &str) -> Option<Value> {
    let past = items(status, "/history").into_iter().find(|past| text(past, "/id") == id);
    if past.is_none() && sample.is_none() {
        return None;
    }
    let mut record = Map::new();
    record.insert("id".to_owned(), json!(id));
    if let Some(sample) = sample {
        if let Some(evidence) = sample.pointer("/state/evidence").and_then(Value::as_object) {
            let told = [
                "reason",
                "clampedBy",
                "reasoning",
                "fromRevision",
                "toRevision",
                "oneIn",
                "failureClass",
                "findings",
                "healthScore",
                "attempts",
                "advice",
            ];
            record.extend(
                evidence
                    .iter()
                    .filter(|(field, _)| told.contains(&field.as_str()))
                    .map(|(f, v)| (f.clone(), v.clone())),
            );
        }
        for (field, place) in
            [("decision", "/action"), ("decider", "/decider"), ("confidence", "/confidence"), ("time", "/time")]
        {
            record.extend(sample.pointer(place).map(|found| (field.to_owned(), found.clone())));
        }
    }
    record.extend(past.as_ref().and_then(Value::as_object).into_iter().flatten().map(|(f, v)| (f.clone(), v.clone())));
    Some(Value::Object(record))
}

fn sample(kept: &Kept, id: &str) -> Option<Value> {
    Some(plain::value(&serde_json::from_str(kept.samples.get(&key_of(id))?).ok()?))
}

/// Which decisions there are, for who named another one.
fn known(status: &Value, kept: &Kept) -> String {
    let mut ids: Vec<String> = status.pointer("/lastDecision/id").map(|id| text(id, "")).into_iter().collect();
    ids.extend(items(status, "/history").iter().map(|past| text(past, "/id")));
    for key in kept.samples.keys().map(|key| plain::line(key)) {
        if !ids.contains(&key) {
            ids.push(key);
        }
    }
    if ids.is_empty() { "it has decided nothing yet".to_owned() } else { format!("known are {}", ids.join(", ")) }
}

/// The calls about a decision, and those about the same revision that led up to it.
fn calls_of(kept: &Kept, record: &Value) -> Vec<KeptCall> {
    let (id, revision) = (text(record, "/id"), text(record, "/fromRevision"));
    let when = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let decided = when(&text(record, "/time"));
    let before = |call: &KeptCall| when(&call.at).zip(decided).is_some_and(|(asked, decided)| asked <= decided);
    let about = |call: &&KeptCall| match &call.decision {
        Some(decision) => *decision == id,
        None => call.revision == revision && before(call),
    };
    kept.calls.iter().filter(about).cloned().collect()
}

fn section(title: &str, body: &str) -> String {
    format!("{title}\n{body}")
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).map(plain::line).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer)?.as_i64()
}

fn items(value: &Value, pointer: &str) -> Vec<Value> {
    value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn or(text: &str, instead: &str) -> String {
    if text.is_empty() { instead.to_owned() } else { text.to_owned() }
}

fn joined(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

fn counted(calls: usize) -> String {
    if calls == 1 { "1 call is kept".to_owned() } else { format!("{calls} calls are kept") }
}

/// As few digits as say it.
fn amount(number: f64) -> String {
    if number >= 1e6 {
        return "over 1,000,000".to_owned();
    }
    let text = if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
