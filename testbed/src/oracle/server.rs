//! The double as a server: chat completions, what it was asked, and a switch. Input: HTTP. Output: HTTP. Used by the
//! program in its image and, on loopback, by benches.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};

use super::behaviour::{Answer, Behaviour, answer, prompt};

/// Prompts that are kept.
const KEPT: usize = 32;
/// Characters of each.
const LONGEST: usize = 32 * 1024;

/// What it was asked, and what it is told to be.
#[derive(Debug, Default)]
struct Asked {
    requests: u64,
    by_model: BTreeMap<String, u64>,
    prompts: VecDeque<Value>,
    told: Option<Behaviour>,
}

/// The double; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Oracle(Arc<Mutex<Asked>>);

impl Oracle {
    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.with(|asked| asked.requests)
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/asked", get(asked))
            .route("/behaviour", post(tell))
            .route("/v1/chat/completions", post(complete))
            .with_state(self.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Asked) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request. What it was told before wins over the name of the model.
    fn count(&self, model: &str, text: &str) -> Option<Behaviour> {
        self.with(|asked| {
            asked.requests += 1;
            *asked.by_model.entry(model.to_owned()).or_default() += 1;
            if asked.prompts.len() == KEPT {
                asked.prompts.pop_front();
            }
            let kept: String = text.chars().take(LONGEST).collect();
            asked.prompts.push_back(json!({"model": model, "prompt": kept}));
            asked.told.or_else(|| Behaviour::parse(model))
        })
    }
}

async fn asked(State(oracle): State<Oracle>) -> Json<Value> {
    Json(oracle.with(|asked| {
        json!({
            "requests": asked.requests,
            "byModel": asked.by_model,
            "told": asked.told.map(Behaviour::word),
            "prompts": asked.prompts,
        })
    }))
}

/// A word for all models from now on; nothing for their names again. `kubectl create --raw` sends it as JSON text.
async fn tell(State(oracle): State<Oracle>, body: String) -> Response {
    let word = body.trim().trim_matches('"');
    let told = Behaviour::parse(word);
    if told.is_none() && !word.is_empty() {
        return (StatusCode::BAD_REQUEST, format!("no behaviour is called {word}\n")).into_response();
    }
    oracle.with(|asked| asked.told = told);
    Json(json!({"told": told.map(Behaviour::word)})).into_response()
}

async fn complete(State(oracle): State<Oracle>, Json(request): Json<Value>) -> Response {
    let model = request["model"].as_str().unwrap_or_default();
    let text = prompt(&request);
    let Some(behaviour) = oracle.count(model, &text) else {
        let error =
            json!({"error": {"message": format!("The model `{model}` does not exist"), "code": "model_not_found"}});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    };
    match answer(behaviour, &text) {
        Answer::Reply(reply, after) => {
            tokio::time::sleep(after).await;
            Json(completion(model, &text, &reply)).into_response()
        }
        Answer::Silence => std::future::pending().await,
        Answer::BrokenOff => broken_off(),
        Answer::ServerError => {
            let error = json!({"error": {"message": "the model double was told to fail", "type": "server_error"}});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()
        }
    }
}

fn completion(model: &str, asked: &str, reply: &str) -> Value {
    // Nobody counts tokens of a double; four letters are about one.
    let (input, output) = (asked.len() / 4, reply.len() / 4);
    json!({
        "id": "chatcmpl-oracle",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
    })
}

/// A body that fails ends the connection, as a server that is killed does.
fn broken_off() -> Response {
    let parts = [Ok(Bytes::from_static(b"{\"choices\"")), Err(io::Error::other("told to die"))];
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream::iter(parts))).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn started() -> (Oracle, std::net::SocketAddr) {
        let oracle = Oracle::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = oracle.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (oracle, address)
    }

    async fn send(address: std::net::SocketAddr, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: oracle\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn ask(address: std::net::SocketAddr, model: &str) -> String {
        let request = json!({"model": model, "messages": [{"role": "user", "content": "S1 | a | Worse | 2 | 1 | - | - | - | 9.0 | x"}]});
        send(address, "POST", "/v1/chat/completions", &request.to_string()).await
    }

    #[tokio::test]
    async fn the_name_of_the_model_says_how_it_answers_and_every_request_is_counted() {
        let (oracle, address) = started().await;
        let agreed = ask(address, "agree").await;
        assert!(
            agreed.starts_with("HTTP/1.1 200") && agreed.contains("ROLLBACK") && agreed.contains("\\\"S1\\\""),
            "{agreed}"
        );
        assert!(ask(address, "disagree").await.contains("CONTINUE"));
        assert!(ask(address, "error").await.starts_with("HTTP/1.1 500"));
        assert!(ask(address, "nobody").await.starts_with("HTTP/1.1 404"));
        let asked = send(address, "GET", "/asked", "").await;
        assert!(
            asked.contains("\"requests\":4") && asked.contains("\"disagree\":1") && asked.contains("S1 | a"),
            "{asked}"
        );
        assert_eq!(oracle.requests(), 4);
    }

    #[tokio::test]
    async fn one_that_dies_never_ends_its_answer_and_one_that_hangs_never_begins() {
        let (_, address) = started().await;
        let broken = ask(address, "die").await;
        assert!(!broken.contains("\r\n0\r\n"), "it was whole: {broken}");
        assert!(!broken.contains("finish_reason"), "{broken}");
        let hanging = tokio::time::timeout(Duration::from_millis(300), ask(address, "hang")).await;
        assert!(hanging.is_err(), "it answered");
    }

    #[tokio::test]
    async fn what_it_is_told_wins_until_it_is_told_nothing() {
        let (_, address) = started().await;
        assert!(send(address, "POST", "/behaviour", "error").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "agree").await.starts_with("HTTP/1.1 500"));
        assert!(send(address, "POST", "/behaviour", "\"wise\"").await.starts_with("HTTP/1.1 400"));
        assert!(ask(address, "agree").await.starts_with("HTTP/1.1 500"), "a refused word changed something");
        send(address, "POST", "/behaviour", "").await;
        assert!(ask(address, "agree").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn only_the_last_prompts_are_kept() {
        let oracle = Oracle::default();
        for number in 0..100 {
            oracle.count("agree", &format!("prompt {number}"));
        }
        let kept = oracle.with(|asked| asked.prompts.clone());
        assert_eq!((kept.len(), &kept[0]["prompt"]), (KEPT, &json!("prompt 68")));
        assert_eq!(oracle.requests(), 100);
    }
}
