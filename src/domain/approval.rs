//! What a person answered to a decision that waits for them.
//!
//! Role: reads answers, which are annotations that anybody with the right to write them can write. Inputs: their text, the
//! decision that waits, `now`. Outputs: what they come to. Must never import: other rooms, a clock.

use jiff::Timestamp;

use super::plan::PendingApproval;

/// The annotation by which a person approves.
pub const APPROVE: &str = "deploymentguard.dev/approve";
/// The annotation by which a person rejects.
pub const REJECT: &str = "deploymentguard.dev/reject";
/// The annotation by which a person has a revision judged again: any value that was not there before.
pub const RETRY: &str = "deploymentguard.dev/retry";

/// Longest name of a person that is kept.
const NAME: usize = 200;

/// What the annotations say about the decision that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody answered in time.
    Expired,
    /// Somebody approved it.
    Approved {
        /// Who, as they wrote it; the admission policy sees to it that it is their own name.
        by: String,
    },
    /// Somebody rejected it.
    Rejected {
        /// Who.
        by: String,
    },
    /// Nobody answered yet.
    Waiting {
        /// An answer that is none, and why.
        ignored: Option<String>,
    },
}

/// Reads the answer. A rejection wins over an approval, and time over both.
#[must_use]
pub fn answer(approve: Option<&str>, reject: Option<&str>, pending: &PendingApproval, now: Timestamp) -> Answer {
    if now >= pending.expires {
        return Answer::Expired;
    }
    match (reject.map(|text| named(text, pending)), approve.map(|text| named(text, pending))) {
        (Some(Ok(by)), _) => Answer::Rejected { by },
        (_, Some(Ok(by))) => Answer::Approved { by },
        (None, None) => Answer::Waiting { ignored: None },
        (rejected, approved) => {
            let why = |word: &str, read: Option<Result<String, String>>| {
                read.and_then(Result::err).map(|problem| format!("the {word} {problem}"))
            };
            Answer::Waiting { ignored: why("approval", approved).or_else(|| why("rejection", rejected)) }
        }
    }
}

/// Who answers, if the text names this decision.
fn named(text: &str, pending: &PendingApproval) -> Result<String, String> {
    let wanted = &pending.decision;
    let shown: String = text.chars().take(NAME).collect();
    let (decision, by) = text.split_once(" by ").map_or((text, ""), |(decision, by)| (decision.trim(), by.trim()));
    if decision != wanted {
        return Err(format!("{shown:?} names another decision than {wanted} and does nothing"));
    }
    if by.is_empty() {
        return Err(format!("{shown:?} names nobody and does nothing; write \"{wanted} by NAME\""));
    }
    Ok(by.chars().take(NAME).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::fixture::at;
    use crate::domain::rollout::RevisionHash;

    fn pending() -> PendingApproval {
        PendingApproval {
            decision: "abc-1".into(),
            workload_uid: "u".into(),
            from: RevisionHash::new("abc"),
            to: RevisionHash::new("good"),
            asked: at(0),
            expires: at(900),
        }
    }

    fn read(approve: Option<&str>, reject: Option<&str>, second: i64) -> Answer {
        answer(approve, reject, &pending(), at(second))
    }

    #[test]
    fn only_an_answer_that_names_the_decision_and_a_person_counts() {
        let by = |name: &str| name.to_owned();
        assert_eq!(read(None, None, 1), Answer::Waiting { ignored: None });
        assert_eq!(read(Some("abc-1 by eve@shop"), None, 1), Answer::Approved { by: by("eve@shop") });
        assert_eq!(read(None, Some("abc-1 by eve"), 1), Answer::Rejected { by: by("eve") });
        for text in ["abc-1", "abc-1 by ", "abc-2 by eve", "yes", "", "abc-1 eve", "ABC-1 by eve"] {
            let Answer::Waiting { ignored: Some(why) } = read(Some(text), None, 1) else { panic!("{text:?}") };
            assert!(why.starts_with("the approval") && why.contains("does nothing"), "{why}");
        }
    }

    #[test]
    fn a_rejection_wins_over_an_approval_and_time_over_both() {
        let both = (Some("abc-1 by a"), Some("abc-1 by b"));
        assert_eq!(read(both.0, both.1, 899), Answer::Rejected { by: "b".into() });
        assert_eq!(read(both.0, both.1, 900), Answer::Expired);
        assert_eq!(read(both.0, Some("old-9 by b"), 1), Answer::Approved { by: "a".into() });
    }

    proptest! {
        #[test]
        fn no_text_without_the_decision_ever_approves(text in "\\PC{0,40}") {
            prop_assume!(!text.starts_with("abc-1 by "));
            prop_assume!(text.split_once(" by ").is_none_or(|(decision, _)| decision.trim() != "abc-1"));
            let waits = matches!(read(Some(&text), None, 1), Answer::Waiting { ignored: Some(_) });
            prop_assert!(waits);
        }
    }
}
