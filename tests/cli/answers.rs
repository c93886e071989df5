//! `approve` and `reject`.

use serde_json::{Value, json};

use crate::server::{Reply, Request, Server, run, status};
use crate::{GUARD, guard};

const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A guard that waits until a year that is far, or was, with annotations.
fn waiting(expires: &str, annotations: Value) -> Value {
    let mut guard = guard(json!({"pendingAction": {"decision": "new-1", "action": "Rollback", "workloadUid": "w",
        "fromRevision": "new", "toRevision": "old", "why": "the guard's mode is Approve", "reasoning": "it crashes",
        "approve": "x", "reject": "x", "askedAt": "2026-11-21T09:00:00Z", "expiresAt": expires}}));
    guard["metadata"]["annotations"] = annotations;
    guard
}

fn cluster(guard: Value) -> Server {
    Server::new(move |request: &Request, _| match request.line().as_str() {
        line if line == format!("GET {GUARD}") || line == format!("PATCH {GUARD}") => Reply::Json(200, guard.clone()),
        line if line == format!("POST {REVIEW}") => Reply::Json(
            201,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
                "status": {"userInfo": {"username": "ada@shop.example"}}}),
        ),
        _ => status(404, "x", "no"),
    })
}

const FAR: &str = "2999-01-01T00:00:00Z";

#[test]
fn an_answer_names_the_decision_and_the_person_as_the_api_server_knows_them() {
    for (word, key) in [("approve", "deploymentguard.dev/approve"), ("reject", "deploymentguard.dev/reject")] {
        for arguments in [vec![word, "api", "new-1"], vec![word, "api", "--yes"]] {
            let server = cluster(waiting(FAR, json!({})));
            let ran = run(&server.address, &arguments);
            ran.ended(0, "");
            assert!(ran.out.starts_with("ada@shop.example "), "{ran:?}");
            let write = server.writes().into_iter().find(|request| request.method == "PATCH").unwrap();
            assert_eq!(write.body["metadata"]["annotations"], json!({key: "new-1 by ada@shop.example"}));
            assert_eq!(write.body["metadata"]["uid"], "u1");
            assert!(write.query.contains("fieldManager=deployment-guard%2Fanswer"), "{}", write.query);
        }
    }
}

#[test]
fn what_cannot_be_answered_is_refused_and_nothing_is_written() {
    let nothing = guard(json!({}));
    for (guard, arguments, said) in [
        (
            nothing,
            vec!["approve", "api"],
            "no decision of the guard shop/api waits for a person; it has decided nothing yet",
        ),
        (waiting(FAR, json!({})), vec!["approve", "api", "new-0"], "does not wait for decision new-0: new-1 waits"),
        (waiting("2026-11-21T09:15:00Z", json!({})), vec!["reject", "api", "--yes"], "expired at"),
        (
            waiting(FAR, json!({"deploymentguard.dev/reject": "new-1 by eve"})),
            vec!["approve", "api", "--yes"],
            "eve rejected decision new-1",
        ),
        // Nobody can be asked without a terminal; the line to paste is said.
        (waiting(FAR, json!({})), vec!["approve", "api"], "deployment-guard approve -n shop api new-1"),
    ] {
        let server = cluster(guard);
        let ran = run(&server.address, &arguments);
        ran.ended(2, said);
        assert!(!server.writes().iter().any(|request| request.method == "PATCH"), "{arguments:?}");
    }
}

#[test]
fn a_policy_that_refuses_an_answer_is_told_in_its_own_words() {
    let server = Server::new(|request: &Request, _| match request.method.as_str() {
        "PATCH" => status(403, "deploymentguards", "only approvers may write: ask for the verb approve"),
        "POST" => Reply::Json(
            201,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
                "status": {"userInfo": {"username": "eve"}}}),
        ),
        _ => Reply::Json(200, waiting(FAR, json!({}))),
    });
    run(&server.address, &["approve", "api", "-y"])
        .ended(2, "you may not approve decision new-1 of the guard shop/api: only approvers may write");
}
