//! One provider after the other, until one has an opinion or the time is over.
//!
//! Role: the step function of the chain; the shell does what it says and tells what came of it. Inputs: events, and how
//! long the chain has run by a clock that never jumps. Outputs: whom to ask and how, until when to wait, or the end. It
//! always ends by its deadline. A failure is no opinion, and never reads as CONTINUE. Must never import: other rooms, a
//! clock.

use std::time::Duration;

use super::prompt::Known;
use super::reply::{self, Opinion};
use super::{Answer, Failure, Rung};

/// The outcome of a call whose reply is an opinion.
pub const ANSWERED: &str = "answered";
/// How long to wait before a retry if nobody says.
const PAUSE: Duration = Duration::from_millis(250);
/// A call that has less time than this is not worth its price.
const LEAST: Duration = Duration::from_millis(100);

/// How one provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its name.
    pub name: String,
    /// How long it has in all: calls, a retry, pauses.
    pub timeout: Duration,
    /// How often a call that met 429 or 5xx is repeated.
    pub retries: u32,
    /// How it was made to answer in JSON last time; the best way, if nobody knows.
    pub rung: Rung,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The provider that was asked answered.
    Answered(Answer),
    /// It did not.
    Failed(Failure),
    /// Nothing; the time that was waited for has come.
    TimePassed,
}

/// What to do next. Times count from the beginning of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask this provider.
    Ask {
        /// Its place in the chain.
        provider: usize,
        /// How.
        rung: Rung,
        /// When the answer is no use any more.
        deadline: Duration,
    },
    /// Do nothing until then.
    Wait {
        /// When.
        until: Duration,
    },
    /// The end.
    Done(Outcome),
}

/// What the chain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody has an opinion.
    Opinion {
        /// Whose, by its place.
        provider: usize,
        /// Which.
        opinion: Opinion,
    },
    /// Nobody has; the algorithm decides alone.
    NoOpinion,
}

/// One call, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whom, by its place.
    pub provider: usize,
    /// `llm/` and its name.
    pub decider: String,
    /// `answered`, or the word of the failure.
    pub outcome: &'static str,
    /// How long it took.
    pub milliseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Asked { since: Duration },
    Paused { until: Duration },
    Ended(Outcome),
}

/// A chain at work.
#[derive(Debug, Clone)]
pub struct Chain {
    turns: Vec<Turn>,
    known: Vec<Known>,
    deadline: Duration,
    at: usize,
    rung: Rung,
    retries: u32,
    /// When the provider's own time is over.
    until: Duration,
    place: Place,
    attempts: Vec<Attempt>,
}

impl Chain {
    /// Begins, at time 0. `known` are the ids of the prompt.
    #[must_use]
    pub fn begin(turns: Vec<Turn>, known: Vec<Known>, deadline: Duration) -> (Self, Step) {
        let place = Place::Ended(Outcome::NoOpinion);
        let until = Duration::ZERO;
        let (rung, retries, attempts) = (Rung::JsonSchema, 0, Vec::new());
        let mut chain = Self { turns, known, deadline, at: 0, rung, retries, until, place, attempts };
        let step = chain.turn(0, Duration::ZERO);
        (chain, step)
    }

    /// Goes on. What comes after the end changes nothing.
    pub fn next(&mut self, event: Event, now: Duration) -> Step {
        match (self.place.clone(), event) {
            (Place::Ended(outcome), _) => Step::Done(outcome),
            (Place::Paused { .. }, _) if now >= self.deadline => self.end(Outcome::NoOpinion),
            (Place::Paused { until }, _) if now < until => Step::Wait { until },
            (Place::Paused { .. }, _) if now.saturating_add(LEAST) > self.until => self.turn(self.at + 1, now),
            (Place::Paused { .. }, _) => self.ask(now),
            (Place::Asked { since }, _) if now >= self.until => self.failed(&Failure::Timeout, since, now),
            (Place::Asked { .. }, Event::TimePassed) => Step::Wait { until: self.until },
            (Place::Asked { since }, Event::Failed(failure)) => self.failed(&failure, since, now),
            (Place::Asked { since }, Event::Answered(answer)) => match reply::read(&answer.text, &self.known) {
                Ok(opinion) => {
                    self.note(ANSWERED, since, now);
                    self.end(Outcome::Opinion { provider: self.at, opinion })
                }
                Err(failure) => self.failed(&failure, since, now),
            },
        }
    }

    /// Every call so far, in order.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// How the provider that was asked last is asked best, as far as this chain found out.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
    }

    fn failed(&mut self, failure: &Failure, since: Duration, now: Duration) -> Step {
        self.note(failure.word(), since, now);
        if now >= self.deadline {
            return self.end(Outcome::NoOpinion);
        }
        let lower = match self.rung {
            Rung::JsonSchema => Some(Rung::JsonObject),
            Rung::JsonObject => Some(Rung::Text),
            Rung::Text => None,
        };
        match (failure, lower) {
            (Failure::RateLimited(_) | Failure::Server(_), _) if self.retries > 0 => {
                self.retries -= 1;
                let pause = if let Failure::RateLimited(Some(pause)) = failure { *pause } else { PAUSE };
                self.pause(now.saturating_add(pause), now)
            }
            (Failure::Refused(_) | Failure::Unreadable | Failure::Empty, Some(lower))
                if now.saturating_add(LEAST) <= self.until =>
            {
                self.rung = lower;
                self.ask(now)
            }
            _ => self.turn(self.at + 1, now),
        }
    }

    /// Waits for a retry, if there is time left for it then.
    fn pause(&mut self, until: Duration, now: Duration) -> Step {
        if until.saturating_add(LEAST) > self.until {
            return self.turn(self.at + 1, now);
        }
        self.place = Place::Paused { until };
        Step::Wait { until }
    }

    /// The next provider's turn.
    fn turn(&mut self, at: usize, now: Duration) -> Step {
        let Some(turn) = self.turns.get(at).filter(|_| now.saturating_add(LEAST) <= self.deadline) else {
            return self.end(Outcome::NoOpinion);
        };
        self.at = at;
        self.rung = turn.rung;
        self.retries = turn.retries;
        self.until = now.saturating_add(turn.timeout).min(self.deadline);
        self.ask(now)
    }

    fn ask(&mut self, now: Duration) -> Step {
        self.place = Place::Asked { since: now };
        Step::Ask { provider: self.at, rung: self.rung, deadline: self.until }
    }

    fn end(&mut self, outcome: Outcome) -> Step {
        self.place = Place::Ended(outcome.clone());
        Step::Done(outcome)
    }

    fn note(&mut self, outcome: &'static str, since: Duration, now: Duration) {
        let decider = self.turns.get(self.at).map_or_else(String::new, |turn| format!("llm/{}", turn.name));
        let milliseconds = u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        self.attempts.push(Attempt { provider: self.at, decider, outcome, milliseconds });
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
