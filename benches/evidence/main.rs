//! What the evidence rule costs and finds, beside the rules that others use, on the same simulated releases.
//!
//! `make bench-evidence` runs it. It prints tables, writes `target/bench/evidence.json` and, after a full run, the marked
//! part of `docs/evidence.md` and its plots. It ends with an error if a goal is missed.

mod generator;
mod rules;
mod runner;
mod scenarios;
mod statistics;
mod world;

use anyhow::Result;
use clap::Parser;

/// Runs of each scenario in a full run.
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
    let started = std::time::Instant::now();
    for scenario in scenarios::all() {
        if arguments.scenario.as_ref().is_some_and(|name| !scenario.name.starts_with(name.as_str())) {
            continue;
        }
        let begin = started.elapsed().as_secs_f64();
        let found = runner::run(&scenario, arguments.runs);
        print!("{:22} {:5.1}s ", scenario.name, started.elapsed().as_secs_f64() - begin);
        for rule in &found {
            let (low, high) = statistics::limits(rule.hits(), rule.runs());
            print!(
                "| {:.2} ({:.2}-{:.2}) {:?}/{:?} ",
                100.0 * deployment_guard::domain::evidence::number::to_f64(rule.hits())
                    / deployment_guard::domain::evidence::number::to_f64(rule.runs()),
                100.0 * low,
                100.0 * high,
                statistics::quantile(&rule.rolled_back, 0.5),
                statistics::quantile(&rule.rolled_back, 0.9)
            );
        }
        let c = found.first().map(|f| (runner::count(&f.certified), statistics::quantile(&f.certified, 0.5)));
        println!("cert {c:?}");
    }
    Ok(())
}
