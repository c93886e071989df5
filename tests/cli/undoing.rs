//! `undo`.

use serde_json::{Value, json};

use crate::server::{Reply, Request, Server, run, status};
use crate::{GUARD, GUARDS, SETS, WORKLOAD, deployment, guard, list, sets};

/// A cluster with a Deployment at v2, and perhaps a guard.
fn cluster(workload: Value, guard: Option<Value>) -> Server {
    Server::new(move |request: &Request, _| match request.path.as_str() {
        WORKLOAD => Reply::Json(200, workload.clone()),
        SETS => sets(),
        GUARDS => list("DeploymentGuardList", &guard.iter().cloned().collect::<Vec<_>>(), ""),
        GUARD => guard.clone().map_or_else(|| status(404, "deploymentguards", "no"), |guard| Reply::Json(200, guard)),
        _ => status(404, "x", "no"),
    })
}

/// Patches of the workload: whether each was a dry run, and the image it puts back.
fn patches(server: &Server) -> Vec<(bool, Value)> {
    let patches = server.writes().into_iter().filter(|request| request.path == WORKLOAD);
    patches
        .map(|patch| {
            let operations = patch.body.as_array().unwrap().clone();
            let replaced = operations.iter().find(|one| one["op"] == "replace").unwrap();
            let tested: Vec<&str> =
                operations.iter().filter(|one| one["op"] == "test").filter_map(|one| one["path"].as_str()).collect();
            assert!(tested.contains(&"/metadata/uid") && tested.contains(&"/spec/template"), "{operations:#?}");
            (patch.query.contains("dryRun=All"), replaced["value"]["spec"]["containers"][0]["image"].clone())
        })
        .collect()
}

#[test]
fn a_dry_run_shows_what_would_change_and_writes_nothing() {
    let server = cluster(deployment(7, "api:v2"), None);
    let ran = run(&server.address, &["undo", "deployment/api", "--dry-run"]);
    ran.ended(0, "");
    assert!(ran.out.starts_with("deployment/api in namespace shop: from revision new back to old;"), "{ran:?}");
    assert!(ran.out.contains("~ spec.containers[api].image: api:v2 -> api:v1"), "{ran:?}");
    assert!(ran.out.contains("nothing was changed"), "{ran:?}");
    assert_eq!(patches(&server), [(true, json!("api:v1"))]);
}

#[test]
fn an_undo_is_one_conditional_patch_with_or_without_a_guard() {
    let known = guard(json!({"target": {"kind": "Deployment", "name": "api", "uid": "w", "observedGeneration": 7},
        "knownGood": [{"revision": "old", "at": "2026-11-20T09:00:00Z", "trust": "Certified", "how": "x"}]}));
    for (guard, name) in [(None, "deploy/api"), (None, "api"), (Some(known), "api")] {
        let proved = guard.is_some();
        let server = cluster(deployment(7, "api:v2"), guard);
        let ran = run(&server.address, &["undo", name, "--yes"]);
        ran.ended(0, "");
        assert!(ran.out.contains("Put revision old back in the place of new."), "{ran:?}");
        assert_eq!(ran.out.contains("it proved good"), proved, "{ran:?}");
        // One dry run for what is shown, one right before the only write.
        let image = || json!("api:v1");
        assert_eq!(patches(&server), [(true, image()), (true, image()), (false, image())], "{name}");
    }
}

#[test]
fn without_an_answer_of_a_person_nothing_is_written() {
    let server = cluster(deployment(7, "api:v2"), None);
    run(&server.address, &["undo", "deployment/api"])
        .ended(2, "say it in full: deployment-guard undo -n shop deployment/api --to-revision old --yes");
    assert_eq!(patches(&server), [(true, json!("api:v1"))]);
}

#[test]
fn what_would_revert_it_or_what_is_under_way_already_keeps_it_from_being_made() {
    let mut flux = deployment(7, "api:v2");
    flux["metadata"]["labels"] =
        json!({"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    let mut paused = deployment(7, "api:v2");
    paused["spec"]["paused"] = json!(true);
    for (workload, said) in [(flux, "flux suspend kustomization shop -n flux-system"), (paused, "rollout resume")] {
        let server = cluster(workload, None);
        run(&server.address, &["undo", "deployment/api", "--yes"]).ended(1, said);
        assert_eq!(patches(&server), []);
    }
    let waits = guard(
        json!({"pendingAction": {"decision": "new-1", "action": "Rollback", "workloadUid": "w", "fromRevision": "new",
        "toRevision": "old", "why": "w", "reasoning": "r", "approve": "a", "reject": "r", "askedAt": "2026-11-21T09:00:00Z",
        "expiresAt": "2999-11-21T09:00:00Z"}}),
    );
    let server = cluster(deployment(7, "api:v2"), Some(waits));
    run(&server.address, &["undo", "api", "--yes"])
        .ended(2, "answer that one instead: deployment-guard approve -n shop api new-1");
    assert_eq!(patches(&server), []);
}

#[test]
fn a_name_that_is_unknown_ambiguous_or_of_another_kind_is_refused_with_what_to_write() {
    let both = Server::new(|request: &Request, _| match request.path.as_str() {
        WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
        "/apis/apps/v1/namespaces/shop/statefulsets/api" => {
            let mut set = deployment(7, "api:v2");
            set["kind"] = json!("StatefulSet");
            Reply::Json(200, set)
        }
        SETS => sets(),
        "/apis/apps/v1/namespaces/shop/controllerrevisions" => Reply::Json(
            200,
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevisionList", "metadata": {}, "items": []}),
        ),
        GUARD => status(404, "deploymentguards", "no"),
        _ => status(404, "x", "no"),
    });
    run(&both.address, &["undo", "api"])
        .ended(2, "api is ambiguous in namespace shop: say deployment/api or statefulset/api");
    let server = cluster(deployment(7, "api:v2"), None);
    run(&server.address, &["undo", "deploymnt/api"]).ended(2, "did you mean deployment?");
    run(&server.address, &["undo", "web"]).ended(2, "there is neither a guard nor a workload web in namespace shop");
    run(&server.address, &["undo", "deployment/api", "--to-revision", "odl"])
        .ended(2, "there is no revision odl any more; did you mean old?");
    assert_eq!(patches(&server), []);
}

#[test]
fn a_guard_and_a_workload_of_the_same_name_that_do_not_belong_together_are_asked_about() {
    let mut of_web = guard(json!({}));
    of_web["spec"]["targetRef"]["name"] = json!("web");
    let server = cluster(deployment(7, "api:v2"), Some(of_web));
    run(&server.address, &["undo", "api", "--yes"]).ended(
        2,
        "the guard of that name guards deployment/web, and there is deployment/api; say deployment/web or deployment/api",
    );
    assert_eq!(patches(&server), []);
}

#[test]
fn a_status_of_another_version_is_not_taken_for_one_that_remembers_nothing() {
    let strange = |more: Value| {
        let mut status = json!({"badRevisions": "kept elsewhere", "rollbacksToday": 1});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        cluster(deployment(7, "api:v2"), Some(guard(status)))
    };
    let server = strange(json!({}));
    run(&server.address, &["undo", "deployment/api", "--yes"]).ended(2, "name one with --to-revision");
    assert_eq!(patches(&server), []);
    run(&server.address, &["undo", "deployment/api", "--to-revision", "old", "--yes"]).ended(0, "");
    assert_eq!(patches(&server).len(), 3);
    let acting = strange(json!({"undo": {"decision": "new-1"}}));
    run(&acting.address, &["undo", "api", "--to-revision", "old", "--yes"]).ended(2, "the guard is undoing something");
    assert_eq!(patches(&acting), []);
}

#[test]
fn guards_that_cannot_be_read_are_neither_none_nor_silently_left_out() {
    let refusing = |code: u16| {
        Server::new(move |request: &Request, _| match request.path.as_str() {
            WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
            SETS => sets(),
            GUARDS => status(code, "deploymentguards", "not for you"),
            _ => status(404, "x", "no"),
        })
    };
    let server = refusing(403);
    run(&server.address, &["undo", "deployment/api", "--yes"])
        .ended(0, "note: what guards know of deployment/api is not used, for you may not read them");
    let server = refusing(500);
    run(&server.address, &["undo", "deployment/api", "--yes"]).ended(4, "the API server of context staging says");
    assert_eq!(patches(&server), []);
}

#[test]
fn definitions_that_select_by_no_field_hide_no_guard() {
    let waits = guard(
        json!({"pendingAction": {"decision": "new-1", "action": "Rollback", "workloadUid": "w", "fromRevision": "new",
        "toRevision": "old", "why": "w", "reasoning": "r", "approve": "a", "reject": "r", "askedAt": "2026-11-21T09:00:00Z",
        "expiresAt": "2999-11-21T09:00:00Z"}}),
    );
    let server = Server::new(move |request: &Request, _| match request.path.as_str() {
        WORKLOAD => Reply::Json(200, deployment(7, "api:v2")),
        SETS => sets(),
        GUARDS if request.query.contains("fieldSelector") => {
            status(400, "deploymentguards", "field label not supported")
        }
        GUARDS => list("DeploymentGuardList", std::slice::from_ref(&waits), ""),
        _ => status(404, "x", "no"),
    });
    run(&server.address, &["undo", "deployment/api", "--yes"]).ended(2, "answer that one instead");
    assert_eq!(patches(&server), []);
}
