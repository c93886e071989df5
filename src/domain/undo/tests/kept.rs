use super::*;

const GUARD: &str = "uid-of-the-guard";

pub(super) fn kept(template: &Value) -> Value {
    json!({
        "metadata": {"name": "guard-good-1", "ownerReferences": [{"uid": GUARD, "controller": true}]},
        "data": {"spec": {"template": normalise(template)}},
        "revision": 1,
    })
}

pub(super) fn remembering(template: &Value) -> UndoRequest {
    let name = "guard-good-1".to_owned();
    let kept = KeptTemplate { name, template: fingerprint(template), owner: GUARD.to_owned() };
    UndoRequest { kept: Some(kept), ..request() }
}

fn without_history() -> Vec<Value> {
    vec![replica_set("bad", 2, &template("app:2"))]
}

fn plan(request: &UndoRequest, holders: &[Value], kept: Option<&Value>) -> UndoPlan {
    plan_undo(request, &deployment(), holders, kept).expect("a usable workload")
}

fn put_back(plan: UndoPlan) -> Value {
    let UndoPlan::Patch(patch) = plan else { panic!("no patch but {plan:?}") };
    let after = apply(&deployment(), &patch.operations).expect("it applies");
    after["spec"]["template"].clone()
}

#[test]
fn what_the_history_has_lost_is_put_back_from_what_the_guard_keeps() {
    let good = template("app:1");
    let after = put_back(plan(&remembering(&good), &without_history(), Some(&kept(&good))));
    assert!(same_template(&after, &good), "{after:#}");
    assert_eq!(fingerprint(&after), fingerprint(&good), "and is known again by its number");
}

#[test]
fn the_history_comes_first() {
    let (kept, held) = (kept(&template("app:0")), template("app:1"));
    let after = put_back(plan(&remembering(&template("app:0")), &revisions(), Some(&kept)));
    assert!(same_template(&after, &held), "{after:#}");
}

#[test]
fn a_kept_object_that_is_another_one_is_as_if_there_were_none() {
    let good = template("app:1");
    let nothing = |request: &UndoRequest, kept: Option<&Value>| {
        assert_eq!(plan(request, &without_history(), kept), UndoPlan::NothingToGoBackTo, "{kept:?}");
    };
    let asked = remembering(&good);
    nothing(&asked, None);
    nothing(&request(), Some(&kept(&good)));
    nothing(&asked, Some(&kept(&template("app:evil"))));
    let mut of_another = kept(&good);
    of_another["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    nothing(&asked, Some(&of_another));
    let mut merely_owned = kept(&good);
    merely_owned["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    nothing(&asked, Some(&merely_owned));
    nothing(&asked, Some(&json!({"metadata": {"ownerReferences": []}})));
}

#[test]
fn a_template_is_taken_as_the_history_holds_it_and_of_the_judged_object_only() {
    let of = |uid: &str, name: &str| held(Kind::Deployment, uid, &deployment(), &revisions(), &RevisionHash::new(name));
    let found = of(UID, "good").expect("it is there");
    assert_eq!(found.template, normalise(&template("app:1")));
    assert_eq!((found.number, found.fingerprint), (1, fingerprint(&template("app:1"))));
    assert_eq!(of(UID, "gone"), None);
    assert_eq!(of("made anew", "good"), None);
}

#[test]
fn what_a_set_keeps_in_its_own_revisions_is_taken_without_their_directive() {
    let set = json!({"metadata": {"name": "db", "uid": UID}, "spec": {"template": template("app:2")}});
    let mut stored = template("app:1");
    stored["$patch"] = json!("replace");
    let holder = json!({
        "metadata": {
            "name": "db-5d4f", "labels": {"controller-revision-hash": "5d4f"},
            "ownerReferences": [{"uid": UID, "controller": true}],
        },
        "data": {"spec": {"template": stored}}, "revision": 3,
    });
    for (kind, name) in [(Kind::StatefulSet, "db-5d4f"), (Kind::DaemonSet, "5d4f")] {
        let holders = std::slice::from_ref(&holder);
        let found = held(kind, UID, &set, holders, &RevisionHash::new(name)).expect("it is there");
        assert_eq!((found.template, found.number), (normalise(&template("app:1")), 3), "{kind:?}");
    }
}

#[test]
fn the_number_of_a_template_is_the_same_in_every_version() {
    let written =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"image": "a:1", "name": "a"}]}});
    assert_eq!(format!("{:016x}", fingerprint(&written)), "377b54cb3a991bec");
    let mut as_read = written.clone();
    as_read["metadata"]["creationTimestamp"] = Value::Null;
    as_read["metadata"]["labels"][TEMPLATE_HASH] = json!("5d4f");
    assert_eq!(fingerprint(&as_read), fingerprint(&written), "what servers add does not count");
}
