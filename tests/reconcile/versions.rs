//! Objects that a newer version wrote, which this one cannot read.

use serde_json::{Value, json};

use super::deployments::guard_place;
use super::rig::{BAD_IMAGE, Rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_and_a_class_of_a_newer_version_keep_no_other_from_being_judged() {
    for streaming in [false, true] {
        let rig = Rig::new().await;
        if !streaming {
            rig.api.refuse_streaming();
        }
        rig.guard("a-newer-one", json!({"mode": "Foresee"}));
        rig.class("a-newer-one", json!({"maxMode": "Foresee"}));
        rig.guard("guard", json!({}));
        let operator = rig.operator();
        rig.adopted("guard").await;
        rig.push(BAD_IMAGE);
        rig.status("guard", "a release is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
        operator.stop().await;
        assert_eq!(rig.status_of("a-newer-one"), Value::Null, "nobody judges what nobody understands");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_becomes_one_of_a_newer_version_is_not_enforced_as_it_was() {
    let (rig, operator) = Rig::watching(json!({})).await;
    rig.api.change(&guard_place("guard"), |guard| guard["spec"]["mode"] = json!("Foresee"));
    // Another guard of the same Deployment shows when the release would have been undone.
    rig.guard("observer", json!({"mode": "Observe"}));
    rig.adopted("observer").await;
    rig.push(BAD_IMAGE);
    rig.status("observer", "the release is judged bad", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    operator.stop().await;
    assert_eq!(rig.undos().len(), 0);
}
