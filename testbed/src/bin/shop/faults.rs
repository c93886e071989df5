//! Faults that run beside the requests: the leak, the end after a while, the watch on the dependency, the chatter of
//! the log. Input: settings. Each runs until the process ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hyper::Uri;
use tokio::time::{MissedTickBehavior, interval};

use crate::Shop;
use crate::exchange;
use crate::journal::{self, Level};
use crate::settings::Settings;

/// How often the dependency is asked, and how long it may take.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Leak and chatter come in tenths of a second, so that they grow evenly.
const TENTH: Duration = Duration::from_millis(100);
/// Outlives the container in a volume of its pod.
const STARTS: &str = "/starts/count";
const MIB: usize = 1024 * 1024;
/// In MiB: beyond every limit that a test sets, and little for a machine.
const EAT_AT_MOST: usize = 1024;

/// Differs from pod to pod and from start to start.
pub fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = now.map_or(0, |now| now.subsec_nanos());
    (u64::from(std::process::id()) << 32) ^ u64::from(nanos)
}

/// Starts those that are asked for.
pub fn start(shop: &Arc<Shop>) -> Result<()> {
    let settings = &shop.settings;
    if settings.leak_mib_per_s > 0 {
        let settings = settings.clone();
        // A thread of its own: touching memory must not hold up the requests.
        std::thread::Builder::new()
            .name("leak".to_owned())
            .spawn(move || leak(&settings))
            .context("cannot start the leak")?;
    }
    if let Some(after) = settings.exit_after {
        let settings = settings.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            give_up(&settings, "fatal: giving up");
        });
    }
    if let Some(after) = settings.oom_after {
        std::thread::Builder::new().name("eat".to_owned()).spawn(move || eat(after)).context("cannot start to eat")?;
    }
    if let Some(url) = &settings.dependency_url {
        let uri = url.parse().context("the dependency has no valid address")?;
        tokio::spawn(watch_dependency(Arc::clone(shop), uri));
    }
    if settings.log_lines > 0 || settings.log_error_lines > 0 {
        tokio::spawn(chatter(Arc::clone(shop)));
    }
    Ok(())
}

/// Ends here what must not even begin.
pub async fn at_start(settings: &Settings) -> Result<()> {
    if settings.exit_on_node.is_some() && settings.exit_on_node == settings.node_name {
        give_up(settings, "fatal: cannot write to the disk of this node: read-only file system");
    }
    if settings.exit_at_start_times > 0 {
        let before = std::fs::read_to_string(STARTS).unwrap_or_default();
        let starts: u32 = before.trim().parse().unwrap_or_default();
        std::fs::write(STARTS, format!("{}", starts + 1)).context("cannot count the starts")?;
        if starts < settings.exit_at_start_times {
            give_up(settings, "fatal: connection to the database refused");
        }
    }
    if let Some(url) = settings.dependency_url.as_ref().filter(|_| settings.exit_until_dependency) {
        let uri: Uri = url.parse().context("the dependency has no valid address")?;
        if !answers(&uri).await.is_ok_and(|status| status == 200) {
            give_up(settings, "fatal: connection to the database refused");
        }
    }
    Ok(())
}

/// Says why, and ends.
fn give_up(settings: &Settings, reason: &str) -> ! {
    match &settings.exit_message {
        Some(message) => eprintln!("{message}"),
        None => journal::write(Level::Error, &settings.version, reason),
    }
    std::process::exit(i32::from(settings.exit_code));
}

/// Takes memory until the kernel ends the process; outside a container with a limit that would be the host's.
fn eat(after: Duration) {
    std::thread::sleep(after);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while kept.len() < EAT_AT_MOST {
        kept.push(vec![1; MIB]);
        std::hint::black_box(&kept);
    }
    std::mem::forget(kept);
}

fn leak(settings: &Settings) {
    let Ok(per_tenth) = usize::try_from(settings.leak_mib_per_s).map(|mib| mib * MIB / 10) else {
        return;
    };
    let most = usize::try_from(settings.leak_max_mib).map_or(usize::MAX, |mib| mib * MIB);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while kept.len() * per_tenth < most {
        // Zeroes would stay untouched pages of the kernel.
        kept.push(vec![1; per_tenth]);
        std::hint::black_box(&kept);
        std::thread::sleep(TENTH);
    }
    journal::write(Level::Warn, &settings.version, "the leak has reached its end");
    std::mem::forget(kept);
}

/// The status that the dependency answers with.
async fn answers(uri: &Uri) -> Result<u16, exchange::Failure> {
    let address = exchange::resolve(uri).await?;
    Ok(exchange::get(address, uri, ASK_EVERY).await?.status)
}

async fn watch_dependency(shop: Arc<Shop>, uri: Uri) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = answers(&uri).await;
        let reached = status.as_ref().is_ok_and(|status| *status == 200);
        let before = shop.dependency_answers.swap(reached, Ordering::Relaxed);
        if before != reached {
            let (level, text) = match &status {
                Ok(status) if reached => (Level::Info, format!("status {status}")),
                Ok(status) => (Level::Error, format!("status {status}")),
                Err(failure) => (Level::Error, failure.word().to_owned()),
            };
            journal::write(level, &shop.settings.version, &format!("dependency: {text}"));
        }
    }
}

async fn chatter(shop: Arc<Shop>) {
    let mut ticks = interval(TENTH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Lines owed, in tenths: a rate below ten still comes out even.
    let (mut owed, mut owed_errors) = (0, 0);
    loop {
        ticks.tick().await;
        owed_errors += shop.settings.log_error_lines;
        for _ in 0..owed_errors / 10 {
            journal::write(Level::Error, &shop.settings.version, &journal::complaint(&shop.dice));
        }
        owed_errors %= 10;
        owed += shop.settings.log_lines;
        for _ in 0..owed / 10 {
            let (level, message) = journal::chatter(&shop.dice);
            journal::write(level, &shop.settings.version, &message);
        }
        owed %= 10;
    }
}
