//! Lines that are data: JSON and logfmt.
//!
//! Role: level, message, error and stack trace from the keys that loggers use. Inputs: one line. Outputs: a parsed line.
//! Must never import: other rooms.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::access;
use super::severity::{Parsed, Severity, Shape, exception};

type Object = Map<String, Value>;

const LEVELS: &[&str] = &[
    "level",
    "severity",
    "lvl",
    "levelname",
    "level_name",
    "log.level",
    "loglevel",
    "logLevel",
    "LogLevel",
    "Level",
    "@l",
    "severity_text",
    "severityText",
    "SeverityText",
];
const MESSAGES: &[&str] = &[
    "message",
    "msg",
    "@m",
    "@mt",
    "Message",
    "short_message",
    "event",
    "text",
    "body",
    "Body",
    "log",
    "MessageTemplate",
];
const ERRORS: &[&str] = &[
    "error",
    "err",
    "exception",
    "Exception",
    "error.message",
    "exc_info",
    "stack_trace",
    "error.stack_trace",
    "stack",
    "stacktrace",
    "traceback",
    "@x",
    "cause",
    "reason",
];
const STACKS: &[&str] = &["stack_trace", "error.stack_trace", "stack", "stacktrace", "traceback"];
const STATUSES: &[&str] = &["status", "status_code", "statusCode", "response_code", "http.status_code", "code"];
const METHODS: &[&str] = &["method", "request_method", "http.method", "http_method", "verb"];
const PATHS: &[&str] = &["path", "uri", "url", "request_uri", "http.path", "request_path", "http.url", "route"];

/// A JSON object; `None` if it is none.
pub(super) fn json(text: &str) -> Option<Parsed<'_>> {
    let Value::Object(object) = serde_json::from_str(text).ok()? else { return None };
    let severity = level(&object);
    if let Some((method, path, status)) = request(&object) {
        let sentence = access::Request { method, path: path.split('?').next().unwrap_or_default(), status }.sentence();
        return Some(Parsed {
            severity: access::severity(severity, status),
            message: Cow::Owned(sentence),
            shape: Shape::Access,
            stack: None,
            status: Some(status),
        });
    }
    let fields = object.get("fields").and_then(Value::as_object);
    let find = |keys: &[&str]| {
        keys.iter().find_map(|key| object.get(*key).or_else(|| fields?.get(*key)).filter(|value| !value.is_null()))
    };
    let mut message = find(MESSAGES).map(plain).unwrap_or_default();
    let mut stack = None;
    for key in ERRORS {
        let Some(value) = object.get(*key).or_else(|| fields?.get(*key)) else { continue };
        let (short, long) = error(value);
        // The first line of a stack is an error's sentence in some languages and a function in others.
        let says = |short: &str| !STACKS.contains(key) || exception(short).is_some();
        if let Some(short) = short.filter(|short| !short.is_empty() && says(short) && !message.contains(short.as_str()))
        {
            message = if message.is_empty() { short } else { format!("{message}: {short}") };
        }
        stack = stack.or(long);
    }
    // A message of several lines is a message with its stack trace.
    if stack.is_none() && message.contains('\n') {
        let first = message.lines().next().unwrap_or_default().to_owned();
        stack = Some(std::mem::replace(&mut message, first));
    }
    let severity = if severity == Severity::Unknown && stack.is_some() { Severity::Error } else { severity };
    Some(Parsed { severity, message: Cow::Owned(message), shape: Shape::Json, stack, status: None })
}

/// Text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned())
}

/// An error's sentence and its stack trace.
fn error(value: &Value) -> (Option<String>, Option<String>) {
    match value {
        Value::String(text) => {
            let text = text.trim();
            match text.lines().next() {
                Some(first) if first.len() < text.len() => {
                    // Python's traceback has its sentence in the last line.
                    let is_python = first.starts_with("Traceback ");
                    let sentence = if is_python { text.lines().last().unwrap_or(first) } else { first };
                    (Some(sentence.trim().to_owned()), Some(text.to_owned()))
                }
                Some(first) => (Some(first.to_owned()), None),
                None => (None, None),
            }
        }
        Value::Object(inner) => {
            let text = |keys: &[&str]| keys.iter().find_map(|key| inner.get(*key)?.as_str());
            let kind = text(&["type", "name", "class", "kind", "code"]);
            let message = text(&["message", "msg", "Message"]);
            let stack = text(&["stack", "stack_trace", "stackTrace", "backtrace", "trace"]).map(str::to_owned);
            let sentence = match (kind, message) {
                (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
                (one, other) => one.or(other).map(str::to_owned),
            };
            (sentence, stack)
        }
        _ => (None, None),
    }
}

fn level(object: &Object) -> Severity {
    let mut words = LEVELS.iter().filter_map(|key| object.get(*key)?.as_str());
    if let Some(found) = words.find_map(word) {
        return found;
    }
    if let Some(nested) = object.get("log").and_then(|log| log.get("level")).and_then(Value::as_str).and_then(word) {
        return nested;
    }
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    if let Some(python) = number("levelno") {
        return match python {
            50.. => Severity::Fatal,
            40.. => Severity::Error,
            30.. => Severity::Warn,
            20.. => Severity::Info,
            _ => Severity::Debug,
        };
    }
    if let Some(level) = number("level").or_else(|| number("severity")) {
        return by_number(level);
    }
    // MongoDB writes one letter; Serilog leaves the level out where it is the usual one.
    match object.get("s").and_then(Value::as_str) {
        Some("I") => Severity::Info,
        Some("W") => Severity::Warn,
        Some("E") => Severity::Error,
        Some("F") => Severity::Fatal,
        _ if object.contains_key("@mt") && object.contains_key("@t") => Severity::Info,
        _ => Severity::Unknown,
    }
}

fn word(text: &str) -> Option<Severity> {
    Severity::word(text.trim())
}

/// Numbers of syslog (0 to 7), of Pino and Bunyan (10 to 60), of Monolog (100 to 600), of Logback (5,000 to 40,000).
fn by_number(level: u64) -> Severity {
    match level {
        0..=2 | 60..=99 | 500..=600 => Severity::Fatal,
        3 | 50..=59 | 400..=499 | 40_000..=49_999 => Severity::Error,
        4 | 40..=49 | 300..=399 | 30_000..=39_999 => Severity::Warn,
        5 | 6 | 30..=39 | 200..=299 | 20_000..=29_999 => Severity::Info,
        7 | 20..=29 | 100..=199 | 10_000..=19_999 => Severity::Debug,
        8..=19 | 5_000..=9_999 => Severity::Trace,
        _ => Severity::Unknown,
    }
}

/// A note of an answered request: method, path and status together, at the top or under `req` and `res`.
fn request(object: &Object) -> Option<(&str, &str, u16)> {
    let inner = |keys: &[&'static str]| keys.iter().find_map(|key| object.get(*key)?.as_object());
    let (asked, answered) = (inner(&["req", "request", "httpRequest"]), inner(&["res", "response", "httpRequest"]));
    let text = |keys: &[&str]| {
        keys.iter().find_map(|key| object.get(*key).or_else(|| asked?.get(*key)).and_then(Value::as_str))
    };
    let method = text(METHODS).or_else(|| asked?.get("requestMethod")?.as_str())?;
    let path = text(PATHS).or_else(|| asked?.get("requestUrl")?.as_str())?;
    let status = STATUSES.iter().find_map(|key| {
        let value = object.get(*key).or_else(|| answered?.get(*key))?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    })?;
    let status = u16::try_from(status).ok().filter(|status| (100..600).contains(status))?;
    Some((method, path, status))
}

/// `level=error msg="…" err="…"`; `None` if the line does not begin with a pair or has no level among them.
pub(super) fn logfmt(text: &str) -> Option<Parsed<'_>> {
    let head = text.find(['=', ' '])?;
    if text.as_bytes().get(head) != Some(&b'=') || !is_key(text.get(..head)?) {
        return None;
    }
    let (mut severity, mut message, mut error) = (None, None, None);
    let (mut method, mut path, mut status) = (None, None, None);
    for (key, value) in Pairs(text) {
        match key {
            "level" | "lvl" | "severity" | "loglevel" if severity.is_none() => severity = word(&value),
            "msg" | "message" | "event" if message.is_none() => message = Some(value),
            "err" | "error" | "exception" | "reason" if error.is_none() => error = Some(value),
            "method" => method = Some(value),
            "path" | "uri" | "url" => path = Some(value),
            "status" | "status_code" | "code" => status = value.parse::<u16>().ok().filter(|s| (100..600).contains(s)),
            _ => {}
        }
    }
    let severity = severity?;
    if let (Some(method), Some(path), Some(status)) = (method, path, status) {
        let path = path.split('?').next().unwrap_or_default();
        return Some(Parsed {
            severity: access::severity(severity, status),
            message: Cow::Owned(access::Request { method: &method, path, status }.sentence()),
            shape: Shape::Access,
            stack: None,
            status: Some(status),
        });
    }
    let message = match (message, error) {
        (Some(message), Some(error)) if !error.is_empty() && !message.contains(error.as_ref()) => {
            Cow::Owned(format!("{message}: {error}"))
        }
        (Some(message), _) => message,
        (None, Some(error)) => error,
        (None, None) => Cow::Borrowed(text),
    };
    Some(Parsed { severity, message, shape: Shape::Logfmt, stack: None, status: None })
}

fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '@')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@/".contains(&b))
}

/// The pairs of a logfmt line. Words that are no pair are passed over.
struct Pairs<'t>(&'t str);

impl<'t> Iterator for Pairs<'t> {
    type Item = (&'t str, Cow<'t, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.0.trim_start();
            let end = rest.find(['=', ' ', '\t'])?;
            let (key, tail) = rest.split_at_checked(end)?;
            let Some(value) = tail.strip_prefix('=').filter(|_| is_key(key)) else {
                self.0 = tail.get(1..)?;
                continue;
            };
            let Some(quoted) = value.strip_prefix('"') else {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                let (value, tail) = value.split_at_checked(end)?;
                self.0 = tail;
                return Some((key, Cow::Borrowed(value)));
            };
            let end = closing(quoted);
            let inner = quoted.get(..end)?;
            self.0 = quoted.get(end + 1..).unwrap_or_default();
            let value = if inner.contains('\\') { Cow::Owned(unescaped(inner)) } else { Cow::Borrowed(inner) };
            return Some((key, value));
        }
    }
}

/// Where the closing quote stands, or the end.
fn closing(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n' | 't')) => plain.push(' '),
            ('\\', Some(other)) => plain.push(other),
            (c, _) => plain.push(c),
        }
    }
    plain
}
