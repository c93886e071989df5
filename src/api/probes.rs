//! `probes[]` of a guard: questions put to pods.
//!
//! Role: the part of the spec that says what to ask, and its parsing. Inputs: a list of specs. Outputs: a
//! [`ProbePolicy`], or an error that names field and cure. Must never import: a kube client, other rooms than `domain`.

use std::num::NonZeroU16;
use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{InvalidSpec, duration};
use crate::domain::probe::{
    At, Expect, ExpectVersion, Http, MOST_PROBES, Probe, ProbePolicy, Question, Scheme as Spoken, StatusRanges, grpc,
};

const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// One question put to the pods of both revisions: exactly one of http, tcp and grpc.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.http) ? 1 : 0) + (has(self.tcp) ? 1 : 0) + (has(self.grpc) ? 1 : 0) == 1").message("each probe needs exactly one of http, tcp and grpc"))]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('100ms') && duration(self.timeout) <= duration('10s')").message("timeout of a probe must lie between 100ms and 10s"))]
pub struct ProbeSpec {
    /// Name of the probe, as findings show it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A Service of the namespace: its pods are asked, each by its own address, at the port that the Service sends to.
    /// Ports of the probe are then the Service's. Empty: all pods of the target are asked. Services of type
    /// `ExternalName` are refused, and pods that are not the target's are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: Option<String>,
    /// A GET request. Redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// That a connection is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// The gRPC health protocol, without TLS: SERVING is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// How long connection and answer may take together, 100ms to 10s.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[serde(default = "defaults::timeout")]
    pub timeout: String,
}

/// A GET request and what must come back.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.versionHeader) || has(self.expectVersion)").message("http.versionHeader says where expectVersion is looked for; set http.expectVersion too"))]
#[x_kube(validation = Rule::new("self.insecureSkipVerify || (self.scheme == 'HTTPS' && has(self.serverName))").message("http.insecureSkipVerify: false needs scheme HTTPS and a serverName that the certificate must carry"))]
pub struct HttpProbe {
    /// Path, with a query if wanted; `/` by default.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-~]*$"))]
    #[serde(default = "defaults::path")]
    pub path: String,
    /// The number of the port at which the pods listen; with a service, the port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// HTTP or HTTPS. HTTP/2 is used where the server wants it.
    #[serde(default)]
    pub scheme: Scheme,
    /// Sent as Host header, and as server name of TLS. Empty: the address of the pod. It is never resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$"))]
    pub server_name: Option<String>,
    /// Accept any certificate, as the kubelet's probes do, because certificates of pods name no addresses; no secret is
    /// sent. False: the certificate must be valid for serverName, by an authority that the operator's system knows.
    #[serde(default = "defaults::yes")]
    pub insecure_skip_verify: bool,
    /// Statuses that are good, such as 200-399 or 200,204.
    #[schemars(
        length(min = 3, max = 64),
        regex(pattern = "^[1-5][0-9]{2}(-[1-5][0-9]{2})?(,[1-5][0-9]{2}(-[1-5][0-9]{2})?)*$")
    )]
    #[serde(default = "defaults::expect_status")]
    pub expect_status: String,
    /// Text that the first 64 KiB of the body must contain; upper and lower case differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub body_contains: Option<String>,
    /// The version that must answer: `{imageTag}` for the tag of each pod's own image, also within text such as
    /// `api-{imageTag}`; or a fixed one such as 1.4.2, which only pods of the new revision must report. A v in front makes
    /// no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub expect_version: Option<String>,
    /// The response header that holds the version. Empty: the version must stand in the body, as a word of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub version_header: Option<String>,
}

/// A connection that must be accepted.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// The number of the port at which the pods listen; with a service, the port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A question of grpc.health.v1.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrpcProbe {
    /// The number of the port at which the pods listen; with a service, the port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The gRPC service to ask about. Empty: the server as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub service: String,
}

/// HTTP with or without TLS.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// With TLS.
    #[serde(rename = "HTTPS")]
    Https,
}

/// Defaults, field by field, because the API server fills them in one by one.
mod defaults {
    pub(super) fn path() -> String {
        "/".into()
    }

    pub(super) fn timeout() -> String {
        "2s".into()
    }

    pub(super) fn expect_status() -> String {
        "200-399".into()
    }

    pub(super) const fn yes() -> bool {
        true
    }
}

/// Where a probe stands in the spec, for errors.
struct Place(usize);

impl Place {
    fn refuse(&self, field: &str, problem: impl Into<String>) -> InvalidSpec {
        let field = match field {
            "" => format!("probes[{}]", self.0),
            field => format!("probes[{}].{field}", self.0),
        };
        InvalidSpec { field, problem: problem.into() }
    }
}

/// Parses `probes[]`.
///
/// # Errors
/// If a field has a value that cannot be used; the error names the field and the cure.
pub fn probes(specs: &[ProbeSpec]) -> Result<ProbePolicy, InvalidSpec> {
    if specs.len() > MOST_PROBES {
        return Err(InvalidSpec {
            field: "probes".to_owned(),
            problem: format!("has {} entries, but there can be {MOST_PROBES} at most; leave some out", specs.len()),
        });
    }
    let mut probes: Vec<Probe> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let parsed = probe(&Place(index), spec)?;
        if probes.iter().any(|other| other.name == parsed.name) {
            return Err(
                Place(index).refuse("name", format!("{} stands there twice; give each probe its own", spec.name))
            );
        }
        probes.push(parsed);
    }
    Ok(ProbePolicy { probes })
}

fn probe(place: &Place, spec: &ProbeSpec) -> Result<Probe, InvalidSpec> {
    label(place, "name", &spec.name)?;
    let timeout = duration(&format!("probes[{}].timeout", place.0), &spec.timeout)?;
    let (least, most) = TIMEOUTS;
    if !(least..=most).contains(&timeout) {
        return Err(place.refuse("timeout", format!("is {}, but must lie between 100ms and 10s", spec.timeout)));
    }
    let (port, question) = match (&spec.http, &spec.tcp, &spec.grpc) {
        (Some(asked), None, None) => (port(place, "http.port", asked.port)?, Question::Http(http(place, asked)?)),
        (None, Some(asked), None) => (port(place, "tcp.port", asked.port)?, Question::Tcp),
        (None, None, Some(asked)) => {
            if asked.service.len() > grpc::LONGEST_SERVICE {
                let problem = format!("can have {} bytes at most", grpc::LONGEST_SERVICE);
                return Err(place.refuse("grpc.service", problem));
            }
            (port(place, "grpc.port", asked.port)?, Question::Grpc { service: asked.service.clone() })
        }
        _ => return Err(place.refuse("", "needs exactly one of http, tcp and grpc")),
    };
    let at = match &spec.service {
        None => At::Pods,
        Some(service) => {
            label(place, "service", service)?;
            At::Service(service.clone())
        }
    };
    Ok(Probe { name: spec.name.clone(), at, port, question, timeout })
}

/// A name that can stand in a URL of the API server and in a status.
fn label(place: &Place, field: &str, name: &str) -> Result<(), InvalidSpec> {
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let good = (1..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(|byte| *byte != b'-');
    if good {
        return Ok(());
    }
    Err(place
        .refuse(field, "must begin with a letter and have at most 63 lower-case letters, digits and inner hyphens"))
}

fn port(place: &Place, field: &str, port: i32) -> Result<NonZeroU16, InvalidSpec> {
    u16::try_from(port)
        .ok()
        .and_then(NonZeroU16::new)
        .ok_or_else(|| place.refuse(field, format!("is {port}, but must lie between 1 and 65535")))
}

fn http(place: &Place, spec: &HttpProbe) -> Result<Http, InvalidSpec> {
    let printable = spec.path.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    // What begins with two slashes reads as another host.
    if !spec.path.starts_with('/') || spec.path.starts_with("//") || spec.path.len() > 1024 || !printable {
        return Err(place.refuse(
            "http.path",
            "must begin with one / and have at most 1024 printable characters without spaces; write others percent-encoded",
        ));
    }
    if spec.path.contains('#') {
        return Err(place.refuse("http.path", "has a #, which is never sent to a server; leave it out"));
    }
    if let Some(name) = &spec.server_name {
        let good = !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if !good {
            return Err(place.refuse("http.serverName", "must be a host name such as api.example.com, without port"));
        }
    }
    let verify = !spec.insecure_skip_verify;
    if verify && (spec.scheme == Scheme::Http || spec.server_name.is_none()) {
        return Err(place.refuse(
            "http.insecureSkipVerify",
            "is false, which needs scheme HTTPS and a serverName that the certificate must carry",
        ));
    }
    Ok(Http {
        scheme: match spec.scheme {
            Scheme::Http => Spoken::Http,
            Scheme::Https => Spoken::Https,
        },
        path: spec.path.clone(),
        server_name: spec.server_name.clone(),
        verify,
        expect: expect(place, spec)?,
    })
}

fn expect(place: &Place, spec: &HttpProbe) -> Result<Expect, InvalidSpec> {
    if spec.body_contains.as_ref().is_some_and(|text| text.is_empty() || text.chars().count() > 256) {
        return Err(place.refuse("http.bodyContains", "must have 1 to 256 characters"));
    }
    let version = match (&spec.expect_version, &spec.version_header) {
        (None, None) => None,
        (None, Some(_)) => {
            return Err(place.refuse("http.versionHeader", "says where expectVersion is looked for; set that too"));
        }
        (Some(text), header) => {
            let plain = |name: &String| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            if header.as_ref().is_some_and(|name| !plain(name)) {
                return Err(place.refuse("http.versionHeader", "must be the name of a header, such as X-App-Version"));
            }
            let parsed = ExpectVersion::parse(text, header.as_deref());
            Some(parsed.map_err(|problem| place.refuse("http.expectVersion", problem))?)
        }
    };
    Ok(Expect {
        status: StatusRanges::parse(&spec.expect_status)
            .map_err(|problem| place.refuse("http.expectStatus", problem))?,
        body_contains: spec.body_contains.clone(),
        version,
    })
}

#[cfg(test)]
#[path = "probes_tests.rs"]
mod tests;
