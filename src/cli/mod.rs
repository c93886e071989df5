//! What people type: one file per subcommand.
//!
//! Role: arguments to actions to exit codes. Inputs: the command line and the environment. Outputs: text, exit codes.
//! Must never import: `console`.

mod answer;
mod cluster;
mod crd;
mod explain;
mod follow;
mod guards;
mod history;
mod init;
mod lint;
mod list;
mod llm_check;
mod namespaces;
mod operator;
mod promql;
mod replay;
mod resume;
mod screen;
mod shell;
mod sight;
mod status;
mod terminal;
mod undo;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
    /// Show where a rollout stands, on what that rests, and what happens next.
    Status(status::Arguments),
    /// List guards.
    List(list::Arguments),
    /// List the decisions of a guard with their rewards.
    History(history::Arguments),
    /// Approve the undo that waits for a person.
    Approve(answer::Arguments),
    /// Reject the undo that waits for a person.
    Reject(answer::Arguments),
    /// Put the last good revision of a workload back, safely; it needs no guard.
    Undo(undo::Arguments),
    /// Wait until the latest revision is judged; for pipelines.
    Wait(wait::Arguments),
    /// Print a script that completes commands in a shell.
    Completion(shell::CompletionArguments),
    /// Print the manual page, or write one for each command.
    Man(shell::ManArguments),
    /// Run the operator, in a pod or outside the cluster with a kubeconfig.
    Run(operator::Arguments),
    /// Print the custom resource definitions.
    Crd(crd::Arguments),
    /// Give back every sync that is suspended for an undo; run before the operator is removed.
    ResumeSuspended(resume::Arguments),
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

/// The names under which the binary is a plugin of kubectl.
const PLUGIN: &str = "kubectl-guard";

/// What a person types to run this program: as it is installed.
fn program() -> &'static str {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = called.as_ref().and_then(|path| path.file_stem()?.to_str());
    if name == Some(PLUGIN) { "kubectl guard" } else { "deployment-guard" }
}

/// The command line as it is called here; tests read what the documentation shows with it.
#[must_use]
pub fn command_line() -> clap::Command {
    let command = Arguments::command();
    match program() {
        "kubectl guard" => command.name("kubectl guard").bin_name("kubectl guard"),
        _ => command,
    }
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::from_arg_matches(&command_line().get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let result = match arguments.command {
        Command::Status(arguments) => status::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::History(arguments) => history::run(&arguments),
        Command::Approve(arguments) => answer::run(&arguments, answer::Word::Approve),
        Command::Reject(arguments) => answer::run(&arguments, answer::Word::Reject),
        Command::Undo(arguments) => undo::run(&arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Completion(arguments) => Ok(shell::complete(&arguments)),
        Command::Man(arguments) => shell::manual(&arguments),
        Command::Run(arguments) => operator::run(arguments),
        Command::Crd(arguments) => crd::run(&arguments),
        Command::ResumeSuspended(arguments) => resume::run(arguments),
        Command::Replay(arguments) => Ok(replay::run(&arguments)),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Promql(arguments) => promql::run(&arguments),
        Command::LlmCheck(arguments) => llm_check::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        terminal::note(&format!("error: {error:#}"));
        ExitCode::from(USAGE)
    })
}
