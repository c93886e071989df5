//! Leader election by a Lease.
//!
//! Role: at most one operator writes. Inputs: a client of its own, a name. Outputs: [`Leadership`], asked before every
//! write. Pure `evaluate` decides; the loop around it only reads, writes and sleeps. Must never import: other rooms than
//! `domain` and `api`. Why it is our own: docs/adr/0002-leader-election.md.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::managers;

/// The timings of client-go: a Lease that stands still this long may be taken.
const LEASE: Duration = Duration::from_secs(15);

/// A leader that could not renew for this long stops. The rest of [`LEASE`] is for what is under way and for clocks that
/// run at different speeds.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Time between two looks at the Lease.
const RETRY: Duration = Duration::from_secs(2);

/// The longest wait for one look; short enough for a second one before the deadline.
const ATTEMPT: Duration = Duration::from_secs(4);

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

/// What a Lease says. Two looks that are equal mean that it stood still.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Observed {
    /// Who holds it; `None` after a release.
    holder: Option<String>,
    renewed: Option<Timestamp>,
    transitions: i32,
}

/// What a candidate remembers. Times are its own monotonic clock's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// What was seen last (`None` inside: no Lease), and since when it stands still.
    watched: Option<(Option<Observed>, Duration)>,
    /// When the last successful write was sent, while we hold the Lease.
    renewed: Option<Duration>,
}

/// What to do with the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Make it.
    Create,
    /// Write ourselves into it, unless it changed since the look.
    Write,
    /// Look again later.
    Wait,
}

impl State {
    /// Whether we may act as leader.
    fn holds(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|sent| now.saturating_sub(sent) < RENEW_DEADLINE)
    }

    /// A write that was sent at `sent` succeeded. Others count from when it was stored, which is never earlier.
    fn wrote(&mut self, sent: Duration) {
        self.renewed = Some(sent);
    }
}

/// Decides what a look at the Lease means. The Lease's own times are never compared with a clock.
fn evaluate(state: &State, identity: &str, seen: Option<Observed>, now: Duration) -> (State, Step) {
    let since = match &state.watched {
        Some((last, since)) if *last == seen => Some(*since),
        _ => None,
    };
    let stood_still = since.is_some_and(|since| now.saturating_sub(since) >= LEASE);
    let holder = seen.as_ref().and_then(|lease| lease.holder.as_deref());
    let (renewed, step) = match (&seen, holder) {
        (Some(_), Some(holder)) if holder == identity => (state.renewed, Step::Write),
        (Some(_), Some(_)) => (None, if stood_still { Step::Write } else { Step::Wait }),
        (Some(_), None) => (None, Step::Write),
        // Somebody deleted the Lease under its holder, who does not know it yet.
        (None, _) if was_held_by_other(state, identity) && !stood_still => (None, Step::Wait),
        (None, _) => (None, Step::Create),
    };
    let watched = match &seen {
        None if !was_held_by_other(state, identity) => None,
        _ => Some((seen, since.unwrap_or(now))),
    };
    (State { watched, renewed }, step)
}

/// Whether the last look showed another holder, or a Lease that vanished under one.
fn was_held_by_other(state: &State, identity: &str) -> bool {
    match &state.watched {
        Some((Some(lease), _)) => lease.holder.as_deref().is_some_and(|holder| holder != identity),
        // Only what vanished under another holder is kept in mind as missing.
        Some((None, _)) => true,
        None => false,
    }
}

/// The last renewal, by both clocks: the monotonic one stands still while a machine is suspended.
#[derive(Debug, Clone, Copy)]
struct Held {
    sent: Instant,
    sent_wall: SystemTime,
}

/// What the fence reads.
#[derive(Debug, Clone)]
enum Hold {
    Always,
    While(Arc<AtomicBool>),
    Never,
    Since(Held),
}

/// How far the campaign is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Leading,
    Over,
}

/// Whether this process leads. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Leadership {
    hold: Arc<Mutex<Hold>>,
    phase: watch::Receiver<Phase>,
    /// Keeps the channel open where there is no campaign.
    _always: Option<Arc<watch::Sender<Phase>>>,
}

impl Leadership {
    /// Whether this process may write at this moment.
    #[must_use]
    pub fn holds(&self) -> bool {
        match &*self.hold.lock().unwrap_or_else(PoisonError::into_inner) {
            Hold::Always => true,
            Hold::While(flag) => flag.load(Ordering::SeqCst),
            Hold::Never => false,
            Hold::Since(held) => {
                // A wall clock that was set back says nothing; one that ran ahead may mean that we slept.
                let slept = held.sent_wall.elapsed().is_ok_and(|elapsed| elapsed >= RENEW_DEADLINE);
                held.sent.elapsed() < RENEW_DEADLINE && !slept
            }
        }
    }

    /// A leadership that always holds: for `--no-leader-election` and for tests.
    #[must_use]
    pub fn always() -> Self {
        Self::of(Hold::Always)
    }

    /// A leadership that holds while `flag` is set: for tests in which it is lost at a chosen moment.
    #[must_use]
    pub fn held_while(flag: Arc<AtomicBool>) -> Self {
        Self::of(Hold::While(flag))
    }

    fn of(hold: Hold) -> Self {
        let (sender, phase) = watch::channel(Phase::Leading);
        Self { hold: Arc::new(Mutex::new(hold)), phase, _always: Some(Arc::new(sender)) }
    }

    /// Waits until this process leads; for ever when its campaign ended before it did.
    pub async fn acquired(&self) {
        if self.phase.clone().wait_for(|phase| *phase == Phase::Leading).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the campaign is over: leadership was lost or given back. It does not come back.
    pub async fn lost(&self) {
        // A sender that is gone means the same.
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Over).await;
    }
}

/// The campaign; must be polled for as long as the process wants to lead.
pub struct Campaign {
    api: Api<Lease>,
    config: LeaseConfig,
    hold: Arc<Mutex<Hold>>,
    phase: watch::Sender<Phase>,
    origin: Instant,
}

impl Campaign {
    /// Prepares a campaign. `client` should be made by [`lease_client`].
    #[must_use]
    pub fn new(client: Client, config: LeaseConfig) -> (Self, Leadership) {
        let (sender, phase) = watch::channel(Phase::Waiting);
        let hold = Arc::new(Mutex::new(Hold::Never));
        let leadership = Leadership { hold: hold.clone(), phase, _always: None };
        let api = Api::namespaced(client, &config.namespace);
        (Self { api, config, hold, phase: sender, origin: Instant::now() }, leadership)
    }

    /// Takes the Lease from whoever holds it. Says how long that one may still write: nobody else may before.
    ///
    /// # Errors
    /// When the Lease cannot be read or written, or changed again between the two.
    pub async fn take(&self) -> Result<Duration, kube::Error> {
        let lease = self.api.get_opt(&self.config.name).await?;
        let holder = lease.as_ref().map(observe).and_then(|seen| seen.holder);
        let held_by_other = holder.is_some_and(|holder| holder != self.config.identity);
        match lease {
            Some(lease) => self.api.replace(&self.config.name, &params(), &self.claim(Some(lease))).await?,
            None => self.api.create(&params(), &self.claim(None)).await?,
        };
        Ok(if held_by_other { LEASE } else { Duration::ZERO })
    }

    /// Campaigns until `shutdown` resolves or a leadership once won is lost, then gives the Lease back, so that the next
    /// one need not wait.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut state = State::default();
        loop {
            let patience = self.patience(&state);
            tokio::select! {
                () = &mut shutdown => break,
                result = tokio::time::timeout(patience, self.attempt(&mut state)) => self.report(result),
            }
            let now = self.origin.elapsed();
            let leads = *self.phase.borrow() == Phase::Leading;
            if leads && !state.holds(now) {
                tracing::error!(lease = self.config.name, "the lease was lost");
                break;
            }
            if !leads && state.holds(now) {
                self.phase.send_replace(Phase::Leading);
            }
            let pause = RETRY.min(self.patience_until_deadline(&state).unwrap_or(RETRY));
            tokio::select! {
                () = &mut shutdown => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.set(Hold::Never);
        self.phase.send_replace(Phase::Over);
        if tokio::time::timeout(ATTEMPT, self.release()).await.is_err() {
            tracing::warn!(lease = self.config.name, "the lease was not given back in time; it will expire");
        }
    }

    /// Looks at the Lease and does what is to be done.
    async fn attempt(&self, state: &mut State) -> Result<(), kube::Error> {
        let lease = self.api.get_opt(&self.config.name).await?;
        let now = self.origin.elapsed();
        let (next, step) = evaluate(state, &self.config.identity, lease.as_ref().map(observe), now);
        *state = next;
        if state.renewed.is_none() {
            self.set(Hold::Never);
        }
        // Taken before the write is sent: others count from when it is stored.
        let held = Held { sent: Instant::now(), sent_wall: SystemTime::now() };
        let sent = self.origin.elapsed();
        let lease = match step {
            Step::Wait => return Ok(()),
            Step::Create => self.claim(None),
            Step::Write => self.claim(lease),
        };
        let written = match step {
            Step::Create => self.api.create(&params(), &lease).await,
            Step::Write | Step::Wait => self.api.replace(&self.config.name, &params(), &lease).await,
        };
        match written {
            Ok(_) => {
                state.wrote(sent);
                self.set(Hold::Since(held));
                Ok(())
            }
            // Another one was faster; the next look says who.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The Lease with us in it. Its resourceVersion stays, so that the write fails if it changed.
    fn claim(&self, lease: Option<Lease>) -> Lease {
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let now = MicroTime(Timestamp::now());
        let last = lease.spec.take().unwrap_or_default();
        let ours = last.holder_identity.as_deref() == Some(self.config.identity.as_str());
        let transitions = last.lease_transitions.unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if ours { last.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        });
        lease
    }

    /// Gives the Lease back if it is ours, whatever we remember: a write whose answer was lost may have been stored.
    async fn release(&self) {
        let result = async {
            let Some(mut lease) = self.api.get_opt(&self.config.name).await? else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
            if spec.holder_identity.as_deref() != Some(self.config.identity.as_str()) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.renew_time = None;
            spec.acquire_time = None;
            self.api.replace(&self.config.name, &params(), &lease).await.map(drop)
        };
        if let Err(error) = result.await {
            tracing::warn!(%error, lease = self.config.name, "the lease was not given back; it will expire");
        }
    }

    fn report(&self, result: Result<Result<(), kube::Error>, tokio::time::error::Elapsed>) {
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = self.config.name, "the lease could not be read or written");
            }
            Err(_) => tracing::warn!(lease = self.config.name, "the API server did not answer about the lease in time"),
        }
    }

    fn set(&self, hold: Hold) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = hold;
    }

    fn patience_until_deadline(&self, state: &State) -> Option<Duration> {
        let sent = state.renewed?;
        Some(RENEW_DEADLINE.saturating_sub(self.origin.elapsed().saturating_sub(sent)))
    }

    fn patience(&self, state: &State) -> Duration {
        self.patience_until_deadline(state).map_or(ATTEMPT, |left| left.min(ATTEMPT))
    }
}

fn observe(lease: &Lease) -> Observed {
    let spec = lease.spec.as_ref();
    Observed {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(managers::LEASE.to_owned()), ..PostParams::default() }
}

/// A client for the Lease alone: no retries (they would hide a dead API server for minutes) and short time-outs.
///
/// # Errors
/// When the configuration cannot be used.
pub fn lease_client(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(ATTEMPT);
    config.read_timeout = Some(ATTEMPT);
    config.write_timeout = Some(ATTEMPT);
    Client::try_from(config)
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
