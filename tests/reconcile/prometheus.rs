//! A Prometheus on a port of its own whose pods serve what a script says.
//!
//! Role: the metrics of the test's world. Inputs: which pods live, what each image does. Outputs: answers to
//! `query_range`, `series` and `query` in the form the operator asks for; faults on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::deployments::NAMESPACE;

/// Distance of two samples, in seconds.
const SCRAPE: f64 = 0.5;
const BOUNDS: [&str; 7] = ["0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];

/// What the pods of an image do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub requests_per_second: f64,
    /// Share of failed requests.
    pub errors: f64,
    /// Of every request, in seconds.
    pub latency: f64,
    pub memory: f64,
}

pub const GOOD: Load = Load { requests_per_second: 40.0, errors: 0.0, latency: 0.06, memory: 20e6 };
pub const BAD: Load = Load { errors: 0.6, ..GOOD };

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Nothing,
    ServerError,
    NotFound,
    Html,
    HugeBody,
    Warnings,
    Slow,
    NotANumber,
    /// Nobody is told which series there are.
    NoNames,
    SeveralSeries,
}

struct Pod {
    image: String,
    born: f64,
    died: f64,
}

struct World {
    address: SocketAddr,
    images: BTreeMap<String, Load>,
    pods: BTreeMap<String, Pod>,
    trouble: Trouble,
    asked: Vec<(String, String)>,
    off: Option<CancellationToken>,
}

/// The server. Clones are the same server.
#[derive(Clone)]
pub struct Prometheus {
    world: Arc<Mutex<World>>,
}

impl Prometheus {
    /// Starts one; pods of unknown images are good.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = World {
            address: listener.local_addr().unwrap(),
            images: BTreeMap::new(),
            pods: BTreeMap::new(),
            trouble: Trouble::Nothing,
            asked: Vec::new(),
            off: None,
        };
        let this = Self { world: Arc::new(Mutex::new(world)) };
        this.serve(listener);
        this
    }

    fn locked(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let off = CancellationToken::new();
        let app = axum::Router::new().fallback(answer).with_state(self.clone());
        let stopped = off.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await });
        self.locked().off = Some(off);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.locked().address)
    }

    /// Connections are refused from now on.
    pub fn off(&self) {
        if let Some(off) = self.locked().off.take() {
            off.cancel();
        }
    }

    /// Listens again.
    pub async fn on(&self) {
        let address = self.locked().address;
        for _ in 0..100 {
            if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
                return self.serve(listener);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{address} is taken");
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.locked().trouble = trouble;
    }

    /// What the pods of an image do from their birth.
    pub fn image(&self, image: &str, load: Load) {
        self.locked().images.insert(image.to_owned(), load);
    }

    pub fn born(&self, pod: &str, image: &str) {
        let pod_now = Pod { image: image.to_owned(), born: now(), died: f64::INFINITY };
        self.locked().pods.insert(pod.to_owned(), pod_now);
    }

    /// The pod is that old, in seconds.
    pub fn aged(&self, pod: &str, seconds: f64) {
        if let Some(pod) = self.locked().pods.get_mut(pod) {
            pod.born = now() - seconds;
        }
    }

    /// The pod was scraped between these times ago, in seconds, and no more.
    pub fn lived(&self, pod: &str, (from, to): (f64, f64)) {
        if let Some(pod) = self.locked().pods.get_mut(pod) {
            (pod.born, pod.died) = (now() - from, now() - to);
        }
    }

    pub fn died(&self, pod: &str) {
        if let Some(pod) = self.locked().pods.get_mut(pod) {
            pod.died = now();
        }
    }

    /// How often metrics were read: range queries, not the regular question whether it answers at all.
    pub fn reads(&self) -> usize {
        self.locked().asked.iter().filter(|(path, _)| path.ends_with("/query_range")).count()
    }
}

fn now() -> f64 {
    seconds(Timestamp::now())
}

#[allow(clippy::cast_precision_loss)] // Milliseconds since the epoch fit.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

async fn answer(State(prometheus): State<Prometheus>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let fields: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
        .chain(url::form_urlencoded::parse(&body))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let text = fields.get("query").cloned().unwrap_or_default();
    let trouble = {
        let mut world = prometheus.locked();
        world.asked.push((path.clone(), text));
        world.trouble
    };
    let reply = |code: u16, kind: &str, body: String| {
        Response::builder().status(code).header("content-type", kind.to_owned()).body(Body::from(body)).unwrap()
    };
    match trouble {
        Trouble::ServerError => return reply(500, "text/plain", "out of memory".into()),
        Trouble::NoNames if path.ends_with("/series") => return reply(500, "text/plain", "too many series".into()),
        Trouble::NotFound => return reply(404, "text/plain", "404 page not found".into()),
        Trouble::Html => return reply(200, "text/html", "<html><body>Please log in</body></html>".into()),
        Trouble::HugeBody => return reply(200, "application/json", format!("\"{}\"", "x".repeat(96 << 20))),
        Trouble::Slow => tokio::time::sleep(Duration::from_secs(30)).await,
        _ => {}
    }
    let mut answer = json!({"status": "success", "data": prometheus.locked().data(&path, &fields, trouble)});
    if trouble == Trouble::Warnings {
        answer["warnings"] = json!(["one of the stores did not answer: partial result"]);
    }
    reply(200, "application/json", answer.to_string())
}

impl World {
    fn data(&self, path: &str, fields: &BTreeMap<String, String>, trouble: Trouble) -> Value {
        let number = |name: &str| fields.get(name).map(String::as_str).and_then(moment);
        let text = fields.get("query").map_or("", String::as_str);
        if path.ends_with("/series") {
            let wanted = fields.iter().find(|(key, _)| key.starts_with("match")).map_or("", |(_, value)| value);
            self.series(wanted)
        } else if path.ends_with("/query_range") {
            let step = number("step").unwrap_or(1.0).max(0.001);
            let (start, end) = (number("start").unwrap_or(0.0), number("end").unwrap_or(0.0));
            let mut grid = Vec::new();
            let mut at = start;
            while at <= end + 1e-6 && grid.len() < 11_000 {
                grid.push(at);
                at = step.mul_add(1.0, at);
            }
            json!({"resultType": "matrix", "result": self.matrix(text, &grid, trouble)})
        } else if path.ends_with("/query") && text.contains("label_replace") {
            let at = number("time").unwrap_or_else(now);
            let mut found = self.matrix(text, &[at], trouble);
            for series in &mut found {
                series["value"] = series["values"][0].take();
            }
            json!({"resultType": "vector", "result": found})
        } else if path.ends_with("/query") {
            json!({"resultType": "vector", "result": [{"metric": {}, "value": [now(), "1"]}]})
        } else {
            json!({"version": "3.0.0"})
        }
    }

    fn pods(&self, text: &str) -> Vec<(&String, &Pod)> {
        let pattern = regex::Regex::new(r#"pod=~"((?:[^"\\]|\\.)*)""#).unwrap();
        let wanted = pattern.captures(text).map(|found| found[1].replace("\\\\", "\\")).unwrap_or_default();
        let wanted = regex::Regex::new(&format!("^(?:{wanted})$")).unwrap();
        self.pods.iter().filter(|(name, _)| wanted.is_match(name)).collect()
    }

    fn series(&self, wanted: &str) -> Value {
        let mut found = Vec::new();
        for (pod, _) in self.pods(wanted) {
            let labels = |name: &str| json!({"__name__": name, "namespace": NAMESPACE, "pod": pod, "method": "GET"});
            let mut total = labels("http_requests_total");
            total["code"] = json!("200");
            let mut bucket = labels("http_request_duration_seconds_bucket");
            bucket["le"] = json!("0.1");
            found.extend([total, bucket]);
        }
        Value::Array(found)
    }

    fn matrix(&self, text: &str, grid: &[f64], trouble: Trouble) -> Vec<Value> {
        let mut found = Vec::new();
        for part in text.split("label_replace(").skip(1) {
            let words: Vec<&str> = part.split('"').collect();
            let name = words.iter().position(|word| *word == "dg").and_then(|at| words.get(at + 2)).copied();
            // These containers have no CPU limit, so that nothing of theirs is throttled.
            let Some(name) = name.filter(|_| !part.contains("container_cpu_cfs")) else { continue };
            for (pod, life) in self.pods(part) {
                found.extend(self.of_pod(part, name, pod, life, grid, trouble));
            }
        }
        found
    }

    fn of_pod(&self, part: &str, name: &str, pod: &str, life: &Pod, grid: &[f64], trouble: Trouble) -> Vec<Value> {
        let load = self.images.get(&life.image).copied().unwrap_or(GOOD);
        let memory = part.contains("memory");
        let mut labels = json!({"namespace": NAMESPACE, "pod": pod, "dg": name});
        if memory && part.contains("container") {
            labels["container"] = json!("app");
        }
        let made = |at: f64| (load.requests_per_second * (at - life.born)).floor().max(0.0);
        let values = |value: &dyn Fn(f64) -> f64| -> Vec<Value> {
            let sampled = grid.iter().filter_map(|at| {
                // A series that is gone is seen no more; scrapes lie on a grid of their own.
                let scraped = (at / SCRAPE).floor() * SCRAPE;
                (scraped >= life.born && *at <= life.died).then(|| (*at, value(scraped)))
            });
            let shown = |value: f64| if trouble == Trouble::NotANumber { "NaN".to_owned() } else { value.to_string() };
            sampled.map(|(at, value)| json!([at, shown(value)])).collect()
        };
        let mut found = Vec::new();
        if name == "bucket" {
            for bound in BOUNDS {
                let mut labels = labels.clone();
                labels["le"] = json!(bound);
                let below = bound.parse::<f64>().is_ok_and(|bound| load.latency <= bound) || bound == "+Inf";
                let value = |at: f64| if below { made(at) } else { 0.0 };
                found.push(json!({"metric": labels, "values": values(&value)}));
            }
        } else {
            let value = |at: f64| match name {
                "bad" => (made(at) * load.errors).floor(),
                "total" => made(at),
                "at" => at,
                _ => load.memory,
            };
            found.push(json!({"metric": labels, "values": values(&value)}));
        }
        found.retain(|series| series["values"].as_array().is_some_and(|values| !values.is_empty()));
        if trouble == Trouble::SeveralSeries {
            let twice = found.clone();
            found.extend(twice);
        }
        found
    }
}

/// A moment or a length in any form the API takes.
fn moment(text: &str) -> Option<f64> {
    let plain = text.parse::<f64>().ok();
    let length = || Some(text.strip_suffix("ms")?.parse::<f64>().ok()? / 1000.0);
    let long = || text.strip_suffix('s')?.parse::<f64>().ok();
    plain.or_else(length).or_else(long).or_else(|| Some(seconds(text.parse().ok()?)))
}
