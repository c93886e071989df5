use super::*;

fn answer(code: u16, fields: &[&str]) -> Answer {
    Answer {
        code,
        reason: String::new(),
        cause_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        cause_reasons: Vec::new(),
    }
}

fn meaning(answer: &Answer, change: impl FnOnce(&mut Value)) -> Meaning {
    let sent = planned(&deployment());
    let mut fresh = deployment();
    change(&mut fresh);
    classify_answer(answer, &request(), &sent, Some(&fresh)).expect("a usable workload")
}

#[test]
fn a_refusal_is_told_apart_by_reading_again() {
    let bare = answer(422, &[]);
    assert_eq!(meaning(&bare, |w| w["spec"]["template"] = template("app:3")), Meaning::Superseded);
    assert_eq!(meaning(&bare, |w| w["spec"]["paused"] = json!(true)), Meaning::Paused);
    assert_eq!(meaning(&bare, |w| w["metadata"]["uid"] = json!("new")), Meaning::Gone(Gone::Recreated));
    let deleted = |w: &mut Value| w["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(meaning(&bare, deleted), Meaning::Gone(Gone::Terminating));
    let ours = |w: &mut Value| w["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-1");
    assert_eq!(meaning(&bare, ours), Meaning::AlreadyDone);
    let theirs = |w: &mut Value| w["metadata"]["annotations"][LAST_ROLLBACK] = json!("decision-2");
    assert_eq!(meaning(&bare, theirs), Meaning::Superseded);
    let unpaused = |w: &mut Value| w["spec"]["paused"] = json!(false);
    assert_eq!(meaning(&bare, unpaused), Meaning::Retry, "written out, not changed");
}

#[test]
fn where_nothing_differs_the_causes_speak() {
    let same = |_: &mut Value| ();
    assert_eq!(meaning(&answer(422, &[]), same), Meaning::Retry);
    assert_eq!(meaning(&answer(409, &[]), same), Meaning::Retry);
    assert_eq!(meaning(&answer(422, &[""]), same), Meaning::AdmissionRejected);
    assert_eq!(meaning(&answer(403, &[]), same), Meaning::AdmissionRejected);
    assert_eq!(meaning(&answer(422, &["", "spec.template.spec.containers"]), same), Meaning::Failed);
}

#[test]
fn what_is_being_deleted_stops_quietly() {
    let mut terminating = answer(403, &["metadata.namespace"]);
    terminating.cause_reasons = vec!["NamespaceTerminating".to_owned()];
    assert_eq!(meaning(&terminating, |_| ()), Meaning::Gone(Gone::Terminating));
    assert_eq!(meaning(&answer(404, &[]), |_| ()), Meaning::Gone(Gone::Absent));
    let sent = planned(&deployment());
    assert_eq!(classify_answer(&answer(422, &[]), &request(), &sent, None), Ok(Meaning::Gone(Gone::Absent)));
}
