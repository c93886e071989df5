//! Questions put to pods: what is asked, of whom, and what an answer means.
//!
//! Role: parsed probes, the outcome of one ask, and the rules around both. Inputs: none but arguments. Outputs: plain
//! data. A probe asks pods of the guarded workload only, by address, and its findings never cause a rollback. Must never
//! import: other rooms, a socket, a clock.

pub mod address;
pub mod compare;
pub mod grpc;
pub mod response;
pub mod version;

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

pub use compare::{Asked, compare, describe};
pub use version::ExpectVersion;

/// Most probes of one guard.
pub const MOST_PROBES: usize = 8;

/// All probes of a guard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbePolicy {
    /// In the order of the spec; names are unique.
    pub probes: Vec<Probe>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name in findings.
    pub name: String,
    /// Who is asked.
    pub at: At,
    /// The port at which is asked: of the pod, or of the Service.
    pub port: NonZeroU16,
    /// What is asked.
    pub question: Question,
    /// How long connection and answer may take together.
    pub timeout: Duration,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// Each pod of both revisions.
    Pods,
    /// The pods of both revisions that stand behind a Service of the namespace, at the port it sends to.
    Service(String),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A GET request.
    Http(Http),
    /// That a connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check`, without TLS.
    Grpc {
        /// The service asked about; empty: the server as a whole.
        service: String,
    },
}

/// A GET request and what must come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// With or without TLS.
    pub scheme: Scheme,
    /// Path and query; begins with `/`.
    pub path: String,
    /// Sent as Host and as TLS server name; `None`: the pod's address and no server name.
    pub server_name: Option<String>,
    /// Whether the certificate must be valid for `server_name`.
    pub verify: bool,
    /// What must come back.
    pub expect: Expect,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without.
    Http,
    /// With.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What an answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The status.
    pub status: StatusRanges,
    /// Text that the first 64 KiB of the body must contain.
    pub body_contains: Option<String>,
    /// The version that must answer.
    pub version: Option<ExpectVersion>,
}

/// Statuses such as `200-399` or `200,204`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRanges(Vec<(u16, u16)>);

impl StatusRanges {
    /// Reads statuses and ranges between commas.
    ///
    /// # Errors
    /// If one is no status between 100 and 599, or a range is the wrong way round; the error is the end of a sentence
    /// that begins with the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!("is {text:?}; write statuses between 100 and 599 and ranges of them, such as 200-399 or 200,204")
        };
        let status = |text: &str| -> Option<u16> {
            let text = text.trim();
            let plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|status| plain && (100..=599).contains(status))
        };
        let range = |text: &str| -> Option<(u16, u16)> {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            Some((status(from)?, status(to)?)).filter(|(from, to)| from <= to)
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self).ok_or_else(refuse)
    }

    /// Whether a status is among them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (from, to)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if from == to {
                write!(f, "{comma}{from}")?;
            } else {
                write!(f, "{comma}{from}-{to}")?;
            }
        }
        Ok(())
    }
}

/// How far an ask had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Opening the connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for status and headers.
    Answer,
    /// Reading the body.
    Body,
}

impl Stage {
    /// What did not happen in time.
    #[must_use]
    pub const fn missing(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Tls => "no end of the TLS handshake",
            Self::Answer => "no answer",
            Self::Body => "not enough of the body",
        }
    }
}

/// What went wrong, as a word for findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Issue {
    /// Nobody listens.
    ConnectionRefused,
    /// The connection ended early, or there is no way to the pod.
    ConnectionLost,
    /// The TLS handshake failed.
    Tls,
    /// The certificate is not valid for the name, or of an unknown authority.
    Certificate,
    /// The answer is none of the protocol.
    Protocol,
    /// Another status than expected.
    Status,
    /// Not the expected body.
    Body,
    /// Another version than expected.
    Version,
    /// The health service says that it does not serve.
    NotServing,
    /// There is no health service.
    NoHealthService,
    /// No answer in time.
    Slow,
}

impl Issue {
    /// The words in a finding.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionLost => "connection lost",
            Self::Tls => "TLS handshake failed",
            Self::Certificate => "certificate not accepted",
            Self::Protocol => "answer cannot be read",
            Self::Status => "unexpected status",
            Self::Body => "unexpected body",
            Self::Version => "unexpected version",
            Self::NotServing => "not serving",
            Self::NoHealthService => "no gRPC health service",
            Self::Slow => "no answer in time",
        }
    }

    /// What usually helps; empty if it depends.
    #[must_use]
    pub const fn usual_fix(self) -> &'static str {
        match self {
            Self::ConnectionRefused => {
                "Check that the container listens on this port, and on all addresses rather than on localhost only."
            }
            Self::Tls => "Check that the port speaks TLS; if it does not, set http.scheme to HTTP.",
            Self::Certificate => {
                "Check name and authority of the certificate; http.insecureSkipVerify: true accepts any, as the kubelet does."
            }
            Self::Protocol => "Check that the port speaks the protocol of the probe.",
            Self::Version => {
                "Check that the image contains the build its tag promises, and how the version is reported."
            }
            Self::NoHealthService => "Register the grpc.health.v1.Health service, or ask with tcp instead.",
            Self::ConnectionLost | Self::Status | Self::Body | Self::NotServing | Self::Slow => "",
        }
    }
}

/// What came of asking one pod once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// As expected.
    Ok {
        /// From the first byte sent to the last byte needed.
        latency: Duration,
    },
    /// Something else. `what` may hold text of the pod: it is redacted in [`compare()`].
    Failed {
        /// As a word.
        issue: Issue,
        /// As a sentence without a subject, such as `answered 500 instead of 200-399`.
        what: String,
        /// How long it took.
        latency: Duration,
    },
    /// Too late.
    TimedOut {
        /// How far it had come.
        stage: Stage,
        /// The time-out.
        after: Duration,
    },
    /// Not asked, because it may not be, or cannot be. It counts neither for nor against the pod.
    Refused {
        /// Why.
        why: String,
    },
}

impl ProbeOutcome {
    /// The word for metric labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused { .. } => "refused",
        }
    }
}

#[cfg(test)]
mod tests;
