//! One query for all guards that ask the same at the same time.
//!
//! Role: collects requests for a moment, groups them by measure and grid, asks in chunks of pods, deals the answer out.
//! Inputs: measures with pods. Outputs: `Measured`. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::decode::{self, Table};
use super::http::Http;
use crate::domain::assess::{Measured, Reading};
use crate::domain::rollout::PodName;
use crate::domain::signal::{Measure, Query};

/// A histogram has many series a pod.
const BUCKETS: usize = 8;

/// Grid times: from `start` to `end`, `step` apart, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

struct Job {
    measure: Measure,
    pods: Arc<BTreeSet<PodName>>,
    grid: Grid,
    reply: oneshot::Sender<Reading<Measured>>,
}

/// The way to the collecting task, which ends when this is dropped.
pub(super) struct Batcher {
    jobs: mpsc::Sender<Job>,
}

impl Batcher {
    pub(super) fn start(http: Arc<Http>, chunk: usize, collect: Duration) -> Self {
        let (jobs, mut inbox) = mpsc::channel::<Job>(1024);
        tokio::spawn(async move {
            while let Some(first) = inbox.recv().await {
                let mut groups = BTreeMap::new();
                add(&mut groups, first);
                let end = tokio::time::Instant::now() + collect;
                while let Ok(Some(job)) = tokio::time::timeout_at(end, inbox.recv()).await {
                    add(&mut groups, job);
                }
                for jobs in groups.into_values() {
                    tokio::spawn(answer(http.clone(), chunk, jobs));
                }
            }
        });
        Self { jobs }
    }

    pub(super) async fn read(&self, measure: Measure, pods: Arc<BTreeSet<PodName>>, grid: Grid) -> Reading<Measured> {
        let (reply, answer) = oneshot::channel();
        let job = Job { measure, pods, grid, reply };
        let stopped = || Reading::Errored("the reader of metrics stopped".to_owned());
        if self.jobs.send(job).await.is_err() {
            return stopped();
        }
        answer.await.unwrap_or_else(|_| stopped())
    }
}

/// Guards that look far back do not make the others' answers long.
type Key = (String, i64, u32);

fn add(groups: &mut BTreeMap<Key, Vec<Job>>, job: Job) {
    let span = u32::try_from((job.grid.end - job.grid.start) / 300).unwrap_or(u32::MAX);
    let key = (job.measure.key(), job.grid.step, span.checked_ilog2().unwrap_or(0));
    groups.entry(key).or_default().push(job);
}

async fn answer(http: Arc<Http>, chunk: usize, jobs: Vec<Job>) {
    let Some(first) = jobs.first() else { return };
    let (measure, step) = (first.measure.clone(), first.grid.step);
    let start = jobs.iter().map(|job| job.grid.start).min().unwrap_or(first.grid.start);
    let end = jobs.iter().map(|job| job.grid.end).max().unwrap_or(first.grid.end);
    let all: BTreeSet<&PodName> = jobs.iter().flat_map(|job| job.pods.iter()).collect();
    let pods: Vec<PodName> = all.into_iter().cloned().collect();
    let size = if matches!(measure.counted(), Measure::Histogram { .. }) { chunk.div_ceil(BUCKETS) } else { chunk };
    let asks = pods.chunks(size.max(1)).map(|pods| ask(&http, &measure, pods, start, end, step));
    let mut table = Table::default();
    for part in futures::future::join_all(asks).await {
        table.extend(part);
    }
    for job in jobs {
        let reading = table.reading(&job.measure, &job.pods, job.grid.start, job.grid.end);
        // Whoever no longer waits needs no answer.
        let _ = job.reply.send(reading);
    }
}

async fn ask(http: &Http, measure: &Measure, pods: &[PodName], start: i64, end: i64, step: i64) -> Table {
    let query = Query::new(measure, pods);
    let answer = http.range(query.as_str(), start, end, step).await;
    match answer.map_err(|error| error.to_string()).and_then(|body| decode::table(&body, measure, pods)) {
        Ok(table) => table,
        Err(text) => Table::failed(pods, &text),
    }
}
