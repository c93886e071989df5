//! What kind of failure a ROLLBACK was for, and what says so.
//!
//! Role: sorts failures for people, prompts and training samples; it decides nothing. Inputs: the hard fact if there is
//! one, findings, signals. Outputs: a class, never `none`, and the evidence for it, best first. The order of the inputs
//! changes nothing. Must never import: other rooms.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::finding::{Finding, Novelty};
use super::outcome::FailureClass;
use super::signal::Term;

/// Most sentences of evidence.
pub const MOST_EVIDENCE: usize = 4;
/// How much of a finding is quoted.
const QUOTED: usize = 160;

/// Everything that was seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clues<'a> {
    /// The fact that decided, if one did.
    pub fact: Option<FactClue<'a>>,
    /// What was found in logs, by probes and in the states of pods.
    pub findings: &'a [Finding],
    /// How the signals stood.
    pub signals: &'a [SignalClue<'a>],
}

/// Which fact it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FactWord {
    /// Containers exit again and again.
    CrashLoop,
    /// Killed for using more memory than the limit.
    OomKilled,
    /// The image cannot be pulled.
    ImagePull,
    /// A `ConfigMap`, Secret or key is missing.
    ConfigError,
    /// The container cannot be created or started.
    StartError,
    /// A lifecycle hook fails.
    Hook,
    /// The liveness probe fails.
    Liveness,
    /// Readiness never comes.
    NeverReady,
    /// The progress deadline passed.
    Progress,
    /// A volume cannot be mounted.
    VolumeMount,
    /// It serves nobody.
    SilentRevision,
}

/// The fact that decided.
#[derive(Debug, Clone, Copy)]
pub struct FactClue<'a> {
    /// Which one.
    pub word: FactWord,
    /// As people read it.
    pub sentence: &'a str,
    /// The last exit code, if a container ended.
    pub exit_code: Option<i32>,
    /// What the kubelet or the container said at last, redacted.
    pub message: &'a str,
}

/// How one signal stood.
#[derive(Debug, Clone, Copy)]
pub struct SignalClue<'a> {
    /// Its full name.
    pub name: &'a str,
    /// The term it feeds, if any.
    pub term: Option<Term>,
    /// Worse than on the old revision.
    pub worse: bool,
    /// It grows from step to step.
    pub grows: bool,
    /// As people read it.
    pub sentence: &'a str,
}

/// A class and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// Never [`FailureClass::None`].
    pub class: FailureClass,
    /// One to [`MOST_EVIDENCE`] sentences, best first.
    pub because: Vec<String>,
}

/// How much a fact says by itself.
enum Says {
    /// This class, whatever else was seen.
    Only(FailureClass),
    /// This class, unless something names the cause.
    Unless(FailureClass),
}

/// Sorts a failure. Facts outrank findings, findings outrank signals; but a fact that only says how it ended, such as a
/// crash, takes its class from what names the cause.
#[must_use]
pub fn classify(clues: &Clues<'_>) -> Classified {
    let class = class_of(clues);
    Classified { class, because: evidence(clues, class) }
}

fn class_of(clues: &Clues<'_>) -> FailureClass {
    let Some(fact) = &clues.fact else {
        let found = best_finding(clues.findings, |_| true);
        return match found {
            Some(FailureClass::Oom) if memory_grows(clues.signals) => FailureClass::MemoryLeak,
            Some(class) => class,
            None => by_signals(clues.signals),
        };
    };
    match says(fact) {
        Says::Only(FailureClass::Oom) => {
            let leaks = memory_grows(clues.signals)
                || best_finding(clues.findings, |class| class == FailureClass::MemoryLeak).is_some();
            if leaks { FailureClass::MemoryLeak } else { FailureClass::Oom }
        }
        Says::Only(class) => class,
        Says::Unless(base) => named_cause(fact, clues).unwrap_or(base),
    }
}

fn says(fact: &FactClue<'_>) -> Says {
    match fact.word {
        FactWord::OomKilled => Says::Only(FailureClass::Oom),
        FactWord::ImagePull if pull_is_limited(fact.message) => Says::Only(FailureClass::RateLimit),
        FactWord::ImagePull => Says::Only(FailureClass::Image),
        FactWord::ConfigError | FactWord::StartError | FactWord::VolumeMount => Says::Only(FailureClass::ConfigError),
        FactWord::CrashLoop => Says::Unless(FailureClass::Crash),
        FactWord::Hook => Says::Unless(FailureClass::ConfigError),
        FactWord::Liveness | FactWord::NeverReady | FactWord::Progress | FactWord::SilentRevision => {
            Says::Unless(FailureClass::Other)
        }
    }
}

fn pull_is_limited(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("toomanyrequests") || message.contains("too many requests") || message.contains("rate limit")
}

/// The cause behind a fact that only says how it ended.
fn named_cause(fact: &FactClue<'_>, clues: &Clues<'_>) -> Option<FailureClass> {
    // A process that exits is not slow, whatever its log says about slowness.
    let crash = fact.word == FactWord::CrashLoop;
    let may = |class| !(crash && class == FailureClass::Performance);
    let grows = memory_grows(clues.signals);
    match best_finding(clues.findings, may).or_else(|| by_message(fact)).or_else(|| by_exit_code(fact)) {
        Some(FailureClass::Oom) if grows => Some(FailureClass::MemoryLeak),
        Some(class) => Some(class),
        None if grows && (!crash || fact.exit_code == Some(137)) => Some(FailureClass::MemoryLeak),
        None if !crash && by_signals(clues.signals) == FailureClass::Performance => Some(FailureClass::Performance),
        None => None,
    }
}

/// What a container's last words or the kubelet's message give away; only words that mean one thing.
const LAST_WORDS: &[(&str, FailureClass)] = &[
    ("outofmemoryerror", FailureClass::Oom),
    ("heap out of memory", FailureClass::Oom),
    ("cannot allocate memory", FailureClass::Oom),
    ("executable file not found", FailureClass::ConfigError),
    ("exec format error", FailureClass::Image),
    ("no such host", FailureClass::DependencyUnavailable),
    ("name or service not known", FailureClass::DependencyUnavailable),
];

fn by_message(fact: &FactClue<'_>) -> Option<FailureClass> {
    let message = fact.message.to_lowercase();
    let known = LAST_WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, class)| *class);
    // A probe's time-out, as the kubelet words it.
    let slow = fact.word == FactWord::Liveness
        && ["deadline exceeded", "client.timeout", "i/o timeout", "timed out"]
            .iter()
            .any(|words| message.contains(words));
    known.or(slow.then_some(FailureClass::Performance))
}

/// 126 and 127 are the shell's words for "cannot be executed" and "not found".
fn by_exit_code(fact: &FactClue<'_>) -> Option<FailureClass> {
    let cannot_start = fact.word == FactWord::CrashLoop && matches!(fact.exit_code, Some(126 | 127));
    cannot_start.then_some(FailureClass::ConfigError)
}

/// How precisely a class names a cause; the least number wins among findings of the same novelty.
const fn vagueness(class: FailureClass) -> u8 {
    match class {
        FailureClass::MemoryLeak => 0,
        FailureClass::ConfigError => 1,
        FailureClass::DatabaseTimeout => 2,
        FailureClass::Oom => 3,
        FailureClass::Image => 4,
        FailureClass::RateLimit => 5,
        FailureClass::DependencyUnavailable => 6,
        FailureClass::Performance => 7,
        FailureClass::Crash => 8,
        FailureClass::Other => 9,
        FailureClass::None => 10,
    }
}

/// Findings that speak: not what the old revision has as much of, and not what names no cause.
fn speaks(finding: &Finding) -> bool {
    finding.novelty != Novelty::Known && !matches!(finding.class, FailureClass::Other | FailureClass::None)
}

fn best_finding(findings: &[Finding], may: impl Fn(FailureClass) -> bool) -> Option<FailureClass> {
    let best = findings.iter().filter(|finding| speaks(finding) && may(finding.class));
    best.min_by_key(|finding| (finding.novelty, vagueness(finding.class))).map(|finding| finding.class)
}

fn is_memory(signal: &SignalClue<'_>) -> bool {
    signal.term == Some(Term::Memory)
}

fn memory_grows(signals: &[SignalClue<'_>]) -> bool {
    signals.iter().any(|signal| is_memory(signal) && signal.grows)
}

/// The class that one signal points to.
fn of_signal(signal: &SignalClue<'_>) -> FailureClass {
    match signal.term {
        Some(Term::Memory) if signal.grows => FailureClass::MemoryLeak,
        Some(Term::Latency) if signal.worse => FailureClass::Performance,
        None if signal.worse && signal.name.contains("throttl") => FailureClass::Performance,
        _ => FailureClass::Other,
    }
}

fn by_signals(signals: &[SignalClue<'_>]) -> FailureClass {
    signals.iter().map(of_signal).min_by_key(|class| vagueness(*class)).unwrap_or(FailureClass::Other)
}

/// The sentences, best first: what named the class, then what only agrees, then how it showed.
fn evidence(clues: &Clues<'_>, class: FailureClass) -> Vec<String> {
    // Sorted by what they are and then by their text, so that no order of the inputs shows.
    let mut sentences: BTreeSet<(u8, u8, Reverse<u64>, String)> = BTreeSet::new();
    let mut say = |rank: u8, novelty: u8, count: u64, sentence: String| {
        if !sentence.trim().is_empty() {
            sentences.insert((rank, novelty, Reverse(count), sentence));
        }
    };
    if let Some(fact) = &clues.fact {
        // A crash says how it ended; what names the cause goes first.
        let named = matches!(says(fact), Says::Only(own) | Says::Unless(own) if own == class);
        say(if named { 0 } else { 2 }, 0, 0, fact.sentence.to_owned());
        if !named && (by_message(fact) == Some(class) || by_exit_code(fact) == Some(class)) {
            say(1, 3, 0, last_words(fact));
        }
    }
    for finding in clues.findings.iter().filter(|finding| finding.novelty != Novelty::Known) {
        let agrees =
            finding.class == class || (class == FailureClass::MemoryLeak && finding.class == FailureClass::Oom);
        if agrees {
            say(1, place(finding.novelty), finding.new, found(finding));
        }
    }
    for signal in clues.signals.iter().filter(|signal| signal.worse || (is_memory(signal) && signal.grows)) {
        let rank = match (of_signal(signal) == class, class) {
            // Growth is what makes a leak of a kill.
            (true, FailureClass::MemoryLeak) => 0,
            (true, FailureClass::Other) | (false, _) => 4,
            (true, _) => 3,
        };
        say(rank, 0, 0, signal.sentence.to_owned());
    }
    let mut because: Vec<String> = sentences.into_iter().map(|(.., sentence)| sentence).collect();
    because.dedup();
    because.truncate(MOST_EVIDENCE);
    if because.is_empty() {
        because.push("nothing that was seen names a cause".to_owned());
    }
    because
}

const fn place(novelty: Novelty) -> u8 {
    match novelty {
        Novelty::New => 0,
        Novelty::More => 1,
        Novelty::Unknown => 2,
        Novelty::Known => 3,
    }
}

fn last_words(fact: &FactClue<'_>) -> String {
    match fact.exit_code {
        Some(code) if fact.message.trim().is_empty() => format!("it ended with exit code {code}"),
        Some(code) => format!("it ended with exit code {code} and said: {}", short(fact.message)),
        None => format!("the kubelet said: {}", short(fact.message)),
    }
}

fn found(finding: &Finding) -> String {
    let against = match (finding.novelty, finding.old) {
        (Novelty::New, _) => "not on the old revision".to_owned(),
        (Novelty::More, Some(old)) => format!("{old} times on the old revision"),
        (Novelty::More, None) => "less often on the old revision".to_owned(),
        (Novelty::Unknown | Novelty::Known, _) => "the old revision could not be looked at".to_owned(),
    };
    let times = if finding.new == 1 { "once".to_owned() } else { format!("{} times", finding.new) };
    let context = short(&finding.context);
    let said = if context.is_empty() { String::new() } else { format!(": {context}") };
    format!("{} in {}, {times}, {against}{said}", finding.issue, finding.source)
}

fn short(text: &str) -> String {
    text.trim().chars().take(QUOTED).collect()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
