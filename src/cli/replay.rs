//! `deployment-guard replay FILE`: a recorded rollout, judged again without a cluster.
//!
//! Role: read lines, print what each step showed and what was decided. Inputs: a file, or standard input. Outputs: text
//! or JSON lines; 0 when judged, 2 for a file that cannot be. Must never import: `console`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::domain::evidence::number::to_count;
use crate::domain::judge::PPM;
use crate::domain::outcome::{Reason, Verdict};
use crate::domain::recording::{Conclusion, Fault, MAX_HEADER_BYTES, MAX_LINE_BYTES, Replay, StepReport, StepSignal};

/// Beyond this, more digits of "1 in N" say nothing.
const MOST: f64 = 1e9;

/// Judge recorded readings without a cluster, with the same code and to the same bits.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The recording: a header and one line a closed step (docs/replay.md). `-` reads standard input.
    file: PathBuf,
    /// One JSON object a step, and the decision as the last line.
    #[arg(long)]
    json: bool,
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}: {1}")]
    Open(String, io::Error),
    #[error("{0}:{1}")]
    Fault(String, Fault),
    #[error("{0}")]
    Write(io::Error),
}

/// Judges a file.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = replay(arguments, &mut out).and_then(|()| out.flush().map_err(Failure::Write));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(Failure::Write(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = out.flush();
            super::terminal::note(&format!("error: {failure}"));
            ExitCode::from(super::USAGE)
        }
    }
}

fn replay(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let stdin = arguments.file.as_os_str() == "-";
    let name = if stdin { "-".to_owned() } else { arguments.file.display().to_string() };
    let source: Box<dyn Read> = if stdin {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&arguments.file).map_err(|error| Failure::Open(name.clone(), error))?)
    };
    let mut lines = Lines { reader: BufReader::with_capacity(1 << 16, source), number: 0, buffer: Vec::new() };
    let failed = |problem: Problem| match problem {
        Problem::Fault(fault) => Failure::Fault(name.clone(), fault),
        Problem::Read(error) => Failure::Open(name.clone(), error),
    };
    let fault = |fault: Fault| Failure::Fault(name.clone(), fault);
    let header = lines.next(MAX_HEADER_BYTES).map_err(failed)?.map_or("", |(_, text)| text);
    let mut replay = Replay::start(header.strip_prefix('\u{feff}').unwrap_or(header)).map_err(fault)?;
    while let Some((number, text)) = lines.next(MAX_LINE_BYTES).map_err(failed)? {
        for report in replay.line(number, text).map_err(fault)? {
            print(arguments.json, &report, out).map_err(Failure::Write)?;
        }
    }
    let (reports, conclusion) = replay.finish();
    for report in reports {
        print(arguments.json, &report, out).map_err(Failure::Write)?;
    }
    let last = if arguments.json { line(&decision(&conclusion)) } else { closing(&conclusion) };
    writeln!(out, "{last}").map_err(Failure::Write)
}

enum Problem {
    Fault(Fault),
    Read(io::Error),
}

/// Lines of limited length, one buffer for all.
struct Lines<R> {
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self, most: usize) -> Result<Option<(u64, &str)>, Problem> {
        self.buffer.clear();
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(2);
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer).map_err(Problem::Read)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() > most {
            let message = format!("is longer than {} KiB; one object a line", most / 1024);
            return Err(Problem::Fault(Fault::of_line(self.number, message)));
        }
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Some((self.number, text))),
            Err(error) => {
                let message = format!("is not UTF-8 at byte {}", error.valid_up_to() + 1);
                Err(Problem::Fault(Fault::of_line(self.number, message)))
            }
        }
    }
}

fn print(json: bool, report: &StepReport, out: &mut impl Write) -> io::Result<()> {
    if json { writeln!(out, "{}", line(&step(report))) } else { writeln!(out, "{}", sentence(report)) }
}

/// A step as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    step: u64,
    t: f64,
    ln_e: Option<f64>,
    one_in: u64,
    health_score: Option<u8>,
    verdict: &'static str,
    signals: BTreeMap<&'a str, ShownSignal<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSignal<'a> {
    ln_e: f64,
    ln_safety: f64,
    weight: f64,
    message: &'a str,
}

impl<'a> ShownSignal<'a> {
    fn of(signal: &'a StepSignal) -> Self {
        Self {
            ln_e: signal.ln_e,
            ln_safety: signal.ln_safety,
            weight: f64::from(signal.weight) / f64::from(PPM),
            message: &signal.message,
        }
    }
}

/// The decision as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decided {
    decision: &'static str,
    confidence: u8,
    health_score: Option<u8>,
    reason: &'static str,
    deciding_step: Option<u64>,
}

fn step(report: &StepReport) -> Shown<'_> {
    Shown {
        step: report.step,
        t: report.t,
        ln_e: report.ln_e,
        one_in: to_count(report.most.clamp(0.0, MOST.ln()).exp().floor()).unwrap_or(1),
        health_score: report.health_score,
        verdict: report.verdict,
        signals: report.signals.iter().map(|signal| (signal.name.as_str(), ShownSignal::of(signal))).collect(),
    }
}

fn decision(conclusion: &Conclusion) -> Decided {
    Decided {
        decision: conclusion.decision.as_str(),
        confidence: conclusion.confidence,
        health_score: conclusion.health_score,
        reason: conclusion.reason.as_str(),
        deciding_step: conclusion.deciding_step,
    }
}

/// One line of JSON; these structures always have one.
fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn sentence(report: &StepReport) -> String {
    let health = report.health_score.map_or_else(|| "  –".to_owned(), |score| format!("{score:>3}"));
    let ln_e = report.ln_e.map_or_else(String::new, |ln_e| format!("  ln E {ln_e:>8.3}"));
    let message = if report.message.is_empty() { String::new() } else { format!("  {}", report.message) };
    format!("step {:>4}  t {:>8}  health {health}{ln_e}  {:<14}{message}", report.step, report.t, report.verdict)
        .trim_end()
        .to_owned()
}

/// What a person without statistics needs to know.
fn closing(conclusion: &Conclusion) -> String {
    let at = conclusion.deciding_step.map_or_else(String::new, |step| format!(" at step {step}"));
    let meaning = match (conclusion.decision, conclusion.reason) {
        (Verdict::Rollback, Reason::ScoreBelowThreshold) => {
            "The health score was below 50 twice running, so the new revision is undone."
        }
        (Verdict::Rollback, Reason::LimitExceeded) => {
            "A limit that was set is exceeded, so the new revision is undone."
        }
        (Verdict::Rollback, _) => {
            "The new revision is worse than the old one by more than chance explains, so it is undone."
        }
        (Verdict::Continue, Reason::AnalysisPassed) => {
            "The new revision was shown to be no worse than allowed, so it stays."
        }
        (Verdict::Continue, Reason::NoTraffic) => {
            "The new revision answered no requests, so nothing is known about it; it stays."
        }
        (Verdict::Continue, _) => {
            "Nothing speaks against the new revision, and too little was seen to call it healthy; it stays."
        }
        (Verdict::Inconclusive, Reason::SharedIncident) => {
            "The old revision suffers as well, so the release is not the explanation: a person should look."
        }
        (Verdict::Inconclusive, Reason::TrafficLost) => {
            "The new revision gets far fewer requests than it should, and silence proves nothing: a person should look."
        }
        (Verdict::Inconclusive, _) => "Nothing could be proven either way: the guard keeps watching.",
    };
    let score =
        conclusion.health_score.map_or_else(|| "no health score".to_owned(), |score| format!("health {score} of 100"));
    let message = if conclusion.message.is_empty() { String::new() } else { format!("\n{}.", conclusion.message) };
    format!(
        "\n{}{at} ({}; {score}, confidence {} %)\n{meaning}{message}",
        conclusion.decision, conclusion.reason, conclusion.confidence
    )
}
