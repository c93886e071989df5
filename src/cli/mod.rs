//! What people type: one file per subcommand.
//!
//! Role: arguments to actions to exit codes. Inputs: the command line and the environment. Outputs: text, exit codes.
//! Must never import: `console`.

mod crd;
mod explain;
mod init;
mod lint;
mod llm_check;
mod operator;
mod promql;
mod replay;
mod sight;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for wrong usage or configuration.
const USAGE: u8 = 2;

/// Watches ordinary rollouts, compares the new revision with the old one, and undoes the bad ones.
#[derive(Debug, Parser)]
#[command(name = "deployment-guard", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator, in a pod or outside the cluster with a kubeconfig.
    Run(operator::Arguments),
    /// Print the custom resource definitions.
    Crd(crd::Arguments),
    /// Judge recorded readings without a cluster.
    Replay(replay::Arguments),
    /// Tell one decision of a guard: on what it rests, who was asked, what was done.
    Explain(explain::Arguments),
    /// Look at a workload and its metrics, and print a guard that fits.
    Init(init::Arguments),
    /// Say what is wrong with manifests of guards and classes, without a cluster.
    Lint(lint::Arguments),
    /// Print what a guard asks Prometheus, with values as they are now.
    Promql(promql::Arguments),
    /// Ask each language model of a GuardClass once and say what works.
    LlmCheck(llm_check::Arguments),
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => operator::run(arguments),
        Command::Crd(arguments) => crd::run(&arguments),
        Command::Replay(arguments) => Ok(replay::run(&arguments)),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Promql(arguments) => promql::run(&arguments),
        Command::LlmCheck(arguments) => llm_check::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(USAGE)
    })
}
