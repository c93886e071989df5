//! `deployment-guard explain`, as a person runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

const GUARD: &str = "/apis/deploymentguard.dev/v1alpha1/namespaces/shop/deploymentguards/api";
const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

/// An API server that knows some paths and answers 404 to the rest; its address.
fn serve(answers: BTreeMap<String, (u16, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answers = answers.clone();
            thread::spawn(move || answer(&stream, &answers));
        }
    });
    format!("http://{address}")
}

fn answer(stream: &TcpStream, answers: &BTreeMap<String, (u16, Value)>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    lines.find(String::is_empty);
    let (code, body) = answers.get(&path).cloned().unwrap_or_else(|| status(404, "configmaps", "not found"));
    let body = body.to_string();
    let head = format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let _ = write!(&*stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
}

fn status(code: u16, kind: &str, message: &str) -> (u16, Value) {
    let details = json!({"kind": kind, "name": "x"});
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "x",
        "code": code, "details": details}),
    )
}

/// Exit code, standard output, standard error.
fn explain(server: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u, \
         namespace: shop}}}}], clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}], users: [{{name: u, user: {{}}}}]}}"
    );
    std::fs::write(config.path(), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    let ran = command.env_clear().env("KUBECONFIG", config.path()).arg("explain").args(arguments).output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
}

/// The cluster of a story.
fn cluster(story: &str) -> BTreeMap<String, (u16, Value)> {
    let story: Value = serde_json::from_str(story).unwrap();
    let owner =
        json!([{"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "name": "api", "uid": "u1"}]);
    let map = |name: &str, data: Value| {
        let metadata = json!({"name": name, "namespace": "shop", "ownerReferences": owner});
        (200, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
    };
    let calls = story["calls"].as_array().unwrap().iter().enumerate();
    let calls: BTreeMap<String, String> = calls.map(|(at, call)| (format!("c{at}"), call.to_string())).collect();
    BTreeMap::from([
        (GUARD.to_owned(), (200, story["guard"].clone())),
        (format!("{MAPS}/api-samples"), map("api-samples", story["samples"].clone())),
        (format!("{MAPS}/api-advice"), map("api-advice", json!(calls))),
    ])
}

#[test]
fn a_decision_is_told_from_what_the_cluster_holds() {
    let server = serve(cluster(include_str!("../src/cli/explain/golden/explained.json")));
    let (code, said, error) = explain(&server, &["api", "--prompt"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(said, include_str!("../src/cli/explain/golden/explained.txt"));
    let (code, said, _) = explain(&server, &["-n", "shop", "api", "7f9c5b6d84-1763717369603", "-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, said["decision"]["advice"]["by"].as_str()), (Some(0), Some("llm/together")));
}

#[test]
fn an_unknown_decision_guard_or_kind_and_a_missing_right_end_with_2_and_a_cure() {
    let server = serve(cluster(include_str!("../src/cli/explain/golden/clamped.json")));
    let mut expected = vec![(explain(&server, &["api", "no"]), "known are 7f9c5b6d84-1763717369603")];
    for (answer, sentence) in [
        (status(404, "deploymentguards", "no"), "there is no guard api in namespace shop"),
        ((404, json!("404 page not found")), "does not know DeploymentGuards"),
        (
            status(403, "deploymentguards", "not for you"),
            "you may not read the guard api in namespace shop: not for you",
        ),
        (status(401, "", "who?"), "does not know who you are"),
    ] {
        expected.push((explain(&serve(BTreeMap::from([(GUARD.to_owned(), answer)])), &["api"]), sentence));
    }
    for ((code, said, error), sentence) in expected {
        assert_eq!((code, said.as_str()), (Some(2), ""), "{error}");
        assert!(error.contains(sentence), "{error}");
    }
}

#[test]
fn an_api_server_that_does_not_answer_ends_with_4_and_no_kubeconfig_with_2() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, error) = explain(&format!("http://{closed}"), &["api"]);
    assert_eq!(code, Some(4), "{error}");
    assert!(error.contains("the API server of context c cannot be asked"), "{error}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    let ran = command.env_clear().env("KUBECONFIG", "/nonexistent").args(["explain", "api"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("no kubeconfig can be used"));
}
