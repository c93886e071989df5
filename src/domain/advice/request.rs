//! The one way out: no request to a provider is sent that did not come through here.
//!
//! Role: blackens the serialised request and then looks again; what cannot be shown to be clean is not sent. Inputs: the
//! body as JSON, the redactor of the data policy. Outputs: the body that may be sent, and what was taken out. Must never
//! import: other rooms, a clock.

use std::fmt;

use serde_json::Value;

use super::Failure;
use crate::domain::redact::{Counts, Redactor};

/// The largest request that is looked at; a prompt is a tenth of it.
const MOST_BYTES: usize = 256 * 1024;
/// A value that no pattern takes for anything, unless its name says so.
const PROBE: &str = "aB3dE6gH";

/// A request that may be sent. Only [`redact_request`] makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Sendable {
    body: String,
    taken: Counts,
}

impl Sendable {
    /// The body.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.body
    }

    /// What was taken out, and how often.
    #[must_use]
    pub const fn taken(&self) -> &Counts {
        &self.taken
    }
}

impl fmt::Debug for Sendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sendable").field("bytes", &self.body.len()).field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// Blackens a serialised request, and looks again.
///
/// # Errors
/// [`Failure::NotSendable`], if it is no JSON, too large, or anything is still found in it.
pub fn redact_request(body: &str, redactor: &Redactor) -> Result<Sendable, Failure> {
    let whole = if body.len() <= MOST_BYTES { serde_json::from_str::<Value>(body).ok() } else { None };
    let mut value = whole.ok_or(Failure::NotSendable)?;
    let mut taken = Counts::new();
    blacken(&mut value, redactor, &mut taken);
    // What is sent is what is looked at: the text once more, not the value that it was made of.
    let body = value.to_string();
    let again = serde_json::from_str::<Value>(&body).map_err(|_| Failure::NotSendable)?;
    if is_clean(&again, redactor) { Ok(Sendable { body, taken }) } else { Err(Failure::NotSendable) }
}

fn blacken(value: &mut Value, redactor: &Redactor, taken: &mut Counts) {
    match value {
        Value::String(text) => *text = whole(text, redactor, taken),
        Value::Array(items) => items.iter_mut().for_each(|item| blacken(item, redactor, taken)),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                blacken(value, redactor, taken);
                if let Value::String(text) = value
                    && names_a_secret(key, redactor)
                {
                    *text = pair(key, text, redactor, taken);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Nothing is found in any text or name, and no name has a secret beside it.
fn is_clean(value: &Value, redactor: &Redactor) -> bool {
    match value {
        Value::String(text) => finds_nothing(text, redactor),
        Value::Array(items) => items.iter().all(|item| is_clean(item, redactor)),
        Value::Object(fields) => fields.iter().all(|(key, value)| {
            let paired = value.as_str().filter(|_| names_a_secret(key, redactor));
            finds_nothing(key, redactor)
                && is_clean(value, redactor)
                && paired.is_none_or(|text| finds_nothing(&said(key, text), redactor))
        }),
        // A card number needs no quotes.
        Value::Number(number) => finds_nothing(&number.to_string(), redactor),
        Value::Null | Value::Bool(_) => true,
    }
}

fn finds_nothing(text: &str, redactor: &Redactor) -> bool {
    // A mark is found again, and is replaced by itself.
    whole(text, redactor, &mut Counts::new()) == text
}

/// Redacts without cutting: a mark is longer than what it stands for, but not by this much.
fn whole(text: &str, redactor: &Redactor, taken: &mut Counts) -> String {
    let (redacted, counts) = redactor.redact_counted(text, text.len().saturating_mul(24).saturating_add(256));
    for (kind, count) in counts {
        *taken.entry(kind).or_insert(0) += count;
    }
    redacted.as_str().to_owned()
}

fn said(key: &str, value: &str) -> String {
    format!("{key}=\"{}\"", value.replace(['"', '\\', '\n'], " "))
}

fn names_a_secret(key: &str, redactor: &Redactor) -> bool {
    !finds_nothing(&said(key, PROBE), redactor)
}

/// The value of such a name: a mark, unless it is one that stands for nothing, such as `none`.
fn pair(key: &str, value: &str, redactor: &Redactor, taken: &mut Counts) -> String {
    let both = whole(&said(key, value), redactor, taken);
    let inside = both.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map(|(inside, _)| inside);
    match inside {
        Some(inside) if !said(key, value).contains(inside) || inside.contains("[redacted:") => inside.to_owned(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
