//! The one place through which text from outside passes before it is stored or shown.
//!
//! Role: takes secrets and personal data out of server messages (later also of logs and prompts). Inputs: text. Outputs:
//! text with `[redacted:kind]` in their place, cut to a length. Only linear-time regexes. Must never import: other rooms.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use regex::{Captures, Regex};
use serde::Serialize;

/// The longest server message that is stored or shown.
pub const SERVER_MESSAGE: usize = 256;

/// How every mark begins.
const MARK: &str = "[redacted:";

/// What was taken out; label of `deployment_guard_redactions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// A PEM block.
    Pem,
    /// A JSON web token.
    Jwt,
    /// A cloud's or vendor's key.
    Key,
    /// An `Authorization` header or a bearer token.
    Authorization,
    /// User and password in a URL.
    UrlUserinfo,
    /// The value of a `password=`-like pair.
    Credential,
    /// An e-mail address.
    Email,
    /// An IP address.
    Ip,
    /// A payment card number.
    Card,
}

/// Text that went through the redactor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Redacted(String);

impl Redacted {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was taken out of a text, and how often.
pub type Counts = std::collections::BTreeMap<SecretKind, u64>;

impl SecretKind {
    /// The metric label and the word in the text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::Jwt => "jwt",
            Self::Key => "key",
            Self::Authorization => "authorization",
            Self::UrlUserinfo => "url-userinfo",
            Self::Credential => "credential",
            Self::Email => "email",
            Self::Ip => "ip",
            Self::Card => "card",
        }
    }
}

/// One class of secret. Group `keep` stays in front of the mark, group `tail` behind it.
struct Pattern {
    kind: SecretKind,
    regex: Regex,
}

/// The compiled patterns. Compile once, share by reference.
pub struct Redactor {
    patterns: Vec<Pattern>,
}

/// In order: what contains other classes comes first. All are linear-time; each is a literal of this file.
const PATTERNS: &[(SecretKind, &str)] = &[
    // A block cut off before its end is a secret too.
    (SecretKind::Pem, r"(?s)-----BEGIN [A-Z0-9 ]{0,64}-----.*?(?:-----END [A-Z0-9 ]{0,64}-----|\z)"),
    (SecretKind::Jwt, r"\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}"),
    (SecretKind::Authorization, r#"(?i)(?P<keep>\b(?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^\r\n"',;]*[^\s"',;]"#),
    (SecretKind::Authorization, r"(?i)(?P<keep>\b(?:bearer|basic|digest)\s+)[A-Za-z0-9+/=._~-]{8,}"),
    (SecretKind::UrlUserinfo, r#"(?P<keep>[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/?#"'<>]*@"#),
    (SecretKind::Key, r"\b(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    (SecretKind::Key, r"\bAIza[A-Za-z0-9_-]{30,}"),
    (SecretKind::Key, r"\bya29\.[A-Za-z0-9_-]{10,}"),
    (SecretKind::Key, r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})"),
    (SecretKind::Key, r"\b(?:xox[abeoprs]-|xapp-)[A-Za-z0-9-]{8,}"),
    (SecretKind::Key, r"https://hooks\.slack\.com/[A-Za-z0-9/_-]+"),
    (SecretKind::Key, r"\b(?:sk|rk|pk)[-_](?:(?:live|test|proj|ant|or)[-_])?[A-Za-z0-9_-]{16,}"),
    (
        SecretKind::Key,
        r"\b(?:npm_|hf_|dop_v1_|shpat_|pypi-|tgp_v1_|gsk_|hvs\.|hvb\.|SG\.|dckr_pat_|r8_)[A-Za-z0-9_.-]{16,}",
    ),
    // `password=…`, `"password": "…"`, `FOO_TOKEN=…`, and the API server's `Name:"FOO_TOKEN", Value:"…"`.
    (
        SecretKind::Credential,
        r#"(?i)(?P<keep>\bname\\?["']?\s*[:=]\s*\\?["']?[A-Za-z0-9_.-]{0,64}(?:passw(?:or)?d|passwd|pwd|passphrase|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|credentials?|auth|dsn)[A-Za-z0-9_.-]{0,64}\\?["']?\s*,\s*\\?["']?value\\?["']?\s*[:=]\s*)(?:\\?"(?:[^"\\]|\\[^"])*(?:\\?"|\z)|'[^']*(?:'|\z)|[^\s,;}\])"'\[][^\s,;}\])"']*)"#,
    ),
    (
        SecretKind::Credential,
        r#"(?i)(?P<keep>(?:passw(?:or)?d|passwd|pwd|passphrase|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|account[-_.]?key|credentials?|client[-_.]?secret|signature|sig|sessionid|cookie|dsn)[A-Za-z0-9_.-]{0,64}\\?["']?\s*(?::=|=>|[:=])\s*)(?:\\?"(?:[^"\\]|\\[^"])*(?:\\?"|\z)|'[^']*(?:'|\z)|[^\s,;}\])"'\[&][^\s,;}\])"'&]*)"#,
    ),
    (SecretKind::Email, r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    (SecretKind::Ip, r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b"),
    (SecretKind::Ip, r"(?i)(?:\b[0-9a-f]{1,4}|:):(?:[0-9a-f]{0,4}:){0,6}[0-9a-f]{0,4}(?:%[0-9a-z]+)?"),
    (SecretKind::Card, r"[0-9](?:[ -]?[0-9]){12,18}"),
];

/// How often a cut text is looked at again.
const MOST_ROUNDS: usize = 8;

impl Redactor {
    /// Compiles the patterns.
    #[must_use]
    pub fn new() -> Self {
        let patterns = PATTERNS
            .iter()
            // A test compiles each of them, so none is ever left out.
            .filter_map(|(kind, pattern)| Some(Pattern { kind: *kind, regex: Regex::new(pattern).ok()? }))
            .collect();
        Self { patterns }
    }

    /// Redacts, then cuts to `max_chars`.
    #[must_use]
    pub fn redact(&self, text: &str, max_chars: usize) -> Redacted {
        self.redact_counted(text, max_chars).0
    }

    /// Like [`Redactor::redact`], and says what was taken out.
    #[must_use]
    pub fn redact_counted(&self, text: &str, max_chars: usize) -> (Redacted, Counts) {
        let mut counts = Counts::new();
        let mut text = cut(&self.blacken(text, &mut counts), max_chars);
        // What is cut off may have kept the rest from looking like a secret.
        for _ in 0..MOST_ROUNDS {
            let again = cut(&self.blacken(&text, &mut counts), max_chars);
            if again == text {
                break;
            }
            text = again;
        }
        (Redacted(text), counts)
    }

    fn blacken<'t>(&self, text: &'t str, counts: &mut Counts) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if let Cow::Owned(changed) = pattern.apply(&text, counts) {
                text = Cow::Owned(changed);
            }
        }
        text
    }
}

impl Pattern {
    fn apply<'t>(&self, text: &'t str, counts: &mut Counts) -> Cow<'t, str> {
        self.regex.replace_all(text, |found: &Captures<'_>| {
            let all = found.get(0).map_or("", |all| all.as_str());
            let keep = found.name("keep").map_or("", |keep| keep.as_str());
            let value = all.strip_prefix(keep).unwrap_or(all);
            if !is_secret(self.kind, value) {
                return all.to_owned();
            }
            *counts.entry(self.kind).or_insert(0) += 1;
            let at = if self.kind == SecretKind::UrlUserinfo { "@" } else { "" };
            format!("{keep}{MARK}{}]{at}", self.kind.as_str())
        })
    }
}

/// What the pattern alone cannot say. A mark is no secret: redacting twice changes nothing.
fn is_secret(kind: SecretKind, value: &str) -> bool {
    match kind {
        SecretKind::Card => luhn(value),
        SecretKind::Ip => is_address(value.split('%').next().unwrap_or_default()),
        SecretKind::Authorization | SecretKind::Credential | SecretKind::UrlUserinfo => {
            !value.trim_start_matches(['"', '\'', '\\', ' ']).starts_with(MARK)
        }
        SecretKind::Pem | SecretKind::Jwt | SecretKind::Key | SecretKind::Email => true,
    }
}

/// `a::b` is a path in a program. Addresses without any digit are not given out.
fn is_address(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit()) && text.parse::<IpAddr>().is_ok()
}

/// The check digit of payment cards.
fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    digits.iter().any(|digit| *digit != 0) && sum.is_multiple_of(10)
}

/// Cuts on a character, and never inside a mark: half a mark would read as text of the outside.
fn cut(text: &str, max_chars: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(max_chars) else { return text.to_owned() };
    let kept = text.get(..end).unwrap_or_default();
    let Some(open) = kept.rfind('[') else { return kept.to_owned() };
    let tail = kept.get(open..).unwrap_or_default();
    let half = MARK.starts_with(tail) || (tail.starts_with(MARK) && !tail.contains(']'));
    kept.get(..if half { open } else { end }).unwrap_or_default().to_owned()
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("patterns", &self.patterns.len()).finish()
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
