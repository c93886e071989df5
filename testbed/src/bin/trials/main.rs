//! Trials of the whole operator on a real cluster with real traffic: releases that must be undone and releases that must
//! not, guarded with defaults. Run by `make trials`. Input: a choice of scenarios. Output: tables or JSON; the exit code
//! is 1 if a healthy release was not kept or a bad one not undone.

mod outcome;
mod scenario;
mod table;
mod trial;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures::StreamExt;
use testbed::cluster::Cluster;
use testbed::operator;
use testbed::outer::Options;
use tokio::sync::Semaphore;

use crate::outcome::Outcome;
use crate::scenario::{Event, Trial, trials};
use crate::trial::Pace;

/// Twenty rollouts in the same second are not what is tried here.
const AT_THE_DOOR: usize = 2;

/// Releases that must be undone, and releases that must not, on a real cluster
#[derive(Debug, Parser)]
#[command(name = "trials")]
struct Arguments {
    /// Only this scenario; may be repeated
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Each trial so many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Seconds of steady traffic before the push
    #[arg(long, default_value_t = 75)]
    history_s: u64,
    /// Seconds from the push until a bad release counts as missed
    #[arg(long, default_value_t = 300)]
    patience_s: u64,
    /// Requests per second of all trials that run at the same time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(100..=5000))]
    traffic: u32,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write the operator's log there at the end
    #[arg(long, value_name = "FILE")]
    operator_log: Option<PathBuf>,
    /// Copy the operator's recordings of the rollouts there at the end, for `deployment-guard replay`
    #[arg(long, value_name = "DIR")]
    recordings: Option<PathBuf>,
    /// How often Prometheus scrapes; inside a cluster it must be the one it was started with
    #[arg(long)]
    scrape_interval: Option<String>,
    /// How many Prometheus servers answer in turn; inside a cluster as with the scrape interval
    #[arg(long)]
    prometheus_replicas: Option<u16>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trials: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn perform(arguments: &Arguments) -> Result<ExitCode> {
    let trials = trials(&arguments.scenarios, arguments.repeat).map_err(anyhow::Error::msg)?;
    if env::var_os("TESTBED_DIR").is_none() {
        return inside_a_cluster(arguments);
    }
    let cluster = Cluster::join()?;
    let options = cluster.options().context("the cluster does not say how it was started")?;
    agree(arguments, &options)?;
    operator::apply(&cluster, &operator::manifests_recording(&operator::recordings()?)).await?;
    cluster.apply(&operator::class()).await?;
    let outcomes = run_all(&cluster, arguments, trials).await;
    if let Some(directory) = &arguments.recordings {
        fs::create_dir_all(directory)?;
        for file in fs::read_dir(operator::recordings()?)?.filter_map(Result::ok) {
            fs::copy(file.path(), directory.join(file.file_name()))?;
        }
    }
    if let Some(file) = &arguments.operator_log {
        let log = cluster.kubectl(&["-n", "deployment-guard", "logs", "deployment/deployment-guard"]).await?;
        fs::write(file, log).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if arguments.json {
        let all: Vec<_> = outcomes.iter().map(Outcome::json).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let (scrapes, servers) = (&options.scrape_interval, options.prometheus_replicas);
        println!(
            "\nScrapes every {scrapes}, Prometheus servers: {servers}, history before the push: {} s\n",
            arguments.history_s
        );
        println!("{}", table::markdown(&outcomes));
    }
    eprintln!("trials: {}", table::summary(&outcomes));
    Ok(ExitCode::from(u8::from(outcomes.iter().any(|outcome| !outcome.right()))))
}

/// Starts a cluster around this program; it then finds itself inside.
fn inside_a_cluster(arguments: &Arguments) -> Result<ExitCode> {
    let own = env::current_exe()?;
    let mut testbed = Command::new(own.with_file_name("testbed"));
    testbed.arg("run");
    if let Some(interval) = &arguments.scrape_interval {
        testbed.args(["--scrape-interval", interval]);
    }
    if let Some(replicas) = arguments.prometheus_replicas {
        testbed.args(["--prometheus-replicas", &replicas.to_string()]);
    }
    let status = testbed.arg("--").arg(&own).args(env::args_os().skip(1)).status();
    let status = status.with_context(|| format!("cannot start {}", testbed.get_program().display()))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)))
}

fn agree(arguments: &Arguments, options: &Options) -> Result<()> {
    let interval = &options.scrape_interval;
    if arguments.scrape_interval.as_ref().is_some_and(|wanted| wanted != interval) {
        bail!("this cluster scrapes every {interval}: start it with another `testbed run --scrape-interval`");
    }
    let replicas = options.prometheus_replicas;
    if arguments.prometheus_replicas.is_some_and(|wanted| wanted != replicas) {
        bail!("this cluster has {replicas} Prometheus: start it with another `testbed run --prometheus-replicas`");
    }
    Ok(())
}

/// As many side by side as the traffic allows. Outcomes come back in the order of the trials.
async fn run_all(cluster: &Cluster, arguments: &Arguments, trials: Vec<Trial>) -> Vec<Outcome> {
    let pace =
        Pace { history: Duration::from_secs(arguments.history_s), patience: Duration::from_secs(arguments.patience_s) };
    let budget = Semaphore::new(usize::try_from(arguments.traffic).unwrap_or(usize::MAX));
    let door = Semaphore::new(AT_THE_DOOR);
    let count = trials.len();
    let running = trials.into_iter().enumerate().map(|(index, trial)| {
        let (budget, door) = (&budget, &door);
        async move {
            // A closed semaphore would be the only error, and nobody closes it.
            let _share = budget.acquire_many(share(&trial, arguments.traffic)).await;
            let outcome = trial::run(cluster, trial, pace, door).await;
            say(&outcome);
            (index, outcome)
        }
    });
    let mut outcomes: Vec<(usize, Outcome)> =
        futures::stream::iter(running).buffer_unordered(count.max(1)).collect().await;
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// What a trial takes of the traffic; a trial that disturbs all others takes everything.
fn share(trial: &Trial, all: u32) -> u32 {
    if trial.scenario.event == Event::Blind { all } else { trial.scenario.rate.max(25) }
}

fn say(outcome: &Outcome) {
    let right = if outcome.right() { "right" } else { "WRONG" };
    let after = outcome.measured.push_to_undo.map_or(String::new(), |after| format!(" after {after:.1} s"));
    eprintln!(
        "trials: {right}: {} {}{after}: {}",
        outcome.trial.namespace(),
        outcome.measured.verdict.word(),
        outcome.why()
    );
}
