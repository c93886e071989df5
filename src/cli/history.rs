//! `deployment-guard history GUARD`: what was decided so far.
//!
//! Role: reads a guard and its samples, and lists its decisions with their rewards. Inputs: the cluster. Outputs: a table,
//! JSON or YAML; 0 if listed, 2 if there is no such guard, 4 without an API server. Must never import: `console`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use super::cluster::{self, Cluster, Failure};
use super::guards::{self, Output, Place};
use super::screen::history::{Rewards, screen, value};
use super::status::said;
use super::terminal::Terminal;
use crate::domain::sample::key_of;
use crate::record::samples;

/// List the decisions of a guard, the newest first, with their rewards.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    #[command(flatten)]
    place: Place,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cluster::run(history(arguments))?.or_else(Failure::report)
}

async fn history(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let cluster = arguments.place.connect().await?;
    let guard = guards::read(&cluster, &arguments.guard).await?;
    let rewards = rewards(&cluster, &guard, &arguments.guard).await;
    match arguments.output.of(&value(&guard, &rewards))? {
        Some(text) => said(&text),
        None => said(&screen(&guard, &rewards, Timestamp::now(), Terminal::of_table())),
    }
}

/// The rewards of the decisions whose samples can be read; without the right to read them the rest is still true.
async fn rewards(cluster: &Cluster, guard: &Value, name: &str) -> Rewards {
    let mut notes = Vec::new();
    let kept = super::explain::entries(cluster, &samples::config_map_name(name), guard, &mut notes).await;
    for note in notes {
        super::terminal::note(&format!("note: {}", super::explain::plain::line(&note)));
    }
    let status = &guard["status"];
    let past = status["history"].as_array().into_iter().flatten();
    let ids = past.chain([&status["lastDecision"]]).filter_map(|one| one["id"].as_str());
    let reward = |id: &str| {
        let sample: Value = serde_json::from_str(kept.get(&key_of(id))?).ok()?;
        Some((id.to_owned(), sample["reward"].as_f64()?))
    };
    ids.filter_map(reward).collect()
}
