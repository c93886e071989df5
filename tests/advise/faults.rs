//! Servers that lie, drip, hang, lead elsewhere or are somebody else.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deployment_guard::advise::{Failed, Gate, Provider, Secrets};
use deployment_guard::domain::advice::provider::Wire;
use deployment_guard::domain::advice::request::{Sendable, redact_request};
use deployment_guard::domain::advice::{Failure, Rung, Usage};
use secrecy::SecretString;

use crate::rig::{KEY, Open, SECOND, policy, ports, prompt, provider, redactor, secrets};
use crate::server::{Fault, Reply, Server, faulty, fixture, over_tls};

async fn failure(base: &str, within: Duration) -> Failed {
    let (provider, _) = provider(Wire::OpenAi, base);
    provider.ask(&prompt(), Rung::JsonSchema, within).await.expect_err(base)
}

#[tokio::test]
async fn a_key_never_follows_a_redirect() {
    let thief = Server::always(Reply::new(200, fixture("openai/success"))).await;
    for status in [301, 302, 303, 307, 308] {
        let (to, port) = (thief.url.clone(), thief.url.rsplit(':').next().unwrap().to_owned());
        for location in [format!("{to}/v1/chat/completions"), format!("http://localhost:{port}/"), "/elsewhere".into()]
        {
            let server = Server::always(Reply::new(status, "").with("location", &location)).await;
            let failed = failure(&server.url, SECOND * 5).await;
            assert_eq!(failed.failure, Failure::Redirected, "{status} {location}");
            assert_eq!(server.seen().len(), 1, "a redirect on the same host is not followed either");
        }
    }
    assert!(thief.seen().is_empty(), "the key arrived: {:?}", thief.seen());
}

#[tokio::test]
async fn whatever_does_not_end_ends_at_the_deadline() {
    for fault in [Fault::Drip, Fault::Hang, Fault::HalfAnswer] {
        let url = faulty(fault).await;
        let (provider, calls) = provider(Wire::OpenAi, &url);
        let started = Instant::now();
        let failed = provider.ask(&prompt(), Rung::Text, Duration::from_millis(300)).await.expect_err("no answer");
        assert_eq!(failed.failure, Failure::Timeout, "{fault:?}");
        assert!(started.elapsed() < SECOND * 2, "{fault:?} took {:?}", started.elapsed());
        assert_eq!(calls.outcomes(), ["timeout"], "{fault:?}");
    }
}

#[tokio::test]
async fn the_providers_own_timeout_holds_where_the_deadline_is_later() {
    let url = faulty(Fault::Hang).await;
    let mut short = policy(Wire::OpenAi, &url);
    short.timeout = Duration::from_millis(200);
    let provider = Provider::new(short, secrets(), ports(Arc::new(Open)).0).unwrap();
    let started = Instant::now();
    let failed = provider.ask(&prompt(), Rung::Text, SECOND * 30).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Timeout);
    assert!(started.elapsed() < SECOND * 3);
}

#[tokio::test]
async fn a_body_is_read_to_the_cap_and_no_further() {
    for fault in [Fault::Huge, Fault::HugeChunks, Fault::Bomb] {
        let failed = failure(&faulty(fault).await, SECOND * 5).await;
        assert_eq!(failed.failure, Failure::TooLarge, "{fault:?}: {}", failed.said);
    }
}

#[tokio::test]
async fn a_connection_that_fails_is_a_word_and_a_sentence() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let unknown = "http://no-such-name.invalid.svc:8000".to_owned();
    for (url, what) in [
        (faulty(Fault::Reset).await, "reset"),
        (faulty(Fault::Noise).await, "noise"),
        (closed, "closed port"),
        (unknown, "unknown name"),
    ] {
        let failed = failure(&url, SECOND * 5).await;
        assert_eq!(failed.failure, Failure::Unreachable, "{what}: {}", failed.said);
        assert!(!failed.said.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart_from_an_empty_one() {
    for (body, expected) in [
        ("", Failure::Empty),
        (" \n", Failure::Empty),
        ("<html>It works!</html>", Failure::Unreadable),
        ("{\"choices\": [", Failure::Unreadable),
        ("null", Failure::Unreadable),
        ("[]", Failure::Unreadable),
        ("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n", Failure::Unreadable),
    ] {
        let server = Server::always(Reply::new(200, body)).await;
        assert_eq!(failure(&server.url, SECOND * 5).await.failure, expected, "{body:?}");
    }
    let server = Server::always(Reply::new(502, "<html><body>Bad Gateway</body></html>")).await;
    let failed = failure(&server.url, SECOND * 5).await;
    assert_eq!((failed.failure, &*failed.said), (Failure::Server(502), "status 502 without explanation"));
}

#[tokio::test]
async fn a_certificate_counts_only_with_its_own_authority() {
    let (url, authority) = over_tls(fixture("openai/success")).await;
    let (_, stranger) = over_tls(String::new()).await;
    let with = |pem: Option<String>| {
        let secrets = Secrets { authorities: pem.map(String::into_bytes), ..secrets() };
        Provider::new(policy(Wire::OpenAi, &url), secrets, ports(Arc::new(Open)).0).unwrap()
    };
    with(Some(authority.clone())).ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap();
    for pem in [None, Some(stranger)] {
        let failed = with(pem).ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap_err();
        assert_eq!(failed.failure, Failure::Tls, "{}", failed.said);
    }
    // A certificate for another name, and a port that does not speak TLS at all.
    let elsewhere = url.replace("localhost", "127.0.0.1");
    let plain = Server::always(Reply::new(200, "")).await.url.replace("http://", "https://");
    for url in [elsewhere, plain] {
        let secrets = Secrets { authorities: Some(authority.clone().into_bytes()), ..secrets() };
        let other = Provider::new(policy(Wire::OpenAi, &url), secrets, ports(Arc::new(Open)).0).unwrap();
        let failed = other.ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap_err();
        assert_eq!(failed.failure, Failure::Tls, "{url}: {}", failed.said);
    }
}

#[tokio::test]
async fn a_server_that_says_the_key_back_is_not_quoted_with_it() {
    let other = "another-s3cret-for-a-header";
    for body in [format!("{{\"error\":{{\"message\":\"no: {KEY} {other}\"}}}}"), format!("no: {KEY}, {other}")] {
        let server = Server::always(Reply::new(403, body)).await;
        let mut gateway = policy(Wire::OpenAi, &server.url);
        gateway.headers = vec![(
            "x-gateway".into(),
            deployment_guard::domain::advice::provider::HeaderValue::Secret(
                deployment_guard::domain::advice::provider::SecretKey { name: "s".into(), key: "k".into() },
            ),
        )];
        let headers = vec![("x-gateway".to_owned(), SecretString::from(other))];
        let provider = Provider::new(gateway, Secrets { headers, ..secrets() }, ports(Arc::new(Open)).0).unwrap();
        let failed = provider.ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap_err();
        assert_eq!(server.seen()[0].headers["x-gateway"], other);
        assert!(!failed.to_string().contains("s3cret"), "{failed}");
        assert!(failed.said.starts_with("no: [redacted"), "{failed}");
    }
}

#[tokio::test]
async fn an_answer_that_blames_us_at_length_is_cut_and_redacted() {
    let said = format!("card 4111 1111 1111 1111 of jane.doe@example.com\u{7}{}", "x".repeat(5000));
    let server = Server::always(Reply::new(500, said)).await;
    let failed = failure(&server.url, SECOND * 5).await;
    assert!(failed.said.chars().count() <= 256 && !failed.said.contains(char::is_control), "{}", failed.said);
    assert!(!failed.said.contains("4111") && !failed.said.contains("jane"), "{}", failed.said);
}

/// Remembers what left, and changes it.
struct Changing(Mutex<Vec<String>>, fn(String) -> Result<String, Failure>);

impl Gate for Changing {
    fn let_out(&self, body: String) -> Result<Sendable, Failure> {
        self.0.lock().unwrap().push(body.clone());
        (self.1)(body).and_then(|body| redact_request(&body, &redactor()))
    }
}

#[tokio::test]
async fn every_body_leaves_through_the_gate_and_none_when_it_is_shut() {
    let server = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let through = |change| {
        let gate = Arc::new(Changing(Mutex::default(), change));
        let (ports, calls) = ports(gate.clone());
        (Provider::new(policy(Wire::OpenAi, &server.url), secrets(), ports).unwrap(), gate, calls)
    };
    let (open, gate, _) = through(|body| Ok(body.replace("5.2 %", "[hidden]")));
    open.ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap();
    assert!(gate.0.lock().unwrap()[0].contains("5.2 %"));
    assert_eq!(server.seen()[0].body["messages"][1]["content"], "S1: error rate [hidden] against 1.0 %.");
    for shut in [|_| Err(Failure::NotSendable), |body: String| Ok(body.replace('"', "'"))] {
        let (shut, ..) = through(shut);
        let failed = shut.ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap_err();
        assert_eq!(failed.failure, Failure::NotSendable);
    }
    assert_eq!(server.seen().len(), 1, "nothing more was sent");
}

#[tokio::test]
async fn a_redactor_as_gate_lets_nothing_out_that_looks_like_a_secret() {
    let server = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let (ports, calls) = ports(redactor());
    let guarded = Provider::new(policy(Wire::OpenAi, &server.url), secrets(), ports).unwrap();
    guarded.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await.unwrap();
    for secret in
        ["Authorization: Bearer abcdef0123456789abcdef", "postgres://app:hunter2@db/x", "jane.doe@example.com"]
    {
        let leaking = deployment_guard::advise::Prompt { user: format!("F1: {secret}"), ..prompt() };
        let failed = guarded.ask(&leaking, Rung::JsonSchema, SECOND * 5).await.expect_err(secret);
        assert_eq!(failed.failure, Failure::NotSendable);
    }
    assert_eq!((server.seen().len(), calls.0.lock().unwrap()[0].1), (1, Usage { input: 1200, output: 95 }));
}

#[tokio::test]
async fn what_cannot_be_used_is_said_before_anything_is_sent() {
    let with = |change: fn(&mut Secrets)| {
        let mut given = secrets();
        change(&mut given);
        Provider::new(policy(Wire::Gemini, "http://localhost:1"), given, ports(Arc::new(Open)).0)
    };
    for (change, words) in [
        ((|s| s.api_key = Some(SecretString::from(" \n"))) as fn(&mut Secrets), "key is empty"),
        (|s| s.api_key = Some(SecretString::from("a\nb")), "no header can carry it"),
        (|s| s.authorities = Some(b"no pem".to_vec()), "must hold PEM"),
        (|s| s.headers = vec![("x-a".into(), SecretString::from("line\nbreak"))], "header x-a cannot be sent"),
    ] {
        let error = with(change).expect_err(words).to_string();
        assert!(error.contains(words) && !error.contains("break"), "{error}");
    }
    let metadata = policy(Wire::OpenAi, "http://169.254.169.254/v1");
    let error = Provider::new(metadata, secrets(), ports(Arc::new(Open)).0).err().unwrap().to_string();
    assert!(error.contains("never asked"), "{error}");
}

#[tokio::test]
async fn a_server_that_closes_connections_between_questions_is_asked_anew() {
    let (provider, calls) = provider(Wire::OpenAi, &faulty(Fault::CloseAfter).await);
    for _ in 0..5 {
        provider.ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(calls.outcomes(), ["success"; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_questions_at_once_are_a_hundred_answers() {
    let server = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let (provider, calls) = provider(Wire::OpenAi, &server.url);
    let provider = Arc::new(provider);
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { provider.ask(&prompt(), Rung::JsonSchema, SECOND * 20).await })
        })
        .collect();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert_eq!((server.seen().len(), calls.outcomes().len()), (100, 100));
}

#[tokio::test]
async fn a_proxy_is_used_if_the_class_says_so() {
    let proxy = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let mut behind = policy(Wire::OpenAi, "http://vllm.models.svc:8000/v1");
    behind.proxy = Some(proxy.url.clone());
    let provider = Provider::new(behind, secrets(), ports(Arc::new(Open)).0).unwrap();
    provider.ask(&prompt(), Rung::Text, SECOND * 5).await.unwrap();
    assert_eq!(proxy.seen()[0].headers["host"], "vllm.models.svc:8000");
}
