//! One HTTP GET on a connection of its own, so that kube-proxy picks a pod for every request. Input: an `http://`
//! address. Output: status and version, or the kind of failure. Also compiled into the shop, for its dependency.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};

/// How a request failed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The name has no address.
    Resolve,
    /// Nobody accepted the connection.
    Connect,
    /// The connection broke before the whole answer was there.
    Broken,
    /// No whole answer in time.
    TimedOut,
}

impl Failure {
    /// The word for it in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::TimedOut => "timeout",
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header `x-version`.
    pub version: Option<String>,
}

/// The first address of the host in `uri`.
pub async fn resolve(uri: &Uri) -> Result<SocketAddr, Failure> {
    let host = uri.host().ok_or(Failure::Resolve)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let mut found = lookup_host((host, port)).await.map_err(|_| Failure::Resolve)?;
    found.next().ok_or(Failure::Resolve)
}

/// One request, from connecting to the last byte, within `limit`.
pub async fn get(address: SocketAddr, uri: &Uri, limit: Duration) -> Result<Answer, Failure> {
    match tokio::time::timeout(limit, exchange(address, uri)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::TimedOut),
    }
}

async fn exchange(address: SocketAddr, uri: &Uri) -> Result<Answer, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|_| Failure::Connect)?;
    let broken = |_| Failure::Broken;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::Broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let version = response.headers().get("x-version").and_then(|value| value.to_str().ok()).map(str::to_owned);
        response.into_body().collect().await.map_err(broken)?;
        Ok(Answer { status, version })
    };
    // Driven in this task: when the time is up, dropping it closes the connection too.
    let driver = async {
        let _ = connection.await;
    };
    let (answer, ()) = tokio::join!(answer, driver);
    answer
}
