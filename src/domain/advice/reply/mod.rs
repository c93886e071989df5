//! What a model replied, and whether it is an opinion.
//!
//! Role: lenient about wrapping (fences, `<think>`, prose, single quotes, trailing commas), strict about meaning: what can
//! be read in two ways is no reply. Inputs: text of any origin, the evidence ids of the prompt. Outputs: an opinion, or a
//! failure. Linear in the text. Must never import: other rooms, a clock.

mod loose;

use super::Failure;
use super::prompt::Known;
use crate::domain::outcome::{Confidence, FailureClass, Verdict};
use crate::domain::redact::Redactor;
use loose::Loose;

/// More bytes than this are no reply to what was asked; models that think aloud stay below it.
pub const MOST_BYTES: usize = 256 * 1024;
/// Characters of the reasoning that are kept.
pub const MOST_REASONING: usize = 600;
/// Characters of the suggested fix that are kept.
pub const MOST_FIX: usize = 400;
/// More citations than a prompt has evidence are none.
const MOST_CITED: usize = 64;

/// What a model thinks. Its words come from outside: see [`Opinion::redacted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// What it proposes.
    pub verdict: Verdict,
    /// How sure it says it is.
    pub confidence: Confidence,
    /// What kind of failure it sees.
    pub class: FailureClass,
    /// Why, in [`MOST_REASONING`] characters.
    pub reasoning: String,
    /// What it cites: ids of the prompt, each once.
    pub evidence: Vec<String>,
    /// What might help, in [`MOST_FIX`] characters; often empty.
    pub suggested_fix: String,
}

impl Opinion {
    /// The same, fit to be stored and shown.
    #[must_use]
    pub fn redacted(mut self, redactor: &Redactor) -> Self {
        self.reasoning = redactor.redact(&self.reasoning, MOST_REASONING).to_string();
        self.suggested_fix = redactor.redact(&self.suggested_fix, MOST_FIX).to_string();
        self
    }
}

/// Reads a reply.
///
/// # Errors
/// [`Failure::Empty`], [`Failure::TooLarge`]; [`Failure::Unreadable`] if there is not exactly one thing it says;
/// [`Failure::Invalid`] if that means nothing.
pub fn read(text: &str, known: &[Known]) -> Result<Opinion, Failure> {
    if text.len() > MOST_BYTES {
        return Err(Failure::TooLarge);
    }
    if text.trim().is_empty() {
        return Err(Failure::Empty);
    }
    meaning(&only_object(without_thoughts(text.trim())?)?, known)
}

/// The text behind the thoughts. Where they end must be beyond doubt: a log line that a model repeats may hold the mark.
fn without_thoughts(text: &str) -> Result<&str, Failure> {
    const MARKS: [(&str, &str); 2] = [("<think>", "</think>"), ("<thinking>", "</thinking>")];
    if text.starts_with(['{', '[', '`']) {
        return Ok(text);
    }
    let ends: Vec<(usize, &str, &str)> = MARKS
        .iter()
        .flat_map(|(open, close)| text.match_indices(close).map(move |(at, _)| (at, *open, *close)).take(2))
        .collect();
    match ends.as_slice() {
        [] if MARKS.iter().any(|(open, _)| text.starts_with(open)) => Err(Failure::Unreadable),
        [] => Ok(text),
        [(at, open, close)] => {
            let (thoughts, rest) = text.split_at(*at);
            // Some servers leave the opening mark in the prompt.
            if !thoughts.starts_with(open) && loose::next_object(thoughts, 0).is_some() {
                return Err(Failure::Unreadable);
            }
            Ok(rest.get(close.len()..).unwrap_or_default().trim())
        }
        _ => Err(Failure::Unreadable),
    }
}

type Fields = Vec<(String, Loose)>;

/// The one object with a decision. Two that differ, or one that cannot be read, make the reply unreadable.
fn only_object(text: &str) -> Result<Fields, Failure> {
    let mut found: Option<Fields> = None;
    let mut from = 0;
    while let Some(at) = loose::next_object(text, from) {
        let (object, end) = loose::object(text, at).ok_or(Failure::Unreadable)?;
        from = end;
        if !object.iter().any(|(key, _)| key == "decision") {
            // A schema that is repeated, an example.
            if object.iter().any(|(_, value)| value.holds_key("decision"))
                && !object.iter().any(|(key, _)| key == "type")
            {
                return Err(Failure::Unreadable);
            }
            continue;
        }
        match &found {
            Some(before) if *before != object => return Err(Failure::Unreadable),
            _ => found = Some(object),
        }
    }
    found.ok_or(Failure::Unreadable)
}

fn meaning(fields: &Fields, known: &[Known]) -> Result<Opinion, Failure> {
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let word = |name: &str| match field(name) {
        Some(Loose::Text(text)) => Ok(text.trim()),
        _ => Err(Failure::Invalid),
    };
    let verdict = word("decision")?;
    let verdict = Verdict::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(verdict));
    let class = word("failure_class")?;
    let class = FailureClass::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(class));
    let fix = match field("suggested_fix") {
        None | Some(Loose::Null) => "",
        Some(Loose::Text(text)) => text,
        Some(_) => return Err(Failure::Invalid),
    };
    let reasoning = prose(word("reasoning")?, MOST_REASONING);
    if reasoning.is_empty() {
        return Err(Failure::Invalid);
    }
    Ok(Opinion {
        verdict: *verdict.ok_or(Failure::Invalid)?,
        confidence: confidence(field("confidence"))?,
        class: *class.ok_or(Failure::Invalid)?,
        reasoning,
        evidence: cited(field("evidence"), known)?,
        suggested_fix: prose(fix, MOST_FIX),
    })
}

/// Whole percent. `85`, `85.0` and `"85"` are the same; `0.85` and `1.0` may mean a share, so they mean nothing.
fn confidence(value: Option<&Loose>) -> Result<Confidence, Failure> {
    let text = match value {
        Some(Loose::Number(text)) => text.as_str(),
        Some(Loose::Text(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.as_str(),
        _ => return Err(Failure::Invalid),
    };
    let number: f64 = text.parse().map_err(|_| Failure::Invalid)?;
    let share = number > 0.0 && number <= 1.0 && !text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() > 16 || share || number.fract() != 0.0 || !(0.0..=100.0).contains(&number) {
        return Err(Failure::Invalid);
    }
    Ok(Confidence::percent(number))
}

/// The ids that are cited, spelled as in the prompt.
fn cited(value: Option<&Loose>, known: &[Known]) -> Result<Vec<String>, Failure> {
    let Some(Loose::List(items)) = value else { return Err(Failure::Invalid) };
    if items.len() > MOST_CITED {
        return Err(Failure::Invalid);
    }
    let mut ids: Vec<String> = Vec::new();
    for item in items {
        let Loose::Text(text) = item else { return Err(Failure::Invalid) };
        let text = text.trim();
        let id = known.iter().find(|known| known.id.eq_ignore_ascii_case(text)).ok_or(Failure::Invalid)?;
        if !ids.contains(&id.id) {
            ids.push(id.id.clone());
        }
    }
    Ok(ids)
}

/// One line of at most so many characters. Length is no meaning, so what is too long is cut.
fn prose(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut words =
        text.split(|c: char| c.is_whitespace() || super::prompt::is_hidden(c)).filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        line.push_str(first);
    }
    for word in words {
        line.push(' ');
        line.push_str(word);
    }
    if line.chars().count() > most {
        let end = line.char_indices().nth(most.saturating_sub(1)).map_or(line.len(), |(end, _)| end);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
