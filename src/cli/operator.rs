//! `deployment-guard run`: the operator.
//!
//! Role: join the long tasks and end with one honest exit code. Inputs: flags, the environment, a kubeconfig. Outputs:
//! 0 after a requested stop, 1 after an unexpected end, 2 for configuration. Must never import: `console`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::namespaces::Namespaces;
use crate::api::crd;
use crate::controller::{self, Ended, Settings};
use crate::leader::{Campaign, Leadership, LeaseConfig, lease_client};
use crate::telemetry::health::{self, Health};
use crate::telemetry::logs::{self, Format};
use crate::telemetry::metrics::Metrics;

/// Name of the Lease that the replicas compete for.
pub(super) const LEASE: &str = "deployment-guard";
/// After a request to stop, how long what is under way may take.
const DRAIN: Duration = Duration::from_secs(15);

/// Run the operator.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "DEPLOYMENT_GUARD_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The operator's namespace, where its Lease and the Secrets named by GuardClasses are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "deployment-guard")]
    namespace: String,
    /// Name of this replica, in events and in the Lease.
    #[arg(long, env = "POD_NAME", default_value = "deployment-guard")]
    name: String,
    #[command(flatten)]
    watched: Namespaces,
    /// Act without competing for the Lease; only for a single process outside the cluster.
    #[arg(long)]
    no_leader_election: bool,
    /// Write a recording of every analysed rollout into this directory, to be replayed with `deployment-guard replay`;
    /// the newest 200 are kept, 64 MiB each at most.
    #[arg(long, env = "DEPLOYMENT_GUARD_RECORD", value_name = "DIR")]
    record: Option<PathBuf>,
    /// Which log lines are written, such as `info` or `deployment_guard=debug,info`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, env = "DEPLOYMENT_GUARD_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: Format,
}

/// Runs until somebody says stop.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    logs::start(&arguments.log, arguments.log_format).context("--log cannot be parsed")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(operate(arguments))
}

async fn operate(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::infer().await.context("neither a ServiceAccount nor a kubeconfig was found")?;
    let client = Client::try_from(config.clone()).context("the kubeconfig cannot be used")?;
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::default());
    let stop = CancellationToken::new();
    let listen = arguments.listen;
    let server = tokio::spawn(health::serve(listen, health.clone(), metrics.clone()));
    let signals = tokio::spawn(on_signals(stop.clone()));

    let ended = tokio::select! {
        result = server => {
            let error = result.map_or_else(|e| e.to_string(), |r| r.err().map_or("it ended".into(), |e| e.to_string()));
            anyhow::bail!("serving on {listen} failed: {error}")
        }
        result = lead(arguments, config, client, metrics, health, stop.clone()) => result?,
    };
    signals.abort();
    Ok(match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Unexpectedly(what) => {
            tracing::error!(what, "ended unexpectedly");
            ExitCode::FAILURE
        }
    })
}

/// Waits until this replica leads, then runs the control loops for as long as it does.
async fn lead(
    arguments: Arguments,
    config: Config,
    client: Client,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: CancellationToken,
) -> anyhow::Result<Ended> {
    wait_for_definitions(&client, &health, &stop).await;
    health.set_waiting("the Lease");
    let (campaign, leadership) = if arguments.no_leader_election {
        (None, Leadership::always())
    } else {
        let identity = format!("{}_{:x}", arguments.name, Timestamp::now().as_nanosecond());
        let lease = LeaseConfig { namespace: arguments.namespace.clone(), name: LEASE.into(), identity };
        let (campaign, leadership) = Campaign::new(lease_client(config)?, lease);
        (Some(campaign), leadership)
    };
    let done = CancellationToken::new();
    let campaign = campaign.map(|campaign| tokio::spawn(campaign.run(done.clone().cancelled_owned())));
    let idle = async {
        loop {
            health.beat();
            tokio::time::sleep(Duration::from_secs(5)).await;
            // Another replica leads, so this one is a standby, which is ready: it could take over.
            health.set_ready();
        }
    };
    tokio::select! {
        () = leadership.acquired() => {}
        () = stop.cancelled() => {}
        () = idle => {}
    }
    let ended = if stop.is_cancelled() {
        Ended::Stopped
    } else {
        tracing::info!("this replica acts");
        health.set_waiting("the first lists");
        metrics.set_leader(true);
        let leads = metrics.clone();
        let settings = Settings {
            namespace: arguments.namespace,
            instance: Some(arguments.name),
            record: arguments.record,
            scope: arguments.watched.scope(),
            leadership: leadership.clone(),
            metrics,
            health,
        };
        let ended = tokio::select! {
            ended = controller::run(client, settings, stop.clone()) => ended,
            () = leadership.lost() => Ended::Unexpectedly("the lease"),
            () = drained(&stop) => Ended::Stopped,
        };
        // Nothing acts any more, though the process may wait a moment for the Lease to be given back.
        leads.set_leader(false);
        ended
    };
    // The Lease is given back last, when nothing writes any more.
    done.cancel();
    if let Some(campaign) = campaign {
        let _ = tokio::time::timeout(Duration::from_secs(5), campaign).await;
    }
    Ok(ended)
}

/// The end of the patience after a request to stop.
async fn drained(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
    tracing::warn!("what was under way did not end in time; the next leader finishes it");
}

/// Without its definitions the operator can do nothing, and says so, instead of failing.
async fn wait_for_definitions(client: &Client, health: &Health, stop: &CancellationToken) {
    let mut said = false;
    while !stop.is_cancelled() {
        health.beat();
        match definitions_served(client).await {
            Ok(()) => return,
            Err(missing) => {
                health.set_waiting(&missing);
                if !said {
                    tracing::warn!(%missing, "waiting");
                    said = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(2)) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
}

async fn definitions_served(client: &Client) -> Result<(), String> {
    let version = format!("{}/v1alpha1", crate::api::GROUP);
    let listed = tokio::time::timeout(Duration::from_secs(10), client.list_api_group_resources(&version)).await;
    let served = match listed {
        Ok(Ok(list)) => list.resources,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Vec::new(),
        Ok(Err(error)) => return Err(format!("the API server: {error}")),
        Err(_) => return Err("the API server, which does not answer".into()),
    };
    let wanted = crd::all();
    let missing = wanted.iter().find(|crd| !served.iter().any(|resource| resource.kind == crd.spec.names.kind));
    missing.map_or(Ok(()), |crd| {
        Err(format!("the custom resource definition of {} (kubectl apply -f crds/)", crd.spec.names.kind))
    })
}

/// The first signal asks to stop, the second one insists.
async fn on_signals(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught");
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    tracing::info!("stopping; once more to stop at once");
    stop.cancel();
    next().await;
    std::process::exit(130);
}
