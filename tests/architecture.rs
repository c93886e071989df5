//! Who may import whom, read off the `use crate::` lines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and the rooms they may import. What is missing here is forbidden.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("api", &["domain"]),
    ("observe", &["domain", "api"]),
    ("advise", &["domain"]),
    ("act", &["domain", "api", "failpoint"]),
    ("record", &["domain", "api"]),
    ("leader", &["domain", "api"]),
    ("telemetry", &["domain", "api"]),
    ("failpoint", &[]),
    ("controller", &["domain", "api", "observe", "advise", "act", "record", "leader", "telemetry", "failpoint"]),
    ("cli", &["domain", "api", "observe", "advise", "act", "record", "leader", "telemetry", "controller"]),
    ("main", &["cli"]),
];

/// Crates that a room must not name, with or without `use`.
const BANNED_CRATES: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "kube",
            "k8s_openapi",
            "tokio",
            "reqwest",
            "axum",
            "futures",
            "prometheus_client",
            "tracing",
            "prometheus_http_query",
        ],
    ),
    ("api", &["tokio", "reqwest", "axum", "prometheus_http_query"]),
];

/// Most lines of code (no blanks, no comments, no tests) of one file, and of one function.
const MOST_LINES_OF_FILE: usize = 600;
const NAMES_TO_REFUSE: &[&str] =
    &["utils", "helpers", "common", "manager", "service", "types", "ai", "brain", "engine"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().and_then(|s| s.to_str()).is_some_and(|s| s == "tests" || s.ends_with("_tests"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// The code of a file: no comments, no blank lines, no unit tests, wherever they stand.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let mut code = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // The item that follows, with its attributes: a declaration, or a block up to its closing brace.
            let item = lines.by_ref().find(|line| !line.starts_with("#[")).unwrap_or_default();
            if item.ends_with('{') {
                lines.by_ref().find(|line| *line == "}");
            }
            continue;
        }
        let line = line.trim();
        if !line.is_empty() && !line.starts_with("//") {
            code.push(line.to_owned());
        }
    }
    code
}

/// Names directly after `crate::`, braces included.
fn imported_rooms(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            rooms.extend(list.split(',').map(|item| item.trim().split("::").next().unwrap_or_default().to_owned()));
        } else {
            rooms.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let from = room(&path);
        if from == "lib" || is_test_file(&path) {
            continue;
        }
        let Some(allowed) = table.get(from.as_str()) else {
            wrong.push(format!("{}: the room {from} is not in the table", path.display()));
            continue;
        };
        for line in code(&path) {
            for to in imported_rooms(&line) {
                let known = table.contains_key(to.as_str());
                if known && to != from && !allowed.contains(&to.as_str()) {
                    wrong.push(format!("{}: {from} must not import {to}: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_name_no_crate_of_the_outside_world() {
    let mut wrong = Vec::new();
    for (from, banned) in BANNED_CRATES {
        for path in sources(&root().join(from)) {
            for line in code(&path) {
                for name in *banned {
                    let named = line
                        .match_indices(&format!("{name}::"))
                        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
                    if named {
                        wrong.push(format!("{}: {from} must not name {name}: {line}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short_and_have_names_that_say_something() {
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let lines = code(&path).len();
        if lines > MOST_LINES_OF_FILE {
            wrong.push(format!("{}: {lines} lines of code, {MOST_LINES_OF_FILE} at most", path.display()));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if NAMES_TO_REFUSE.contains(&stem) {
            wrong.push(format!("{}: the name says nothing", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_must_not_import() {
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        if is_test_file(&path) || ["lib", "main"].contains(&room(&path).as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let docs: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let joined = docs.join(" ").replace(" //!", "");
        if docs.is_empty() || docs.len() > 8 || !joined.to_lowercase().contains("must never import") {
            wrong.push(format!("{}: {} lines of module documentation", path.display(), docs.len()));
        }
    }
    assert!(
        wrong.is_empty(),
        "role, inputs, outputs, what must never be imported, in 8 lines at most:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn reconcile_fits_on_a_page() {
    let path = root().join("controller/reconcile.rs");
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find("pub async fn reconcile(").expect("controller/reconcile.rs has a reconcile");
    let lines = text[start..].lines().take_while(|line| *line != "}").count() + 1;
    assert!(lines <= 60, "reconcile has {lines} lines, 60 at most");
}
