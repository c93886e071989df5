//! Tables and JSON, and the marked part of `docs/evidence.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use deployment_guard::domain::evidence::number::to_f64;
use serde_json::{Value, json};

use crate::goals::{self, Reached, steps};
use crate::rules::{ALPHA, ERRORS, HOSTILE, NAMES};
use crate::runner::{Decided, count};
use crate::scenarios::{Goal, Kind, Scenario};
use crate::statistics::{limits, quantile, two_stream_bound};

const BEGIN: &str = "<!-- evidence:begin -->";
const END: &str = "<!-- evidence:end -->";

/// A scenario with what came of it.
pub struct Row {
    pub scenario: Scenario,
    pub found: Vec<Decided>,
}

impl Row {
    /// What the rule that ships decided.
    pub fn evidence(&self) -> &Decided {
        static NONE: Decided = Decided { rolled_back: Vec::new(), certified: Vec::new() };
        self.found.first().unwrap_or(&NONE)
    }

    /// Steps from the onset to the rollback; a rollback before the onset is none.
    pub fn delays(&self, rule: usize) -> Vec<Option<u32>> {
        let onset = if let Kind::Regression(goal) = &self.scenario.kind { goal.onset } else { 0 };
        let all = self.found.get(rule).map(|found| found.rolled_back.as_slice()).unwrap_or_default();
        all.iter().map(|step| step.and_then(|step| step.checked_sub(onset)).filter(|delay| *delay > 0)).collect()
    }
}

/// A share in percent, with as many digits as it has.
pub fn share(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent >= 100.0 {
        format!("{percent:.0} %")
    } else if percent >= 99.95 {
        "> 99.9 %".to_owned()
    } else if percent < 10.0 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

fn rate(found: &Decided) -> f64 {
    to_f64(found.hits()) / to_f64(found.runs().max(1))
}

fn heads(first: &[&str], others: bool, last: &[&str]) -> String {
    let others = if others { &NAMES[1..] } else { &[] };
    let all: Vec<&str> = first.iter().chain(others).chain(last).copied().collect();
    format!("| {} |\n|{}|\n", all.join(" | "), vec!["---"; all.len()].join("|"))
}

/// Which healthy releases a table is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Inside,
    Outside,
    Without,
}

impl Group {
    /// The group of a release, and what protects it.
    fn of(kind: &Kind) -> Option<(Self, &'static str)> {
        match kind {
            Kind::Inside => Some((Self::Inside, "")),
            Kind::Outside { protects } => Some((Self::Outside, protects)),
            Kind::Without { protects } => Some((Self::Without, protects)),
            Kind::Regression(_) | Kind::AtTheBound => None,
        }
    }
}

/// False rollbacks of one group of healthy releases.
fn null_table(rows: &[Row], group: Group) -> String {
    let last = match group {
        Group::Inside => &[][..],
        Group::Outside => &["what protects"],
        Group::Without => &["what was taken away"],
    };
    let others = group != Group::Without;
    let mut text = heads(&["release", "**evidence** (95 % limits)"], others, last);
    for row in rows {
        let Some((_, protects)) = Group::of(&row.scenario.kind).filter(|(of, _)| *of == group) else { continue };
        let ours = row.evidence();
        let (low, high) = limits(ours.hits(), ours.runs());
        let limits = format!("**{}** ({} to {})", share(rate(ours)), share(low), share(high));
        let _ = write!(text, "| `{}` {} | {limits} |", row.scenario.name, row.scenario.about);
        for other in row.found.iter().take(NAMES.len()).skip(1).filter(|_| others) {
            let _ = write!(text, " {} |", share(rate(other)));
        }
        if !last.is_empty() {
            let _ = write!(text, " {protects} |");
        }
        text.push('\n');
    }
    text
}

/// The bound in steps, if there is one.
pub fn bound(goal: &Goal) -> String {
    let Some(pair) = goal.pair else { return "–".to_owned() };
    let bound = two_stream_bound(pair, ERRORS, ALPHA);
    if bound < 2.0 { format!("{bound:.2}") } else { format!("{bound:.1}") }
}

/// Delays of bad releases: found in time, median and 90th percentile.
fn delay_table(rows: &[Row]) -> String {
    let mut text = heads(&["release", "bound", "**evidence**"], true, &[]);
    for row in rows {
        let Kind::Regression(goal) = &row.scenario.kind else { continue };
        let bound = bound(goal);
        let _ = write!(text, "| `{}` {} | {bound} |", row.scenario.name, row.scenario.about);
        for rule in 0..row.found.len().min(NAMES.len()) {
            let delays = row.delays(rule);
            let found = to_f64(count(&delays)) / to_f64(row.evidence().runs().max(1));
            let cell = if count(&delays) == 0 {
                "never".to_owned()
            } else {
                let all = if found < 1.0 { format!(" ({})", share(found)) } else { String::new() };
                format!("{} / {}{all}", steps(quantile(&delays, 0.5)), steps(quantile(&delays, 0.9)))
            };
            let _ = write!(text, " {} |", if rule == 0 { format!("**{cell}**") } else { cell });
        }
        text.push('\n');
    }
    text
}

/// What a hostile model makes of releases inside the guarantee, and of bad ones.
fn hostile_table(rows: &[Row]) -> String {
    let mut text =
        "| release | evidence alone | and a model that always says ROLLBACK (95 % limits) | and one that always says \
                    CONTINUE |\n|---|---|---|---|\n"
            .to_owned();
    for row in rows.iter().filter(|row| matches!(row.scenario.kind, Kind::Inside | Kind::Regression(_))) {
        let [Some(pushes), Some(stops)] = HOSTILE.map(|rule| row.found.get(rule)) else { continue };
        let (low, high) = limits(pushes.hits(), pushes.runs());
        let _ = writeln!(
            text,
            "| `{}` {} | {} | {} ({} to {}) | {} |",
            row.scenario.name,
            row.scenario.about,
            share(rate(row.evidence())),
            share(rate(pushes)),
            share(low),
            share(high),
            share(rate(stops)),
        );
    }
    text
}

/// When healthy releases are certified, and how seldom bad ones.
fn certificate_table(rows: &[Row]) -> String {
    let mut text = "| release | certified | median step | 90th percentile |\n|---|---|---|---|\n".to_owned();
    let shown = |row: &&Row| {
        matches!(row.scenario.kind, Kind::AtTheBound)
            || matches!(row.scenario.kind, Kind::Inside)
            || row.scenario.name == "1-to-2"
    };
    for row in rows.iter().filter(shown) {
        let certified = &row.evidence().certified;
        let found = to_f64(count(certified)) / to_f64(row.evidence().runs().max(1));
        let _ = writeln!(
            text,
            "| `{}` {} | {} | {} | {} |",
            row.scenario.name,
            row.scenario.about,
            share(found),
            steps(quantile(certified, 0.5)),
            steps(quantile(certified, 0.9))
        );
    }
    text
}

/// Everything between the marks.
pub fn markdown(rows: &[Row], runs: u64) -> String {
    let runs = if runs == 4000 { "4,000".to_owned() } else { runs.to_string() };
    let mut text = format!(
        "{BEGIN}\n*Written by `make bench-evidence`: {runs} runs of each release, 120 steps of 15 s each, every rule on the \
         same counts. A rollback at any step counts.*\n\n"
    );
    let _ = write!(
        text,
        "### Healthy releases inside the guarantee: rolled back\n\n{}\n![False rollbacks](evidence/false-rollbacks.svg)\n\n\
         ### Healthy releases outside the guarantee: rolled back\n\n{}\n\
         ### Healthy releases without one of the protections: rolled back\n\n{}\n\
         ### Bad releases: steps to the rollback\n\nMedian / 90th percentile of the steps since the harm began; in brackets the \
         share that is found within 30 minutes, where it is not all. A step is 15 s.\n\n{}\n\
         ![Delay](evidence/delay.svg)\n\n### Certificates\n\n{}\n\
         ### A wholly hostile model under `authority: TieBreak`: rolled back\n\nIt is asked at every step. The bound is κα = \
         10 %, and a model can stop nothing.\n\n{}\n",
        null_table(rows, Group::Inside),
        null_table(rows, Group::Outside),
        null_table(rows, Group::Without),
        delay_table(rows),
        certificate_table(rows),
        hostile_table(rows)
    );
    text.push_str(&goal_table(rows));
    text.push_str(END);
    text
}

/// What must be reached. Of the goals that are the same for many releases only the missed ones are listed.
fn goal_table(rows: &[Row]) -> String {
    let all: Vec<Reached> = rows.iter().flat_map(goals::of).collect();
    let common: Vec<&Reached> = all.iter().filter(|goal| goal.common).collect();
    let met = common.iter().filter(|goal| goal.met).count();
    let mut text = format!(
        "### Goals\n\nFalse rollbacks at most {} at the upper limit, for each release inside the guarantee, evidence and judge; at \
         most κα with a model that always says ROLLBACK, and the same with one that always says CONTINUE: \
         {met} of {} reached.\n\n| release | goal, and what was measured | |\n|---|---|---|\n",
        share(ALPHA),
        common.len()
    );
    for goal in all.iter().filter(|goal| !goal.common || !goal.met) {
        let _ = writeln!(text, "| `{}` | {} | {} |", goal.scenario, goal.text, word(goal));
    }
    text
}

/// Whether a goal was reached, as a word.
fn word(goal: &Reached) -> &'static str {
    if goal.met { "reached" } else { "**missed**" }
}

/// Replaces the part between the marks.
pub fn rewrite(path: &Path, part: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("docs/evidence.md has no begin mark")?;
    let (_, after) = rest.split_once(END).context("docs/evidence.md has no end mark")?;
    fs::write(path, format!("{before}{part}{after}"))?;
    Ok(())
}

/// The same as data.
pub fn as_json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            let rules: Vec<Value> = row
                .found
                .iter()
                .zip(NAMES.into_iter().chain(["a model that says ROLLBACK", "a model that says CONTINUE"]))
                .enumerate()
                .map(|(index, (found, name))| {
                    let delays = row.delays(index);
                    let (low, high) = limits(found.hits(), found.runs());
                    json!({"rule": name, "rolledBack": found.hits(), "limits": [low, high],
                        "median": quantile(&delays, 0.5), "p90": quantile(&delays, 0.9),
                        "certified": count(&found.certified)})
                })
                .collect();
            json!({"scenario": row.scenario.name, "about": row.scenario.about, "runs": row.evidence().runs(), "rules": rules})
        })
        .collect()
}
