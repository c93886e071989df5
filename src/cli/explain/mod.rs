//! `deployment-guard explain GUARD [DECISION]`: one decision, told.
//!
//! Role: read a guard with what was kept for it, and print what was decided, on what, who was asked, and what was done.
//! Inputs: the cluster, with the rights of whoever asks. Outputs: text or JSON; 0 if told, 2 if there is nothing to tell or
//! no right to read it, 4 without an API server. Must never import: `console`.

pub(super) mod plain;
mod story;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Config};
use serde_json::Value;

use self::story::Told;
use crate::api::DeploymentGuard;
use crate::record::prompts::{self, KeptCall};
use crate::record::samples;

const UNREACHABLE: u8 = 4;
/// How long one read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The plural of guards, as the API server names them when one is missing.
const GUARDS: &str = "deploymentguards";

/// Tell one decision of a guard: on what it rests, who was asked, what was done.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    /// Id of the decision; the last one if none is named.
    decision: Option<String>,
    /// Namespace of the guard; that of the kubeconfig if none is named.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Show what was sent to language models, to the byte, and what came back.
    #[arg(long)]
    prompt: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// A guard and what was kept for it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// As the API server has it, so that fields of another version are seen.
    guard: Value,
    /// Training samples by key.
    samples: BTreeMap<String, String>,
    /// Calls of language models, in the order in which they were made.
    calls: Vec<KeptCall>,
    /// What could not be read, and why.
    notes: Vec<String>,
}

/// Why there is nothing to tell.
enum Problem {
    /// Nobody answered.
    Unreachable(String),
    /// Anything else.
    Refused(anyhow::Error),
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(explain(arguments)) {
        Ok(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(Problem::Refused(error)) => Err(anyhow!(plain::line(&format!("{error:#}")))),
        Err(Problem::Unreachable(problem)) => {
            eprintln!("error: {}", plain::line(&problem));
            Ok(ExitCode::from(UNREACHABLE))
        }
    }
}

async fn explain(arguments: &Arguments) -> Result<String, Problem> {
    let config =
        Config::infer().await.context("no kubeconfig can be used; set KUBECONFIG").map_err(Problem::Refused)?;
    let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the kubeconfig cannot be used").map_err(Problem::Refused)?;
    let kept = read(&client, &namespace, &arguments.guard).await?;
    let told = Told::of(&kept, arguments.decision.as_deref()).map_err(|problem| Problem::Refused(anyhow!(problem)))?;
    Ok(match arguments.output {
        Output::Text => told.text(arguments.prompt),
        Output::Json => told.json(arguments.prompt),
    })
}

async fn read(client: &Client, namespace: &str, name: &str) -> Result<Kept, Problem> {
    let resource = ApiResource::erase::<DeploymentGuard>(&());
    let guards: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let guard = in_time(guards.get(name)).await.map_err(|trouble| problem(trouble, namespace, name))?;
    let uid = guard.metadata.uid.clone().unwrap_or_default();
    let guard = serde_json::to_value(&guard).map_err(|error| Problem::Refused(error.into()))?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let mut notes = Vec::new();
    let samples = entries(&maps, &samples::config_map_name(name), &uid, &mut notes).await;
    let advice = entries(&maps, &prompts::config_map_name(name), &uid, &mut notes).await;
    Ok(Kept { guard, samples, calls: calls(&advice), notes })
}

/// What a ConfigMap of the guard holds. One that cannot be read leaves a note: the rest of the story is still true.
async fn entries(maps: &Api<ConfigMap>, name: &str, uid: &str, notes: &mut Vec<String>) -> BTreeMap<String, String> {
    match in_time(maps.get_opt(name)).await {
        Ok(None) => BTreeMap::new(),
        Ok(Some(found)) => {
            let owned = found.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
            if !owned {
                notes.push(format!("ConfigMap {name} does not belong to this guard and was not read."));
                return BTreeMap::new();
            }
            found.data.unwrap_or_default()
        }
        Err(trouble) => {
            notes.push(format!("ConfigMap {name} could not be read: {trouble}."));
            BTreeMap::new()
        }
    }
}

fn calls(entries: &BTreeMap<String, String>) -> Vec<KeptCall> {
    let mut calls: Vec<KeptCall> = entries.values().filter_map(|entry| serde_json::from_str(entry).ok()).collect();
    calls.sort_by(|a, b| (&a.at, a.number).cmp(&(&b.at, b.number)));
    calls
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the API server says {}", .0.message)]
    Said(Box<kube::core::Status>),
    #[error("{0}")]
    Silent(String),
}

async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(READ_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Trouble::Said(status)),
        Ok(Err(error)) => Err(Trouble::Silent(format!("the API server cannot be asked: {error}"))),
        Err(_) => Err(Trouble::Silent("the API server does not answer".to_owned())),
    }
}

/// What a person does about a guard that cannot be read.
fn problem(trouble: Trouble, namespace: &str, name: &str) -> Problem {
    let status = match trouble {
        Trouble::Silent(problem) => return Problem::Unreachable(problem),
        Trouble::Said(status) => status,
    };
    // A server that knows the kind names it when an object is missing; one that does not has only a 404.
    let of_guards = status.details.as_ref().is_some_and(|details| details.kind == GUARDS);
    let sentence = match status.code {
        404 if of_guards => {
            format!(
                "there is no guard {name} in namespace {namespace}; `kubectl get dg -A` lists them, -n names another"
            )
        }
        404 => "this cluster does not know DeploymentGuards; apply the folder crds/".to_owned(),
        401 => "the cluster does not know who you are; renew the kubeconfig's credentials".to_owned(),
        403 => format!("you may not read the guard {name} in namespace {namespace}: {}", status.message),
        500.. => return Problem::Unreachable(format!("the API server says {}", status.message)),
        _ => format!("reading the guard {name} in namespace {namespace}: {}", status.message),
    };
    Problem::Refused(anyhow!(sentence))
}

#[cfg(test)]
mod tests;
