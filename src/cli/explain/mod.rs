//! `deployment-guard explain GUARD [DECISION]`: one decision, told.
//!
//! Role: read a guard with what was kept for it, and print what was decided, on what, who was asked, and what was done.
//! Inputs: the cluster, with the rights of whoever asks. Outputs: text or JSON; 0 if told, 2 if there is nothing to tell or
//! no right to read it, 4 without an API server. Must never import: `console`.

pub(super) mod plain;
mod story;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::ValueEnum;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;

use self::story::Told;
use super::cluster::{self, Cluster, Failure};
use super::guards::{self, Place};
use super::screen;
use super::status::said;
use super::terminal::Terminal;
use crate::record::prompts::{self, KeptCall};
use crate::record::samples;

/// Tell one decision of a guard: on what it rests, who was asked, what was done.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    /// Id of the decision; the last one if none is named.
    decision: Option<String>,
    #[command(flatten)]
    place: Place,
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

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cluster::run(explain(arguments))?.or_else(Failure::report)
}

async fn explain(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let cluster = arguments.place.connect().await?;
    let kept = read(&cluster, &arguments.guard).await?;
    let told = Told::of(&kept, arguments.decision.as_deref()).map_err(Failure::Refused)?;
    said(&match arguments.output {
        // What models were asked is shown to the byte.
        Output::Text if arguments.prompt => told.text(true),
        Output::Text => screen::relaid(&told.text(false), Terminal::of_table()),
        Output::Json => told.json(arguments.prompt),
    })
}

async fn read(cluster: &Cluster, name: &str) -> Result<Kept, Failure> {
    let guard = guards::read(cluster, name).await?;
    let mut notes = Vec::new();
    let samples = entries(cluster, &samples::config_map_name(name), &guard, &mut notes).await;
    let advice = entries(cluster, &prompts::config_map_name(name), &guard, &mut notes).await;
    Ok(Kept { guard, samples, calls: calls(&advice), notes })
}

/// What a ConfigMap of the guard holds. One that cannot be read leaves a note: the rest of the story is still true.
pub(super) async fn entries(
    cluster: &Cluster,
    name: &str,
    guard: &Value,
    notes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match cluster.ask(maps.get_opt(name)).await {
        Ok(None) => BTreeMap::new(),
        Ok(Some(found)) => {
            let uid = guard["metadata"]["uid"].as_str().unwrap_or_default();
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

#[cfg(test)]
mod tests;
