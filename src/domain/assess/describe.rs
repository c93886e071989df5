//! What the seed formula says about its signals and its score.
//!
//! Role: words for numbers. Inputs: scored periods. Outputs: `SignalView`, reasoning. Must never import: other rooms.

use super::seed::{Period, Scored, THRESHOLD, Track};
use super::{Measured, MissingReason, Reading, SignalVerdict, SignalView, Standing};
use crate::domain::evidence::PodLife;
use crate::domain::signal::Term;

/// One signal as status shows it.
pub(super) fn view(track: &Track<'_>, period: &Period, lives: &[PodLife]) -> SignalView {
    let reading = track.values(period, lives);
    let unit = |value: f64| match (track.reading.term, track.reading.reading.value()) {
        (Some(Term::Errors | Term::Memory), _) | (_, Some(Measured::Ratio(_))) => {
            format!("{value:.1} %")
        }
        (Some(Term::Latency), _) | (_, Some(Measured::Histogram(_))) => format!("{value:.0} ms"),
        _ => format!("{value}"),
    };
    let mut view = SignalView {
        name: track.reading.name.clone(),
        term: track.reading.term,
        verdict: SignalVerdict::Shown,
        new: String::new(),
        old: String::new(),
        counts: String::new(),
        counted: None,
        ln_e: None,
        terms: String::new(),
        message: reading.sentence(),
        origin: track.reading.origin.clone(),
        query: track.reading.query.clone(),
    };
    match reading {
        Reading::Errored(_) => view.verdict = SignalVerdict::Errored,
        Reading::Missing(MissingReason::NoRequests) => view.verdict = SignalVerdict::Waiting,
        Reading::Missing(_) => view.verdict = SignalVerdict::Missing,
        Reading::Value(values) => {
            let value = values.new.unwrap_or(0.0);
            let limit = track.reading.term.map(|term| match term {
                Term::Errors => 0.0,
                Term::Memory => 70.0,
                Term::Latency => 500.0,
            });
            view.verdict = match limit {
                None => SignalVerdict::Shown,
                Some(limit) if value > limit => SignalVerdict::Worse,
                Some(_) => SignalVerdict::Good,
            };
            view.new = values.new.map(unit).unwrap_or_default();
            view.old = values.old.map(unit).unwrap_or_default();
            if values.at_least {
                view.new = format!("over {}", view.new);
                "beyond the last finite bucket".clone_into(&mut view.message);
            }
            view.counts = match values.counts {
                Some((Some(bad), total)) => format!("{bad} of {total}"),
                Some((None, total)) => total.to_string(),
                None => String::new(),
            };
        }
    }
    view
}

/// Metric, value, comparator and threshold in a sentence.
pub(super) fn reasoning(standing: &Standing, last: Option<&Scored>) -> String {
    let mut text = String::new();
    if let Some((scored, score)) = last.and_then(|scored| Some((scored, scored.score?))) {
        text = format!("score {:.1} against {THRESHOLD}", score.value());
        for term in &scored.terms {
            let value = match term.term {
                Term::Errors => format!("error rate {:.1} %", term.value),
                Term::Memory => format!("memory {:.1} % of the limit", term.value),
                Term::Latency => format!("95th percentile {:.0} ms", term.value),
            };
            text = format!("{text}; {value}");
            if let (Term::Errors, Some((bad, total, old))) = (term.term, scored.errors) {
                let old = old.map(|old| format!(" against {old:.1} % on the old revision")).unwrap_or_default();
                text = format!("{text}{old} ({bad} of {total} requests)");
            }
            text = format!("{text} takes {:.1} points", term.points);
        }
    }
    match standing {
        Standing::NotYet { message, .. } | Standing::Unproven { message, .. } if text.is_empty() => message.clone(),
        Standing::Unproven { message, .. } => format!("{text}; {message}"),
        _ => text,
    }
}
