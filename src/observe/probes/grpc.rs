//! One gRPC health check of one pod.
//!
//! Role: `grpc.health.v1.Health/Check` over HTTP/2 without TLS. Inputs: the service's name, an allowed address. Outputs:
//! SERVING, or what was said instead. Must never import: other rooms than `domain`.

use std::net::SocketAddr;

use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;

use super::connect::{Tasks, cause};
use super::{Deadline, Prober, Stop};
use crate::domain::probe::grpc::{ANSWER_LIMIT, PATH, judge, request};
use crate::domain::probe::{Issue, Stage};

const HEADERS: u32 = 16 * 1024;

impl Prober {
    /// Asks and judges.
    pub(super) async fn check(&self, service: &str, address: SocketAddr, deadline: Deadline) -> Result<(), Stop> {
        let stream = self.connect(address, deadline).await?;
        let (tasks, _guard) = Tasks::new();
        let request = Request::post(format!("http://{address}{PATH}"))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .header(http::header::USER_AGENT, "deployment-guard-probe")
            .body(Full::new(Bytes::from(request(service))))
            .map_err(|_| Stop::failed(Issue::Protocol, "cannot be asked for this service"))?;
        let sent = async {
            let (mut sender, connection) = hyper::client::conn::http2::Builder::new(tasks.clone())
                .max_header_list_size(HEADERS)
                .handshake(TokioIo::new(stream))
                .await?;
            tasks.run(connection);
            sender.send_request(request).await
        };
        let response = deadline.on(Stage::Answer, sent).await?.map_err(|error: hyper::Error| {
            Stop::failed(Issue::Protocol, format!("does not answer gRPC over HTTP/2: {}", cause(&error)))
        })?;
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            let what = format!("answered HTTP {} where gRPC answers 200", head.status.as_u16());
            return Err(Stop::failed(Issue::Protocol, what));
        }
        let (body, trailers) = read(body, deadline).await?;
        // An answer without a message has its status among the headers.
        let trailers = trailers.unwrap_or(head.headers);
        let value = |name| trailers.get(name).map(http::HeaderValue::as_bytes);
        judge(value("grpc-status"), value("grpc-message"), &body).map_err(|(issue, what)| Stop::Failed(issue, what))
    }
}

async fn read(mut body: Incoming, deadline: Deadline) -> Result<(Vec<u8>, Option<HeaderMap>), Stop> {
    let mut bytes = Vec::new();
    while let Some(frame) = deadline.on(Stage::Body, body.frame()).await? {
        let frame =
            frame.map_err(|error| Stop::failed(Issue::ConnectionLost, format!("breaks off: {}", cause(&error))))?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > ANSWER_LIMIT => {
                let what = format!("answers with more than {} KiB, which no health status has", ANSWER_LIMIT / 1024);
                return Err(Stop::failed(Issue::Protocol, what));
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => return Ok((bytes, frame.into_trailers().ok())),
        }
    }
    Ok((bytes, None))
}
