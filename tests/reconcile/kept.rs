//! Kept templates: what a release is undone to when the workload's own history has lost it.

use serde_json::{Value, json};

use super::api_server::{Asked, Fault, Key};
use super::deployments::{NAMESPACE, guard_place, place, pods_of};
use super::prometheus::BAD;
use super::rig::{BAD_IMAGE, Operator, Rig, because, is};

/// Many bad releases may be undone one after the other.
fn tireless() -> Value {
    json!({"rollback": {"maxPerDay": 100, "cooldown": "0s"}})
}

/// A guard of a Deployment whose history is lost with every rollout.
async fn forgetful(more: Value) -> (Rig, Operator) {
    let rig = Rig::new().await;
    rig.class("default", json!({"stormBreaker": {"undos": 100}}));
    rig.api.change(&place("shop"), |deployment| deployment["spec"]["revisionHistoryLimit"] = json!(0));
    rig.until("the history is as long as asked", || sets(&rig).len() == 1).await;
    rig.guard("guard", more);
    let operator = rig.operator();
    rig.adopted("guard").await;
    (rig, operator)
}

fn sets(rig: &Rig) -> Vec<Value> {
    rig.api.all("replicasets").into_iter().map(|(_, set)| set).collect()
}

fn kept(rig: &Rig) -> Vec<Value> {
    rig.api.all("controllerrevisions").into_iter().map(|(_, kept)| kept).collect()
}

fn image_of(kept: &Value) -> &str {
    kept["data"]["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn images(rig: &Rig) -> Vec<String> {
    kept(rig).iter().map(|kept| image_of(kept).to_owned()).collect()
}

fn key_of(kept: &Value) -> Key {
    Key::new("apps", "controllerrevisions", NAMESPACE, kept["metadata"]["name"].as_str().unwrap_or_default())
}

fn writes(asked: &[Asked], verb: &str) -> usize {
    asked.iter().filter(|asked| asked.resource == "controllerrevisions" && asked.verb == verb).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_history_each_of_several_bad_releases_is_undone_to_the_one_that_proved_good() {
    let (rig, _operator) = forgetful(tireless()).await;
    let stranger = Key::new("apps", "controllerrevisions", NAMESPACE, "guard-good-0000000000");
    let labels = kept(&rig)[0]["metadata"]["labels"].clone();
    rig.api.put(&stranger, json!({"metadata": {"labels": labels}, "data": {}, "revision": 1}));
    let first = kept(&rig).into_iter().find(|kept| image_of(kept) == "shop:v1").unwrap();
    rig.push("shop:v2");
    let status = rig.status("guard", "version 2 proved good", |s| s["knownGood"][0]["template"].is_string()).await;
    let good = status["current"]["revision"].clone();
    assert_eq!((&status["knownGood"][0]["revision"], &status["served"]), (&good, &Value::Null), "{status:#}");
    rig.until("only version 2 is kept", || images(&rig) == ["", "shop:v2"]).await;
    let dropped = rig.api.asked().into_iter().find(|asked| asked.verb == "delete").unwrap();
    assert_eq!(dropped.body["preconditions"]["uid"], first["metadata"]["uid"], "exactly that one is dropped");
    assert!(rig.api.get(&stranger).is_some(), "a label makes nothing ours");

    for bad in [BAD_IMAGE, "shop:worse", "shop:worst"] {
        rig.prometheus.image(bad, BAD);
        rig.push(bad);
        rig.until("nothing else is left", || sets(&rig).len() == 1 && rig.image() == bad).await;
        let undone = |s: &Value| s["lastDecision"]["action"] == "RolledBack" && rig.image() == "shop:v2";
        let status = rig.status("guard", &format!("{bad} is undone"), undone).await;
        assert_eq!(status["lastDecision"]["toRevision"], good, "{status:#}");
        assert_eq!(status["lastDecision"]["toTrust"], "Certified", "{status:#}");
        let template = rig.deployment()["spec"]["template"].clone();
        assert_eq!(template["spec"]["containers"][0]["futureField"]["kept"], true, "{template:#}");
        let restored = rig.status("guard", "its pods come", |s| s["current"]["revision"] == good).await;
        assert_eq!(restored["current"]["state"], "Restoring", "it is no release of somebody's: {restored:#}");
    }
    assert_eq!(rig.status_of("guard")["rollbacksToday"], 3);
    assert_eq!(images(&rig), ["", "shop:v2"], "what is bad is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serves_is_kept_before_anything_is_pushed_and_goes_with_the_guard_alone() {
    let (rig, operator) = forgetful(tireless()).await;
    let status = rig.status_of("guard");
    let kept = kept(&rig);
    assert_eq!(kept.len(), 1, "{kept:#?}");
    let object = &kept[0];
    assert_eq!(status["served"]["template"], object["metadata"]["name"], "{status:#}");
    assert_eq!(status["served"]["revision"], status["current"]["revision"]);
    assert_eq!(object["metadata"]["annotations"]["deploymentguard.dev/revision"], status["current"]["revision"]);
    let owners = object["metadata"]["ownerReferences"].as_array().unwrap();
    let guard = rig.api.get(&guard_place("guard")).unwrap();
    assert_eq!(owners.len(), 1, "it goes with the guard, and with nothing else");
    assert_eq!((&owners[0]["kind"], &owners[0]["uid"]), (&json!("DeploymentGuard"), &guard["metadata"]["uid"]));
    assert_eq!((&owners[0]["controller"], &owners[0]["blockOwnerDeletion"]), (&json!(true), &json!(false)));
    let labels = object["metadata"]["labels"].as_object().unwrap();
    assert!(labels.keys().all(|key| key.starts_with("deploymentguard.dev/")), "{labels:?}");

    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!((rig.image().as_str(), &status["lastDecision"]["toTrust"]), ("shop:v1", &json!("NeverJudged")));
    assert_eq!(status["current"]["state"], "Restoring", "{status:#}");

    // Another process finds what is kept, and writes nothing anew; also when the status was lost.
    operator.die().await;
    rig.api.change(&guard_place("guard"), |guard| guard["status"]["served"] = Value::Null);
    let _operator = rig.operator();
    rig.status("guard", "it is found again", |s| s["served"]["template"] == object["metadata"]["name"]).await;
    assert_eq!(writes(&rig.api.asked(), "delete"), 0);
    assert_eq!(self::kept(&rig)[0]["metadata"]["uid"], object["metadata"]["uid"], "it is the same object");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_template_that_somebody_replaced_is_never_rolled_out() {
    let (rig, _operator) = forgetful(tireless()).await;
    let mut forged = kept(&rig).remove(0);
    rig.api.delete(&key_of(&forged));
    forged["data"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:evil");
    rig.api.put(&key_of(&forged), forged.clone());
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is decided", |s| because(s, "Stalled", "NoKnownGoodRevision")).await;
    assert!(is(&status, "Stalled", "True") && is(&status, "Healthy", "False"), "{status:#}");
    assert_eq!(status["lastDecision"]["action"], "None", "{status:#}");
    assert_eq!((rig.image().as_str(), rig.undos().len()), (BAD_IMAGE, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_object_says_of_itself_is_believed_by_no_later_process() {
    let (rig, operator) = forgetful(tireless()).await;
    operator.die().await;
    let mut forged = kept(&rig).remove(0);
    rig.api.delete(&key_of(&forged));
    let template = &mut forged["data"]["spec"]["template"];
    template["spec"]["containers"][0]["image"] = json!("shop:evil");
    let number = format!("{:016x}", deployment_guard::domain::undo::fingerprint(template));
    forged["metadata"]["annotations"]["deploymentguard.dev/template-hash"] = json!(number);
    rig.api.put(&key_of(&forged), forged.clone());
    let _operator = rig.operator();
    rig.until("the forgery is replaced", || images(&rig) == ["shop:v1"]).await;
    let genuine = kept(&rig)[0]["metadata"]["annotations"]["deploymentguard.dev/template-hash"].clone();
    rig.status("guard", "status names what is genuine", |s| s["served"]["templateHash"] == genuine).await;
    assert_ne!(genuine, json!(number));
    rig.push(BAD_IMAGE);
    rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(rig.image(), "shop:v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_may_keep_nothing_undoes_from_the_history_of_the_workload() {
    let rig = Rig::new().await;
    rig.guard("guard", json!({}));
    rig.api.break_with(|asked| {
        (asked.resource == "controllerrevisions" && asked.verb == "create").then(|| Fault::Refuse {
            code: 403,
            reason: "Forbidden",
            message: "exceeded quota: few-objects",
            causes: vec![],
        })
    });
    let _operator = rig.operator();
    rig.adopted("guard").await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!((rig.image().as_str(), &status["served"]), ("shop:v1", &Value::Null), "{status:#}");
    assert_eq!(writes(&rig.api.asked(), "create"), 1, "what is refused is not asked for at every look");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_same_template_is_known_as_such_when_only_the_guard_keeps_what_was_before() {
    let (rig, _operator) = forgetful(tireless()).await;
    rig.api.change(&place("shop"), |deployment| {
        deployment["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    });
    rig.status("guard", "the restart is judged", |s| s["current"]["state"] == "Judging").await;
    rig.until("nothing else is left", || sets(&rig).len() == 1).await;
    for key in pods_of(&rig.api, "shop") {
        rig.api.change(&key, |pod| super::facts::crash(pod, 3));
    }
    let status = rig.status("guard", "it is judged", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    assert_eq!(status["lastDecision"]["clampedBy"], "something-else-differs", "{status:#}");
    assert_eq!(rig.undos().len(), 0);
}
