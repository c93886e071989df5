//! Which entry speaks of which failure.
//!
//! Role: built-in rows and the user's expressions, compiled once. Inputs: user patterns, entries. Outputs: what matched,
//! and the service an entry names. All expressions are linear-time and of limited size; news that merely mention a
//! failure never match. Must never import: other rooms.

use std::sync::{Arc, LazyLock};

use regex::bytes::{self, RegexSet, RegexSetBuilder};
use regex::{Regex, RegexBuilder};

use super::join::Entry;
use super::required::Required;
use super::severity::{Severity, exception};
use super::table::{LOGGED, NOT_FOUND, RATE_LIMIT, ROWS, Row, SERVER_ERROR, UNCAUGHT};
use crate::domain::outcome::FailureClass;

/// User patterns, at most.
pub const MOST_PATTERNS: usize = 100;
/// Characters of a user's expression, at most.
pub const MOST_CHARS: usize = 512;
/// Bytes that one user expression may take when compiled, and all of them together.
const MOST_BYTES: usize = 256 * 1024;
const MOST_BYTES_OF_ALL: usize = 8 * 1024 * 1024;
/// Bytes of the cache of the automaton of all rows, and of that of one user expression.
const CACHE: usize = 4 * 1024 * 1024;
const CACHE_OF_ONE: usize = 256 * 1024;
/// Bytes of an entry that are looked at.
const LOOKED_AT: usize = 4096;

/// What a user looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPattern {
    /// The expression.
    pub regex: String,
    /// What it is called.
    pub issue: String,
    /// What helps.
    pub suggested_fix: String,
    /// The kind of failure.
    pub class: FailureClass,
}

/// What matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match<'p> {
    /// What it is.
    pub issue: &'p str,
    /// What usually helps.
    pub suggested_fix: &'p str,
    /// The kind of failure.
    pub class: FailureClass,
}

/// Why user patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There are more than [`MOST_PATTERNS`].
    #[error("holds {0} patterns, but there can be {MOST_PATTERNS} at most; join some with |")]
    TooMany(usize),
    /// One is longer than [`MOST_CHARS`].
    #[error("has {chars} characters, but can have {MOST_CHARS} at most; shorten or divide it")]
    TooLong {
        /// Which, from 0.
        index: usize,
        /// How many it has.
        chars: usize,
    },
    /// One is too large when compiled.
    #[error("becomes larger than {} KiB when compiled; use smaller repetitions such as {{1,20}} and fewer classes", MOST_BYTES / 1024)]
    TooLarge {
        /// Which, from 0.
        index: usize,
    },
    /// One is no expression.
    #[error("is no valid expression: {problem}; look-around and back-references do not exist here")]
    Invalid {
        /// Which, from 0.
        index: usize,
        /// The parser's words.
        problem: String,
    },
    /// One matches every line.
    #[error("matches the empty line, and so every line; make it more particular")]
    MatchesAll {
        /// Which, from 0.
        index: usize,
    },
    /// All together are too large.
    #[error("are too large together; make them simpler or fewer")]
    TooLargeTogether,
}

impl PatternError {
    /// Which pattern, if it is one.
    #[must_use]
    pub const fn index(&self) -> Option<usize> {
        match self {
            Self::TooMany(_) | Self::TooLargeTogether => None,
            Self::TooLong { index, .. }
            | Self::TooLarge { index }
            | Self::Invalid { index, .. }
            | Self::MatchesAll { index } => Some(*index),
        }
    }
}

/// The compiled patterns; cheap to clone.
#[derive(Debug, Clone)]
pub struct Patterns {
    users: Arc<Users>,
}

#[derive(Debug)]
struct Users {
    patterns: Vec<UserPattern>,
    required: Option<Required>,
    /// One automaton for all of them would outgrow any cache, because classes of Unicode are large; see docs/benchmarks.md.
    expressions: Vec<bytes::Regex>,
}

impl Users {
    fn none() -> Self {
        Self { patterns: Vec::new(), required: None, expressions: Vec::new() }
    }

    /// The first that matches.
    fn find(&self, text: &[u8]) -> Option<&UserPattern> {
        let candidates = self.required.as_ref()?.candidates(text)?;
        let tried = candidates.iter().zip(&self.expressions).zip(&self.patterns);
        tried
            .filter(|((candidate, _), _)| **candidate)
            .find(|((_, expression), _)| expression.is_match(text))
            .map(|(_, pattern)| pattern)
    }
}

/// The rows, and what rules them out. A test compiles each of them, so the fallback is never used.
struct BuiltIn {
    any: RegexSet,
    unless: Vec<RegexSet>,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| BuiltIn {
    any: set(ROWS.iter().map(|row| row.any.join("|"))).unwrap_or_else(|_| RegexSet::empty()),
    unless: ROWS.iter().map(|row| set(row.unless).unwrap_or_else(|_| RegexSet::empty())).collect(),
});

/// ASCII and without regard to case: `\b` of Unicode would keep the fast automaton from running.
pub(super) fn set<S: AsRef<str>>(expressions: impl IntoIterator<Item = S>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(expressions)
        .unicode(false)
        .case_insensitive(true)
        .size_limit(MOST_BYTES_OF_ALL)
        .dfa_size_limit(CACHE)
        .build()
}

impl Patterns {
    /// The built-in patterns alone.
    #[must_use]
    pub fn built_in() -> Self {
        Self { users: Arc::new(Users::none()) }
    }

    /// The built-in patterns, and in front of them the user's.
    ///
    /// # Errors
    /// If there are too many, or one cannot be used; the error says which and what to do.
    pub fn new(patterns: &[UserPattern]) -> Result<Self, PatternError> {
        if patterns.len() > MOST_PATTERNS {
            return Err(PatternError::TooMany(patterns.len()));
        }
        for (index, pattern) in patterns.iter().enumerate() {
            check(index, &pattern.regex)?;
        }
        let expressions = || patterns.iter().map(|pattern| pattern.regex.as_str());
        // Only whether they are too large together.
        RegexSetBuilder::new(expressions())
            .size_limit(MOST_BYTES_OF_ALL)
            .build()
            .map_err(|_| PatternError::TooLargeTogether)?;
        let users = Users {
            patterns: patterns.to_vec(),
            required: Some(Required::new(expressions()).ok_or(PatternError::TooLargeTogether)?),
            expressions: expressions()
                .map(|one| bytes::RegexBuilder::new(one).dfa_size_limit(CACHE_OF_ONE).build())
                .collect::<Result<_, _>>()
                .map_err(|_| PatternError::TooLargeTogether)?,
        };
        Ok(Self { users: Arc::new(users) })
    }

    /// What an entry speaks of.
    #[must_use]
    pub fn find(&self, entry: &Entry) -> Option<Match<'_>> {
        if let Some(status) = entry.status {
            return match status {
                500.. => Some(of(&SERVER_ERROR)),
                429 => Some(of(&RATE_LIMIT)),
                404 => Some(of(&NOT_FOUND)),
                _ => None,
            };
        }
        if !entry.severity.may_be_trouble() {
            return None;
        }
        let text = entry.text.as_bytes();
        let text = text.get(..text.len().min(LOOKED_AT)).unwrap_or_default();
        if let Some(found) = self.users.find(text) {
            return Some(Match { issue: &found.issue, suggested_fix: &found.suggested_fix, class: found.class });
        }
        let built_in = &*BUILT_IN;
        let mut rows = built_in.any.matches(text).into_iter();
        rows.find(|index| built_in.unless.get(*index).is_none_or(|unless| !unless.is_match(text)))
            .and_then(|index| ROWS.get(index))
            .map(of)
            .or_else(|| entry.trace.as_ref().map(|trace| of(if trace.uncaught { &UNCAUGHT } else { &LOGGED })))
            .or_else(|| names_exception(entry).then(|| of(&LOGGED)))
    }
}

/// Some loggers leave the frames out: an exception's name and message are enough.
fn names_exception(entry: &Entry) -> bool {
    entry.severity >= Severity::Warn
        && exception(&entry.text)
            .is_some_and(|(name, _)| !matches!(name, "Error" | "Exception") && !name.ends_with("Warning"))
}

fn check(index: usize, regex: &str) -> Result<(), PatternError> {
    let chars = regex.chars().count();
    if chars > MOST_CHARS {
        return Err(PatternError::TooLong { index, chars });
    }
    match RegexBuilder::new(regex).size_limit(MOST_BYTES).build() {
        Ok(compiled) if compiled.is_match("") => Err(PatternError::MatchesAll { index }),
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooLarge { index }),
        Err(error) => {
            // The parser draws a picture over several lines; its last line says what is wrong.
            let text = error.to_string();
            let problem = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(PatternError::Invalid { index, problem })
        }
    }
}

fn of(row: &'static Row) -> Match<'static> {
    Match { issue: row.issue, suggested_fix: row.suggested_fix, class: row.class }
}

/// Where a host, and perhaps a port, is named; the first that matches counts.
const SERVICES: &[&str] = &[
    r#"(?i)\b(?:jdbc:)?(?:postgres(?:ql)?|mysql|mariadb|rediss?|amqps?|mongodb(?:\+srv)?|kafka|nats|https?|grpc|sqlserver|tcp|ws)://(?:[^@/\s"']*@)?(?P<host>[\w.-]+)(?::(?P<port>\d{2,5}))?"#,
    r"(?i)\bdial (?:tcp|udp)(?: lookup)? \[?(?P<host>[\w.:-]+?)\]?(?::(?P<port>\d{2,5}))?(?::| |$)",
    r"(?i)\blookup (?P<host>[a-z][\w.-]*)",
    r"(?i)\b(?:ENOTFOUND|EAI_AGAIN) (?P<host>[\w.-]+)",
    r"(?i)\bE(?:CONNREFUSED|TIMEDOUT|HOSTUNREACH|CONNRESET) (?P<host>[\w.:]+?):(?P<port>\d{2,5})\b",
    r#"(?i)\b(?:host name|resolve(?: host)?:?|server at|host|host:) \\?["'](?P<host>[\w.-]+)\\?["'](?: ?\([^)]*\))?(?:,? port[ =](?P<port>\d{2,5}))?"#,
    r"(?i)\bhost='(?P<host>[\w.-]+)', port=(?P<port>\d{2,5})",
    r"(?i)\bUnknownHostException: (?P<host>[\w.-]+)",
    r#"(?i)\bconnect(?:ion|ing)? to (?:(?:the )?server at )?\\?["']?(?P<host>[a-z0-9][\w.-]*)(?::|, port |/| port )(?P<port>\d{2,5})"#,
    r"\b(?P<host>[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*):(?P<port>\d{4,5})\b",
    r"\b(?P<host>(?:\d{1,3}\.){3}\d{1,3}):(?P<port>\d{2,5})\b",
];

static NAMED: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SERVICES.iter().filter_map(|expression| Regex::new(expression).ok()).collect());

/// What usually listens on a port.
const PORTS: &[(&str, &str)] = &[
    ("5432", "postgres"),
    ("3306", "mysql"),
    ("6379", "redis"),
    ("27017", "mongodb"),
    ("9092", "kafka"),
    ("5672", "rabbitmq"),
    ("9200", "elasticsearch"),
    ("11211", "memcached"),
    ("2379", "etcd"),
    ("4222", "nats"),
    ("1433", "sqlserver"),
    ("9042", "cassandra"),
    ("2181", "zookeeper"),
    ("8200", "vault"),
    ("4317", "otlp"),
    ("25", "smtp"),
    ("587", "smtp"),
    ("53", "dns"),
];

/// The service that a text names: a host, or for an address what usually listens on its port.
#[must_use]
pub fn service(text: &str) -> Option<String> {
    NAMED.iter().find_map(|expression| {
        let found = expression.captures(text)?;
        let host = found.name("host")?.as_str().trim_end_matches(['.', '-', ':']);
        let port = found.name("port").map(|port| port.as_str());
        let bare = host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || host.contains(':');
        if bare {
            return port
                .and_then(|port| PORTS.iter().find(|(known, _)| *known == port))
                .map(|(_, name)| (*name).to_owned());
        }
        let is_name = host.len() <= 253 && host.starts_with(|c: char| c.is_ascii_alphanumeric());
        // `main.go:123` is a place in a program.
        let is_file = [".go", ".rs", ".py", ".js", ".ts", ".java", ".rb", ".cs", ".php", ".cc", ".cpp"]
            .iter()
            .any(|end| host.ends_with(end));
        (is_name && !is_file).then(|| host.to_owned())
    })
}
