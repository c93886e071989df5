//! Runs the tests: first side by side, then those that take turns, then those that are alone.
//!
//! Role: order, limits and the report. Inputs: the command line, three lists of tests. Outputs: lines as cargo's own
//! harness prints them, and for what failed everything that helps to find out why. That harness knows no phases.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use serde_json::json;
use testbed::cluster::Cluster;
use tokio::sync::{Mutex, Semaphore};

use crate::scene::Scene;
use crate::world;

/// No test may take longer.
const LIMIT: Duration = Duration::from_mins(6);
/// A test mostly waits, so more of them than cores.
const SIDE_BY_SIDE: usize = 6;
/// So many that failed beside others may show that they pass alone; more than that is no chance.
const SECOND_ATTEMPTS: usize = 2;
/// What is promised of every interleaving has no second attempt.
const PROMISE: &str = "guarantee::";

/// One test.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its sentence, with its module.
    pub name: &'static str,
    /// The test.
    pub run: fn(Scene) -> LocalBoxFuture<'static, Result<()>>,
}

/// A list of tests.
macro_rules! cases {
    ($($module:ident::$name:ident),+ $(,)?) => {
        vec![$($crate::runner::Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |scene| Box::pin($crate::$module::$name(scene)),
        }),+]
    };
}
pub(crate) use cases;

/// What is to be run.
pub struct Runner {
    together: Vec<Case>,
    in_turn: Vec<Case>,
    alone: Vec<Case>,
    side_by_side: usize,
    list: bool,
}

struct Outcome {
    name: &'static str,
    trouble: Option<String>,
    /// What the first of two attempts failed of.
    first: Option<String>,
}

impl Runner {
    /// Reads the command line; options of cargo's own harness that mean nothing here are passed over.
    pub fn from_arguments(arguments: impl Iterator<Item = String>, phases: [Vec<Case>; 3]) -> Self {
        let from_environment = std::env::var("RUST_TEST_THREADS").ok().and_then(|text| text.parse().ok());
        let mut side_by_side = from_environment.unwrap_or(SIDE_BY_SIDE);
        let mut list = false;
        let mut wanted = Vec::new();
        for argument in arguments {
            if let Some(number) = argument.strip_prefix("--test-threads=") {
                side_by_side = number.parse().unwrap_or(side_by_side);
            } else if argument == "--list" {
                list = true;
            } else if !argument.starts_with('-') {
                wanted.push(argument);
            }
        }
        let chosen = |cases: Vec<Case>| {
            let fits = |case: &Case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part.as_str()));
            cases.into_iter().filter(fits).collect()
        };
        let [together, in_turn, alone] = phases.map(chosen);
        Self { together, in_turn, alone, side_by_side: side_by_side.max(1), list }
    }

    /// Whether only the names were asked for; prints them.
    pub fn lists(&self) -> bool {
        if self.list {
            self.together
                .iter()
                .chain(&self.in_turn)
                .chain(&self.alone)
                .for_each(|case| println!("{}: test", case.name));
        }
        self.list
    }

    /// Runs what was chosen.
    pub async fn run(&self, cluster: &Cluster) -> ExitCode {
        let started = Instant::now();
        let total = self.together.len() + self.in_turn.len() + self.alone.len();
        println!("\nrunning {total} tests, {} side by side", self.side_by_side);
        let turn = Arc::new(Mutex::new(()));
        let scene = |number: usize| Scene::new(cluster, format!("e2e-{number}"), turn.clone());
        let permits = Semaphore::new(self.side_by_side);
        let mut outcomes = join_all(self.together.iter().enumerate().map(|(number, case)| {
            let scene = scene(number);
            async {
                let _permit = permits.acquire().await;
                attempt(case, scene, Box::pin(async { Ok(()) })).await
            }
        }))
        .await;
        for (batch, cases) in self.in_turn.chunks(self.side_by_side).enumerate() {
            // Whatever is disturbed, every one of these has its traffic and its guard before the first disturbance.
            let first = self.together.len() + batch * self.side_by_side;
            let scenes: Vec<_> = (first..first + cases.len()).map(scene).collect();
            let ready =
                join_all(scenes.iter().map(|scene| scene.begin(json!({"analysis": {"onInconclusive": "Hold"}})))).await;
            let runs = cases
                .iter()
                .zip(scenes)
                .zip(ready)
                .map(|((case, scene), ready)| attempt(case, scene, Box::pin(async { ready.map(|_| ()) })));
            outcomes.extend(join_all(runs).await);
        }
        let first = self.together.len() + self.in_turn.len();
        for (number, case) in self.alone.iter().enumerate() {
            outcomes.push(attempt(case, scene(first + number), Box::pin(async { Ok(()) })).await);
        }
        if may_try_again(&outcomes) {
            for (number, outcome) in outcomes.iter_mut().enumerate() {
                if let Some(trouble) = outcome.trouble.take() {
                    *outcome = self.again(outcome.name, trouble, scene(total + number)).await;
                }
            }
        }
        report(&outcomes, started.elapsed())
    }

    /// Alone on the machine: verdicts are statistics, and a story's waits are made for an idle one.
    async fn again(&self, name: &'static str, trouble: String, scene: Scene) -> Outcome {
        println!("\nonce more, alone: {name}");
        let disturbs = self.in_turn.iter().any(|case| case.name == name);
        let mut all = self.together.iter().chain(&self.in_turn).chain(&self.alone);
        let Some(case) = all.find(|case| case.name == name) else {
            return Outcome { name, trouble: Some(trouble), first: None };
        };
        let own = scene.clone();
        let ready = async move {
            if disturbs {
                own.begin(json!({"analysis": {"onInconclusive": "Hold"}})).await?;
            }
            Ok(())
        };
        Outcome { first: Some(trouble), ..attempt(case, scene, Box::pin(ready)).await }
    }
}

/// Few failed, and none of what is promised.
fn may_try_again(outcomes: &[Outcome]) -> bool {
    let failed = || outcomes.iter().filter(|outcome| outcome.trouble.is_some());
    failed().count() <= SECOND_ATTEMPTS && !failed().any(|outcome| outcome.name.starts_with(PROMISE))
}

async fn attempt(case: &Case, scene: Scene, ready: LocalBoxFuture<'static, Result<()>>) -> Outcome {
    let started = Instant::now();
    let run = case.run;
    let own = scene.clone();
    // A panic is a failure of this test alone.
    let task = AssertUnwindSafe(async move {
        ready.await?;
        run(own).await
    });
    let result = tokio::select! {
        result = task.catch_unwind() => result.unwrap_or_else(|_| Err(anyhow!("it panicked, see above"))),
        () = time_is_up(&scene) => Err(anyhow!("not finished after {} s of its own", LIMIT.as_secs())),
    };
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    println!("test {} ... {word} ({:.1} s)", case.name, started.elapsed().as_secs_f64());
    let trouble = match result {
        Ok(()) => None,
        Err(error) => {
            // At once, in case the run is broken off before its report.
            println!("     {error:#}");
            Some(format!("{error:#}\n{}", world::trouble(&scene).await))
        }
    };
    scene.end().await;
    Outcome { name: case.name, trouble, first: None }
}

/// Ends when a test has used up its time; standing in line for the turn to disturb everybody costs none.
async fn time_is_up(scene: &Scene) {
    let tick = Duration::from_secs(1);
    let mut used = Duration::ZERO;
    while used < LIMIT {
        tokio::time::sleep(tick).await;
        used += if scene.waits_for_its_turn() { Duration::ZERO } else { tick };
    }
}

fn report(outcomes: &[Outcome], took: Duration) -> ExitCode {
    let failed: Vec<_> =
        outcomes.iter().filter_map(|outcome| Some((outcome.name, outcome.trouble.as_ref()?))).collect();
    for (name, trouble) in &failed {
        println!("\n---- {name} ----\n{trouble}");
    }
    let unsteady: Vec<_> = outcomes.iter().filter(|outcome| outcome.first.is_some()).collect();
    for outcome in &unsteady {
        let first = outcome.first.as_deref().unwrap_or_default();
        println!("\n---- {}, the first attempt, which failed ----\n{first}", outcome.name);
    }
    if !failed.is_empty() {
        println!("\nfailures:");
        for (name, _) in &failed {
            println!("    {name}");
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = outcomes.len() - failed.len();
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; {} tried twice; finished in {:.0} s\n",
        failed.len(),
        unsteady.len(),
        took.as_secs_f64()
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}
