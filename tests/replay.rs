//! Recorded rollouts through the built binary: what is decided, and how what is wrong is said.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn replay(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_deployment-guard"))
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The program may have seen enough before all is written.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay")
}

fn recordings() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    found.sort();
    assert!(found.len() >= 10, "{found:?}");
    found
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn error_of(input: impl AsRef<[u8]>) -> String {
    let output = replay(&["-", "--json"], input.as_ref());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

const HEADER: &str =
    "{\"schema\":\"deploymentguard.dev/replay/v1\",\"baseline\":\"concurrent\",\"signals\":[\"errors\"]}";

#[test]
fn every_recording_ends_as_it_is_written_beside_it() {
    let write = std::env::var_os("DEPLOYMENT_GUARD_BLESS").is_some();
    for path in recordings() {
        let output = replay(&[path.to_str().unwrap(), "--json"], b"");
        assert!(output.status.success(), "{}: {output:?}", path.display());
        let said = text(&output.stdout);
        let last = format!("{}\n", said.lines().last().unwrap());
        let beside = path.with_extension("last.json");
        if write {
            fs::write(&beside, &last).unwrap();
        }
        assert_eq!(last, fs::read_to_string(&beside).unwrap(), "{}", path.display());
    }
}

#[test]
fn the_same_file_gives_the_same_bytes() {
    for path in recordings() {
        let once = replay(&[path.to_str().unwrap(), "--json"], b"");
        let twice = replay(&["-", "--json"], &fs::read(&path).unwrap());
        assert_eq!(once.stdout, twice.stdout, "{}", path.display());
    }
}

#[test]
fn each_step_is_an_object_and_the_last_line_has_five_fields() {
    let output = replay(&[folder().join("healthy.jsonl").to_str().unwrap(), "--json"], b"");
    let said = text(&output.stdout);
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, steps) = lines.split_last().unwrap();
    assert_eq!(steps.len(), 120);
    for (step, number) in steps.iter().zip(1..) {
        assert_eq!(step["step"], number);
        for field in ["t", "lnE", "oneIn", "healthScore", "verdict", "signals"] {
            assert!(!step[field].is_null(), "{field} in {step}");
        }
    }
    let fields: Vec<&String> = last.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 5, "{last}");
    assert!(said.lines().last().unwrap().starts_with("{\"decision\":\"CONTINUE\",\"confidence\":"), "{last}");
}

#[test]
fn a_person_reads_one_line_a_step_and_a_closing_paragraph() {
    let output = replay(&[folder().join("errors-1-to-5-percent.jsonl").to_str().unwrap()], b"");
    let said = text(&output.stdout);
    assert!(said.starts_with("step    1"), "{said}");
    assert!(said.contains("ROLLBACK at step"), "{said}");
    assert!(said.contains("on the old revision"), "{said}");
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_file_line_and_field() {
    let line = |text: &str| format!("{HEADER}\n{text}\n");
    for (input, wanted) in [
        (String::new(), "error: -:1: line: is empty"),
        ("{\"schema\":1}".to_owned(), "error: -:1: schema: is 1, but must be a text"),
        (
            line(r#"{"t":1,"signals":{"errors":{"new":{"bad":2,"total":1}}}}"#),
            "error: -:2: signals.errors.new.bad: is 2",
        ),
        (
            line(r#"{"t":1,"signals":{"errors":{"new":{"bad":-2,"total":1}}}}"#),
            "error: -:2: signals.errors.new.bad: is -2",
        ),
        (line("\n\n{\"t\":1,\"signals\":{},\"x\":1}"), "error: -:4: x: is unknown"),
        (line("{\"t\":2,\"signals\":{}}\n{\"t\":1,\"signals\":{}}"), "error: -:3: t: is 1, but the line before has 2"),
        (line(&"[".repeat(1 << 20)), "error: -:2: line: is nested"),
        (line(&" ".repeat((1 << 20) + 1)), "error: -:2: line: is longer than 1024 KiB"),
    ] {
        let said = error_of(&input);
        assert!(said.starts_with(wanted), "{wanted}: {said}");
    }
    assert!(error_of(b"\xff\n").starts_with("error: -:1: line: is not UTF-8 at byte 1"));
    let missing = replay(&["/nowhere/at-all.jsonl"], b"");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).starts_with("error: /nowhere/at-all.jsonl: "), "{missing:?}");
    assert_eq!(replay(&[], b"").status.code(), Some(2));
}

#[test]
fn byte_order_marks_carriage_returns_and_blank_lines_do_no_harm() {
    let plain = fs::read_to_string(folder().join("errors-20-percent.jsonl")).unwrap();
    let odd = format!("\u{feff}{}\r\n\r\n  \n", plain.trim_end().replace('\n', "\r\n"));
    let (plain, odd) = (replay(&["-", "--json"], plain.as_bytes()), replay(&["-", "--json"], odd.as_bytes()));
    assert!(odd.status.success(), "{odd:?}");
    assert_eq!(plain.stdout, odd.stdout);
}
