//! The tables at the end. Input: outcomes. Output: Markdown.

use std::fmt::Write as _;

use crate::outcome::Outcome;

/// Per kind of release, then each one with what the guard said.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| release | rollout | must be | right | push → first sample | push → undo | first bad answer → undo |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for group in outcomes.chunk_by(same_kind) {
        let Some(first) = group.first() else { continue };
        let right = group.iter().filter(|outcome| outcome.right()).count();
        let wanted = if first.trial.scenario.bad { "undone" } else { "kept" };
        let _ = writeln!(
            text,
            "| {} | {} | {wanted} | {right} of {} | {} | {} | {} |",
            first.trial.scenario.name,
            first.trial.rollout.word(),
            group.len(),
            spread(group.iter().filter_map(|outcome| outcome.measured.push_to_sample)),
            spread(group.iter().filter_map(|outcome| outcome.measured.push_to_undo)),
            spread(group.iter().filter_map(|outcome| outcome.measured.bad_to_undo)),
        );
    }
    text.push_str("\n| release | | became | bad answers | score | confidence | why |\n|---|---|---|---|---|---|---|\n");
    text.extend(outcomes.iter().map(row));
    text
}

/// The sums, in a sentence.
pub fn summary(outcomes: &[Outcome]) -> String {
    let count = |bad: bool, right: Option<bool>| {
        let fits = |outcome: &&Outcome| {
            outcome.trial.scenario.bad == bad && right.is_none_or(|right| outcome.right() == right)
        };
        outcomes.iter().filter(fits).count()
    };
    format!(
        "bad releases: {} of {} undone; healthy releases: {} of {} kept",
        count(true, Some(true)),
        count(true, None),
        count(false, Some(true)),
        count(false, None)
    )
}

fn same_kind(one: &Outcome, next: &Outcome) -> bool {
    one.trial.scenario.name == next.trial.scenario.name && one.trial.rollout == next.trial.rollout
}

fn row(outcome: &Outcome) -> String {
    let decision = &outcome.measured.decision;
    let number = |field: &str| decision[field].as_i64().map_or("–".to_owned(), |number| number.to_string());
    format!(
        "| {} | {} {} | {} | {} | {} | {} | {} |\n",
        outcome.trial.scenario.name,
        outcome.trial.rollout.word(),
        outcome.trial.number,
        outcome.measured.verdict.word(),
        outcome.measured.answers.bad(),
        number("healthScore"),
        number("confidence"),
        outcome.why().replace('|', "\\|").replace('\n', " "),
    )
}

/// One value as it is, several as median and range; in seconds.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => "–".to_owned(),
        [one] => format!("{one:.1} s"),
        [least, .., most] => {
            let median = sorted.get(sorted.len() / 2).unwrap_or(most);
            format!("{median:.1} s ({least:.1}–{most:.1})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn several_values_are_shown_as_median_and_range() {
        assert_eq!(spread([].into_iter()), "–");
        assert_eq!(spread([4.25].into_iter()), "4.2 s");
        assert_eq!(spread([9.0, 1.0, 3.0].into_iter()), "3.0 s (1.0–9.0)");
    }
}
