//! What is said of documents, and that it is what the API server and the operator say.

use super::*;

fn lines(text: &str) -> Vec<String> {
    lint(&[("a.yaml".to_owned(), text.to_owned())]).found.into_iter().map(|(_, line)| line).collect()
}

fn guard(spec: &Value) -> String {
    json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "metadata": {"name": "api"},
        "spec": spec})
    .to_string()
}

const CLASS: &str = "apiVersion: deploymentguard.dev/v1alpha1\nkind: GuardClass\nmetadata: {name: default}\nspec:\n  \
                     prometheus: {url: 'http://p:9090'}\n  providers: [{name: local, kind: openai, model: m}]\n";

#[test]
fn a_guard_of_five_lines_is_fine_and_other_kinds_are_left_alone() {
    let text = format!(
        "{}\n---\nkind: Deployment\napiVersion: apps/v1\nspec: {{nonsense: 1}}\n",
        guard(&json!({"targetRef": {"name": "api"}}))
    );
    assert_eq!(lines(&text), Vec::<String>::new());
}

#[test]
fn each_finding_says_where_what_and_what_to_do() {
    let target = json!({"kind": "Deployment", "name": "api"});
    for (spec, line) in [
        (json!({"targetref": target}), "a.yaml:1 spec.targetRef: is missing: it is required"),
        (
            json!({"targetRef": target, "mod": "Enforce"}),
            "a.yaml:1 spec.mod: is no field that there is: did you mean mode?",
        ),
        (
            json!({"targetRef": target, "mode": "enforce"}),
            "a.yaml:1 spec.mode: is \"enforce\", which there is not: did you mean Enforce?",
        ),
        (
            json!({"targetRef": target, "suspend": "yes"}),
            "a.yaml:1 spec.suspend: is the text \"yes\": write true or false",
        ),
        (
            json!({"targetRef": target, "signals": [{"name": "http", "preset": "micormeter"}]}),
            "a.yaml:1 spec.signals[0].preset: is \"micormeter\", which there is not: did you mean micrometer?",
        ),
        (
            json!({"targetRef": target, "signals": [{"name": "a", "preset": "go"}, {"name": "a", "preset": "grpc"}]}),
            "a.yaml:1 spec.signals[1]: has the name of an entry before it: rename it",
        ),
        (
            json!({"targetRef": target, "rollback": {"maxPerDay": 0}}),
            "a.yaml:1 spec.rollback.maxPerDay: is 0: must lie between 1 and 100",
        ),
    ] {
        assert!(lines(&guard(&spec)).contains(&line.to_owned()), "{spec}: {:?}", lines(&guard(&spec)));
    }
    let promql = json!({"targetRef": target, "signals": [{"name": "a", "gauge": {"selector": "rate(x[5m])"}}]});
    let found = lines(&guard(&promql));
    assert!(found[0].starts_with("a.yaml:1 spec.signals[0].gauge.selector: "), "{found:?}");
    assert!(found[0].contains("only a plain selector"), "{found:?}");
}

#[test]
fn every_rule_of_the_definitions_is_kept_without_a_cluster() {
    let table: Value = serde_json::from_str(include_str!("../../../tests/cel_cases.json")).unwrap();
    for case in table["guards"].as_array().unwrap() {
        assert!(!lines(&guard(&case["spec"])).is_empty(), "{case}");
    }
    for case in table["classes"].as_array().unwrap() {
        let mut spec = json!({"prometheus": {"url": "http://prometheus"}});
        for field in ["prometheus", "presets", "budgets"].into_iter().filter(|field| !case[field].is_null()) {
            spec[field] = case[field].clone();
        }
        if let Some(fields) = case["provider"].as_object() {
            let mut provider = json!({"name": "local", "kind": "openai", "model": "m"});
            fields.iter().for_each(|(name, value)| provider[name] = value.clone());
            spec["providers"] = json!([provider]);
        }
        let class = json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
            "metadata": {"name": "default"}, "spec": spec});
        assert!(!lines(&class.to_string()).is_empty(), "{case}");
    }
}

#[test]
fn documents_are_counted_and_a_broken_one_does_not_hide_the_others() {
    let bad = guard(&json!({"targetRef": {"name": "api"}, "mode": "Off"}));
    let found = lines(&format!("# a comment\n---\n{CLASS}---\na: [\n---\n{bad}\n"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.yaml:2 document: is no YAML: "), "{found:?}");
    assert!(found[1].starts_with("a.yaml:3 spec.mode: "), "{found:?}");
}

#[test]
fn names_that_the_class_in_the_same_files_does_not_have_are_told_with_the_near_one() {
    let of = |spec: Value| lines(&format!("{CLASS}---\n{}\n", guard(&spec)));
    let found = of(json!({"targetRef": {"name": "api"}, "className": "defualt"}));
    let said = "a.yaml:2 spec.className: is \"defualt\", and none of the classes in these files is called so: did you mean default?";
    assert_eq!(found, [said]);
    let chain = json!({"targetRef": {"name": "api"}, "className": "default", "decision": {"chain": ["locall"]}});
    let found = of(chain);
    assert!(found[0].contains("spec.decision.chain[0]: ") && found[0].contains("did you mean local?"), "{found:?}");
    // A class that is not there may have it.
    let alone =
        json!({"targetRef": {"name": "api"}, "className": "gold", "decision": {"chain": ["locall", "algorithm"]}});
    assert_eq!(lines(&guard(&alone)), Vec::<String>::new());
}

#[test]
fn a_kind_or_version_that_there_is_not_is_told() {
    let found = lines("apiVersion: deploymentguard.dev/v1alpha1\nkind: DeploymentGaurd\nmetadata: {name: a}\n");
    assert!(found[0].ends_with("did you mean DeploymentGuard?"), "{found:?}");
    let found = lines("apiVersion: deploymentguard.dev/v1\nkind: DeploymentGuard\nmetadata: {name: a}\n");
    assert_eq!(found, ["a.yaml:1 apiVersion: is \"deploymentguard.dev/v1\": write deploymentguard.dev/v1alpha1"]);
}

#[test]
fn a_list_is_looked_into_and_text_of_a_file_cannot_move_the_cursor() {
    let item: Value =
        serde_json::from_str(&guard(&json!({"targetRef": {"name": "api"}, "mode": "\u{1b}[2J\u{202e}x"}))).unwrap();
    let found = lines(&json!({"apiVersion": "v1", "kind": "List", "items": [item]}).to_string());
    assert_eq!(found.len(), 1);
    assert!(!found[0].contains('\u{1b}') && !found[0].contains('\u{202e}'), "{found:?}");
}

#[test]
fn every_manifest_that_people_are_shown_is_fine() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut shown: Vec<(String, String)> = Vec::new();
    for name in ["manifests/examples/guard.yaml", "manifests/examples/class.yaml"] {
        shown.push((name.to_owned(), std::fs::read_to_string(format!("{root}/{name}")).unwrap()));
    }
    for name in ["README", "docs/getting-started", "docs/guard", "docs/class", "docs/llm"] {
        let page = std::fs::read_to_string(format!("{root}/{name}.md")).unwrap();
        let blocks = page.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
        let whole = blocks.filter(|block| block.contains("apiVersion: deploymentguard.dev"));
        shown.extend(whole.map(|block| (format!("{name}.md"), block.to_owned())));
    }
    for (name, text) in shown {
        let report = lint(&[(name.clone(), text)]);
        assert!(report.seen > 0 && report.found.is_empty(), "{name}: {:?}", report.found);
    }
}
