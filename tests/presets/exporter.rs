//! Programs that export what a fixture says, with counters that move.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// One exposition in two revisions. Values of counters and histograms are what one second adds; gauges stand.
pub struct Fixture {
    name: String,
    good: Vec<String>,
    bad: Vec<String>,
}

impl Fixture {
    pub fn load(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/presets/{name}.prom", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let section = |word: &str| -> Vec<String> {
            let head = format!("# == {word} ==");
            let lines = text.lines().skip_while(|line| *line != head).skip(1);
            let lines: Vec<String> = lines.take_while(|line| !line.starts_with("# ==")).map(str::to_owned).collect();
            assert!(!lines.is_empty(), "{path}: no section {word}");
            lines
        };
        Self { name: name.to_owned(), good: section("good"), bad: section("bad") }
    }

    /// Whether it is a proxy, which counts of two Services, `good` and `bad`, what reached them in old pods and in new ones.
    fn is_proxied(&self) -> bool {
        self.good.iter().any(|line| line.contains("SERVICE"))
    }

    /// What a scrape of a proxy gets: new pods serve everything from `before` on.
    fn of_proxy(&self, pod: &str, seconds: f64, before: f64) -> String {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (service, section) in [("good", &self.good), ("bad", &self.bad)] {
            let parts = [(&self.good, seconds.min(before)), (section, (seconds - before).max(0.0))];
            for (line, seconds) in parts.iter().flat_map(|(lines, seconds)| lines.iter().map(|line| (line, *seconds))) {
                let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
                let series = series.replace("SERVICE", service).replace("SPACE", &self.name).replace("POD", pod);
                let series = series.replace("namespace=\"shop\"", &format!("namespace=\"{}\"", self.name));
                *sums.entry(series).or_default() += value.parse::<f64>().unwrap() * seconds;
            }
        }
        let mut text = String::new();
        for (series, value) in sums {
            let _ = writeln!(text, "{series} {}", value.floor());
        }
        text
    }

    /// What a scrape of a pod gets after so many seconds.
    fn exposition(&self, pod: &str, seconds: f64) -> String {
        let section = if pod.contains("bad") { &self.bad } else { &self.good };
        let mut gauge = false;
        let mut text = String::new();
        for line in section {
            if line.starts_with("# TYPE ") {
                gauge = line.ends_with(" gauge");
            }
            match line.rsplit_once(' ').filter(|_| !line.starts_with('#')) {
                None => text.push_str(line),
                Some((series, value)) => {
                    let value: f64 = value.parse().unwrap();
                    let sum = series.split('{').next().is_some_and(|name| name.ends_with("_sum"));
                    let value = match () {
                        () if gauge => value,
                        () if sum => value * seconds,
                        () => (value * seconds).floor(),
                    };
                    let series = series.replace("pod=\"POD\"", &format!("pod=\"{pod}\""));
                    let series = series.replace("namespace=\"shop\"", &format!("namespace=\"{}\"", self.name));
                    let _ = write!(text, "{series} {value}");
                }
            }
            text.push('\n');
        }
        text
    }
}

/// All of them on one port.
pub struct Exporter {
    address: SocketAddr,
    fixtures: Arc<Vec<Fixture>>,
    began: Arc<OnceLock<Instant>>,
}

impl Exporter {
    /// Nobody answers before the story begins, and new revisions `before` later.
    pub fn start(fixtures: Vec<Fixture>, before: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fixtures = Arc::new(fixtures);
        let began: Arc<OnceLock<Instant>> = Arc::default();
        let (started, shared) = (began.clone(), fixtures.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (fixtures, started) = (shared.clone(), started.clone());
                thread::spawn(move || answer(&stream, &fixtures, started.get().copied(), before));
            }
        });
        Self { address, fixtures, began }
    }

    /// The story begins.
    pub fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    /// The address, and namespace and pod of every target.
    pub fn targets(&self) -> (SocketAddr, Vec<(String, String)>) {
        let pods = ["old", "good", "bad"]
            .into_iter()
            .flat_map(|revision| [1, 2].map(|number| format!("api-{revision}-{number}")));
        let pods: Vec<String> = pods.collect();
        let all = self.fixtures.iter().flat_map(|fixture| pods.iter().map(|pod| (fixture.name.clone(), pod.clone())));
        (self.address, all.collect())
    }

    /// Finite boundaries of the first histogram in a fixture, in milliseconds.
    pub fn boundaries(&self, name: &str) -> Vec<f64> {
        let fixture = self.fixtures.iter().find(|fixture| fixture.name == name).unwrap();
        let buckets = || fixture.good.iter().filter(|line| line.contains("_bucket{"));
        let metric = |line: &str| line.split('{').next().unwrap().to_owned();
        let first = buckets().next().map(|line| metric(line)).unwrap();
        let seconds = first.contains("seconds") && !first.contains("milliseconds");
        let mut bounds: Vec<f64> = buckets()
            .filter(|line| metric(line) == first)
            .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next()?.parse::<f64>().ok())
            .filter(|bound| bound.is_finite())
            .map(|bound| if seconds { bound * 1000.0 } else { bound })
            .collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }
}

fn answer(stream: &TcpStream, fixtures: &[Fixture], started: Option<Instant>, before: Duration) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default();
    lines.find(String::is_empty);
    let mut parts = path.trim_start_matches('/').split('/');
    let (name, pod) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let fixture = fixtures.iter().find(|fixture| fixture.name == name);
    let since = if pod.contains("old") { Duration::ZERO } else { before };
    let fixture = fixture.filter(|fixture| !fixture.is_proxied() || pod.contains("old"));
    let (code, body) = match (fixture, started.and_then(|started| started.elapsed().checked_sub(since))) {
        (Some(fixture), Some(age)) if fixture.is_proxied() => {
            (200, fixture.of_proxy(pod, age.as_secs_f64(), before.as_secs_f64()))
        }
        (Some(fixture), Some(age)) => (200, fixture.exposition(pod, age.as_secs_f64())),
        (Some(_), None) => (503, String::new()),
        (None, _) => (404, String::new()),
    };
    let head = format!("HTTP/1.1 {code} x\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n");
    let _ = write!(&*stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
}
