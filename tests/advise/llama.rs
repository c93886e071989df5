//! A real server: llama.cpp's, on a model of random weights. Held to a schema it answers well-formed nonsense; held to
//! nothing, garbage. `make e2e` runs this; alone: `testbed build --with llm && cargo test --test advise -- --ignored`.

use std::net::SocketAddr;

use deployment_guard::advise::{Failed, Prompt, Provider, Secrets};
use deployment_guard::domain::advice::provider::Wire;
use deployment_guard::domain::advice::{Answer, Failure, Rung};
use serde_json::Value;
use testbed::llm::{self, Server};

use crate::rig::{SECOND, policy, ports, prompt, redactor};

async fn llama() -> Server {
    let installed = llm::installed().expect("no llama.cpp in the cache: run `testbed build --with llm`");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    installed.serve(SocketAddr::from(([127, 0, 0, 1], free.port()))).await.unwrap()
}

async fn ask(server: &Server, prompt: &Prompt, rung: Rung) -> Result<Answer, Failed> {
    let mut patient = policy(Wire::OpenAi, &server.url());
    patient.timeout = SECOND * 60;
    let provider = Provider::new(patient, Secrets::default(), ports(redactor()).0).unwrap();
    provider.ask(prompt, rung, SECOND * 60).await
}

#[tokio::test]
#[ignore = "needs llama.cpp's server in the cache"]
async fn llama_cpp_answers_well_formed_nonsense_under_a_schema() {
    let server = llama().await;
    for case in 0..5 {
        let prompt = Prompt { user: format!("Case {case}: error rate 5.2 % against 1.0 %."), ..prompt() };
        let answer = ask(&server, &prompt, Rung::JsonSchema).await.unwrap();
        let reply: Value = serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        assert!(["ROLLBACK", "CONTINUE", "INCONCLUSIVE"].contains(&reply["decision"].as_str().unwrap()), "{reply}");
        assert!(reply["confidence"].as_u64().is_some_and(|number| number <= 100), "{reply}");
        assert!(answer.usage.input > 0 && answer.usage.output > 0, "{answer:?}");
    }
}

#[tokio::test]
#[ignore = "needs llama.cpp's server in the cache"]
async fn llama_cpp_answers_garbage_under_nothing_and_that_is_survived() {
    let server = llama().await;
    for rung in [Rung::JsonObject, Rung::Text] {
        for case in 0..3 {
            let prompt = Prompt { user: format!("Case {case}."), ..prompt() };
            match ask(&server, &prompt, rung).await {
                // Some object, or some text, with nothing that was asked for in it.
                Ok(answer) => {
                    let reply: Option<Value> = serde_json::from_str(&answer.text).ok();
                    assert!(rung == Rung::Text || reply.as_ref().is_some_and(Value::is_object), "{answer:?}");
                    assert!(reply.is_none_or(|reply| reply["decision"].is_null()), "{answer:?}");
                }
                Err(failed) => {
                    assert!(matches!(failed.failure, Failure::Truncated | Failure::Empty), "{rung:?}: {failed}");
                    assert!(failed.usage.input > 0, "{failed:?}");
                }
            }
        }
    }
}
