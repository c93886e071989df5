//! Drives traffic through a Service: a given rate, a new connection for each request, bounded in time and in open
//! requests. Prints a JSON line per second and a final report, also on SIGTERM.

mod exchange;
mod pacing;
mod tally;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use hyper::Uri;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use crate::exchange::{Answer, Failure};
use crate::pacing::Pacing;
use crate::tally::{Outcome, Tally};

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(5);
/// A Service keeps its address, but may be made again.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// A name that has no address yet may get one any moment.
const RESOLVE_AGAIN: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Parser)]
#[command(about = "sends HTTP requests at an even rate and reports what came back")]
struct Options {
    /// Address to request, for example <http://shop.demo.svc.cluster.local/>
    #[arg(long, env = "TARGET", value_parser = target)]
    target: Uri,
    /// Requests per second
    #[arg(long, env = "RATE", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Seconds until it ends by itself
    #[arg(long, env = "DURATION_S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3600))]
    duration_s: u32,
    /// Requests open at the same time; what is due beyond that is skipped and counted
    #[arg(long, env = "CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=256))]
    concurrency: u32,
}

fn target(text: &str) -> Result<Uri, String> {
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => Ok(uri),
        _ => Err("must be an http:// address".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(&options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, mut outcomes) = mpsc::channel::<Outcome>(1024);
    let first = exchange::resolve(&options.target).await;
    let (found, addresses) = watch::channel(first);
    tokio::spawn(keep_resolved(options.target.clone(), found));
    let pacing = Pacing::new(options.rate, options.duration_s);
    let start = Instant::now();
    let mut seconds = interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
    let (mut next, mut open) = (0_u32, 0_u32);
    let mut tally = Tally::default();
    // Without answers to wait for, the loop ends with the last request.
    loop {
        let due = pacing.due(next).map(|due| start + due);
        if due.is_none() && open == 0 {
            break;
        }
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = seconds.tick() => print(&tally.line(Timestamp::now())?)?,
            Some(outcome) = outcomes.recv() => {
                open -= 1;
                tally.add(&outcome);
            }
            () = sleep_until(due.unwrap_or(start)), if due.is_some() => {
                next += 1;
                if open < options.concurrency {
                    open += 1;
                    let address = *addresses.borrow();
                    tokio::spawn(request(address, options.target.clone(), sender.clone()));
                } else {
                    tally.skip();
                }
            }
        }
    }
    print(&tally.report(Timestamp::now(), start.elapsed())?)
}

/// Beside the loop, because a slow name server must not hold up the requests.
async fn keep_resolved(target: Uri, found: watch::Sender<Result<SocketAddr, Failure>>) {
    loop {
        // Until there is an address at all, sooner.
        let known = found.borrow().is_ok();
        sleep(if known { RESOLVE_EVERY } else { RESOLVE_AGAIN }).await;
        let answer = exchange::resolve(&target).await;
        // An address that was good a moment ago is better than none.
        if answer.is_ok() && found.send(answer).is_err() {
            return;
        }
    }
}

async fn request(address: Result<SocketAddr, Failure>, target: Uri, sender: mpsc::Sender<Outcome>) {
    let begun = Instant::now();
    let result: Result<Answer, Failure> = match address {
        Ok(address) => exchange::get(address, &target, LIMIT).await,
        Err(failure) => Err(failure),
    };
    let outcome = Outcome { at: Timestamp::now(), took: begun.elapsed(), result };
    // The receiver is gone only when the run has ended.
    let _ = sender.send(outcome).await;
}

fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write the report")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        let parse = |arguments: &[&str]| {
            let all = ["load", "--target", "http://shop/"];
            Options::try_parse_from(all.iter().chain(arguments))
        };
        assert!(parse(&[]).is_ok());
        assert!(parse(&["--duration-s", "3600"]).is_ok());
        assert!(parse(&["--duration-s", "3601"]).is_err());
        assert!(parse(&["--concurrency", "257"]).is_err());
        assert!(parse(&["--rate", "0"]).is_err());
        assert!(Options::try_parse_from(["load", "--target", "https://shop/"]).is_err());
    }
}
