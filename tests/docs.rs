//! What the documentation says is shown by a test is shown by one that exists and is run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = "## Situations";
const WAITS: &str = "waits for the chart";

/// Tests that are being written. Empty at a release; a name that exists by now must go.
const AWAITED: &[&str] = &[];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rows of the table "Situations": what, and by what it is shown.
fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/undo.md")).unwrap();
    let section = text.split_once(TABLE).expect("no section of situations").1;
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect() };
    lines
        .skip(2)
        .map(|line| match &cells(line)[..] {
            [situation, _, shown] => (situation.clone(), shown.clone()),
            other => panic!("{} cells instead of 3: {line}", other.len()),
        })
        .collect()
}

/// The names of tests in a cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').filter(|part| part.contains("::")).collect()
}

/// Why a name is no test, if it is none.
fn trouble(name: &str) -> Option<String> {
    let (file, function) = name.split_once("::")?;
    let path = if file.starts_with("src/") { root().join(file) } else { root().join("tests").join(file) };
    let Ok(text) = fs::read_to_string(&path) else { return Some(format!("no file {file}")) };
    if !is_test(&text, function, file.starts_with("e2e/")) {
        return Some(format!("no test {function} in {file}"));
    }
    let module = Path::new(file).file_stem()?.to_str()?;
    let registered = || fs::read_to_string(root().join("tests/e2e/main.rs")).unwrap();
    let entry = format!(" {module}::{function},");
    (file.starts_with("e2e/") && !registered().contains(&entry))
        .then(|| format!("{name} is not run by tests/e2e/main.rs"))
}

fn is_test(text: &str, function: &str, of_cluster: bool) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| {
        let line = line.trim_start_matches("pub ").trim_start_matches("async ");
        line.strip_prefix("fn ")
            .is_some_and(|rest| rest.strip_prefix(function).is_some_and(|rest| rest.starts_with('(')))
    });
    // Those of the cluster are run by their own harness.
    at.is_some_and(|at| {
        of_cluster || lines[..at].iter().rev().take(3).any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn every_situation_of_an_undo_is_shown_by_a_test_that_is_run() {
    let rows = rows();
    assert!(rows.len() >= 24, "{} rows: the table was not read", rows.len());
    let awaited: BTreeSet<_> = AWAITED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (situation, shown) in &rows {
        let names = names(shown);
        if names.is_empty() && shown != WAITS {
            wrong.push(format!("{situation}: neither a test nor \"{WAITS}\""));
        }
        let troubles = names.iter().filter(|name| !awaited.contains(*name)).filter_map(|name| trouble(name));
        wrong.extend(troubles.map(|trouble| format!("{situation}: {trouble}")));
    }
    let named: BTreeSet<_> = rows.iter().flat_map(|(_, shown)| names(shown)).collect();
    wrong.extend(awaited.difference(&named).map(|name| format!("{name} is awaited, but no row names it")));
    wrong.extend(
        awaited.iter().filter(|name| trouble(name).is_none()).map(|name| format!("{name} is awaited, but exists")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    for name in ["e2e/undo.rs::no_such_test", "e2e/no_such_file.rs::x", "e2e/undo.rs::policy", "src/act/undo.rs::check"]
    {
        assert!(trouble(name).is_some(), "{name}");
    }
    assert_eq!(trouble("src/act/tests.rs::what_is_gone_stops_quietly"), None);
}
