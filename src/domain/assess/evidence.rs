//! The evidence scorer over live readings.
//!
//! Role: closes steps, hands them to the judge in the order in which they closed, says what came of it. Inputs and
//! outputs: as `assess`. Signals that could not be read stand still; their steps are replayed later. Must never import:
//! other rooms.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::proxied::{self, Mixture};
use super::{
    AssessInput, AssessState, Assessment, Measured, MissingReason, Part, Reading, RecordMetrics, RolloutView,
    SignalReading, SignalVerdict, SignalView, Standing, quantile_ms,
};
use crate::domain::evidence::number::{to_count, to_f64};
use crate::domain::evidence::{Counters, GaugePoint, PodLife, Tally, replay};
use crate::domain::judge::{
    self, Design, Finding, History, Judgement, Observed, PPM, Seen, Sides, SignalDesign, State, one_in,
};
use crate::domain::outcome::{Decider, Reason};
use crate::domain::policy::Analysis;
use crate::domain::process::Counts;
use crate::domain::rollout::Side;
use crate::domain::signal::Term;

/// What the evidence scorer keeps between evaluations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceState {
    /// When the judging began.
    pub began: Timestamp,
    /// The judge's own state, from the moment at which everything was fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<State>>,
    /// The controls, each with its own state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub controls: BTreeMap<String, State>,
}

impl EvidenceState {
    /// From where the next read has to begin.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        let Some(state) = &self.state else { return self.began };
        // A signal that does not exist must not make every read as long as the rollout.
        let read = state.signals.iter().zip(&state.design.signals);
        let read = read.filter(|(signal, design)| design.weight > 0 || signal.steps > 0);
        read.map(|(signal, _)| signal.until).min().unwrap_or(state.last)
    }

    /// The moment of the last step that was judged. Signals close their own steps, so some of them may have judged up to
    /// here while others are read again from [`Self::since`] on.
    #[must_use]
    pub fn judged_until(&self) -> Timestamp {
        self.state.as_ref().map_or(self.began, |state| state.last)
    }
}

/// What the readings of one evaluation held besides closed steps.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) scrape: Option<Duration>,
    pub(super) p95_ms: Option<f64>,
    pods: BTreeMap<Timestamp, (u64, u64)>,
    steps: Vec<(Observed, bool)>,
}

pub(super) fn assess(before: &EvidenceState, input: &AssessInput<'_>, analysis: &Analysis) -> Assessment {
    let none = History::default();
    let Some(view) = input.rollout else {
        return waiting(before.clone(), input, "the rollout cannot be seen".to_owned());
    };
    let history = view.history.unwrap_or(&none);
    let mut state = match (&before.state, view.history) {
        (Some(state), _) => state.clone(),
        (None, Some(history)) => {
            let design = Design::new(view.settings, history, view.overlap, analysis.warmup, view.step);
            Box::new(State::new(design, before.began))
        }
        (None, None) => {
            let why = "what the old revision did before the rollout could not be read yet";
            return waiting(before.clone(), input, why.to_owned());
        }
    };
    let mut extras = Extras::default();
    let mixture = Mixture::of(input.lives, analysis.warmup);
    let steps = closed_steps(input.readings.signals.iter(), input, &state, mixture, &mut extras);
    let (controls, suffers) = judge_controls(before, input, view, analysis);
    let limits = view.settings.limits();
    let mut judgement = judge::judge(view.settings, &state);
    for (at, seen) in steps {
        let pods = extras.pods.get(&at).copied();
        // A sample that was stored late closes a step in the past; what is judged is judged in one order all the same.
        let at = at.max(state.last.checked_add(SignedDuration::from_millis(1)).unwrap_or(at));
        let untils: Vec<Option<Timestamp>> = seen.iter().map(|seen| seen.as_ref().map(|seen| seen.1)).collect();
        let signals = seen.into_iter().map(|seen| seen.map(|seen| seen.0)).collect();
        let observed = Observed { at, signals, pods, settled: view.settled };
        if suffers {
            state.note_shared_incident(at);
        }
        state.step(history, &limits, &observed);
        for (signal, until) in state.signals.iter_mut().zip(untils) {
            let Some(until) = until else { continue };
            signal.until = until;
            // Growth is measured from close to close.
            signal.first = signal.first.map(|(first, value)| (if first == at { until } else { first }, value));
        }
        extras.steps.push((observed, suffers));
        judgement = judge::judge(view.settings, &state);
        // The first crossing decides; what comes after it is another question.
        if matches!(judgement.finding, Finding::Harm { .. } | Finding::LimitBroken { .. }) {
            break;
        }
    }
    let next = EvidenceState { began: before.began, state: Some(state), controls };
    conclude(next, &judgement, input, view, extras)
}

/// Each control goes through the same process against its own past, by its errors alone.
fn judge_controls(
    before: &EvidenceState,
    input: &AssessInput<'_>,
    view: RolloutView<'_>,
    analysis: &Analysis,
) -> (BTreeMap<String, State>, bool) {
    let mut controls = before.controls.clone();
    let mut suffers = false;
    let errors = |name: &str| Term::of(name) == Some(Term::Errors);
    for control in view.controls {
        // What a proxy counts is the guarded workload's Service.
        let own = |signal: &&judge::SignalSettings| errors(&signal.name) && !signal.proxied;
        let signals: Vec<_> = view.settings.signals.iter().filter(own).cloned().collect();
        let settings = judge::Settings {
            baseline: judge::Baseline::History,
            tells_young: false,
            signals,
            ..view.settings.clone()
        };
        let state = controls.entry(control.name.to_owned()).or_insert_with(|| {
            let overlap = judge::Overlap::Never;
            let design = Design::new(&settings, control.history, overlap, analysis.warmup, view.step);
            State::new(design, before.began)
        });
        let seen = AssessInput { lives: control.lives, readings: control.readings, ..*input };
        let readings = control.readings.signals.iter().filter(|reading| errors(&reading.name));
        for (at, steps) in closed_steps(readings, &seen, state, Mixture::default(), &mut Extras::default()) {
            let signals = steps.into_iter().map(|step| step.map(|(seen, _)| seen)).collect();
            state.step(control.history, &[], &Observed { at, signals, pods: None, settled: false });
        }
        suffers |= state.ln_e() >= state.design.threshold();
    }
    (controls, suffers)
}

/// Nothing can be judged yet.
fn waiting(state: EvidenceState, input: &AssessInput<'_>, why: String) -> Assessment {
    let message = input.readings.error().map_or(why, |error| format!("metrics could not be read: {error}"));
    let (reason, message) = match pods_missing(input) {
        Some(missing) => missing,
        None => (Reason::InsufficientData, message),
    };
    Assessment {
        reasoning: message.clone(),
        standing: Standing::NotYet { reason, message },
        score: None,
        confidence: None,
        contributions: Vec::new(),
        signals: input.readings.signals.iter().map(unjudged).collect(),
        metrics: RecordMetrics::default(),
        decider: Decider::Evidence,
        harm: Reason::EvidenceOfHarm,
        only_recommend: None,
        no_data_fails: false,
        one_in: None,
        plan: None,
        scrape: None,
        steps: Vec::new(),
        ln_e: None,
        state: AssessState::Evidence(state),
    }
}

fn unjudged(reading: &SignalReading) -> SignalView {
    let verdict = match &reading.reading {
        Reading::Errored(_) => SignalVerdict::Errored,
        Reading::Missing(MissingReason::NoRequests) | Reading::Value(_) => SignalVerdict::Waiting,
        Reading::Missing(_) => SignalVerdict::Missing,
    };
    SignalView {
        name: reading.name.clone(),
        term: reading.term,
        verdict,
        new: String::new(),
        old: String::new(),
        counts: String::new(),
        counted: None,
        ln_e: None,
        terms: String::new(),
        message: reading.reading.sentence(),
        origin: reading.origin.clone(),
        query: reading.query.clone(),
    }
}

fn pods_missing(input: &AssessInput<'_>) -> Option<(Reason, String)> {
    let new: Vec<&PodLife> = input.lives.iter().filter(|life| life.side == Some(Side::New)).collect();
    (new.is_empty() || new.iter().all(|life| life.grown_from.is_none()))
        .then(|| (Reason::NoNewRevisionPods, "no pod of the new revision is Ready yet".to_owned()))
}

/// What closed at each moment: one entry a signal, with the end of the stretch that it counted.
type ClosedSteps = BTreeMap<Timestamp, Vec<Option<(Seen, Timestamp)>>>;

/// The steps of every signal that closed since its last one. `readings` come in the order of the design.
fn closed_steps<'a>(
    readings: impl Iterator<Item = &'a SignalReading>,
    input: &AssessInput<'_>,
    state: &State,
    mixture: Mixture,
    extras: &mut Extras,
) -> ClosedSteps {
    let mut steps = ClosedSteps::new();
    let count = state.signals.len();
    let judged = state.signals.iter().zip(&state.design.signals);
    for (index, (reading, (signal, design))) in readings.zip(judged).enumerate() {
        let own = match &reading.reading {
            Reading::Value(Measured::Ratio(counters) | Measured::Histogram(counters)) if design.proxied => {
                proxied::closed(counters, signal.until, design, mixture, extras)
            }
            _ => closed(reading, input, state, signal.until, design, extras),
        };
        for (until, seen) in own {
            // A gauge's stretch is known to be complete one step after its end.
            let late = if matches!(seen, Seen::Values { .. }) { step_length(state) } else { SignedDuration::ZERO };
            let at = until.checked_add(late).unwrap_or(until);
            if let Some(slot) = steps.entry(at).or_insert_with(|| vec![None; count]).get_mut(index) {
                *slot = Some((seen, until));
            }
        }
    }
    steps
}

/// The steps of one signal that closed since its last one.
fn closed(
    reading: &SignalReading,
    input: &AssessInput<'_>,
    state: &State,
    until: Timestamp,
    design: &SignalDesign,
    extras: &mut Extras,
) -> Vec<(Timestamp, Seen)> {
    match &reading.reading {
        Reading::Value(Measured::Ratio(counters) | Measured::Histogram(counters)) => {
            let replayed = replay(counters, input.lives, until, None);
            extras.scrape = replayed.scrape.or(extras.scrape);
            if !counters.bounds.is_empty() {
                let mut all = replayed.open.new.clone();
                for step in &replayed.closed {
                    all.merge(&step.new);
                    all.merge(&step.new_young);
                }
                extras.p95_ms = quantile_ms(0.95, &counters.bounds, &all.parts, all.total).map(|found| found.value);
            }
            let mut steps = Vec::with_capacity(replayed.closed.len());
            for step in &replayed.closed {
                extras.pods.entry(step.to).or_insert((step.new.pods + step.new_young.pods, step.old.pods));
                let sides = |bad: &dyn Fn(&Tally) -> u64| {
                    let side = |tally: &Tally| (tally.pods > 0).then(|| Counts::new(bad(tally), tally.total));
                    Sides { young: side(&step.new_young), grown: side(&step.new), old: side(&step.old), history: None }
                };
                let tests = tests(counters, design, &sides);
                if let Some(tests) = tests {
                    steps.push((step.to, Seen::Counts(tests)));
                }
            }
            steps
        }
        Reading::Value(Measured::Gauge(points)) => gauge_steps(points, input, state, until, design),
        Reading::Missing(_) | Reading::Errored(_) => Vec::new(),
    }
}

/// The sides of a step, given what is bad in a tally.
pub(super) type SidesOf<'a> = &'a dyn Fn(&dyn Fn(&Tally) -> u64) -> Sides;

/// One entry a test; nothing where a chosen boundary no longer exists.
pub(super) fn tests(counters: &Counters, design: &SignalDesign, sides: SidesOf<'_>) -> Option<Vec<Sides>> {
    if counters.bounds.is_empty() {
        return Some(vec![sides(&|tally| tally.parts.first().copied().unwrap_or(0))]);
    }
    let slower = |at: usize| {
        move |tally: &Tally| tally.total.saturating_sub(tally.parts.get(at).copied().unwrap_or(tally.total))
    };
    let place = |chosen: &u64| {
        let found = counters.bounds.iter().position(|bound| to_count((bound * 1000.0).round()) == Some(*chosen));
        found.filter(|at| counters.common.get(*at).copied().unwrap_or(false))
    };
    design
        .boundaries
        .iter()
        .map(|chosen| {
            // Response times count grown-up pods only.
            let both = sides(&slower(place(chosen)?));
            Some(Sides { young: None, ..both })
        })
        .collect()
}

fn step_length(state: &State) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(state.design.step_ms).unwrap_or(i64::MAX).max(1000))
}

/// A gauge in steps of the expected length: the mean of each side's pods, memory in percent of its limit.
fn gauge_steps(
    points: &[GaugePoint],
    input: &AssessInput<'_>,
    state: &State,
    until: Timestamp,
    design: &SignalDesign,
) -> Vec<(Timestamp, Seen)> {
    let length = step_length(state);
    let lives: BTreeMap<_, _> = input.lives.iter().map(|life| (&life.pod, life)).collect();
    let of_limit = design.limit.is_some();
    let mut steps = Vec::new();
    let mut from = until;
    // One scrape later everything that belongs to a step is stored.
    while let Ok(to) = from.checked_add(length)
        && to.checked_add(length).is_ok_and(|settled| settled <= input.now)
    {
        let mut sums: [(f64, f64); 2] = [(0.0, 0.0); 2];
        for point in points.iter().filter(|point| point.sampled > from && point.sampled <= to) {
            let Some(life) = lives.get(&point.pod) else { continue };
            let value = if of_limit { super::share_of_limit(life, point) } else { Some(point.value) };
            let side = match life.side {
                Some(Side::New) => 0,
                Some(Side::Old) => 1,
                None => continue,
            };
            if let (Some(value), Some(sum)) = (value, sums.get_mut(side)) {
                sum.0 += value;
                sum.1 += 1.0;
            }
        }
        let mean = |sum: (f64, f64)| (sum.1 > 0.0).then(|| sum.0 / sum.1);
        if let Some(new) = mean(sums[0]) {
            steps.push((to, Seen::Values { new: Some(new), old: mean(sums[1]) }));
        } else if !steps.is_empty() {
            break;
        }
        from = to;
    }
    steps
}

fn conclude(
    next: EvidenceState,
    judgement: &Judgement,
    input: &AssessInput<'_>,
    view: RolloutView<'_>,
    extras: Extras,
) -> Assessment {
    let Some(state) = next.state.as_deref() else {
        return waiting(next, input, "nothing was judged".to_owned());
    };
    let silence = silence(state, view);
    let standing = match silence {
        Some(Silence::Proven) => Standing::Harmful,
        Some(Silence::Unknown) => Standing::Held {
            reason: Reason::SilentRevision,
            message: format!("{SILENT}; whether the previous revision got any at its own start is not known"),
        },
        None => standing(state, judgement, input),
    };
    let signals = input
        .readings
        .signals
        .iter()
        .enumerate()
        .map(|(index, reading)| signal(reading, index, state, judgement))
        .collect();
    let contributions = judgement
        .signals
        .iter()
        .zip(&state.design.signals)
        .filter(|(judged, _)| judged.points >= 0.005)
        .map(|(judged, design)| Part { name: design.name.clone(), value: judged.new.clone(), points: judged.points })
        .collect();
    let only_recommend = match &judgement.finding {
        Finding::Harm { history_only: true } => Some((
            Reason::HistoryOnly,
            "only the comparison with the time before the rollout shows harm, and analysis.historyMayEnforce is false"
                .to_owned(),
        )),
        Finding::SharedIncident { over: true } => Some((Reason::SharedIncident, incident_message(state))),
        _ => None,
    };
    let fails = view.settings.signals.iter().zip(&state.design.signals).any(|(asked, design)| {
        asked.on_no_data == judge::OnNoData::Fail
            && !asked.dry_run
            && (design.unseen || !has_steps(state, &design.name))
    });
    Assessment {
        standing,
        score: judgement.score,
        confidence: judgement.confidence,
        contributions,
        signals,
        metrics: metrics(state, &extras),
        decider: if silence.is_some() { Decider::HardFact } else { Decider::Evidence },
        harm: match (silence, &judgement.finding) {
            (Some(_), _) => Reason::SilentRevision,
            (None, Finding::LimitBroken { .. }) => Reason::LimitExceeded,
            _ => Reason::EvidenceOfHarm,
        },
        only_recommend,
        no_data_fails: fails,
        one_in: one_in(judgement.most),
        plan: view.history.map(|history| judge::plan(&state.design, history)),
        reasoning: if silence.is_some() { SILENT.to_owned() } else { reasoning(judgement) },
        scrape: extras.scrape,
        steps: extras.steps,
        ln_e: Some(judgement.ln_e),
        state: AssessState::Evidence(next),
    }
}

/// What is said of a silent revision.
const SILENT: &str = "no request in 5 minutes, although the pods are Ready and scraped and their share of the pods \
                      would have brought at least 20";
/// Requests that would have come.
const EXPECTED: f64 = 20.0;

/// A revision that serves nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// The previous revision got traffic at its own start.
    Proven,
    /// Nobody knows whether it did.
    Unknown,
}

/// Whether the new revision is silent: the caller has seen that its pods are Ready and scraped for long enough.
fn silence(state: &State, view: RolloutView<'_>) -> Option<Silence> {
    let pods = to_f64(view.scraped?);
    let (index, (signal, _)) = state
        .signals
        .iter()
        .zip(&state.design.signals)
        .enumerate()
        .find(|(_, (_, design))| Term::of(&design.name) == Some(Term::Errors) && !design.proxied)?;
    let cell = signal.cells.first()?;
    let past = view.history?.signals.get(index)?;
    let latest = past.steps.iter().rev().take(20).filter_map(|row| row.first()).copied().sum::<Counts>();
    let steps = to_f64(u64::try_from(past.steps.len().clamp(1, 20)).unwrap_or(1)) * past.longer.unwrap_or(1.0);
    let minutes = 300.0 / (to_f64(state.design.step_ms) / 1000.0).max(1.0);
    let olds = to_f64(u64::try_from(past.pods.len().max(1)).unwrap_or(1));
    // Beside old pods their requests are known; without them, what came before the rollout.
    let predicted =
        if cell.old.total > 0 { to_f64(cell.old.total) * pods / olds } else { to_f64(latest.total) / steps * minutes };
    if predicted < EXPECTED {
        return None;
    }
    let start: u64 = past.start.iter().filter_map(|row| row.first()).map(|counts| counts.total).sum();
    match (past.start.is_empty(), start) {
        (true, _) => Some(Silence::Unknown),
        // It got none at its own start either: that is how it is.
        (false, 0) => None,
        (false, _) => Some(Silence::Proven),
    }
}

fn has_steps(state: &State, name: &str) -> bool {
    state.signals.iter().zip(&state.design.signals).any(|(signal, design)| design.name == name && signal.steps > 0)
}

fn incident_message(state: &State) -> String {
    let beside = state.ln_e_concurrent();
    let alike = if beside.is_finite() { "; the new revision is not proven worse than they are" } else { "" };
    format!("the old pods, or a control, are worse than before the rollout at the same time{alike}")
}

fn reasoning(judgement: &Judgement) -> String {
    match &judgement.finding {
        Finding::LimitBroken { signal, counts } => format!(
            "{signal}: {} of {} requests over two minutes are more than the limit that was set",
            counts.bad, counts.total
        ),
        _ => judgement.reasoning.clone(),
    }
}

fn standing(state: &State, judgement: &Judgement, input: &AssessInput<'_>) -> Standing {
    let unsure = |reason, message: String| Standing::Unproven { reason, message };
    match &judgement.finding {
        Finding::Harm { .. } | Finding::LimitBroken { .. } => Standing::Harmful,
        // Waited out: what the evidence says may be recommended.
        Finding::SharedIncident { over: true } if state.ln_e() >= state.design.threshold() => Standing::Harmful,
        Finding::SharedIncident { .. } => {
            Standing::Held { reason: Reason::SharedIncident, message: incident_message(state) }
        }
        // Pods that are not Ready get no traffic, which is not lost.
        Finding::TrafficLost { .. } if pods_missing(input).is_some() => {
            let (reason, message) = pods_missing(input).unwrap_or((Reason::NoNewRevisionPods, String::new()));
            Standing::NotYet { reason, message }
        }
        Finding::TrafficLost { since } => Standing::Held {
            reason: Reason::TrafficLost,
            message: format!(
                "since {} the new revision gets less than a tenth of the requests that its share of pods predicts",
                since.round(jiff::Unit::Second).unwrap_or(*since)
            ),
        },
        Finding::Grey => Standing::Grey,
        Finding::Certified => Standing::Fine,
        Finding::Nothing => {
            let (reason, message) = pods_missing(input)
                .unwrap_or_else(|| (Reason::NoTraffic, "no requests on the new revision yet".to_owned()));
            Standing::NotYet { reason, message }
        }
        Finding::NoBaseline => {
            let message = "there is nothing to compare with: no signal that was measured before the rollout has old \
                           pods at the same time or enough history";
            Standing::NotYet { reason: Reason::InsufficientData, message: message.to_owned() }
        }
        Finding::Inconclusive if judgement.score.is_none() && !judgement.uncompared.is_empty() => {
            let message = format!("no score, because what matters cannot be compared: {}", judgement.uncompared);
            unsure(Reason::InsufficientData, message)
        }
        Finding::Inconclusive if judgement.score.is_none() => {
            unsure(Reason::InsufficientData, format!("too few requests for a score; {}", judgement.reasoning))
        }
        Finding::Inconclusive => {
            unsure(Reason::InsufficientData, format!("no evidence of harm: {}", judgement.reasoning))
        }
    }
}

fn signal(reading: &SignalReading, index: usize, state: &State, judgement: &Judgement) -> SignalView {
    let mut view = unjudged(reading);
    let (Some(judged), Some(design), Some(own)) =
        (judgement.signals.get(index), state.design.signals.get(index), state.signals.get(index))
    else {
        return view;
    };
    view.new.clone_from(&judged.new);
    view.old.clone_from(&judged.old);
    if let Some((new, old)) = judged.counts.filter(|(new, old)| new.total + old.total > 0) {
        view.counts = format!("{} of {} against {} of {}", new.bad, new.total, old.bad, old.total);
    }
    let threshold = state.design.threshold();
    if !matches!(reading.reading, Reading::Errored(_)) {
        view.verdict = match () {
            () if own.steps == 0 => view.verdict,
            () if design.weight == 0 => SignalVerdict::Shown,
            () if judged.ln_e >= threshold / 2.0 => SignalVerdict::Worse,
            () if judged.ln_safety >= -judge::BETA.ln() => SignalVerdict::Good,
            () => SignalVerdict::Unproven,
        };
    }
    view.counted = judged.counts;
    view.ln_e = (own.steps > 0 && design.weight > 0).then_some(judged.ln_e);
    view.terms.clone_from(&judged.terms);
    // Of what does not exist there is no more to say.
    let told = if view.verdict == SignalVerdict::Missing { ["", ""] } else { [&*judged.message, &*judged.terms] };
    let said = [view.message.as_str(), told[0], told[1]];
    view.message = said.iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join("; ");
    view
}

fn metrics(state: &State, extras: &Extras) -> RecordMetrics {
    let find = |term: Term| {
        state.signals.iter().zip(&state.design.signals).find(|(_, design)| Term::of(&design.name) == Some(term))
    };
    let errors = find(Term::Errors).and_then(|(signal, _)| signal.cells.first()?.new.rate());
    let memory = find(Term::Memory).and_then(|(signal, _)| signal.values).map(|values| values.0);
    let whole = |value: f64| to_count(value.round());
    RecordMetrics {
        error_rate_ppm: errors.and_then(|rate| whole(rate * f64::from(PPM))),
        memory_percent: memory.and_then(whole),
        response_time_ms: extras.p95_ms.and_then(whole),
    }
}
