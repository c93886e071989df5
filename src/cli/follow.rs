//! A guard as it changes.
//!
//! Role: a watch that is doubted: beside it the guard is read again every few seconds, so that a watch that broke, or that
//! silently says nothing any more, costs seconds and not the story. Inputs: a cluster and a name. Outputs: what was seen.
//! Must never import: `console`.

use std::time::Duration;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, StreamExt};
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::cluster::{Cluster, Failure, Trouble, in_time};
use super::guards;

/// How often the guard is read whatever the watch says.
const AGAIN: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug)]
pub(super) enum Sight {
    /// The guard as it is now.
    Guard(Value),
    /// There is none any more.
    Gone,
    /// The API server refused or said nothing.
    Trouble(Trouble),
    /// Nothing in the time that was given.
    Nothing,
    /// The person has had enough.
    Interrupted,
}

type Reading = BoxFuture<'static, Result<Option<DynamicObject>, Trouble>>;

/// One guard, followed.
pub(super) struct Follow {
    api: Api<DynamicObject>,
    name: String,
    context: String,
    watch: BoxStream<'static, Result<Option<DynamicObject>, watcher::Error>>,
    interrupt: Signal,
    /// When it is read whatever the watch says.
    read_at: Instant,
    /// A read that is under way. It outlives a step: a server may take longer than that to answer.
    reading: Option<Reading>,
}

impl Follow {
    pub(super) fn new(cluster: &Cluster, name: &str) -> Result<Self, Failure> {
        let api = guards::api(cluster, Some(&cluster.namespace));
        let interrupt = signal(SignalKind::interrupt())
            .map_err(|error| Failure::Refused(format!("signals cannot be listened to: {error}")))?;
        let watch = watcher::watch_object(api.clone(), name).default_backoff().boxed();
        Ok(Self {
            api,
            name: name.to_owned(),
            context: cluster.context.clone(),
            watch,
            interrupt,
            read_at: Instant::now() + AGAIN,
            reading: None,
        })
    }

    /// What happens next, within a time.
    pub(super) async fn next(&mut self, within: Duration) -> Sight {
        let end = Instant::now() + within;
        loop {
            if self.reading.is_none() && self.read_at <= Instant::now() {
                self.reading = Some(self.read());
            }
            let (read_at, asked) = (self.read_at, self.reading.is_some());
            let answer = self.reading.as_mut().map_or_else(|| future::pending().right_future(), FutureExt::left_future);
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => return Sight::Interrupted,
                event = self.watch.next() => match event {
                    Some(Ok(Some(guard))) => {
                        // What was asked before may be answered with what was before.
                        self.reading = None;
                        self.read_at = Instant::now() + AGAIN;
                        return seen(&guard);
                    }
                    // It tries again by itself; whether the server answers at all is asked by reading.
                    Some(Ok(None) | Err(_)) => self.read_at = read_at.min(Instant::now() + Duration::from_secs(1)),
                    None => self.watch = stream::pending().boxed(),
                },
                found = answer => {
                    self.reading = None;
                    self.read_at = Instant::now() + AGAIN;
                    return match found {
                        Ok(Some(guard)) => seen(&guard),
                        Ok(None) => Sight::Gone,
                        Err(trouble) => Sight::Trouble(trouble),
                    };
                }
                () = tokio::time::sleep_until(read_at), if !asked && read_at <= end => {}
                () = tokio::time::sleep_until(end) => return Sight::Nothing,
            }
        }
    }

    fn read(&self) -> Reading {
        let (api, name, context) = (self.api.clone(), self.name.clone(), self.context.clone());
        async move { in_time(&context, api.get_opt(&name)).await }.boxed()
    }
}

fn seen(guard: &DynamicObject) -> Sight {
    serde_json::to_value(guard).map_or(Sight::Nothing, Sight::Guard)
}
