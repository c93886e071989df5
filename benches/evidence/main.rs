//! What the evidence rule costs and finds, beside the rules that others use, on the same simulated releases.
//!
//! `make bench-evidence` runs it. It prints what was measured, writes `bench/evidence.json` in the target folder and, after
//! a full run, the marked part of `docs/evidence.md` and its plots. It ends with an error if a goal is missed.

mod generator;
mod goals;
mod plot;
mod report;
mod rules;
mod runner;
mod scenarios;
mod speed;
mod statistics;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use report::Row;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Runs of each scenario in a full run; fewer leave the documentation as it is.
const RUNS: u64 = 4000;

#[derive(Parser)]
struct Arguments {
    /// Runs of each scenario.
    #[arg(long, default_value_t = RUNS)]
    runs: u64,
    /// Only scenarios whose name begins like this.
    #[arg(long)]
    scenario: Option<String>,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let speed = speed::measure(ALLOCATOR);
    let rows = run(&arguments);
    println!("\n{}\n{}", report::markdown(&rows, arguments.runs), speed.sentence());
    println!("{:.0} s in all", started.elapsed().as_secs_f64());
    if arguments.scenario.is_none() && arguments.runs >= RUNS {
        document(&rows, arguments.runs)?;
    }
    let folder = target()?.join("bench");
    fs::create_dir_all(&folder)?;
    let body = json!({"bench": "evidence", "runs": arguments.runs, "seconds": started.elapsed().as_secs_f64(),
        "step": speed.json(), "results": report::as_json(&rows)});
    fs::write(folder.join("evidence.json"), serde_json::to_vec_pretty(&body)?)?;
    let missed: Vec<_> = rows.iter().flat_map(goals::of).filter(|goal| !goal.met).collect();
    for goal in &missed {
        eprintln!("missed: {}: {}", goal.scenario, goal.text);
    }
    if missed.is_empty() { Ok(()) } else { bail!("{} goals missed", missed.len()) }
}

fn run(arguments: &Arguments) -> Vec<Row> {
    let wanted = |name: &str| arguments.scenario.as_ref().is_none_or(|begin| name.starts_with(begin.as_str()));
    let mut rows = Vec::new();
    for scenario in scenarios::all().into_iter().filter(|scenario| wanted(scenario.name)) {
        let begun = Instant::now();
        let found = runner::run(&scenario, arguments.runs);
        eprintln!("evidence: {} in {:.1} s", scenario.name, begun.elapsed().as_secs_f64());
        rows.push(Row { scenario, found });
    }
    rows
}

/// Writes the documentation's part and its plots.
fn document(rows: &[Row], runs: u64) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let plots = docs.join("evidence");
    fs::create_dir_all(&plots)?;
    plot::false_rollbacks(&plots.join("false-rollbacks.svg"), rows)?;
    plot::delay(&plots.join("delay.svg"), rows)?;
    plot::one_in_n(&plots.join("one-in-n.svg"), rows)?;
    report::rewrite(&docs.join("evidence.md"), &report::markdown(rows, runs))
}

/// Where cargo builds.
fn target() -> Result<PathBuf> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deployment-guard"));
    Ok(program.parent().and_then(Path::parent).context("no target folder")?.to_owned())
}
