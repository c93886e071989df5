//! `deployment-guard promql GUARD`: what a guard asks Prometheus, and what it gets.
//!
//! Role: print each query as the operator sends it, with the value of each revision, and what is missing. Inputs: the
//! cluster, its Prometheus. Outputs: text; 0 if requests are counted, 2 for a guard that cannot be used, 3 if nothing
//! counts its requests, 4 without an API server or Prometheus. Must never import: `console`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

use super::explain::plain;
use super::sight::{self, Sight, Trouble};
use crate::api::parse;
use crate::domain::assess::{Measured, MetricReadings, MissingReason, Reading};
use crate::domain::judge::Kind as SignalKind;
use crate::domain::policy::{Kind, Policy};
use crate::domain::rollout::PodName;
use crate::domain::signal::Query;
use crate::observe::prometheus::Wanted;

const INCONCLUSIVE: u8 = 3;

/// Print what a guard asks Prometheus, with values as they are now.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    /// Namespace of the guard; that of the kubeconfig if none is named.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one if none is named.
    #[arg(long)]
    context: Option<String>,
    /// Ask this Prometheus instead of the class's, without the class's credentials.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// The operator's namespace, where the class's Secrets are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "deployment-guard")]
    operator_namespace: String,
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(show(arguments)) {
        Ok((text, counted)) => {
            super::terminal::write(&text)?;
            if counted { ExitCode::SUCCESS } else { ExitCode::from(INCONCLUSIVE) }
        }
        Err(trouble) => trouble.told(),
    })
}

async fn show(arguments: &Arguments) -> Result<(String, bool), Trouble> {
    let (client, namespace) = sight::connect(arguments.namespace.as_deref(), arguments.context.as_deref()).await?;
    let guard = sight::guard(&client, &namespace, &arguments.guard).await?;
    let class = sight::class(&client, guard.spec.class_name.as_deref()).await?;
    let class = class.ok_or_else(|| {
        let text = "spec.className is empty and no GuardClass is the default; make one, or name one in the guard";
        Trouble::Usage(text.to_owned())
    })?;
    let policy = parse::policy(&guard.spec, &class.spec).map_err(|error| Trouble::Usage(error.to_string()))?;
    let sight = Sight::of(&client, &namespace, &policy.target).await?;
    let url = arguments.prometheus.as_deref();
    let source = sight::source(&client, Some(&class), url, &arguments.operator_namespace).await?;
    let request = sight.request(policy.signals.clone());
    let wanted = source.resolve(&request).await;
    let readings = source.read(request).await;
    let mut text = head(arguments, &namespace, &policy, &sight, url.unwrap_or(&class.spec.prometheus.url));
    for (wanted, name) in wanted.iter().map(|wanted| (wanted, &wanted.name)) {
        let _ = write!(text, "\n{name}\n{}", signal(wanted, &readings, &sight));
    }
    Ok((text, counts(&policy, &readings)))
}

fn head(arguments: &Arguments, namespace: &str, policy: &Policy, sight: &Sight, url: &str) -> String {
    let target = format!("{} {}", policy.target.kind.name(), policy.target.name);
    let mut text = format!("{} in {namespace}: {target}, asking {}\n", arguments.guard, plain::line(url));
    let present = sight.workload.current.as_ref();
    for revision in sight.revisions() {
        let pods = sight.names(&revision).len();
        let which = if Some(&revision) == present { "the present revision" } else { "an older revision" };
        let _ = writeln!(text, "  {revision}  {which}, pods: {pods}");
    }
    if sight.pods.is_empty() {
        text.push_str("  it has no pods now, so nothing can be asked\n");
    }
    if policy.target.kind == Kind::StatefulSet {
        let _ = writeln!(text, "  metrics are not judged: {}", MissingReason::SharedNames);
    }
    text
}

fn signal(wanted: &Wanted, readings: &MetricReadings, sight: &Sight) -> String {
    let mut text = String::new();
    let mut line = |what: &str, say: &str| {
        let _ = writeln!(text, "  {what:<12} {}", plain::line(say));
    };
    if !wanted.origin.is_empty() {
        line("from", &wanted.origin);
    }
    let measure = match &wanted.measure {
        Reading::Value(measure) => measure,
        other => {
            line("missing", &other.sentence());
            return text;
        }
    };
    let pods: Vec<PodName> = sight.pods.iter().map(|pod| pod.pod.clone()).collect();
    line("query", Query::new(measure, &pods).as_str());
    let lives = sight.lives();
    let proxied = measure.is_proxied();
    let found = readings.signals.iter().find(|signal| signal.name == wanted.name).map(|signal| &signal.reading);
    if proxied {
        line("all pods", &of_proxies(&wanted.name, found));
        return text;
    }
    for revision in sight.revisions() {
        let value = match found {
            Some(Reading::Value(found)) => sight::value(&wanted.name, found, &sight.names(&revision), &lives)
                .unwrap_or_else(|| "nothing in the last 5 minutes".to_owned()),
            Some(other) => format!("missing: {}", other.sentence()),
            None => "missing".to_owned(),
        };
        line(revision.as_str(), &value);
    }
    text
}

/// What proxies counted, for all revisions together.
fn of_proxies(name: &str, found: Option<&Reading<Measured>>) -> String {
    match found {
        Some(Reading::Value(found)) => {
            let proxies: BTreeSet<PodName> = match found {
                Measured::Ratio(counters) | Measured::Histogram(counters) => counters.pods.keys().cloned().collect(),
                Measured::Gauge(_) => BTreeSet::new(),
            };
            sight::value(name, found, &proxies, &[]).unwrap_or_else(|| "nothing in the last 5 minutes".to_owned())
        }
        Some(other) => format!("missing: {}", other.sentence()),
        None => "missing".to_owned(),
    }
}

/// Whether something that may decide counts events of the pods.
fn counts(policy: &Policy, readings: &MetricReadings) -> bool {
    let settings = policy.settings();
    let deciding = settings.signals.iter().filter(|signal| !signal.dry_run && signal.weight > 0);
    deciding
        .filter(|signal| signal.kind == SignalKind::Ratio)
        .any(|signal| readings.signals.iter().any(|read| read.name == signal.name && read.reading.value().is_some()))
}
