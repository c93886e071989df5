//! PromQL instant vector selectors, and nothing else of PromQL.
//!
//! Role: the wall between a tenant's text and our queries: what is not a selector does not get through, and the operator
//! adds namespace and pod itself. Inputs: text of a spec. Outputs: `Selector`, whose display is canonical PromQL. Must
//! never import: other rooms.

use std::fmt;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
}

impl Operator {
    /// As PromQL writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
        }
    }
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Matcher {
    /// Label name.
    pub label: String,
    /// Comparison.
    pub operator: Operator,
    /// Value, unescaped.
    pub value: String,
}

impl Matcher {
    /// A matcher from its parts.
    #[must_use]
    pub fn new(label: &str, operator: Operator, value: &str) -> Self {
        Self { label: label.to_owned(), operator, value: value.to_owned() }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_label(&self.label) {
            f.write_str(&self.label)?;
        } else {
            write_quoted(f, &self.label)?;
        }
        f.write_str(self.operator.as_str())?;
        write_quoted(f, &self.value)
    }
}

/// Why a text is not a usable selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError(String);

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectorError {}

/// An instant vector selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    pub(super) name: Option<String>,
    matchers: Vec<Matcher>,
}

const ALLOWED: &str = "only a plain selector such as http_requests_total{code=~\"5..\"} is allowed, \
                       without functions, ranges, offsets or arithmetic";

impl Selector {
    /// The longest text that is read.
    pub const MAX: usize = 4096;

    /// Reads a selector.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > Self::MAX {
            return Err(SelectorError(format!("a selector has at most {} bytes", Self::MAX)));
        }
        let mut parser = Parser { rest: text };
        let selector = parser.selector()?;
        selector.check()?;
        Ok(selector)
    }

    /// A selector built by a preset from a metric name and matchers.
    #[must_use]
    pub fn of(name: &str, matchers: Vec<Matcher>) -> Self {
        let mut selector = Self { name: Some(name.to_owned()), matchers };
        selector.normalize();
        selector
    }

    /// The metric name, if one is given plainly.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The matchers, sorted.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// The same selector with more matchers.
    #[must_use]
    pub fn with(&self, matchers: &[Matcher]) -> Self {
        let mut selector = self.clone();
        selector.matchers.extend_from_slice(matchers);
        selector.normalize();
        selector
    }

    fn normalize(&mut self) {
        self.matchers.sort();
        self.matchers.dedup();
    }

    fn check(&self) -> Result<(), SelectorError> {
        if let Some(matcher) =
            self.matchers.iter().find(|matcher| ["namespace", "pod"].contains(&matcher.label.as_str()))
        {
            return Err(SelectorError(format!(
                "a matcher on {} is not allowed: the operator adds namespace and pod itself",
                matcher.label
            )));
        }
        let selective = |matcher: &Matcher| match matcher.operator {
            Operator::Equal => !matcher.value.is_empty(),
            Operator::Matches => !matcher.value.is_empty() && matcher.value != ".*",
            Operator::NotEqual | Operator::NotMatches => false,
        };
        if self.name.is_none() && !self.matchers.iter().any(|matcher| matcher.label == "__name__" && selective(matcher))
        {
            return Err(SelectorError("a selector needs a metric name".to_owned()));
        }
        Ok(())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.name.as_deref().filter(|name| is_metric(name));
        let quoted = self.name.as_deref().filter(|name| !is_metric(name));
        f.write_str(plain.unwrap_or_default())?;
        if self.matchers.is_empty() && quoted.is_none() {
            return Ok(());
        }
        f.write_str("{")?;
        if let Some(name) = quoted {
            write_quoted(f, name)?;
        }
        for (index, matcher) in self.matchers.iter().enumerate() {
            if index > 0 || quoted.is_some() {
                f.write_str(",")?;
            }
            matcher.fmt(f)?;
        }
        f.write_str("}")
    }
}

/// Keywords that PromQL would not read as a metric name.
const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "atan2",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "inf",
    "nan",
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "count_values",
    "quantile",
    "limitk",
    "limit_ratio",
    "start",
    "end",
    "step",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "fill_right",
];

fn is_metric(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
        && !KEYWORDS.contains(&name.to_ascii_lowercase().as_str())
}

fn is_label(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

fn write_quoted(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in value.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Selector, SelectorError> {
        self.space();
        let word = self.word(|c| c == ':' || c == '_' || c.is_ascii_alphanumeric());
        let mut name = (!word.is_empty()).then(|| word.to_owned());
        if name.as_deref().is_some_and(|name| !is_metric(name)) {
            return Err(SelectorError(format!("{word} is not a metric name; {ALLOWED}")));
        }
        self.space();
        let mut matchers = Vec::new();
        if self.eat('{') {
            self.braces(&mut name, &mut matchers)?;
            self.space();
        }
        if !self.rest.is_empty() {
            return Err(SelectorError(format!("unexpected text after the selector; {ALLOWED}")));
        }
        let mut selector = Selector { name, matchers };
        if selector.name.is_none() {
            selector.take_name();
        }
        selector.normalize();
        Ok(selector)
    }

    fn braces(&mut self, name: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Result<(), SelectorError> {
        loop {
            self.space();
            if self.eat('}') {
                return Ok(());
            }
            let quoted = self.rest.starts_with(['"', '\'', '`']);
            let label =
                if quoted { self.string()? } else { self.word(|c| c == '_' || c.is_ascii_alphanumeric()).to_owned() };
            self.space();
            if quoted && (self.rest.starts_with([',', '}'])) {
                if label.is_empty() || name.replace(label).is_some() {
                    return Err(SelectorError("a selector has one metric name".to_owned()));
                }
            } else {
                if label.is_empty() || !(quoted || is_label(&label)) {
                    return Err(SelectorError(format!("expected a label name; {ALLOWED}")));
                }
                let operator = self.operator()?;
                self.space();
                let value = self.string()?;
                if label == "__name__" && name.is_some() {
                    return Err(SelectorError("a selector has one metric name".to_owned()));
                }
                matchers.push(Matcher { label, operator, value });
            }
            self.space();
            if !self.eat(',') && !self.rest.starts_with('}') {
                return Err(SelectorError("expected , or } after a matcher".to_owned()));
            }
        }
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        for operator in [Operator::Matches, Operator::NotMatches, Operator::NotEqual, Operator::Equal] {
            if let Some(rest) = self.rest.strip_prefix(operator.as_str()) {
                self.rest = rest;
                return Ok(operator);
            }
        }
        Err(SelectorError("expected =, !=, =~ or !~ after a label name".to_owned()))
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        let mut chars = self.rest.chars();
        let Some(quote @ ('"' | '\'' | '`')) = chars.next() else {
            return Err(SelectorError("a value stands in quotes".to_owned()));
        };
        let mut value = String::new();
        while let Some(c) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = chars.as_str();
                    return Ok(value);
                }
                '\\' if quote != '`' => value.push(escape(&mut chars, quote)?),
                '\n' if quote != '`' => break,
                c => value.push(c),
            }
        }
        Err(SelectorError("a quoted value does not end".to_owned()))
    }

    fn word(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, c: char) -> bool {
        self.rest.strip_prefix(c).map(|rest| self.rest = rest).is_some()
    }
}

impl Selector {
    /// `{__name__="x"}` and `x` are the same selector.
    fn take_name(&mut self) {
        let is_name = |m: &Matcher| m.label == "__name__" && m.operator == Operator::Equal && !m.value.is_empty();
        if self.matchers.iter().filter(|matcher| matcher.label == "__name__").count() == 1
            && let Some(index) = self.matchers.iter().position(is_name)
        {
            self.name = Some(self.matchers.remove(index).value);
        }
    }
}

/// One escape sequence after the backslash, as Go's string literals know them.
fn escape(chars: &mut std::str::Chars<'_>, quote: char) -> Result<char, SelectorError> {
    match chars.next().ok_or_else(bad_escape)? {
        'a' => Ok('\u{7}'),
        'b' => Ok('\u{8}'),
        'f' => Ok('\u{c}'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\u{b}'),
        '\\' => Ok('\\'),
        c if c == quote => Ok(c),
        'x' => ascii(code(chars, "", 2, 16)?),
        'u' => code(chars, "", 4, 16),
        'U' => code(chars, "", 8, 16),
        c @ '0'..='7' => ascii(code(chars, c.encode_utf8(&mut [0; 4]), 2, 8)?),
        _ => Err(bad_escape()),
    }
}

fn bad_escape() -> SelectorError {
    SelectorError("unknown escape in a quoted value".to_owned())
}

fn code(chars: &mut std::str::Chars<'_>, first: &str, more: usize, radix: u32) -> Result<char, SelectorError> {
    let mut digits = first.to_owned();
    digits.extend(chars.by_ref().take(more));
    let whole = digits.chars().count() == first.len() + more && digits.chars().all(|c| c.is_digit(radix));
    let number = u32::from_str_radix(&digits, radix).ok().filter(|_| whole).ok_or_else(bad_escape)?;
    char::from_u32(number).ok_or_else(bad_escape)
}

/// A byte escape beyond ASCII would be half of a character.
fn ascii(c: char) -> Result<char, SelectorError> {
    if c.is_ascii() { Ok(c) } else { Err(bad_escape()) }
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
