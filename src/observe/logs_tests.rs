use std::convert::Infallible;
use std::sync::Mutex;

use futures::{StreamExt, stream};
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;

use super::*;
use crate::domain::fixture;
use crate::domain::rollout::{PodFact, PodName};

type Script = fn(&str) -> Response<axum::body::Body>;

fn source(script: Script) -> (LogSource, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        log.lock().unwrap().push(uri.clone());
        async move { Ok::<_, Infallible>(script(&uri)) }
    });
    let client = kube::Client::new(service, "shop");
    (LogSource::new(client, Arc::new(Redactor::new())).with_deadline(Duration::from_millis(300)), asked)
}

fn request(limit_bytes: u64) -> LogRequest {
    LogRequest {
        pod: PodName { namespace: "shop".into(), name: "api-1".into() },
        container: "app".into(),
        previous: false,
        since: None,
        limit_bytes,
    }
}

async fn read(script: Script, request: &LogRequest) -> (LogReading, Vec<Entry>) {
    let mut entries = Vec::new();
    let reading = source(script).0.read(request, &mut |entry| entries.push(entry)).await;
    (reading, entries)
}

fn plain(text: &'static str) -> Response<axum::body::Body> {
    Response::new(axum::body::Body::from(text))
}

fn status(code: u16, message: &str) -> Response<axum::body::Body> {
    let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "x", "code": code});
    Response::builder().status(code).body(axum::body::Body::from(body.to_string())).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const TWO: &str = "2026-11-21T10:00:00.1Z ERROR one\n2026-11-21T10:00:00.2Z ERROR two\n";

#[tokio::test]
async fn a_log_is_read_with_all_limits_in_the_request() {
    let (source, asked) = source(|_| plain(TWO));
    let mut texts = Vec::new();
    let asks = LogRequest { previous: true, since: Some(time("2026-11-21T10:00:00.1Z").into()), ..request(4096) };
    let reading = source.read(&asks, &mut |entry| texts.push(entry.text)).await;
    let LogReading::Read { volume, until, ended } = reading else { panic!("{reading:?}") };
    // The first line was read before: the API knows whole seconds only.
    assert_eq!(texts, ["two"]);
    assert_eq!((volume.lines, ended), (2, Ended::Whole));
    assert_eq!(until.map(|mark| mark.at), Some(time("2026-11-21T10:00:00.2Z")));
    let uri = asked.lock().unwrap()[0].clone();
    for part in [
        "/namespaces/shop/pods/api-1/log",
        "container=app",
        "previous=true",
        "limitBytes=4096",
        "timestamps=true",
        "sinceTime=2026-11-21T10",
    ] {
        assert!(uri.contains(part), "{part}: {uri}");
    }
}

#[tokio::test]
async fn a_line_that_the_limit_cut_is_not_counted_half() {
    let (reading, entries) = read(|_| plain("ERROR one\nERROR tw"), &request(18)).await;
    let LogReading::Read { volume, ended, .. } = reading else { panic!("{reading:?}") };
    assert_eq!((entries.len(), volume.lines, volume.half, ended), (1, 1, 1, Ended::Limit));
    // A server that sends more than it was asked for.
    let (reading, entries) = read(|_| plain("ERROR one\nERROR two\nERROR three\n"), &request(13)).await;
    assert!(matches!(reading, LogReading::Read { ended: Ended::Limit, .. }), "{reading:?}");
    assert_eq!(entries.len(), 1);
    // The last words of a crashed process have no end of line.
    let (_, entries) = read(|_| plain("ERROR one\npanic: last words"), &request(1 << 20)).await;
    assert_eq!(entries.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_data() {
    let cases: [(Script, LogReading); 7] = [
        (|_| status(403, "pods \"api-1\" is forbidden"), LogReading::Forbidden),
        (|_| status(404, "pods \"api-1\" not found"), LogReading::Gone),
        (|_| status(400, "previous terminated container \"app\" in pod \"api-1\" not found"), LogReading::NoLogs),
        (
            |_| status(400, "container \"app\" in pod \"api-1\" is waiting to start: ContainerCreating"),
            LogReading::NoLogs,
        ),
        (|_| plain("unable to retrieve container logs for containerd://abc"), LogReading::NoLogs),
        (|_| status(504, "gateway"), LogReading::TimedOut),
        (
            |_| status(500, "Get \"https://10.0.0.1:10250/x\": EOF"),
            LogReading::Failed("500: Get \"https://[redacted:ip]:10250/x\": EOF".into()),
        ),
    ];
    for (script, wanted) in cases {
        let (reading, entries) = read(script, &request(1 << 20)).await;
        assert_eq!(reading, wanted);
        assert!(entries.is_empty());
    }
    let (reading, _) = read(|_| plain(""), &request(1 << 20)).await;
    assert_eq!(reading, LogReading::Read { volume: Volume::default(), until: None, ended: Ended::Whole });
    assert_eq!(reading.unreadable(), None);
}

#[tokio::test]
async fn a_log_that_breaks_off_or_hangs_keeps_what_came() {
    let broken = |_: &str| {
        let parts = stream::iter([Ok(b"ERROR one\nERROR ha".to_vec()), Err(std::io::Error::other("rotated"))]);
        Response::new(axum::body::Body::from_stream(parts))
    };
    let (reading, entries) = read(broken, &request(1 << 20)).await;
    assert!(matches!(reading, LogReading::Read { ended: Ended::Early, .. }), "{reading:?}");
    assert_eq!((entries.len(), reading.unreadable()), (1, Some("ended early")));
    let hanging = |_: &str| {
        let parts = stream::iter([Ok::<_, Infallible>(b"ERROR one\n".to_vec())]).chain(stream::pending());
        Response::new(axum::body::Body::from_stream(parts))
    };
    let (reading, entries) = read(hanging, &request(1 << 20)).await;
    assert!(matches!(reading, LogReading::Read { ended: Ended::Deadline, .. }), "{reading:?}");
    assert_eq!(entries.len(), 1);
    let silent =
        |_: &str| Response::new(axum::body::Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>()));
    assert_eq!(read(silent, &request(1 << 20)).await.0, LogReading::TimedOut);
}

#[tokio::test]
async fn a_thousand_pods_are_read_a_few_at_a_time() {
    let (source, asked) = source(|_| plain(TWO));
    let mut lines = 0;
    let asks = request(1 << 20);
    let readings = stream::iter(0..1000).map(|_| {
        let (source, asks) = (source.clone(), asks.clone());
        async move {
            let mut entries = 0;
            let reading = source.read(&asks, &mut |_| entries += 1).await;
            assert!(source.places.available_permits() <= AT_ONCE);
            assert_eq!(reading.unreadable(), None);
            entries
        }
    });
    let mut readings = readings.buffer_unordered(100);
    while let Some(entries) = readings.next().await {
        lines += entries;
    }
    assert_eq!((lines, asked.lock().unwrap().len()), (2000, 1000));
}

#[test]
fn restarted_and_unready_pods_are_read_first() {
    let pod = |name: &str, restarts: u32, ready: bool| PodFact {
        ready_since: ready.then_some(Timestamp::UNIX_EPOCH),
        restarts,
        ..fixture::pod(name, "a")
    };
    let pods = [pod("a", 0, true), pod("b", 0, false), pod("d", 2, true), pod("c", 1, true), pod("e", 0, true)];
    let names: Vec<_> = pick(&pods, 4).iter().map(|pod| pod.pod.name.to_string()).collect();
    assert_eq!(names, ["c", "d", "b", "a"]);
}
