//! Counters for thousands of pods that do not run, for measurements of scale: one exporter whose series carry
//! `namespace` and `pod`, to be scraped with `honor_labels`. The pods come from a file or by POST to `/pods`.

mod pods;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::pods::{Crowd, PodLine};

/// A list of 50,000 pods is about 5 MB.
const LARGEST_LIST: usize = 32 * 1024 * 1024;

#[derive(Debug, Parser)]
#[command(about = "serves counters of pods that do not run")]
struct Options {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// JSON list of pods to start with, as POST /pods takes it
    #[arg(long, env = "PODS_FILE")]
    pods: Option<std::path::PathBuf>,
}

type Shared = Arc<Mutex<Crowd>>;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start").and_then(|runtime| runtime.block_on(serve(&options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &Options) -> Result<()> {
    let mut crowd = Crowd::default();
    if let Some(path) = &options.pods {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines: Vec<PodLine> =
            serde_json::from_slice(&text).with_context(|| format!("{} is no list of pods", path.display()))?;
        crowd.replace(lines, Instant::now());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(("0.0.0.0", options.port))
        .await
        .with_context(|| format!("cannot listen on port {}", options.port))?;
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/pods", post(replace))
        .layer(DefaultBodyLimit::max(LARGEST_LIST))
        .with_state(Arc::new(Mutex::new(crowd)));
    tokio::select! {
        result = async { axum::serve(listener, app).await } => result.context("cannot serve"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// A panic elsewhere leaves the counters as good as they were.
fn lock(shared: &Shared) -> MutexGuard<'_, Crowd> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let text = lock(&shared).text(Instant::now());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn replace(State(shared): State<Shared>, Json(lines): Json<Vec<PodLine>>) -> String {
    let mut crowd = lock(&shared);
    crowd.replace(lines, Instant::now());
    format!("{} pods\n", crowd.len())
}
