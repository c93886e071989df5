//! The demo application: a real HTTP server with the metrics of an ordinary one, and faults that are variables of its
//! pod template. Every path is the app but `/healthz`, `/livez` and `/metrics`, which are not counted.

mod dice;
#[path = "../load/exchange.rs"]
mod exchange;
mod exposition;
mod faults;
mod journal;
mod settings;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::exposition::Exposition;
use crate::journal::Level;
use crate::settings::Settings;

/// After the drain, requests that are still open get this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// The text form that the metrics library writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all requests share.
struct Shop {
    settings: Settings,
    version: HeaderValue,
    started: Instant,
    dice: Dice,
    exposition: Exposition,
    dependency_answers: AtomicBool,
}

fn main() -> ExitCode {
    // For hooks and probes that have to fail: an image of one program has nothing else to run.
    if std::env::args().nth(1).is_some_and(|word| word == "fail") {
        eprintln!("warm-up failed: the cache is not reachable");
        return ExitCode::from(4);
    }
    let parsed = Settings::read(|name| std::env::var(name).ok()).and_then(|settings| {
        let version = HeaderValue::from_str(&settings.version)
            .map_err(|_| format!("VERSION={:?} must be printable", settings.version))?;
        Ok((settings, version))
    });
    let (settings, version) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("shop: {error}");
            return ExitCode::from(2);
        }
    };
    let shop = Arc::new(Shop {
        version,
        started: Instant::now(),
        dice: Dice::new(settings.seed.unwrap_or_else(faults::seed)),
        exposition: Exposition::new(settings.silent),
        // Nothing is known before the first look; an unreachable dependency must not pass as reachable.
        dependency_answers: AtomicBool::new(settings.dependency_url.is_none()),
        settings,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.context("cannot start").and_then(|runtime| runtime.block_on(serve(shop))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(shop: Arc<Shop>) -> Result<()> {
    faults::at_start(&shop.settings).await?;
    let port = shop.settings.port;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("cannot listen on port {port}"))?;
    journal::write(Level::Info, &shop.settings.version, "listening");
    faults::start(&shop)?;
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(Arc::clone(&shop))).with_graceful_shutdown(async {
        let _ = closed.await;
    });
    let ending = async {
        stopped(&mut terminate, &mut interrupt).await;
        journal::write(Level::Info, &shop.settings.version, "draining");
        // The endpoint is removed while the signal arrives: closing at once would lose what is still sent here.
        tokio::select! {
            () = tokio::time::sleep(shop.settings.drain) => {}
            () = stopped(&mut terminate, &mut interrupt) => {}
        }
        let _ = close.send(());
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        result = server => result.context("cannot serve")?,
        () = ending => {}
    }
    journal::write(Level::Info, &shop.settings.version, "stopped");
    Ok(())
}

async fn stopped(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .route("/metrics", get(metrics))
        .fallback(app)
        .with_state(shop)
}

async fn app(State(shop): State<Arc<Shop>>, method: Method) -> Response {
    let begun = Instant::now();
    if !shop.settings.latency.is_zero() {
        let factor = (shop.settings.latency_spread * shop.dice.normal()).exp();
        tokio::time::sleep(shop.settings.latency.mul_f64(factor)).await;
    }
    let rate = shop.settings.error_rate_at(shop.started.elapsed());
    let (status, text) = if !shop.dependency_answers.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "the dependency does not answer\n")
    } else if shop.dice.hits(rate) {
        (StatusCode::INTERNAL_SERVER_ERROR, "something broke\n")
    } else {
        (StatusCode::OK, "welcome to the shop\n")
    };
    if status != StatusCode::OK
        && let Some(message) = &shop.settings.log_error
    {
        journal::write(Level::Error, &shop.settings.version, message);
    }
    let took = begun.elapsed();
    shop.exposition.observe(status.as_u16(), label(&method), took);
    (status, [("x-version", shop.version.clone())], text).into_response()
}

/// A client invents methods at will; each would be a series for ever.
fn label(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "OTHER",
    }
}

async fn healthz(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    let ready = shop.settings.ready_at(shop.started.elapsed());
    if ready { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn livez(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    let alive = shop.settings.alive_at(shop.started.elapsed());
    if alive { (StatusCode::OK, "ok\n") } else { (StatusCode::INTERNAL_SERVER_ERROR, "deadlocked\n") }
}

async fn metrics(State(shop): State<Arc<Shop>>) -> Response {
    match shop.exposition.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn shop(pairs: &'static [(&str, &str)]) -> Arc<Shop> {
        let found = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        let settings = Settings::read(|name| found(name).map(|(_, v)| (*v).to_owned())).unwrap();
        Arc::new(Shop {
            version: HeaderValue::from_str(&settings.version).unwrap(),
            started: Instant::now(),
            dice: Dice::new(settings.seed.unwrap_or(1)),
            exposition: Exposition::new(settings.silent),
            dependency_answers: AtomicBool::new(settings.dependency_url.is_none()),
            settings,
        })
    }

    #[tokio::test]
    async fn errors_come_at_the_asked_share_and_are_counted_as_sent() {
        let shop = shop(&[("ERROR_RATE", "0.4"), ("VERSION", "v2"), ("SEED", "11")]);
        let mut errors = 0_u32;
        for _ in 0..2_000 {
            let answer = app(State(Arc::clone(&shop)), Method::GET).await;
            assert_eq!(answer.headers()["x-version"], "v2");
            errors += u32::from(answer.status() == StatusCode::INTERNAL_SERVER_ERROR);
        }
        // Five standard deviations of the binomial around 800.
        assert!((690..=910).contains(&errors), "{errors}");
        let text = shop.exposition.text().unwrap();
        let line = format!("http_requests_total{{code=\"500\",method=\"GET\"}} {errors}\n");
        assert!(text.contains(&line), "{text}");
    }

    #[tokio::test]
    async fn probes_and_scrapes_are_not_counted() {
        let shop = shop(&[]);
        assert_eq!(healthz(State(Arc::clone(&shop))).await.0, StatusCode::OK);
        let answer = metrics(State(Arc::clone(&shop))).await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], OPENMETRICS);
        assert!(!shop.exposition.text().unwrap().contains("http_requests_total{"));
    }

    #[tokio::test]
    async fn a_dependency_that_is_off_fails_every_request() {
        let shop = shop(&[("DEPENDENCY_URL", "http://db/")]);
        let answer = app(State(Arc::clone(&shop)), Method::GET).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        shop.dependency_answers.store(true, Ordering::Relaxed);
        assert_eq!(app(State(shop), Method::GET).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn one_that_is_never_ready_says_so_and_still_serves() {
        let shop = shop(&[("NEVER_READY", "true")]);
        let ready = healthz(State(Arc::clone(&shop))).await;
        assert_eq!(ready.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(app(State(shop), Method::GET).await.status(), StatusCode::OK);
    }
}
