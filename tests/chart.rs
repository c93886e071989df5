//! The chart as Helm 3 and Helm 4 render it: what is in it, what it refuses, and that its alerts and queries mean something.
//!
//! Needs the programs that `make chart-tools` builds. `GOLDEN=write cargo test --test chart` writes `tests/chart/golden`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use deployment_guard::telemetry::metrics::Metrics;
use regex::Regex;
use serde_json::{Value, json};
use testbed::build::{Extra, built};

const CHART: &str = "charts/deployment-guard";
const SETS: [&str; 4] = ["default", "everything", "namespaced", "least"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn run(extra: Extra, arguments: &[&str]) -> Output {
    let program = built(extra).unwrap_or_else(|| panic!("{extra:?} is not built: run make chart-tools"));
    // Nothing of the person who runs the tests is read or written.
    let home = tempfile::tempdir().unwrap();
    Command::new(program).args(arguments).current_dir(root()).env("HOME", home.path()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const TEMPLATE: [&str; 7] = ["template", "dg", CHART, "-n", "guard-system", "--kube-version", "1.36.0"];

fn render_by(extra: Extra, more: &[&str]) -> String {
    let output = run(extra, &[&TEMPLATE, more].concat());
    assert!(output.status.success(), "{more:?}: {}", said(&output));
    let lines = text(&output);
    let lines: Vec<&str> = lines.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.join("\n") + "\n"
}

fn render(more: &[&str]) -> String {
    render_by(Extra::Helm, more)
}

fn values(set: &str) -> String {
    format!("tests/chart/values/{set}.yaml")
}

fn objects(rendered: &str) -> Vec<Value> {
    let documents = rendered.split("\n---\n").map(|text| text.trim_start_matches("---\n"));
    documents.filter(|text| text.lines().any(|line| !line.starts_with('#'))).map(yaml).collect()
}

fn set(name: &str) -> Vec<Value> {
    objects(&render(&["-f", &values(name)]))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn both_helms_find_nothing_wrong_with_the_chart() {
    for extra in [Extra::Helm3, Extra::Helm] {
        for name in SETS {
            let output = run(extra, &["lint", "--strict", CHART, "-f", &values(name)]);
            assert!(output.status.success(), "{extra:?} {name}: {}{}", text(&output), said(&output));
        }
    }
}

#[test]
fn what_is_rendered_is_what_was_agreed_on_and_the_same_with_both_helms() {
    for name in SETS {
        let rendered = render(&["-f", &values(name)]);
        let golden = root().join(format!("tests/chart/golden/{name}.yaml"));
        if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
            fs::write(&golden, &rendered).unwrap();
        }
        let agreed = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            rendered == agreed,
            "{name} is rendered otherwise: look at GOLDEN=write cargo test --test chart; git diff"
        );
        let sorted = |mut objects: Vec<Value>| {
            objects.sort_by_key(ToString::to_string);
            objects
        };
        let third = objects(&render_by(Extra::Helm3, &["-f", &values(name)]));
        assert_eq!(sorted(third), sorted(objects(&rendered)), "{name}");
    }
}

#[test]
fn the_definitions_are_those_of_the_types_and_kept_unless_somebody_says_otherwise() {
    let committed: Vec<(String, String)> = fs::read_dir(root().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    for (file, text) in &committed {
        assert!(
            *text == read(&format!("{CHART}/files/crds/{file}")),
            "{file} in the chart is out of date: run make crds"
        );
    }
    for (keep, wanted) in [("true", json!("keep")), ("false", Value::Null)] {
        let all = objects(&render(&["--set", &format!("crds.keep={keep}")]));
        let mut found = 0;
        for definition in of_kind(&all, "CustomResourceDefinition") {
            let mut definition = definition.clone();
            let policy = definition["metadata"]["annotations"]["helm.sh/resource-policy"].take();
            assert_eq!(policy, wanted);
            definition["metadata"].as_object_mut().unwrap().remove("annotations");
            assert!(committed.iter().any(|(_, text)| yaml(text) == definition), "{}", definition["metadata"]);
            found += 1;
        }
        assert_eq!(found, committed.len());
    }
    assert!(of_kind(&set("default"), "CustomResourceDefinition").is_empty());
}

#[test]
fn wrong_values_are_refused_with_the_name_of_the_field() {
    let digest = "image.digest=latest";
    let both = "metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true";
    let cases: [(&str, &[&str]); 26] = [
        ("replica=2", &["replica"]),
        ("image.tagg=x", &["/image", "tagg"]),
        ("metrics.podMonitor.enable=true", &["/metrics/podMonitor", "enable"]),
        ("rbac.gitOps.flux=true", &["/rbac/gitOps", "flux"]),
        ("guardClass.spec.promethius.url=x", &["/guardClass/spec", "promethius"]),
        ("guardClass.spec.prometheus.adress=x", &["/guardClass/spec/prometheus", "adress"]),
        ("replicas=two", &["/replicas", "integer"]),
        ("rbac.readLogs=maybe", &["/rbac/readLogs", "boolean"]),
        ("watchNamespaces=shop", &["/watchNamespaces", "array"]),
        ("watchNamespaces={Shop}", &["/watchNamespaces/0", "pattern"]),
        (digest, &["/image/digest", "pattern"]),
        ("image.pullPolicy=Sometimes", &["/image/pullPolicy", "IfNotPresent"]),
        ("log.format=xml", &["/log/format", "pretty"]),
        ("resumeSuspended.timeoutSeconds=1", &["/resumeSuspended/timeoutSeconds", "30"]),
        ("guardClass.spec.maxMode=Observe", &["guardClass.spec.prometheus.url"]),
        ("serviceAccount.create=false", &["serviceAccount.name"]),
        (both, &["metrics.podMonitor.enabled", "metrics.serviceMonitor.enabled"]),
        // A budget that lets nobody go keeps every node from being drained.
        ("podDisruptionBudget.maxUnavailable=0", &["/podDisruptionBudget/maxUnavailable", "1"]),
        ("podDisruptionBudget.maxUnavailable=0%", &["/podDisruptionBudget/maxUnavailable", "pattern"]),
        ("podDisruptionBudget.maxUnavailable=some", &["/podDisruptionBudget/maxUnavailable", "pattern"]),
        // The operator's pods would not be those that its Deployment selects.
        (r"commonLabels.app\.kubernetes\.io/name=guard", &["commonLabels", "app.kubernetes.io/name"]),
        (r"podLabels.app\.kubernetes\.io/instance=guard", &["podLabels", "app.kubernetes.io/instance"]),
        ("commonLabels.team=a,metrics.podMonitor.labels.team=b", &["metrics.podMonitor.labels", "team"]),
        // Helm 4 applies on the server, which takes no name twice.
        ("extraEnv[0].name=RUST_LOG,extraEnv[0].value=debug", &["extraEnv", "RUST_LOG", "log.level"]),
        ("rbac=null", &["rbac"]),
        ("guardClass=null", &["guardClass"]),
    ];
    for (wrong, words) in cases {
        for extra in [Extra::Helm3, Extra::Helm] {
            let output = run(extra, &[&TEMPLATE[..], &["--set", wrong]].concat());
            assert!(!output.status.success(), "{wrong} was let through by {extra:?}");
            let said = said(&output);
            assert!(words.iter().all(|word| said.contains(word)), "{extra:?}, {wrong}: {said}");
        }
    }
}

#[test]
fn timings_that_are_taken_away_are_those_of_kubernetes() {
    for extra in [Extra::Helm3, Extra::Helm] {
        let rendered = objects(&render_by(extra, &["--set", "livenessProbe=null,commonLabels=null,podLabels=null"]));
        let container = &of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["livenessProbe"], json!({"httpGet": {"path": "/healthz", "port": "http"}}));
    }
}

#[test]
fn whoever_may_write_guards_may_read_them() {
    let all = set("default");
    let of = |name: &str| rights(role(&all, "ClusterRole", &format!("dg-deployment-guard-{name}"), None));
    let (view, edit) = (of("view"), of("edit"));
    assert!(view.is_subset(&edit), "{:?}", view.difference(&edit));
}

/// What of a guard that acts may be changed without the right to patch its target, as docs/security.md has it.
const HARMLESS: [&str; 2] = ["logs", "probes"];

#[test]
fn whatever_makes_a_guard_reach_further_needs_the_right_to_patch_its_target() {
    let all = set("default");
    let policies = of_kind(&all, "ValidatingAdmissionPolicy");
    let mode = policies.iter().find(|policy| policy["metadata"]["name"] == "dg-deployment-guard-mode").unwrap();
    let variables = mode["spec"]["variables"].as_array().unwrap();
    let further = variables.iter().find(|one| one["name"] == "reachesFurther").unwrap()["expression"].as_str().unwrap();
    let guard = yaml(&read("crds/deploymentguards.deploymentguard.dev.yaml"));
    let spec = &guard["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let fields: Vec<&String> = spec.as_object().unwrap().keys().collect();
    assert!(fields.len() > 8 && HARMLESS.iter().all(|name| spec.get(*name).is_some()), "{fields:?}");
    let compared = |name: &str| {
        further.contains(&format!("oldObject.spec.{name}")) || further.contains(&format!("oldObject.spec[?'{name}']"))
    };
    let free: Vec<_> =
        fields.into_iter().filter(|name| !compared(name) && !HARMLESS.contains(&name.as_str())).collect();
    assert!(free.is_empty(), "anybody who may write guards may change {free:?} of a guard that acts");
}

/// Every value with its default, as the table of the documentation has them.
fn leaves(prefix: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                leaves(&path, value, found);
            }
        }
        _ => drop(found.insert(prefix.to_owned(), value.to_string())),
    }
}

/// What `values.yaml` itself says of maps that Kubernetes defines, in one row.
const WHOLE: [&str; 6] = [
    "resources",
    "livenessProbe",
    "readinessProbe",
    "podSecurityContext",
    "securityContext",
    "metrics.dashboard.labels",
];

#[test]
fn the_table_of_the_documentation_has_every_value_with_its_default() {
    let mut found = BTreeMap::new();
    leaves("", &yaml(&read(&format!("{CHART}/values.yaml"))), &mut found);
    let whole = |path: &String| WHOLE.iter().any(|name| path.starts_with(&format!("{name}.")));
    let mut wanted: BTreeMap<_, _> = found.into_iter().filter(|(path, _)| !whole(path)).collect();
    wanted.extend(WHOLE.map(|name| (name.to_owned(), "see values.yaml".to_owned())));
    let page = read("docs/install.md");
    let section = page.split_once("\n## Values\n").expect("no section of values").1.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>());
    let told: BTreeMap<_, _> = cells.map(|cells| (cells[1].clone(), cells[2].clone())).collect();
    assert_eq!(told, wanted);
}

/// Objects of the schema that name their fields.
fn closed(path: &str, schema: &Value, open: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        if let Some(items) = schema.get("items") {
            closed(&format!("{path}[]"), items, open);
        }
        return;
    };
    if schema["additionalProperties"] != json!(false) {
        open.push(path.to_owned());
    }
    for (name, schema) in properties {
        closed(&format!("{path}.{name}"), schema, open);
    }
}

#[test]
fn the_schema_knows_every_value_and_lets_no_other_name_through() {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let mut open = Vec::new();
    closed("", &schema, &mut open);
    assert!(open.is_empty(), "{open:?}");
    let mut found = BTreeMap::new();
    leaves("", &yaml(&read(&format!("{CHART}/values.yaml"))), &mut found);
    for path in found.keys() {
        let mut at = &schema;
        for part in path.split('.') {
            if at["properties"].is_null() {
                break;
            }
            at = &at["properties"][part];
            assert!(!at.is_null(), "{path} is not in the schema");
        }
    }
    let names = |schema: &Value| schema["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let class = yaml(&read("crds/guardclasses.deploymentguard.dev.yaml"));
    let spec = &class["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let ours = &schema["properties"]["guardClass"]["properties"]["spec"];
    assert_eq!(names(ours), names(spec));
    assert_eq!(names(&ours["properties"]["prometheus"]), names(&spec["properties"]["prometheus"]));
}

type Rights = BTreeSet<(String, String, String)>;

fn rights(role: &Value) -> Rights {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = Rights::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                all.extend(words(rule, "verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    all
}

fn role<'a>(objects: &'a [Value], kind: &str, name: &str, namespace: Option<&str>) -> &'a Value {
    let fits = |role: &&Value| role["metadata"]["name"] == name && role["metadata"]["namespace"].as_str() == namespace;
    of_kind(objects, kind).into_iter().find(fits).unwrap_or_else(|| panic!("no {kind} {name} in {namespace:?}"))
}

#[test]
fn each_optional_right_goes_with_its_value_and_nothing_else_does() {
    let name = "dg-deployment-guard";
    let granted = |more: &[&str]| rights(role(&objects(&render(more)), "ClusterRole", name, None));
    let whole = granted(&[]);
    let cases: [(&str, &str, &[&str]); 12] = [
        ("readLogs", "pods/log", &["get"]),
        ("readNodes", "nodes", &["list", "watch"]),
        ("readEvents", "events", &["list"]),
        ("writeEvents", "events", &["create", "patch"]),
        ("readServices", "endpointslices services", &["list", "get"]),
        ("writeConfigMaps", "configmaps", &["get", "create", "patch"]),
        ("keepTemplates", "controllerrevisions", &["get", "create", "delete"]),
        ("deletePods", "pods", &["delete"]),
        ("readSecrets", "secrets", &["get"]),
        ("gitOps.fluxKustomizations", "kustomizations", &["get"]),
        ("gitOps.fluxHelmReleases", "helmreleases", &["get", "list", "patch"]),
        ("gitOps.argoCdApplications", "applications", &["get", "list", "patch"]),
    ];
    let defaults = yaml(&read(&format!("{CHART}/values.yaml")));
    for (value, resources, verbs) in cases {
        let is_on = defaults.pointer(&format!("/rbac/{}", value.replace('.', "/"))).unwrap() == true;
        let other = granted(&["--set", &format!("rbac.{value}={}", !is_on)]);
        let differs: Vec<_> = whole.symmetric_difference(&other).collect();
        let (more, fewer) = if is_on { (&whole, &other) } else { (&other, &whole) };
        assert!(fewer.is_subset(more) && !differs.is_empty(), "{value}: {differs:?}");
        for (_, resource, verb) in differs {
            assert!(
                resources.split(' ').any(|one| one == resource) && verbs.contains(&verb.as_str()),
                "{value}: {verb} {resource}"
            );
        }
    }
    let switches = defaults["rbac"].as_object().unwrap().iter().filter(|(_, value)| value.is_boolean()).count();
    let of_git_ops = defaults["rbac"]["gitOps"].as_object().unwrap().len();
    assert_eq!(switches - 1 + of_git_ops, cases.len(), "a switch besides `create` is not tested");
}

#[test]
fn with_named_namespaces_rights_on_workloads_lie_in_roles_there_and_nowhere_else() {
    let all = set("namespaced");
    let cluster = rights(role(&all, "ClusterRole", "dg-deployment-guard", None));
    let resources: BTreeSet<&str> = cluster.iter().map(|(_, resource, _)| resource.as_str()).collect();
    assert_eq!(resources, BTreeSet::from(["guardclasses", "guardclasses/status", "selfsubjectaccessreviews"]));
    let everywhere = rights(role(&set("default"), "ClusterRole", "dg-deployment-guard", None));
    let nodes = |right: &&(String, String, String)| right.1 == "nodes";
    for namespace in ["shop", "api"] {
        let there = rights(role(&all, "Role", "dg-deployment-guard-guards", Some(namespace)));
        let together: Rights = there.union(&cluster).cloned().collect();
        let missing: Vec<_> = everywhere.difference(&together).filter(|right| !nodes(right)).collect();
        assert!(missing.is_empty() && together.is_subset(&everywhere), "{missing:?}");
        let bound = role(&all, "RoleBinding", "dg-deployment-guard-guards", Some(namespace));
        assert_eq!(bound["subjects"][0]["namespace"], "guard-system");
    }
    let told = |object: &Value| {
        let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
        env.into_iter().find(|one| one["name"] == "DEPLOYMENT_GUARD_NAMESPACES").unwrap()["value"].clone()
    };
    for kind in ["Deployment", "Job"] {
        assert_eq!(told(of_kind(&all, kind)[0]), "shop,api", "{kind}");
    }
}

#[test]
fn every_pod_is_one_that_a_restricted_namespace_takes() {
    let mut pods = 0;
    for name in SETS {
        for object in set(name).iter().filter(|object| !object["spec"]["template"].is_null()) {
            let pod = &object["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            for container in pod["containers"].as_array().unwrap() {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{name}");
                pods += 1;
            }
            let kinds = pod["volumes"].as_array().into_iter().flatten().map(|volume| volume["hostPath"].is_null());
            assert!(kinds.into_iter().all(|fine| fine) && pod["hostNetwork"].is_null(), "{name}");
        }
    }
    assert_eq!(pods, 2 * SETS.len() - 1, "an operator each, and a hook for all but one");
}

#[test]
fn the_policies_hold_the_account_that_the_operator_runs_as() {
    let more = ["--set", "serviceAccount.name=robot,crds.install=false"];
    let all = objects(&render(&more));
    let user = "request.userInfo.username == 'system:serviceaccount:guard-system:robot'";
    let policies = of_kind(&all, "ValidatingAdmissionPolicy");
    let held = policies.iter().filter(|policy| policy["spec"]["matchConditions"][0]["expression"] == user).count();
    assert_eq!((policies.len(), held), (5, 3));
    for kind in ["Deployment", "Job"] {
        assert_eq!(of_kind(&all, kind)[0]["spec"]["template"]["spec"]["serviceAccountName"], "robot", "{kind}");
    }
    let bindings = of_kind(&all, "ValidatingAdmissionPolicyBinding");
    let names: BTreeSet<_> = policies.iter().map(|policy| policy["metadata"]["name"].to_string()).collect();
    assert_eq!(bindings.iter().map(|one| one["spec"]["policyName"].to_string()).collect::<BTreeSet<_>>(), names);
}

#[test]
fn before_the_release_goes_a_job_gives_back_what_is_suspended() {
    let all = set("default");
    let job = of_kind(&all, "Job")[0];
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let command = container["args"][0].as_str().unwrap();
    let binary = env!("CARGO_BIN_EXE_deployment-guard");
    let known = Command::new(binary).args([command, "--help"]).output().unwrap();
    assert!(known.status.success(), "the binary has no {command}");
    // The operator's own budget and spread must not count it.
    let selector = &of_kind(&all, "Deployment")[0]["spec"]["selector"]["matchLabels"];
    assert_ne!(
        job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"],
        selector["app.kubernetes.io/name"]
    );
    assert!(of_kind(&set("least"), "Job").is_empty());
    for wrong in ["Shop", "shop,", "a b"] {
        let refused = Command::new(binary).args([command, "--namespaces", wrong]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{wrong}: {}", said(&refused));
    }
}

#[test]
fn the_class_is_a_hook_until_its_definition_is_there_and_stays_behind() {
    let class = |extra, more: &[&str]| {
        let set = ["--set", "guardClass.spec.prometheus.url=http://prometheus:9090"];
        let all = objects(&render_by(extra, &[&set, more].concat()));
        of_kind(&all, "GuardClass")[0].clone()
    };
    let defined = ["--api-versions", "deploymentguard.dev/v1alpha1/GuardClass"];
    let hook = |class: &Value| class["metadata"]["annotations"]["helm.sh/hook"].is_string();
    assert!(hook(&class(Extra::Helm, &[])) && !hook(&class(Extra::Helm, &defined)));
    // Helm 3 would take over what the hook made, but not change it.
    assert!(hook(&class(Extra::Helm3, &[])) && hook(&class(Extra::Helm3, &defined)));
    let class = class(Extra::Helm, &defined);
    let annotations = &class["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/resource-policy"], "keep");
    assert_eq!(annotations["deploymentguard.dev/is-default-class"], "true");
    let parsed: deployment_guard::api::GuardClass = serde_json::from_value(class).unwrap();
    assert_eq!(parsed.spec.prometheus.url, "http://prometheus:9090");
    assert!(of_kind(&set("default"), "GuardClass").is_empty(), "a class without an address");
}

#[test]
fn the_chart_has_the_version_of_the_operator() {
    let chart = yaml(&read(&format!("{CHART}/Chart.yaml")));
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(env!("CARGO_PKG_VERSION")), &chart["version"]));
}

#[test]
fn the_manifests_are_those_of_the_chart() {
    let fresh = tempfile::tempdir().unwrap();
    let helm = built(Extra::Helm).expect("run make chart-tools");
    let done = Command::new(root().join("manifests/render.sh")).arg(helm).arg(fresh.path()).status().unwrap();
    assert!(done.success());
    for file in ["install.yaml", "admission-policy.yaml", "examples/roles.yaml"] {
        let rendered = fs::read_to_string(fresh.path().join(file)).unwrap();
        assert!(rendered == read(&format!("manifests/{file}")), "manifests/{file} is out of date: run make manifests");
    }
}

#[test]
fn the_alerts_ring_when_they_should_and_only_then() {
    let output = run(Extra::Promtool, &["test", "rules", "tests/chart/alerts.yaml"]);
    assert!(output.status.success(), "{}{}", text(&output), said(&output));
    let alerts = yaml(&read(&format!("{CHART}/files/alerts.yaml")));
    let (tests, page) = (read("tests/chart/alerts.yaml"), read("docs/install.md"));
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        let rings = format!("alertname: {name}\n        exp_alerts:\n          - ");
        let silent = format!("alertname: {name}, exp_alerts: []");
        assert!(tests.contains(&rings) && tests.contains(&silent), "{name} is not tested both ways");
        let row = format!("| `{name}` | {} |", rule["labels"]["severity"].as_str().unwrap());
        assert!(page.contains(&row), "docs/install.md has no row that begins with {row}");
    }
    assert_eq!(of_kind(&set("everything"), "PrometheusRule")[0]["spec"], alerts);
}

/// Every metric that the operator can have, with its labels.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::default();
    let second = Duration::from_secs(1);
    metrics.decided("ROLLBACK", "evidence", second);
    metrics.rolled_back("succeeded");
    metrics.undo_sent(second);
    metrics.reconciled("ok", second);
    metrics.reconcile_failed("api");
    metrics.queried("ok", second);
    metrics.llm_called("local", "answered", second, (1, 1));
    metrics.redacted("ip", 1);
    metrics.event("ok");
    metrics.set_leader(true);
    metrics.guard_state(None, Some("Judging"));
    metrics.evaluated(1.0, "shop", "api", Some(70), 1);
    let exposition = metrics.encode().unwrap();
    let line = Regex::new(r"^([a-z_]+)(?:\{(.*)\})? ").unwrap();
    let label = Regex::new(r#"([a-z_]+)=""#).unwrap();
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for captures in exposition.lines().filter(|text| !text.starts_with('#')).filter_map(|text| line.captures(text)) {
        let labels = captures.get(2).map_or("", |labels| labels.as_str());
        let labels = label.captures_iter(labels).map(|one| one[1].to_owned());
        found.entry(captures[1].to_owned()).or_default().extend(labels);
    }
    found
}

/// Labels that Prometheus adds when it scrapes; of two that are called the same, ours is `exported_…`.
const SCRAPED: [&str; 5] = ["namespace", "pod", "instance", "job", "exported_namespace"];

/// What a query names that the operator does not have.
fn unknown(query: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let without_text = Regex::new(r#""[^"]*""#).unwrap().replace_all(query, "\"\"").into_owned();
    let selector = Regex::new(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}").unwrap();
    let label = Regex::new(r"([a-zA-Z_]+)\s*(?:=~|!~|!=|=)").unwrap();
    let mut wrong = Vec::new();
    for captures in selector.captures_iter(&without_text) {
        let labels = known.get(&captures[1]).cloned().unwrap_or_default();
        let named = label.captures_iter(&captures[2]).map(|one| one[1].to_owned());
        wrong.extend(named.filter(|name| !labels.contains(name) && !SCRAPED.contains(&name.as_str())));
    }
    let bare = Regex::new(r"\{[^}]*\}|\[[^]]*\]").unwrap().replace_all(&without_text, " ").into_owned();
    let grouping = Regex::new(r"\b(by|without|on|ignoring)\s*\(([^)]*)\)").unwrap();
    let every_label: BTreeSet<&str> =
        known.values().flatten().map(String::as_str).chain(SCRAPED).chain(["le"]).collect();
    for captures in grouping.captures_iter(&bare) {
        let named = captures[2].split(',').map(|name| name.trim().to_owned());
        wrong.extend(named.filter(|name| !every_label.contains(name.as_str())));
    }
    let bare = grouping.replace_all(&bare, " ").into_owned();
    let word = Regex::new(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\b(\s*\()?").unwrap();
    let keywords = ["and", "or", "unless", "offset"];
    let names = word.captures_iter(&bare).filter(|one| one.get(2).is_none()).map(|one| one[1].to_owned());
    wrong.extend(names.filter(|name| !keywords.contains(&name.as_str()) && !known.contains_key(name)));
    wrong
}

#[test]
fn a_metric_or_label_that_does_not_exist_is_noticed() {
    let known = metrics();
    let wrong = |query: &str| unknown(query, &known);
    assert!(wrong("sum by (result) (increase(deployment_guard_rollbacks_total{result=~\"x\"}[5m])) > 0").is_empty());
    assert_eq!(wrong("sum(deployment_guard_rollbacks)"), ["deployment_guard_rollbacks"]);
    assert_eq!(wrong("deployment_guard_leader{result=\"x\"}"), ["result"]);
    assert_eq!(wrong("sum by (verdict) (deployment_guard_leader)"), ["verdict"]);
    assert_eq!(wrong("rate(up[5m] offset 5m) unless deployment_guard_leader"), ["up"]);
}

/// Queries of the dashboard, as Grafana sends them.
fn queries_of_the_dashboard() -> Vec<String> {
    let all = set("everything");
    let map = of_kind(&all, "ConfigMap")[0];
    let text = map["data"]["deployment-guard.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$namespace", ".*"))
        .collect();
    assert!(queries.len() >= panels.len() && !queries.iter().any(|query| query.contains('$')), "{queries:?}");
    queries
}

#[test]
fn every_query_of_dashboard_and_alerts_is_promql_over_metrics_that_exist() {
    let known = metrics();
    let alerts = yaml(&read(&format!("{CHART}/files/alerts.yaml")));
    let rules = alerts["groups"][0]["rules"].as_array().unwrap().clone();
    let dashboard = queries_of_the_dashboard();
    let all = rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).chain(dashboard.clone());
    let wrong: Vec<_> =
        all.map(|query| (unknown(&query, &known), query)).filter(|(wrong, _)| !wrong.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let rules: Vec<Value> = dashboard
        .iter()
        .enumerate()
        .map(|(index, expr)| json!({"record": format!("dashboard:{index}"), "expr": expr}))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yaml");
    fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let output = run(Extra::Promtool, &["check", "rules", &file.to_string_lossy()]);
    assert!(output.status.success(), "{}{}", text(&output), said(&output));
    // A metric that nobody looks at is one that nobody needs.
    let shown = dashboard.join("\n");
    let family =
        |name: &str| name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum").to_owned();
    let unseen: BTreeSet<_> = known.keys().map(|name| family(name)).filter(|name| !shown.contains(name)).collect();
    assert!(unseen.is_empty(), "not on the dashboard: {unseen:?}");
}

#[test]
fn every_metric_of_the_documentation_exists_and_the_other_way_round() {
    let page = read("docs/metrics.md");
    let told: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `deployment_guard_"))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    let family = |name: &String| {
        ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let known: BTreeSet<String> = metrics().keys().map(family).collect();
    assert_eq!(told, known.iter().map(String::as_str).collect());
}

#[test]
fn the_examples_name_files_that_exist() {
    let page = read("docs/install.md");
    let path = Regex::new(r"(?:manifests|charts)/[a-z./-]+[a-z]").unwrap();
    let missing: Vec<_> = path
        .find_iter(&page)
        .map(|found| found.as_str())
        .filter(|path| !Path::new(&root()).join(path).exists())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
