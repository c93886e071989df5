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
const MIB: usize = 1024 * 1024;

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
        let (version, code) = (settings.version.clone(), settings.exit_code);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            journal::write(Level::Error, &version, "fatal: giving up");
            std::process::exit(i32::from(code));
        });
    }
    if let Some(url) = &settings.dependency_url {
        let uri = url.parse().context("the dependency has no valid address")?;
        tokio::spawn(watch_dependency(Arc::clone(shop), uri));
    }
    if settings.log_lines > 0 {
        tokio::spawn(chatter(Arc::clone(shop)));
    }
    Ok(())
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

async fn watch_dependency(shop: Arc<Shop>, uri: Uri) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = match exchange::resolve(&uri).await {
            Ok(address) => exchange::get(address, &uri, ASK_EVERY).await,
            Err(failure) => Err(failure),
        };
        let reached = status.as_ref().is_ok_and(|answer| answer.status == 200);
        let before = shop.dependency_answers.swap(reached, Ordering::Relaxed);
        if before != reached {
            let (level, text) = match &status {
                Ok(answer) if reached => (Level::Info, format!("status {}", answer.status)),
                Ok(answer) => (Level::Error, format!("status {}", answer.status)),
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
    let mut owed = 0;
    loop {
        ticks.tick().await;
        owed += shop.settings.log_lines;
        for _ in 0..owed / 10 {
            let (level, message) = journal::chatter(&shop.dice);
            journal::write(level, &shop.settings.version, &message);
        }
        owed %= 10;
    }
}
