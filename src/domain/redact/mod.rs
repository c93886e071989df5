//! The one place through which text from outside passes before it is stored or shown.
//!
//! Role: takes secrets and personal data out of server messages (later also of logs and prompts). Inputs: text. Outputs:
//! text with `[redacted:kind]` in their place, cut to a length. Only linear-time regexes. Must never import: other rooms.

mod patterns;
mod verdict;

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use regex::RegexBuilder;
use serde::Serialize;
use sha2::Sha256;

use patterns::Pattern;

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
    /// What a user's pattern finds.
    Custom,
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
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Pem,
        Self::Jwt,
        Self::Key,
        Self::Authorization,
        Self::UrlUserinfo,
        Self::Credential,
        Self::Email,
        Self::Ip,
        Self::Card,
        Self::Custom,
    ];

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
            Self::Custom => "custom",
        }
    }
}

/// The compiled patterns. Compile once, share by reference.
pub struct Redactor {
    patterns: Vec<Pattern>,
    /// Makes equal values recognisable without giving them away.
    key: Option<Vec<u8>>,
}

/// Most patterns that a user can add.
pub const MOST_USER_PATTERNS: usize = 32;
/// The longest of them.
pub const LONGEST_USER_PATTERN: usize = 512;
/// Most memory of one of them, compiled.
const USER_PATTERN_SIZE: usize = 256 * 1024;

/// A user's pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {place} {problem}")]
pub struct PatternError {
    /// Its place in the list, from 0.
    pub place: usize,
    /// What is wrong and what to do about it.
    pub problem: String,
}

/// Most characters that are read, beside four times what may be shown.
const MOST_READ: usize = 8 * 1024;

/// How often a cut text is looked at again.
const MOST_ROUNDS: usize = 8;

impl Redactor {
    /// Compiles the patterns.
    #[must_use]
    pub fn new() -> Self {
        Self { patterns: patterns::all(), key: None }
    }

    /// Adds patterns of a user, which go first. Of a pattern with a group named `secret` only that group is hidden.
    ///
    /// # Errors
    /// If a pattern cannot be read, is too large, or matches nothing at all; the error says which and the cure.
    pub fn with(mut self, patterns: &[String]) -> Result<Self, PatternError> {
        if patterns.len() > MOST_USER_PATTERNS {
            let problem = format!("is one too many: there can be {MOST_USER_PATTERNS}; join some with |");
            return Err(PatternError { place: MOST_USER_PATTERNS, problem });
        }
        for (place, pattern) in patterns.iter().enumerate() {
            let refuse = |problem: String| PatternError { place, problem };
            if pattern.len() > LONGEST_USER_PATTERN {
                return Err(refuse(format!("is longer than {LONGEST_USER_PATTERN} bytes; split it")));
            }
            let regex =
                RegexBuilder::new(pattern).size_limit(USER_PATTERN_SIZE).build().map_err(|error| match error {
                    regex::Error::CompiledTooBig(_) => {
                        refuse("becomes too large; use smaller counts in {…} and fewer classes such as \\w".to_owned())
                    }
                    error => {
                        let said = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                        refuse(format!(
                            "is no regular expression ({said}); look-around and back-references do not exist here"
                        ))
                    }
                })?;
            if regex.is_match("") {
                return Err(refuse("matches an empty text, and so everywhere; use + instead of *".to_owned()));
            }
            self.patterns.insert(place, Pattern { kind: SecretKind::Custom, regex });
        }
        Ok(self)
    }

    /// Adds to every mark some digits that are the same for the same value, such as `[redacted:ip:3fa2c1]`. Without the
    /// key nobody can tell which value it was, not even by trying.
    #[must_use]
    pub fn keyed(mut self, key: &[u8]) -> Self {
        self.key = Some(key.to_vec());
        self
    }

    /// Whether its marks are made with this key.
    #[must_use]
    pub fn has_key(&self, key: &[u8]) -> bool {
        self.key.as_deref() == Some(key)
    }

    /// Leaves some kinds of built-in patterns as they are; those of users stay.
    #[must_use]
    pub fn without(mut self, kinds: &[SecretKind]) -> Self {
        self.patterns.retain(|pattern| pattern.kind == SecretKind::Custom || !kinds.contains(&pattern.kind));
        self
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
        // What could never be shown is not looked at: the time a hostile line takes grows faster than its length.
        let read = cut(text, MOST_READ.saturating_add(max_chars.saturating_mul(4)));
        let mut text = cut(&self.blacken(&read, &mut counts), max_chars);
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
            if let Some(changed) = self.apply(pattern, &text, counts) {
                text = Cow::Owned(changed);
            }
        }
        text
    }
}

impl Redactor {
    /// Blackens what one pattern finds; `None` if that is nothing.
    fn apply(&self, pattern: &Pattern, text: &str, counts: &mut Counts) -> Option<String> {
        let mut changed: Option<String> = None;
        let (mut from, mut copied) = (0, 0);
        while let Some(found) = pattern.regex.captures_at(text, from) {
            let Some(all) = found.get(0) else { break };
            let keep = found.name("keep").map_or(all.start(), |keep| keep.end());
            let named = found.name("secret").or_else(|| found.name("pemline"));
            let start = named.map_or(keep, |named| named.start());
            let tail = found.name("tail").map_or(all.end(), |tail| tail.start());
            let end = named.map_or(tail, |named| named.end());
            let (start, end) = around_marks(text, start, end);
            let start = start.max(copied);
            let look = verdict::Found {
                kind: pattern.kind,
                key: found.name("key").map_or("", |key| key.as_str()),
                keep: text.get(all.start()..start).unwrap_or_default(),
                value: text.get(start..end).unwrap_or_default(),
                before: text.get(..all.start()).and_then(|front| front.chars().next_back()),
            };
            let secret = verdict::secret(&look);
            let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
                // What was let through may hold a secret of another name.
                let next = if keep > all.start() { keep } else { all.start() + 1 };
                from = (next..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
                if from >= text.len() {
                    break;
                }
                continue;
            };
            *counts.entry(pattern.kind).or_insert(0) += 1;
            let out = changed.get_or_insert_default();
            let (start, end) = (start + secret.start, start + secret.end);
            out.push_str(text.get(copied..start).unwrap_or_default());
            out.push_str(&self.mark(pattern.kind, text.get(start..end).unwrap_or_default()));
            if pattern.kind == SecretKind::UrlUserinfo {
                let at = if text.get(start..end).is_some_and(|value| value.ends_with("%40")) { "%40" } else { "@" };
                out.push_str(at);
            }
            (from, copied) = (end.max(all.start() + 1), end);
        }
        let mut changed = changed?;
        changed.push_str(text.get(copied..).unwrap_or_default());
        Some(changed)
    }

    fn mark(&self, kind: SecretKind, value: &str) -> String {
        let Some(key) = &self.key else { return format!("{MARK}{}]", kind.as_str()) };
        // A key of any length will do for an HMAC, so this never fails.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return format!("{MARK}{}]", kind.as_str()) };
        mac.update(kind.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(value.trim_matches(['"', '\'', '\\', ' ', '@']).as_bytes());
        let digest = hex::encode(mac.finalize().into_bytes());
        format!("{MARK}{}:{}]", kind.as_str(), digest.get(..PSEUDONYM).unwrap_or_default())
    }
}

/// How many hexadecimal digits tell equal values.
const PSEUDONYM: usize = 6;

/// Widens a range to whole marks: half a mark is neither secret nor mark.
fn around_marks(text: &str, start: usize, end: usize) -> (usize, usize) {
    let (mut from, mut to) = (start, end);
    for (open, _) in text.match_indices(MARK) {
        if open >= end {
            break;
        }
        let Some(length) = text.get(open..).and_then(mark_length) else { continue };
        let within = |at: usize| open < at && at < open + length;
        from = if within(start) { open } else { from };
        to = if within(end) { open + length } else { to };
    }
    (from, to)
}

/// The length of the mark that a text begins with. What only looks like one is none, so nobody can hide in it.
fn mark_length(text: &str) -> Option<usize> {
    let name = text.strip_prefix(MARK)?;
    let end = name.find(']')?;
    let (kind, digits) = name.get(..end)?.split_once(':').unwrap_or((name.get(..end)?, ""));
    let known = SecretKind::ALL.iter().any(|known| known.as_str() == kind);
    let pseudonym = digits.is_empty()
        || (digits.len() == PSEUDONYM && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    (known && pseudonym).then_some(MARK.len() + end + 1)
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
        f.debug_struct("Redactor").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(crate) mod tests;
