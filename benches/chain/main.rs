//! What the chain of language models costs: time, memory, calls.
//!
//! Role: many guards at once against a model double on loopback, through the client, the gate, the budget and the breakers
//! that ship. Inputs: none; no cluster. Outputs: tables and `target/bench/chain.json`. The double runs in the same process,
//! so its time counts too.
#![allow(missing_docs)]

mod shell;

use std::alloc::System;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use deployment_guard::domain::advice::budget::{Limits, Price};
use deployment_guard::domain::evidence::number::to_f64;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shell::{Shell, case};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use testbed::oracle::Behaviour;
use testbed::oracle::server::Oracle;
use tokio::net::TcpListener;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the provider of the first table takes.
const SLOW: Duration = Duration::from_millis(200);
/// How long the chain may take where everybody is dead.
const DEADLINE: Duration = Duration::from_secs(2);
/// How much later than its deadline a decision may come.
const LATE: f64 = 100.0;
const GUARDS: u64 = 1_000;
const NO_PRICE: Price = Price { input: 0, output: 0 };
const NO_LIMITS: Limits = Limits {
    calls_per_hour: None,
    calls_per_day: None,
    tokens_per_hour: None,
    tokens_per_day: None,
    spend_per_day: None,
};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (oracle, url) = serve().await?;
        let report = json!({
            "time": time(&url).await?,
            "dead": dead(&url).await?,
            "memory": memory(&url).await?,
            "budgets": budgets(&oracle, &url).await?,
        });
        write(&report)
    })
}

async fn serve() -> Result<(Oracle, String)> {
    let oracle = Oracle::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = oracle.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((oracle, url))
}

/// Milliseconds beyond what cannot be helped, in order.
struct Times(Vec<f64>);

impl Times {
    fn beyond(all: impl Iterator<Item = Duration>, least: Duration) -> Self {
        let mut times: Vec<f64> = all.map(|took| (took.as_secs_f64() - least.as_secs_f64()) * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The smallest that so many percent do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(place).copied().unwrap_or(f64::NAN)
    }

    fn row(&self, name: &str) -> Value {
        let [p50, p99, most] = [50, 99, 100].map(|percent| self.percentile(percent));
        println!("| {name} | {} | {p50:.1} | {p99:.1} | {most:.1} |", self.0.len());
        json!({"name": name, "decisions": self.0.len(), "p50Ms": p50, "p99Ms": p99, "maxMs": most})
    }
}

/// So many rounds of so many decisions at once.
async fn rounds(shell: &Shell, rounds: u64, at_once: u64, opinion: bool) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for round in 0..rounds {
        let cases: Vec<_> = (0..at_once).map(|guard| case(round * at_once + guard)).collect();
        let now = Timestamp::now();
        for decided in try_join_all(cases.iter().map(|case| shell.decide(case, now))).await? {
            ensure!(decided.opinion == opinion, "an opinion: {}", decided.opinion);
            took.push(decided.took);
        }
    }
    Ok(took)
}

async fn time(url: &str) -> Result<Value> {
    println!("\nTime that the chain adds to a provider of {} ms\n", SLOW.as_millis());
    println!("| decisions at once | decisions | p50, ms | p99, ms | most, ms |\n|---|---|---|---|---|");
    let shell = Shell::new(url, &[Behaviour::Slow], NO_LIMITS, NO_PRICE, Duration::from_secs(8))?;
    // Connections are made and patterns compiled once.
    rounds(&shell, 1, 100, true).await?;
    let mut rows = Vec::new();
    for (name, count, at_once) in [("1", 50, 1), ("100", 20, 100)] {
        rows.push(Times::beyond(rounds(&shell, count, at_once, true).await?.into_iter(), SLOW).row(name));
    }
    Ok(rows.into())
}

async fn dead(url: &str) -> Result<Value> {
    println!("\nLater than the deadline of {} s where nobody answers\n", DEADLINE.as_secs());
    println!("| chain | decisions | p50, ms | p99, ms | most, ms |\n|---|---|---|---|---|");
    let mut rows = Vec::new();
    let hang = Behaviour::Hang;
    for (name, chain) in
        [("one hangs", vec![hang]), ("one dies, one fails, one hangs", vec![Behaviour::Die, Behaviour::Error, hang])]
    {
        // Breakers of their own, or only the first decisions would wait at all.
        let shells: Vec<_> =
            (0..100).map(|_| Shell::new(url, &chain, NO_LIMITS, NO_PRICE, DEADLINE)).collect::<Result<_>>()?;
        let now = Timestamp::now();
        let cases: Vec<_> = (0..100).map(case).collect();
        let all = try_join_all(shells.iter().zip(&cases).map(|(shell, case)| shell.decide(case, now))).await?;
        ensure!(all.iter().all(|decided| !decided.opinion), "a dead provider had an opinion");
        let times = Times::beyond(all.iter().map(|decided| decided.took), DEADLINE);
        rows.push(times.row(name));
        let late = times.percentile(100);
        println!("\nGoal: at most {LATE:.0} ms: {}\n", if late <= LATE { "met" } else { "missed" });
    }
    Ok(rows.into())
}

async fn memory(url: &str) -> Result<Value> {
    println!("Memory after so many decisions, 100 at once\n");
    println!("| decisions | heap since the first thousand, KiB | RSS, MiB |\n|---|---|---|");
    let shell = Shell::new(url, &[Behaviour::Agree], NO_LIMITS, NO_PRICE, Duration::from_secs(8))?;
    rounds(&shell, 10, 100, true).await?;
    let region = Region::new(ALLOCATOR);
    let mut rows = Vec::new();
    for thousands in [1_u64, 2, 5, 10, 20] {
        let before = rows.last().map_or(1, |row: &Value| row["thousands"].as_u64().unwrap_or(1));
        rounds(&shell, (thousands - before) * 10, 100, true).await?;
        let change = region.change();
        let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let heap = signed(change.bytes_allocated) - signed(change.bytes_deallocated);
        let resident = to_f64(resident()) / 1024.0;
        println!("| {},000 | {} | {resident:.1} |", thousands, heap / 1024);
        rows.push(json!({"thousands": thousands, "heapBytes": heap, "residentMiB": resident}));
    }
    Ok(rows.into())
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Every guard wants an opinion at every look, for a day of a clock that is moved by hand. What arrives is counted at the
/// server.
async fn budgets(oracle: &Oracle, url: &str) -> Result<Value> {
    println!("\n{GUARDS} guards that flap for a day, five looks an hour, no limit a rollout\n");
    println!("| budget | wanted | arrived at the server | most in an hour | allowed |\n|---|---|---|---|---|");
    let calls = Limits { calls_per_hour: Some(100), calls_per_day: Some(1_000), ..NO_LIMITS };
    let price = Price { input: 880_000, output: 880_000 };
    let spend = Limits { spend_per_day: Some(1_000_000), ..NO_LIMITS };
    let tokens = Limits { tokens_per_hour: Some(200_000), tokens_per_day: Some(1_000_000), ..NO_LIMITS };
    let healthy = [Behaviour::Agree];
    let failing = [Behaviour::Error, Behaviour::Agree];
    let mut rows = Vec::new();
    for (name, limits, chain) in [
        ("100 calls an hour, 1,000 a day", calls, &healthy[..]),
        ("the same, the first provider fails", calls, &failing[..]),
        ("200,000 tokens an hour, 1,000,000 a day", tokens, &healthy[..]),
        ("spend of 1.00 a day", spend, &healthy[..]),
    ] {
        let shell = Shell::new(url, chain, limits, price, Duration::from_secs(8))?;
        let prompt = shell.prompt(&case(0))?;
        let (before, began) = (oracle.requests(), Timestamp::now());
        let (mut most, mut wanted) = (0, 0_u64);
        for hour in 0..24_i64 {
            let at_start = oracle.requests();
            for look in 0..5_i64 {
                let now = began + SignedDuration::from_mins(hour * 60 + look * 11);
                futures::future::join_all((0..GUARDS).map(|_| shell.ask(&prompt, Instant::now(), now))).await;
                wanted += GUARDS;
            }
            most = most.max(oracle.requests() - at_start);
        }
        let arrived = oracle.requests() - before;
        let used = shell.used(began + SignedDuration::from_mins(23 * 60 + 44)).day;
        let allowed = kept(&limits, arrived, most, used.tokens, used.spend)?;
        println!("| {name} | {wanted} | {arrived} | {most} | {allowed} |");
        rows.push(json!({"name": name, "wanted": wanted, "arrived": arrived, "mostInAnHour": most,
            "tokens": used.tokens, "spendMicros": used.spend}));
    }
    Ok(rows.into())
}

/// The bench fails where a budget was not kept.
fn kept(limits: &Limits, arrived: u64, most: u64, tokens: u64, spend: u64) -> Result<&'static str> {
    let within = |limit: Option<u64>, used: u64| limit.is_none_or(|limit| used <= limit);
    ensure!(arrived > 0, "nobody was asked at all");
    ensure!(within(limits.calls_per_day, arrived), "{arrived} calls in a day");
    ensure!(within(limits.calls_per_hour, most), "{most} calls in an hour");
    ensure!(within(limits.tokens_per_day, tokens), "{tokens} tokens in a day");
    ensure!(within(limits.spend_per_day, spend), "{spend} millionths spent in a day");
    Ok("kept")
}

fn write(report: &Value) -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deployment-guard"));
    let folder = program.parent().and_then(|folder| folder.parent()).context("no target folder")?.join("bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("chain.json"), serde_json::to_string_pretty(report)?)?;
    Ok(())
}
