//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Role: tell the kubelet and Prometheus how the operator is. Inputs: beats of the control loop, readiness. Outputs:
//! HTTP answers. Must never import: other rooms.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// The control loop beats at least this often, or it is taken for dead.
pub const BEAT: Duration = Duration::from_mins(1);

/// How the operator is, shared between the loop and the endpoints.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    last_beat_ms: AtomicU64,
    ready: AtomicBool,
    waiting_for: Mutex<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last_beat_ms: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            waiting_for: Mutex::new("starting".into()),
        }
    }
}

impl Health {
    /// The loop is alive.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat_ms.store(elapsed, Ordering::Relaxed);
    }

    /// The operator can do its work.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// The operator waits for something, named for whoever asks.
    pub fn set_waiting(&self, what: &str) {
        self.ready.store(false, Ordering::Relaxed);
        what.clone_into(&mut self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the loop still beats.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let last = Duration::from_millis(self.last_beat_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last) < BEAT * 3
    }

    fn readiness(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone())
        }
    }
}

#[derive(Clone)]
struct Shared {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// The three endpoints.
pub fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(Shared { health, metrics })
}

/// Serves until the process ends.
///
/// # Errors
/// If the address cannot be bound or the server ends.
pub async fn serve(address: SocketAddr, health: Arc<Health>, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router(health, metrics)).await
}

async fn healthz(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.health.is_live() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the control loop stands still")
    }
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.health.readiness() {
        Ok(()) => (StatusCode::OK, "ok".to_owned()),
        Err(waiting_for) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {waiting_for}")),
    }
}

async fn exposition(State(shared): State<Shared>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match shared.metrics.encode() {
        Ok(text) => (StatusCode::OK, content_type, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, content_type, error.to_string()),
    }
}
