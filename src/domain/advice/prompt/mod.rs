//! What a model is asked: a computed table of evidence with ids, and what programs and people wrote inside a boundary.
//!
//! Role: the versioned template. Inputs: a case, the data policy, a boundary drawn by the caller. Outputs: system and user
//! text, the schema of the reply, the ids that may be cited. Never raw series, always within [`MOST_TOKENS`]. Must never
//! import: other rooms, a clock, randomness.

mod case;
mod clean;
mod hash;
mod template;

pub use case::{Case, Change, ChangeKind, FactRow, Milestone, SignalRow, changes};
pub use clean::is_hidden;
pub use hash::evidence_hash;

use std::fmt::Write;

use serde_json::{Value, json};

use super::Failure;
use super::authority::number;
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::judge::kappa;
use crate::domain::outcome::{FailureClass, Verdict};
use crate::domain::process::Counts;
use crate::domain::redact::{PatternError, Redactor, SecretKind};
use clean::Lines;

/// The version of the template; a new one is a new question.
pub const PROMPT_VERSION: u32 = 1;
/// What a prompt never exceeds, by [`Prompt::tokens`].
pub const MOST_TOKENS: usize = 8000;
/// Bytes of the part that differs from case to case; each counts as a token.
const MOST_CASE: usize = 5000;
/// Rows of each table.
const MOST_SIGNALS: usize = 10;
const MOST_FACTS: usize = 4;
const MOST_FINDINGS: usize = 8;
const MOST_MOMENTS: usize = 8;
/// Lines of each sort inside the boundary.
const MOST_CHANGES: usize = 12;
const MOST_NOTES: usize = 4;
/// The shortest boundary that nobody guesses.
const LEAST_BOUNDARY: usize = 16;
const LONGEST_BOUNDARY: usize = 64;

/// How much leaves the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DataPolicy {
    /// Numbers and words of this project only: no names, no logs, nothing of the template.
    MetricsOnly,
    /// Text too, without secrets, e-mail addresses and IP addresses.
    #[default]
    Redacted,
    /// Text with its e-mail and IP addresses; credentials are blackened all the same.
    Full,
}

impl DataPolicy {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::MetricsOnly, Self::Redacted, Self::Full];

    /// The word in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MetricsOnly => "MetricsOnly",
            Self::Redacted => "Redacted",
            Self::Full => "Full",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|policy| policy.as_str() == word)
    }

    /// What blackens prompts and requests under this policy. The key makes equal values recognisable in one cluster.
    ///
    /// # Errors
    /// If a pattern of the user's cannot be used.
    pub fn redactor(self, patterns: &[String], key: &[u8]) -> Result<Redactor, PatternError> {
        let all = Redactor::new().with(patterns)?.keyed(key);
        Ok(if self == Self::Full { all.without(&[SecretKind::Email, SecretKind::Ip]) } else { all })
    }
}

/// A piece of evidence that may be cited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id in the prompt.
    pub id: String,
    /// Whether it is worse than on the old revision: ln E > 0, a hard fact, a finding that is new.
    pub abnormal: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The part that never changes within a version.
    pub system: String,
    /// The case.
    pub user: String,
    /// The schema of the reply.
    pub schema: Value,
    /// What may be cited.
    pub known: Vec<Known>,
}

impl Prompt {
    /// How many tokens that is at most. No tokenizer makes more tokens than bytes, which is how what others wrote is
    /// counted; the rest is plain English and JSON, of which a token has four letters or so and is counted as two.
    /// The schema counts twice, because it may have to stand in the prompt too.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.user.len() + self.system.len().div_ceil(2) + self.schema.to_string().len()
    }
}

/// Writes the prompt. `redactor` is that of the policy: [`DataPolicy::redactor`].
///
/// # Errors
/// [`Failure::NotSendable`], if the boundary is not 16 to 64 letters and digits.
pub fn write(case: &Case, policy: DataPolicy, boundary: &str, redactor: &Redactor) -> Result<Prompt, Failure> {
    let length = LEAST_BOUNDARY..=LONGEST_BOUNDARY;
    if !length.contains(&boundary.len()) || !boundary.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Failure::NotSendable);
    }
    let known = known(case);
    // Names and values of signals come from the author of the guard.
    let mut user = clean::without(&tables(case, policy, redactor), boundary);
    if policy == DataPolicy::MetricsOnly {
        user.push_str(template::CLOSE_WITHOUT_BLOCK);
    } else {
        let frame = 2 * (boundary.len() + 10) + template::CLOSE.len();
        let mut lines = Lines::new(boundary, redactor, MOST_CASE.saturating_sub(user.len() + frame));
        block(case, &mut lines);
        let _ = write!(user, "\n--- {boundary} ---\n{}--- {boundary} ---\n{}", lines.done(), template::CLOSE);
    }
    Ok(Prompt { system: template::SYSTEM.to_owned(), user, schema: schema(&known), known })
}

/// Ids by kind and place.
fn known(case: &Case) -> Vec<Known> {
    let signals = (1..)
        .zip(&case.signals)
        .take(MOST_SIGNALS)
        .map(|(place, row)| Known { id: format!("S{place}"), abnormal: row.ln_e.is_some_and(|ln_e| ln_e > 0.0) });
    let facts =
        (1..).zip(&case.facts).take(MOST_FACTS).map(|(place, _)| Known { id: format!("P{place}"), abnormal: true });
    let findings = (1..)
        .zip(&case.findings)
        .take(MOST_FINDINGS)
        .map(|(place, finding)| Known { id: format!("F{place}"), abnormal: finding.novelty == Novelty::New });
    signals.chain(facts).chain(findings).collect()
}

/// The computed part: nothing in it was written by anybody but this program and the author of the guard.
fn tables(case: &Case, policy: DataPolicy, redactor: &Redactor) -> String {
    let mut text = String::new();
    let e = case.ln_e.map_or_else(|| "unknown, nothing was compared".to_owned(), |ln_e| number(ln_e.exp()));
    let _ = writeln!(
        text,
        "Prompt version {PROMPT_VERSION}. Zone: {}. E in all: {e}. Evidence alone rolls back at E >= {}; the grey zone \
         begins at E >= {}.",
        case.zone.as_str(),
        number(1.0 / case.alpha),
        number(1.0 / (kappa(case.alpha) * case.alpha)),
    );
    text.push_str(
        "\nSignals: id | name | verdict | new | old | bad of all, new | bad of all, old | ratio | E | allowed\n",
    );
    for (place, row) in (1..).zip(&case.signals).take(MOST_SIGNALS) {
        let _ = writeln!(text, "{}", signal(place, row, policy, redactor));
    }
    none(&mut text, case.signals.is_empty());
    text.push_str("\nFacts: id | reason\n");
    for (place, fact) in (1..).zip(&case.facts).take(MOST_FACTS) {
        let _ = writeln!(text, "P{place} | {}", fact.reason);
    }
    none(&mut text, case.facts.is_empty());
    text.push_str("\nFindings: id | found by | against the old revision | kind | times new | times old\n");
    for (place, finding) in (1..).zip(&case.findings).take(MOST_FINDINGS) {
        let _ = writeln!(text, "{}", finding_row(place, finding));
    }
    none(&mut text, case.findings.is_empty());
    text.push_str("\nTimeline: seconds since the rollout began | what\n");
    for (seconds, what) in case.timeline.iter().take(MOST_MOMENTS) {
        let _ = writeln!(text, "{seconds} | {}", what.as_str());
    }
    let kinds: Vec<String> = ChangeKind::ALL
        .iter()
        .map(|kind| (kind, case.changes.iter().filter(|change| change.kind == *kind).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{} {count}", kind.as_str()))
        .collect();
    let kinds = if kinds.is_empty() { "nothing that is shown here".to_owned() } else { kinds.join(", ") };
    let _ = writeln!(text, "\nChanged in the template: {kinds}.");
    text
}

fn none(text: &mut String, empty: bool) {
    if empty {
        text.push_str("none\n");
    }
}

fn signal(place: usize, row: &SignalRow, policy: DataPolicy, redactor: &Redactor) -> String {
    let name = match (policy, row.term) {
        (DataPolicy::MetricsOnly, Some(term)) => term.as_str().to_owned(),
        (DataPolicy::MetricsOnly, None) => "another".to_owned(),
        _ => clean::name(&row.name, redactor),
    };
    let counts = |counts: Counts| format!("{} of {}", counts.bad, counts.total);
    let (new, old, ratio) = row.counted.map_or_else(
        || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        |(new, old)| {
            let ratio = new.rate().zip(old.rate()).filter(|(_, old)| *old > 0.0).map(|(new, old)| number(new / old));
            (counts(new), counts(old), ratio.unwrap_or_else(|| "-".to_owned()))
        },
    );
    let e = row.ln_e.map_or_else(|| "-".to_owned(), |ln_e| number(ln_e.exp()));
    format!(
        "S{place} | {name} | {} | {} | {} | {new} | {old} | {ratio} | {e} | {}",
        row.verdict.as_str(),
        clean::value(&row.new, redactor),
        clean::value(&row.old, redactor),
        clean::terms(&row.allowed, redactor),
    )
}

fn finding_row(place: usize, finding: &Finding) -> String {
    let source = match finding.source {
        Source::Logs { .. } => "logs",
        Source::Probe { .. } => "probe",
        Source::Pods => "pods",
    };
    let old = finding.old.map_or_else(|| "unknown".to_owned(), |old| old.to_string());
    let (novelty, class) = (finding.novelty.as_str(), finding.class);
    format!("F{place} | {source} | {novelty} | {class} | {} | {old}", finding.new)
}

/// What programs and people wrote.
fn block(case: &Case, lines: &mut Lines<'_>) {
    lines.add("workload", &case.workload);
    for (place, fact) in (1..).zip(&case.facts).take(MOST_FACTS) {
        lines.add(&format!("P{place}"), &fact.sentence);
    }
    for (place, finding) in (1..).zip(&case.findings).take(MOST_FINDINGS) {
        lines.add(
            &format!("F{place} from {}", clean::name(&finding.source.to_string(), lines.redactor())),
            &finding.issue,
        );
        lines.add(&format!("F{place} reads"), &finding.context);
    }
    for change in case.changes.iter().take(MOST_CHANGES) {
        lines.add(change.kind.as_str(), &change.sentence());
    }
    for note in case.notes.iter().take(MOST_NOTES) {
        lines.add("note", note);
    }
}

/// The schema of the reply. Lengths are not in it, because servers that hold a model to a schema refuse them.
fn schema(known: &[Known]) -> Value {
    let ids: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
    let id = if ids.is_empty() { json!({"type": "string"}) } else { json!({"type": "string", "enum": ids}) };
    let verdicts: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
    let classes: Vec<&str> = FailureClass::ALL.iter().map(|class| class.as_str()).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["decision", "confidence", "failure_class", "reasoning", "evidence", "suggested_fix"],
        "properties": {
            "decision": {"type": "string", "enum": verdicts},
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
            "failure_class": {"type": "string", "enum": classes},
            "reasoning": {"type": "string", "description": "at most 600 characters"},
            "evidence": {"type": "array", "items": id},
            "suggested_fix": {"type": "string", "description": "at most 400 characters, may be empty"},
        },
    })
}

#[cfg(test)]
mod tests;
