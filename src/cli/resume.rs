//! `deployment-guard resume-suspended`: what the chart runs before the operator is removed.
//!
//! Role: take the Lease, give back every suspended sync, say what was left. Inputs: flags, the environment, a kubeconfig.
//! Outputs: 0 when nothing is suspended any more, 1 when something is, 2 for configuration. Must never import: `console`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use kube::{Client, Config};

use super::namespaces::Namespaces;
use super::operator::LEASE;
use crate::controller::resume;
use crate::leader::{Campaign, Leadership, LeaseConfig, lease_client};
use crate::telemetry::logs::{self, Format};

/// Give back every sync that is suspended for an undo, as the only one who writes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The operator's namespace, where its Lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "deployment-guard")]
    namespace: String,
    /// Name of this process, in events and in the Lease.
    #[arg(long, env = "POD_NAME", default_value = "resume-suspended")]
    name: String,
    #[command(flatten)]
    watched: Namespaces,
    /// Give back without the Lease; only where no operator runs.
    #[arg(long)]
    no_leader_election: bool,
}

/// Gives back.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    logs::start("info", Format::Json)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(give_back(arguments))
}

async fn give_back(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::infer().await.context("neither a ServiceAccount nor a kubeconfig was found")?;
    let client = Client::try_from(config.clone()).context("the kubeconfig cannot be used")?;
    let scope = arguments.watched.scope();
    let leadership = if arguments.no_leader_election { Leadership::always() } else { lead(&arguments, config).await? };
    let returned = resume::everything(&client, &scope, &leadership, Some(arguments.name)).await?;
    for (place, why) in &returned.left {
        eprintln!("error: {place} is still suspended: {why}; docs/install.md says how to give it back by hand");
    }
    println!("{} given back, {} still suspended", returned.resumed.len(), returned.left.len());
    Ok(if returned.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The operator still runs: it would suspend again what is given back. So it is made to stop, and what it began ends first.
/// The Lease is not given back at the end either, but left to expire: until then the operator is gone.
async fn lead(arguments: &Arguments, config: Config) -> anyhow::Result<Leadership> {
    let identity = format!("{}_{:x}", arguments.name, Timestamp::now().as_nanosecond());
    let lease = LeaseConfig { namespace: arguments.namespace.clone(), name: LEASE.into(), identity };
    let (campaign, leadership) = Campaign::new(lease_client(config)?, lease);
    let mut tries = 0;
    let others = loop {
        match campaign.take().await {
            Ok(others) => break others,
            // Its holder renewed it at the same moment.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < 5 => tries += 1,
            Err(error) => return Err(error).context("the Lease could not be taken"),
        }
    };
    drop(tokio::spawn(campaign.run(std::future::pending())));
    tokio::time::sleep(others).await;
    tokio::time::timeout(Duration::from_secs(30), leadership.acquired()).await.context("the Lease was lost again")?;
    Ok(leadership)
}
