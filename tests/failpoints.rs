//! Fail points are in a build with the feature of that name, and in no other.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::Path;

/// The variable's name stands in every program that reads it.
const MARK: &[u8] = b"DEPLOYMENT_GUARD_FAILPOINT";

fn is_in(program: &Path) -> bool {
    std::fs::read(program).unwrap().windows(MARK.len()).any(|window| window == MARK)
}

#[test]
fn a_build_has_fail_points_with_their_feature_only() {
    assert_eq!(is_in(Path::new(env!("CARGO_BIN_EXE_deployment-guard"))), cfg!(feature = "failpoints"));
}

#[test]
fn no_default_feature_brings_fail_points() {
    let manifest = include_str!("../Cargo.toml");
    let default = manifest.lines().find(|line| line.starts_with("default = ")).unwrap();
    assert!(!default.contains("failpoints"), "{default}");
}

/// Names in the sources and names in the story of the cluster: a place that is never visited proves nothing.
#[test]
fn every_fail_point_is_visited_by_a_test_on_the_cluster() {
    fn named(folder: &Path, names: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                named(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for hit in text.split("crate::failpoint!(").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
                names.extend(hit.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    let mut names = Vec::new();
    named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    assert!(names.len() >= 10, "{names:?}");
    let stories = include_str!("e2e/guarantee.rs");
    let missed: Vec<_> = names.iter().filter(|name| !stories.contains(&format!("\"{name}\""))).collect();
    assert!(missed.is_empty(), "never visited: {missed:?}");
}
