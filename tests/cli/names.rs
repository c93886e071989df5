//! What does not need a cluster: names, completion, manual pages.

use std::process::{Command, Output};

fn ran(program: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(program).env_clear().args(arguments).output().unwrap()
}

fn said(program: &std::path::Path, arguments: &[&str]) -> String {
    let output = ran(program, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn as_a_plugin_of_kubectl_it_says_how_it_is_typed_there() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-guard");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_deployment-guard"));
    std::os::unix::fs::symlink(program, &plugin).unwrap();
    assert!(said(&plugin, &["--help"]).contains("Usage: kubectl guard <COMMAND>"));
    assert!(said(&plugin, &["wait", "--help"]).contains("Usage: kubectl guard wait [OPTIONS] <GUARD>"));
    assert!(said(program, &["wait", "--help"]).contains("Usage: deployment-guard wait [OPTIONS] <GUARD>"));
    assert!(said(program, &["wait", "--help"]).contains("3 inconclusive or timed out"));
    let wrong = ran(&plugin, &["status"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("kubectl guard status <GUARD>"));
    assert!(said(&plugin, &["completion", "bash"]).contains("-o default kubectl-guard\n"));
}

#[test]
fn shells_are_told_every_command_and_each_has_a_page() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_deployment-guard"));
    let commands = ["status", "list", "history", "approve", "reject", "undo", "wait", "explain", "completion", "man"];
    for shell in ["bash", "zsh", "fish"] {
        let script = said(program, &["completion", shell]);
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    said(program, &["man", folder.path().to_str().unwrap()]);
    for command in commands {
        let page = std::fs::read_to_string(folder.path().join(format!("deployment-guard-{command}.1")));
        assert!(page.is_ok_and(|page| page.contains(".SH SYNOPSIS")), "{command}");
    }
    assert!(said(program, &["man"]).contains(".TH deployment"));
}
