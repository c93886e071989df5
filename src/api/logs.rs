//! `spec.logs`: what is looked for in logs.
//!
//! Role: the fields a team writes, each with its sentence, and their parsing. Inputs: YAML by way of serde. Outputs: a
//! schema and a domain `LogPolicy`. Must never import: a kube client, other rooms than `domain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::InvalidSpec;
use crate::domain::logs::policy::{BYTES, PODS};
use crate::domain::logs::{LogPolicy, Patterns, UserPattern};
use crate::domain::outcome::FailureClass;

/// Patterns of one guard, at most.
const MOST_PATTERNS: usize = 20;
const MOST_PODS: i32 = 20;
const LEAST_BYTES: i32 = 4096;
const MOST_BYTES: i32 = 16 * 1024 * 1024;
const MOST_CHARS_OF_ISSUE: usize = 128;
const MOST_CHARS_OF_FIX: usize = 400;

/// What is looked for in the logs of old and new pods. What is found explains a verdict and never causes one.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// Whether logs are read. It needs the right to get pods/log; without it, findings say so.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Patterns of your own, at most 20; they come before the built-in ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub patterns: Vec<LogPattern>,
    /// Pods of each revision whose logs are read, 1 to 20; restarted and unready ones first.
    #[serde(default = "max_pods")]
    #[schemars(range(min = 1, max = 20))]
    pub max_pods: i32,
    /// Bytes of one container's log that are read at a time, 4 KiB to 16 MiB.
    #[serde(default = "max_bytes")]
    #[schemars(range(min = 4096, max = 16_777_216))]
    pub max_bytes: i32,
}

/// A pattern of your own.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LogPattern {
    /// A regular expression in RE2 syntax, without look-around and back-references. It is tried on warnings, errors and
    /// lines without a level, on the message with exception and cause.
    #[schemars(length(min = 1, max = 512))]
    pub regex: String,
    /// What it is called in findings, such as `ledger refused`.
    #[schemars(length(min = 1, max = 128))]
    pub issue: String,
    /// What helps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 400))]
    pub suggested_fix: String,
    /// The kind of failure it points to.
    #[serde(default)]
    pub class: LogClass,
}

/// The kind of failure a pattern points to.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogClass {
    /// The process ends by itself.
    Crash,
    /// It has too little memory.
    Oom,
    /// Something it is configured with is missing or wrong.
    ConfigError,
    /// Memory grows until it ends.
    MemoryLeak,
    /// A database does not answer in time.
    DatabaseTimeout,
    /// Something it depends on cannot be reached.
    DependencyUnavailable,
    /// It answers more slowly.
    Performance,
    /// Somebody limits its rate.
    RateLimit,
    /// None of the others.
    #[default]
    Other,
}

impl Default for Logs {
    fn default() -> Self {
        Self { enabled: true, patterns: Vec::new(), max_pods: max_pods(), max_bytes: max_bytes() }
    }
}

const fn yes() -> bool {
    true
}

fn max_pods() -> i32 {
    i32::try_from(PODS).unwrap_or(MOST_PODS)
}

fn max_bytes() -> i32 {
    i32::try_from(BYTES).unwrap_or(MOST_BYTES)
}

/// Parses the section.
///
/// # Errors
/// If a field has a value that cannot be used; the error names the field and the cure.
pub fn parse(spec: &Logs) -> Result<LogPolicy, InvalidSpec> {
    if spec.patterns.len() > MOST_PATTERNS {
        let problem = format!(
            "holds {} patterns, but there can be {MOST_PATTERNS} at most; join some with |",
            spec.patterns.len()
        );
        return Err(invalid("patterns", problem));
    }
    for (index, pattern) in spec.patterns.iter().enumerate() {
        let within = |text: &str, least: usize, most: usize| (least..=most).contains(&text.trim().chars().count());
        if !within(&pattern.issue, 1, MOST_CHARS_OF_ISSUE) {
            let problem = format!("must have 1 to {MOST_CHARS_OF_ISSUE} characters; say in a few words what it is");
            return Err(invalid(format!("patterns[{index}].issue"), problem));
        }
        if !within(&pattern.suggested_fix, 0, MOST_CHARS_OF_FIX) {
            let problem = format!("can have {MOST_CHARS_OF_FIX} characters at most; link to a page instead");
            return Err(invalid(format!("patterns[{index}].suggestedFix"), problem));
        }
    }
    let patterns: Vec<_> = spec.patterns.iter().map(pattern).collect();
    let patterns = Patterns::new(&patterns).map_err(|error| {
        let field = error.index().map_or_else(|| "patterns".to_owned(), |index| format!("patterns[{index}].regex"));
        invalid(field, error.to_string())
    })?;
    let max_pods = Some(spec.max_pods).filter(|pods| (1..=MOST_PODS).contains(pods));
    let max_bytes = Some(spec.max_bytes).filter(|bytes| (LEAST_BYTES..=MOST_BYTES).contains(bytes));
    Ok(LogPolicy {
        enabled: spec.enabled,
        patterns,
        max_pods: max_pods.and_then(|pods| usize::try_from(pods).ok()).ok_or_else(|| {
            invalid("maxPods", format!("is {}, but must lie between 1 and {MOST_PODS}", spec.max_pods))
        })?,
        max_bytes: max_bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| {
            let problem = format!("is {}, but must lie between {LEAST_BYTES} and {MOST_BYTES}", spec.max_bytes);
            invalid("maxBytes", problem)
        })?,
    })
}

fn invalid(field: impl AsRef<str>, problem: impl Into<String>) -> InvalidSpec {
    InvalidSpec { field: format!("logs.{}", field.as_ref()), problem: problem.into() }
}

fn pattern(spec: &LogPattern) -> UserPattern {
    UserPattern {
        regex: spec.regex.clone(),
        issue: spec.issue.trim().to_owned(),
        suggested_fix: spec.suggested_fix.trim().to_owned(),
        class: match spec.class {
            LogClass::Crash => FailureClass::Crash,
            LogClass::Oom => FailureClass::Oom,
            LogClass::ConfigError => FailureClass::ConfigError,
            LogClass::MemoryLeak => FailureClass::MemoryLeak,
            LogClass::DatabaseTimeout => FailureClass::DatabaseTimeout,
            LogClass::DependencyUnavailable => FailureClass::DependencyUnavailable,
            LogClass::Performance => FailureClass::Performance,
            LogClass::RateLimit => FailureClass::RateLimit,
            LogClass::Other => FailureClass::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(spec: Value) -> Result<LogPolicy, InvalidSpec> {
        parse(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn logs_are_read_unless_somebody_says_no() {
        let policy = parsed(json!({})).unwrap();
        assert!(policy.enabled);
        assert_eq!((policy.max_pods, policy.max_bytes), (5, 1024 * 1024));
        assert_eq!(serde_json::from_value::<Logs>(json!({})).unwrap(), Logs::default());
    }

    #[test]
    fn a_refusal_names_field_and_cure() {
        let refused = |spec: Value| parsed(spec).unwrap_err().to_string();
        let good = json!({"regex": "a", "issue": "a"});
        let third = |regex: &str| json!({"patterns": [good, good, {"regex": regex, "issue": "b"}]});
        let text = refused(third("(?<=x)y"));
        assert!(text.starts_with("spec.logs.patterns[2].regex is no valid expression"), "{text}");
        let text = refused(third(r"\w{1000}\w{1000}"));
        assert!(text.starts_with("spec.logs.patterns[2].regex becomes larger"), "{text}");
        assert!(refused(json!({"maxPods": 0})).contains("logs.maxPods is 0, but must lie between 1 and 20"));
        assert!(refused(json!({"maxBytes": 1})).contains("logs.maxBytes"));
        assert!(refused(json!({"patterns": vec![&good; 21]})).contains("logs.patterns holds 21"));
        assert!(refused(json!({"patterns": [{"regex": "a", "issue": " "}]})).contains("logs.patterns[0].issue"));
    }
}
