//! `crds/`, `docs/reference.md` and `manifests/` are what the sources say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::path::PathBuf;
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_committed_definitions_are_those_of_the_types() {
    let fresh = tempfile::tempdir().unwrap();
    let wrote = Command::new(env!("CARGO_BIN_EXE_deployment-guard"))
        .args(["crd", "--out-dir"])
        .arg(fresh.path())
        .status()
        .unwrap();
    assert!(wrote.success());
    let mut count = 0;
    for entry in std::fs::read_dir(fresh.path()).unwrap() {
        let path = entry.unwrap().path();
        let committed = root().join("crds").join(path.file_name().unwrap());
        let same = std::fs::read_to_string(&path).unwrap() == std::fs::read_to_string(&committed).unwrap_or_default();
        assert!(same, "{} is out of date: run make crds", committed.display());
        count += 1;
    }
    assert_eq!(count, std::fs::read_dir(root().join("crds")).unwrap().count(), "a definition too many in crds/");
}

#[test]
fn the_committed_reference_is_that_of_the_types() {
    let printed = Command::new(env!("CARGO_BIN_EXE_deployment-guard")).args(["crd", "--markdown"]).output().unwrap();
    assert!(printed.status.success());
    let committed = std::fs::read_to_string(root().join("docs/reference.md")).unwrap_or_default();
    assert!(String::from_utf8(printed.stdout).unwrap() == committed, "docs/reference.md is out of date: run make crds");
}

#[test]
fn printed_definitions_are_one_yaml_stream() {
    let printed = Command::new(env!("CARGO_BIN_EXE_deployment-guard")).arg("crd").output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(text.matches("kind: CustomResourceDefinition").count(), 2, "{text}");
    assert_eq!(text.matches("---\n").count(), 2);
}

#[test]
fn wrong_usage_ends_with_2_and_names_the_cure() {
    let ran =
        Command::new(env!("CARGO_BIN_EXE_deployment-guard")).args(["run", "--log", "nonsense[["]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("--log"));
}
