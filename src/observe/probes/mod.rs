//! Asks pods: HTTP, TCP, gRPC health, at their own addresses only.
//!
//! Role: one ask in, one outcome out, bounded in time, size and number. Inputs: parsed probes; pods with the addresses
//! that the kubelet reported. Outputs: [`ProbeOutcome`]s; whatever a pod does is data, never an error. No name is ever
//! resolved, no redirect followed, no proxy, cookie or credential used. Must never import: `act`, `record`, `controller`.

mod connect;
mod endpoints;
mod grpc;
mod http;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Semaphore;

use crate::domain::probe::version::Wanted;
use crate::domain::probe::{At, Issue, Probe, ProbeOutcome, Question, Stage, address};
use crate::domain::rollout::Side;

pub use endpoints::{Endpoint, behind};

/// Why an address is not asked. An argument, because tests ask their own machine.
pub type AddressPolicy = fn(IpAddr) -> Option<&'static str>;

/// A pod that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTarget {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub side: Side,
    /// `status.podIPs`, as the kubelet reported them, the primary one first.
    pub ips: Vec<IpAddr>,
    /// `spec.hostNetwork`: its address is the node's.
    pub host_network: bool,
    /// The tag of its image ([`crate::domain::probe::version::tag_of`]), for `{imageTag}`.
    pub image_tag: Option<String>,
}

/// What came of asking one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The pod's name.
    pub pod: String,
    /// Its revision.
    pub side: Side,
    /// The outcome.
    pub outcome: ProbeOutcome,
}

/// The prober cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("tls cannot be set up: {0}")]
pub struct ProberError(#[from] rustls::Error);

/// Asks pods. One for the process: its permits bound all guards together.
pub struct Prober {
    permits: Semaphore,
    refuse: AddressPolicy,
    tls: tls::Tls,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("permits", &self.permits.available_permits()).finish_non_exhaustive()
    }
}

/// One ask that ended early.
enum Stop {
    Failed(Issue, String),
    Late(Stage),
}

impl Stop {
    fn failed(issue: Issue, what: impl Into<String>) -> Self {
        Self::Failed(issue, what.into())
    }
}

/// The end of one ask, passed down to every wait of it.
#[derive(Debug, Clone, Copy)]
struct Deadline(tokio::time::Instant);

impl Deadline {
    async fn on<T>(self, stage: Stage, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::time::timeout_at(self.0, work).await.map_err(|_| Stop::Late(stage))
    }
}

impl Prober {
    /// Asks at most `concurrency` pods at a time, at addresses that the domain allows. Reads the system's certificate
    /// authorities, once.
    ///
    /// # Errors
    /// If the TLS library refuses its settings.
    pub fn new(concurrency: usize) -> Result<Self, ProberError> {
        Self::with(concurrency, address::refuse, tls::system_authorities())
    }

    fn with(concurrency: usize, refuse: AddressPolicy, roots: rustls::RootCertStore) -> Result<Self, ProberError> {
        Ok(Self { permits: Semaphore::new(concurrency.max(1)), refuse, tls: tls::Tls::new(roots)? })
    }

    /// Puts one probe to all pods, or to those behind its Service. Waits for the slowest: at most the probe's time-out
    /// after its turn has come.
    pub async fn round(
        &self,
        client: &kube::Client,
        namespace: &str,
        probe: &Probe,
        pods: &[PodTarget],
    ) -> Vec<Answer> {
        let answer = |pod: &PodTarget, outcome| Answer { pod: pod.name.clone(), side: pod.side, outcome };
        let refuse = |why: &str| {
            let all = pods.iter().map(|pod| answer(pod, ProbeOutcome::Refused { why: why.to_owned() }));
            all.collect::<Vec<_>>()
        };
        let calls: Vec<(&PodTarget, Result<SocketAddr, String>)> = match &probe.at {
            At::Pods => pods.iter().map(|pod| (pod, own_address(pod, probe.port.get()))).collect(),
            At::Service(service) => {
                let found =
                    tokio::time::timeout(probe.timeout.max(LOOKUP), behind(client, namespace, service, probe.port))
                        .await
                        .unwrap_or_else(|_| Err("the API server did not answer in time".to_owned()));
                match found {
                    Ok(endpoints) => through(pods, &endpoints),
                    Err(why) => return refuse(&why),
                }
            }
        };
        if calls.is_empty() {
            return refuse("no pod of the target stands behind the Service");
        }
        join_all(calls.into_iter().map(|(pod, address)| async move {
            let outcome = match address {
                Ok(address) => self.ask(probe, pod, address).await,
                Err(why) => ProbeOutcome::Refused { why },
            };
            answer(pod, outcome)
        }))
        .await
    }

    /// Asks one pod once, at an address that must be its own.
    pub async fn ask(&self, probe: &Probe, pod: &PodTarget, address: SocketAddr) -> ProbeOutcome {
        if let Err(why) = self.may_ask(pod, address) {
            return ProbeOutcome::Refused { why };
        }
        let Ok(_permit) = self.permits.acquire().await else {
            return ProbeOutcome::Refused { why: "the operator is shutting down".to_owned() };
        };
        let start = Instant::now();
        let deadline = Deadline(tokio::time::Instant::now() + probe.timeout);
        let done = match &probe.question {
            Question::Tcp => self.connect(address, deadline).await.map(drop),
            Question::Http(http) => {
                let version = http.expect.version.as_ref();
                let wanted = version.map_or(Wanted::Any, |version| version.wanted(pod.side, pod.image_tag.as_deref()));
                Box::pin(self.get(http, wanted, address, deadline)).await
            }
            Question::Grpc { service } => Box::pin(self.check(service, address, deadline)).await,
        };
        let latency = start.elapsed();
        match done {
            Ok(()) => ProbeOutcome::Ok { latency },
            Err(Stop::Failed(issue, what)) => ProbeOutcome::Failed { issue, what, latency },
            Err(Stop::Late(stage)) => ProbeOutcome::TimedOut { stage, after: probe.timeout },
        }
    }

    /// The last check before a connection: the pod's own address, and none that leads elsewhere.
    fn may_ask(&self, pod: &PodTarget, address: SocketAddr) -> Result<(), String> {
        if pod.host_network {
            return Err("the pod uses the network of its node (hostNetwork)".to_owned());
        }
        if !pod.ips.contains(&address.ip()) {
            return Err("the address is not one of the pod's own".to_owned());
        }
        match (self.refuse)(address.ip()) {
            Some(why) => Err(format!("the pod's address is refused: {why}")),
            None => Ok(()),
        }
    }
}

/// The API server gets at least this long to say what stands behind a Service.
const LOOKUP: Duration = Duration::from_secs(5);

fn own_address(pod: &PodTarget, port: u16) -> Result<SocketAddr, String> {
    pod.ips.first().map(|ip| SocketAddr::new(*ip, port)).ok_or_else(|| "the pod has no address yet".to_owned())
}

/// The target's pods among the endpoints. What an `EndpointSlice` says of an address is believed only if the pod's own
/// status says it too: slices can be written by people.
fn through<'p>(pods: &'p [PodTarget], endpoints: &[Endpoint]) -> Vec<(&'p PodTarget, Result<SocketAddr, String>)> {
    let mut calls = Vec::new();
    for pod in pods {
        let mut of_pod = endpoints.iter().filter(|endpoint| endpoint.pod == pod.name).peekable();
        if of_pod.peek().is_none() {
            continue;
        }
        let own = of_pod.find(|endpoint| pod.ips.contains(&endpoint.address.ip()));
        let address = own.map(|endpoint| endpoint.address);
        calls.push((pod, address.ok_or_else(|| "its EndpointSlice names an address that is not the pod's".to_owned())));
    }
    calls
}

#[cfg(test)]
mod tests;
