//! How bad a line says it is, and what it says.
//!
//! Role: finds level and message in the head of a line of any usual framework. Inputs: a line without codes. Outputs:
//! severity, message, and what else the format tells. A level word inside a message is no level: only words in front of
//! the message count. Must never import: other rooms.

use std::borrow::Cow;
use std::fmt;

use super::{access, structured};

/// How bad, from the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The line does not say.
    #[default]
    Unknown,
    /// For following every step.
    Trace,
    /// For developers.
    Debug,
    /// Ordinary news.
    Info,
    /// Something unusual.
    Warn,
    /// Something failed.
    Error,
    /// The process, or a part of it, ends.
    Fatal,
}

impl Severity {
    /// The word in findings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Whether patterns apply: news that merely speak of a failure are none.
    #[must_use]
    pub fn may_be_trouble(self) -> bool {
        self == Self::Unknown || self >= Self::Warn
    }

    /// Reads a level's word, in any case and in the short forms that frameworks use.
    #[must_use]
    pub fn word(text: &str) -> Option<Self> {
        if !(3..=13).contains(&text.len()) || !text.is_ascii() {
            return None;
        }
        WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, severity)| *severity)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Most frequent first.
const WORDS: &[(&str, Severity)] = &[
    ("info", Severity::Info),
    ("error", Severity::Error),
    ("warn", Severity::Warn),
    ("warning", Severity::Warn),
    ("debug", Severity::Debug),
    ("fatal", Severity::Fatal),
    ("trace", Severity::Trace),
    ("err", Severity::Error),
    ("wrn", Severity::Warn),
    ("inf", Severity::Info),
    ("dbg", Severity::Debug),
    ("trc", Severity::Trace),
    ("ftl", Severity::Fatal),
    ("vrb", Severity::Trace),
    ("critical", Severity::Fatal),
    ("crit", Severity::Fatal),
    ("notice", Severity::Info),
    ("severe", Severity::Error),
    ("fail", Severity::Error),
    ("dbug", Severity::Debug),
    ("trce", Severity::Trace),
    ("information", Severity::Info),
    ("informational", Severity::Info),
    ("verbose", Severity::Trace),
    ("silly", Severity::Trace),
    ("http", Severity::Info),
    ("panic", Severity::Fatal),
    ("dpanic", Severity::Fatal),
    ("alert", Severity::Fatal),
    ("emerg", Severity::Fatal),
    ("emergency", Severity::Fatal),
    ("erro", Severity::Error),
    ("fata", Severity::Fatal),
    ("pani", Severity::Fatal),
    ("debu", Severity::Debug),
    ("trac", Severity::Trace),
    ("fine", Severity::Debug),
    ("finer", Severity::Trace),
    ("finest", Severity::Trace),
    ("log", Severity::Info),
    ("note", Severity::Info),
];

/// What form a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A JSON object.
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// A level in front of a message.
    Framework,
    /// A server's note of a request it answered.
    Access,
    /// Neither.
    Plain,
}

/// A line that was understood as far as possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<'t> {
    /// How bad.
    pub severity: Severity,
    /// What it says.
    pub message: Cow<'t, str>,
    /// Its form.
    pub shape: Shape,
    /// A stack trace that a structured line carries in a field of its own.
    pub stack: Option<String>,
    /// The status of an answered request.
    pub status: Option<u16>,
}

impl<'t> Parsed<'t> {
    fn of(severity: Severity, message: &'t str, shape: Shape) -> Self {
        Self { severity, message: Cow::Borrowed(message), shape, stack: None, status: None }
    }
}

/// Understands one line.
#[must_use]
pub fn parse(text: &str) -> Parsed<'_> {
    let trimmed = text.trim();
    if trimmed.starts_with('{')
        && trimmed.ends_with('}')
        && let Some(parsed) = structured::json(trimmed)
    {
        return parsed;
    }
    // An indented line belongs to the one before it; a level in it is not its own.
    let indented = text.starts_with([' ', '\t']);
    let mut parsed = klog(trimmed)
        .or_else(|| structured::logfmt(trimmed))
        .or_else(|| if indented { None } else { framework(trimmed) })
        .unwrap_or_else(|| Parsed::of(Severity::Unknown, trimmed, Shape::Plain));
    if !indented && let Some(request) = access::request(&parsed.message).or_else(|| access::request(trimmed)) {
        parsed.severity = access::severity(parsed.severity, request.status);
        parsed.status = Some(request.status);
        parsed.message = Cow::Owned(request.sentence());
        parsed.shape = Shape::Access;
    } else if !indented && parsed.shape == Shape::Plain {
        parsed.severity = opening(trimmed);
    }
    parsed
}

/// `E1121 10:00:00.123456       1 file.go:12] message`
fn klog(text: &str) -> Option<Parsed<'_>> {
    let bytes = text.as_bytes();
    let severity = match bytes.first()? {
        b'I' => Severity::Info,
        b'W' => Severity::Warn,
        b'E' => Severity::Error,
        b'F' => Severity::Fatal,
        _ => return None,
    };
    let date = bytes.get(1..5)?.iter().all(u8::is_ascii_digit) && bytes.get(5) == Some(&b' ');
    let time = bytes.get(8) == Some(&b':') && bytes.get(11) == Some(&b':');
    let end = text.find("] ").filter(|_| date && time)?;
    Some(Parsed::of(severity, text.get(end + 2..)?.trim(), Shape::Framework))
}

/// How an uncaught error of a runtime, or a tool's complaint, begins.
fn opening(text: &str) -> Severity {
    const FATAL: &[&str] = &[
        "panic: ",
        "Exception in thread ",
        "fatal error: ",
        "Fatal error: ",
        "PHP Fatal error: ",
        "Unhandled exception",
        "Uncaught ",
        "FATAL ERROR: ",
        "*** FATAL",
    ];
    const ERROR: &[&str] = &[
        "Traceback (most recent call last):",
        "PHP Parse error: ",
        "Parse error: ",
        "npm ERR! ",
        "npm error ",
        "Caused by: ",
    ];
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if begins(FATAL) || (text.starts_with("thread '") && text.contains(" panicked at ")) {
        Severity::Fatal
    } else if begins(ERROR) || exception(text).is_some() || super::frames::is_ruby_error(text) {
        Severity::Error
    } else if begins(&["PHP Warning: ", "npm warn ", "npm WARN "]) {
        Severity::Warn
    } else if begins(&["PHP Notice: ", "PHP Deprecated: "]) {
        Severity::Info
    } else {
        Severity::Unknown
    }
}

/// `java.lang.IllegalStateException: message`: the exception and the message; the message may be missing.
#[must_use]
pub fn exception(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let end = text.find([':', ' ', '(']).unwrap_or(text.len());
    // Ruby and Rust write `Module::Error: message`.
    let mut end = end;
    while text.get(end..).is_some_and(|rest| rest.starts_with("::")) {
        let next = text.get(end + 2..)?;
        end += 2 + next.find([':', ' ', '(']).unwrap_or(next.len());
    }
    let (name, rest) = text.split_at_checked(end)?;
    let last = name.rsplit(['.', ':', '\\']).next()?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._$:\\".contains(&b));
    let capital = last.starts_with(|c: char| c.is_ascii_uppercase());
    let named = ["Error", "Exception", "Throwable", "Failure", "Fault", "Interrupt", "Exit", "Iteration", "Warning"]
        .iter()
        .any(|suffix| last.ends_with(suffix))
        || name.contains(".exceptions.")
        || name.contains(".errors.")
        || (name.contains(['.', ':'])
            && ["DoesNotExist", "Timeout", "Refused", "NotFound", "Invalid"].iter().any(|s| last.ends_with(s)));
    if !plain || !capital || !named {
        return None;
    }
    // Node writes the code of its own errors behind the name: `Error [ERR_X]: message`.
    let rest = match rest.strip_prefix(" [") {
        Some(code) => code.split_once(']')?.1,
        None => rest,
    };
    match rest.strip_prefix(':') {
        Some(message) => Some((name, message.trim_start())),
        None if rest.is_empty() => Some((name, "")),
        None => in_parentheses(name, rest),
    }
}

/// Ruby's `NoMethodError (message):`, and .NET's `SqlException (0x80131904): message` with a number of the error.
fn in_parentheses<'t>(name: &'t str, rest: &'t str) -> Option<(&'t str, &'t str)> {
    let inner = rest.strip_prefix(" (")?;
    if let Some((number, message)) = inner.split_once("):")
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_hexdigit() || b == b'x')
        && !message.is_empty()
    {
        return Some((name, message.trim_start()));
    }
    inner.strip_suffix("):").map(|message| (name, message))
}

/// Tokens in front of a level, at most.
const MOST_TOKENS: usize = 14;

/// A level in front of a message, behind times, threads, names and brackets.
fn framework(text: &str) -> Option<Parsed<'_>> {
    let (severity, end) = level(text)?;
    let rest = text.get(end..)?;
    Some(Parsed::of(severity, message(rest), Shape::Framework))
}

/// The level, and where it ends.
fn level(text: &str) -> Option<(Severity, usize)> {
    // Node's last words are no level and a message.
    if text.starts_with("FATAL ERROR: ") {
        return None;
    }
    let mut at = 0;
    let mut after_separator = false;
    for index in 0..MOST_TOKENS {
        at += text.get(at..)?.len() - text.get(at..)?.trim_start().len();
        let rest = text.get(at..)?;
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let token = rest.get(..end)?;
        if token.is_empty() {
            return None;
        }
        if let Some(length) = bracketed(rest) {
            if let Some(severity) = inside(rest.get(..length)?) {
                return Some((severity, at + length));
            }
            // `[a][b]` is one token of several groups.
            at += length;
            after_separator = true;
            continue;
        }
        if let Some((severity, length)) = bare(token, index) {
            return Some((severity, at + length));
        }
        let separator = matches!(token, "-" | "--" | "---" | "|" | "*" | "–" | ":");
        let next = rest.get(end..).unwrap_or_default().trim_start();
        let between = after_separator && (next.starts_with("- ") || next.starts_with("| "));
        let program = index == 0 && token.ends_with(':') && next.starts_with('[');
        let pair = index > 0 && token.contains('=') && token.len() < 40;
        if !(separator || between || program || pair || in_front(token)) {
            return None;
        }
        after_separator = separator;
        at += end;
    }
    None
}

/// The length of a group in brackets at the beginning.
fn bracketed(text: &str) -> Option<usize> {
    let close = match text.chars().next()? {
        '[' => ']',
        '(' => ')',
        '<' => '>',
        _ => return None,
    };
    text.find(close).filter(|end| *end < 160).map(|end| end + 1)
}

/// A level inside brackets: `[ERROR]`, `[core:error]`, `[2026-11-21T10:00:00Z ERROR app]`, `[…: ERROR/MainProcess]`.
fn inside(group: &str) -> Option<Severity> {
    let inner = group.get(1..group.len().saturating_sub(1))?;
    inner.split(|c: char| c.is_whitespace() || c == ':' || c == '|' || c == ',').find_map(|part| {
        let part = part.split('/').next()?;
        let is_whole = part.len() == inner.trim().len();
        // In a longer group a word in small letters may be a name; only Apache writes `module:level`.
        let loud = part.bytes().all(|b| b.is_ascii_uppercase()) || inner.ends_with(&format!(":{part}"));
        Severity::word(part).filter(|_| is_whole || loud).filter(|_| !matches!(part, "log" | "http"))
    })
}

/// A level as a word of its own, and where it ends in the token.
fn bare(token: &str, index: usize) -> Option<(Severity, usize)> {
    let first = index == 0;
    let loud = |text: &str| text.bytes().all(|b| b.is_ascii_uppercase());
    // `E, [2026-…` of Ruby's logger.
    if first && token.len() == 2 && token.ends_with(',') {
        return match token.as_bytes().first()? {
            b'D' => Some((Severity::Debug, 2)),
            b'I' => Some((Severity::Info, 2)),
            b'W' => Some((Severity::Warn, 2)),
            b'E' => Some((Severity::Error, 2)),
            b'F' => Some((Severity::Fatal, 2)),
            _ => None,
        };
    }
    let word_end = token.find([':', '[', '|', ',', ']']).unwrap_or(token.len());
    let word = token.get(..word_end)?;
    let follows = token.get(word_end..)?.chars().next();
    // `production.ERROR:` of Monolog.
    let last = word.rsplit('.').next()?;
    // `Error: …` and `panic: …` are how runtimes begin what nobody caught; see `opening`.
    if first && follows == Some(':') && matches!(word, "Error" | "panic" | "note") {
        return None;
    }
    if let Some(severity) = Severity::word(last) {
        let named = last.len() < word.len();
        let is_level = match follows {
            Some(':') => loud(last) || !named,
            // `ERRO[0003]` of logrus.
            None | Some('[' | '|' | ',' | ']') => loud(last) && !named,
            Some(_) => false,
        };
        // `LOG:` is a level of PostgreSQL, `LOG` of Nest, `http:` of Winston; elsewhere these are words.
        let is_word = match last {
            "LOG" => follows != Some(':') && first,
            "http" => !(first && follows == Some(':')),
            _ => last.eq_ignore_ascii_case("log") || last.eq_ignore_ascii_case("http"),
        };
        if is_level && !is_word {
            return Some((severity, word_end));
        }
    }
    None
}

/// Whether a token may stand in front of a level: times, numbers, zones, names with dots, `key=value`.
fn in_front(token: &str) -> bool {
    const ZONES: &[&str] = &["UTC", "GMT", "CET", "CEST", "EST", "EDT", "PST", "PDT", "AM", "PM", "Z"];
    const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: &[&str] = &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let token = token.trim_end_matches([',', ':', ';']);
    let dotted = token.contains('.') && !token.ends_with('.') && token.split('.').all(|part| !part.is_empty());
    token.starts_with(|c: char| c.is_ascii_digit() || c == '#' || c == '+')
        || dotted
        || token.contains("::")
        || ["main", "root"].contains(&token)
        || ZONES.contains(&token)
        || MONTHS.contains(&token)
        || DAYS.contains(&token)
}

/// The message behind a level: without the process, thread and logger that some frameworks write first.
fn message(text: &str) -> &str {
    let mut rest = text.trim_start_matches([':', ']', '|', ',']).trim();
    // Spring Boot: `1 --- [app] [thread] logger : message`.
    if let Some((head, tail)) = rest.split_once(" : ")
        && head.contains("--- [")
    {
        return tail.trim();
    }
    // Ruby: `[2026-… #1] ERROR -- program: message`.
    if let Some((head, tail)) = rest.split_once(" -- ")
        && head.starts_with('[')
        && head.len() < 64
    {
        return tail.split_once(": ").map_or(tail, |(_, message)| message).trim();
    }
    let whole = rest;
    for _ in 0..6 {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let Some((token, tail)) = rest.split_at_checked(end) else { break };
        let tail = tail.trim_start();
        if tail.is_empty() {
            break;
        }
        let is_number = token.bytes().all(|b| b.is_ascii_digit());
        let is_separator = matches!(token, "-" | "--" | "---" | "|" | "*" | ":");
        // `shop.db:psycopg.Error:` is a logger and an exception in one word, as Python writes them.
        let two = token.trim_end_matches(':').contains(':') && token.ends_with("Error:");
        let is_logger = tail.starts_with("- ") || (token.ends_with(':') && token.contains('.') && !two);
        if let Some(length) = bracketed(rest).filter(|length| rest.get(*length..).is_some_and(|r| !r.trim().is_empty()))
        {
            rest = rest.get(length..).unwrap_or_default().trim_start_matches(':').trim_start();
        } else if (is_number && !tail.starts_with(|c: char| c.is_ascii_lowercase())) || is_separator {
            rest = tail;
        } else if is_logger && exception(rest).is_none() {
            rest = tail.strip_prefix("- ").unwrap_or(tail).trim_start();
        } else {
            break;
        }
    }
    if rest.is_empty() { whole } else { rest }
}
