//! A workload, its pods and its metrics, as somebody at a terminal sees them.
//!
//! Role: the reads that several commands share, and what a person does about one that fails. Inputs: a kubeconfig, names.
//! Outputs: facts and readings, or a sentence with an exit code. Must never import: `console`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::watcher::Event;
use kube::{Api, Client};

use super::cluster::{self, Cluster, Failure};
use super::explain::plain;
use super::guards;
use crate::api::class::GuardClass;
use crate::api::{DEFAULT_CLASS_ANNOTATION, DeploymentGuard};
use crate::controller::sources::Sources;
use crate::domain::assess::{Measured, quantile_ms, share_of_limit};
use crate::domain::evidence::number::to_f64;
use crate::domain::evidence::{Counters, PodLife};
use crate::domain::policy::{Interval, Target};
use crate::domain::rollout::{PodFact, PodName, RevisionHash, Side, Workload};
use crate::domain::signal::Signal;
use crate::observe::pods::{PodIndex, WorkloadKey};
use crate::observe::prometheus::{PrometheusSource, QueryObserver, ReadRequest, SourceConfig, SourceError};
use crate::observe::workload::{self, ReadError};

/// Exit code where something else has to answer first.
const UNREACHABLE: u8 = 4;
/// How long one read of the API server may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The stretch that live values speak of.
pub(super) const STRETCH: Duration = Duration::from_mins(5);
/// Pods of a namespace that are read at most.
const MOST_PODS: u32 = 5000;

/// Why a command has nothing to show.
pub(super) enum Trouble {
    /// Asked wrongly, or for something that is not there.
    Usage(String),
    /// Nobody answered.
    Unreachable(String),
}

impl Trouble {
    /// Says it; the exit code.
    pub(super) fn told(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Usage(text) => (text, super::USAGE),
            Self::Unreachable(text) => (text, UNREACHABLE),
        };
        super::terminal::note(&format!("error: {}", plain::line(text)));
        ExitCode::from(code)
    }
}

/// Nobody counts queries here.
struct Uncounted;

impl QueryObserver for Uncounted {
    fn queried(&self, _: &'static str, _: Duration) {}
}

/// A client, and the namespace that is meant.
pub(super) async fn connect(namespace: Option<&str>, context: Option<&str>) -> Result<(Client, String), Trouble> {
    match Cluster::connect(namespace, context).await {
        Ok(cluster) => Ok((cluster.client, cluster.namespace)),
        Err(Failure::Refused(why)) => Err(Trouble::Usage(why)),
        Err(Failure::Unreachable(why)) => Err(Trouble::Unreachable(why)),
    }
}

async fn in_time<T>(what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(READ_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(refused(what, &error)),
        Err(_) => Err(Trouble::Unreachable("the API server does not answer".to_owned())),
    }
}

fn refused(what: &str, error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) if status.code >= 500 => {
            Trouble::Unreachable(format!("the API server says {}", status.message))
        }
        kube::Error::Api(status) if status.code == 403 => {
            Trouble::Usage(format!("you may not read {what}: {}", status.message))
        }
        kube::Error::Api(status) => Trouble::Usage(format!("reading {what}: {}", status.message)),
        // It answered, with what another version understands.
        kube::Error::SerdeError(error) => {
            Trouble::Usage(format!("{what} is of another version, which this one cannot read: {error}"))
        }
        other => Trouble::Unreachable(format!("the API server cannot be asked: {}", cluster::deepest(other))),
    }
}

/// A guard.
pub(super) async fn guard(client: &Client, namespace: &str, name: &str) -> Result<DeploymentGuard, Trouble> {
    if let Some(why) = guards::not_a_name(name) {
        return Err(Trouble::Usage(why));
    }
    let api: Api<DeploymentGuard> = Api::namespaced(client.clone(), namespace);
    let found = in_time(&format!("the guard {name} in namespace {namespace}"), api.get_opt(name)).await?;
    let none = "`kubectl get dg -A` lists guards, -n names another namespace; without any, apply the folder crds/";
    found.ok_or_else(|| Trouble::Usage(format!("there is no guard {name} in namespace {namespace}; {none}")))
}

/// The class of that name, or the default one; none if there is no default.
pub(super) async fn class(client: &Client, name: Option<&str>) -> Result<Option<GuardClass>, Trouble> {
    let api: Api<GuardClass> = Api::all(client.clone());
    if let Some(name) = name {
        let found = in_time(&format!("the GuardClass {name}"), api.get_opt(name)).await?;
        let none = format!("there is no GuardClass {name}; `kubectl get guardclasses` lists them");
        return found.map(Some).ok_or(Trouble::Usage(none));
    }
    let all = in_time("the GuardClasses", api.list(&ListParams::default())).await?;
    let default = |class: &GuardClass| {
        let value = class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CLASS_ANNOTATION));
        value.is_some_and(|value| value == "true")
    };
    let mut defaults = all.items.into_iter().filter(default);
    match (defaults.next(), defaults.next()) {
        (Some(_), Some(_)) => {
            Err(Trouble::Usage("several GuardClasses are annotated as the default; keep one, or name one".to_owned()))
        }
        (only, _) => Ok(only),
    }
}

/// A workload, its pods, and which of its revisions is the new one.
pub(super) struct Sight {
    pub(super) workload: Workload,
    pub(super) pods: Vec<PodFact>,
}

impl Sight {
    /// Reads it.
    pub(super) async fn of(client: &Client, namespace: &str, target: &Target) -> Result<Self, Trouble> {
        let key = WorkloadKey { namespace: namespace.into(), target: target.clone() };
        let named = format!("{} {} in namespace {namespace}", target.kind.name(), target.name);
        let workload = workload::fetch(client, &key).await.map_err(|error| match &error {
            ReadError::Api { source, .. } => refused(&named, source),
            ReadError::TimedOut(_) => Trouble::Unreachable("the API server does not answer".to_owned()),
            ReadError::Unreadable(_) => Trouble::Usage(format!("{named}: {error}")),
        })?;
        let workload = workload.ok_or_else(|| Trouble::Usage(format!("there is no {named}")))?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let list = in_time("the pods", pods.list(&ListParams::default().limit(MOST_PODS))).await?;
        let (index, now) = (PodIndex::default(), Timestamp::now());
        index.apply(Event::Init, now);
        for pod in list.items {
            index.apply(Event::InitApply(pod), now);
        }
        index.apply(Event::InitDone, now);
        let mut pods = index.of_owners(&workload.pod_owners());
        pods.retain(PodFact::is_live);
        Ok(Self { workload, pods })
    }

    /// Revisions that have pods, the present one first.
    pub(super) fn revisions(&self) -> Vec<RevisionHash> {
        let all: BTreeSet<&RevisionHash> = self.pods.iter().map(|pod| &pod.revision).collect();
        let present = self.workload.current.as_ref();
        let mut revisions: Vec<RevisionHash> = all.into_iter().cloned().collect();
        revisions.sort_by_key(|revision| Some(revision) != present);
        revisions
    }

    /// The names of a revision's pods.
    pub(super) fn names(&self, revision: &RevisionHash) -> BTreeSet<PodName> {
        self.pods.iter().filter(|pod| pod.revision == *revision).map(|pod| pod.pod.clone()).collect()
    }

    /// The lives of all pods: those of the present revision are the new ones.
    pub(super) fn lives(&self) -> Vec<PodLife> {
        let side =
            |pod: &PodFact| if Some(&pod.revision) == self.workload.current.as_ref() { Side::New } else { Side::Old };
        self.pods.iter().map(|pod| PodLife::of(pod, Some(side(pod)), Duration::ZERO)).collect()
    }

    /// What is to be read of these signals: the last minutes.
    pub(super) fn request(&self, signals: Vec<Signal>) -> ReadRequest {
        let until = Timestamp::now();
        let since = until.checked_sub(STRETCH).unwrap_or(until);
        ReadRequest { signals, lives: self.lives(), since, until, interval: Interval::Auto }
    }
}

/// The Prometheus of a class with its credentials, or another one without any.
pub(super) async fn source(
    client: &Client,
    class: Option<&GuardClass>,
    url: Option<&str>,
    secrets: &str,
) -> Result<Arc<PrometheusSource>, Trouble> {
    let source = match (url, class) {
        (Some(url), _) => {
            let config = SourceConfig { url: url.to_owned(), ..SourceConfig::default() };
            let made = PrometheusSource::new(config, Arc::new(Uncounted));
            Arc::new(made.map_err(|error| Trouble::Usage(format!("--prometheus {url}: {error}")))?)
        }
        (None, Some(class)) => {
            let sources = Sources::new(client.clone(), secrets.to_owned(), Arc::new(Uncounted));
            let made = sources.ensure("class", &class.spec.prometheus).await;
            made.map_err(|error| Trouble::Usage(format!("the class's Prometheus: {error}")))?
        }
        (None, None) => {
            let text = "no GuardClass is the default; make one, or say where Prometheus is with --prometheus URL";
            return Err(Trouble::Usage(text.to_owned()));
        }
    };
    let hint = "; from outside of the cluster, forward a port to it and name that with --prometheus URL";
    match source.probe().await {
        Ok(_) => Ok(source),
        Err(error @ SourceError::Config(_)) => Err(Trouble::Usage(error.to_string())),
        Err(error) => Err(Trouble::Unreachable(format!("{error}{}", if url.is_some() { "" } else { hint }))),
    }
}

/// What a revision's pods show, as a clause; none if nothing was counted.
pub(super) fn value(name: &str, found: &Measured, pods: &BTreeSet<PodName>, lives: &[PodLife]) -> Option<String> {
    match found {
        Measured::Ratio(counters) => {
            let sum = counted(counters, pods);
            let (total, bad) = (sum.first().copied()?, sum.get(1).copied()?);
            let percent = if total == 0 { 0.0 } else { 100.0 * to_f64(bad) / to_f64(total) };
            (total > 0).then(|| format!("{bad} of {total}, {percent:.2} %"))
        }
        Measured::Histogram(counters) => {
            let sum = counted(counters, pods);
            let total = sum.first().copied()?;
            let quantile = quantile_ms(0.95, &counters.bounds, sum.get(1..)?, total)?;
            let beyond = if quantile.at_least { "more than " } else { "" };
            Some(format!("95th percentile {beyond}{:.0} ms of {total}", quantile.value))
        }
        Measured::Gauge(points) => {
            let last = |point: &&crate::domain::evidence::GaugePoint| {
                let same = |other: &&crate::domain::evidence::GaugePoint| {
                    other.pod == point.pod && other.container == point.container && other.sampled > point.sampled
                };
                pods.contains(&point.pod) && !points.iter().any(|other| same(&other))
            };
            let memory = name.ends_with("memory");
            let values: Vec<f64> = points
                .iter()
                .filter(last)
                .filter_map(|point| {
                    let life = lives.iter().find(|life| life.pod == point.pod)?;
                    if memory { share_of_limit(life, point) } else { Some(point.value) }
                })
                .collect();
            let count = to_f64(u64::try_from(values.len()).ok()?);
            let unit = if memory { " % of the limit" } else { "" };
            (!values.is_empty()).then(|| format!("{:.1}{unit}", values.iter().sum::<f64>() / count))
        }
    }
}

/// What counters rose by; one that fell began again.
fn counted(counters: &Counters, pods: &BTreeSet<PodName>) -> Vec<u64> {
    let mut sum = vec![0_u64; counters.width];
    for (_, pod) in counters.pods.iter().filter(|(pod, _)| pods.contains(*pod)) {
        let rows: Vec<&[u64]> = pod.values.chunks(counters.width.max(1)).collect();
        for pair in rows.windows(2) {
            let [before, after] = pair else { continue };
            for ((sum, before), after) in sum.iter_mut().zip(*before).zip(*after) {
                *sum += after.checked_sub(*before).unwrap_or(*after);
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn only(pod: &PodName) -> BTreeSet<PodName> {
        [pod.clone()].into()
    }

    #[test]
    fn a_counter_that_began_again_is_not_taken_for_a_loss_and_other_pods_do_not_count() {
        let (pod, other) = (PodName::new("shop", "a"), PodName::new("shop", "b"));
        let mut counters = Counters::new(2, Vec::new());
        for (second, row) in [(0, [100, 10]), (5, [150, 12]), (10, [20, 1])] {
            counters.push(&pod, at(second), at(second), &row);
            counters.push(&other, at(second), at(second), &[row[0] * 9, 0]);
        }
        let value = value("http/errors", &Measured::Ratio(counters), &only(&pod), &[]);
        assert_eq!(value.as_deref(), Some("3 of 70, 4.29 %"));
    }

    #[test]
    fn nothing_counted_is_no_value() {
        let pod = PodName::new("shop", "a");
        let mut counters = Counters::new(2, Vec::new());
        counters.push(&pod, at(0), at(0), &[100, 10]);
        counters.push(&pod, at(5), at(5), &[100, 10]);
        assert_eq!(value("http/errors", &Measured::Ratio(counters), &only(&pod), &[]), None);
        assert_eq!(value("queue", &Measured::Gauge(Vec::new()), &only(&pod), &[]), None);
    }

    #[test]
    fn a_quantile_beyond_the_last_boundary_is_said_to_be_more() {
        let pod = PodName::new("shop", "a");
        let mut counters = Counters::new(2, vec![250.0]);
        counters.push(&pod, at(0), at(0), &[0, 0]);
        counters.push(&pod, at(5), at(5), &[100, 50]);
        let value = value("http/latency", &Measured::Histogram(counters), &only(&pod), &[]);
        assert_eq!(value.as_deref(), Some("95th percentile more than 250 ms of 100"));
    }
}
