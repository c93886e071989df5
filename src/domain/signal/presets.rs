//! Presets: which series count requests, which end badly, which measure time.
//!
//! Role: one table, as data; `resolve` chooses among what exists. Inputs: none. Outputs: `Preset`, `Known`. Every name
//! here is one that the named source documents. Must never import: other rooms.

use std::fmt;

use super::{Operator, Unit};

/// A ready-made set of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Preset {
    /// The first of the others whose series the pods have.
    Auto,
    /// Micrometer, as Spring Boot exports it.
    Micrometer,
    /// The semantic conventions of `OpenTelemetry`, HTTP and RPC, stable and older.
    Otel,
    /// prometheus-net in `ASP.NET` Core.
    AspNet,
    /// Exporters of Starlette, Flask, Django and `FastAPI`.
    Python,
    /// promhttp around Go handlers, named as the examples of `client_golang` do.
    Go,
    /// express-prom-bundle and its like over prom-client.
    Node,
    /// Errors and latency from the usual HTTP metrics of client libraries.
    HttpGeneric,
    /// gRPC servers with the metrics of grpc-ecosystem.
    Grpc,
    /// Istio's proxies, as the destination reports.
    Istio,
    /// Linkerd's proxies, inbound.
    Linkerd,
    /// Envoy beside or in front of the application.
    Envoy,
    /// ingress-nginx, by the Service that it sends requests to.
    NginxIngress,
    /// Traefik, by the Service that it sends requests to.
    Traefik,
    /// Memory of containers against their limits, from cAdvisor.
    ContainerMemory,
    /// Periods in which containers were throttled, of all periods, from cAdvisor.
    ContainerCpuThrottling,
}

/// What a label must be.
pub type Held = (&'static str, Operator, &'static str);

/// One way to count requests.
#[derive(Debug)]
pub struct Requests {
    /// The counter.
    pub counter: &'static str,
    /// Labels that say how a request ended, by preference.
    pub outcome: &'static [&'static str],
    /// Its values that are failures, as an anchored regular expression.
    pub bad: &'static str,
    /// What is counted at all.
    pub only: &'static [Held],
}

/// One histogram of response times.
#[derive(Debug)]
pub struct Durations {
    /// Its name, without `_bucket`.
    pub histogram: &'static str,
    /// Unit of its boundaries.
    pub unit: Unit,
    /// What is measured at all.
    pub only: &'static [Held],
}

/// What a preset measures.
#[derive(Debug)]
pub enum Shape {
    /// Requests: each list by preference.
    Served(&'static [Requests], &'static [Durations]),
    /// Requests that a proxy counts for a whole Service, whichever of its pods served them: each list by preference.
    Proxied(&'static [Requests], &'static [Durations]),
    /// Bytes of each container, against its limit.
    Memory(&'static str),
    /// A share of two counters of containers: the bad one, and all.
    Throttling(&'static str, &'static str),
    /// What the first of these has.
    First(&'static [Preset]),
}

/// A row of the table.
#[derive(Debug)]
pub struct Known {
    /// As it stands in manifests.
    pub word: &'static str,
    /// What its signals are called where nobody names them.
    pub signal: &'static str,
    /// What it measures.
    pub shape: Shape,
    /// Where its names are documented.
    pub sources: &'static [&'static str],
}

const FIVE: &str = "5..";
/// The codes that OpenTelemetry's conventions count as failures of a server.
const GRPC_NAMES: &str = "Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss";
const GRPC_UPPER: &str = "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS";
const GRPC_NUMBERS: &str = "2|4|12|13|14|15";
/// Health checks and reflection are not what a service is for.
const GRPC_OWN: &str = r"grpc\.(health|reflection)\..*";

const fn requests(counter: &'static str, outcome: &'static [&'static str], bad: &'static str) -> Requests {
    Requests { counter, outcome, bad, only: &[] }
}

const fn seconds(histogram: &'static str) -> Durations {
    Durations { histogram, unit: Unit::Seconds, only: &[] }
}

const fn milliseconds(histogram: &'static str) -> Durations {
    Durations { histogram, unit: Unit::Milliseconds, only: &[] }
}

impl Requests {
    const fn only(self, only: &'static [Held]) -> Self {
        Self { only, ..self }
    }
}

impl Durations {
    const fn only(self, only: &'static [Held]) -> Self {
        Self { only, ..self }
    }
}

static AUTO: Known = Known { word: "Auto", signal: "http", shape: Shape::First(Preset::SERVED), sources: &[] };

static MICROMETER: Known = Known {
    word: "micrometer",
    signal: "http",
    shape: Shape::Served(
        &[requests("http_server_requests_seconds_count", &["status"], FIVE)],
        &[seconds("http_server_requests_seconds")],
    ),
    sources: &["https://docs.spring.io/spring-boot/reference/actuator/metrics.html"],
};

static OTEL: Known = Known {
    word: "otel",
    signal: "http",
    shape: Shape::Served(
        &[
            requests("http_server_request_duration_seconds_count", &["http_response_status_code"], FIVE),
            requests(
                "http_server_duration_milliseconds_count",
                &["http_status_code", "http_response_status_code"],
                FIVE,
            ),
            requests("rpc_server_call_duration_seconds_count", &["rpc_response_status_code"], GRPC_UPPER).only(&[(
                "rpc_method",
                Operator::NotMatches,
                GRPC_OWN,
            )]),
            requests("rpc_server_duration_milliseconds_count", &["rpc_grpc_status_code"], GRPC_NUMBERS).only(&[(
                "rpc_service",
                Operator::NotMatches,
                GRPC_OWN,
            )]),
            requests("rpc_server_duration_seconds_count", &["rpc_grpc_status_code"], GRPC_NUMBERS).only(&[(
                "rpc_service",
                Operator::NotMatches,
                GRPC_OWN,
            )]),
        ],
        &[
            seconds("http_server_request_duration_seconds"),
            milliseconds("http_server_duration_milliseconds"),
            seconds("rpc_server_call_duration_seconds").only(&[("rpc_method", Operator::NotMatches, GRPC_OWN)]),
            milliseconds("rpc_server_duration_milliseconds").only(&[("rpc_service", Operator::NotMatches, GRPC_OWN)]),
            seconds("rpc_server_duration_seconds").only(&[("rpc_service", Operator::NotMatches, GRPC_OWN)]),
        ],
    ),
    sources: &[
        "https://opentelemetry.io/docs/specs/semconv/http/http-metrics/",
        "https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/",
    ],
};

static ASP_NET: Known = Known {
    word: "aspnet",
    signal: "http",
    shape: Shape::Served(
        &[requests("http_requests_received_total", &["code"], FIVE)],
        &[seconds("http_request_duration_seconds")],
    ),
    sources: &["https://github.com/prometheus-net/prometheus-net"],
};

const VIEWS: &[Held] = &[("view", Operator::NotEqual, "prometheus-django-metrics")];

static PYTHON: Known = Known {
    word: "python",
    signal: "http",
    shape: Shape::Served(
        &[
            requests("starlette_requests_total", &["status_code"], FIVE),
            requests("flask_http_request_total", &["status"], FIVE),
            requests("django_http_responses_total_by_status_view_method_total", &["status"], FIVE).only(VIEWS),
            requests("http_requests_total", &["status"], FIVE),
        ],
        &[
            seconds("starlette_request_duration_seconds"),
            seconds("flask_http_request_duration_seconds"),
            seconds("django_http_requests_latency_seconds_by_view_method").only(VIEWS),
            seconds("http_request_duration_seconds"),
        ],
    ),
    sources: &[
        "https://pypi.org/project/starlette-exporter/",
        "https://pypi.org/project/prometheus-flask-exporter/",
        "https://pypi.org/project/django-prometheus/",
        "https://pypi.org/project/prometheus-fastapi-instrumentator/",
    ],
};

static GO: Known = Known {
    word: "go",
    signal: "http",
    shape: Shape::Served(
        &[
            requests("http_requests_total", &["code"], FIVE),
            requests("http_request_duration_seconds_count", &["code"], FIVE),
        ],
        &[seconds("http_request_duration_seconds")],
    ),
    sources: &["https://github.com/prometheus/client_golang/tree/main/examples/middleware"],
};

static NODE: Known = Known {
    word: "node",
    signal: "http",
    shape: Shape::Served(
        &[requests("http_request_duration_seconds_count", &["status_code"], FIVE)],
        &[seconds("http_request_duration_seconds")],
    ),
    sources: &["https://www.npmjs.com/package/express-prom-bundle"],
};

/// Labels that carry a status, by preference.
const STATUS: &[&str] =
    &["code", "status", "status_code", "response_code", "http_response_status_code", "http_status_code"];

static HTTP_GENERIC: Known = Known {
    word: "http-generic",
    signal: "http",
    shape: Shape::Served(
        &[
            requests("http_requests_total", STATUS, FIVE),
            requests("http_server_requests_total", STATUS, FIVE),
            requests("http_request_total", STATUS, FIVE),
            requests("requests_total", STATUS, FIVE),
            requests("http_request_duration_seconds_count", STATUS, FIVE),
            requests("http_server_request_duration_seconds_count", STATUS, FIVE),
            requests("http_server_requests_seconds_count", STATUS, FIVE),
            requests("http_requests_duration_seconds_count", STATUS, FIVE),
            requests("http_request_duration_milliseconds_count", STATUS, FIVE),
            requests("http_server_duration_milliseconds_count", STATUS, FIVE),
        ],
        &[
            seconds("http_request_duration_seconds"),
            seconds("http_server_request_duration_seconds"),
            seconds("http_server_requests_seconds"),
            seconds("http_requests_duration_seconds"),
            milliseconds("http_request_duration_milliseconds"),
            milliseconds("http_server_duration_milliseconds"),
        ],
    ),
    sources: &["https://prometheus.io/docs/practices/naming/"],
};

static GRPC: Known = Known {
    word: "grpc",
    signal: "grpc",
    shape: Shape::Served(
        &[requests("grpc_server_handled_total", &["grpc_code"], GRPC_NAMES).only(&[(
            "grpc_service",
            Operator::NotMatches,
            GRPC_OWN,
        )])],
        &[seconds("grpc_server_handling_seconds").only(&[("grpc_service", Operator::NotMatches, GRPC_OWN)])],
    ),
    sources: &["https://github.com/grpc-ecosystem/go-grpc-middleware"],
};

const DESTINATION: &[Held] = &[("reporter", Operator::Equal, "destination")];

static ISTIO: Known = Known {
    word: "istio",
    signal: "http",
    shape: Shape::Served(
        &[requests("istio_requests_total", &["response_code"], FIVE).only(DESTINATION)],
        &[milliseconds("istio_request_duration_milliseconds").only(DESTINATION)],
    ),
    sources: &["https://istio.io/latest/docs/reference/config/metrics/"],
};

const INBOUND: &[Held] = &[("direction", Operator::Equal, "inbound")];

static LINKERD: Known = Known {
    word: "linkerd",
    signal: "http",
    shape: Shape::Served(
        &[requests("response_total", &["classification"], "failure").only(INBOUND)],
        &[milliseconds("response_latency_ms").only(INBOUND)],
    ),
    sources: &["https://linkerd.io/2/reference/proxy-metrics/"],
};

/// Envoy counts requests for its own administration, too.
const NOT_ADMIN: &[Held] = &[("envoy_http_conn_manager_prefix", Operator::NotEqual, "admin")];

static ENVOY: Known = Known {
    word: "envoy",
    signal: "http",
    shape: Shape::Served(
        &[
            requests("envoy_http_downstream_rq_xx", &["envoy_response_code_class"], "5").only(NOT_ADMIN),
            requests("envoy_cluster_upstream_rq_xx", &["envoy_response_code_class"], "5"),
        ],
        &[
            milliseconds("envoy_http_downstream_rq_time").only(NOT_ADMIN),
            milliseconds("envoy_cluster_upstream_rq_time"),
        ],
    ),
    sources: &[
        "https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/stats",
        "https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats",
    ],
};

static NGINX_INGRESS: Known = Known {
    word: "nginx-ingress",
    signal: "ingress",
    shape: Shape::Proxied(
        &[requests("nginx_ingress_controller_requests", &["status"], FIVE)],
        &[seconds("nginx_ingress_controller_request_duration_seconds")],
    ),
    sources: &[
        "https://github.com/kubernetes/ingress-nginx/blob/main/docs/user-guide/monitoring.md",
        "https://github.com/kubernetes/ingress-nginx/blob/main/internal/ingress/metric/collectors/socket.go",
    ],
};

static TRAEFIK: Known = Known {
    word: "traefik",
    signal: "ingress",
    shape: Shape::Proxied(
        &[requests("traefik_service_requests_total", &["code"], FIVE)],
        &[seconds("traefik_service_request_duration_seconds")],
    ),
    sources: &["https://doc.traefik.io/observability/metrics/overview/"],
};

static CONTAINER_MEMORY: Known = Known {
    word: "container-memory",
    signal: "container",
    shape: Shape::Memory("container_memory_working_set_bytes"),
    sources: &["https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md"],
};

static CONTAINER_CPU_THROTTLING: Known = Known {
    word: "container-cpu-throttling",
    signal: "cpu",
    shape: Shape::Throttling("container_cpu_cfs_throttled_periods_total", "container_cpu_cfs_periods_total"),
    sources: &["https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md"],
};

impl Preset {
    /// Every preset but Auto, those that count requests in the order in which Auto looks for them: what the application
    /// itself counts before what proxies see of it, the particular before the general.
    pub const ALL: &'static [Self] = &[
        Self::Micrometer,
        Self::Otel,
        Self::AspNet,
        Self::Python,
        Self::Go,
        Self::Node,
        Self::HttpGeneric,
        Self::Grpc,
        Self::Istio,
        Self::Linkerd,
        Self::Envoy,
        Self::NginxIngress,
        Self::Traefik,
        Self::ContainerMemory,
        Self::ContainerCpuThrottling,
    ];

    /// Those that count requests of pods, in the order in which Auto looks for them.
    pub const SERVED: &'static [Self] = &[
        Self::Micrometer,
        Self::Otel,
        Self::AspNet,
        Self::Python,
        Self::Go,
        Self::Node,
        Self::HttpGeneric,
        Self::Grpc,
        Self::Istio,
        Self::Linkerd,
        Self::Envoy,
    ];

    /// What Auto stands for: requests by whatever counts them, memory, throttling.
    pub const OF_AUTO: &'static [Self] = &[Self::Auto, Self::ContainerMemory, Self::ContainerCpuThrottling];

    /// Its row of the table.
    #[must_use]
    pub fn known(self) -> &'static Known {
        match self {
            Self::Auto => &AUTO,
            Self::Micrometer => &MICROMETER,
            Self::Otel => &OTEL,
            Self::AspNet => &ASP_NET,
            Self::Python => &PYTHON,
            Self::Go => &GO,
            Self::Node => &NODE,
            Self::HttpGeneric => &HTTP_GENERIC,
            Self::Grpc => &GRPC,
            Self::Istio => &ISTIO,
            Self::Linkerd => &LINKERD,
            Self::Envoy => &ENVOY,
            Self::NginxIngress => &NGINX_INGRESS,
            Self::Traefik => &TRAEFIK,
            Self::ContainerMemory => &CONTAINER_MEMORY,
            Self::ContainerCpuThrottling => &CONTAINER_CPU_THROTTLING,
        }
    }

    /// The preset as it stands in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.known().word
    }

    /// Reads a preset.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        std::iter::once(Self::Auto).chain(Self::ALL.iter().copied()).find(|preset| preset.as_str() == word)
    }

    /// The last segments of the names of its signals.
    #[must_use]
    pub fn parts(self) -> &'static [&'static str] {
        match self.known().shape {
            Shape::Served(..) | Shape::Proxied(..) | Shape::First(_) => &["errors", "latency"],
            Shape::Memory(_) => &["memory"],
            Shape::Throttling(..) => &["throttling"],
        }
    }

    /// Whether it counts requests.
    #[must_use]
    pub fn counts_requests(self) -> bool {
        matches!(self.known().shape, Shape::Served(..) | Shape::Proxied(..) | Shape::First(_))
    }

    /// Whether it counts requests of a Service, which has to be named, and not of pods.
    #[must_use]
    pub fn is_proxied(self) -> bool {
        matches!(self.known().shape, Shape::Proxied(..))
    }

    /// The presets that are tried for it, in order.
    #[must_use]
    pub fn candidates(self) -> Vec<Self> {
        match self.known().shape {
            Shape::First(presets) => presets.to_vec(),
            _ => vec![self],
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_read_back() {
        for preset in Preset::ALL.iter().copied().chain([Preset::Auto]) {
            assert_eq!(Preset::parse(preset.as_str()), Some(preset));
        }
    }

    #[test]
    fn auto_looks_for_every_preset_that_counts_requests_of_pods_in_the_order_of_the_table() {
        let of_pods = |preset: &Preset| preset.counts_requests() && !preset.is_proxied();
        let counting: Vec<Preset> = Preset::ALL.iter().copied().filter(of_pods).collect();
        assert_eq!(Preset::Auto.candidates(), counting);
    }

    #[test]
    fn names_that_say_their_unit_are_read_in_it() {
        for preset in Preset::SERVED {
            let Shape::Served(_, durations) = preset.known().shape else { panic!("{preset}") };
            for one in durations {
                if one.histogram.ends_with("_seconds") || one.histogram.contains("_milliseconds") {
                    assert_eq!(one.unit, Unit::of(one.histogram), "{}", one.histogram);
                }
            }
        }
    }

    #[test]
    fn every_preset_names_where_its_series_are_documented() {
        for preset in Preset::ALL {
            assert!(!preset.known().sources.is_empty(), "{preset}");
            assert!(preset.known().sources.iter().all(|url| url.starts_with("https://")), "{preset}");
        }
    }
}
