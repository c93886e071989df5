//! `deployment-guard llm-check`, as a person runs it.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::server::{Reply, Server, fixture};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    // No cluster, whatever this machine has.
    command.env_clear().env("KUBECONFIG", "/nonexistent").env("HOME", "/nonexistent").arg("llm-check").args(arguments);
    command.output().unwrap()
}

fn file(providers: &Value) -> tempfile::NamedTempFile {
    let class = json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": "default"},
        "spec": {"prometheus": {"url": "http://prometheus"}, "providers": providers},
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("kind: Namespace\nmetadata: {{name: default}}\n---\n{class}\n")).unwrap();
    file
}

async fn check(providers: Value) -> (Option<i32>, String) {
    let file = file(&providers);
    let ran = tokio::task::spawn_blocking(move || run(&["--file", file.path().to_str().unwrap()])).await.unwrap();
    let text = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (ran.status.code(), text)
}

fn at(name: &str, url: &str) -> Value {
    json!({"name": name, "kind": "openai", "model": "m", "baseURL": url, "timeout": "5s"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_works_is_told_with_its_rung_and_its_cost() {
    let modern = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let plain = Server::start(|seen| match &seen.body["response_format"] {
        Value::Null => Reply::new(200, fixture("openai/success_together_eos")),
        _ => Reply::new(400, fixture("openai/error_400_response_format")),
    })
    .await;
    let (code, text) = check(json!([at("modern", &modern.url), at("plain", &plain.url)])).await;
    assert_eq!(code, Some(0), "{text}");
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
    for word in ["openai", "works", "json_schema", "1200+95", " ms"] {
        assert!(row("modern").contains(word), "{word}: {text}");
    }
    assert!(row("plain").contains("works") && row("plain").contains(" text "), "{text}");
    assert_eq!((modern.seen().len(), plain.seen().len()), (1, 3), "asked once, and down the ladder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_told_with_what_to_do() {
    let locked = Server::always(Reply::new(401, fixture("openai/error_401"))).await;
    let other = Server::always(Reply::new(404, fixture("openai/error_404_model"))).await;
    let good = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let secret =
        json!({"name": "far", "kind": "anthropic", "model": "m", "apiKeySecretRef": {"name": "keys", "key": "a"}});
    let providers = json!([at("good", &good.url), at("locked", &locked.url), at("other", &other.url), secret]);
    let (code, text) = check(providers).await;
    assert_eq!(code, Some(1), "{text}");
    for words in [
        "unauthorized",
        "Put the key into a Secret and name it in apiKeySecretRef.",
        "unknown_model",
        "The model `gpt-9` does not exist",
        "spec.providers[3].apiKeySecretRef names a Secret, and there is no cluster to read it from",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(locked.seen().len(), 1, "a refused key is not tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_cannot_be_used_ends_with_2() {
    for (providers, words) in [
        (json!([]), "no spec.providers"),
        (json!([at("a", "http://169.254.169.254/v1")]), "spec.providers[0].baseURL is never asked"),
        (json!([at("a", "http://api.example.com/v1")]), "allowPlainHTTP"),
        (json!([{"name": "a", "kind": "cohere", "model": "m"}]), "unknown variant `cohere`"),
    ] {
        let (code, text) = check(providers).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(words), "{words}: {text}");
    }
    let missing = run(&["--file", "/nonexistent.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    let nowhere = run(&["default"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", String::from_utf8_lossy(&nowhere.stderr));
}

/// A kubeconfig for an API server without TLS.
fn kubeconfig(server: &str) -> tempfile::NamedTempFile {
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}], users: [{{name: u, user: {{}}}}]}}"
    );
    std::fs::write(config.path(), text).unwrap();
    config
}

async fn check_in_cluster(server: &str, class: &'static str) -> (Option<i32>, String) {
    let config = kubeconfig(server);
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
        command.env_clear().env("KUBECONFIG", config.path()).args(["llm-check", class, "--namespace", "dg-system"]);
        command.output().unwrap()
    };
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    (ran.status.code(), [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_and_key_come_from_the_cluster() {
    let model = Server::start(|seen| match seen.headers.get("authorization").map(String::as_str) {
        Some("Bearer k3y") => Reply::new(200, fixture("openai/success")),
        _ => Reply::new(401, fixture("openai/error_401")),
    })
    .await;
    let mut provider = at("far", &model.url);
    provider["apiKeySecretRef"] = json!({"name": "keys", "key": "far"});
    let class = json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": "default"},
        "spec": {"prometheus": {"url": "http://prometheus"}, "providers": [provider]},
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "dg-system"},
        "data": {"far": "azN5Cg=="},
    });
    let api = Server::start(move |seen| match seen.uri.as_str() {
        "/apis/deploymentguard.dev/v1alpha1/guardclasses/default" => Reply::new(200, class.to_string()),
        "/api/v1/namespaces/dg-system/secrets/keys" => Reply::new(200, secret.to_string()),
        _ => Reply::new(
            404,
            r#"{"kind": "Status", "status": "Failure", "message": "no", "reason": "NotFound", "code": 404}"#,
        ),
    })
    .await;
    let (code, text) = check_in_cluster(&api.url, "default").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("k3y"), "{text}");
    let (code, text) = check_in_cluster(&api.url, "other").await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no GuardClass other"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_does_not_answer_ends_with_4() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = check_in_cluster(&format!("http://{closed}"), "default").await;
    assert_eq!(code, Some(4), "{text}");
}
