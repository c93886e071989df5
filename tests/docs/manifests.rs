//! Manifests that the pages show go through `lint`, as those of users do; what is a part of one is completed first.

use std::fs;
use std::process::Command;

use deployment_guard::api::crd;
use serde_json::{Value, json};

use super::fences;

/// Languages of blocks; those without are commands or what they print.
const LANGUAGES: &[&str] = &["", "text", "yaml", "json", "promql", "mermaid", "dockerfile"];

/// Pages whose YAML is for other programs than Kubernetes; other tests read it.
const PIPELINES: &str = "docs/pipelines.md";

/// What `lint` finds in manifests.
fn linted(documents: &[Value]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shown");
    fs::write(&file, documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_deployment-guard")).args(["lint", "-f"]).arg(&file).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.success(), text.is_empty(), "{text}");
    text.lines().map(|line| line.rsplit("shown:").next().unwrap_or(line).to_owned()).collect()
}

/// Whether every field of a part is one of the spec of this kind.
fn fits(kind: &str, part: &Value) -> bool {
    let definition = crd::all().into_iter().find(|definition| definition.spec.names.kind == kind).unwrap();
    let definition = serde_json::to_value(definition).unwrap();
    let known = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    part.as_object().is_some_and(|part| part.keys().all(|name| known.get(name).is_some()))
}

/// A part of a spec in the smallest object that can hold it.
fn completed(part: &Value) -> Option<Value> {
    let part = if part["spec"].is_object() { &part["spec"] } else { part };
    let (kind, name, least) = [
        ("DeploymentGuard", "api", json!({"targetRef": {"name": "api"}})),
        ("GuardClass", "default", json!({"prometheus": {"url": "http://prometheus.monitoring:9090"}})),
    ]
    .into_iter()
    .find(|(kind, ..)| fits(kind, part))?;
    let mut spec = least;
    spec.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    let version = "deploymentguard.dev/v1alpha1";
    Some(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}))
}

/// What is wrong with a block of YAML. What has an ellipsis in it is what an object looks like, and not for copying.
fn wrong_with(text: &str) -> Vec<String> {
    let mut documents = Vec::new();
    for text in text.split("\n---\n").filter(|_| !text.contains('…')) {
        let document: Value = match serde_saphyr::from_str(text) {
            Ok(document) => document,
            Err(error) => return vec![error.to_string().lines().next().unwrap_or_default().to_owned()],
        };
        let group = document["apiVersion"].as_str().unwrap_or_default();
        match (document["kind"].as_str(), group.starts_with("deploymentguard.dev/")) {
            (Some("DeploymentGuard" | "GuardClass"), _) | (Some(_), true) => documents.push(document),
            (Some(_), false) => {}
            (None, _) => match completed(&document) {
                Some(whole) => documents.push(whole),
                None => return vec!["is neither a manifest nor a part of a spec".to_owned()],
            },
        }
    }
    if documents.is_empty() { Vec::new() } else { linted(&documents) }
}

#[test]
fn every_manifest_that_a_page_shows_passes_lint() {
    let (mut seen, mut wrong) = (0, Vec::new());
    let mut look = |place: &str, text: &str| {
        seen += 1;
        wrong.extend(wrong_with(text).into_iter().map(|why| format!("{place}: {why}")));
    };
    for fence in fences::all() {
        if fence.language == "yaml" && fence.page != PIPELINES {
            look(&fence.place, &fence.lines.join("\n"));
        }
        // What is written to `kubectl apply -f -`.
        let commands = if fence.language.is_empty() { fences::commands(&fence) } else { Vec::new() };
        for command in commands.iter().filter(|command| command.input.contains("apiVersion:")) {
            look(&fence.place, &command.input);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen >= 15, "{seen}: the pages were not read");
}

#[test]
fn every_signal_in_running_text_passes_lint() {
    let shown: Vec<_> = fences::inline().into_iter().filter(|(_, code)| code.starts_with("{name: ")).collect();
    let signals = shown.iter().filter(|(page, _)| page == "docs/guard.md");
    assert!(signals.clone().count() >= 6, "{shown:?}");
    for (page, code) in signals {
        assert_eq!(wrong_with(&format!("signals: [{code}]")), [""; 0], "{page}: {code}");
    }
}

#[test]
fn a_manifest_that_would_be_refused_is_noticed() {
    for (text, part) in [
        ("signals: [{name: x, gauge: {selector: 'rate(x[5m])'}}]", "selector"),
        ("spec: {mode: Enfroce}", "Enfroce"),
        ("kind: GuardClass\napiVersion: deploymentguard.dev/v1alpha1\nmetadata: {name: x}\nspec: {}", "prometheus"),
        ("kind: Guard\napiVersion: deploymentguard.dev/v1alpha1", "kind"),
        ("analysis: {windw: 5m}", "windw"),
        ("jobs: {}", "neither"),
        ("a: [", ""),
    ] {
        let found = wrong_with(text);
        assert!(!found.is_empty() && found.concat().contains(part), "{text}: {found:?}");
    }
}

#[test]
fn blocks_say_their_language_so_that_somebody_reads_them() {
    let fences = fences::all();
    let unknown: Vec<_> = fences.iter().filter(|fence| !LANGUAGES.contains(&fence.language.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    for fence in fences.iter().filter(|fence| fence.language == "json") {
        let text = fence.lines.join("\n");
        let whole = serde_json::from_str::<Value>(&text).is_ok();
        let each = || fence.lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(whole || each(), "{}: {text}", fence.place);
    }
    // The only queries that people write are selectors; the rest is the operator's.
    for fence in fences.iter().filter(|fence| fence.language == "promql") {
        for line in fence.lines.iter().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let selector = deployment_guard::domain::signal::Selector::parse(line);
            assert!(selector.is_ok(), "{}: {line}: {selector:?}", fence.place);
        }
    }
}
