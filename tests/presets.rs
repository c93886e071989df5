//! Each preset against what its exporter writes, through the real Prometheus, read and judged by the operator's own code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(clippy::cast_precision_loss, reason = "counts of seconds")]

#[path = "presets/commands.rs"]
mod commands;
#[path = "presets/exporter.rs"]
mod exporter;
#[path = "presets/prometheus.rs"]
mod prometheus;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use deployment_guard::api::class::GuardClassSpec;
use deployment_guard::api::guard::DeploymentGuardSpec;
use deployment_guard::api::parse;
use deployment_guard::controller::past;
use deployment_guard::domain::assess::{
    self, AssessInput, AssessState, Assessment, Measured, MetricReadings, RolloutView, SignalVerdict, Standing,
};
use deployment_guard::domain::evidence::{Counters, MemoryLimit, PodLife};
use deployment_guard::domain::judge::Overlap;
use deployment_guard::domain::policy::Policy;
use deployment_guard::domain::rollout::{PodName, Side};
use deployment_guard::domain::signal::{Durations, Preset, Shape, Unit};
use deployment_guard::observe::prometheus::{PrometheusSource, QueryObserver, ReadRequest, SourceConfig};
use jiff::Timestamp;
use serde_json::json;

use exporter::{Exporter, Fixture};
use prometheus::Prometheus;

/// How long the old revision is watched alone, and then beside the others. What a proxy counts needs 20 steps of history,
/// also where a busy machine scrapes every other second.
const BEFORE: Duration = Duration::from_secs(45);
const ROLLOUT: Duration = Duration::from_secs(14);

/// Every fixture and the preset that reads it.
const FIXTURES: &[(&str, Preset)] = &[
    ("micrometer", Preset::Micrometer),
    ("otel", Preset::Otel),
    ("otel-older", Preset::Otel),
    ("otel-rpc", Preset::Otel),
    ("otel-rpc-older", Preset::Otel),
    ("aspnet", Preset::AspNet),
    ("python-starlette", Preset::Python),
    ("python-flask", Preset::Python),
    ("python-django", Preset::Python),
    ("python-fastapi", Preset::Python),
    ("go", Preset::Go),
    ("node", Preset::Node),
    ("http-generic", Preset::HttpGeneric),
    ("grpc", Preset::Grpc),
    ("istio", Preset::Istio),
    ("linkerd", Preset::Linkerd),
    ("envoy", Preset::Envoy),
    ("nginx-ingress", Preset::NginxIngress),
    ("nginx-ingress-renamed", Preset::NginxIngress),
    ("traefik", Preset::Traefik),
    ("container-memory", Preset::ContainerMemory),
    ("container-cpu-throttling", Preset::ContainerCpuThrottling),
];

struct Silent;

impl QueryObserver for Silent {
    fn queried(&self, _: &'static str, _: Duration) {}
}

/// The times of the story.
#[derive(Clone, Copy)]
struct Times {
    start: Timestamp,
    rollout: Timestamp,
    now: Timestamp,
}

#[test]
fn there_is_a_fixture_for_every_preset() {
    for preset in Preset::ALL {
        assert!(FIXTURES.iter().any(|(_, known)| known == preset), "{preset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_preset_is_found_and_read_and_tells_a_bad_revision_from_a_good_one() {
    let fixtures: Vec<Fixture> = FIXTURES.iter().map(|(name, _)| Fixture::load(name)).collect();
    let exporter = Exporter::start(fixtures, BEFORE);
    let prometheus = Prometheus::start(&exporter.targets());
    exporter.begin();
    let start = Timestamp::now();
    let rollout = start.checked_add(BEFORE).unwrap();
    tokio::time::sleep(BEFORE + ROLLOUT).await;
    let times = Times { start, rollout, now: Timestamp::now() };
    let config = SourceConfig { url: prometheus.url(), ..SourceConfig::default() };
    let source = PrometheusSource::new(config, Arc::new(Silent)).unwrap();
    let stories = FIXTURES.iter().map(|(name, preset)| story(&source, &exporter, name, *preset, times));
    let mut wrong = futures::future::join_all(stories).await.concat();
    let url = prometheus.url();
    wrong.extend(tokio::task::spawn_blocking(move || commands::wrong(&url)).await.unwrap());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What went wrong with one fixture.
async fn story(
    source: &PrometheusSource,
    exporter: &Exporter,
    name: &str,
    preset: Preset,
    times: Times,
) -> Vec<String> {
    let (good, bad, auto) = tokio::join!(
        look(source, name, preset, "good", times),
        look(source, name, preset, "bad", times),
        chosen_otherwise(source, name, preset, times),
    );
    let mut wrong: Vec<String> = auto.into_iter().collect();
    if preset.is_proxied() {
        // A Service that no proxy knows.
        let nobody = look(source, name, preset, "nobody", times).await;
        let silent = |view: &assess::SignalView| view.message.contains("no proxy counts requests of a Service");
        let blind = matches!(nobody.assessment.standing, Standing::NotYet { .. } | Standing::Unproven { .. });
        if !blind || !nobody.assessment.signals.iter().all(silent) {
            wrong.push(format!("{name}: no data is not blind: {:?}", nobody.assessment));
        }
        let say = "because the proxy counts per Service";
        if !good.assessment.signals.iter().all(|view| view.message.contains(say)) {
            wrong.push(format!("{name}: it is not said what is compared: {:?}", good.assessment.signals));
        }
    }
    let seen = |seen: &Seen| match preset {
        Preset::ContainerMemory => verdict(seen, "web/memory") == Some(SignalVerdict::Worse),
        _ => seen.assessment.standing == Standing::Harmful,
    };
    if !seen(&bad) {
        wrong.push(format!("{name}: the bad revision was not seen: {:?}", bad.assessment.standing));
    }
    let worse = good
        .assessment
        .signals
        .iter()
        .any(|view| view.name.starts_with("web/") && view.verdict == SignalVerdict::Worse);
    if worse || seen(&good) {
        wrong.push(format!("{name}: the good revision was taken for bad: {}", good.assessment.reasoning));
    }
    for (seen, revision) in [(&good, "good"), (&bad, "bad")] {
        wrong.extend(misread(name, preset, revision, (&seen.readings, times.rollout), exporter));
    }
    wrong
}

struct Seen {
    readings: MetricReadings,
    assessment: Assessment,
}

fn verdict(seen: &Seen, name: &str) -> Option<SignalVerdict> {
    seen.assessment.signals.iter().find(|view| view.name == name).map(|view| view.verdict)
}

fn policy(preset: Preset, service: &str) -> Policy {
    // Throttling is shown only unless somebody gives it a weight.
    let mut signals = vec![json!({"name": "web", "preset": preset.as_str(), "weight": 2})];
    if preset.is_proxied() {
        signals[0]["service"] = json!(service);
    }
    let mut scorer = "Evidence";
    if preset == Preset::ContainerMemory {
        // Evidence compares how memory grows over many minutes; the formula takes it as it stands, beside requests.
        scorer = "Seed";
        let periods = |what: &str| format!("container_cpu_cfs_{what}_total");
        signals.push(
            json!({"name": "errors", "ratio": {"bad": periods("throttled_periods"), "total": periods("periods")}}),
        );
    }
    let spec: DeploymentGuardSpec = serde_json::from_value(json!({
        "targetRef": {"name": "api"}, "signals": signals,
        "analysis": {"interval": "1s", "warmup": "0s", "window": "2m", "scorer": scorer},
    }))
    .unwrap();
    let class: GuardClassSpec = serde_json::from_value(json!({"prometheus": {"url": "http://x"}})).unwrap();
    parse::policy(&spec, &class).unwrap()
}

fn lives(namespace: &str, revision: &str, times: Times) -> Vec<PodLife> {
    let pods = |revision: &str, side: Side, since: Timestamp| {
        [1, 2].map(|number| PodLife {
            pod: PodName::new(namespace, &format!("api-{revision}-{number}")),
            side: Some(side),
            created: since,
            grown_from: Some(since),
            container_starts: Vec::new(),
            gone: None,
            containers: vec![MemoryLimit { name: "app".into(), memory_limit: Some(256 << 20) }],
        })
    };
    let old = pods("old", Side::Old, times.start);
    old.into_iter().chain(pods(revision, Side::New, times.rollout)).collect()
}

/// What the operator sees and thinks at the end.
async fn look(source: &PrometheusSource, name: &str, preset: Preset, revision: &str, times: Times) -> Seen {
    let policy = policy(preset, revision);
    let lives = lives(name, revision, times);
    let old: Vec<PodLife> = lives.iter().filter(|life| life.side == Some(Side::Old)).cloned().collect();
    let past = past::read(source, &policy, &old, (times.rollout, times.now)).await.unwrap();
    let readings = source.read(request(&policy, &lives, times)).await;
    let settings = policy.settings();
    let view = RolloutView {
        settings: &settings,
        history: Some(&past.history),
        overlap: Overlap::For(Duration::from_secs(600)),
        step: Duration::from_secs(1),
        settled: true,
        controls: &[],
        scraped: None,
    };
    let input = AssessInput { now: times.now, lives: &lives, readings: &readings, rollout: Some(view) };
    let scorer = policy.analysis.scorer;
    let state = AssessState::new(scorer, times.rollout);
    let assessment = assess::assess(scorer, &state, &input, &policy.analysis);
    Seen { readings, assessment }
}

fn request(policy: &Policy, lives: &[PodLife], times: Times) -> ReadRequest {
    ReadRequest {
        signals: policy.signals.clone(),
        lives: lives.to_vec(),
        since: times.rollout,
        until: times.now,
        interval: policy.analysis.interval,
    }
}

/// What was not read as the fixture has it.
fn misread(
    name: &str,
    preset: Preset,
    revision: &str,
    (readings, rollout): (&MetricReadings, Timestamp),
    exporter: &Exporter,
) -> Vec<String> {
    let per_second = |found: &Counters| {
        // A proxy goes on counting; a pod of the new revision began with the rollout.
        let (whose, since) = if preset.is_proxied() { ("", rollout) } else { (revision, Timestamp::UNIX_EPOCH) };
        per_second(found, whose, since)
    };
    let mut wrong = Vec::new();
    for signal in readings.signals.iter().filter(|signal| signal.name.starts_with("web/")) {
        let place = format!("{name}, {revision}, {}", signal.name);
        let origin = signal.origin.split(' ').next().unwrap_or_default();
        if origin != preset.as_str() || signal.query.is_empty() {
            wrong.push(format!("{place}: comes from {:?} by {:?}", signal.origin, signal.query));
        }
        match signal.reading.value() {
            None => wrong.push(format!("{place}: {}", signal.reading.sentence())),
            Some(Measured::Ratio(found)) => {
                let throttled = matches!(preset.known().shape, Shape::Throttling(..));
                let (rate, share) = match (throttled, revision) {
                    (false, "bad") => (200.0, 0.25),
                    (false, _) => (200.0, 0.015),
                    (true, "bad") => (10.0, 0.8),
                    (true, _) => (10.0, 0.05),
                };
                let (total, bad) = per_second(found);
                if (total / rate - 1.0).abs() > 0.1 || (bad / total - share).abs() > 0.02 {
                    wrong.push(format!("{place}: {total} requests and {bad} bad ones a second"));
                }
            }
            Some(Measured::Histogram(found)) => {
                let (total, _) = per_second(found);
                if (total / 200.0 - 1.0).abs() > 0.1 {
                    wrong.push(format!("{place}: {total} requests a second"));
                }
                let bounds = exporter.boundaries(name);
                let written = |found: f64| bounds.iter().any(|bound| (bound - found).abs() < bound.abs() * 1e-9 + 1e-9);
                if found.bounds.len() != bounds.len() || !found.bounds.iter().copied().all(written) {
                    wrong.push(format!("{place}: boundaries {:?}, written {bounds:?}", found.bounds));
                }
            }
            Some(Measured::Gauge(points)) => {
                let pods = points.iter().filter(|point| point.pod.name.contains(revision)).count();
                if pods == 0 || points.iter().any(|point| point.container.as_deref() != Some("app")) {
                    wrong.push(format!("{place}: {} values, {pods} of this revision", points.len()));
                }
            }
        }
    }
    wrong
}

/// All events and the first part of them, a second and pod of a revision.
fn per_second(found: &Counters, revision: &str, since: Timestamp) -> (f64, f64) {
    let (mut total, mut part, mut seconds) = (0.0, 0.0, 0.0);
    for (_, counters) in found.pods.iter().filter(|(pod, _)| pod.name.contains(revision)) {
        let begin = counters.times.partition_point(|(_, sampled)| *sampled < since);
        let (first, last) = (counters.times.get(begin).unwrap(), counters.times.last().unwrap());
        let rows: Vec<&[u64]> = counters.values.chunks(found.width).skip(begin).collect();
        let (from, to) = (rows.first().unwrap(), rows.last().unwrap());
        total += (to[0] - from[0]) as f64;
        part += (to[1] - from[1]) as f64;
        seconds += last.1.duration_since(first.1).as_secs_f64();
    }
    (total / seconds, part / seconds)
}

/// Auto has to find the same preset by itself.
async fn chosen_otherwise(source: &PrometheusSource, name: &str, preset: Preset, times: Times) -> Option<String> {
    if !preset.counts_requests() {
        return None;
    }
    let readings = source.read(request(&policy(Preset::Auto, ""), &lives(name, "good", times), times)).await;
    let origins: Vec<&str> = readings.signals.iter().map(|signal| signal.origin.as_str()).collect();
    let expected = format!("{preset}: Auto found ");
    // Nobody told it the name of a Service.
    let unnamed = preset.is_proxied();
    let wrong = origins.iter().any(|origin| if unnamed { !origin.is_empty() } else { !origin.starts_with(&expected) });
    wrong.then(|| format!("{name}: Auto chose {origins:?}"))
}

/// The table of docs/presets.md as the code has it.
fn table() -> String {
    let code = |words: &mut dyn Iterator<Item = &str>| {
        let words: Vec<String> = words.map(|word| format!("`{}`", word.replace('|', "\\|"))).collect();
        words.join(", ")
    };
    let once = |words: Vec<&'static str>| {
        let mut seen: Vec<&str> = Vec::new();
        for word in words {
            if !seen.contains(&word) {
                seen.push(word);
            }
        }
        seen
    };
    let mut text = "| preset | counts | failed | times | source |\n|---|---|---|---|---|\n".to_owned();
    for preset in Preset::ALL {
        let known = preset.known();
        let (counts, failed, times) = match known.shape {
            Shape::Served(requests, durations) | Shape::Proxied(requests, durations) => {
                let labels: Vec<&str> = once(requests.iter().flat_map(|one| one.outcome.iter().copied()).collect());
                let bad = once(requests.iter().map(|one| one.bad).collect());
                let unit = |one: &Durations| match one.unit {
                    Unit::Seconds => "s",
                    Unit::Milliseconds => "ms",
                };
                let times = durations.iter().map(|one| format!("`{}` ({})", one.histogram, unit(one)));
                let failed = format!("{} in {}", code(&mut bad.into_iter()), code(&mut labels.into_iter()));
                (code(&mut requests.iter().map(|one| one.counter)), failed, times.collect::<Vec<_>>().join(", "))
            }
            Shape::Memory(name) => (code(&mut std::iter::once(name)), "the limit".to_owned(), "–".to_owned()),
            Shape::Throttling(bad, total) => {
                (code(&mut std::iter::once(total)), code(&mut std::iter::once(bad)), "–".to_owned())
            }
            Shape::First(_) => continue,
        };
        let sources: Vec<String> =
            known.sources.iter().enumerate().map(|(index, url)| format!("[{}]({url})", index + 1)).collect();
        let _ = writeln!(text, "| `{preset}` | {counts} | {failed} | {times} | {} |", sources.join(" "));
    }
    text
}

#[test]
fn the_page_of_presets_has_the_table_of_the_code() {
    let page = std::fs::read_to_string(format!("{}/docs/presets.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(page.contains(&table()), "docs/presets.md should have this table:\n\n{}", table());
}

#[test]
fn the_page_of_presets_has_the_order_in_which_auto_looks() {
    let page = std::fs::read_to_string(format!("{}/docs/presets.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let order: Vec<String> = Preset::Auto.candidates().iter().map(|preset| format!("`{preset}`")).collect();
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&order.join(", ")), "{}", order.join(", "));
}
