//! Servers that answer as a test says: over HTTP, over TLS, and badly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub uri: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// What is answered.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A body as a provider publishes it.
pub fn fixture(path: &str) -> String {
    let path = format!("{}/tests/fixtures/llm/{path}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An HTTP server, and what it was asked.
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Seen) -> Reply + Clone + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let record = seen.clone();
        let app = Router::new().fallback(move |request: Request| {
            let (answer, record) = (answer.clone(), record.clone());
            async move {
                let uri = request.uri().to_string();
                let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
                    (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
                };
                let headers = request.headers().iter().map(header).collect();
                let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let seen = Seen { uri, headers, body: serde_json::from_slice(&body).unwrap_or_default() };
                let reply = answer(&seen);
                record.lock().unwrap().push(seen);
                let mut response = Response::builder().status(reply.status);
                for (name, value) in reply.headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(reply.body)).unwrap()
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }

    /// Always the same.
    pub async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// A way to answer badly.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// One byte every 20 ms, for ever.
    Drip,
    /// The head, and then nothing.
    HalfAnswer,
    /// Nothing at all.
    Hang,
    /// The connection is cut while the request is answered.
    Reset,
    /// 10 MB that were announced.
    Huge,
    /// 10 MB that were not.
    HugeChunks,
    /// What inflates to 8 MB.
    Bomb,
    /// Bytes that are no HTTP.
    Noise,
    /// A good answer, and then the connection is closed, though nobody said so.
    CloseAfter,
}

pub async fn faulty(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(misbehave(stream, fault));
        }
    });
    url
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

async fn misbehave(mut stream: TcpStream, fault: Fault) -> std::io::Result<()> {
    read_request(&mut stream).await?;
    match fault {
        Fault::Drip => {
            stream.write_all(format!("{HEAD}content-length: 100000\r\n\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Fault::HalfAnswer => {
            stream.write_all(format!("{HEAD}content-length: 100\r\n\r\n{{\"choices\"").as_bytes()).await?;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Fault::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        Fault::Reset => {
            stream.write_all(format!("{HEAD}content-length: 100\r\n\r\n{{").as_bytes()).await?;
            // Unread bytes of ours would make it a reset; so does this.
            #[allow(deprecated)]
            stream.set_linger(Some(Duration::ZERO))?;
        }
        Fault::Huge => {
            stream.write_all(format!("{HEAD}content-length: 10000000\r\n\r\n").as_bytes()).await?;
            flood(&mut stream, 10_000_000).await?;
        }
        Fault::HugeChunks => {
            stream.write_all(format!("{HEAD}connection: close\r\n\r\n").as_bytes()).await?;
            flood(&mut stream, 10_000_000).await?;
        }
        Fault::Bomb => {
            let bomb = include_bytes!("../fixtures/llm/bomb.gz");
            let head = format!("{HEAD}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(bomb).await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Fault::CloseAfter => {
            let body = fixture("openai/success");
            stream.write_all(format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
            stream.shutdown().await?;
        }
        Fault::Noise => stream.write_all(b"\x15\x03\x01\x00\x02\x02\x46 hello\r\n\r\n").await?,
    }
    Ok(())
}

async fn flood(stream: &mut (impl AsyncWrite + Unpin), bytes: usize) -> std::io::Result<()> {
    let piece = vec![b' '; 64 * 1024];
    for _ in 0..bytes / piece.len() {
        stream.write_all(&piece).await?;
    }
    stream.flush().await
}

/// Reads a request to its end; returns it as text.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        read.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text.into_owned());
            }
        }
        if length == 0 {
            return Ok(text.into_owned());
        }
    }
}

/// A server with a certificate for `localhost`, by an authority of its own; returns its URL and the authority as PEM.
pub async fn over_tls(body: String) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], leaf_key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, body) = (acceptor.clone(), body.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                read_request(&mut stream).await?;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(body.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    (url, pem)
}
