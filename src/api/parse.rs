//! From a spec to a `Policy`, once.
//!
//! Role: everything CEL cannot see, and everything it can, again, because a CRD may be older than the operator. Inputs:
//! a spec and its class. Outputs: a validated policy or an error that names field and cure. Must never import: a client.

use std::time::Duration;

use super::class::{GuardClassSpec, StormBreaker};
use super::guard::{self, DeploymentGuardSpec, SignalSpec};
use super::{decision, logs, pods, probes, providers};
use crate::domain::judge::{Baseline, OnNoData};
use crate::domain::policy::{
    Analysis, GitOpsPolicy, Interval, Kind, Mode, OnInconclusive, Policy, RollbackPolicy, RollbackTarget, Scorer,
    StormPolicy, StuckPods, Target,
};
use crate::domain::signal::{Demands, Preset, Selector, Signal, SignalName, Source};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Signals with their parts, and controls: more would not fit into the checkpoint that status holds.
const MOST_MEASURED: usize = 8;

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field} {problem}")]
pub struct InvalidSpec {
    /// Path of the field below `spec`.
    pub field: String,
    /// What is wrong and what to do about it.
    pub problem: String,
}

pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> InvalidSpec {
    InvalidSpec { field: field.into(), problem: problem.into() }
}

/// The guarded workload, which is needed before a class is known.
///
/// # Errors
/// If the kind cannot be guarded.
pub fn target(spec: &DeploymentGuardSpec) -> Result<Target, InvalidSpec> {
    let reference = &spec.target_ref;
    let kind = match (reference.api_version.as_str(), reference.kind.as_str()) {
        ("apps/v1", kind) => Kind::ALL.into_iter().find(|known| known.name() == kind),
        _ => None,
    };
    kind.map(|kind| Target { kind, name: reference.name.clone() }).ok_or_else(|| {
        let (version, kind) = (&reference.api_version, &reference.kind);
        let message = format!("is {version} {kind}, but a guard takes an apps/v1 Deployment, StatefulSet or DaemonSet");
        invalid("targetRef.kind", message)
    })
}

/// Parses a guard under its class.
///
/// # Errors
/// If a field has a value that cannot be used; the error names the field and the cure.
pub fn policy(spec: &DeploymentGuardSpec, class: &GuardClassSpec) -> Result<Policy, InvalidSpec> {
    let asked_mode = mode(spec.mode);
    let (analysis, signals) = (analysis(&spec.analysis)?, signals(spec, class)?);
    let measured = signals.iter().map(|signal| signal.full_names().len()).sum::<usize>() + analysis.controls.len();
    if measured > MOST_MEASURED {
        return Err(invalid(
            "signals",
            format!(
                "come to {measured} with what presets stand for and analysis.controls, but there can be {MOST_MEASURED} at \
                 most; leave some out"
            ),
        ));
    }
    if let Some(index) = analysis.controls.iter().position(|control| control.name == spec.target_ref.name) {
        return Err(invalid(
            format!("analysis.controls[{index}].name"),
            "is the guarded workload itself; name another one, which shares what it depends on",
        ));
    }
    let uncompared = signals.iter().position(|signal| signal.is_proxied() && analysis.scorer == Scorer::Seed);
    if let Some(index) = uncompared {
        return Err(invalid(
            format!("signals[{index}].preset"),
            "is counted per Service and compared with the time before the rollout, which analysis.scorer Seed does not do",
        ));
    }
    Ok(Policy {
        target: target(spec)?,
        mode: asked_mode.min(mode(class.max_mode)),
        asked_mode,
        analysis,
        signals,
        pods: pods::policy(&spec.pods)?,
        logs: logs::parse(&spec.logs)?,
        probes: probes::probes(&spec.probes)?,
        rollback: rollback(&spec.rollback)?,
        storm: storm(&class.storm_breaker)?,
        decision: decision::parse(&spec.decision, class)?,
    })
}

/// Everything that is wrong with a class, without asking anybody.
#[must_use]
pub fn class(spec: &GuardClassSpec) -> Vec<InvalidSpec> {
    let prometheus = &spec.prometheus;
    let mut found = Vec::new();
    let url = &prometheus.url;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        found.push(invalid("prometheus.url", format!("is {url:?}; it must start with http:// or https://")));
    }
    if url.contains('@') {
        // What stands there may be a password.
        let problem = "contains credentials; put a token into a Secret and name it in prometheus.bearerTokenSecretRef";
        found.push(invalid("prometheus.url", problem));
    }
    if prometheus.tls.is_some() && !url.starts_with("https://") {
        found.push(invalid("prometheus.tls", "has nothing to do; prometheus.url must start with https://"));
    }
    let (least, most) = (Duration::from_millis(100), Duration::from_mins(2));
    match duration("prometheus.timeout", &prometheus.timeout) {
        Err(error) => found.push(error),
        Ok(timeout) if timeout < least || timeout > most => {
            let problem = format!("is {}; it must lie between 100ms and 2m", prometheus.timeout);
            found.push(invalid("prometheus.timeout", problem));
        }
        Ok(_) => {}
    }
    if let Some(index) = spec.presets.iter().position(|chosen| preset(*chosen).is_proxied()) {
        let problem = "needs the name of a Service, so it can only stand in the signals of a guard";
        found.push(invalid(format!("presets[{index}]"), problem));
    }
    found.extend(storm(&spec.storm_breaker).err());
    found.extend(providers::parse(spec).err());
    found
}

const fn mode(mode: guard::Mode) -> Mode {
    match mode {
        guard::Mode::Observe => Mode::Observe,
        guard::Mode::Recommend => Mode::Recommend,
        guard::Mode::Approve => Mode::Approve,
        guard::Mode::Enforce => Mode::Enforce,
    }
}

fn analysis(spec: &guard::Analysis) -> Result<Analysis, InvalidSpec> {
    let interval = match spec.interval.as_str() {
        "Auto" => Interval::Auto,
        text => Interval::Every(within("analysis.interval", text, Duration::from_secs(1), HOUR)?),
    };
    let warmup = within("analysis.warmup", &spec.warmup, Duration::ZERO, HOUR)?;
    let window = within("analysis.window", &spec.window, Duration::from_secs(2), DAY)?;
    if let Interval::Every(every) = interval
        && window < every * 2
    {
        return Err(invalid("analysis.window", "must be at least twice analysis.interval"));
    }
    if window <= warmup {
        return Err(invalid(
            "analysis.window",
            format!(
                "({}) must be longer than analysis.warmup ({}), or nothing is ever counted",
                spec.window, spec.warmup
            ),
        ));
    }
    Ok(Analysis {
        interval,
        warmup,
        window,
        min_requests: u64::try_from(spec.min_requests)
            .ok()
            .filter(|least| *least > 0)
            .ok_or_else(|| invalid("analysis.minRequests", "must be at least 1"))?,
        on_inconclusive: match spec.on_inconclusive {
            guard::OnInconclusive::Continue => OnInconclusive::Continue,
            guard::OnInconclusive::Hold => OnInconclusive::Hold,
        },
        scorer: match spec.scorer {
            guard::Scorer::Evidence => Scorer::Evidence,
            guard::Scorer::Seed => Scorer::Seed,
        },
        baseline: match spec.baseline {
            guard::Baseline::Auto => Baseline::Auto,
            guard::Baseline::Concurrent => Baseline::Concurrent,
            guard::Baseline::History => Baseline::History,
            guard::Baseline::None => Baseline::None,
        },
        alpha_ppm: percent("analysis.falseRollbackRate", &spec.false_rollback_rate)
            .ok()
            .filter(|ppm| (1..=200_000).contains(ppm))
            .ok_or_else(|| {
                let text = &spec.false_rollback_rate;
                invalid(
                    "analysis.falseRollbackRate",
                    format!("is {text:?}; write a percentage above 0% and up to 20%, such as 1%"),
                )
            })?,
        history_may_enforce: spec.history_may_enforce,
        controls: spec
            .controls
            .iter()
            .map(|control| Target { kind: Kind::Deployment, name: control.name.clone() })
            .collect(),
    })
}

/// Reads a percentage such as `1.5%` as parts per million.
///
/// # Errors
/// If it is none; the error names the field.
pub fn percent(field: &str, text: &str) -> Result<u32, InvalidSpec> {
    let read = || {
        let number = text.strip_suffix('%')?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 4 || !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 100)?;
        let fraction: u32 = format!("{fraction:0<4}").parse().ok()?;
        Some(whole * 10_000 + fraction)
    };
    read()
        .filter(|ppm| *ppm <= 1_000_000)
        .ok_or_else(|| invalid(field, format!("is {text:?}, which is no percentage; write for example 1% or 0.5%")))
}

fn rollback(spec: &guard::Rollback) -> Result<RollbackPolicy, InvalidSpec> {
    let (least, month) = (Duration::ZERO, DAY * 30);
    Ok(RollbackPolicy {
        target: match spec.target {
            guard::RollbackTarget::LastKnownGood => RollbackTarget::LastKnownGood,
            guard::RollbackTarget::Previous => RollbackTarget::Previous,
        },
        max_per_day: u32::try_from(spec.max_per_day)
            .ok()
            .filter(|most| (1..=100).contains(most))
            .ok_or_else(|| invalid("rollback.maxPerDay", "must lie between 1 and 100"))?,
        cooldown: within("rollback.cooldown", &spec.cooldown, least, DAY)?,
        verify_timeout: within("rollback.verifyTimeout", &spec.verify_timeout, Duration::from_secs(30), DAY)?,
        bad_revision_memory: within("rollback.badRevisionMemory", &spec.bad_revision_memory, least, month)?,
        git_ops: match spec.git_ops {
            guard::GitOps::Recommend => GitOpsPolicy::Recommend,
            guard::GitOps::Suspend => GitOpsPolicy::Suspend,
            guard::GitOps::Rollback => GitOpsPolicy::Rollback,
        },
        suspend_for: within("rollback.suspendFor", &spec.suspend_for, Duration::from_secs(10), month)?,
        stuck_pods: stuck_pods(spec.stateful_set.stuck_pods),
        on_delete: stuck_pods(spec.on_delete),
        volumes_without_asking: spec.stateful_set.with_volumes == guard::WithVolumes::Enforce,
        approval_timeout: within("rollback.approval.timeout", &spec.approval.timeout, Duration::from_secs(10), DAY)?,
    })
}

const fn stuck_pods(spec: guard::StuckPods) -> StuckPods {
    match spec {
        guard::StuckPods::Delete => StuckPods::Delete,
        guard::StuckPods::Alert => StuckPods::Alert,
    }
}

fn storm(spec: &StormBreaker) -> Result<StormPolicy, InvalidSpec> {
    Ok(StormPolicy {
        undos: u32::try_from(spec.undos)
            .ok()
            .filter(|most| (1..=100).contains(most))
            .ok_or_else(|| invalid("stormBreaker.undos", "of the class must lie between 1 and 100"))?,
        within: within("stormBreaker.within", &spec.within, Duration::from_mins(1), DAY)?,
    })
}

fn signals(spec: &DeploymentGuardSpec, class: &GuardClassSpec) -> Result<Vec<Signal>, InvalidSpec> {
    if spec.signals.is_empty() {
        return of_class(class);
    }
    let mut parsed: Vec<Signal> = Vec::new();
    for (index, one) in spec.signals.iter().enumerate() {
        let signal = signal(index, one)?;
        if parsed.iter().any(|other| other.name == signal.name) {
            return Err(invalid(format!("signals[{index}].name"), format!("{} stands there twice", one.name)));
        }
        parsed.push(signal);
    }
    Ok(parsed)
}

/// What guards measure that list nothing. Several presets may be called the same; later ones get a number.
fn of_class(class: &GuardClassSpec) -> Result<Vec<Signal>, InvalidSpec> {
    let presets = class.presets.iter().flat_map(|chosen| match preset(*chosen) {
        Preset::Auto => Preset::OF_AUTO.to_vec(),
        one => vec![one],
    });
    let mut signals: Vec<Signal> = Vec::new();
    for one in presets {
        if one.is_proxied() {
            return Err(invalid("signals", format!("{PROXIED_CLASS}: {one}")));
        }
        if signals.iter().any(|known| known.source == Source::Preset(one)) {
            continue;
        }
        let wanted = one.known().signal;
        let same = signals.iter().filter(|known| known.name.as_str().starts_with(wanted)).count();
        let name = if same == 0 { wanted.to_owned() } else { format!("{wanted}-{}", same + 1) };
        let name = SignalName::parse(&name).map_err(|problem| invalid("signals", problem))?;
        // Nobody listed these, so what a workload does not have stands in nobody's way.
        let demands = Demands { on_no_data: OnNoData::Pass, ..Demands::default() };
        signals.push(Signal { name, source: Source::Preset(one), demands });
    }
    Ok(signals)
}

/// Why a class cannot list them.
const PROXIED_CLASS: &str =
    "the class's presets hold one that needs the name of a Service, so list signals in the guard";

/// A preset, with the Service that some of them need.
fn of_preset(index: usize, chosen: Preset, service: Option<&str>) -> Result<Source, InvalidSpec> {
    let field = || format!("signals[{index}].service");
    match (chosen.is_proxied(), service) {
        (true, Some(service)) if is_label(service) => {
            Ok(Source::Proxied { preset: chosen, service: service.to_owned() })
        }
        (true, Some(_)) => Err(invalid(
            field(),
            "has 1 to 63 lower-case letters, digits and dashes, and neither begins nor ends with a dash",
        )),
        (true, None) => {
            Err(invalid(field(), format!("is missing: {chosen} counts requests per Service, so name the workload's")))
        }
        (false, Some(_)) => Err(invalid(field(), "is for preset nginx-ingress and traefik only")),
        (false, None) => Ok(Source::Preset(chosen)),
    }
}

fn is_label(text: &str) -> bool {
    // Names of signals are DNS labels as well.
    SignalName::parse(text).is_ok()
}

fn signal(index: usize, spec: &SignalSpec) -> Result<Signal, InvalidSpec> {
    let field = |name: &str| format!("signals[{index}].{name}");
    let selector =
        |name: &str, text: &str| Selector::parse(text).map_err(|error| invalid(field(name), error.to_string()));
    let name = SignalName::parse(&spec.name).map_err(|problem| invalid(field("name"), problem))?;
    let source = match (&spec.preset, &spec.ratio, &spec.histogram, &spec.gauge) {
        (Some(chosen), None, None, None) => of_preset(index, preset(*chosen), spec.service.as_deref())?,
        _ if spec.service.is_some() => {
            return Err(invalid(field("service"), "is for preset nginx-ingress and traefik only"));
        }
        (None, Some(ratio), None, None) => {
            Source::Ratio { bad: selector("ratio.bad", &ratio.bad)?, total: selector("ratio.total", &ratio.total)? }
        }
        (None, None, Some(histogram), None) => {
            Source::Histogram { buckets: selector("histogram.buckets", &histogram.buckets)? }
        }
        (None, None, None, Some(gauge)) => Source::Gauge { selector: selector("gauge.selector", &gauge.selector)? },
        _ => {
            return Err(invalid(
                format!("signals[{index}]"),
                "needs exactly one of preset, ratio, histogram and gauge",
            ));
        }
    };
    let max_ppm = spec.max.as_deref().map(|text| percent(&format!("signals[{index}].max"), text)).transpose()?;
    let counts = match &source {
        Source::Ratio { .. } => true,
        Source::Preset(preset) => preset.counts_requests(),
        Source::Histogram { .. } | Source::Gauge { .. } | Source::Proxied { .. } => false,
    };
    if max_ppm.is_some() && !counts {
        return Err(invalid(
            field("max"),
            "limits a share of bad events; it needs a ratio or a preset that counts requests of pods",
        ));
    }
    if spec.critical == Some(true)
        && matches!(
            source,
            Source::Gauge { .. }
                | Source::Proxied { .. }
                | Source::Preset(Preset::ContainerMemory | Preset::ContainerCpuThrottling)
        )
    {
        return Err(invalid(
            field("critical"),
            "cannot be true for a gauge, throttling or what a proxy counts: health is certified by requests of pods only",
        ));
    }
    let demands = Demands {
        weight: spec
            .weight
            .map(|weight| u32::try_from(weight).ok().filter(|weight| *weight <= 100))
            .map(|weight| weight.ok_or_else(|| invalid(field("weight"), "must lie between 0 and 100")))
            .transpose()?,
        critical: spec.critical,
        max_ppm,
        on_no_data: match spec.on_no_data {
            guard::OnNoData::Inconclusive => OnNoData::Inconclusive,
            guard::OnNoData::Pass => OnNoData::Pass,
            guard::OnNoData::Fail => OnNoData::Fail,
        },
        dry_run: spec.dry_run,
    };
    let signal = Signal { name, source, demands };
    signal.check().map_err(|problem| invalid(field("name"), problem))?;
    Ok(signal)
}

const fn preset(preset: guard::Preset) -> Preset {
    match preset {
        guard::Preset::Auto => Preset::Auto,
        guard::Preset::Micrometer => Preset::Micrometer,
        guard::Preset::Otel => Preset::Otel,
        guard::Preset::AspNet => Preset::AspNet,
        guard::Preset::Python => Preset::Python,
        guard::Preset::Go => Preset::Go,
        guard::Preset::Node => Preset::Node,
        guard::Preset::HttpGeneric => Preset::HttpGeneric,
        guard::Preset::Grpc => Preset::Grpc,
        guard::Preset::Istio => Preset::Istio,
        guard::Preset::Linkerd => Preset::Linkerd,
        guard::Preset::Envoy => Preset::Envoy,
        guard::Preset::NginxIngress => Preset::NginxIngress,
        guard::Preset::Traefik => Preset::Traefik,
        guard::Preset::ContainerMemory => Preset::ContainerMemory,
        guard::Preset::ContainerCpuThrottling => Preset::ContainerCpuThrottling,
    }
}

/// Reads a duration such as `1m30s`.
///
/// # Errors
/// If it is none; the error names the field.
pub fn duration(field: &str, text: &str) -> Result<Duration, InvalidSpec> {
    text.parse::<kube::core::Duration>()
        .ok()
        .filter(|parsed| !parsed.is_negative())
        .map(Duration::from)
        .ok_or_else(|| invalid(field, format!("is {text:?}, which is no duration; write for example 30s, 5m or 1h30m")))
}

pub(super) fn within(field: &str, text: &str, least: Duration, most: Duration) -> Result<Duration, InvalidSpec> {
    let parsed = duration(field, text)?;
    if parsed < least {
        return Err(invalid(field, format!("is {text}, but must be at least {least:?}")));
    }
    if parsed > most {
        return Err(invalid(field, format!("is {text}, but can be {} h at most", most.as_secs() / 3600)));
    }
    Ok(parsed)
}
