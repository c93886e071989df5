//! How well lines of real formats are understood: `tests/logs/corpus.jsonl` was used while rules were made,
//! `tests/logs/held-out.jsonl` was written before and not looked at.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tally::signature;
use super::tests::read;
use super::{Patterns, Severity};

const CORPUS: &str = include_str!("../../../tests/logs/corpus.jsonl");
#[allow(dead_code)]
const HELD_OUT: &str = include_str!("../../../tests/logs/held-out.jsonl");
/// What is asked for in the corpus, of each class, in percent.
const WANTED: usize = 95;

#[derive(Default)]
struct Score {
    right: usize,
    missed: usize,
    wrong: usize,
}

struct Outcome {
    issues: BTreeMap<String, Score>,
    classes: BTreeMap<String, Score>,
    severities: (usize, usize),
    mistakes: Vec<String>,
}

fn text<'t>(record: &'t Value, field: &str) -> &'t str {
    record[field].as_str().unwrap_or_default()
}

fn records(corpus: &str) -> Vec<Value> {
    corpus.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// The worst severity and the first issue of what a record holds; a record is one or more lines.
fn understood(record: &Value, patterns: &Patterns) -> (Severity, Option<(String, String)>, Vec<String>) {
    let entries = read(text(record, "text"));
    let severity = entries.iter().map(|entry| entry.severity).max().unwrap_or_default();
    let found = entries.iter().find_map(|entry| patterns.find(entry));
    let issue = found.map(|found| (found.issue.to_owned(), found.class.as_str().to_owned()));
    (severity, issue, entries.iter().map(signature).collect())
}

fn class_of(issue: &str) -> String {
    super::table::ROWS
        .iter()
        .chain([&super::table::LOGGED])
        .find(|row| row.issue == issue)
        .unwrap_or_else(|| panic!("no row {issue}"))
        .class
        .as_str()
        .to_owned()
}

fn note(scores: &mut BTreeMap<String, Score>, wanted: Option<&str>, got: Option<&str>) {
    match (wanted, got) {
        (Some(wanted), Some(got)) if wanted == got => scores.entry(wanted.to_owned()).or_default().right += 1,
        (wanted, got) => {
            if let Some(wanted) = wanted {
                scores.entry(wanted.to_owned()).or_default().missed += 1;
            }
            if let Some(got) = got {
                scores.entry(got.to_owned()).or_default().wrong += 1;
            }
        }
    }
}

fn run(corpus: &str) -> Outcome {
    let patterns = Patterns::built_in();
    let mut outcome =
        Outcome { issues: BTreeMap::new(), classes: BTreeMap::new(), severities: (0, 0), mistakes: Vec::new() };
    for record in records(corpus) {
        let (severity, issue, _) = understood(&record, &patterns);
        let wanted = record["issue"].as_str();
        let got = issue.as_ref().map(|(issue, _)| issue.as_str());
        note(&mut outcome.issues, wanted, got);
        let class = wanted.map(class_of);
        note(&mut outcome.classes, class.as_deref(), issue.as_ref().map(|(_, class)| class.as_str()));
        outcome.severities.1 += 1;
        outcome.severities.0 += usize::from(severity.as_str() == text(&record, "severity"));
        if wanted != got || severity.as_str() != text(&record, "severity") {
            outcome.mistakes.push(format!(
                "{} {:?}→{:?} {}→{severity}: {}",
                text(&record, "format"),
                wanted.unwrap_or("-"),
                got.unwrap_or("-"),
                text(&record, "severity"),
                text(&record, "text").chars().take(160).collect::<String>().escape_debug()
            ));
        }
    }
    outcome
}

fn percent(part: usize, whole: usize) -> usize {
    if whole == 0 { 100 } else { part * 100 / whole }
}

fn show(name: &str, outcome: &Outcome) {
    println!("== {name}: severity right in {} of {}", outcome.severities.0, outcome.severities.1);
    for (title, scores) in [("issue", &outcome.issues), ("class", &outcome.classes)] {
        println!("{title:<28} right missed wrong precision recall");
        for (issue, score) in scores {
            println!(
                "{issue:<28} {:>5} {:>6} {:>5} {:>8}% {:>5}%",
                score.right,
                score.missed,
                score.wrong,
                percent(score.right, score.right + score.wrong),
                percent(score.right, score.right + score.missed)
            );
        }
    }
    for mistake in &outcome.mistakes {
        println!("  {mistake}");
    }
}

#[test]
fn each_class_of_the_corpus_has_the_precision_and_recall_that_are_asked_for() {
    let outcome = run(CORPUS);
    show("corpus", &outcome);
    for (issue, score) in outcome.issues.iter().chain(&outcome.classes) {
        assert!(percent(score.right, score.right + score.wrong) >= WANTED, "precision of {issue}");
        assert!(percent(score.right, score.right + score.missed) >= WANTED, "recall of {issue}");
    }
    assert!(percent(outcome.severities.0, outcome.severities.1) >= WANTED);
}
