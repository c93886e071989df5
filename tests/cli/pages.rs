//! `docs/cli.md` and `docs/pipelines.md` say what the binary does.

use std::fs;
use std::process::Command;

use serde_json::Value;

fn page(name: &str) -> String {
    fs::read_to_string(format!("{}/docs/{name}.md", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn help(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_deployment-guard");
    let ran = Command::new(program).env_clear().args(arguments).arg("--help").output().unwrap();
    assert!(ran.status.success(), "{arguments:?}");
    String::from_utf8(ran.stdout).unwrap()
}

/// Blocks of a page in one language; none for those without.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(of) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if of == language {
                blocks.push(block.join("\n"));
            }
        }
    }
    blocks
}

#[test]
fn every_command_has_its_place_in_the_documentation() {
    let all: String = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
        .unwrap()
        .filter_map(|file| fs::read_to_string(file.unwrap().path()).ok())
        .collect();
    let listed = help(&[]);
    let commands = listed.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 14, "{commands:?}");
    let missing: Vec<_> = commands
        .iter()
        .filter(|command| **command != "help" && !all.contains(&format!("`deployment-guard {command}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_command_line_that_is_shown_is_understood() {
    let mut seen = 0;
    for name in ["cli", "pipelines"] {
        let page = page(name);
        let shown = blocks(&page, "").into_iter().chain(blocks(&page, "yaml"));
        for line in shown.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()) {
            let Some((_, line)) = line.split_once("deployment-guard ").filter(|(_, rest)| !rest.starts_with('"'))
            else {
                continue;
            };
            let words: Vec<&str> = line.split(['|', '>', ')']).next().unwrap().split_whitespace().collect();
            let (command, rest) = words.split_first().unwrap();
            let known = help(&[command]);
            for option in rest.iter().filter(|word| word.starts_with('-')) {
                let option = option.split('=').next().unwrap();
                assert!(known.contains(option), "{option} of {line}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn the_screens_that_are_shown_are_those_of_the_tests() {
    let page = page("cli");
    let screens = blocks(&page, "text");
    let golden = ["analysing", "rolled-back", "approval", "blind"].map(|name| {
        let path = format!("{}/src/cli/screen/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    });
    assert_eq!(screens, golden);
}

#[test]
fn pipelines_that_are_shown_can_be_read_and_wait_for_a_verdict() {
    let read = |text: String| serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let shown: Vec<Value> = blocks(&page("pipelines"), "yaml").into_iter().map(read).collect();
    let (flux, pipelines): (Vec<_>, Vec<_>) = shown.into_iter().partition(|shown| shown["kind"] == "Kustomization");
    assert_eq!((flux.len(), pipelines.len()), (1, 2));
    assert_eq!(flux[0]["spec"]["healthChecks"][1]["kind"], "DeploymentGuard");
    for pipeline in pipelines {
        assert!(pipeline.to_string().contains("deployment-guard wait -n shop api --revision=latest"), "{pipeline}");
    }
}
