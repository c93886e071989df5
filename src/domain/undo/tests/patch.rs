use proptest::prelude::*;

use super::*;

#[test]
fn the_patch_is_the_one_of_the_design() {
    let workload = deployment();
    assert_eq!(
        planned(&workload).operations,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
            {"op": "test", "path": "/spec/paused", "value": null},
            {"op": "test", "path": "/spec/template", "value": template("app:2")},
            {"op": "test", "path": "/metadata/annotations/deploymentguard.dev~1last-rollback", "value": null},
            {"op": "replace", "path": "/spec/template", "value": normalise(&template("app:1"))},
            {"op": "add", "path": "/metadata/annotations/deploymentguard.dev~1last-rollback", "value": "decision-1"},
        ])
    );
}

#[test]
fn without_annotations_the_map_is_made_only_if_it_is_still_missing() {
    let mut workload = deployment();
    workload["metadata"].as_object_mut().expect("a map").remove("annotations");
    let patch = planned(&workload);
    let patched = apply(&workload, &patch.operations).expect("it applies");
    assert_eq!(patched["metadata"]["annotations"], json!({LAST_ROLLBACK: "decision-1"}));
    assert_eq!(apply(&deployment(), &patch.operations), None, "somebody wrote a map meanwhile");
}

#[test]
fn fields_newer_than_our_bindings_survive() {
    let patched = apply(&deployment(), &planned(&deployment()).operations).expect("it applies");
    assert_eq!(patched["spec"]["template"]["spec"]["containers"][0]["newerThanOurBindings"], json!({"x": 1}));
}

fn plan(change: impl FnOnce(&mut Value)) -> UndoPlan {
    let mut workload = deployment();
    change(&mut workload);
    plan_undo(&request(), &workload, &revisions(), None).expect("a usable workload")
}

#[test]
fn every_situation_has_its_plan() {
    assert_eq!(plan(|w| w["metadata"]["uid"] = json!("other")), UndoPlan::TargetGone(Gone::Recreated));
    let deleted = |w: &mut Value| w["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(plan(deleted), UndoPlan::TargetGone(Gone::Terminating));
    assert_eq!(plan(|w| w["spec"]["paused"] = json!(true)), UndoPlan::Paused);
    assert_eq!(plan(|w| w["spec"]["template"] = template("app:1")), UndoPlan::AlreadyCurrent);
    assert_eq!(plan(|w| w["spec"]["template"] = template("app:3")), UndoPlan::Superseded);
    let done = |w: &mut Value| w["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-1");
    assert_eq!(plan(done), UndoPlan::AlreadyDone, "even with the bad template pushed again");
    let only_bad = [replica_set("bad", 2, &template("app:2"))];
    assert_eq!(plan_undo(&request(), &deployment(), &only_bad, None), Ok(UndoPlan::NothingToGoBackTo));
}

#[test]
fn replica_sets_of_another_workload_are_no_way_back() {
    let mut sets = revisions();
    sets[0]["metadata"]["ownerReferences"][0]["uid"] = json!("somebody else");
    assert_eq!(plan_undo(&request(), &deployment(), &sets, None), Ok(UndoPlan::NothingToGoBackTo));
}

#[test]
fn the_last_undo_of_another_decision_is_a_precondition() {
    let mut workload = deployment();
    workload["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-0");
    let patch = planned(&workload);
    assert!(apply(&workload, &patch.operations).is_some());
    assert_eq!(apply(&deployment(), &patch.operations), None);
}

#[test]
fn fields_that_only_the_good_template_has_are_named() {
    let mut good = template("app:1");
    good["spec"]["containers"][0]["env"] = json!([{"name": "OLD", "value": "1"}, {"name": "BOTH", "value": "1"}]);
    good["spec"]["dnsPolicy"] = json!("Default");
    let mut bad = template("app:2");
    bad["spec"]["containers"][0]["env"] = json!([{"name": "BOTH", "value": "2"}]);
    let found = only_in_good(&bad, &good, &deployment());
    assert_eq!(found, ["spec.containers[app].env[OLD]", "spec.dnsPolicy"]);

    let mut applied = deployment();
    let fields = json!({"f:spec": {"f:template": {"f:spec": {}}}});
    applied["metadata"]["managedFields"] =
        json!([{"manager": "helm", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": fields}]);
    assert!(only_in_good(&bad, &good, &applied).is_empty(), "server-side apply removes them itself");
}

/// A pod template with parts that nobody expects.
fn any_template() -> impl Strategy<Value = Value> {
    let scalar =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[a-z]{0,4}".prop_map(Value::from)];
    let tree = scalar.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z/~.]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    ("[a-z]{1,3}", prop::collection::btree_map("[a-z]{1,4}", tree, 0..4)).prop_map(|(image, extra)| {
        let mut template = template(&image);
        template["spec"]["extra"] = Value::Object(extra.into_iter().collect());
        template
    })
}

fn any_annotations() -> impl Strategy<Value = Option<Value>> {
    prop::option::of(
        prop::collection::btree_map(prop_oneof!["[a-z]{1,3}", Just(LAST_ROLLBACK.to_owned())], "[a-z]{0,3}", 1..3)
            .prop_map(|map| json!(map)),
    )
}

proptest! {
    #[test]
    fn the_patch_changes_template_and_annotation_and_nothing_else(
        good in any_template(), bad in any_template(), annotations in any_annotations(),
        paused in prop::option::of(Just(false)), churn in any::<u32>(),
    ) {
        prop_assume!(!same_template(&good, &bad));
        let sets = [replica_set("good", 1, &good), replica_set("bad", 2, &bad)];
        let mut workload = deployment();
        workload["spec"]["template"] = bad;
        match annotations {
            Some(map) => workload["metadata"]["annotations"] = map,
            None => { workload["metadata"].as_object_mut().expect("a map").remove("annotations"); }
        }
        if let Some(paused) = paused {
            workload["spec"]["paused"] = json!(paused);
        }
        let UndoPlan::Patch(patch) = plan_undo(&request(), &workload, &sets, None).expect("usable") else {
            return Err(TestCaseError::fail("no patch"));
        };
        // What an autoscaler and the controllers write meanwhile does not matter.
        workload["spec"]["replicas"] = json!(churn);
        workload["status"] = json!({"observedGeneration": churn});
        workload["metadata"]["resourceVersion"] = json!(churn.to_string());
        let patched = apply(&workload, &patch.operations).expect("it applies");
        prop_assert!(same_template(&patched["spec"]["template"], &good));
        prop_assert!(patched["spec"]["template"].pointer("/metadata/labels/pod-template-hash").is_none());
        let mut wanted = workload.clone();
        wanted["spec"]["template"] = patched["spec"]["template"].clone();
        wanted["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-1");
        prop_assert_eq!(&patched, &wanted);
        // Sent again it is refused, whatever template stands there by then.
        let mut pushed_again = patched;
        pushed_again["spec"]["template"] = workload["spec"]["template"].clone();
        prop_assert_eq!(apply(&pushed_again, &patch.operations), None);
        prop_assert_eq!(plan_undo(&request(), &pushed_again, &sets, None), Ok(UndoPlan::AlreadyDone));
    }

    #[test]
    fn a_concurrent_change_of_what_we_judged_wins(which in 0..4, other in any_template()) {
        let workload = deployment();
        let patch = planned(&workload);
        let mut changed = workload.clone();
        match which {
            0 => changed["metadata"]["uid"] = json!("other"),
            1 => changed["spec"]["paused"] = json!(true),
            2 => changed["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-0"),
            _ => changed["spec"]["template"] = other,
        }
        prop_assert_eq!(apply(&changed, &patch.operations), None);
    }

    #[test]
    fn normalising_is_idempotent_and_ignores_nulls_and_the_hash(any in any_template(), hash in "[a-z0-9]{1,9}") {
        let once = normalise(&any);
        prop_assert_eq!(&normalise(&once), &once);
        let mut labelled = any.clone();
        labelled["metadata"]["labels"][TEMPLATE_HASH] = json!(hash);
        labelled["spec"]["addedNull"] = Value::Null;
        prop_assert!(same_template(&any, &labelled));
    }
}
