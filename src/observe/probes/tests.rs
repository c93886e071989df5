use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::probe::{Expect, ExpectVersion, Http, Scheme, StatusRanges};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// As in production, but for the machine that the tests run on.
fn allow_this_machine(ip: IpAddr) -> Option<&'static str> {
    if ip == LOOPBACK { None } else { address::refuse(ip) }
}

fn prober() -> Prober {
    Prober::with(4, allow_this_machine, rustls::RootCertStore::empty()).unwrap()
}

fn pod() -> PodTarget {
    PodTarget {
        name: "api-1".into(),
        side: Side::New,
        ips: vec![LOOPBACK],
        host_network: false,
        image_tag: Some("v1.4.2".into()),
    }
}

fn plain() -> Http {
    Http {
        scheme: Scheme::Http,
        path: "/healthz".into(),
        server_name: None,
        verify: false,
        expect: Expect { status: StatusRanges::parse("200-399").unwrap(), body_contains: None, version: None },
    }
}

fn containing(text: &str) -> Http {
    let mut http = plain();
    http.expect.body_contains = Some(text.into());
    http
}

fn probe(question: Question, port: u16) -> Probe {
    Probe {
        name: "health".into(),
        at: At::Pods,
        port: NonZeroU16::new(port).unwrap(),
        question,
        timeout: Duration::from_millis(400),
    }
}

async fn ask_with(prober: &Prober, question: Question, address: SocketAddr) -> ProbeOutcome {
    let start = Instant::now();
    let outcome = prober.ask(&probe(question, address.port()), &pod(), address).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{outcome:?} after {:?}", start.elapsed());
    outcome
}

async fn ask(question: Question, address: SocketAddr) -> ProbeOutcome {
    ask_with(&prober(), question, address).await
}

#[track_caller]
fn failed(outcome: ProbeOutcome, issue: Issue, words: &str) {
    match &outcome {
        ProbeOutcome::Failed { issue: said, what, .. } if *said == issue && what.contains(words) => {}
        _ => panic!("{outcome:?} instead of {issue:?} with {words:?}"),
    }
}

#[track_caller]
fn ok(outcome: ProbeOutcome) {
    assert!(matches!(outcome, ProbeOutcome::Ok { .. }), "{outcome:?}");
}

#[track_caller]
fn late(outcome: ProbeOutcome, at: Stage) {
    assert!(matches!(outcome, ProbeOutcome::TimedOut { stage, .. } if stage == at), "{outcome:?}");
}

#[track_caller]
fn refused(outcome: ProbeOutcome, words: &str) {
    assert!(matches!(&outcome, ProbeOutcome::Refused { why } if why.contains(words)), "{outcome:?}");
}

/// A server that does with every connection what it is told; counts them.
async fn serve<F, W>(work: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(work(stream));
        }
    });
    (address, seen)
}

/// A server that reads the request and answers with these bytes, then closes.
async fn saying(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
    let work = move |mut stream: TcpStream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // Until the other side closes: an early reset could overtake what was said.
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        }
    };
    serve(work).await.0
}

/// A server that says this, and then the second thing again and again.
async fn endless(first: &'static str, again: &'static [u8], pause: Duration) -> SocketAddr {
    let work = move |mut stream: TcpStream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(first.as_bytes()).await;
        while stream.write_all(again).await.is_ok() {
            if pause > Duration::ZERO {
                tokio::time::sleep(pause).await;
            }
        }
    };
    serve(work).await.0
}

const FINE: &str = "HTTP/1.1 200 OK\r\nX-App-Version: 1.4.2\r\nContent-Length: 8\r\n\r\nall good";

#[tokio::test]
async fn a_pod_that_answers_as_expected_is_fine() {
    let address = saying(FINE).await;
    ok(ask(Question::Http(plain()), address).await);
    ok(ask(Question::Http(containing("good")), address).await);
    ok(ask(Question::Tcp, address).await);
}

#[tokio::test]
async fn an_unexpected_status_and_an_unexpected_body_are_said() {
    let down = saying("HTTP/1.1 503 Busy\r\nContent-Length: 7\r\n\r\ndb down").await;
    failed(ask(Question::Http(plain()), down).await, Issue::Status, "answered 503 instead of 200-399: db down");
    let fine = saying(FINE).await;
    failed(ask(Question::Http(containing("great")), fine).await, Issue::Body, "answered 200 without \"great\"");
}

#[tokio::test]
async fn the_version_of_the_image_is_compared_with_the_header() {
    let mut http = plain();
    http.expect.version = Some(ExpectVersion::parse("{imageTag}", Some("x-app-version")).unwrap());
    ok(ask(Question::Http(http.clone()), saying(FINE).await).await);
    let other = saying(FINE.replace("1.4.2", "1.4.1")).await;
    failed(
        ask(Question::Http(http), other).await,
        Issue::Version,
        "says x-app-version: 1.4.1 instead of version v1.4.2",
    );
}

#[tokio::test]
async fn a_closed_port_refuses_connections() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    failed(ask(Question::Tcp, address).await, Issue::ConnectionRefused, "refuses");
    failed(ask(Question::Http(plain()), address).await, Issue::ConnectionRefused, "refuses");
    failed(ask(Question::Grpc { service: String::new() }, address).await, Issue::ConnectionRefused, "refuses");
}

#[tokio::test]
async fn a_tarpit_ends_at_the_time_out_whatever_it_is_asked() {
    let (address, _) = serve(|stream| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    })
    .await;
    late(ask(Question::Http(plain()), address).await, Stage::Answer);
    late(ask(Question::Grpc { service: String::new() }, address).await, Stage::Answer);
    let https = Http { scheme: Scheme::Https, ..plain() };
    late(ask(Question::Http(https), address).await, Stage::Tls);
}

#[tokio::test]
async fn headers_that_drip_end_at_the_time_out() {
    let address = endless("HTTP/1.1 200 OK\r\n", b"a: b\r\n", Duration::from_millis(20)).await;
    late(ask(Question::Http(plain()), address).await, Stage::Answer);
}

#[tokio::test]
async fn a_body_that_drips_ends_at_the_time_out_and_only_if_it_is_needed() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    let address = endless(head, b"x", Duration::from_millis(20)).await;
    ok(ask(Question::Http(plain()), address).await);
    late(ask(Question::Http(containing("good")), address).await, Stage::Body);
    let head = "HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n";
    let address = endless(head, b"x", Duration::from_millis(20)).await;
    failed(ask(Question::Http(plain()), address).await, Issue::Status, "answered 500 instead of 200-399: x");
}

#[tokio::test]
async fn an_endless_body_is_read_to_its_limit_only() {
    const PIECE: &[u8] = &[b'x'; 8192];
    let address = endless("HTTP/1.1 200 OK\r\n\r\n", PIECE, Duration::ZERO).await;
    ok(ask(Question::Http(plain()), address).await);
    failed(ask(Question::Http(containing("good")), address).await, Issue::Body, "in its first 64 KiB");
}

#[tokio::test]
async fn ten_megabytes_of_headers_are_not_read() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nX-Big: ".to_vec();
    bytes.resize(10 << 20, b'x');
    bytes.extend_from_slice(b"\r\n\r\n");
    let address = saying(bytes).await;
    failed(ask(Question::Http(plain()), address).await, Issue::Protocol, "more than 64 KiB of headers");
}

#[tokio::test]
async fn what_is_no_http_is_said() {
    for bytes in
        ["HTTP/1.1 abc OK\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n", "HTTP/9.9 200 OK\r\n\r\n", "\0\0\0\0\0\0\0\0\r\n\r\n"]
    {
        let outcome = ask(Question::Http(plain()), saying(bytes).await).await;
        failed(outcome, Issue::Protocol, "answers with something that is not HTTP");
    }
    failed(ask(Question::Http(plain()), saying("").await).await, Issue::ConnectionLost, "before its answer");
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall";
    failed(ask(Question::Http(containing("good")), saying(short).await).await, Issue::ConnectionLost, "broke off");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (target, visits) = serve(|stream| async move { drop(stream) }).await;
    for location in [format!("http://{target}/"), "http://169.254.169.254/latest/meta-data/".to_owned()] {
        let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let address = saying(redirect).await;
        ok(ask(Question::Http(plain()), address).await);
        let mut only_ok = plain();
        only_ok.expect.status = StatusRanges::parse("200").unwrap();
        failed(ask(Question::Http(only_ok), address).await, Issue::Status, "answered 302 instead of 200");
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

// TLS.

struct Authority {
    roots: rustls::RootCertStore,
    acceptor: tokio_rustls::TlsAcceptor,
}

/// A server certificate for `api.example.com` by an authority of its own.
fn authority(alpn: &[&[u8]]) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(ca, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["api.example.com".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca_certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], leaf_key.into())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Authority { roots, acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)) }
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"all good"))))
}

async fn https(acceptor: tokio_rustls::TlsAcceptor, h2: bool) -> SocketAddr {
    let work = move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let io = TokioIo::new(stream);
            if h2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, service_fn(hello)).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(hello)).await;
            }
        }
    };
    serve(work).await.0
}

fn secure(verify: bool, server_name: Option<&str>) -> Question {
    let server_name = server_name.map(str::to_owned);
    Question::Http(Http { scheme: Scheme::Https, verify, server_name, ..containing("good") })
}

#[tokio::test]
async fn any_certificate_will_do_by_default_and_an_unknown_authority_is_named_otherwise() {
    let Authority { roots, acceptor } = authority(&[b"http/1.1"]);
    let address = https(acceptor, false).await;
    ok(ask(secure(false, None), address).await);
    ok(ask(secure(false, Some("other.example.com")), address).await);
    let outcome = ask(secure(true, Some("api.example.com")), address).await;
    failed(outcome, Issue::Certificate, "unknown authority");
    let knowing = Prober::with(4, allow_this_machine, roots).unwrap();
    ok(ask_with(&knowing, secure(true, Some("api.example.com")), address).await);
    let outcome = ask_with(&knowing, secure(true, Some("other.example.com")), address).await;
    failed(outcome, Issue::Certificate, "not accepted");
}

#[tokio::test]
async fn a_port_without_tls_is_said() {
    let outcome = ask(secure(false, None), saying("HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
    failed(outcome, Issue::Tls, "does not speak TLS");
    failed(ask(secure(false, None), saying("").await).await, Issue::Tls, "ends the TLS handshake");
}

// HTTP/2.

#[tokio::test]
async fn servers_that_speak_nothing_but_http2_are_asked_in_http2() {
    let Authority { acceptor, .. } = authority(&[b"h2"]);
    ok(ask(secure(false, None), https(acceptor, true).await).await);
    let (address, connections) = serve(|stream| async move {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), service_fn(hello)).await;
    })
    .await;
    ok(ask(Question::Http(containing("good")), address).await);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

// gRPC.

/// A health server: the status in the message, the gRPC status in trailers or, without a message, in headers.
async fn health(serving: Option<u8>, code: &'static str) -> SocketAddr {
    let answer = move |request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers().get("te").map(HeaderValue::as_bytes), Some(b"trailers".as_slice()));
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let known = asked.as_ref() == crate::domain::probe::grpc::request("shop.Cart").as_slice();
        let code = if known { code } else { "5" };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        let mut frames = Vec::new();
        let mut response = Response::builder().header("content-type", "application/grpc");
        if let Some(serving) = serving.filter(|_| known) {
            frames.push(Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, serving]))));
            frames.push(Ok(Frame::trailers(trailers)));
        } else {
            response = response.header("grpc-status", code);
        }
        Ok::<_, Infallible>(response.body(StreamBody::new(futures::stream::iter(frames))).unwrap())
    };
    let work = move |stream| async move {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
    };
    serve(work).await.0
}

fn cart() -> Question {
    Question::Grpc { service: "shop.Cart".into() }
}

#[tokio::test]
async fn grpc_health_is_what_the_server_says() {
    ok(ask(cart(), health(Some(1), "0").await).await);
    failed(ask(cart(), health(Some(2), "0").await).await, Issue::NotServing, "NOT_SERVING");
    failed(ask(cart(), health(None, "12").await).await, Issue::NoHealthService, "UNIMPLEMENTED");
    let other = Question::Grpc { service: "shop.Other".into() };
    failed(ask(other, health(Some(1), "0").await).await, Issue::NotServing, "does not know the service");
}

#[tokio::test]
async fn grpc_asked_of_something_else_is_said() {
    failed(ask(cart(), saying(FINE).await).await, Issue::Protocol, "does not answer gRPC over HTTP/2");
    let (web, _) = serve(|stream| async move {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), service_fn(hello)).await;
    })
    .await;
    failed(ask(cart(), web).await, Issue::Protocol, "without a gRPC status");
}

// Who may be asked.

#[tokio::test]
async fn pods_are_asked_at_their_own_addresses_only() {
    let address = saying(FINE).await;
    let ask = async |pod: PodTarget| prober().ask(&probe(Question::Tcp, address.port()), &pod, address).await;
    refused(ask(PodTarget { host_network: true, ..pod() }).await, "hostNetwork");
    refused(ask(PodTarget { ips: vec!["10.0.0.1".parse().unwrap()], ..pod() }).await, "not one of the pod's own");
    let strict = Prober::new(4).unwrap();
    let outcome = strict.ask(&probe(Question::Tcp, address.port()), &pod(), address).await;
    refused(outcome, "it is a loopback address");
}

#[tokio::test]
async fn the_address_is_looked_at_again_where_the_connection_is_made() {
    let deadline = Deadline(tokio::time::Instant::now() + Duration::from_secs(1));
    let metadata: SocketAddr = "169.254.169.254:80".parse().unwrap();
    let stopped = prober().connect(metadata, deadline).await;
    assert!(matches!(stopped, Err(Stop::Failed(_, what)) if what.contains("metadata")));
}

#[tokio::test]
async fn no_more_pods_are_asked_at_a_time_than_allowed() {
    let (address, connections) = serve(|stream| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    })
    .await;
    let prober = Prober::with(2, allow_this_machine, rustls::RootCertStore::empty()).unwrap();
    let probe = probe(Question::Http(plain()), address.port());
    let (one, all) = (pod(), join_all((0..6).map(|_| async { prober.ask(&probe, &pod(), address).await })));
    assert_eq!(one.ips, [address.ip()]);
    let peek = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        connections.load(Ordering::SeqCst)
    };
    let (outcomes, at_first) = futures::join!(all, peek);
    assert_eq!(at_first, 2);
    for outcome in outcomes {
        late(outcome, Stage::Answer);
    }
}

// Services.

/// An API server that knows one Service and its slices.
fn cluster(service: serde_json::Value, slices: serde_json::Value) -> kube::Client {
    let answer = move |request: Request<kube::client::Body>| {
        let uri = request.uri().to_string();
        let body = if uri.starts_with("/api/v1/namespaces/shop/services/api?")
            || uri == "/api/v1/namespaces/shop/services/api"
        {
            service.clone()
        } else if uri.starts_with("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?")
            && uri.contains("labelSelector=kubernetes.io%2Fservice-name%3Dapi")
        {
            json!({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {}, "items": slices})
        } else {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
                   "message": "not found", "metadata": {}})
        };
        let status = if body["kind"] == "Status" { 404 } else { 200 };
        let response = Response::builder().status(status).body(kube::client::Body::from(body.to_string().into_bytes()));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    };
    kube::Client::new(tower::service_fn(answer), "shop")
}

fn service(spec: serde_json::Value) -> serde_json::Value {
    json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "api", "namespace": "shop"}, "spec": spec})
}

fn slice(port: u16, endpoints: serde_json::Value) -> serde_json::Value {
    json!({"metadata": {"name": "api-x", "namespace": "shop"}, "addressType": "IPv4",
           "ports": [{"name": "web", "port": port, "protocol": "TCP"}, {"name": "other", "port": 1}],
           "endpoints": endpoints})
}

fn endpoint(address: &str, kind: &str, namespace: &str, name: &str) -> serde_json::Value {
    json!({"addresses": [address], "conditions": {"ready": false},
           "targetRef": {"kind": kind, "namespace": namespace, "name": name}})
}

fn through_service(port: u16) -> Probe {
    Probe { at: At::Service("api".into()), ..probe(Question::Tcp, port) }
}

#[tokio::test]
async fn the_pods_behind_a_service_are_asked_at_its_target_port() {
    let address = saying(FINE).await;
    let ports = json!([{"name": "metrics", "port": 9090}, {"name": "web", "port": 80}]);
    let slices = json!([slice(
        address.port(),
        json!([
            endpoint("127.0.0.1", "Pod", "shop", "api-1"),
            // Of another workload.
            endpoint("127.0.0.1", "Pod", "shop", "stranger"),
            // Not pods of this namespace.
            endpoint("127.0.0.1", "Pod", "kube-system", "api-2"),
            endpoint("127.0.0.1", "Node", "shop", "api-3"),
            {"addresses": ["127.0.0.1"]},
            // An address that a person wrote.
            endpoint("10.0.0.99", "Pod", "shop", "api-4"),
        ])
    )]);
    let client = cluster(service(json!({"type": "ClusterIP", "ports": ports})), slices);
    let pods: Vec<_> = (1..=4).map(|n| PodTarget { name: format!("api-{n}"), ..pod() }).collect();
    let answers = prober().round(&client, "shop", &through_service(80), &pods).await;
    let [first, fourth] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((first.pod.as_str(), fourth.pod.as_str()), ("api-1", "api-4"));
    ok(first.outcome.clone());
    refused(fourth.outcome.clone(), "an address that is not the pod's");
}

#[tokio::test]
async fn services_that_lead_elsewhere_are_refused_and_said() {
    let ports = json!([{"name": "web", "port": 80}]);
    let round = async |client: kube::Client, probe: Probe| {
        let answers = prober().round(&client, "shop", &probe, &[pod()]).await;
        answers.into_iter().next().unwrap().outcome
    };
    let external = cluster(service(json!({"type": "ExternalName", "externalName": "metadata.example"})), json!([]));
    refused(round(external, through_service(80)).await, "of type ExternalName");
    let some = || cluster(service(json!({"ports": ports})), json!([slice(8080, json!([]))]));
    refused(round(some(), through_service(81)).await, "has no TCP port 81; it has 80");
    refused(round(some(), through_service(80)).await, "no pod of the target stands behind the Service");
    let missing = Probe { at: At::Service("other".into()), ..through_service(80) };
    refused(round(some(), missing).await, "there is no Service other in the namespace");
}

#[tokio::test]
async fn pods_without_an_address_are_not_asked() {
    let client = cluster(json!({}), json!([]));
    let starting = PodTarget { ips: Vec::new(), ..pod() };
    let answers = prober().round(&client, "shop", &probe(Question::Tcp, 80), &[starting]).await;
    refused(answers[0].outcome.clone(), "no address yet");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_that_a_pod_sends_are_an_error(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "HTTP/1\\.[01] [0-9]{1,4} [ -~]{0,20}\r\n([A-Za-z-]{1,10}: ?[ -~]{0,20}\r\n){0,4}(\r\n)?[ -~]{0,40}".prop_map(String::into_bytes),
    ]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = saying(bytes).await;
            for question in [Question::Http(containing("x")), cart(), secure(false, None)] {
                let outcome = ask(question, address).await;
                assert!(!matches!(outcome, ProbeOutcome::Refused { .. }), "{outcome:?}");
            }
        });
    }
}
