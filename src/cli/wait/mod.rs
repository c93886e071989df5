//! `deployment-guard wait GUARD --revision=latest`: the verdict, for pipelines.
//!
//! Role: reads what the workload asks for now, then follows the guard until it has judged just that. Inputs: the cluster.
//! Outputs: progress on standard error, one line on standard output; 0 healthy, 1 bad or rolled back, 2 usage or
//! configuration, 3 inconclusive or timed out, 4 unreachable, 130 interrupted. Must never import: `console`.

mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::verdict::{End, Standing, Wanted, standing};
use super::cluster::{self, Cluster, Failure, Trouble};
use super::explain::plain;
use super::follow::{Follow, Sight};
use super::guards::{self, Place};
use super::status::INTERRUPTED;
use super::terminal::write;
use crate::api::parse;
use crate::domain::policy::Target;

/// How long a guard may be unusable before that is the result: it may have been applied together with its class.
const UNUSABLE_FOR: Duration = Duration::from_secs(10);
/// How long to wait for something to happen before looking at the time again.
const STEP: Duration = Duration::from_secs(1);

/// What is said below the options.
const CODES: &str = "Exit codes: 0 healthy, 1 judged bad or rolled back, 2 usage or configuration, 3 inconclusive or timed \
                     out, 4 the API server cannot be reached, 130 interrupted.";

/// Wait until the latest revision of a guard's workload is judged.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    #[command(flatten)]
    place: Place,
    /// Which revision: the one that the workload asks for when this command starts.
    #[arg(long, value_enum, default_value_t = Revision::Latest)]
    revision: Revision,
    /// How long to wait.
    #[arg(long, default_value = "30m", value_parser = duration)]
    timeout: Duration,
    /// How long the API server may be silent.
    #[arg(long, default_value = "1m", value_parser = duration)]
    unreachable_after: Duration,
    /// Wait for the end of the window, though health is proven before.
    #[arg(long)]
    whole_window: bool,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Which revision is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Revision {
    /// The one that the workload asks for now.
    Latest,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One line.
    Text,
    /// One JSON object on one line.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse::duration("the time", text).map_err(|error| error.to_string())
}

/// Waits.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cluster::run(wait(arguments))?.or_else(Failure::report)
}

async fn wait(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let cluster = arguments.place.connect().await?;
    let guard = guards::read(&cluster, &arguments.guard).await?;
    let target = guards::target(&guard).map_err(Failure::Refused)?;
    // The guard is followed from before the workload is read, so that nothing is missed in between.
    let follow = Follow::new(&cluster, &arguments.guard)?;
    let wanted = wanted(&cluster, &target, arguments.whole_window).await?;
    super::terminal::note(&format!("waiting for the verdict on generation {} of {target}", wanted.generation));
    let mut story =
        Story { cluster, target, wanted, last: guard, said: String::new(), unusable: None, answered: Instant::now() };
    let (end, message) = story.until_the_end(follow, arguments, started).await?;
    story.result(end, &message, arguments, started.elapsed())?;
    Ok(ExitCode::from(end.code()))
}

/// What the workload asks for now.
async fn wanted(cluster: &Cluster, target: &Target, whole_window: bool) -> Result<Wanted, Failure> {
    let found = cluster.workload(target).await?;
    let found =
        found.ok_or_else(|| Failure::Refused(format!("there is no {target} in namespace {}", cluster.namespace)))?;
    Ok(Wanted {
        uid: found.uid.to_string(),
        generation: found.generation,
        revision: found.current.map(|revision| revision.to_string()),
        whole_window,
    })
}

/// What is known while waiting.
struct Story {
    cluster: Cluster,
    target: Target,
    wanted: Wanted,
    last: Value,
    said: String,
    unusable: Option<Instant>,
    answered: Instant,
}

impl Story {
    async fn until_the_end(
        &mut self,
        mut follow: Follow,
        arguments: &Arguments,
        started: Instant,
    ) -> Result<(End, String), Failure> {
        loop {
            // Before it was judged its revision may not have been known yet.
            if self.wanted.revision.is_none()
                && let Ok(again) = wanted(&self.cluster, &self.target, arguments.whole_window).await
                && again.generation == self.wanted.generation
            {
                self.wanted = again;
            }
            let waiting = match standing(&self.last, &self.wanted) {
                Standing::Ended(end, message) => return Ok((end, message)),
                Standing::Unusable(message) => {
                    let since = *self.unusable.get_or_insert_with(Instant::now);
                    if since.elapsed() >= UNUSABLE_FOR.min(arguments.timeout / 2) {
                        return Ok((End::Unusable, message));
                    }
                    message
                }
                Standing::Waiting(message) => {
                    self.unusable = None;
                    message
                }
            };
            self.say(&waiting);
            let Some(left) = arguments.timeout.checked_sub(started.elapsed()) else {
                return Ok((End::Inconclusive, format!("timed out after {:?}: {waiting}", arguments.timeout)));
            };
            match follow.next(left.min(STEP)).await {
                Sight::Guard(guard) => {
                    self.last = guard;
                    self.answered = Instant::now();
                }
                Sight::Gone => return Ok((End::Inconclusive, "the guard was deleted, so nobody judges it".to_owned())),
                Sight::Trouble(Trouble::Said(status)) if [401, 403].contains(&status.code) => {
                    return Err(self.cluster.failed(Trouble::Said(status), "read the guard any more"));
                }
                Sight::Trouble(trouble) => {
                    self.say(&trouble.to_string());
                    if self.answered.elapsed() >= arguments.unreachable_after {
                        return Err(Failure::Unreachable(trouble.to_string()));
                    }
                }
                Sight::Nothing => {}
                Sight::Interrupted => return Ok((End::Interrupted, "interrupted".to_owned())),
            }
        }
    }

    fn say(&mut self, line: &str) {
        if self.said != line {
            line.clone_into(&mut self.said);
            super::terminal::note(&plain::line(line));
        }
    }

    fn result(&self, end: End, message: &str, arguments: &Arguments, took: Duration) -> Result<(), Failure> {
        let revision = self.wanted.revision.clone().unwrap_or_default();
        let name = format!("{}/{}", self.cluster.namespace, arguments.guard);
        let text = match arguments.output {
            Output::Text => plain::line(&format!("{} {name} revision {revision}: {message}", end.word())),
            Output::Json => {
                let decision = &self.last["status"]["lastDecision"];
                let decided = decision["fromRevision"] == json!(revision);
                let value = json!({
                    "result": end.word(), "exitCode": end.code(), "guard": name, "revision": revision,
                    "generation": self.wanted.generation, "message": message, "seconds": took.as_secs(),
                    "decision": if decided { plain::value(decision) } else { Value::Null },
                });
                plain::escaped(&value.to_string())
            }
        };
        write(&format!("{text}\n")).map_err(|error| Failure::Refused(format!("cannot write: {error}")))
    }
}

impl End {
    const fn code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Bad => 1,
            Self::Unusable => 2,
            Self::Inconclusive => 3,
            Self::Interrupted => INTERRUPTED,
        }
    }
}
