//! What must be reached, and whether it was.

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::judge::kappa;

use crate::generator::STEPS;
use crate::report::{self, Row, share};
use crate::rules::{ALPHA, BETA, HOSTILE, NAMES, OURS};
use crate::runner::count;
use crate::scenarios::{Goal, Kind};
use crate::statistics::{limits, quantile};

/// One goal of one scenario.
pub struct Reached {
    pub scenario: &'static str,
    pub text: String,
    pub met: bool,
    /// Whether it is the same for many scenarios.
    pub common: bool,
}

/// The goals of a scenario.
pub fn of(row: &Row) -> Vec<Reached> {
    let mut found = Vec::new();
    let mut add = |text: String, met: bool| {
        let common = matches!(row.scenario.kind, Kind::Inside) && text.contains("false rollbacks");
        found.push(Reached { scenario: row.scenario.name, text, met, common });
    };
    let ours = row.evidence();
    match &row.scenario.kind {
        Kind::Inside => {
            for (found, name) in row.found.iter().zip(NAMES).take(OURS) {
                let (_, most) = limits(found.hits(), found.runs());
                let text =
                    format!("{name}: false rollbacks at most {} at the upper limit: {}", share(ALPHA), share(most));
                add(text, most <= ALPHA);
            }
            hostile(row, &mut add);
        }
        Kind::AtTheBound => {
            let (_, most) = limits(count(&ours.certified), ours.runs());
            add(format!("certified at most {} at the upper limit: {}", share(BETA), share(most)), most <= BETA);
        }
        Kind::Regression(goal) => {
            delays(row, *goal, &mut add);
            let stops = HOSTILE.last().and_then(|rule| row.found.get(*rule));
            let same = stops.is_some_and(|stops| stops.rolled_back == ours.rolled_back);
            add("a model that says CONTINUE stops no rollback and delays none".to_owned(), same);
        }
        Kind::Outside { .. } | Kind::Without { .. } => {}
    }
    if row.scenario.certify {
        let median = quantile(&ours.certified, 0.5);
        let text = format!("certified before half of the window in most runs: {}", steps(median));
        add(text, median.is_some_and(|step| step < u32::try_from(STEPS / 2).unwrap_or(0)));
    }
    found
}

/// With a hostile model false rollbacks stay within κα, and none that evidence makes is stopped or comes later.
fn hostile(row: &Row, add: &mut impl FnMut(String, bool)) {
    let [Some(pushes), Some(stops)] = HOSTILE.map(|rule| row.found.get(rule)) else { return };
    let bound = kappa(ALPHA) * ALPHA;
    let (_, most) = limits(pushes.hits(), pushes.runs());
    let text =
        format!("false rollbacks with a hostile model at most {} at the upper limit: {}", share(bound), share(most));
    add(text, most <= bound);
    let same = stops.rolled_back == row.evidence().rolled_back;
    add("false rollbacks and their steps as without the model that says CONTINUE".to_owned(), same);
}

fn delays(row: &Row, goal: Goal, add: &mut impl FnMut(String, bool)) {
    let delays = row.delays(0);
    for (name, q, most) in [("median", 0.5, goal.median), ("90th percentile", 0.9, goal.p90)] {
        if let Some(most) = most {
            let found = quantile(&delays, q);
            let text = format!("{name} of the delay at most {most}: {}", steps(found));
            add(text, found.is_some_and(|step| step <= most));
        }
    }
    if let Some(designed) = goal.bound {
        let bound = report::bound(&goal);
        add(format!("bound {designed}, as in the design: {bound}"), bound == designed);
    }
    if let Some(most) = goal.most_found {
        let found = to_f64(count(&delays)) / to_f64(row.evidence().runs().max(1));
        add(format!("rolled back at most {}: {}", share(most), share(found)), found <= most);
    }
}

/// A number of steps, or that there is none.
pub fn steps(step: Option<u32>) -> String {
    step.map_or_else(|| "–".to_owned(), |step| step.to_string())
}
