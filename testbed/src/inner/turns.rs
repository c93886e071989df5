//! One address for several servers that are asked in turn, request by request: what a Service in front of two
//! Prometheus replicas does to clients that open a connection each time, made strict.
//! Input: HTTP requests. Output: the answers of the servers, unchanged. Runs as a component of the cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Whose turn it is.
struct Turns {
    servers: Vec<SocketAddr>,
    next: AtomicUsize,
}

/// Forwards what comes to `listen` until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, servers: Vec<SocketAddr>) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    axum::serve(listener, router(servers)).await.context("cannot serve")
}

fn router(servers: Vec<SocketAddr>) -> Router {
    let turns = Turns { servers, next: AtomicUsize::new(0) };
    Router::new().fallback(forward).with_state(Arc::new(turns))
}

async fn forward(State(turns): State<Arc<Turns>>, request: Request) -> Response {
    let turn = turns.next.fetch_add(1, Ordering::Relaxed) % turns.servers.len().max(1);
    let Some(server) = turns.servers.get(turn) else {
        return (StatusCode::BAD_GATEWAY, "there is no server\n").into_response();
    };
    match exchange(*server, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{server}: {error:#}\n")).into_response(),
    }
}

async fn exchange(server: SocketAddr, mut request: Request) -> Result<Response> {
    let stream = TcpStream::connect(server).await.context("cannot connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The exchange below reports what breaks.
        let _ = connection.await;
    });
    // What concerns one connection only must not reach the next one.
    request.headers_mut().remove(CONNECTION);
    *request.version_mut() = Version::HTTP_11;
    let mut response = sender.send_request(request).await?.map(Body::new);
    for name in [CONNECTION, TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn started(app: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    async fn named(name: &'static str) -> SocketAddr {
        started(Router::new().fallback(async move |body: String| format!("{name} {body}"))).await
    }

    #[tokio::test]
    async fn requests_of_one_connection_are_answered_in_turn() {
        let servers = vec![named("first").await, named("second").await];
        let stream = TcpStream::connect(started(router(servers)).await).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for round in 0..4 {
            let request = Request::post("/").header("host", "both").body(format!("{round}")).unwrap();
            let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            answers.push(String::from_utf8(body.to_bytes().to_vec()).unwrap());
        }
        assert_eq!(answers, ["first 0", "second 1", "first 2", "second 3"]);
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_named() {
        let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let stream = TcpStream::connect(started(router(vec![away])).await).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(Request::new(String::new())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(away.to_string().as_bytes()), "{body:?}");
    }
}
