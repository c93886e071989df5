//! How assessments are put into words and whole numbers.
//!
//! Role: what records and status show of a contribution. Inputs: contributions. Outputs: text and integers. Must never
//! import: other rooms.

use super::{Contribution, Part};
use crate::domain::signal::Term;

impl From<&Contribution> for Part {
    fn from(contribution: &Contribution) -> Self {
        Self {
            name: contribution.term.as_str().to_owned(),
            value: contribution.value_text(),
            points: contribution.points,
        }
    }
}

impl Contribution {
    /// The measured value with its unit.
    fn value_text(&self) -> String {
        match self.term {
            Term::Errors => format!("{:.2} %", self.value),
            Term::Memory => format!("{:.1} %", self.value),
            Term::Latency => format!("{:.0} ms", self.value),
        }
    }
}

impl Part {
    /// Points taken off, in whole hundredths, as the API knows no fractions.
    #[must_use]
    pub fn points_hundredths(&self) -> i64 {
        // Points lie far below a million, so the text of the rounded number is always an integer.
        format!("{:.0}", self.points * 100.0).parse().unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_shown_in_hundredths() {
        let contribution = Contribution { term: Term::Errors, value: 12.5, points: 25.004 };
        assert_eq!(Part::from(&contribution).points_hundredths(), 2500);
        assert_eq!(contribution.value_text(), "12.50 %");
    }
}
