//! Text to a signature: what differs from one time to the next is taken out.
//!
//! Role: two entries that say the same have the same signature. Inputs: an entry's text. Outputs: text without any digit,
//! with `<n>`, `<id>`, `<ip>` and so on in their place, of bounded length; masking it again changes nothing. Must never
//! import: other rooms.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Characters of a signature, at most.
pub const MOST_CHARS: usize = 256;
/// Bytes that are looked at; far more than a signature can hold.
const MOST_BYTES: usize = 4096;
/// What ends a token, besides white space.
const ENDS: &[u8] = b"'\"`()[]{}<>,;=|";
/// Units of durations.
const UNITS: &[&str] = &["ms", "us", "ns", "µs", "s", "m", "h", "d", "sec", "secs", "seconds", "min", "mins", "hours"];

/// How often what was masked is looked at again.
const MOST_ROUNDS: usize = 16;

/// Makes the signature.
#[must_use]
pub fn mask(text: &str) -> String {
    let mut masked = round(head(text));
    // A mark may leave something beside it that only now looks like an address.
    for _ in 0..MOST_ROUNDS {
        let again = round(&masked);
        if again == masked {
            break;
        }
        masked = again;
    }
    masked
}

fn round(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MOST_CHARS * 2));
    let mut at = 0;
    // Tokens are never longer than what is looked at, so this ends.
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty() && out.len() <= MOST_BYTES) {
        let Some(c) = rest.chars().next() else { break };
        if c.is_whitespace() || c.is_control() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
            at += c.len_utf8();
        } else if u8::try_from(c).is_ok_and(|byte| ENDS.contains(&byte)) {
            out.push(c);
            at += 1;
        } else {
            let end = rest.find(ends).unwrap_or(rest.len());
            let token = rest.get(..end).unwrap_or_default();
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = rest.get(end..).and_then(|rest| rest.chars().next());
            at += end;
            if let Some(path) = query(token) {
                mask_token(path, false, &mut out);
                out.push_str("?<query>");
                let rest = text.get(at..).unwrap_or_default();
                at += rest.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(rest.len());
                continue;
            }
            let quoted = before == after && matches!(before, Some('\'' | '"' | '`'));
            // A quoted address is read part by part: its path says something.
            mask_token(token, quoted && !token.contains('/'), &mut out);
            if out.ends_with("<time>") {
                at += fraction(text.get(at..).unwrap_or_default());
            }
        }
    }
    let end = out.char_indices().nth(MOST_CHARS).map_or(out.len(), |(end, _)| end);
    out.truncate(end);
    out.truncate(out.trim_end().len());
    out
}

/// `,123` behind a time, as Java and Python write it.
fn fraction(text: &str) -> usize {
    let digits = text.strip_prefix(',').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if digits > 0 { digits + 1 } else { 0 }
}

fn ends(c: char) -> bool {
    c.is_whitespace() || c.is_control() || u8::try_from(c).is_ok_and(|byte| ENDS.contains(&byte))
}

fn head(text: &str) -> &str {
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The path in front of a query.
fn query(token: &str) -> Option<&str> {
    let (path, _) = token.split_once('?')?;
    path.contains('/').then_some(path)
}

/// Most words have nothing to mask and are copied.
fn mask_token(token: &str, quoted: bool, out: &mut String) {
    let has_digit = token.bytes().any(|b| b.is_ascii_digit());
    if !has_digit && !token.contains('@') && !token.contains(':') {
        out.push_str(token);
        return;
    }
    // Go writes both ends of a connection as `10.0.0.1:1->10.0.0.2:2`.
    let core = token.trim_end_matches(['.', ':', '!', '?', '-']);
    let tail = token.get(core.len()..).unwrap_or_default();
    if is_email(core) {
        out.push_str("<email>");
    } else if core.parse::<IpAddr>().is_ok() && has_digit {
        out.push_str("<ip>");
    } else if core.parse::<SocketAddr>().is_ok() {
        out.push_str("<ip>:<n>");
    } else if !has_digit {
        out.push_str(token);
        return;
    } else if is_time(core) {
        out.push_str("<time>");
    } else if quoted {
        out.push_str("<id>");
    } else {
        parts(core, out);
    }
    out.push_str(tail);
}

fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !user.contains(['/', ':']) && host.contains('.') && !host.contains(['/', '@', ':'])
    })
}

/// `2026-11-21`, `2026-11-21T10:00:00.123Z`, `10:00:00,123`, `21/Nov/2026:10:00:00`.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let date = (0..4).all(digit) && is(4, b"-/") && digit(5) && digit(6) && is(7, b"-/") && digit(8) && digit(9);
    let clock = digit(0) && digit(1) && is(2, b":") && digit(3) && digit(4) && is(5, b":") && digit(6) && digit(7);
    let apache = digit(0) && digit(1) && is(2, b"/") && is(6, b"/") && digit(7);
    date || clock || apache
}

/// Masks a token part by part: what stands between punctuation.
fn parts(token: &str, out: &mut String) {
    let mut rest = token;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = address(rest) {
            out.push_str("<ip>");
            rest = rest.get(length..).unwrap_or_default();
        } else if c.is_ascii_digit()
            && let Some((mark, length)) = quantity(rest)
        {
            out.push_str(mark);
            rest = rest.get(length..).unwrap_or_default();
        } else if is_uuid(rest) {
            out.push_str("<uuid>");
            rest = rest.get(36..).unwrap_or_default();
        } else if c.is_alphanumeric() {
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            word(rest.get(..end).unwrap_or_default(), out);
            rest = rest.get(end..).unwrap_or_default();
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
}

/// The length of an address such as `10.0.0.1` at the beginning.
fn address(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text.get(..end)?.trim_end_matches('.');
    let next = text.get(end..)?.chars().next();
    (number.parse::<Ipv4Addr>().is_ok() && !next.is_some_and(char::is_alphanumeric)).then_some(number.len())
}

/// `8-4-4-4-12` hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 36
        && bytes.iter().take(36).enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
        && !bytes.get(36).is_some_and(u8::is_ascii_alphanumeric)
}

/// A duration (`1m30.5s`), or a number with its points (`1.2.3`), and how long it is; it must end where a word ends.
fn quantity(text: &str) -> Option<(&'static str, usize)> {
    let number = |text: &str| {
        let mut length = 0;
        for (at, byte) in text.bytes().enumerate() {
            let next = text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
            if !(byte.is_ascii_digit() || (byte == b'.' && next)) {
                break;
            }
            length = at + 1;
        }
        length
    };
    let mut at = number(text);
    let after = text.get(at..)?;
    if !after.starts_with(char::is_alphanumeric) {
        return Some(("<n>", at));
    }
    loop {
        let rest = text.get(at..)?;
        let unit = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        if !UNITS.contains(&rest.get(..unit)?) {
            return None;
        }
        at += unit;
        let more = number(text.get(at..)?);
        if more == 0 {
            return Some(("<duration>", at));
        }
        at += more;
    }
}

/// A word of letters and digits.
fn word(word: &str, out: &mut String) {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        out.push_str(word);
        return;
    }
    let hex = word.strip_prefix("0x").unwrap_or(word);
    if digits == word.len() {
        out.push_str("<n>");
    } else if (hex.len() < word.len() || hex.len() >= 8) && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        out.push_str("<hex>");
    } else if changes(word) >= 2 && word.len() >= 4 {
        out.push_str("<id>");
    } else {
        let mut last = false;
        for c in word.chars() {
            let digit = c.is_ascii_digit();
            match (digit, last) {
                (true, false) => out.push_str("<n>"),
                (true, true) => {}
                (false, _) => out.push(c),
            }
            last = digit;
        }
    }
}

/// How often letters and digits take turns.
fn changes(word: &str) -> usize {
    word.as_bytes().windows(2).filter(|pair| matches!(pair, [a, b] if a.is_ascii_digit() != b.is_ascii_digit())).count()
}
