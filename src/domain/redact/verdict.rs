//! What a pattern alone cannot say: whether what it found is a secret, and which part of it.
//!
//! Role: keeps ordinary lines readable, and marks from being marked again. Inputs: what a pattern found. Outputs: the
//! range to black out, or nothing. Must never import: other rooms.

use std::net::IpAddr;
use std::ops::Range;

use super::{MARK, SecretKind, mark_length};

/// What a pattern found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'t> {
    pub(super) kind: SecretKind,
    /// The name of a pair; empty if there is none.
    pub(super) key: &'t str,
    /// What stays in front.
    pub(super) keep: &'t str,
    /// What may be secret.
    pub(super) value: &'t str,
    /// The character before it all.
    pub(super) before: Option<char>,
}

/// The part of the value that is secret.
pub(super) fn secret(found: &Found<'_>) -> Option<Range<usize>> {
    let value = found.value;
    let all = || Some(0..value.len());
    // The end of userinfo, in URLs within URLs.
    if is_marks(value.strip_suffix("%40").unwrap_or(value)) {
        return None;
    }
    match found.kind {
        SecretKind::Card => card(value).map(|length| 0..length),
        SecretKind::Ip => is_address(value).then(all).flatten(),
        // A line of a block looks like a hash, but for its letters.
        SecretKind::Pem => (value.len() != 64 || !is_hash(value)).then(all).flatten(),
        SecretKind::Key => (value.contains("://") || looks_drawn(value)).then(all).flatten(),
        SecretKind::Authorization => (!is_prose_scheme(found.keep, value)).then(all).flatten(),
        SecretKind::UrlUserinfo => (!is_port(value)).then(all).flatten(),
        SecretKind::Credential => {
            let inner = inside(value);
            let core = value.get(inner.clone()).unwrap_or_default();
            let secret = !is_marks(core) && !is_harmless(found, core);
            secret.then_some(inner)
        }
        SecretKind::Jwt | SecretKind::Email | SecretKind::Custom => all(),
    }
}

/// The value within its quotes, brackets and wrappers, so that these stay.
fn inside(value: &str) -> Range<usize> {
    let bytes = value.as_bytes();
    let wrapper = value.find(['"', '\'']).filter(|at| {
        let front = value.get(..*at).unwrap_or_default();
        front.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:.*&({[\\".contains(&byte)) && at < &64
    });
    let Some(quote_at) = wrapper.filter(|at| starts_quoted(value, *at)) else {
        let opens = |at: &usize| {
            value.get(*at..).is_some_and(|rest| rest.starts_with(['[', '{', '(']) && !rest.starts_with(MARK))
        };
        let open = (0..value.len()).take_while(opens).count();
        let closers: &[char] = if open > 0 { &[']', '}', ')', ',', '.', '>'] } else { &[] };
        let end = value.trim_end_matches(closers).len().max(open);
        let end = if value.get(open..).is_some_and(|rest| rest.starts_with(MARK)) { value.len() } else { end };
        return open..end;
    };
    let quote = bytes.get(quote_at).copied().unwrap_or_default();
    let start = quote_at + 1;
    let closed = value.len() > start && bytes.last() == Some(&quote);
    let mut end = if closed { value.len() - 1 } else { value.len() };
    let escapes = value.get(..quote_at).unwrap_or_default().bytes().rev().take_while(|byte| *byte == b'\\').count();
    for _ in 0..if closed { escapes } else { 0 } {
        if end > start && bytes.get(end - 1) == Some(&b'\\') {
            end -= 1;
        }
    }
    start..end
}

/// Whether the quote opens the value, rather than standing somewhere in a bare one.
fn starts_quoted(value: &str, at: usize) -> bool {
    let front = value.get(..at).unwrap_or_default().trim_end_matches('\\');
    front.is_empty() || front.ends_with(['(', '{', '[']) || front.len() <= 2
}

/// Nothing but marks, and what stands around them.
fn is_marks(text: &str) -> bool {
    let around = |c: char| c.is_whitespace() || "\"'\\()[]{},.;:@&".contains(c);
    let mut rest = text;
    while let Some(open) = rest.find(MARK) {
        let (front, mark) = rest.split_at(open);
        let Some(length) = mark_length(mark).filter(|_| front.chars().all(around)) else { return false };
        rest = mark.get(length..).unwrap_or_default();
    }
    rest.chars().all(around)
}

/// Names that end so speak about a secret and are none.
const ABOUT: &[&str] = &[
    "name",
    "ref",
    "type",
    "count",
    "length",
    "len",
    "size",
    "limit",
    "ttl",
    "age",
    "file",
    "path",
    "policy",
    "version",
    "header",
    "field",
    "expiry",
    "expires",
    "expired",
    "expiration",
    "expiresin",
    "expires_in",
    "required",
    "enabled",
    "used",
    "usage",
    "duration",
    "seconds",
    "algorithm",
    "alg",
    "method",
    "endpoint",
    "provider",
    "issuer",
    "refs",
    "names",
    "izer",
    "ization",
];

/// Values that are none, and first words of sentences about a secret.
const NONE: &[&str] = &[
    "true",
    "false",
    "null",
    "nil",
    "<nil",
    "<none",
    "<nil>",
    "none",
    "undefined",
    "empty",
    "missing",
    "required",
    "invalid",
    "expired",
    "not",
    "is",
    "was",
    "must",
    "should",
    "cannot",
    "could",
    "has",
    "no",
    "the",
    "a",
    "an",
    "unknown",
    "malformed",
    "rejected",
    "refused",
    "denied",
    "revoked",
    "failed",
    "error",
    "unauthorized",
    "unexpected",
    "yes",
    "ok",
    "on",
    "off",
    "does",
    "already",
    "wrong",
    "incorrect",
    "too",
    "token",
    "tokens",
    "secret",
    "secrets",
    "yaml",
    "json",
    "got",
    "failed,",
    "signature",
    "verification",
    "rpc",
    "mismatch",
];

fn is_harmless(found: &Found<'_>, core: &str) -> bool {
    let key = found.key.to_ascii_lowercase();
    let value = core.trim();
    let first = value.split([' ', ',', ';', ')', '}']).next().unwrap_or_default().to_ascii_lowercase();
    let digits = first.bytes().all(|byte| byte.is_ascii_digit());
    let masked = value.chars().all(|c| matches!(c, '*' | 'x' | 'X' | '•' | '.' | '-' | '_' | '<' | '>'));
    let about = ABOUT.iter().any(|end| key.ends_with(end)) && !key.ends_with("passwordage");
    // `tokens=512`, `pass: 12`.
    let counted = digits && first.len() <= 9 && (key.ends_with("tokens") || key == "pass");
    let folder = key == "pwd" && value.starts_with('/') && !matches!(found.before, Some('_' | '-'));
    let parser = key == "token" && found.before.is_some_and(char::is_whitespace) && value.chars().count() <= 2;
    masked || about || counted || folder || parser || NONE.contains(&first.as_str())
}

/// "Basic authentication" is no header.
fn is_prose_scheme(keep: &str, value: &str) -> bool {
    let scheme = keep.trim_end().to_ascii_lowercase();
    if scheme.contains("cookie") || scheme.contains("authorization") {
        return NONE.contains(&value.trim().to_ascii_lowercase().as_str());
    }
    let letters = value.bytes().all(|byte| byte.is_ascii_alphabetic() || b".-/".contains(&byte));
    let mixed = value.chars().skip(1).any(|c| c.is_ascii_uppercase()) && value.chars().any(|c| c.is_ascii_lowercase());
    letters && !mixed && !(scheme.starts_with("bearer") && value.len() >= 16)
}

/// `//host:8080/path?by=jane@` is a port, not a password.
fn is_port(value: &str) -> bool {
    let Some((_, rest)) = value.split_once(':') else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (1..=5).contains(&digits) && rest.get(digits..).is_some_and(|rest| rest.starts_with(['/', '?', '#']))
}

/// Addresses that everybody has, and `a::b`, which is a path in a program, are not hidden.
fn is_address(text: &str) -> bool {
    if text.starts_with("ip-") {
        return true;
    }
    let bare = text.split('%').next().unwrap_or_default();
    if !bare.contains(|c: char| c.is_ascii_digit()) {
        return false;
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        return !address.is_loopback() && !address.is_unspecified();
    }
    // With leading zeros it is one to people.
    let octets: Vec<Option<u16>> =
        bare.split('.').map(|octet| octet.parse().ok().filter(|octet| *octet <= 255)).collect();
    octets.len() == 4 && octets.iter().all(Option::is_some)
}

fn is_hash(text: &str) -> bool {
    let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    lower || text.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)) || !has_digit(text)
}

/// Words joined by dashes are all of one case and have no digits; what a machine has drawn is not.
fn looks_drawn(text: &str) -> bool {
    // Behind the vendor's prefix.
    let drawn = text.get(3..).unwrap_or_default();
    let has = |is: fn(&u8) -> bool| drawn.bytes().any(|byte| is(&byte));
    has_digit(text) || (has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

/// How much of a run of digits is a payment card's number, by first digits, length and check digit.
fn card(text: &str) -> Option<usize> {
    let digits: Vec<(usize, u32)> =
        text.char_indices().filter_map(|(at, c)| c.to_digit(10).map(|digit| (at + 1, digit))).collect();
    let number: Vec<u32> = digits.iter().map(|(_, digit)| *digit).collect();
    let first = number.iter().take(4).fold(0, |sum, digit| sum * 10 + digit);
    let lengths: &[usize] = match first {
        4000..=4999 => &[19, 16, 13],
        5100..=5599 | 2221..=2720 | 3528..=3589 => &[16],
        3400..=3499 | 3700..=3799 => &[15],
        6011 | 6440..=6599 | 6200..=6299 => &[19, 18, 17, 16],
        3000..=3059 | 3600..=3699 | 3800..=3999 => &[14],
        _ => &[],
    };
    lengths.iter().find(|length| number.get(..**length).is_some_and(luhn)).and_then(|length| {
        let (end, _) = digits.get(length - 1)?;
        // Not the beginning of a longer number.
        let goes_on = text.as_bytes().get(*end).is_some_and(u8::is_ascii_digit);
        (!goes_on).then_some(*end)
    })
}

/// The check digit of payment cards.
fn luhn(digits: &[u32]) -> bool {
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
