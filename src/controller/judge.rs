//! One evaluation of a rollout: observe metrics → assess → decide → act.
//!
//! Role: reads the signals, lets the domain judge, writes the decision down, starts the undo. Inputs: a case, the
//! workload, its pods. Outputs: conditions, record, sample, events. Must never import: `cli`, `console`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::case::Case;
use super::error::Error;
use super::facts::{self, Watched};
use super::memory::Past;
use super::verdict::{self, Grounds};
use super::{controls, findings, hearing, past, progress};
use crate::api::GuardClass;
use crate::api::condition::{Truth, Type};
use crate::api::status::{AnalysisStatus, SignalStatus, time};
use crate::domain::assess::{
    self, AssessInput, AssessState, Assessment, EvidenceState, MetricReadings, MissingReason, Reading, RolloutView,
    SignalVerdict,
};
use crate::domain::chain::{self, Moment, Step};
use crate::domain::evidence::PodLife;
use crate::domain::facts::Report;
use crate::domain::judge::History;
use crate::domain::outcome::Reason;
use crate::domain::plan::{self, Current};
use crate::domain::policy::{Interval, Kind, Policy, Scorer};
use crate::domain::recording;
use crate::domain::redact::SERVER_MESSAGE;
use crate::domain::rollout::{PodFact, Revision, Side, Workload};
use crate::observe::prometheus::{PrometheusSource, ReadRequest};
use crate::record::events::EventReason;

/// Longest text of a signal or of the analysis in status.
const MESSAGE: usize = 512;

/// When pods are looked at again that seemed to prove something a moment ago.
const SOON: Duration = Duration::from_millis(200);
/// How long a rollout is young.
const EARLY: Duration = Duration::from_mins(2);
/// How long a revision has to serve nobody to be called silent.
const SILENT_FOR: Duration = Duration::from_mins(5);
/// How far back pods are looked for that the API server has forgotten.
const LOOK_FOR_PODS: Duration = Duration::from_mins(30);

/// Looks at a rollout that is being judged: first what pods show, then what was measured.
///
/// # Errors
/// If an intent to undo cannot be written to status; then nothing is undone.
pub async fn step(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
) -> Result<(), Error> {
    let known = case.draft.current.as_ref().is_some_and(|known| known.first_ready_at.is_some());
    progress::write_current(&mut case.draft, &current, workload);
    if current.first_ready.is_some() && !known {
        let message = format!("the first pod of revision {} is ready; the window begins", current.revision);
        case.note(EventReason::AnalysisStarted, message);
    }
    let report = facts::look(case, policy, &current, workload, pods).await;
    findings::look(case, policy, &current, pods, &report.findings);
    if report.fact.is_some() {
        return proven(case, class, policy, current, workload, pods, &report).await;
    }
    facts::say(case, &report);
    if let Some(next) = case.metrics_due().filter(|next| *next > case.now) {
        // Facts alone: metrics have their own time.
        case.wake_at(next);
        return Ok(());
    }
    // What is known so far can be read while metrics are being waited for.
    case.write_news().await?;
    let (ctx, watched) = (case.ctx, Watched::of(case, policy, &current, workload, &report));
    let rollout = Rollout { class, policy, current: &current, workload, pods, report: &report };
    // Only reading may be broken off: what was decided is carried out.
    let later = tokio::select! {
        measured = measure(case, &rollout) => return decide(case, &rollout, measured).await,
        later = watched.until_proven(ctx) => later,
    };
    // Pods proved it while metrics were being read.
    case.now = ctx.now();
    let report = facts::look(case, policy, &current, workload, &later).await;
    findings::look(case, policy, &current, &later, &report.findings);
    if report.fact.is_some() {
        return proven(case, class, policy, current, workload, &later, &report).await;
    }
    facts::say(case, &report);
    case.wake_in(SOON);
    Ok(())
}

/// Pods prove the release bad.
async fn proven(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
    report: &Report,
) -> Result<(), Error> {
    facts::say(case, report);
    let Some(fact) = &report.fact else { return Ok(()) };
    let decided = chain::on_fact(fact);
    let state = state(case, policy, &current);
    let judged = Assessment::of_fact(decided.reason, &decided.message, case.evaluated(), state);
    case.draft.health_score = Some(0);
    case.proof = Some(facts::proof(fact, &current, pods));
    let grounds = Grounds { class, judged: &judged, decided: &decided, report };
    verdict::conclude(case, policy, current, workload, pods, &grounds).await
}

/// A rollout as one look sees it.
pub(super) struct Rollout<'a> {
    pub class: &'a GuardClass,
    pub policy: &'a Policy,
    pub current: &'a Current,
    pub workload: &'a Workload,
    pub pods: &'a [PodFact],
    pub report: &'a Report,
}

/// What was measured, and what it says.
pub(super) struct Measured {
    pub assessment: Assessment,
    /// Why nothing could be seen, if so.
    blind: Option<String>,
    interval: Duration,
}

/// Evaluates what was measured: observe metrics → assess.
pub(super) async fn measure(case: &mut Case<'_>, rollout: &Rollout<'_>) -> Measured {
    let Rollout { class, policy, current, workload, pods, report } = *rollout;
    let side = |pod: &PodFact| PodLife::of(pod, plan::side(current, pod), policy.analysis.warmup);
    let lives = case.lives(pods.iter().map(side).collect());
    let state = state(case, policy, current);
    if case.evaluated().is_none() {
        case.resume_recording(state.judged_until());
    }
    let evidence = policy.analysis.scorer == Scorer::Evidence;
    let told_apart = workload.kind != Kind::StatefulSet;
    let past =
        if evidence && told_apart { past(case, class, policy, current, workload, &lives, &state).await } else { None };
    let lives = if evidence { with_forgotten(case, class, policy, current, workload, lives).await } else { lives };
    let scrape = case.scrape(past.as_ref().and_then(|past| past.scrape));
    // A step cannot be shorter than the time between two samples.
    let step = policy.analysis.interval.resolve(scrape).max(scrape.unwrap_or_default());
    let readings = if told_apart {
        read(case, class, policy, &lives, &state, step).await
    } else {
        // Prometheus knows pods by name, and goes on adding the last counts of a pod to those of the next one of its name
        // for two scrapes: what the old revision did would be held against the new one.
        MetricReadings::missing(&policy.signals, MissingReason::SharedNames)
    };
    let mut settings = policy.settings();
    settings.first_wave = workload.waves.map(|waves| u64::from(workload.replicas.div_ceil(waves.max(1))));
    let seen = controls(case, class, policy, current, (state.since(), step)).await;
    let controls: Vec<_> = seen.iter().map(controls::Seen::view).collect();
    let no_history = History::default();
    let view = RolloutView {
        settings: &settings,
        history: past.as_ref().map(|past| &past.history).or_else(|| (!told_apart).then_some(&no_history)),
        overlap: workload.expected_overlap(pods, &current.revision),
        step,
        settled: settled(current, workload, pods, policy, case.now),
        controls: &controls,
        scraped: if told_apart { scraped(case, class, &state, &lives).await } else { None },
    };
    let input = AssessInput { now: case.now, lives: &lives, readings: &readings, rollout: evidence.then_some(view) };
    let assessment = assess::assess(policy.analysis.scorer, &state, &input, &policy.analysis);
    let interval = policy.analysis.interval.resolve(case.scrape(assessment.scrape));
    case.measure_at(plan::next_on_grid(case.now, pace(policy, current, case.now, interval)));
    keep_recording(case, policy, current, &assessment, view.history);
    let blind = readings.blinding_error().map(str::to_owned);
    if told_apart {
        say_metrics(case, current.first_ready.is_some(), readings.error(), blind.is_some());
    } else {
        let why = MissingReason::SharedNames.sentence();
        case.observe_condition(Type::MetricsAvailable, false, Reason::InsufficientData, why);
    }
    let assessment = chain::tempered(assessment, report.hold.as_ref());
    let scaling = case.scaling(workload.replicas).hold(case.now);
    let assessment = chain::doubted(assessment, scaling.as_ref());
    show(case, &assessment);
    Measured { assessment, blind, interval }
}

/// Decides on what was measured, and acts.
async fn decide(case: &mut Case<'_>, rollout: &Rollout<'_>, measured: Measured) -> Result<(), Error> {
    let Measured { assessment, blind, interval } = measured;
    let Rollout { policy, current, workload, pods, .. } = *rollout;
    let moment = Moment {
        now: case.now,
        window_end: plan::window_end(current, &policy.analysis, workload),
        interval,
        rollout_complete: workload.rollout_complete(&current.revision, pods),
        stage: current.stage,
        on_inconclusive: policy.analysis.on_inconclusive,
    };
    let scored = case.last_scored(&assessment);
    let step = chain::decide(&assessment, scored.as_ref(), blind.as_deref(), &moment);
    match hearing::weigh(case, rollout, &assessment, blind.is_some(), step) {
        Step::Watch(reason, message) => {
            alert(case, reason, &message);
            case.observe_condition(Type::Healthy, Truth::Unknown, reason, &message);
            case.observe_condition(Type::Reconciling, true, reason, &message);
            Ok(())
        }
        Step::WatchCertified(message) => {
            let message = format!("not worse so far: {message}");
            case.observe_condition(Type::Healthy, true, Reason::AnalysisPassed, &message);
            case.observe_condition(Type::Reconciling, false, Reason::AnalysisPassed, &message);
            Ok(())
        }
        Step::Confirm(message) => {
            verdict::confirm(case, current.clone(), workload, &message);
            Ok(())
        }
        Step::Decide(decided) => {
            let judged = if assessment.score.is_some() { assessment } else { scored.unwrap_or(assessment) };
            let grounds = Grounds { class: rollout.class, judged: &judged, decided: &decided, report: rollout.report };
            verdict::conclude(case, policy, current.clone(), workload, pods, &grounds).await
        }
    }
}

/// How often to look. Where the guard leaves it to us, the first minutes of a rollout are looked at more often than
/// Prometheus scrapes: pods are scraped at different moments, and a step closes with the last of them.
fn pace(policy: &Policy, current: &Current, now: Timestamp, interval: Duration) -> Duration {
    let early = current.started.checked_add(EARLY).is_ok_and(|end| now < end);
    let fresh = early && policy.analysis.interval == Interval::Auto && policy.analysis.scorer == Scorer::Evidence;
    if fresh { (interval / 5).max(Duration::from_secs(1)) } else { interval }
}

/// Something else is wrong while a release is being judged: people are told once.
pub(super) fn alert(case: &mut Case<'_>, reason: Reason, message: &str) {
    let event = match reason {
        Reason::SharedIncident => EventReason::SharedIncident,
        Reason::TrafficLost => EventReason::TrafficLost,
        Reason::NodeProblem
        | Reason::Unschedulable
        | Reason::ReplicaFailure
        | Reason::RegistryUnavailable
        | Reason::Scaling => EventReason::RolloutHeld,
        _ => return,
    };
    let before = crate::api::condition::find(&case.draft.conditions, Type::Healthy);
    if before.is_none_or(|condition| condition.reason != reason.as_str()) {
        case.note(event, message.to_owned());
    }
}

/// Every wanted pod carries the revision, is Ready and out of its warm-up.
fn settled(current: &Current, workload: &Workload, pods: &[PodFact], policy: &Policy, now: Timestamp) -> bool {
    let grown = |pod: &PodFact| {
        pod.first_ready.and_then(|ready| ready.checked_add(policy.analysis.warmup).ok()).is_some_and(|at| at <= now)
    };
    workload.rollout_complete(&current.revision, pods)
        && pods.iter().filter(|pod| pod.is_live() && pod.revision == current.revision).all(grown)
}

/// What was seen before the rollout: read at its first look, and again after a restart.
async fn past(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    lives: &[PodLife],
    state: &AssessState,
) -> Option<Arc<Past>> {
    if let Some(past) = case.past(&current.revision) {
        return Some(past);
    }
    let source = source(case, class).await.ok()?;
    let mut old: Vec<PodLife> = lives.iter().filter(|life| life.side == Some(Side::Old)).cloned().collect();
    let reach = (current.started.checked_sub(LOOK_FOR_PODS).unwrap_or(current.started), current.started);
    if let Some(baseline) = named_apart(current, workload) {
        let prefix = (baseline.pod_prefix.as_str(), Side::Old);
        match past::forgotten(&source, policy, &case.key.namespace, prefix, lives, reach).await {
            Ok(gone) => old.extend(gone),
            // Without the names of the old pods there seems to be no past, and that would be fixed for the rollout.
            Err(_) if past::is_awaited(current.started, case.now) => return None,
            Err(error) => {
                tracing::warn!(%error, "old pods that are gone are not known; what they did is not compared with");
            }
        }
    }
    // What the old pods did from the first sight of the rollout on belongs to the rollout.
    match past::read(&source, policy, &old, (current.started, case.now)).await {
        Ok(past) => Some(case.keep_past(&current.revision, past)),
        Err(error) => {
            tracing::debug!(%error, ?state, "what was before the rollout could not be read yet");
            None
        }
    }
}

/// The old revision, if the names of its pods tell it from the new one.
fn named_apart<'a>(current: &Current, workload: &'a Workload) -> Option<&'a Revision> {
    let baseline = current.baseline.as_ref().and_then(|baseline| workload.revision(baseline))?;
    (!baseline.pod_prefix.is_empty()).then_some(baseline)
}

/// After a restart: old pods that went away while nobody looked.
async fn with_forgotten(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    mut lives: Vec<PodLife>,
) -> Vec<PodLife> {
    if !case.is_fresh_start() {
        return lives;
    }
    let Some(baseline) = named_apart(current, workload) else {
        return lives;
    };
    if let Ok(source) = source(case, class).await {
        let prefix = (baseline.pod_prefix.as_str(), Side::Old);
        let reach = (current.started, case.now);
        match past::forgotten(&source, policy, &case.key.namespace, prefix, &lives, reach).await {
            Ok(forgotten) => {
                case.add_gone(&forgotten);
                lives.extend(forgotten);
            }
            Err(error) => {
                tracing::warn!(%error, "old pods that went away meanwhile are not known; they are not counted");
            }
        }
    }
    lives
}

/// Where the last evaluation of this rollout stopped, or its beginning.
fn state(case: &Case<'_>, policy: &Policy, current: &Current) -> AssessState {
    let stored = case
        .draft
        .analysis
        .as_ref()
        .and_then(|analysis| progress::read_checkpoint(&analysis.checkpoint, analysis.design.as_deref()));
    case.checkpoint().or(stored).unwrap_or_else(|| AssessState::new(policy.analysis.scorer, current.started))
}

/// While nothing was counted on the new revision: whether its pods are Ready and scraped for long, and how many.
async fn scraped(case: &Case<'_>, class: &GuardClass, state: &AssessState, lives: &[PodLife]) -> Option<u64> {
    let warmed = |life: &&PodLife| life.side == Some(Side::New) && life.gone.is_none() && life.grown_from.is_some();
    let new: Vec<PodLife> = lives.iter().filter(warmed).cloned().collect();
    let old_enough = |life: &PodLife| life.created.checked_add(SILENT_FOR).is_ok_and(|at| at <= case.now);
    if !state.is_silent() || new.is_empty() || !new.iter().all(old_enough) {
        return None;
    }
    let source = source(case, class).await.ok()?;
    let since = case.now.checked_sub(SILENT_FOR).unwrap_or(case.now);
    past::scraped(&source, &new, (since, case.now)).await.then(|| u64::try_from(new.len()).unwrap_or(u64::MAX))
}

async fn controls(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: &Current,
    (since, step): (Timestamp, Duration),
) -> Vec<controls::Seen> {
    if policy.analysis.controls.is_empty() || policy.analysis.scorer != Scorer::Evidence {
        return Vec::new();
    }
    match source(case, class).await {
        Ok(source) => controls::read(case, &source, policy, current, (since, grid(policy, step))).await,
        Err(_) => Vec::new(),
    }
}

/// Finer than the scrapes, so that a step closes with the last pod's sample.
fn grid(policy: &Policy, step: Duration) -> Interval {
    match (policy.analysis.scorer, policy.analysis.interval) {
        (Scorer::Evidence, Interval::Auto) => Interval::Every((step / 5).max(Duration::from_secs(1))),
        (_, interval) => interval,
    }
}

/// Writes the steps of this look into the rollout's recording. A recording that cannot be written holds nothing back.
fn keep_recording(
    case: &mut Case<'_>,
    policy: &Policy,
    current: &Current,
    assessment: &Assessment,
    history: Option<&History>,
) {
    let AssessState::Evidence(EvidenceState { began, state: Some(state), .. }) = &assessment.state else { return };
    if !case.ctx.recordings.is_on() || assessment.steps.is_empty() {
        return;
    }
    let lines: Vec<String> = assessment
        .steps
        .iter()
        .map(|(step, suffers)| {
            let suffered = if *suffers { vec![step.at] } else { Vec::new() };
            recording::write_step_beside(&state.design, *began, step, &suffered)
        })
        .collect();
    let none = History::default();
    let header = || {
        let analysis = &policy.analysis;
        let (settings, history) = (policy.settings(), history.unwrap_or(&none));
        recording::write_header(&settings, &state.design, history, analysis.scorer, analysis.on_inconclusive)
    };
    let name = case.rollout(&current.revision);
    let resumed = case.resumed().map(|at| at.duration_since(*began).as_secs_f64());
    match case.ctx.recordings.append(&name, header, &lines, resumed) {
        Ok(()) => case.recorded = Some(name),
        Err(error) => tracing::warn!(%error, "the recording was not written"),
    }
}

/// The class's Prometheus.
async fn source(case: &Case<'_>, class: &GuardClass) -> Result<Arc<PrometheusSource>, String> {
    let name = class.name_any();
    if let Some(source) = case.ctx.sources.get(&name) {
        return Ok(source);
    }
    // The class was not looked at yet.
    let made = case.ctx.sources.ensure(&name, &class.spec.prometheus).await;
    made.map_err(|error| format!("GuardClass {name}: {error}"))
}

async fn read(
    case: &Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    lives: &[PodLife],
    state: &AssessState,
    step: Duration,
) -> MetricReadings {
    let source = match source(case, class).await {
        Ok(source) => source,
        Err(error) => return MetricReadings::unreadable(&policy.signals, &error),
    };
    let request = ReadRequest {
        signals: policy.signals.clone(),
        lives: lives.to_vec(),
        since: state.since(),
        until: case.now,
        interval: grid(policy, step),
    };
    let mut readings = source.read(request).await;
    // What a server says may hold anything; it is shown and stored only after this.
    for signal in &mut readings.signals {
        if let Reading::Errored(text) = &mut signal.reading {
            let (redacted, counts) = case.ctx.redactor.redact_counted(text, SERVER_MESSAGE);
            redacted.as_str().clone_into(text);
            for (kind, pieces) in &counts {
                case.ctx.metrics.redacted(kind.as_str(), *pieces);
            }
        }
    }
    readings
}

fn say_metrics(case: &mut Case<'_>, asked: bool, error: Option<&str>, blind: bool) {
    let before = crate::api::condition::find(&case.draft.conditions, Type::MetricsAvailable);
    let was_blind = before.is_some_and(|condition| condition.status == Truth::False.as_str());
    match error {
        Some(error) => {
            let (what, reason) = if blind {
                ("metrics", Reason::PrometheusUnreachable)
            } else {
                ("some signals", Reason::InsufficientData)
            };
            let message = format!("{what} could not be read: {error}; nothing is concluded from that");
            if !was_blind {
                case.note(EventReason::MetricsUnavailable, message.clone());
            }
            case.observe_condition(Type::MetricsAvailable, false, reason, &message);
        }
        None if asked => {
            case.observe_condition(Type::MetricsAvailable, true, Reason::MetricsRead, "the last read worked");
        }
        None => {}
    }
}

/// Puts the numbers into status.
fn show(case: &mut Case<'_>, assessment: &Assessment) {
    if let Some(score) = assessment.score {
        case.draft.health_score = Some(i32::from(score.points()));
    }
    let some = |text: &str| (!text.is_empty()).then(|| text.chars().take(MESSAGE).collect::<String>());
    let quiet = |verdict| matches!(verdict, SignalVerdict::Waiting);
    let mut signals = Vec::new();
    for view in &assessment.signals {
        let before = case.draft.signals.iter().find(|known| known.name == view.name);
        if let (true, Some(known)) = (quiet(view.verdict), before) {
            // Between two scores the last numbers stay readable.
            signals.push(known.clone());
            continue;
        }
        let message = [view.counts.as_str(), view.message.as_str()]
            .iter()
            .filter(|t| !t.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        signals.push(SignalStatus {
            name: view.name.clone(),
            state: view.verdict.as_str().into(),
            value: some(&view.new),
            baseline: some(&view.old),
            message: some(&message),
            origin: some(&view.origin),
            query: some(&view.query),
        });
    }
    case.draft.signals = signals;
    let (checkpoint, design) = progress::write_checkpoint(&assessment.state);
    let before = case.draft.analysis.take().unwrap_or_default();
    case.draft.analysis = Some(AnalysisStatus {
        checkpoint,
        design,
        message: some(&assessment.reasoning),
        plan: assessment.plan.clone(),
        one_in: assessment.one_in.clone(),
        counted_until: Some(time(assessment.state.since())),
        ..before
    });
    let at = Duration::try_from(case.now.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default();
    let score = assessment.score.map(crate::domain::outcome::HealthScore::points);
    let guards = case.ctx.memory.len();
    case.ctx.metrics.evaluated(at.as_secs_f64(), &case.key.namespace, &case.key.name, score, guards);
}
