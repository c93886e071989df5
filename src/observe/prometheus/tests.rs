use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::*;
use crate::domain::rollout::Side;
use crate::domain::signal::{Demands, Selector, SignalName, Source};

#[derive(Default)]
struct Outcomes(Mutex<Vec<&'static str>>);

impl QueryObserver for Outcomes {
    fn queried(&self, outcome: &'static str, _: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    }
}

/// A server that answers every request in the same way; returns its URL and the number of requests.
async fn serve(answer: impl Fn(&Uri, &str) -> Response + Clone + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let app = Router::new().fallback(move |uri: Uri, body: Bytes| {
        counter.fetch_add(1, Ordering::SeqCst);
        let response = answer(&uri, &String::from_utf8_lossy(&body));
        async move { response }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

fn config(url: &str) -> SourceConfig {
    SourceConfig {
        url: url.to_owned(),
        timeout: Duration::from_millis(500),
        collect: Duration::from_millis(50),
        ..SourceConfig::default()
    }
}

fn source(config: SourceConfig) -> PrometheusSource {
    PrometheusSource::new(config, Arc::new(Outcomes::default())).unwrap()
}

fn life(name: &str) -> PodLife {
    let created = Timestamp::from_second(1_700_000_000).unwrap();
    PodLife {
        pod: PodName::new("shop", name),
        side: Some(Side::New),
        created,
        grown_from: Some(created),
        container_starts: Vec::new(),
        gone: None,
        containers: Vec::new(),
    }
}

fn request(signals: Vec<Signal>, pods: &[&str]) -> ReadRequest {
    let since = Timestamp::from_second(1_700_000_000).unwrap();
    ReadRequest {
        signals,
        lives: pods.iter().map(|pod| life(pod)).collect(),
        since,
        until: since + Duration::from_secs(10),
        interval: Interval::Every(Duration::from_secs(5)),
    }
}

fn signal(name: &str, source: Source) -> Signal {
    Signal { name: SignalName::parse(name).unwrap(), source, demands: Demands::default() }
}

fn errors() -> Signal {
    let total = Selector::parse("http_requests_total").unwrap();
    signal("errors", Source::Ratio { bad: Selector::parse("http_requests_total{code=~'5..'}").unwrap(), total })
}

fn latency() -> Signal {
    signal("latency", Source::Histogram { buckets: Selector::parse("d_seconds_bucket").unwrap() })
}

/// One series with the same value at two times.
fn series(labels: &str, value: &str) -> String {
    format!(r#"{{"metric":{{"namespace":"shop",{labels}}},"values":[[1700000000,"{value}"],[1700000005,"{value}"]]}}"#)
}

fn matrix(series: &[String]) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#, series.join(","))
}

fn pod_ratio(pod: &str, bad: &str, total: &str) -> Vec<String> {
    [("bad", bad), ("total", total), ("at", "1700000000")]
        .iter()
        .map(|(part, value)| series(&format!(r#""pod":"{pod}","dg":"{part}""#), value))
        .collect()
}

async fn read_body(status: StatusCode, body: String, signal: Signal) -> Reading<Measured> {
    let (url, _) = serve(move |_, _| (status, body.clone()).into_response()).await;
    let mut found = source(config(&url)).read(request(vec![signal], &["a"])).await;
    found.signals.remove(0).reading
}

async fn fault(status: u16, body: &str) -> String {
    match read_body(StatusCode::from_u16(status).unwrap(), body.to_owned(), errors()).await {
        Reading::Errored(text) => text,
        other => panic!("not an error: {other:?}"),
    }
}

#[tokio::test]
async fn counters_are_read_with_the_times_of_their_samples() {
    let body = matrix(&pod_ratio("a", "3", "9007199254740992"));
    let Reading::Value(Measured::Ratio(counters)) = read_body(StatusCode::OK, body, errors()).await else { panic!() };
    let pod = &counters.pods[&PodName::new("shop", "a")];
    assert_eq!(pod.values, [9_007_199_254_740_992, 3, 9_007_199_254_740_992, 3]);
    assert_eq!(pod.times[1].0.as_second() - pod.times[1].1.as_second(), 5);
}

#[tokio::test]
async fn absent_bad_events_are_zero_and_an_absent_total_is_a_missing_pod() {
    let all = pod_ratio("a", "3", "7");
    let Reading::Value(Measured::Ratio(found)) = read_body(StatusCode::OK, matrix(&all[1..]), errors()).await else {
        panic!()
    };
    assert_eq!(found.pods[&PodName::new("shop", "a")].values, [7, 0, 7, 0]);
    let without_total = [all[0].clone(), all[2].clone()];
    let found = read_body(StatusCode::OK, matrix(&without_total), errors()).await;
    assert_eq!(found, Reading::Missing(MissingReason::NoSeries));
    assert_eq!(read_body(StatusCode::OK, matrix(&[]), errors()).await, Reading::Missing(MissingReason::NoSeries));
}

#[tokio::test]
async fn buckets_are_read_in_milliseconds_and_the_infinite_one_is_the_total() {
    let part = |le: &str, value: &str| series(&format!(r#""pod":"a","dg":"bucket","le":"{le}""#), value);
    let rows = [part("+Inf", "9"), part("0.5", "7"), part("0.1", "4"), series(r#""pod":"a","dg":"at""#, "1700000000")];
    let Reading::Value(Measured::Histogram(found)) = read_body(StatusCode::OK, matrix(&rows), latency()).await else {
        panic!()
    };
    assert_eq!(found.bounds, [100.0, 500.0]);
    assert_eq!(found.pods[&PodName::new("shop", "a")].values[..3], [9, 4, 7]);
    let twice = [part("1", "1"), part("1.0", "1"), part("+Inf", "1")];
    assert!(
        matches!(read_body(StatusCode::OK, matrix(&twice), latency()).await, Reading::Errored(text) if text.contains("same le"))
    );
}

#[tokio::test]
async fn what_is_not_a_count_is_an_error_that_names_the_pod() {
    for value in ["NaN", "+Inf", "-Inf", "-1", "0.5", "9007199254740994", "1e+300"] {
        let text = fault(200, &matrix(&pod_ratio("a", "0", value))).await;
        assert!(text.contains("pod a") && text.contains("whole number"), "{value}: {text}");
    }
}

#[tokio::test]
async fn several_series_where_one_was_expected_are_an_error() {
    let mut twice = pod_ratio("a", "1", "2");
    twice.extend(pod_ratio("a", "1", "2"));
    assert!(fault(200, &matrix(&twice)).await.contains("several series"));
    let native = r#"{"metric":{"namespace":"shop","pod":"a","dg":"total"},"histograms":[[1,{}]]}"#;
    assert!(fault(200, &matrix(&[native.to_owned()])).await.contains("native histograms"));
}

#[tokio::test]
async fn warnings_are_no_values_and_infos_are_harmless() {
    let body = matrix(&pod_ratio("a", "1", "2"));
    let warned = body.replacen('{', r#"{"warnings":["store gateway is down"],"#, 1);
    let text = fault(200, &warned).await;
    assert!(text.contains("incomplete") && text.contains("store gateway is down"), "{text}");
    let informed = body.replacen('{', r#"{"infos":["metric might not be a counter"],"#, 1);
    assert!(matches!(read_body(StatusCode::OK, informed, errors()).await, Reading::Value(_)));
}

#[tokio::test]
async fn refusals_are_told_in_the_words_of_prometheus() {
    for status in [400, 422, 500, 503] {
        let text =
            fault(status, r#"{"status":"error","errorType":"x","error":"parse error: unexpected <op:+>"}"#).await;
        assert!(text.contains(&status.to_string()) && text.contains("parse error"), "{text}");
    }
    for (status, body) in [(404, "404 page not found"), (500, "<html>oops</html>"), (302, "")] {
        assert!(fault(status, body).await.contains(&status.to_string()));
    }
    assert!(fault(200, "<html>login</html>").await.contains("not one of the prometheus api"));
    assert!(fault(200, r#"{"status":"success"}"#).await.contains("no data"));
    assert!(fault(200, r#"{"status":"error","error":"late"}"#).await.contains("late"));
    assert!(
        fault(200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#).await.contains("not a matrix")
    );
    assert!(fault(200, r#"{"status":"success","data":7}"#).await.contains("no series"));
}

#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    let (url, _) = serve(|_, _| "x".repeat(100_000).into_response()).await;
    let found = source(SourceConfig { body_limit: 1000, ..config(&url) }).read(request(vec![errors()], &["a"])).await;
    assert!(found.error().unwrap().contains("larger than 1000 bytes"));
}

#[tokio::test]
async fn silence_and_refused_connections_are_told_apart_without_the_url() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
    let silent = source(config(&url)).read(request(vec![errors()], &["a"])).await;
    assert!(silent.error().unwrap().contains("in time"));
    drop(listener);
    let refused = source(config(&url)).read(request(vec![errors()], &["a"])).await;
    let text = refused.error().unwrap();
    assert!(text.contains("cannot be reached") && !text.contains("secret"), "{text}");
    assert_eq!(source(config(&url)).probe().await.unwrap_err().category(), "unreachable");
}

#[tokio::test]
async fn guards_that_ask_the_same_at_the_same_time_share_one_query() {
    let mut rows = pod_ratio("a", "1", "2");
    rows.extend(pod_ratio("b", "3", "4"));
    rows.extend(pod_ratio("stranger", "NaN", "NaN"));
    let body = matrix(&rows);
    let (url, seen) = serve(move |_, _| body.clone().into_response()).await;
    let source = source(config(&url));
    let (one, two) =
        tokio::join!(source.read(request(vec![errors()], &["a"])), source.read(request(vec![errors()], &["b"])));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    for (found, pod) in [(one, "a"), (two, "b")] {
        let Some(Measured::Ratio(counters)) = found.signals[0].reading.value() else { panic!() };
        assert_eq!(counters.pods.keys().map(|pod| &*pod.name).collect::<Vec<_>>(), [pod]);
    }
}

#[tokio::test]
async fn a_fault_of_one_pod_stays_with_the_guard_that_asked_for_it() {
    let mut rows = pod_ratio("a", "1", "2");
    rows.extend(pod_ratio("b", "NaN", "4"));
    let body = matrix(&rows);
    let (url, _) = serve(move |_, _| body.clone().into_response()).await;
    let source = source(config(&url));
    let (one, two) =
        tokio::join!(source.read(request(vec![errors()], &["a"])), source.read(request(vec![errors()], &["b"])));
    assert!(one.error().is_none());
    assert!(two.error().is_some());
}

#[tokio::test]
async fn many_pods_are_asked_for_in_chunks() {
    let (url, seen) = serve(|_, _| matrix(&[]).into_response()).await;
    let source = source(SourceConfig { chunk: 2, ..config(&url) });
    source.read(request(vec![errors()], &["a", "b", "c", "d", "e"])).await;
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn http_generic_finds_out_what_exists_and_remembers_it() {
    let listing = r#"{"status":"success","data":[
        {"__name__":"http_requests_total","code":"200","namespace":"shop","pod":"a"},
        {"__name__":"http_request_duration_seconds_bucket","le":"1","namespace":"shop","pod":"a"}]}"#;
    let listed = Arc::new(AtomicUsize::new(0));
    let count = listed.clone();
    let (url, _) = serve(move |uri, _| {
        if uri.path().ends_with("/series") {
            count.fetch_add(1, Ordering::SeqCst);
            return listing.into_response();
        }
        matrix(&pod_ratio("a", "1", "2")[1..]).into_response()
    })
    .await;
    let source = source(config(&url));
    let preset = || signal("web", Source::Preset(crate::domain::signal::Preset::HttpGeneric));
    for _ in 0..2 {
        let found = source.read(request(vec![preset()], &["a"])).await;
        assert_eq!(found.signals[0].name, "web/errors");
        assert!(found.signals[0].query.contains("code=~\"5..\""), "{}", found.signals[0].query);
        assert!(found.signals[0].reading.value().is_some());
    }
    assert_eq!(listed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_status_label_that_does_not_exist_is_missing_and_not_zero_errors() {
    let listing = r#"{"status":"success","data":[{"__name__":"http_requests_total","namespace":"shop","pod":"a"}]}"#;
    let (url, _) = serve(move |_, _| listing.into_response()).await;
    let preset = signal("web", Source::Preset(crate::domain::signal::Preset::HttpGeneric));
    let found = source(config(&url)).read(request(vec![preset], &["a"])).await;
    assert_eq!(found.signals[0].reading, Reading::Missing(MissingReason::NoStatusLabel));
    assert_eq!(found.signals[1].reading, Reading::Missing(MissingReason::NoHistogram));
}

#[tokio::test]
async fn unusable_settings_are_refused_when_the_source_is_made() {
    let refused = |config| PrometheusSource::new(config, Arc::new(Outcomes::default())).err().unwrap().to_string();
    for url in ["", "ftp://x", "no url", "http://"] {
        assert!(refused(config(url)).contains("the url"), "{url}");
    }
    assert!(refused(SourceConfig { ca_pem: Some(b"nonsense".to_vec()), ..config("https://x") }).contains("ca"));
    assert!(refused(SourceConfig { bearer: Some("a\nb".to_owned().into()), ..config("http://x") }).contains("header"));
    assert!(PrometheusSource::new(config("https://x"), Arc::new(Outcomes::default())).is_ok());
}

#[tokio::test]
async fn queries_are_reported_by_outcome_and_carry_the_token() {
    let (url, _) = serve(|_, _| matrix(&[]).into_response()).await;
    let outcomes = Arc::new(Outcomes::default());
    let config = SourceConfig { bearer: Some("t".to_owned().into()), ..config(&url) };
    let source = PrometheusSource::new(config, outcomes.clone()).unwrap();
    source.probe().await.unwrap();
    assert_eq!(*outcomes.0.lock().unwrap(), ["success"]);
}

/// Against a real Prometheus that scrapes itself with the labels `namespace="shop"` and `pod="prometheus"`.
#[tokio::test]
async fn a_real_prometheus_understands_the_queries() {
    let Ok(url) = std::env::var("PROMETHEUS_URL") else {
        return;
    };
    let source = source(SourceConfig { timeout: Duration::from_secs(10), ..config(&url) });
    source.probe().await.unwrap();
    let signals = vec![
        signal(
            "errors",
            Source::Ratio {
                bad: Selector::parse("prometheus_http_requests_total{code=~'4..'}").unwrap(),
                total: Selector::parse("prometheus_http_requests_total").unwrap(),
            },
        ),
        signal(
            "latency",
            Source::Histogram { buckets: Selector::parse("prometheus_http_request_duration_seconds_bucket").unwrap() },
        ),
        signal("memory", Source::Gauge { selector: Selector::parse("process_resident_memory_bytes").unwrap() }),
    ];
    let mut request = request(signals, &["prometheus"]);
    request.until = Timestamp::now();
    request.since = request.until - Duration::from_mins(1);
    let found = source.read(request).await;
    assert_eq!(found.error(), None);
    let Some(Measured::Ratio(counters)) = found.signals[0].reading.value() else { panic!("{found:?}") };
    let pod = counters.pods.values().next().unwrap();
    // Sample times are those of scrapes, not of the grid.
    assert!(pod.times.iter().all(|(grid, sampled)| sampled <= grid));
    assert!(pod.times.iter().any(|(_, sampled)| sampled.as_millisecond() % 1000 != 0), "{:?}", pod.times);
    let Some(Measured::Histogram(buckets)) = found.signals[1].reading.value() else { panic!("{found:?}") };
    assert!(buckets.bounds.len() > 3);
    assert!(matches!(found.signals[2].reading.value(), Some(Measured::Gauge(points)) if !points.is_empty()));
    let preset = signal("web", Source::Preset(crate::domain::signal::Preset::HttpGeneric));
    let request = ReadRequest { signals: vec![preset], ..self::request(Vec::new(), &["prometheus"]) };
    assert!(source.read(request).await.error().is_none());
}
