//! The logs of containers, as the kubelet hands them out through the API.
//!
//! Role: reads one container's log as a stream, with limits on bytes, time and reads at once. Inputs: a client, which
//! container, since when. Outputs: entries for the domain, and what the read came to; a log that cannot be had is data,
//! never an error. Must never import: other rooms than `domain`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::domain::logs::{Entry, Mark, Reader, Volume};
use crate::domain::redact::{Redactor, SERVER_MESSAGE};
use crate::domain::rollout::{PodFact, PodName};

/// Reads under way at once: each holds a connection of the API server and one of a kubelet.
pub const AT_ONCE: usize = 8;
/// How long one read may take, its wait for a place not included.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The kubelet may hand out slightly less than the limit; so near to it the last line may be half.
const MARGIN: u64 = 1024;

/// What the kubelet writes in place of a log, with a status of 200, when the file is gone.
const IN_PLACE_OF_A_LOG: &[&str] =
    &["unable to retrieve container logs for ", "failed to try resolving symlinks in path "];

/// The API server answers 400 for a container that has no log, and for a request that is wrong in itself.
const NO_LOG: &[&str] = &[
    "is waiting to start",
    "previous terminated container",
    "is not available",
    "ContainerCreating",
    "PodInitializing",
    "not found in pod",
    "is not valid for pod",
];

/// Which log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// The pod.
    pub pod: PodName,
    /// Its container.
    pub container: String,
    /// The log of the container that ended before this one: where a crash is told.
    pub previous: bool,
    /// Only lines behind this place, which is the `until` of the read before.
    pub since: Option<Mark>,
    /// Bytes, at most.
    pub limit_bytes: u64,
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// At the end of the log.
    Whole,
    /// At the limit of bytes; a read since `until` goes on there.
    Limit,
    /// Too early: the file was rotated away, the pod went, the connection broke.
    Early,
    /// At the deadline.
    Deadline,
}

/// What a read came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogReading {
    /// Lines, perhaps none.
    Read {
        /// How much.
        volume: Volume,
        /// How far it came: the next read's `since`.
        until: Option<Mark>,
        /// How it ended.
        ended: Ended,
    },
    /// The container has not started, did not end before, or its log was deleted.
    NoLogs,
    /// `pods/log get` is missing.
    Forbidden,
    /// The pod does not exist any more.
    Gone,
    /// No answer in time.
    TimedOut,
    /// Something else, redacted.
    Failed(String),
}

impl LogReading {
    /// The reason for a tally's `could_not_read`; `None` if there is nothing to complain of.
    #[must_use]
    pub const fn unreadable(&self) -> Option<&'static str> {
        match self {
            Self::Read { ended: Ended::Whole | Ended::Limit, .. } | Self::NoLogs => None,
            Self::Read { ended: Ended::Early, .. } => Some("ended early"),
            Self::Read { ended: Ended::Deadline, .. } | Self::TimedOut => Some("timed out"),
            Self::Forbidden => Some("forbidden"),
            Self::Gone => Some("gone"),
            Self::Failed(_) => Some("failed"),
        }
    }
}

/// Reads logs; cheap to clone, and all clones share the limit of reads at once.
#[derive(Clone)]
pub struct LogSource {
    client: kube::Client,
    places: Arc<Semaphore>,
    redactor: Arc<Redactor>,
    deadline: Duration,
}

impl LogSource {
    /// With the usual limits.
    #[must_use]
    pub fn new(client: kube::Client, redactor: Arc<Redactor>) -> Self {
        Self { client, places: Arc::new(Semaphore::new(AT_ONCE)), redactor, deadline: DEADLINE }
    }

    /// With another deadline for each read.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Reads one log. The kubelet is asked for more only when `sink` has taken what came, so nothing piles up.
    pub async fn read(&self, request: &LogRequest, sink: &mut impl FnMut(Entry)) -> LogReading {
        // The semaphore is never closed, so this only waits.
        let _place = self.places.acquire().await;
        let deadline = Instant::now() + self.deadline;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &request.pod.namespace);
        let params = LogParams {
            container: Some(request.container.clone()),
            previous: request.previous,
            since_time: request.since.map(|mark| mark.at),
            limit_bytes: i64::try_from(request.limit_bytes).ok(),
            timestamps: true,
            ..LogParams::default()
        };
        let stream = match timeout_at(deadline, pods.log_stream(&request.pod.name, &params)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.refused(&error),
            Err(_) => return LogReading::TimedOut,
        };
        let mut stream = pin!(stream);
        let mut reader = Reader::since(request.since);
        let (mut bytes, mut in_place) = (0u64, false);
        let ended = loop {
            let chunk = match timeout_at(deadline, stream.fill_buf()).await {
                Ok(Ok([])) => {
                    break if bytes.saturating_add(MARGIN) < request.limit_bytes { Ended::Whole } else { Ended::Limit };
                }
                Ok(Ok(chunk)) => chunk,
                Ok(Err(_)) => break Ended::Early,
                Err(_) => break Ended::Deadline,
            };
            in_place |= bytes == 0 && IN_PLACE_OF_A_LOG.iter().any(|words| chunk.starts_with(words.as_bytes()));
            if in_place {
                return LogReading::NoLogs;
            }
            // A server that does not keep to the limit is held to it here.
            let room = usize::try_from(request.limit_bytes.saturating_sub(bytes)).unwrap_or(usize::MAX);
            let (length, taken) = (chunk.len(), chunk.get(..chunk.len().min(room)).unwrap_or_default());
            bytes = bytes.saturating_add(u64::try_from(taken.len()).unwrap_or(u64::MAX));
            reader.feed(taken, sink);
            if taken.len() < length {
                break Ended::Limit;
            }
            stream.consume_unpin(length);
            // Other tasks of this thread get their turn between two chunks.
            tokio::task::yield_now().await;
        };
        let volume = reader.end(ended == Ended::Whole, sink);
        if ended == Ended::Deadline && volume.lines == 0 {
            return LogReading::TimedOut;
        }
        LogReading::Read { volume, until: reader.until(), ended }
    }

    fn refused(&self, error: &kube::Error) -> LogReading {
        let kube::Error::Api(status) = error else {
            return LogReading::Failed(self.redactor.redact(&error.to_string(), SERVER_MESSAGE).as_str().to_owned());
        };
        match status.code {
            400 if NO_LOG.iter().any(|words| status.message.contains(words)) => LogReading::NoLogs,
            401 | 403 => LogReading::Forbidden,
            404 => LogReading::Gone,
            408 | 504 => LogReading::TimedOut,
            code => {
                let text = format!("{code}: {}", status.message);
                LogReading::Failed(self.redactor.redact(&text, SERVER_MESSAGE).as_str().to_owned())
            }
        }
    }
}

impl std::fmt::Debug for LogSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSource").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// The pods of one side whose logs are read: restarted ones first, then those that are not ready, then by name, so that
/// two looks choose the same.
#[must_use]
pub fn pick<'p>(pods: impl IntoIterator<Item = &'p PodFact>, most: usize) -> Vec<&'p PodFact> {
    let mut pods: Vec<_> = pods.into_iter().collect();
    pods.sort_by(|one, other| {
        let key = |pod: &PodFact| (pod.restarts == 0, pod.ready_since.is_some());
        key(one).cmp(&key(other)).then_with(|| one.pod.name.cmp(&other.pod.name))
    });
    pods.truncate(most);
    pods
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
