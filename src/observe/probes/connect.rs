//! Opening connections to pods, and what keeps them going.
//!
//! Role: a TCP stream within a deadline; an executor whose tasks end with the ask. Inputs: an address that was allowed.
//! Outputs: a stream, or why there is none. Must never import: other rooms than `domain`.

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Deadline, Prober, Stop};
use crate::domain::probe::{Issue, Stage};

/// Longest text of an error that is kept.
const CAUSE: usize = 160;

impl Prober {
    /// A connection, without any byte sent.
    pub(super) async fn connect(&self, address: SocketAddr, deadline: Deadline) -> Result<TcpStream, Stop> {
        // Again, where the connection is made, so that no way around the first check can be added by mistake.
        if let Some(why) = (self.refuse)(address.ip()) {
            return Err(Stop::failed(Issue::ConnectionRefused, format!("is not asked: {why}")));
        }
        let stream =
            deadline.on(Stage::Connect, TcpStream::connect(address)).await?.map_err(|error| match error.kind() {
                ErrorKind::ConnectionRefused => Stop::failed(Issue::ConnectionRefused, "refuses connections"),
                ErrorKind::TimedOut => Stop::Late(Stage::Connect),
                _ => Stop::failed(Issue::ConnectionLost, format!("cannot be reached: {}", cause(&error))),
            })?;
        // Nothing is lost without it but time.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Runs the tasks of a connection; they end when the guard is dropped, whatever the other side does.
#[derive(Clone)]
pub(super) struct Tasks(CancellationToken);

impl Tasks {
    pub(super) fn new() -> (Self, DropGuard) {
        let token = CancellationToken::new();
        (Self(token.clone()), token.drop_guard())
    }

    pub(super) fn run<F>(&self, work: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let token = self.0.clone();
        tokio::spawn(async move { token.run_until_cancelled(work).await.map(drop) });
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.run(work);
    }
}

/// The innermost cause says most.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE).collect()
}
