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
    let secret = json!({"name": "far", "kind": "anthropic", "model": "m", "apiKeySecretRef": {"name": "keys", "key": "a"}});
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

#[test]
fn an_api_server_that_does_not_answer_ends_with_4() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: \"http://{closed}\"}}}}], users: [{{name: u, user: {{}}}}]}}"
    );
    std::fs::write(config.path(), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    let ran = command.env_clear().env("KUBECONFIG", config.path()).args(["llm-check", "default"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(4), "{}", String::from_utf8_lossy(&ran.stderr));
}
