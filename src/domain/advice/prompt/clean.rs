//! Text from outside, made fit to stand in a prompt.
//!
//! Role: one line each, without control and invisible characters, without the boundary, without quotes or brackets that
//! could reach into the next line, redacted and cut. Inputs: any text. Outputs: lines within a total. Must never import:
//! other rooms.

use std::fmt::Write;

use crate::domain::redact::Redactor;

/// Bytes of one line's text.
const LINE: usize = 240;
/// How often a line is looked at again.
const MOST_ROUNDS: usize = 8;

/// Characters that are not seen, or change how others are read.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// The lines inside the boundary.
pub(super) struct Lines<'a> {
    boundary: &'a str,
    redactor: &'a Redactor,
    left: usize,
    text: String,
    dropped: usize,
}

/// What is kept for the sentence about lines that had no room.
const FOR_THE_REST: usize = 48;

impl<'a> Lines<'a> {
    pub(super) fn new(boundary: &'a str, redactor: &'a Redactor, most: usize) -> Self {
        Self { boundary, redactor, left: most.saturating_sub(FOR_THE_REST), text: String::new(), dropped: 0 }
    }

    pub(super) const fn redactor(&self) -> &'a Redactor {
        self.redactor
    }

    /// Adds a line. The label is ours, but for the name of a container or a probe.
    pub(super) fn add(&mut self, label: &str, text: &str) {
        let text = line(text, self.boundary, self.redactor);
        if text.is_empty() {
            return;
        }
        let line = without(&format!("- {label}: {text}\n"), self.boundary);
        if line.len() > self.left {
            self.dropped += 1;
            return;
        }
        self.left -= line.len();
        self.text.push_str(&line);
    }

    pub(super) fn done(mut self) -> String {
        if self.dropped > 0 {
            let _ = writeln!(self.text, "- {} more lines had no room", self.dropped);
        }
        self.text
    }
}

/// One line of text from outside.
fn line(text: &str, boundary: &str, redactor: &Redactor) -> String {
    // What is never seen may part a secret's name in two.
    let visible: String = text.chars().filter(|c| !is_hidden(*c) || c.is_whitespace() || *c == '\u{2028}').collect();
    let mut line = redactor.redact(&visible, LINE * 4).as_str().to_owned();
    for _ in 0..MOST_ROUNDS {
        let plain = without(&bare(&line), boundary);
        let again = cut(redactor.redact(&plain, LINE).as_str(), LINE).to_owned();
        if again == line {
            return line;
        }
        line = again;
    }
    // It never settles: then nothing of it is sent.
    String::new()
}

/// No line breaks, and nothing that a reader, or the redactor, would look for the other end of. Marks keep their brackets.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '`' | '\\' | '|' => out.push(' '),
            '<' | '{' => out.push('('),
            '>' | '}' => out.push(')'),
            c if c.is_whitespace() || is_hidden(c) => out.push(' '),
            c => out.push(c),
        }
    }
    let words: Vec<&str> = out.split(' ').filter(|word| !word.is_empty()).collect();
    // A name without its value would take the next line for it.
    words.join(" ").trim_end_matches([':', '=', ' ', ',', '-', '(', '[']).to_owned()
}

/// Without the boundary, in whatever case it is written.
pub(super) fn without(text: &str, boundary: &str) -> String {
    let mut text = text.to_owned();
    while let Some(at) = text.to_ascii_lowercase().find(&boundary.to_ascii_lowercase()) {
        text.replace_range(at..at + boundary.len(), "...");
    }
    text
}

fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// A name in a table.
pub(super) fn name(text: &str, redactor: &Redactor) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_./".contains(c) { c } else { '_' };
    redactor.redact(text, LINE).as_str().chars().map(plain).take(40).collect()
}

/// A value with its unit.
pub(super) fn value(text: &str, redactor: &Redactor) -> String {
    cell(text, 20, redactor)
}

/// What is allowed, in words.
pub(super) fn terms(text: &str, redactor: &Redactor) -> String {
    cell(text, 80, redactor)
}

fn cell(text: &str, most: usize, redactor: &Redactor) -> String {
    let redacted = redactor.redact(text, LINE);
    let plain = bare(redacted.as_str());
    if plain.is_empty() { "-".to_owned() } else { cut(&plain, most).to_owned() }
}
