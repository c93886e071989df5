//! `status`, `list` and `history`, and what goes wrong while reading.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Reply, Request, Server, command, run, status};
use crate::{ALL, GUARD, GUARDS, guard, list};

/// Guards in pages as they are asked for.
fn many(count: usize) -> Server {
    Server::new(move |request: &Request, _| {
        if request.path == "/api/v1/namespaces/shop" {
            return Reply::Json(200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        }
        if ![ALL, GUARDS].contains(&request.path.as_str()) {
            return status(404, "x", "no");
        }
        let number = |name: &str| {
            request.query.split('&').find_map(|part| part.strip_prefix(&format!("{name}="))?.parse::<usize>().ok())
        };
        let (start, most) = (number("continue").unwrap_or(0), number("limit").expect("a limit"));
        let end = (start + most).min(count);
        let items: Vec<Value> = (start..end)
            .map(|at| {
                let mut guard = guard(json!({"healthScore": 97}));
                guard["metadata"]["name"] = json!(format!("guard-{at}"));
                guard
            })
            .collect();
        list("DeploymentGuardList", &items, &if end < count { end.to_string() } else { String::new() })
    })
}

#[test]
fn five_thousand_guards_are_listed_page_by_page() {
    let server = many(5_000);
    let ran = run(&server.address, &["list", "-A"]);
    ran.ended(0, "");
    assert_eq!(ran.out.lines().count(), 5_001);
    assert!(ran.out.starts_with("NAMESPACE  NAME"), "{}", ran.out.lines().next().unwrap());
    assert!(ran.out.is_ascii() && ran.out.contains("guard-4999"));
    let pages: Vec<Request> = server.asked();
    assert_eq!(pages.len(), 10);
    assert!(pages.iter().all(|page| page.path == ALL && page.query.contains("limit=500")), "{pages:?}");
}

#[test]
fn a_list_for_programs_is_one_list_whatever_its_pages() {
    let server = many(1_200);
    let json: Value = serde_json::from_str(&run(&server.address, &["list", "-o", "json"]).out).unwrap();
    assert_eq!((json["kind"].clone(), json["items"].as_array().unwrap().len()), (json!("List"), 1_200));
    let text = run(&many(501).address, &["list", "-o", "yaml"]).out;
    let yaml: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(
        (yaml["items"].as_array().unwrap().len(), yaml["items"][500]["metadata"]["name"].clone()),
        (501, json!("guard-500"))
    );
    for output in ["json", "yaml"] {
        let none = run(&many(0).address, &["list", "-o", output]);
        let none: Value = serde_saphyr::from_str(&none.out).unwrap();
        assert_eq!(none["items"], json!([]));
    }
    run(&many(0).address, &["list"]).ended(0, "There is no guard in namespace shop; -A lists those of all namespaces.");
}

#[test]
fn a_status_of_another_version_is_shown_as_far_as_it_is_understood() {
    let strange = guard(json!({"current": {"revision": 7, "state": "Dancing", "startedAt": "soon"}, "signals": "none",
        "conditions": [{"type": "Healthy", "status": "True", "reason": "NewerReason", "message": "\u{1b}[2Jfine"}],
        "newer": {"than": "this"}}));
    let server = Server::new(move |_: &Request, _| Reply::Json(200, strange.clone()));
    let ran = run(&server.address, &["status", "api"]);
    ran.ended(0, "");
    assert!(ran.out.is_ascii() && ran.out.contains("NewerReason") && !ran.out.contains('\u{1b}'), "{ran:?}");
    let json: Value = serde_json::from_str(&run(&server.address, &["status", "api", "-o", "json"]).out).unwrap();
    assert_eq!(json["status"]["newer"]["than"], "this");
}

#[test]
fn a_pipe_gets_no_colours_and_keeps_to_the_columns_it_is_told() {
    let server = Server::new(|_: &Request, _| {
        Reply::Json(
            200,
            guard(json!({"conditions": [{"type": "Healthy", "status": "False", "reason": "CrashLoop",
            "message": "container api of 3 new pods ended 5 times within 2 minutes, which no old pod does; it was not undone"}]})),
        )
    });
    let (mut command, _config) = command(&server.address, &["status", "api"]);
    let out = command.env("COLUMNS", "60").env("LANG", "de_DE.UTF-8").output().unwrap().stdout;
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() <= 60), "{text}");
}

#[test]
fn rewards_come_from_the_samples_and_without_the_right_to_read_them_the_rest_is_told() {
    let told =
        guard(json!({"history": [{"id": "new-1", "decision": "CONTINUE", "reason": "AnalysisPassed", "action": "None",
        "fromRevision": "new", "time": "2026-11-20T10:00:00Z"}]}));
    let of = |maps: fn() -> Reply| {
        let told = told.clone();
        Server::new(move |request: &Request, _| match request.path.as_str() {
            GUARD => Reply::Json(200, told.clone()),
            _ => maps(),
        })
    };
    let samples = of(|| {
        let owner = json!([{"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "name": "api", "uid": "u1"}]);
        Reply::Json(
            200,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "api-samples", "ownerReferences": owner},
            "data": {"new-1": "{\"reward\": 0.5}"}}),
        )
    });
    let ran = run(&samples.address, &["history", "api"]);
    ran.ended(0, "");
    assert!(ran.out.contains("+0.50"), "{ran:?}");
    let closed = of(|| status(403, "configmaps", "not for you"));
    let ran = run(&closed.address, &["history", "api", "-o", "json"]);
    ran.ended(0, "note: ConfigMap api-samples could not be read");
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["decisions"][0]["reward"], Value::Null);
}

#[test]
fn what_goes_wrong_is_one_line_with_a_cure() {
    let refusing = |code: u16, kind: &'static str, message: &'static str| {
        Server::new(move |_: &Request, _| status(code, kind, message))
    };
    let unknown = Server::new(|_: &Request, _| Reply::Json(404, json!("404 page not found")));
    for (server, code, said) in [
        (refusing(401, "", "who?"), 2, "the cluster of context staging does not know who you are"),
        (refusing(403, "deploymentguards", "not for you"), 2, "not for you"),
        (unknown, 2, "does not know DeploymentGuards: install DeploymentGuard"),
        (refusing(500, "", "overloaded"), 4, "the API server of context staging says overloaded"),
    ] {
        for arguments in [&["status", "api"][..], &["list"], &["history", "api"], &["approve", "api"], &["wait", "api"]]
        {
            let ran = run(&server.address, arguments);
            ran.ended(code, said);
            assert_eq!((ran.err.lines().count(), ran.out.as_str()), (1, ""), "{arguments:?}: {ran:?}");
        }
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(&format!("http://{closed}"), &["status", "api"]);
    ran.ended(4, "the API server of context staging cannot be asked: ");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
}

#[test]
fn a_name_that_leads_nowhere_is_corrected_or_found_elsewhere() {
    let named = |names: &[(&str, &str)]| -> Vec<Value> {
        let of = |(namespace, name): &(&str, &str)| {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"namespace": namespace, "name": name}})
        };
        names.iter().map(of).collect()
    };
    let cluster = |here: Vec<Value>, elsewhere: Vec<Value>| {
        Server::new(move |request: &Request, _| match request.path.as_str() {
            GUARDS => list("DeploymentGuardList", &here, ""),
            ALL => list("DeploymentGuardList", &elsewhere, ""),
            path if path.starts_with(GUARDS) => status(404, "deploymentguards", "not found"),
            _ => status(404, "namespaces", "not found"),
        })
    };
    let ran = run(&cluster(named(&[("shop", "api"), ("shop", "web")]), vec![]).address, &["status", "apii"]);
    ran.ended(2, "there is no guard apii in namespace shop; did you mean api?");
    let ran = run(&cluster(vec![], named(&[("prod", "api")])).address, &["status", "api"]);
    ran.ended(2, "there is no guard api in namespace shop; it is in namespace prod: add -n prod");
    let ran = run(&cluster(vec![], named(&[("a", "api"), ("b", "api")])).address, &["wait", "api"]);
    ran.ended(2, "there is one in each of a, b: choose with -n");
    run(&cluster(vec![], vec![]).address, &["history", "api"]).ended(2, "there is no such namespace");
    run(&cluster(vec![], vec![]).address, &["list", "--context", "stagin"])
        .ended(2, "the kubeconfig has no context stagin; did you mean staging?");
}

/// What becomes of a command whose reader has closed the pipe before the first word; none if it goes on and on.
fn unread(server: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let (mut command, _config) = command(server, arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Of what ended nothing is left to be killed.
    let _ = child.kill();
    let ended = child.wait_with_output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let server = many(1_200);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "kind: DeploymentGuard\napiVersion: deploymentguard.dev/v1alpha1\nspec: {}\n").unwrap();
    let path = file.path().to_str().unwrap();
    for (arguments, code) in [
        (&["list"][..], 0),
        (&["list", "-o", "json"], 0),
        (&["crd"], 0),
        (&["completion", "bash"], 0),
        (&["man"], 0),
        (&["lint", "-f", path], 2),
    ] {
        let (ended, said) = unread(&server.address, arguments);
        assert!(ended == Some(code) && !said.contains("panicked"), "{arguments:?}: {ended:?} {said}");
    }
}

#[test]
fn a_watch_that_nobody_reads_any_more_ends() {
    let server = Server::new(|request: &Request, before| match request.path.as_str() {
        GUARD => Reply::Json(200, guard(json!({"current": {"revision": format!("r{before}")}}))),
        _ => status(404, "deploymentguards", "no"),
    });
    assert_eq!(unread(&server.address, &["status", "api", "-w"]), (Some(0), String::new()));
}

#[test]
fn a_name_with_its_kind_or_namespace_is_corrected_and_nobody_is_asked() {
    let server = many(1);
    for command in ["status", "history", "explain", "wait", "approve", "promql"] {
        run(&server.address, &[command, "shop/api"]).ended(2, "its namespace stands apart: -n shop api");
    }
    run(&server.address, &["undo", "deployment/../api"]).ended(2, "is no name of a workload");
    run(&server.address, &["list", "-n", "Shop/../x"]).ended(2, "is no name of a namespace");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn an_empty_list_of_a_namespace_that_does_not_exist_says_so() {
    let server = Server::new(|request: &Request, _| match request.path.as_str() {
        "/api/v1/namespaces/shop" => status(404, "namespaces", "no"),
        _ => list("DeploymentGuardList", &[], ""),
    });
    run(&server.address, &["list"]).ended(2, "there is no namespace shop; -A lists the guards of all namespaces");
}
