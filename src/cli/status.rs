//! `deployment-guard status GUARD`: where a rollout stands, on one screen.
//!
//! Role: reads or follows a guard and draws it. Inputs: the cluster, the terminal. Outputs: text, JSON or YAML; 0 if shown, 2
//! if there is nothing to show, 4 without an API server, 130 if interrupted. Must never import: `console`.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::cluster::{self, Failure};
use super::follow::{Follow, Sight};
use super::guards::{self, Output, Place};
use super::screen::{self, times};
use super::terminal::{Terminal, write, write_on};

/// How often times on a terminal are counted on.
const REDRAW: Duration = Duration::from_secs(1);
/// Exit code after an interrupt.
pub(super) const INTERRUPTED: u8 = 130;

/// Show where the rollout of a guard's workload stands, on what that rests, and what happens next.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    #[command(flatten)]
    place: Place,
    /// Keep showing it: redrawn on a terminal, else a line for each change.
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,
    /// How to print it; JSON and YAML are the guard itself.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cluster::run(show(arguments))?.or_else(Failure::report)
}

async fn show(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let cluster = arguments.place.connect().await?;
    let guard = guards::read(&cluster, &arguments.guard).await?;
    if arguments.watch {
        let follow = Follow::new(&cluster, &arguments.guard)?;
        return if Terminal::of_output().height.is_some() {
            on_a_terminal(follow, guard).await
        } else {
            line_by_line(follow, guard).await
        };
    }
    let text = match arguments.output.of(&guard)? {
        Some(text) => text,
        None => screen::status::screen(&guard, Timestamp::now(), Terminal::of_output().look),
    };
    said(&text)
}

/// Prints, and ends well.
pub(super) fn said(text: &str) -> Result<ExitCode, Failure> {
    write(text).map_err(|error| Failure::Refused(format!("cannot write: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

async fn on_a_terminal(mut follow: Follow, mut guard: serde_json::Value) -> Result<ExitCode, Failure> {
    let mut note = String::new();
    write("\u{1b}[2J").map_err(unwritable)?;
    loop {
        let terminal = Terminal::of_output();
        let text = screen::status::screen(&guard, Timestamp::now(), terminal.look);
        if !terminal.redraw(&format!("{text}{note}")).map_err(unwritable)? {
            return Ok(ExitCode::SUCCESS);
        }
        match follow.next(REDRAW).await {
            Sight::Guard(seen) => {
                guard = seen;
                note.clear();
            }
            Sight::Gone => return Err(gone()),
            Sight::Trouble(trouble) => note = format!("\n{}\n", screen::fitted(&trouble.to_string(), terminal.look)),
            Sight::Nothing => {}
            Sight::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
}

async fn line_by_line(mut follow: Follow, guard: serde_json::Value) -> Result<ExitCode, Failure> {
    let mut last = String::new();
    let mut line = screen::status::line(&guard);
    loop {
        if line != last {
            let now = Timestamp::now();
            if !write_on(&format!("{} {line}\n", times::clock(now, now))).map_err(unwritable)? {
                return Ok(ExitCode::SUCCESS);
            }
            last.clone_from(&line);
        }
        match follow.next(Duration::from_secs(60)).await {
            Sight::Guard(seen) => line = screen::status::line(&seen),
            Sight::Gone => return Err(gone()),
            Sight::Trouble(trouble) => line = super::explain::plain::line(&trouble.to_string()),
            Sight::Nothing => {}
            Sight::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::Refused(format!("cannot write: {error}"))
}

fn gone() -> Failure {
    Failure::refused("the guard was deleted meanwhile")
}
