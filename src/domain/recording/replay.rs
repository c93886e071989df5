//! A recording under judgement, line by line.
//!
//! Role: checks every line, judges those of the window, keeps only what the judge keeps. The first lines wait until the
//! length of a step is known. Inputs: text. Outputs: a report a step, and the decision. Must never import: other rooms.

use jiff::{SignedDuration, Timestamp};

use super::conclude::{self, Conclusion};
use super::header::Header;
use super::json::{Path, parse};
use super::line::{Line, Reading, Which};
use super::seed::SeedRun;
use super::{Fault, Form, opinion};
use crate::domain::judge::{
    Design, Finding, History, Judgement, Kind, Observed, Overlap, Seen, Settings, Sides, SignalDesign, State, judge,
};

/// Lines that are looked at before the first one is judged; only their times and forms are.
const GATHERED: usize = 16;
/// The start of a replayed rollout; only differences count.
const BEGAN: i64 = 2_000_000_000;

/// One judged step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// As the line says.
    pub t: f64,
    /// ln E of harm; the formula has none.
    pub ln_e: Option<f64>,
    /// The largest ln E so far.
    pub most: f64,
    /// Health, 0–100.
    pub health_score: Option<u8>,
    /// Where it stands, as one word.
    pub verdict: &'static str,
    /// By signal.
    pub signals: Vec<StepSignal>,
    /// Values and chances in a sentence.
    pub message: String,
}

/// One signal of a judged step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSignal {
    /// Its name.
    pub name: String,
    /// ln E of harm.
    pub ln_e: f64,
    /// ln E of health.
    pub ln_safety: f64,
    /// Its share of the evidence, in parts per million.
    pub weight: u32,
    /// What there is to say of it.
    pub message: String,
}

/// A recording under judgement.
#[derive(Debug)]
pub struct Replay {
    header: Header,
    /// The form of each signal and the line that gave it first.
    forms: Vec<Option<(Form, u64)>>,
    last: Option<f64>,
    steps: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Gathering(Vec<Line>),
    Evidence(Box<Judging>),
    Seed(Box<Scoring>),
    Decided(Conclusion),
}

impl Replay {
    /// Reads the header.
    ///
    /// # Errors
    /// The field of the first line that is wrong.
    pub fn start(text: &str) -> Result<Self, Fault> {
        let header = Header::read(text)?;
        let forms = header.forms().into_iter().map(|form| form.map(|form| (form, 1))).collect();
        Ok(Self { header, forms, last: None, steps: 0, stage: Stage::Gathering(Vec::new()) })
    }

    /// The next line, with its number in the file.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn line(&mut self, number: u64, text: &str) -> Result<Vec<StepReport>, Fault> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        if opinion::is_one(text) {
            let heard = opinion::read(text).map_err(|message| Fault::of_line(number, message))?;
            let reports = if matches!(self.stage, Stage::Gathering(_)) { self.begin() } else { Vec::new() };
            self.hear(&heard);
            return Ok(reports);
        }
        let line = parse(text)
            .and_then(|json| Line::read(&json, &Path::ROOT, Which::Step, &self.header.names))
            .map_err(|wrong| Fault::new(number, wrong))?;
        self.check(number, &line)?;
        self.steps += 1;
        match &mut self.stage {
            Stage::Gathering(lines) => {
                lines.push(line);
                Ok(if lines.len() >= GATHERED { self.begin() } else { Vec::new() })
            }
            _ => Ok(self.judge(self.steps, &line).into_iter().collect()),
        }
    }

    /// The end of the recording.
    #[must_use]
    pub fn finish(mut self) -> (Vec<StepReport>, Conclusion) {
        let reports = if matches!(self.stage, Stage::Gathering(_)) { self.begin() } else { Vec::new() };
        let wish = self.header.on_inconclusive();
        let conclusion = match &self.stage {
            Stage::Decided(conclusion) => conclusion.clone(),
            Stage::Evidence(judging) => conclude::at_end(judging.judged.as_ref(), judging.certified, wish),
            Stage::Seed(scoring) => scoring.run.finish(wish),
            Stage::Gathering(_) => conclude::at_end(None, None, wish),
        };
        (reports, conclusion)
    }

    /// An opinion counts after the step before it; the formula asks nobody.
    fn hear(&mut self, heard: &opinion::Line) {
        let Stage::Evidence(judging) = &self.stage else { return };
        let Some(judged) = &judging.judged else { return };
        let alpha = f64::from(judging.settings.alpha_ppm) / 1e6;
        let certified = judging.state.certified.is_some();
        if let Some(conclusion) = opinion::after(heard, judged, alpha, certified, self.steps) {
            self.stage = Stage::Decided(conclusion);
        }
    }

    /// Time goes on, and every signal keeps its form.
    fn check(&mut self, number: u64, line: &Line) -> Result<(), Fault> {
        let fault = |field: String, message: String| Fault { line: number, field, message };
        if let Some(last) = self.last.filter(|last| line.t <= *last) {
            let message = format!("is {}, but the line before has {last}; time must go on", line.t);
            return Err(fault("t".to_owned(), message));
        }
        self.last = Some(line.t);
        for ((known, reading), name) in self.forms.iter_mut().zip(&line.signals).zip(&self.header.names) {
            let Some(form) = reading.as_ref().and_then(Reading::form) else { continue };
            let (before, since) = *known.get_or_insert((form, number));
            if before != form {
                let message = format!(
                    "gives {}, but line {since} gave {}; a signal keeps its form",
                    form.words(),
                    before.words()
                );
                return Err(fault(format!("signals.{name}"), message));
            }
        }
        Ok(())
    }

    /// Fixes the rollout and judges what was gathered.
    fn begin(&mut self) -> Vec<StepReport> {
        let Stage::Gathering(lines) = &mut self.stage else { return Vec::new() };
        let lines = std::mem::take(lines);
        let Some(first) = lines.first() else { return Vec::new() };
        let window = self.header.asked.window.as_secs_f64();
        self.stage = if self.header.is_seed() {
            let run = SeedRun::new(&self.header.names, self.header.asked.min_requests);
            Stage::Seed(Box::new(Scoring { run, until: first.t + window }))
        } else {
            Stage::Evidence(Box::new(Judging::new(&self.header, &self.forms, &lines, first.t + window)))
        };
        let first = self.steps.saturating_sub(u64::try_from(lines.len()).unwrap_or(0));
        lines.iter().zip(first + 1..).filter_map(|(line, step)| self.judge(step, line)).collect()
    }

    fn judge(&mut self, step: u64, line: &Line) -> Option<StepReport> {
        let (report, decided) = match &mut self.stage {
            Stage::Evidence(judging) => judging.step(&self.header, step, line)?,
            Stage::Seed(scoring) => scoring.step(step, line)?,
            Stage::Gathering(_) | Stage::Decided(_) => return None,
        };
        if let Some(conclusion) = decided {
            self.stage = Stage::Decided(conclusion);
        }
        Some(report)
    }
}

/// The formula and the end of its window.
#[derive(Debug)]
struct Scoring {
    run: SeedRun,
    until: f64,
}

impl Scoring {
    fn step(&mut self, step: u64, line: &Line) -> Option<(StepReport, Option<Conclusion>)> {
        if line.t > self.until {
            return None;
        }
        let decided = self.run.step(line, step);
        let (health_score, text) = self.run.shown();
        let verdict = match (&decided, health_score) {
            (Some(_), _) => "Harm",
            (None, Some(_)) => "Scored",
            (None, None) => "Nothing",
        };
        let report = StepReport {
            step,
            t: line.t,
            ln_e: None,
            most: 0.0,
            health_score,
            verdict,
            signals: Vec::new(),
            message: text.to_owned(),
        };
        Some((report, decided))
    }
}

/// Evidence under way.
#[derive(Debug)]
struct Judging {
    settings: Settings,
    history: History,
    state: State,
    limits: Vec<Option<u32>>,
    tells_young: bool,
    step: std::time::Duration,
    /// `t` at the rollout's start.
    origin: f64,
    /// The last `t` that is judged.
    until: f64,
    judged: Option<Judgement>,
    certified: Option<u64>,
}

impl Judging {
    fn new(header: &Header, forms: &[Option<(Form, u64)>], first: &[Line], until: f64) -> Self {
        let forms: Vec<Option<Form>> = forms.iter().map(|form| form.map(|(form, _)| form)).collect();
        let tells_young = first.iter().any(has_young);
        let settings = header.settings(&forms, tells_young);
        let history = header.past(&forms, first);
        let step = header.step(first);
        let began = Timestamp::from_second(BEGAN).unwrap_or(Timestamp::UNIX_EPOCH);
        let state = State::new(design(header, &settings, &history, step), began);
        let limits = settings.limits();
        let start = first.first().map_or(0.0, |line| line.t - step.as_secs_f64());
        let origin = if header.rollout.is_some() { 0.0 } else { start };
        Self { settings, history, state, limits, tells_young, step, origin, until, judged: None, certified: None }
    }

    fn step(&mut self, header: &Header, step: u64, line: &Line) -> Option<(StepReport, Option<Conclusion>)> {
        if line.t > self.until {
            return None;
        }
        self.refit(header, line);
        let observed = self.observed(line);
        for moment in &line.suffered {
            self.state.note_shared_incident(self.at(*moment));
        }
        self.state.step(&self.history, &self.limits, &observed);
        let judged = judge(&self.settings, &self.state);
        if self.state.certified.is_some() {
            self.certified = self.certified.or(Some(step));
        }
        let report = report(step, line.t, &self.state, &judged);
        let decided = conclude::at_step(&judged, step);
        self.judged = Some(judged);
        Some((report, decided))
    }

    /// A signal that shows for the first time, in another form than its name let expect, is fixed now: it was not judged
    /// before, and its weight stays.
    fn refit(&mut self, header: &Header, line: &Line) {
        let mut forms: Vec<Option<Form>> = vec![None; header.names.len()];
        for (index, reading) in line.signals.iter().enumerate() {
            let (Some(form), Some(signal)) =
                (reading.as_ref().and_then(Reading::form), self.settings.signals.get(index))
            else {
                continue;
            };
            let unfit = !header.fits(index, form, signal.kind);
            let unmeasured = self.state.signals.get(index).is_some_and(|signal| signal.steps == 0);
            if let (true, true, Some(slot)) = (unfit, unmeasured, forms.get_mut(index)) {
                *slot = Some(form);
            }
        }
        if forms.iter().all(Option::is_none) {
            return;
        }
        let settings = header.settings(&forms, self.tells_young);
        for (limit, signal) in
            self.limits.iter_mut().zip(&settings.signals).zip(&forms).filter_map(|(pair, form)| form.map(|_| pair))
        {
            *limit = signal.max_ppm.filter(|_| !signal.dry_run);
        }
        let history = header.past(&forms, std::slice::from_ref(line));
        let fresh = State::new(design(header, &settings, &history, self.step), self.state.began);
        for (index, _) in forms.iter().enumerate().filter(|(_, form)| form.is_some()) {
            if let (Some(old), Some(new)) = (self.settings.signals.get_mut(index), settings.signals.get(index)) {
                *old = new.clone();
            }
            if let (Some(old), Some(new)) = (self.history.signals.get_mut(index), history.signals.get(index)) {
                *old = new.clone();
            }
            if let (Some(old), Some(new)) = (self.state.signals.get_mut(index), fresh.signals.get(index)) {
                *old = new.clone();
            }
            if let (Some(old), Some(new)) = (self.state.design.signals.get_mut(index), fresh.design.signals.get(index))
            {
                let (weight, unseen) = (if new.weight == 0 { 0 } else { old.weight }, old.unseen || new.unseen);
                *old = SignalDesign { weight, unseen, ..new.clone() };
            }
        }
    }

    fn at(&self, t: f64) -> Timestamp {
        let after = SignedDuration::try_from_secs_f64(t - self.origin).unwrap_or(SignedDuration::ZERO);
        self.state.began.checked_add(after).unwrap_or(self.state.last)
    }

    fn observed(&self, line: &Line) -> Observed {
        let signals = line.signals.iter().enumerate().map(|(index, reading)| {
            let boundaries = self.state.design.signals.get(index).map(|design| design.boundaries.as_slice());
            Some(seen(reading.as_ref()?, boundaries.unwrap_or_default(), self.settings.signals.get(index)?.kind))
        });
        Observed {
            at: self.at(line.t),
            signals: signals.collect(),
            pods: line.pods,
            settled: line.settled.unwrap_or_else(|| !has_young(line)),
        }
    }
}

/// The rollout as it is fixed: from the history, or as the header says.
fn design(header: &Header, settings: &Settings, history: &History, step: std::time::Duration) -> Design {
    let overlap = Overlap::For(settings.window);
    let mut design = Design::new(settings, history, overlap, header.asked.warmup, step);
    for (signal, phi) in design.signals.iter_mut().zip(&header.phi) {
        signal.phi = phi.unwrap_or(signal.phi);
    }
    if let Some(rollout) = &header.rollout {
        rollout.fix(&mut design);
    }
    design
}

fn seen(reading: &Reading, boundaries: &[u64], kind: Kind) -> Seen {
    let gauge = matches!(kind, Kind::Level | Kind::Growth | Kind::Leak);
    match reading {
        Reading::Values { new, old } => Seen::Values { new: *new, old: *old },
        Reading::Counts(sides) => Seen::Counts(vec![*sides]),
        Reading::Boundaries(found) => {
            let of =
                |wanted: &u64| found.iter().find(|(ms, _)| ms == wanted).map_or_else(Sides::default, |found| found.1);
            Seen::Counts(boundaries.iter().map(of).collect())
        }
        Reading::Nothing if gauge => Seen::Values { new: None, old: None },
        Reading::Nothing => Seen::Counts(vec![Sides::default(); if kind == Kind::Tail { boundaries.len() } else { 1 }]),
    }
}

/// Whether pods in their warm-up served.
fn has_young(line: &Line) -> bool {
    let young = |sides: &Sides| sides.young.is_some_and(|young| young.total > 0);
    line.signals.iter().flatten().any(|reading| match reading {
        Reading::Counts(sides) => young(sides),
        Reading::Boundaries(found) => found.iter().any(|(_, sides)| young(sides)),
        Reading::Nothing | Reading::Values { .. } => false,
    })
}

fn report(step: u64, t: f64, state: &State, judged: &Judgement) -> StepReport {
    let signals =
        state.design.signals.iter().zip(&judged.signals).zip(&state.signals).filter(|(_, state)| state.steps > 0);
    StepReport {
        step,
        t,
        ln_e: Some(judged.ln_e),
        most: judged.most,
        health_score: judged.score.map(crate::domain::outcome::HealthScore::points),
        verdict: word(&judged.finding),
        signals: signals
            .map(|((design, signal), _)| StepSignal {
                name: design.name.clone(),
                ln_e: signal.ln_e,
                ln_safety: signal.ln_safety,
                weight: design.weight,
                message: text(design.kind, design.weight, &signal.message, &signal.terms),
            })
            .collect(),
        message: judged.reasoning.clone(),
    }
}

/// What a signal shows; and why it does not count, where it does not.
fn text(kind: Kind, weight: u32, message: &str, terms: &str) -> String {
    match (kind, weight) {
        (Kind::Leak, 0) => format!("{message} (no recorded start to compare its growth with)"),
        (_, 0) => format!("{message} ({terms})"),
        _ => message.to_owned(),
    }
}

pub(super) const fn word(finding: &Finding) -> &'static str {
    match finding {
        Finding::Nothing => "Nothing",
        Finding::NoBaseline => "NoBaseline",
        Finding::Harm { .. } => "Harm",
        Finding::LimitBroken { .. } => "LimitBroken",
        Finding::SharedIncident { .. } => "SharedIncident",
        Finding::TrafficLost { .. } => "TrafficLost",
        Finding::Grey => "Grey",
        Finding::Certified => "Certified",
        Finding::Inconclusive => "Inconclusive",
    }
}
