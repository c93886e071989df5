//! One GET request to one pod.
//!
//! Role: HTTP/1.1, or HTTP/2 where the server agrees on it in TLS or answers HTTP/1.1 with something else. Inputs: the
//! parsed question, an allowed address. Outputs: as expected, or what was not. Reads no more of a body than is needed.
//! Must never import: other rooms than `domain`.

use std::net::SocketAddr;

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::{Tasks, cause};
use super::{Deadline, Prober, Stop};
use crate::domain::probe::response::{End, Reader, Wrong};
use crate::domain::probe::version::Wanted;
use crate::domain::probe::{Http, Issue, Scheme, Stage};

/// Most bytes of status line and headers.
pub(super) const HEADERS: usize = 64 * 1024;
const HEADERS_U32: u32 = 64 * 1024;

/// How the request did not become an answer.
enum NoAnswer {
    Stop(Stop),
    /// HTTP/1.1 was answered with something that is none.
    NotHttp1(Stop),
}

impl From<Stop> for NoAnswer {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Prober {
    /// Sends the request and judges the answer.
    pub(super) async fn get(
        &self,
        http: &Http,
        wanted: Wanted,
        address: SocketAddr,
        deadline: Deadline,
    ) -> Result<(), Stop> {
        match self.once(http, &wanted, address, deadline, false).await {
            Ok(()) => Ok(()),
            Err(NoAnswer::Stop(stop)) => Err(stop),
            // Perhaps the server speaks nothing but HTTP/2; if not, the first refusal says more.
            Err(NoAnswer::NotHttp1(first)) => match self.once(http, &wanted, address, deadline, true).await {
                Ok(()) => Ok(()),
                Err(
                    NoAnswer::Stop(Stop::Failed(Issue::Protocol | Issue::ConnectionLost, _)) | NoAnswer::NotHttp1(_),
                ) => Err(first),
                Err(NoAnswer::Stop(second)) => Err(second),
            },
        }
    }

    async fn once(
        &self,
        http: &Http,
        wanted: &Wanted,
        address: SocketAddr,
        deadline: Deadline,
        prior_knowledge: bool,
    ) -> Result<(), NoAnswer> {
        let stream = self.connect(address, deadline).await?;
        match http.scheme {
            Scheme::Http => exchange(http, wanted, address, deadline, stream, prior_knowledge).await,
            Scheme::Https => {
                let (stream, agreed) = self.tls.handshake(http, address.ip(), stream, deadline).await?;
                exchange(http, wanted, address, deadline, stream, agreed || prior_knowledge).await
            }
        }
    }
}

async fn exchange<S>(
    http: &Http,
    wanted: &Wanted,
    address: SocketAddr,
    deadline: Deadline,
    stream: S,
    h2: bool,
) -> Result<(), NoAnswer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (tasks, _guard) = Tasks::new();
    let request = request(http, address, h2)?;
    let io = TokioIo::new(stream);
    let sent = async {
        if h2 {
            let (mut sender, connection) = hyper::client::conn::http2::Builder::new(tasks.clone())
                .max_header_list_size(HEADERS_U32)
                .handshake(io)
                .await?;
            tasks.run(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::Builder::new().max_buf_size(HEADERS).handshake(io).await?;
            tasks.run(connection);
            sender.send_request(request).await
        }
    };
    let response = deadline.on(Stage::Answer, sent).await?.map_err(|error| unreadable(&error, h2))?;
    Ok(judge(http, wanted, deadline, response).await?)
}

fn request(http: &Http, address: SocketAddr, h2: bool) -> Result<Request<Empty<Bytes>>, Stop> {
    let host = http.server_name.clone().map_or_else(|| address.to_string(), |name| with_port(name, http, address));
    let builder =
        Request::get(if h2 { format!("{}://{host}{}", http.scheme.as_str(), http.path) } else { http.path.clone() });
    let builder =
        if h2 { builder } else { builder.header(http::header::HOST, host).header(http::header::CONNECTION, "close") };
    builder
        .header(http::header::USER_AGENT, "deployment-guard-probe")
        .header(http::header::ACCEPT, "*/*")
        .body(Empty::new())
        .map_err(|_| Stop::failed(Issue::Protocol, "cannot be asked for this path"))
}

/// The port belongs to the Host header unless it is the scheme's own.
fn with_port(name: String, http: &Http, address: SocketAddr) -> String {
    match (http.scheme, address.port()) {
        (Scheme::Http, 80) | (Scheme::Https, 443) => name,
        (_, port) => format!("{name}:{port}"),
    }
}

async fn judge(http: &Http, wanted: &Wanted, deadline: Deadline, response: Response<Incoming>) -> Result<(), Stop> {
    let status = response.status().as_u16();
    let (head, mut body) = response.into_parts();
    let mut reader = Reader::new(&http.expect, wanted.clone(), status, pairs(&head.headers));
    let end = loop {
        if !reader.wants_more() {
            break End::Complete;
        }
        match deadline.on(Stage::Body, body.frame()).await {
            Err(_) => break End::Deadline,
            Ok(None) => break End::Complete,
            Ok(Some(Err(error))) => break End::Broken(cause(&error)),
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    reader.push(data);
                }
            }
        }
    };
    reader.verdict(&end).map_err(|wrong| match wrong {
        Wrong::Answer(issue, what) => Stop::Failed(issue, what),
        Wrong::Late => Stop::Late(Stage::Body),
    })
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn unreadable(error: &hyper::Error, h2: bool) -> NoAnswer {
    if error.is_parse_too_large() {
        let what = format!("sends more than {} KiB of headers", HEADERS / 1024);
        return Stop::failed(Issue::Protocol, what).into();
    }
    if error.is_parse() {
        let stop = Stop::failed(Issue::Protocol, format!("answers with something that is not HTTP: {}", cause(error)));
        return if h2 { stop.into() } else { NoAnswer::NotHttp1(stop) };
    }
    let what = format!("ends the connection before its answer: {}", cause(error));
    Stop::failed(Issue::ConnectionLost, what).into()
}
