use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::managers;

fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "fieldsV1": fields,
    })
}

fn with_entries(entries: Vec<Value>) -> Value {
    let mut workload = deployment();
    workload["metadata"]["managedFields"] = Value::Array(entries);
    workload
}

fn owned(template: &Value) -> Value {
    json!({"f:spec": {"f:replicas": {}, "f:template": template}})
}

fn ours(template: &Value) -> Value {
    let annotation = format!("f:{LAST_ROLLBACK}");
    let fields = json!({"f:metadata": {"f:annotations": {annotation: {}}}, "f:spec": {"f:template": template}});
    entry(managers::UNDO, "Update", &fields)
}

fn handed_back(workload: &Value) -> Value {
    let plan = plan_hand_back(workload).expect("something to hand back");
    apply(workload, &plan.operations).expect("it applies")
}

#[test]
fn fields_go_to_whoever_applies_and_the_annotation_stays_ours() {
    let workload = with_entries(vec![
        entry("kubectl-create", "Update", &owned(&json!({"f:a": {}, "f:b": {}, "f:c": {}}))),
        entry("helm", "Apply", &owned(&json!({"f:a": {}, "f:b": {}}))),
        ours(&json!({"f:image": {}})),
    ]);
    assert!(owns_template(&workload));
    assert_eq!(plan_hand_back(&workload).map(|plan| plan.to).as_deref(), Some("helm"));
    let after = handed_back(&workload);
    let helm = &after["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]["f:template"];
    assert_eq!(helm, &json!({"f:a": {}, "f:b": {}, "f:image": {}}));
    let kept = &after["metadata"]["managedFields"][2]["fieldsV1"];
    assert_eq!(kept, &json!({"f:metadata": {"f:annotations": {"f:deploymentguard.dev/last-rollback": {}}}}));
}

#[test]
fn a_small_applier_does_not_get_what_its_next_apply_would_remove() {
    let most: serde_json::Map<String, Value> = (0..9).map(|n| (format!("f:{n}"), json!({}))).collect();
    let workload = with_entries(vec![
        entry("sidecar", "Apply", &owned(&json!({"f:0": {}}))),
        entry("kubectl-client-side-apply", "Update", &owned(&Value::Object(most))),
        ours(&json!({"f:image": {}})),
    ]);
    let plan = plan_hand_back(&workload).expect("something to hand back");
    assert_eq!(plan.to, "kubectl-client-side-apply");
}

#[test]
fn the_status_subresource_gets_nothing() {
    let mut status = entry("helm", "Update", &owned(&json!({"f:a": {}})));
    status["subresource"] = json!("status");
    assert_eq!(plan_hand_back(&with_entries(vec![status, ours(&json!({"f:image": {}}))])), None);
}

#[test]
fn an_entry_that_is_empty_afterwards_goes() {
    let only_template = entry(managers::UNDO, "Update", &json!({"f:spec": {"f:template": {"f:image": {}}}}));
    let workload = with_entries(vec![only_template, entry("helm", "Apply", &owned(&json!({"f:a": {}})))]);
    let after = handed_back(&workload);
    let entries = after["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["manager"], "helm");
}

#[test]
fn a_change_of_either_entry_meanwhile_wins() {
    let workload = with_entries(vec![entry("helm", "Apply", &owned(&json!({"f:a": {}}))), ours(&json!({"f:b": {}}))]);
    let plan = plan_hand_back(&workload).expect("something to hand back");
    for index in 0..2 {
        let mut changed = workload.clone();
        changed["metadata"]["managedFields"][index]["fieldsV1"]["f:more"] = json!({});
        assert_eq!(apply(&changed, &plan.operations), None);
    }
    let mut churned = workload.clone();
    churned["metadata"]["resourceVersion"] = json!("99");
    churned["metadata"]["managedFields"].as_array_mut().expect("a list").push(entry("kcm", "Update", &json!({})));
    assert!(apply(&churned, &plan.operations).is_some(), "churn behind them does not matter");
}

fn paths(fields: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    for (key, value) in fields.as_object().into_iter().flatten() {
        let path = format!("{prefix}/{key}");
        into.insert(path.clone());
        paths(value, &path, into);
    }
}

fn all_owned(workload: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in workload["metadata"]["managedFields"].as_array().into_iter().flatten() {
        paths(&entry["fieldsV1"], "", &mut all);
    }
    all
}

fn any_set() -> impl Strategy<Value = Value> {
    let leaf = Just(json!({}));
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop::collection::btree_map("[fk]:[a-e]", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    })
}

fn any_entry() -> impl Strategy<Value = Value> {
    let names = prop_oneof![3 => "[a-c]", 1 => Just(managers::UNDO.to_owned())];
    let version = prop_oneof![5 => Just("apps/v1"), 1 => Just("apps/v1beta2")];
    let part = (any_set(), any::<bool>(), any::<bool>());
    (names, version, prop_oneof![Just("Apply"), Just("Update")], prop_oneof![Just(""), Just("status")], part).prop_map(
        |(manager, version, operation, subresource, (set, has_template, more))| {
            let mut fields = json!({});
            if has_template {
                fields["f:spec"] = json!({"f:template": set});
            }
            if more {
                fields["f:metadata"] = json!({"f:labels": {}});
            }
            let mut entry = entry(&manager, operation, &fields);
            entry["apiVersion"] = json!(version);
            if !subresource.is_empty() && manager != managers::UNDO {
                entry["subresource"] = json!(subresource);
            }
            entry
        },
    )
}

proptest! {
    #[test]
    fn handing_back_moves_ownership_and_changes_nothing_else(entries in prop::collection::vec(any_entry(), 0..6)) {
        let workload = with_entries(entries);
        let Some(plan) = plan_hand_back(&workload) else { return Ok(()) };
        let after = apply(&workload, &plan.operations).expect("it applies");
        prop_assert_eq!(all_owned(&workload), all_owned(&after));
        // Everybody but us and whoever got the fields is as before, in the same order.
        let others = |object: &Value| -> Vec<Value> {
            object["metadata"]["managedFields"].as_array().expect("a list").iter()
                .filter(|entry| entry["manager"] != managers::UNDO && entry["manager"] != json!(plan.to))
                .cloned().collect()
        };
        prop_assert_eq!(others(&workload), others(&after));
        let changed = after["metadata"]["managedFields"].as_array().expect("a list").iter()
            .filter(|entry| entry["manager"] != managers::UNDO)
            .zip(workload["metadata"]["managedFields"].as_array().expect("a list").iter()
                .filter(|entry| entry["manager"] != managers::UNDO))
            .filter(|(after, before)| after != before).count();
        prop_assert!(changed <= 1);
        let mut rest = after.clone();
        rest["metadata"]["managedFields"] = workload["metadata"]["managedFields"].clone();
        prop_assert_eq!(&rest, &workload);
        // Repeated until nothing is left (entries of another version take a turn of their own), it ends.
        let mut last = after;
        for _ in 0..4 {
            let Some(plan) = plan_hand_back(&last) else { break };
            last = apply(&last, &plan.operations).expect("it applies");
        }
        prop_assert_eq!(plan_hand_back(&last), None);
    }

    #[test]
    fn with_one_version_and_one_applier_nothing_of_the_template_stays_ours(
        theirs in any_set(), taken in any_set(), twice in any::<bool>(),
    ) {
        let mut entries = vec![entry("helm", "Apply", &owned(&theirs)), ours(&taken)];
        if twice {
            entries.push(ours(&theirs));
        }
        let after = handed_back(&with_entries(entries));
        prop_assert!(!owns_template(&after));
        prop_assert_eq!(plan_hand_back(&after), None);
    }
}
