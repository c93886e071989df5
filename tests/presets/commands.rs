//! `promql` and `init` as a person runs them, against an API server in the process and the real Prometheus.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

/// A cluster in whose every namespace a Deployment `api` rolls out from revision `old` to revision `bad`.
fn object(path: &str) -> (u16, Value) {
    let parts: Vec<&str> = path.split('?').next().unwrap_or_default().trim_matches('/').split('/').collect();
    let list = |items: Value| (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
    match parts[..] {
        ["apis", "deploymentguard.dev", "v1alpha1", "namespaces", namespace, "deploymentguards", "api"] => {
            (200, guard(namespace))
        }
        ["apis", "deploymentguard.dev", "v1alpha1", "guardclasses"] => list(json!([class()])),
        ["apis", "apps", "v1", "namespaces", namespace, "deployments", "api"] => (200, deployment(namespace)),
        ["apis", "apps", "v1", "namespaces", namespace, "replicasets"] => {
            list(json!([replica_set(namespace, "old", "1"), replica_set(namespace, "bad", "2")]))
        }
        ["api", "v1", "namespaces", namespace, "pods"] => {
            let pods = ["old-1", "old-2", "bad-1", "bad-2"].map(|name| pod(namespace, name));
            list(json!(pods))
        }
        _ => {
            let kind = parts.iter().rev().nth(1).copied().unwrap_or_default();
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found",
                "reason": "NotFound", "code": 404, "details": {"kind": kind, "name": "x"}});
            (404, status)
        }
    }
}

fn guard(namespace: &str) -> Value {
    let mut spec = json!({"targetRef": {"name": "api"}});
    if namespace == "nginx-ingress" {
        spec["signals"] = json!([{"name": "ingress", "preset": "nginx-ingress", "service": "bad"}]);
    }
    json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
        "metadata": {"name": "api", "namespace": namespace, "uid": "g1"}, "spec": spec})
}

fn class() -> Value {
    json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
        "metadata": {"name": "default", "annotations": {"deploymentguard.dev/is-default-class": "true"}},
        "spec": {"prometheus": {"url": "http://127.0.0.1:1"}}})
}

fn template(image: &str) -> Value {
    let resources = json!({"limits": {"memory": "256Mi"}});
    json!({"metadata": {"labels": {"app": "api"}},
        "spec": {"containers": [{"name": "app", "image": image, "resources": resources}]}})
}

fn deployment(namespace: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "api", "namespace": namespace, "uid": "d1", "generation": 2},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "api"}}, "template": template("api:bad")},
        "status": {"observedGeneration": 2, "replicas": 4}})
}

fn replica_set(namespace: &str, hash: &str, number: &str) -> Value {
    let mut template = template(&format!("api:{hash}"));
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("api-{hash}"), "namespace": namespace, "uid": format!("rs-{hash}"),
            "labels": {"app": "api", "pod-template-hash": hash},
            "annotations": {"deployment.kubernetes.io/revision": number},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "d1",
                "controller": true}]},
        "spec": {"replicas": 2, "template": template}})
}

fn pod(namespace: &str, name: &str) -> Value {
    let hash = name.split('-').next().unwrap_or_default();
    let resources = json!({"limits": {"memory": "256Mi"}});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("api-{name}"), "namespace": namespace, "uid": format!("pod-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "api", "pod-template-hash": hash},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("api-{hash}"),
                "uid": format!("rs-{hash}"), "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": format!("api:{hash}"), "resources": resources}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]}})
}

/// The address of an API server that answers so.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(&stream));
        }
    });
    format!("http://{address}")
}

fn answer(stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    let (code, body) = object(first.split(' ').nth(1).unwrap_or_default());
    let body = body.to_string();
    let head = format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let _ = write!(&*stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
}

/// Exit code, standard output, standard error.
type Ran = (Option<i32>, String, String);

fn run(server: &str, arguments: &[&str], input: &str) -> Ran {
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}], users: [{{name: u, user: {{}}}}]}}"
    );
    std::fs::write(config.path(), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    command.env_clear().env("KUBECONFIG", config.path()).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ran = child.wait_with_output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
}

/// The percentage in the first line about a revision.
fn first_share(shown: &str, revision: &str) -> Option<f64> {
    let line = shown.lines().find(|line| line.trim_start().starts_with(revision) && line.ends_with(" %"))?;
    line.rsplit(", ").next()?.strip_suffix(" %")?.parse().ok()
}

/// What is wrong with the two commands, asked while Prometheus knows every fixture.
pub fn wrong(prometheus: &str) -> Vec<String> {
    let server = serve();
    let ask = |what: &[&str], namespace: &str| {
        run(&server, &[what, &["-n", namespace, "--prometheus", prometheus]].concat(), "")
    };
    let mut wrong = Vec::new();
    let shown = ask(&["promql", "api"], "micrometer");
    // Which requests lie between two samples is chance.
    for (revision, share) in [("bad", 25.0), ("old", 1.5)] {
        let found = first_share(&shown.1, revision);
        if found.is_none_or(|found| (found - share).abs() > 0.04 * share) {
            wrong.push(format!("promql: {found:?} % of {revision} instead of {share} %:\n{}", shown.1));
        }
    }
    let mut expect = |what: &str, ran: &Ran, code: i32, parts: &[&str]| {
        let all = format!("{}{}", ran.1, ran.2);
        let missing: Vec<&&str> = parts.iter().filter(|part| !all.contains(**part)).collect();
        if ran.0 != Some(code) || !missing.is_empty() {
            wrong.push(format!("{what}: exit code {:?}, without {missing:?}:\n{all}", ran.0));
        }
    };
    let asked =
        r#"http_server_requests_seconds_count{namespace="micrometer",pod=~"api-bad-1|api-bad-2|api-old-1|api-old-2""#;
    let found = "micrometer: Auto found http_server_requests_seconds_count for these pods";
    expect("promql", &shown, 0, &["http/errors\n", found, asked, "95th percentile", "cpu/throttling"]);
    let shown = ask(&["promql", "api"], "nginx-ingress");
    let from = "nginx-ingress of bad: what the proxy counts for all pods of the Service together";
    let asked = "sum by (instance) (nginx_ingress_controller_requests{";
    expect("promql of a Service", &shown, 0, &["ingress/errors\n", from, asked, "all pods", " %", "95th percentile"]);
    let shown = ask(&["promql", "api"], "container-memory");
    let missing = "missing      none of the known request counters exists for these pods";
    expect("promql of nothing that counts", &shown, 3, &[missing, "% of the limit"]);
    expect("promql of no guard", &ask(&["promql", "other"], "go"), 2, &["there is no guard other in namespace go"]);
    let nobody = run(&server, &["promql", "api", "-n", "go"], "");
    expect("promql without Prometheus", &nobody, 4, &["forward a port to it and name that with --prometheus URL"]);

    for (namespace, line) in [
        ("micrometer", "- {name: http, preset: micrometer}"),
        ("istio", "- {name: http, preset: istio}"),
        ("grpc", "- {name: grpc, preset: grpc}"),
        ("container-memory", "# Nothing that a preset knows counts the requests of these pods"),
    ] {
        let made = ask(&["init", "deployment/api"], namespace);
        let name = format!("namespace: {namespace}");
        expect("init", &made, 0, &[line, &name, "mode: Observe", "It takes the default class, default."]);
        let linted = run(&server, &["lint", "-f", "-"], &made.1);
        expect("lint of what init wrote", &linted, 0, &[]);
        if !linted.1.is_empty() {
            wrong_lint(&mut expect, &linted);
        }
    }
    let made = ask(&["init", "deploy/api"], "micrometer");
    expect("init says why", &made, 0, &["failed in the last 5 minutes: ", "minReadySeconds: 60"]);
    expect(
        "init of nothing",
        &ask(&["init", "deployment/no"], "go"),
        2,
        &["there is no Deployment no in namespace go"],
    );
    expect("init of a job", &ask(&["init", "job/api"], "go"), 2, &["job cannot be guarded"]);
    wrong
}

/// Findings where there must be none.
fn wrong_lint(expect: &mut impl FnMut(&str, &Ran, i32, &[&str]), linted: &Ran) {
    expect("lint of what init wrote has findings", linted, -1, &[]);
}
