//! `wait`: every way in which it ends.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Reply, Request, Server, command, run, status};
use crate::{GUARD, GUARDS, SETS, WORKLOAD, deployment, guard, list, sets};

/// A guard that looked at a generation.
fn judged(generation: i64, revision: &str, state: &str, healthy: (&str, &str)) -> Value {
    guard(json!({
        "target": {"kind": "Deployment", "name": "api", "uid": "w", "observedGeneration": generation},
        "current": {"revision": revision, "state": state, "startedAt": "2026-11-21T09:00:00Z"},
        "conditions": [{"type": "Healthy", "status": healthy.0, "reason": healthy.1, "message": "as it is",
            "lastTransitionTime": "2026-11-21T09:00:00Z"}],
    }))
}

/// How the watch fares.
#[derive(Clone, Copy, PartialEq)]
enum Watch {
    Silent,
    Broken,
}

/// A cluster whose guard goes through these states, one for each time it is read or listed.
fn cluster(story: Vec<Value>, watch: Watch) -> Server {
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let next = move || {
        let at = reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        story[at.min(story.len() - 1)].clone()
    };
    Server::new(move |request: &Request, _| match request.path.as_str() {
        GUARDS if watch == Watch::Broken => Reply::Nothing,
        GUARDS if request.is_watch() => Reply::Silence,
        GUARDS => list("DeploymentGuardList", &[next()], ""),
        GUARD => Reply::Json(200, next()),
        WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
        SETS => sets(),
        _ => status(404, "x", "no"),
    })
}

const ANALYZING: (&str, &str) = ("Unknown", "Analyzing");

#[test]
fn a_verdict_of_before_the_apply_is_not_taken_for_the_new_one() {
    let story = vec![
        judged(6, "old", "Passed", ("True", "AnalysisPassed")),
        judged(6, "old", "Passed", ("True", "AnalysisPassed")),
        judged(7, "new", "Judging", ANALYZING),
        judged(7, "new", "Passed", ("True", "AnalysisPassed")),
    ];
    let server = cluster(story, Watch::Silent);
    let ran = run(&server.address, &["wait", "api", "--revision=latest", "--timeout", "60s", "-o", "json"]);
    ran.ended(0, "the operator has not seen generation 7 yet");
    assert!(ran.err.contains("Analyzing: as it is"), "{ran:?}");
    let said: Value = serde_json::from_str(ran.out.trim()).unwrap();
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(
        (said["result"].clone(), said["revision"].clone(), said["generation"].clone()),
        (json!("Healthy"), json!("new"), json!(7))
    );
}

#[test]
fn a_broken_watch_costs_seconds_and_not_the_verdict() {
    let story = vec![judged(7, "new", "Judging", ANALYZING), judged(7, "new", "Certified", ("True", "AnalysisPassed"))];
    let server = cluster(story, Watch::Broken);
    let ran = run(&server.address, &["wait", "api", "--timeout", "60s"]);
    ran.ended(0, "waiting for the verdict on generation 7 of deployment/api");
    assert_eq!(ran.out, "Healthy shop/api revision new: AnalysisPassed: as it is\n");
    assert!(server.asked().iter().filter(|request| request.path == GUARDS).count() >= 1);
}

#[test]
fn a_release_that_was_rolled_back_ends_with_1() {
    let mut undone = judged(8, "old", "Restoring", ("Unknown", "RollbackStarted"));
    undone["status"]["lastDecision"] = json!({"id": "d", "decision": "ROLLBACK", "fromRevision": "new", "toRevision": "old",
        "action": "RolledBack", "reasoning": "error rate 22 % against 0.4 %"});
    let server = cluster(vec![judged(7, "new", "Judging", ANALYZING), undone], Watch::Silent);
    let ran = run(&server.address, &["wait", "api", "--timeout", "60s"]);
    ran.ended(1, "");
    assert_eq!(
        ran.out,
        "Bad shop/api revision new: revision new was rolled back to old: error rate 22 % against 0.4 %\n"
    );
    let condemned = judged(7, "new", "Condemned", ("False", "CrashLoop"));
    run(&cluster(vec![condemned], Watch::Silent).address, &["wait", "api"]).ended(1, "");
}

#[test]
fn what_nobody_can_prove_what_takes_too_long_and_what_was_replaced_end_with_3() {
    let unproven = judged(7, "new", "Unproven", ("Unknown", "NoTraffic"));
    let ran = run(&cluster(vec![unproven], Watch::Silent).address, &["wait", "api"]);
    ran.ended(3, "");
    assert!(ran.out.starts_with("Inconclusive shop/api revision new: NoTraffic"), "{ran:?}");
    let slow = cluster(vec![judged(7, "new", "Judging", ANALYZING)], Watch::Silent);
    let ran = run(&slow.address, &["wait", "api", "--timeout", "1s"]);
    ran.ended(3, "");
    assert!(ran.out.contains("timed out after 1s: Analyzing"), "{ran:?}");
    let replaced = cluster(vec![judged(9, "newer", "Passed", ("True", "AnalysisPassed"))], Watch::Silent);
    let ran = run(&replaced.address, &["wait", "api"]);
    ran.ended(3, "");
    assert!(ran.out.contains("revision new was replaced by newer"), "{ran:?}");
}

#[test]
fn a_guard_that_cannot_judge_and_wrong_usage_end_with_2() {
    let mut suspended = judged(7, "new", "Judging", ANALYZING);
    suspended["spec"]["suspend"] = json!(true);
    let server = cluster(vec![suspended], Watch::Silent);
    let ran = run(&server.address, &["wait", "api", "--timeout", "2s"]);
    ran.ended(2, "");
    assert!(ran.out.starts_with("Unusable shop/api") && ran.out.contains("spec.suspend"), "{ran:?}");
    run(&server.address, &["wait", "api", "--timeout", "soon"]).ended(2, "which is no duration");
    run(&server.address, &["wait", "api", "--revision=first"]).ended(2, "latest");
}

#[test]
fn an_api_server_that_falls_silent_ends_with_4() {
    let server = Server::new(|request: &Request, before| match request.path.as_str() {
        GUARD if before == 0 => Reply::Json(200, judged(7, "new", "Judging", ANALYZING)),
        WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
        SETS => sets(),
        _ => Reply::Nothing,
    });
    let started = Instant::now();
    let ran = run(&server.address, &["wait", "api", "--timeout", "60s", "--unreachable-after", "1s"]);
    ran.ended(4, "error: the API server of context staging cannot be asked");
    assert!(ran.out.is_empty() && started.elapsed() < Duration::from_secs(30), "{ran:?}");
}

#[test]
fn an_interrupt_ends_with_130() {
    let server = cluster(vec![judged(7, "new", "Judging", ANALYZING)], Watch::Silent);
    let (mut command, _config) = command(&server.address, &["wait", "api"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The signal is listened to once the guard is followed.
    let begun = Instant::now();
    while !server.asked().iter().any(Request::is_watch) {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(130));
    assert!(String::from_utf8(ran.stdout).unwrap().starts_with("Interrupted shop/api"));
}

#[test]
fn an_api_server_that_takes_longer_than_a_step_to_answer_is_heard_all_the_same() {
    let server = Server::new(|request: &Request, before| match request.path.as_str() {
        GUARDS if request.is_watch() => Reply::Silence,
        GUARDS => list("DeploymentGuardList", &[judged(7, "new", "Judging", ANALYZING)], ""),
        GUARD if before == 0 => Reply::Json(200, judged(7, "new", "Judging", ANALYZING)),
        GUARD => {
            std::thread::sleep(Duration::from_millis(1_500));
            Reply::Json(200, judged(7, "new", "Passed", ("True", "AnalysisPassed")))
        }
        WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
        SETS => sets(),
        _ => status(404, "x", "no"),
    });
    let ran = run(&server.address, &["wait", "api", "--timeout", "30s"]);
    ran.ended(0, "");
    assert!(ran.out.starts_with("Healthy shop/api revision new"), "{ran:?}");
}

#[test]
fn an_api_server_that_takes_connections_and_never_answers_ends_with_4() {
    let server = Server::new(|request: &Request, before| match request.path.as_str() {
        GUARD if before == 0 => Reply::Json(200, judged(7, "new", "Judging", ANALYZING)),
        WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
        SETS => sets(),
        _ => {
            std::thread::sleep(Duration::from_mins(2));
            Reply::Nothing
        }
    });
    let ran = run(&server.address, &["wait", "api", "--timeout", "40s", "--unreachable-after", "1s"]);
    ran.ended(4, "the API server of context staging does not answer within 10 s");
}

#[test]
fn a_reader_of_progress_that_goes_away_changes_nothing() {
    let story = vec![judged(7, "new", "Judging", ANALYZING), judged(7, "new", "Passed", ("True", "AnalysisPassed"))];
    let server = cluster(story, Watch::Broken);
    let (mut command, _config) = command(&server.address, &["wait", "api"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}
