use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::fixture::at;
use crate::domain::policy::{Kind, Target};

fn workload() -> Object {
    Object::Workload(Target { kind: Kind::Deployment, name: "api".into() })
}

fn kinds() -> [Object; 3] {
    [workload(), Object::HelmRelease("api".into()), Object::Application("api".into())]
}

fn wanted() -> Marker {
    Marker {
        decision: "bad-1".into(),
        until: at(60),
        bad: "bad".into(),
        restored: "good".into(),
        before: Value::Null,
        kustomization: Some("flux-system/apps".into()),
        git: Some("main@sha1:1".into()),
    }
}

/// As the API server applies it: a `test` for null holds where nothing is.
fn applied(object: &Value, patch: &Value) -> Option<Value> {
    let operations = patch.as_array().unwrap();
    let is_null_test = |op: &Value| op["op"] == "test" && op["value"].is_null();
    for op in operations.iter().filter(|op| is_null_test(op)) {
        if object.pointer(op["path"].as_str().unwrap()).is_some_and(|found| !found.is_null()) {
            return None;
        }
    }
    let rest: Vec<&Value> = operations.iter().filter(|op| !is_null_test(op)).collect();
    let mut after = object.clone();
    let patch: json_patch::Patch = serde_json::from_value(json!(rest)).unwrap();
    json_patch::patch(&mut after, &patch).ok()?;
    Some(after)
}

fn suspended(kind: &Object, object: &Value, marker: &Marker) -> Value {
    match plan_suspend(kind, object, marker) {
        SuspendPlan::Patch(patch) => applied(object, &patch).expect("an untouched object takes the patch"),
        SuspendPlan::NotNeeded => panic!("not suspended: {object}"),
    }
}

fn resumed(kind: &Object, object: &Value) -> Value {
    applied(object, &plan_resume(kind, object).expect("a marker")).expect("an untouched object takes the patch")
}

/// An object of each kind that would apply the bad version again.
fn object(kind: &Object) -> impl Strategy<Value = Value> + use<> {
    let kind = kind.clone();
    let map = || proptest::option::of(proptest::collection::btree_map("[a-z~/.]{1,8}", "[a-z]{0,4}", 1..3));
    (map(), map(), any::<bool>(), any::<bool>()).prop_map(move |(annotations, labels, explicit, reconciled)| {
        let mut metadata = json!({"uid": "u"});
        if let Some(annotations) = annotations {
            metadata["annotations"] = json!(annotations);
        }
        if let Some(labels) = labels {
            metadata["labels"] = json!(labels);
        }
        let spec = match &kind {
            Object::Workload(_) => {
                if reconciled {
                    metadata["annotations"][FLUX_RECONCILE] = json!("enabled");
                }
                json!({"replicas": 2})
            }
            Object::HelmRelease(_) if explicit => json!({"suspend": false, "interval": "1m"}),
            Object::HelmRelease(_) => json!({"interval": "1m"}),
            Object::Application(_) => json!({"syncPolicy": {"automated": {"prune": true, "selfHeal": true}}}),
        };
        json!({"metadata": metadata, "spec": spec})
    })
}

proptest! {
    #[test]
    fn what_was_suspended_is_given_back_exactly(objects in kinds().map(|kind| object(&kind))) {
        for (kind, object) in kinds().iter().zip(objects) {
            let during = suspended(kind, &object, &wanted());
            prop_assert_ne!(&during, &object);
            prop_assert_eq!(resumed(kind, &during), object);
        }
    }

    #[test]
    fn what_is_suspended_twice_is_given_back_as_it_was_before_the_first(objects in kinds().map(|kind| object(&kind))) {
        for (kind, object) in kinds().iter().zip(objects) {
            let first = suspended(kind, &object, &wanted());
            let second = suspended(kind, &first, &Marker { decision: "bad-2".into(), until: at(120), ..wanted() });
            prop_assert_eq!(Marker::of(&second).map(|marker| (marker.decision, marker.until)), Some(("bad-2".into(), at(120))));
            prop_assert_eq!(resumed(kind, &second), object);
        }
    }

    #[test]
    fn what_others_write_meanwhile_stays(
        objects in kinds().map(|kind| object(&kind)),
        written in "[a-z]{1,6}",
        their in any::<bool>(),
    ) {
        for (kind, object) in kinds().iter().zip(objects) {
            let mut during = suspended(kind, &object, &wanted());
            let field = kind.field();
            let theirs = if matches!(kind, Object::Workload(_)) { json!(written) } else { json!(!field.suspended.as_bool().unwrap()) };
            if their {
                during.pointer_mut(field.holder).unwrap()[field.key] = theirs.clone();
            }
            during["metadata"]["annotations"]["their/own"] = json!(written);
            let after = resumed(kind, &during);
            let mut wanted = object.clone();
            wanted["metadata"]["annotations"]["their/own"] = json!(written);
            if their {
                wanted.pointer_mut(field.holder).unwrap()[field.key] = theirs;
            }
            prop_assert_eq!(after, wanted);
        }
    }

    #[test]
    fn a_patch_made_for_another_state_is_refused_and_changes_nothing(objects in kinds().map(|kind| object(&kind))) {
        for (kind, object) in kinds().iter().zip(objects) {
            let during = suspended(kind, &object, &wanted());
            let patch = plan_resume(kind, &during).unwrap();
            let prolonged = suspended(kind, &during, &Marker { until: at(120), ..wanted() });
            prop_assert_eq!(applied(&prolonged, &patch), None);
            let mut other = during.clone();
            other["metadata"]["uid"] = json!("another");
            prop_assert_eq!(applied(&other, &patch), None);
            let SuspendPlan::Patch(patch) = plan_suspend(kind, &object, &wanted()) else { panic!("not planned") };
            prop_assert_eq!(applied(&during, &patch), None);
        }
    }

    #[test]
    fn no_marker_makes_us_write_anything_but_the_field_of_its_kind(text in "\\PC{0,60}", before in any::<i64>()) {
        for kind in kinds() {
            let mut object = json!({"metadata": {"uid": "u", "annotations": {MARKER: text}}});
            prop_assert_eq!(plan_resume(&kind, &object), None);
            let field = kind.field();
            let marker = Marker { before: json!(before), ..wanted() };
            object["metadata"]["annotations"][MARKER] = marker.text();
            if object.pointer(field.holder).is_none() {
                object["spec"] = json!({"syncPolicy": {"automated": {}}});
            }
            object.pointer_mut(field.holder).unwrap()[field.key] = field.suspended.clone();
            let after = resumed(&kind, &object);
            prop_assert_eq!(after.pointer(field.holder).unwrap().get(field.key), Some(&field.suspended));
        }
    }
}

#[test]
fn where_nothing_would_apply_it_again_nothing_is_suspended() {
    let [workload, release, application] = kinds();
    let policy = |automated: Value| json!({"metadata": {"uid": "u"}, "spec": {"syncPolicy": {"automated": automated}}});
    let cases = [
        (&workload, json!({"metadata": {"uid": "u", "annotations": {FLUX_RECONCILE: "disabled"}}})),
        (&release, json!({"metadata": {"uid": "u"}, "spec": {"suspend": true}})),
        (&application, json!({"metadata": {"uid": "u"}, "spec": {}})),
        (&application, policy(json!({"prune": true}))),
        (&application, policy(json!({"selfHeal": false}))),
        (&application, policy(json!({"selfHeal": true, "enabled": false}))),
    ];
    for (kind, object) in cases {
        assert_eq!(plan_suspend(kind, &object, &wanted()), SuspendPlan::NotNeeded, "{object}");
    }
}

#[test]
fn a_suspension_that_a_person_ended_begins_anew_and_remembers_what_the_person_wrote() {
    let kind = Object::HelmRelease("api".into());
    let mut object = suspended(&kind, &json!({"metadata": {"uid": "u"}, "spec": {}}), &wanted());
    object["spec"]["suspend"] = json!(false);
    let again = suspended(&kind, &object, &wanted());
    assert_eq!(Marker::of(&again).unwrap().before, json!(false));
}

#[test]
fn a_suspension_ends_with_its_time_a_new_template_or_a_new_revision() {
    let marker = wanted();
    assert_eq!(marker.ends(at(59), None, None), None);
    assert_eq!(marker.ends(at(60), None, None), Some(Why::Expired));
    assert_eq!(marker.ends(at(0), Some("bad"), Some("main@sha1:1")), None);
    assert_eq!(marker.ends(at(0), Some("good"), None), None);
    assert_eq!(marker.ends(at(0), Some("fixed"), None), Some(Why::NewTemplate));
    assert_eq!(marker.ends(at(0), Some("good"), Some("main@sha1:2")), Some(Why::NewRevision));
    let unreadable = Marker { git: None, ..marker };
    assert_eq!(unreadable.ends(at(0), Some("good"), Some("main@sha1:2")), None);
}

#[test]
fn only_what_can_be_a_name_goes_into_a_path() {
    for name in ["apps", "team-a.apps", "a1"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "../secrets", "a/b", "a?x=y", "a b", "..", "A", "ä", "%2e"] {
        assert!(!is_name(name), "{name}");
    }
    assert!(!is_name(&"a".repeat(254)));
}

#[test]
fn what_git_held_is_what_was_attempted_last_and_the_rest_of_a_release() {
    let target = Target { kind: Kind::Deployment, name: "api".into() };
    let of = |mut status: Value| {
        status["inventory"] = json!({"entries": [{"id": "web_api_apps_Deployment", "v": "v1"}]});
        let object = json!({"status": status});
        assert_eq!(revision_of_kustomization(&object, "another", &target), None, "it applies no such workload");
        revision_of_kustomization(&object, "web", &target)
    };
    assert_eq!(of(json!({"lastAppliedRevision": "1", "lastAttemptedRevision": "2"})).as_deref(), Some("2"));
    assert_eq!(of(json!({"lastAppliedRevision": "1"})).as_deref(), Some("1"));
    assert_eq!(of(json!({})), None);
    let release = |spec: Value| revision_of(&Object::HelmRelease("r".into()), &json!({"spec": spec}));
    assert_eq!(release(json!({"suspend": true, "v": 1})), release(json!({"v": 1})));
    assert_ne!(release(json!({"suspend": true, "v": 2})), release(json!({"v": 1})));
}

#[test]
fn only_what_says_itself_that_it_applies_the_workload_does() {
    let target = Target { kind: Kind::StatefulSet, name: "db".into() };
    let release = Object::HelmRelease("shop".into());
    let cases = [
        (json!({"metadata": {"namespace": "web"}, "spec": {}}), true),
        (json!({"metadata": {"namespace": "flux-system"}, "spec": {"targetNamespace": "web"}}), true),
        (json!({"metadata": {"namespace": "web"}, "spec": {"targetNamespace": "another"}}), false),
        (json!({"metadata": {"namespace": "another"}}), false),
    ];
    for (object, wanted) in cases {
        assert_eq!(applies_to(&release, &object, "web", &target), wanted, "{object}");
    }
    let application = Object::Application("shop".into());
    let listed = json!({"group": "apps", "kind": "StatefulSet", "namespace": "web", "name": "db", "status": "Synced"});
    let of = |resource: Value| json!({"status": {"resources": [{"kind": "Service"}, resource]}});
    assert!(applies_to(&application, &of(listed.clone()), "web", &target));
    for key in ["group", "kind", "namespace", "name"] {
        let mut other = listed.clone();
        other[key] = json!("other");
        assert!(!applies_to(&application, &of(other), "web", &target), "{key}");
    }
    assert!(!applies_to(&application, &json!({}), "web", &target));
}
