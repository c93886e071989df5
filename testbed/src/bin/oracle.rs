//! The double of a language model as a program; see `testbed::oracle`. Listens on port 8081 until SIGTERM.

use std::process::ExitCode;

use anyhow::{Context, Result};
use testbed::oracle::PORT;
use testbed::oracle::server::Oracle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("cannot start").and_then(|runtime| runtime.block_on(serve())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oracle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(("0.0.0.0", PORT)).await.with_context(|| format!("cannot listen on port {PORT}"))?;
    // At once: requests that hang would never let it go.
    tokio::select! {
        result = axum::serve(listener, Oracle::default().router()) => result.context("cannot serve"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
