//! Who fails again and again is left alone for a while.
//!
//! Role: a circuit breaker of one provider as plain state. Inputs: what came of its calls, and when. Outputs: whether it
//! may be asked. A clock that jumps back never keeps it shut for longer than once its time. Must never import: other
//! rooms, a clock.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Failure;

/// Failures in a row that open it.
pub const FAILURES: u32 = 3;
/// How long it stays open, and how long a probe may take until another one is sent.
pub const OPEN_FOR: SignedDuration = SignedDuration::from_secs(60);

/// The state of one provider's breaker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Until when nobody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_until: Option<Timestamp>,
}

/// What it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// Calls pass.
    Closed,
    /// No call passes until then.
    Open(Timestamp),
    /// The next call is a probe, and the only one.
    HalfOpen,
}

impl Position {
    /// The word in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Open(_) => "Open",
            Self::HalfOpen => "HalfOpen",
        }
    }
}

impl Breaker {
    /// What it is doing.
    #[must_use]
    pub fn position(&self, now: Timestamp) -> Position {
        match self.open_until {
            None => Position::Closed,
            Some(until) if now < until => {
                // Set before the clock went back.
                let most = later(now);
                Position::Open(until.min(most))
            }
            Some(_) => Position::HalfOpen,
        }
    }

    /// Takes the turn for a call, if there is one. Of many that ask while it is half open, one gets it.
    ///
    /// # Errors
    /// [`Failure::BreakerOpen`], if there is none.
    pub fn admit(&mut self, now: Timestamp) -> Result<(), Failure> {
        match self.position(now) {
            Position::Closed => Ok(()),
            Position::Open(until) => {
                self.open_until = Some(until);
                Err(Failure::BreakerOpen)
            }
            Position::HalfOpen => {
                // If nobody ever reports what came of the probe, the next one is due after the same time.
                self.open_until = Some(later(now));
                Ok(())
            }
        }
    }

    /// It answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed. What the text of one workload can cause closes the provider to no other.
    pub fn failed(&mut self, failure: &Failure, now: Timestamp) {
        match blame(failure) {
            Blame::Nobody => {}
            Blame::Reply => self.succeeded(),
            Blame::Provider => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= FAILURES {
                    self.open_until = Some(later(now));
                }
            }
        }
    }
}

/// Whose failure it is.
enum Blame {
    /// It was not asked.
    Nobody,
    /// It answered, though nothing of use.
    Reply,
    /// It does not work.
    Provider,
}

const fn blame(failure: &Failure) -> Blame {
    match failure {
        Failure::BreakerOpen | Failure::BudgetExhausted | Failure::NotSendable => Blame::Nobody,
        Failure::TooLarge
        | Failure::Truncated
        | Failure::Declined
        | Failure::Empty
        | Failure::Unreadable
        | Failure::Invalid => Blame::Reply,
        Failure::Timeout
        | Failure::Unreachable
        | Failure::Tls
        | Failure::Unauthorized
        | Failure::UnknownModel
        | Failure::RateLimited(_)
        | Failure::Server(_)
        | Failure::Refused(_)
        | Failure::Redirected => Blame::Provider,
    }
}

fn later(now: Timestamp) -> Timestamp {
    now.checked_add(OPEN_FOR).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(at(0)), Ok(()));
            breaker.failed(&Failure::Timeout, at(0));
        }
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it_for_a_minute() {
        let mut breaker = open();
        assert_eq!(breaker.position(at(0)), Position::Open(at(60)));
        assert_eq!(breaker.admit(at(59)), Err(Failure::BreakerOpen));
        assert_eq!(breaker.admit(at(60)), Ok(()));
    }

    #[test]
    fn an_answer_between_failures_begins_the_count_anew() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(&Failure::Server(503), at(0));
            breaker.failed(&Failure::Server(503), at(0));
            breaker.succeeded();
        }
        assert_eq!(breaker.position(at(0)), Position::Closed);
    }

    #[test]
    fn one_probe_passes_and_decides() {
        let mut breaker = open();
        assert_eq!(breaker.position(at(61)), Position::HalfOpen);
        let passed = (0..1000).filter(|_| breaker.admit(at(61)).is_ok()).count();
        assert_eq!(passed, 1);
        let mut healed = breaker.clone();
        healed.succeeded();
        assert_eq!(healed.position(at(61)), Position::Closed);
        breaker.failed(&Failure::Timeout, at(65));
        assert_eq!(breaker.admit(at(124)), Err(Failure::BreakerOpen));
        assert_eq!(breaker.admit(at(125)), Ok(()));
    }

    #[test]
    fn a_probe_that_nobody_reports_is_followed_by_another() {
        let mut breaker = open();
        assert_eq!(breaker.admit(at(60)), Ok(()));
        assert_eq!(breaker.admit(at(119)), Err(Failure::BreakerOpen));
        assert_eq!(breaker.admit(at(120)), Ok(()));
    }

    #[test]
    fn what_a_workload_can_write_into_a_prompt_opens_no_breaker() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(&Failure::Declined, at(0));
            breaker.failed(&Failure::Invalid, at(0));
            breaker.failed(&Failure::BudgetExhausted, at(0));
        }
        assert_eq!(breaker.position(at(0)), Position::Closed);
    }

    proptest! {
        #[test]
        fn however_the_clock_jumps_it_is_never_shut_for_longer_than_a_minute(
            opened in -1_000_000_i64..1_000_000, asked in -1_000_000_i64..1_000_000,
        ) {
            let mut breaker = Breaker::default();
            for _ in 0..FAILURES {
                breaker.failed(&Failure::Timeout, at(opened));
            }
            let first = breaker.admit(at(asked));
            prop_assert!(first.is_ok() || breaker.admit(at(asked + 60)).is_ok());
        }

        #[test]
        fn its_state_comes_back_from_status(failures in 0_u32..6, now in 0_i64..100) {
            let mut breaker = Breaker::default();
            for _ in 0..failures {
                breaker.failed(&Failure::Tls, at(now));
            }
            let stored = serde_json::to_string(&breaker).unwrap();
            prop_assert_eq!(serde_json::from_str::<Breaker>(&stored).unwrap(), breaker);
        }
    }
}
