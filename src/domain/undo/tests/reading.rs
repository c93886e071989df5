use super::*;

#[test]
fn a_deployment_is_described_with_the_defaults_of_the_server() {
    let workload = describe(Kind::Deployment, &deployment(), &revisions()).expect("a usable deployment");
    assert_eq!(workload.current, Some(RevisionHash::new("bad")));
    assert_eq!(workload.revisions.len(), 2);
    let good = workload.revision(&RevisionHash::new("good")).expect("the good one");
    assert_eq!((&*good.uid, good.number, good.images.as_slice()), ("uid-good", 1, ["app:1".to_owned()].as_slice()));
    assert_eq!((workload.generation, workload.observed_generation, workload.replicas), (2, 2, 3));
    assert!(!workload.paused && !workload.owns_template && !workload.terminating);
    assert_eq!((workload.min_ready_seconds, workload.progress_deadline_seconds), (0, 600));
    assert_eq!((workload.controlled_by, workload.skip, workload.last_rollback), (None, None, None));

    let mut bare = deployment();
    bare["spec"].as_object_mut().expect("a map").remove("replicas");
    bare.as_object_mut().expect("a map").remove("status");
    let workload = describe(Kind::Deployment, &bare, &[]).expect("a usable deployment");
    assert_eq!((workload.replicas, workload.observed_generation, workload.current), (1, 0, None));
}

#[test]
fn what_is_set_is_read() {
    let mut object = deployment();
    object["metadata"]["annotations"] = json!({SKIP: "by hand", LAST_ROLLBACK: "decision-0"});
    object["metadata"]["ownerReferences"] =
        json!([{"kind": "Thing", "name": "x"}, {"kind": "Rollout", "name": "api", "controller": true}]);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["metadata"]["managedFields"] = json!([
        {"manager": "deployment-guard/undo", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}},
    ]);
    object["spec"]["paused"] = json!(true);
    object["spec"]["minReadySeconds"] = json!(5);
    object["spec"]["progressDeadlineSeconds"] = json!(60);
    let workload = describe(Kind::Deployment, &object, &revisions()).expect("a usable deployment");
    assert!(workload.paused && workload.owns_template && workload.terminating);
    assert_eq!((workload.min_ready_seconds, workload.progress_deadline_seconds), (5, 60));
    assert_eq!(workload.controlled_by.as_deref(), Some("Rollout/api"));
    assert_eq!(workload.skip.as_deref(), Some("by hand"));
    assert_eq!(workload.last_rollback.as_deref(), Some("decision-0"));
}

#[test]
fn a_missing_piece_is_named() {
    let mut object = deployment();
    object["spec"].as_object_mut().expect("a map").remove("template");
    let error = describe(Kind::Deployment, &object, &[]).expect_err("no template");
    assert_eq!(error.to_string(), "Deployment/api has no /spec/template");
    let mut object = deployment();
    object["spec"]["replicas"] = json!(-1);
    let error = describe(Kind::Deployment, &object, &[]).expect_err("a negative count");
    assert_eq!(error.to_string(), "Deployment/api has an unusable /spec/replicas");
}
