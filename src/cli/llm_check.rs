//! `deployment-guard llm-check`: does each language model of a class answer?
//!
//! Role: ask each provider one harmless question and say what works and what to do about the rest. Inputs: a class from
//! the cluster or a file, Secrets from the cluster. Outputs: a table; 0 if all answer, 1 if some do not, 2 for a class
//! that cannot be used, 4 without an API server. Must never import: `console`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::advise::{CallObserver, Failed, Ports, Prompt, Provider};
use crate::api::{GuardClass, providers as parse};
use crate::controller::providers;
use crate::controller::secrets::SecretReader;
use crate::domain::advice::provider::ProviderPolicy;
use crate::domain::advice::{Answer, Failure, Rung, Usage};
use crate::domain::redact::Redactor;

const SOME_FAIL: u8 = 1;
const UNREACHABLE: u8 = 4;
/// How long reading the class may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD: [&str; 8] = ["PROVIDER", "KIND", "MODEL", "ENDPOINT", "RESULT", "LATENCY", "RUNG", "TOKENS"];

/// Ask each language model of a GuardClass once and say what works. A few tokens each are paid for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the GuardClass; with --file, the one of that name in it.
    #[arg(required_unless_present = "file")]
    class: Option<String>,
    /// Read the class from this file instead of the cluster. Secrets are still read from the cluster.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The operator's namespace, where the Secrets are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "deployment-guard")]
    namespace: String,
}

/// Nobody counts calls here.
struct Uncounted;

impl CallObserver for Uncounted {
    fn called(&self, _: &str, _: &'static str, _: Duration, _: Usage) {}
}

/// What became of one provider.
struct Checked {
    policy: ProviderPolicy,
    result: Result<(Answer, Duration), Trouble>,
}

/// Why one does not work.
enum Trouble {
    /// It cannot even be asked.
    Unusable(String),
    /// It was asked.
    Failed(Failed),
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(arguments))
}

async fn check(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = match Config::infer().await {
        Ok(config) => Some(Client::try_from(config).context("the kubeconfig cannot be used")?),
        Err(_) => None,
    };
    let class = match (&arguments.file, &client) {
        (Some(file), _) => from_file(file, arguments.class.as_deref())?,
        (None, None) => bail!("no kubeconfig was found; set KUBECONFIG, or name a file with --file"),
        (None, Some(client)) => {
            let name = arguments.class.as_deref().unwrap_or_default();
            match from_cluster(client, name).await? {
                Ok(class) => class,
                Err(problem) => {
                    super::terminal::note(&format!("error: {problem}"));
                    return Ok(ExitCode::from(UNREACHABLE));
                }
            }
        }
    };
    let policy = parse::parse(&class.spec)?;
    ensure!(!policy.providers.is_empty(), "the class has no spec.providers; add one to have something to check");
    let redactor = Arc::new(Redactor::new());
    let ports = Ports { gate: redactor.clone(), observer: Arc::new(Uncounted), redactor };
    let reader = client.map(|client| SecretReader::new(client, arguments.namespace.clone()));
    let asked = policy.providers.iter().enumerate().map(|(index, one)| ask(index, one, reader.as_ref(), &ports));
    let checked = join_all(asked).await;
    super::terminal::write(&report(&checked))?;
    Ok(if checked.iter().all(|one| one.result.is_ok()) { ExitCode::SUCCESS } else { ExitCode::from(SOME_FAIL) })
}

/// The inner error is an API server that does not answer.
async fn from_cluster(client: &Client, name: &str) -> anyhow::Result<Result<GuardClass, String>> {
    let api: Api<GuardClass> = Api::all(client.clone());
    match tokio::time::timeout(READ_TIMEOUT, api.get(name)).await {
        Ok(Ok(class)) => Ok(Ok(class)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
            bail!("there is no GuardClass {name}; `kubectl get guardclasses` lists them")
        }
        Ok(Err(kube::Error::Api(status))) => bail!("reading the GuardClass {name}: {}", status.message),
        Ok(Err(error)) => Ok(Err(format!("the API server cannot be asked: {error}"))),
        Err(_) => Ok(Err("the API server does not answer".to_owned())),
    }
}

fn from_file(file: &PathBuf, name: Option<&str>) -> anyhow::Result<GuardClass> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("{} is no YAML", file.display()))?;
    let named = |document: &&Value| {
        document["kind"] == "GuardClass" && name.is_none_or(|name| document["metadata"]["name"] == name)
    };
    let found = documents.iter().find(named);
    let found = found.with_context(|| format!("{} holds no such GuardClass", file.display()))?;
    serde_json::from_value(found.clone()).with_context(|| format!("the GuardClass in {} is not valid", file.display()))
}

async fn ask(index: usize, policy: &ProviderPolicy, reader: Option<&SecretReader>, ports: &Ports) -> Checked {
    let result = match providers::secrets(reader, index, policy).await {
        Ok(secrets) => match providers::make(policy, &secrets, ports.clone()) {
            Ok(provider) => down_the_ladder(&provider).await.map_err(Trouble::Failed),
            Err(problem) => Err(Trouble::Unusable(problem.to_string())),
        },
        Err(problem) => Err(Trouble::Unusable(problem.to_string())),
    };
    Checked { policy: policy.clone(), result }
}

/// One question by the best way that the endpoint understands.
async fn down_the_ladder(provider: &Provider) -> Result<(Answer, Duration), Failed> {
    let policy = provider.policy();
    let prompt = question();
    let mut last = None;
    for rung in policy.wire.rungs() {
        let started = Instant::now();
        match provider.ask(&prompt, *rung, policy.timeout).await {
            Ok(answer) if is_object(&answer.text) => return Ok((answer, started.elapsed())),
            Ok(answer) => {
                let said = "it answers, but not with a JSON object".to_owned();
                last = Some(Failed { failure: Failure::Unreadable, said, usage: answer.usage });
            }
            // Only these say that another way of asking may do.
            Err(failed) if matches!(failed.failure, Failure::Refused(_) | Failure::Unreadable | Failure::Empty) => {
                last = Some(failed);
            }
            Err(failed) => return Err(failed),
        }
    }
    let nothing = || Failed { failure: Failure::Empty, said: String::new(), usage: Usage::default() };
    Err(last.unwrap_or_else(nothing))
}

fn question() -> Prompt {
    Prompt {
        system: "You answer a test of a connection.".to_owned(),
        user: r#"Answer with the JSON object {"answer": "ready"}."#.to_owned(),
        schema: json!({
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": ["ready"]}},
            "required": ["answer"],
            "additionalProperties": false,
        }),
    }
}

/// Whether a JSON object stands in it; what it says does not matter here.
fn is_object(text: &str) -> bool {
    let (start, end) = (text.find('{'), text.rfind('}'));
    let between = start.zip(end).and_then(|(start, end)| text.get(start..=end));
    between.is_some_and(|json| serde_json::from_str::<Value>(json).is_ok_and(|value| value.is_object()))
}

fn report(checked: &[Checked]) -> String {
    let mut rows: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
    rows.extend(checked.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row.get(column).map_or(0, |c| c.chars().count())).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut lines = Vec::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        lines.push(format!("{}\n", cells.join("  ").trim_end()));
    }
    for one in checked {
        let name = &one.policy.name;
        match &one.result {
            Ok(_) => {}
            Err(Trouble::Unusable(problem)) => lines.push(format!("\n{name}: {problem}\n")),
            Err(Trouble::Failed(failed)) => {
                let cure = cure(&failed.failure, &one.policy);
                lines.push(format!("\n{name}: {}\n  {cure}\n", failed.said));
            }
        }
    }
    lines.concat()
}

fn row(checked: &Checked) -> [String; 8] {
    let policy = &checked.policy;
    let (result, latency, rung, tokens) = match &checked.result {
        Ok((answer, took)) => {
            let rung = match answer.rung {
                Rung::JsonSchema => "json_schema",
                Rung::JsonObject => "json_object",
                Rung::Text => "text",
            };
            let tokens = format!("{}+{}", answer.usage.input, answer.usage.output);
            ("works".to_owned(), format!("{} ms", took.as_millis()), rung.to_owned(), tokens)
        }
        Err(Trouble::Unusable(_)) => ("unusable".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()),
        Err(Trouble::Failed(failed)) => {
            (failed.failure.word().to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned())
        }
    };
    let endpoint = policy.base_url.clone();
    [policy.name.clone(), policy.wire.word().to_owned(), policy.model.clone(), endpoint, result, latency, rung, tokens]
}

/// What a person does about it.
fn cure(failure: &Failure, policy: &ProviderPolicy) -> String {
    let text = match failure {
        Failure::Timeout => {
            return format!("It needs longer than {:?}: raise timeout, or choose a faster model.", policy.timeout);
        }
        Failure::Unreachable => {
            "Check baseURL and port, that the name resolves, and that a network policy lets the operator out."
        }
        Failure::Tls => {
            "Its certificate does not convince: name its authority in tls.caSecretRef, or check that baseURL speaks TLS."
        }
        Failure::Unauthorized if policy.api_key.is_none() => {
            "Put the key into a Secret and name it in apiKeySecretRef."
        }
        Failure::Unauthorized => {
            "The key is refused: put a valid one into the Secret, with the right to use this model."
        }
        Failure::UnknownModel => "Check model, and that baseURL ends where the API begins, such as /v1.",
        Failure::RateLimited(_) => "Wait, or raise the quota or credit of the account.",
        Failure::Server(_) => "The provider is in trouble: try again later, and put another one into the chain.",
        Failure::Refused(402) => "The account has no credit.",
        Failure::Refused(_) => "It refuses the request; the sentence above is its own. Check kind, model and headers.",
        Failure::Redirected => "Redirects are never followed, because the key would go with them.",
        Failure::TooLarge => "This is no answer of a language model; check baseURL.",
        Failure::Truncated => "The model says too much for a reply: choose one that keeps to a format.",
        Failure::Declined => "The model or a filter declined a harmless question; choose another model.",
        Failure::Empty | Failure::Unreadable | Failure::Invalid => {
            "Check that kind is the format that baseURL speaks, and that the model can answer in JSON."
        }
        Failure::BreakerOpen | Failure::BudgetExhausted => "Wait until it is asked again.",
        Failure::NotSendable => "Its name or settings look like a secret; rename it.",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_in_prose_and_nothing_else_is_one() {
        for text in [r#"{"answer": "ready"}"#, "Sure!\n```json\n{\"a\": 1}\n```", "<think>hm</think>{}"] {
            assert!(is_object(text), "{text}");
        }
        for text in ["", "ready", "{", "}{", "{ready}", "[1]"] {
            assert!(!is_object(text), "{text}");
        }
    }
}
