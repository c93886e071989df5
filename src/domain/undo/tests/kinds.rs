//! The undo of every kind of workload goes one way.

use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 3] = Kind::ALL;

fn request_of(kind: Kind) -> UndoRequest {
    let revision = |name: &str| RevisionHash::new(&identity(kind, name));
    UndoRequest {
        target: Target { kind, name: "api".to_owned() },
        from: revision("bad"),
        to: revision("good"),
        ..request()
    }
}

/// What pods of a revision are labelled with.
fn identity(kind: Kind, name: &str) -> String {
    if kind == Kind::StatefulSet { format!("api-{name}") } else { name.to_owned() }
}

fn holder(kind: Kind, name: &str, number: u64, template: &Value) -> Value {
    if kind == Kind::Deployment {
        return replica_set(name, number, template);
    }
    let mut template = template.clone();
    template["$patch"] = json!("replace");
    json!({
        "kind": "ControllerRevision", "revision": number,
        "metadata": {
            "name": format!("api-{name}"), "uid": format!("uid-{name}"),
            "labels": {"app": "api", "controller-revision-hash": name},
            "ownerReferences": [{"kind": kind.name(), "name": "api", "uid": UID, "controller": true}],
        },
        "data": {"spec": {"template": template}},
    })
}

fn object(kind: Kind, template: Value) -> Value {
    let mut object = deployment();
    object["kind"] = json!(kind.name());
    object["spec"]["template"] = template;
    object["status"]["desiredNumberScheduled"] = json!(3);
    object
}

fn both(kind: Kind) -> Vec<Value> {
    vec![holder(kind, "good", 1, &template("app:1")), holder(kind, "bad", 2, &template("app:2"))]
}

fn operations(plan: UndoPlan) -> Vec<Value> {
    let UndoPlan::Patch(patch) = plan else { panic!("no patch but {plan:?}") };
    patch.operations.as_array().expect("a list").clone()
}

#[test]
fn a_controller_revision_gives_its_template_without_its_directive_and_without_a_test_of_paused() {
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let workload = object(kind, template("app:2"));
        let plan = plan_undo(&request_of(kind), &workload, &both(kind), None).expect("usable");
        assert_eq!(
            operations(plan),
            [
                json!({"op": "test", "path": "/metadata/uid", "value": "uid-1"}),
                json!({"op": "test", "path": "/spec/template", "value": template("app:2")}),
                json!({"op": "test", "path": "/metadata/annotations/deploymentguard.dev~1last-rollback", "value": null}),
                json!({"op": "replace", "path": "/spec/template", "value": normalise(&template("app:1"))}),
                json!({"op": "add", "path": "/metadata/annotations/deploymentguard.dev~1last-rollback", "value": "decision-1"}),
            ]
        );
    }
}

#[test]
fn a_map_of_annotations_that_somebody_makes_meanwhile_survives_and_the_undo_is_sent_again() {
    for kind in KINDS {
        let mut bare = object(kind, template("app:2"));
        bare["metadata"].as_object_mut().expect("a map").remove("annotations");
        let UndoPlan::Patch(sent) = plan_undo(&request_of(kind), &bare, &both(kind), None).expect("usable") else {
            panic!("no patch")
        };
        let theirs = object(kind, template("app:2"));
        assert_eq!(apply(&theirs, &sent.operations), None);
        let bare_422 = Answer { code: 422, reason: String::new(), cause_fields: vec![], cause_reasons: vec![] };
        assert_eq!(classify_answer(&bare_422, &request_of(kind), &sent, Some(&theirs)), Ok(Meaning::Retry));
        let plan = plan_undo(&request_of(kind), &theirs, &both(kind), None).expect("usable");
        let patched = apply(&theirs, &Value::Array(operations(plan))).expect("it applies");
        assert_eq!(patched["metadata"]["annotations"], json!({"team": "shop", LAST_ROLLBACK: "decision-1"}));
    }
}

#[test]
fn only_a_deployment_can_be_paused() {
    for kind in KINDS {
        let mut workload = object(kind, template("app:2"));
        workload["spec"]["paused"] = json!(true);
        let plan = plan_undo(&request_of(kind), &workload, &both(kind), None).expect("usable");
        assert_eq!(plan == UndoPlan::Paused, kind == Kind::Deployment, "{kind}");
        let patch = planned(&deployment());
        let bare = Answer { code: 422, reason: String::new(), cause_fields: vec![], cause_reasons: vec![] };
        let meaning = classify_answer(&bare, &request_of(kind), &patch, Some(&workload)).expect("usable");
        assert_eq!(meaning == Meaning::Paused, kind == Kind::Deployment, "{kind}");
    }
}

#[test]
fn what_holds_no_template_is_said_to_be_unreadable_and_what_the_guard_keeps_is_taken_instead() {
    let broken = [
        ("raw bytes", json!("AAEC")),
        ("nothing", Value::Null),
        ("another shape", json!({"spec": {"template": "text"}})),
        ("no containers", json!({"spec": {"template": {"spec": {"containers": []}}}})),
    ];
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let workload = object(kind, template("app:2"));
        for (what, data) in &broken {
            let mut holders = both(kind);
            holders[0]["data"] = data.clone();
            let plan = plan_undo(&request_of(kind), &workload, &holders, None);
            assert_eq!(plan, Ok(UndoPlan::Unreadable), "{what}");
            assert!(describe(kind, &workload, &holders).is_ok(), "a broken revision does not hide the others: {what}");
            let remembered = super::kept::remembering(&template("app:1")).kept;
            let request = UndoRequest { kept: remembered, ..request_of(kind) };
            let kept = super::kept::kept(&template("app:1"));
            let plan = plan_undo(&request, &workload, &holders, Some(&kept)).expect("usable");
            assert!(matches!(plan, UndoPlan::Patch(_)), "{what}");
        }
        let bad_only = [holder(kind, "bad", 2, &template("app:2"))];
        assert_eq!(plan_undo(&request_of(kind), &workload, &bad_only, None), Ok(UndoPlan::NothingToGoBackTo));
        let broken_copy = json!({"data": "nonsense"});
        let plan = plan_undo(&request_of(kind), &workload, &bad_only, Some(&broken_copy));
        assert_eq!(plan, Ok(UndoPlan::NothingToGoBackTo));
    }
}

#[test]
fn the_revision_that_came_of_an_undo_is_found_for_every_kind_and_only_among_its_own() {
    for kind in KINDS {
        let mut holders = both(kind);
        let found = find_revision(&request_of(kind), &template("app:1"), &holders);
        assert_eq!(found, Some(request_of(kind).to), "{kind}");
        assert_eq!(find_revision(&request_of(kind), &template("app:9"), &holders), None);
        holders[0]["metadata"]["ownerReferences"][0]["uid"] = json!("somebody else");
        assert_eq!(find_revision(&request_of(kind), &template("app:1"), &holders), None);
    }
}

#[test]
fn among_500_revisions_one_of_300_kib_is_found_and_put_back_whole() {
    let big = |number: usize| {
        let mut template = template(&format!("app:{number}"));
        template["metadata"]["annotations"] = json!({"config": "x".repeat(3 * 1024)});
        template
    };
    for kind in KINDS {
        let mut holders: Vec<Value> =
            (0..500).map(|number| holder(kind, &format!("r{number}"), number as u64, &big(number))).collect();
        let mut huge = big(123);
        huge["metadata"]["annotations"]["config"] = json!("y".repeat(300 * 1024));
        holders[123] = holder(kind, "good", 123, &huge);
        holders[499] = holder(kind, "bad", 499, &big(499));
        let workload = object(kind, big(499));
        let described = describe(kind, &workload, &holders).expect("usable");
        assert_eq!((described.revisions.len(), described.current), (500, Some(request_of(kind).from)));
        let plan = plan_undo(&request_of(kind), &workload, &holders, None).expect("usable");
        let patched = apply(&workload, &Value::Array(operations(plan))).expect("it applies");
        assert!(same_template(&patched["spec"]["template"], &huge), "{kind}");
    }
}

#[test]
fn what_kinds_other_than_deployments_have_is_read() {
    let mut set = object(Kind::StatefulSet, template("app:2"));
    set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    set["spec"]["ordinals"] = json!({"start": 5});
    set["status"]["updateRevision"] = json!("api-bad");
    let described = describe(Kind::StatefulSet, &set, &both(Kind::StatefulSet)).expect("usable");
    assert_eq!((described.partition, described.first_ordinal, described.wanted()), (2, 5, 1));
    assert_eq!(described.update_revision, described.current);
    set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let described = describe(Kind::StatefulSet, &set, &both(Kind::StatefulSet)).expect("usable");
    assert_eq!((described.partition, described.wanted()), (0, 3));
    assert_eq!(described.strategy, crate::domain::rollout::Strategy::OnDelete);
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Deployment), Just(Kind::StatefulSet), Just(Kind::DaemonSet)]
}

proptest! {
    #[test]
    fn of_every_kind_the_patch_changes_template_and_annotation_and_nothing_else(
        kind in any_kind(), good in "[a-z]{1,4}:1", bad in "[a-z]{1,4}:2", replicas in any::<u32>(),
        unknown in "[a-z]{1,6}",
    ) {
        let mut kept = template(&good);
        kept["spec"][format!("future-{unknown}")] = json!({"deep": [1, {"more": unknown}]});
        let holders = [holder(kind, "good", 1, &kept), holder(kind, "bad", 2, &template(&bad))];
        let mut workload = object(kind, template(&bad));
        let UndoPlan::Patch(patch) = plan_undo(&request_of(kind), &workload, &holders, None).expect("usable") else {
            return Err(TestCaseError::fail("no patch"));
        };
        workload["spec"]["replicas"] = json!(replicas);
        let patched = apply(&workload, &patch.operations).expect("it applies");
        prop_assert!(same_template(&patched["spec"]["template"], &kept));
        prop_assert!(!patched.to_string().contains("$patch"));
        prop_assert!(patched["spec"]["template"].pointer("/metadata/labels/pod-template-hash").is_none());
        let mut wanted = workload.clone();
        wanted["spec"]["template"] = patched["spec"]["template"].clone();
        wanted["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-1");
        prop_assert_eq!(&patched, &wanted);
        prop_assert_eq!(plan_undo(&request_of(kind), &patched, &holders, None), Ok(UndoPlan::AlreadyDone));
    }
}
