use serde_json::json;

use super::*;

/// What was read of a cluster: the guard, samples by key, calls.
fn kept(json: &str) -> Kept {
    let read: Value = serde_json::from_str(json).unwrap();
    Kept {
        guard: read["guard"].clone(),
        samples: serde_json::from_value(read["samples"].clone()).unwrap(),
        calls: serde_json::from_value(read["calls"].clone()).unwrap(),
        notes: Vec::new(),
    }
}

fn told(kept: &Kept, id: Option<&str>) -> Told {
    Told::of(kept, id).unwrap_or_else(|problem| panic!("{problem}"))
}

macro_rules! is_told {
    ($name:ident, $file:literal, $prompt:literal) => {
        #[test]
        fn $name() {
            let text = told(&kept(include_str!(concat!("golden/", $file, ".json"))), None).text($prompt);
            assert!(text == include_str!(concat!("golden/", $file, ".txt")), "{}.txt would be\n{text}<end>", $file);
        }
    };
}

is_told!(a_rollback_by_evidence_is_told_with_its_explanation_and_what_left, "explained", true);
is_told!(a_grey_zone_that_a_model_decided_names_it_and_the_wider_bound, "grey-zone", false);
is_told!(a_clamped_proposal_is_told_with_what_held_it, "clamped", false);
is_told!(dead_providers_are_told_and_are_no_opinion, "all-dead", false);
is_told!(a_decision_of_before_this_version_is_told_as_far_as_it_goes, "earlier-version", false);

const EXPLAINED: &str = include_str!("golden/explained.json");
const ID: &str = "7f9c5b6d84-1763717369603";

#[test]
fn an_unknown_decision_lists_the_known_ones() {
    let old = kept(include_str!("golden/earlier-version.json"));
    let problem = Told::of(&old, Some("nope")).err().unwrap();
    assert_eq!(problem, format!("shop/api has no decision nope; known are {ID}, 6c6c-1763600000000"));
    assert!(
        told(&old, Some("6c6c-1763600000000")).text(false).starts_with("CONTINUE of shop/api, 2026-11-20T00:53:20Z\n")
    );
    let mut none = Kept { guard: old.guard, ..Kept::default() };
    none.guard["status"] = json!({"analysis": {"message": "nothing speaks against it so far"}});
    assert_eq!(told(&none, None).text(true), "shop/api has decided nothing yet. nothing speaks against it so far.\n");
    assert_eq!(Told::of(&none, Some("x")).err().unwrap(), "shop/api has no decision x; it has decided nothing yet");
}

#[test]
fn a_decision_of_the_history_is_completed_from_its_sample() {
    let mut kept = kept(EXPLAINED);
    let record = kept.guard["status"]["lastDecision"].take();
    kept.guard["status"] = json!({"history": [{"id": ID, "decision": "ROLLBACK", "reason": "EvidenceOfHarm",
        "action": "RolledBack", "fromRevision": record["fromRevision"], "time": record["time"]}]});
    let text = told(&kept, Some(ID)).text(false);
    for part in [
        "decided by  evidence (EvidenceOfHarm), confidence 93 %",
        "against 5b6d84b55c",
        "E in all 263",
        "New in logs/api",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    kept.guard["status"] = json!({});
    assert!(
        told(&kept, Some(ID)).text(false).starts_with("ROLLBACK of shop/api, 2026-11-21T09:29:29.603Z\n"),
        "the sample alone"
    );
}

#[test]
fn the_bound_is_that_of_the_authority() {
    let bound = |decision: Value, decider: &str, rate: &str| -> String {
        let mut kept = kept(EXPLAINED);
        kept.guard["spec"]["decision"] = decision;
        kept.guard["spec"]["analysis"]["falseRollbackRate"] = json!(rate);
        kept.guard["status"]["lastDecision"]["decider"] = json!(decider);
        let json: Value = serde_json::from_str(&told(&kept, None).json(false)).unwrap();
        json["falseRollbackBound"].as_str().unwrap().to_owned()
    };
    let of = |authority: &str| bound(json!({"authority": authority}), "evidence", "1%");
    assert!(
        of("TieBreak").starts_with("κα = 10 %: ") && of("TieBreak").ends_with("held to α = 1 %."),
        "{}",
        of("TieBreak")
    );
    assert!(of("Advisory").starts_with("α = 1 %: "), "{}", of("Advisory"));
    assert!(of("Decide").starts_with("None: authority Decide"), "{}", of("Decide"));
    assert!(bound(json!({"authority": "TieBreak"}), "llm/x", "4%").starts_with("κα = 20 %: "));
    assert!(
        bound(json!({"authority": "Decide", "chain": ["algorithm"]}), "evidence", "0.5%").starts_with("α = 0.5 %: ")
    );
    assert!(bound(json!({"authority": "Decide", "maxCallsPerRollout": 0}), "evidence", "1%").starts_with("α = 1 %: "));
    for decider in ["hard-fact", "human", "seed-formula"] {
        assert!(bound(json!({"authority": "TieBreak"}), decider, "1%").starts_with("None"), "{decider}");
    }
    assert!(bound(json!({}), "evidence", "many").starts_with("Unknown: "));
}

#[test]
fn nothing_of_the_cluster_moves_the_cursor_or_turns_a_line_around() {
    let hostile = "a\u{1b}[2Jb\u{202e}c\u{9b}d\re";
    let spoiled = EXPLAINED.replace("206 of 945", &hostile.replace('\u{1b}', "\\u001b").replace('\r', "\\r"));
    let mut kept = kept(&spoiled);
    kept.notes = vec![hostile.to_owned()];
    for call in &mut kept.calls {
        call.replied = hostile.to_owned();
        call.sent = json!({"content": format!("{hostile}\n{hostile}"), hostile: 1}).to_string();
    }
    let (text, json) = (told(&kept, None).text(true), told(&kept, None).json(true));
    assert!(text.contains("a [2Jb c d e"), "{text}");
    for printed in [text, json] {
        assert!(printed.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{printed:?}");
    }
    let other = Told::of(&kept, Some(hostile)).err().unwrap();
    assert!(!other.contains('\u{1b}'), "{other:?}");
}

#[test]
fn what_left_is_in_the_json_only_if_asked_for_and_then_to_the_byte() {
    let kept = kept(EXPLAINED);
    let json = |prompt: bool| -> Value { serde_json::from_str(&told(&kept, None).json(prompt)).unwrap() };
    assert_eq!(json(false)["calls"][0]["sent"], Value::Null);
    assert_eq!(json(true)["calls"][0]["sent"], kept.calls[0].sent.as_str());
    assert_eq!(json(true)["decision"]["advice"]["by"], "llm/together");
}

#[test]
fn calls_of_another_decision_or_revision_or_of_later_are_not_told() {
    let mut kept = kept(EXPLAINED);
    let of = |decision: Option<&str>, revision: &str, at: &str| KeptCall {
        decision: decision.map(str::to_owned),
        revision: revision.to_owned(),
        at: at.to_owned(),
        ..KeptCall::default()
    };
    let (early, late) = ("2026-11-21T09:29:00Z", "2026-11-21T09:30:00Z");
    kept.calls = vec![
        of(Some("other"), "7f9c5b6d84", early),
        of(None, "another", early),
        of(None, "7f9c5b6d84", late),
        of(None, "7f9c5b6d84", early),
        of(Some(ID), "7f9c5b6d84", late),
    ];
    let json: Value = serde_json::from_str(&told(&kept, None).json(false)).unwrap();
    let at: Vec<&Value> = json["calls"].as_array().unwrap().iter().map(|call| &call["at"]).collect();
    assert_eq!(at, [early, late]);
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_not_told_and_that_is() {
    let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
        let path = request.uri().path().to_owned();
        let (code, body) = if path.ends_with("/deploymentguards/api") {
            (200, kept(EXPLAINED).guard)
        } else if path.ends_with("/configmaps/api-advice") {
            let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "another"}]);
            (200, json!({"metadata": {"name": "api-advice", "ownerReferences": owner}, "data": {"a": "{}"}}))
        } else {
            (403, json!({"status": "Failure", "message": "forbidden for you", "reason": "Forbidden", "code": 403}))
        };
        let body = kube::client::Body::from(body.to_string().into_bytes());
        Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
    });
    let client = kube::Client::new(service, "shop");
    let cluster = Cluster { client, namespace: "shop".into(), context: "c".into() };
    let Ok(kept) = read(&cluster, "api").await else { panic!("the guard can be read") };
    assert!(kept.calls.is_empty() && kept.samples.is_empty());
    let text = told(&kept, None).text(false);
    for part in [
        "ConfigMap api-samples could not be read: the API server says forbidden for you.",
        "ConfigMap api-advice does not belong to this guard",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
