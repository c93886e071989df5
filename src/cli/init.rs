//! `deployment-guard init KIND/NAME`: a guard for a workload as it is, with what speaks for each line.
//!
//! Role: look at workload, pods and series, and print a manifest that can be applied. Inputs: the cluster, a Prometheus.
//! Outputs: YAML; 0 if printed, 2 if asked wrongly, 4 without an API server or Prometheus. Must never import: `console`.

use std::fmt::Write;
use std::process::ExitCode;

use super::explain::plain;
use super::guards;
use super::sight::{self, Sight, Trouble};
use crate::api::GuardClass;
use crate::domain::assess::{Measured, MetricReadings};
use crate::domain::evidence::scrape_interval;
use crate::domain::policy::{Interval, Kind, Target};
use crate::domain::rollout::{PodName, Strategy};
use crate::domain::signal::{Demands, Preset, Signal, SignalName, Source};
use crate::observe::prometheus::{PrometheusSource, Wanted};

/// Below this, old and new pods do not serve side by side for long enough to be compared.
const SIDE_BY_SIDE: u32 = 60;

/// Look at a workload and its metrics, and print a guard that fits, with comments that say why.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The workload as KIND/NAME, such as deployment/api, statefulset/db or daemonset/agent.
    workload: String,
    /// Its namespace; that of the kubeconfig if none is named.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one if none is named.
    #[arg(long)]
    context: Option<String>,
    /// Ask this Prometheus instead of the default class's, without the class's credentials.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// The operator's namespace, where the class's Secrets are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "deployment-guard")]
    operator_namespace: String,
}

/// Looks and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(write(arguments)) {
        Ok(text) => {
            super::terminal::write(&text)?;
            ExitCode::SUCCESS
        }
        Err(trouble) => trouble.told(),
    })
}

async fn write(arguments: &Arguments) -> Result<String, Trouble> {
    let target = target(&arguments.workload).map_err(Trouble::Usage)?;
    let (client, namespace) = sight::connect(arguments.namespace.as_deref(), arguments.context.as_deref()).await?;
    let sight = Sight::of(&client, &namespace, &target).await?;
    let class = match sight::class(&client, None).await {
        Ok(class) => class,
        // Whoever may not read classes may still write a guard.
        Err(Trouble::Usage(_)) if arguments.prometheus.is_some() => None,
        Err(trouble) => return Err(trouble),
    };
    let url = arguments.prometheus.as_deref();
    let source = sight::source(&client, class.as_ref(), url, &arguments.operator_namespace).await?;
    let seen = Seen::look(&source, &sight).await;
    Ok(manifest(&namespace, &target, class.as_ref(), &sight, &seen))
}

/// Reads KIND/NAME as kubectl writes it.
fn target(text: &str) -> Result<Target, String> {
    let (kind, name) = text.split_once('/').unwrap_or(("deployment", text));
    let kind = match kind.to_ascii_lowercase().split('.').next().unwrap_or_default() {
        "deployment" | "deployments" | "deploy" => Kind::Deployment,
        "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
        "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
        _ => return Err(format!("{kind} cannot be guarded; name a deployment, a statefulset or a daemonset")),
    };
    if guards::not_a_name(name).is_some() {
        return Err(format!("{text} names no workload; write for example deployment/api"));
    }
    Ok(Target { kind, name: name.to_owned() })
}

/// What Prometheus has of the pods.
struct Seen {
    resolved: Vec<Wanted>,
    readings: MetricReadings,
}

impl Seen {
    async fn look(source: &PrometheusSource, sight: &Sight) -> Self {
        // One signal a preset, called like it.
        let of_pods = Preset::ALL.iter().filter(|preset| !preset.is_proxied());
        let signals = of_pods.filter_map(|preset| {
            let name = SignalName::parse(preset.as_str()).ok()?;
            Some(Signal { name, source: Source::Preset(*preset), demands: Demands::default() })
        });
        let request = sight.request(signals.collect());
        let resolved = source.resolve(&request).await;
        Self { resolved, readings: source.read(request).await }
    }

    fn reading(&self, preset: Preset, part: &str) -> Option<&Measured> {
        let name = format!("{preset}/{part}");
        self.readings.signals.iter().find(|signal| signal.name == name)?.reading.value()
    }

    /// What a part of a preset asks, as text.
    fn key(&self, preset: Preset, part: &str) -> Option<String> {
        let name = format!("{preset}/{part}");
        let wanted = self.resolved.iter().find(|wanted| wanted.name == name)?;
        Some(wanted.measure.value()?.key())
    }

    /// Presets that count requests of these pods, in the order of Auto; of those that ask the same, the first.
    fn counting(&self) -> Vec<Preset> {
        let mut known: Vec<String> = Vec::new();
        let mut counting = Vec::new();
        for preset in Preset::SERVED {
            let key = self.key(*preset, "errors").filter(|_| self.reading(*preset, "errors").is_some());
            if let Some(key) = key.filter(|key| !known.contains(key)) {
                known.push(key);
                counting.push(*preset);
            }
        }
        counting
    }

    /// A value over all pods, as a clause.
    fn value(&self, sight: &Sight, preset: Preset, part: &str) -> Option<String> {
        let pods = sight.pods.iter().map(|pod| pod.pod.clone()).collect::<std::collections::BTreeSet<PodName>>();
        sight::value(part, self.reading(preset, part)?, &pods, &sight.lives())
    }

    fn scrape(&self) -> Option<std::time::Duration> {
        let counters = self.readings.signals.iter().filter_map(|signal| match signal.reading.value()? {
            Measured::Ratio(found) | Measured::Histogram(found) => scrape_interval(found),
            Measured::Gauge(_) => None,
        });
        counters.min()
    }
}

fn manifest(namespace: &str, target: &Target, class: Option<&GuardClass>, sight: &Sight, seen: &Seen) -> String {
    let kind = target.kind.name();
    let mut text =
        format!("# A guard for {kind} {} in {namespace}, written by `deployment-guard init`.\n", target.name);
    let (name, namespace) = (scalar(&target.name), scalar(namespace));
    match class.and_then(|class| class.metadata.name.as_deref()) {
        Some(class) => comment(&mut text, 0, &format!("It takes the default class, {class}.")),
        None => comment(
            &mut text,
            0,
            "No default GuardClass was seen; the guard needs one, or a className. See docs/class.md.",
        ),
    }
    let _ = write!(
        text,
        "apiVersion: deploymentguard.dev/v1alpha1\nkind: DeploymentGuard\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         spec:\n  targetRef: {{apiVersion: apps/v1, kind: {kind}, name: {name}}}\n"
    );
    comment(
        &mut text,
        2,
        "Observe judges and records, and touches nothing. When you trust what it says: Approve, which asks a person, or \
         Enforce, which undoes bad rollouts.",
    );
    text.push_str("  mode: Observe\n");
    signals(&mut text, target, sight, seen);
    analysis(&mut text, target, sight, seen);
    if let Some(applier) = &sight.workload.applier {
        let say = format!(
            "{applier} applies this workload and would apply a bad release again: undos are recommended only, until you choose."
        );
        comment(&mut text, 2, &say);
        text.push_str("  rollback: {gitOps: Recommend}\n");
    }
    text
}

fn signals(text: &mut String, target: &Target, sight: &Sight, seen: &Seen) {
    if target.kind == Kind::StatefulSet {
        comment(
            text,
            2,
            "Pods of both revisions of a StatefulSet have the same names, so that metrics cannot tell them apart: states of \
             pods, logs and probes are what is judged.",
        );
        return;
    }
    let counting = seen.counting();
    let Some(first) = counting.first().copied() else {
        let say = format!(
            "Nothing that a preset knows counts the requests of these pods (there are {}). Until something does, states of \
             pods are what is judged. If your series have other names, list a ratio: docs/guard.md, Signals. If only an ingress \
             controller counts them, name the Service: docs/presets.md, Ingress controllers.",
            sight.pods.len()
        );
        comment(text, 2, &say);
        return;
    };
    text.push_str("  signals:\n");
    served(text, sight, seen, first, first.known().signal);
    for other in counting.iter().copied().skip(1) {
        if other == Preset::Grpc {
            served(text, sight, seen, other, other.known().signal);
        } else {
            let say =
                format!("{other} is there too. It sees the same requests, so counting them again proves no more.");
            comment(text, 4, &say);
        }
    }
    containers(text, sight, seen);
}

/// One preset that counts requests.
fn served(text: &mut String, sight: &Sight, seen: &Seen, preset: Preset, name: &str) {
    let errors = seen.value(sight, preset, "errors");
    let errors = errors.map_or_else(
        || "no requests in the last 5 minutes".to_owned(),
        |value| format!("failed in the last 5 minutes: {value}"),
    );
    let latency = match (seen.value(sight, preset, "latency"), seen.key(preset, "latency")) {
        (Some(value), _) => value,
        (None, Some(_)) => "no response times yet".to_owned(),
        (None, None) => "it has no histogram of response times, so only errors are compared".to_owned(),
    };
    comment(text, 4, &format!("{preset}: {errors}; {latency}."));
    let _ = writeln!(text, "    - {{name: {name}, preset: {preset}}}");
}

fn containers(text: &mut String, sight: &Sight, seen: &Seen) {
    let limited = sight.pods.iter().flat_map(|pod| &pod.containers).any(|container| container.memory_limit.is_some());
    match seen.value(sight, Preset::ContainerMemory, "memory") {
        Some(value) => {
            comment(text, 4, &format!("Memory of the containers: {value} now. Judged by how it grows."));
            text.push_str("    - {name: container, preset: container-memory}\n");
        }
        None if !limited => {
            comment(text, 4, "container-memory is left out: no container has a memory limit.");
        }
        None => comment(text, 4, "container-memory is left out: Prometheus has no series of cAdvisor for these pods."),
    }
    if let Some(value) = seen.value(sight, Preset::ContainerCpuThrottling, "throttling") {
        comment(text, 4, &format!("Throttled periods: {value}. Shown only, because it harms nobody by itself."));
        text.push_str("    - {name: cpu, preset: container-cpu-throttling}\n");
    }
}

fn analysis(text: &mut String, target: &Target, sight: &Sight, seen: &Seen) {
    let workload = &sight.workload;
    if let Some(scrape) = seen.scrape().filter(|scrape| *scrape > Interval::AUTO_RANGE.1) {
        let seconds = scrape.as_secs().max(1);
        comment(text, 2, &format!("Prometheus scrapes every {seconds} s, which is less often than Auto looks."));
        let _ = writeln!(text, "  analysis: {{interval: {seconds}s}}");
    }
    if workload.strategy == Strategy::Recreate || workload.replicas <= 1 {
        comment(
            text,
            2,
            "Old and new pods hardly ever serve at the same time here, so the new ones are compared with the past alone.",
        );
    } else if target.kind == Kind::Deployment && workload.min_ready_seconds < SIDE_BY_SIDE {
        let say = format!(
            "Set minReadySeconds: {SIDE_BY_SIDE} on the {} itself, so that old and new pods serve side by side for long \
             enough to be compared.",
            target.kind.name()
        );
        comment(text, 2, &say);
    }
}

/// A name as YAML: names may look like numbers and truth values.
fn scalar(name: &str) -> String {
    match serde_saphyr::from_str::<serde_json::Value>(name) {
        Ok(serde_json::Value::String(read)) if read == name && !LIKE_TRUTH.contains(&name) => name.to_owned(),
        _ => format!("\"{name}\""),
    }
}

/// Words that older readers of YAML take for truth values.
const LIKE_TRUTH: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];

/// A comment in lines of limited width.
fn comment(text: &mut String, indent: usize, say: &str) {
    let pad = " ".repeat(indent);
    for line in plain::wrapped(&plain::line(say), 0).lines() {
        let _ = writeln!(text, "{pad}# {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_named_as_kubectl_names_them() {
        for (text, kind, name) in [
            ("api", Kind::Deployment, "api"),
            ("deploy/api", Kind::Deployment, "api"),
            ("Deployment/api", Kind::Deployment, "api"),
            ("deployments.apps/api", Kind::Deployment, "api"),
            ("sts/db", Kind::StatefulSet, "db"),
            ("daemonset/agent", Kind::DaemonSet, "agent"),
        ] {
            assert_eq!(target(text), Ok(Target { kind, name: name.to_owned() }), "{text}");
        }
        for text in ["job/a", "deployment/", "/a"] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_look_like_something_else_are_quoted() {
        for (name, written) in
            [("api", "api"), ("123", "\"123\""), ("true", "\"true\""), ("no", "\"no\""), ("1e3", "\"1e3\"")]
        {
            assert_eq!(scalar(name), written);
        }
    }

    #[test]
    fn comments_stay_comments_whatever_they_say() {
        let mut text = String::new();
        comment(&mut text, 4, "one\ntwo: \u{1b}[2J three");
        assert!(text.lines().all(|line| line.starts_with("    # ")), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
