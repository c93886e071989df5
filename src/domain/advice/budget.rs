//! What a class may spend on models: calls, tokens and money, an hour and a day.
//!
//! Role: counts before a call what it may cost at most, and after it what it did cost. Inputs: limits, prices, tokens,
//! `now`. Outputs: leave to call, or which budget is used up. Whole numbers only; money in millionths of a dollar. A clock
//! that jumps back gives no budget anew. Must never import: other rooms, a clock.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Usage;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What may be spent; nothing set is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Calls in an hour.
    pub calls_per_hour: Option<u64>,
    /// Calls in a day.
    pub calls_per_day: Option<u64>,
    /// Tokens in an hour, prompt and reply.
    pub tokens_per_hour: Option<u64>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// Millionths of a dollar in a day.
    pub spend_per_day: Option<u64>,
}

/// What a million tokens cost, in millionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// Of prompts.
    pub input: u64,
    /// Of replies.
    pub output: u64,
}

impl Price {
    /// What these tokens cost, rounded up.
    #[must_use]
    pub fn of(self, usage: Usage) -> u64 {
        let part = |price: u64, tokens: u64| u128::from(price) * u128::from(tokens);
        let exact = part(self.input, usage.input).saturating_add(part(self.output, usage.output));
        u64::try_from(exact.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// Which budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exhausted {
    /// Calls of the hour.
    CallsPerHour,
    /// Calls of the day.
    CallsPerDay,
    /// Tokens of the hour.
    TokensPerHour,
    /// Tokens of the day.
    TokensPerDay,
    /// Money of the day.
    SpendPerDay,
}

impl Exhausted {
    /// The field of the class that set it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallsPerHour => "callsPerHour",
            Self::CallsPerDay => "callsPerDay",
            Self::TokensPerHour => "tokensPerHour",
            Self::TokensPerDay => "tokensPerDay",
            Self::SpendPerDay => "spendPerDay",
        }
    }
}

/// What was used in one stretch of time, with what is reserved in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// When it began; none before the first call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Calls.
    pub calls: u64,
    /// Tokens.
    pub tokens: u64,
    /// Millionths of a dollar.
    pub spend: u64,
    /// How often it began anew, so that what was reserved in an earlier one is not given back to this one.
    #[serde(skip)]
    turn: u64,
}

impl Used {
    /// As it was written down.
    #[must_use]
    pub const fn stored(since: Option<Timestamp>, calls: u64, tokens: u64, spend: u64) -> Self {
        Self { since, calls, tokens, spend, turn: 0 }
    }

    /// Counts a call of a day, without a limit.
    pub fn count(&mut self, usage: Usage, price: Price, now: Timestamp) {
        self.roll(DAY, now);
        self.add(usage.input.saturating_add(usage.output), price.of(usage));
    }

    /// What of it is of this day.
    #[must_use]
    pub fn in_day(mut self, now: Timestamp) -> Self {
        self.roll(DAY, now);
        self
    }

    fn roll(&mut self, length: SignedDuration, now: Timestamp) {
        match self.since {
            // The clock went back: what was used stays used, for one more length at most.
            Some(since) if now < since => self.since = Some(now),
            Some(since) if now.duration_since(since) < length => {}
            _ => *self = Self { since: Some(now), turn: self.turn.wrapping_add(1), ..Self::default() },
        }
    }

    fn add(&mut self, tokens: u64, spend: u64) {
        self.calls = self.calls.saturating_add(1);
        self.tokens = self.tokens.saturating_add(tokens);
        self.spend = self.spend.saturating_add(spend);
    }

    fn correct(&mut self, turn: u64, (tokens, spend): (u64, u64), (used, spent): (u64, u64)) {
        if self.turn == turn {
            self.tokens = self.tokens.saturating_sub(tokens).saturating_add(used);
            self.spend = self.spend.saturating_sub(spend).saturating_add(spent);
        }
    }

    fn give_back(&mut self, turn: u64, (tokens, spend): (u64, u64)) {
        if self.turn == turn {
            self.calls = self.calls.saturating_sub(1);
            self.tokens = self.tokens.saturating_sub(tokens);
            self.spend = self.spend.saturating_sub(spend);
        }
    }
}

/// What a class has used. An hour and a day begin with their first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Budget {
    /// In this hour.
    pub hour: Used,
    /// In this day.
    pub day: Used,
}

/// What was set aside for one call. To be settled or given back; if neither happens, it counts as used.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "settle it after the call, or give it back if nothing was sent"]
pub struct Reservation {
    tokens: u64,
    spend: u64,
    hour: u64,
    day: u64,
    price: Price,
}

impl Budget {
    /// What is used by now: an hour or a day that is over shows nothing.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.hour.roll(HOUR, now);
        self.day.roll(DAY, now);
        self
    }

    /// Sets aside what one call may cost at most.
    ///
    /// # Errors
    /// Which budget has not enough left; then nothing is set aside.
    pub fn reserve(
        &mut self,
        limits: &Limits,
        price: Price,
        most: Usage,
        now: Timestamp,
    ) -> Result<Reservation, Exhausted> {
        let mut next = self.at(now);
        let (tokens, spend) = (most.input.saturating_add(most.output), price.of(most));
        next.hour.add(tokens, spend);
        next.day.add(tokens, spend);
        let checks = [
            (limits.calls_per_hour, next.hour.calls, Exhausted::CallsPerHour),
            (limits.calls_per_day, next.day.calls, Exhausted::CallsPerDay),
            (limits.tokens_per_hour, next.hour.tokens, Exhausted::TokensPerHour),
            (limits.tokens_per_day, next.day.tokens, Exhausted::TokensPerDay),
            (limits.spend_per_day, next.day.spend, Exhausted::SpendPerDay),
        ];
        if let Some((_, _, exhausted)) =
            checks.into_iter().find(|(limit, used, _)| limit.is_some_and(|most| *used > most))
        {
            return Err(exhausted);
        }
        *self = next;
        Ok(Reservation { tokens, spend, hour: self.hour.turn, day: self.day.turn, price })
    }

    /// Counts what the call did cost. Where the provider does not say, it counts as what was set aside.
    pub fn settle(&mut self, reservation: Reservation, usage: Usage) {
        if usage == Usage::default() {
            return;
        }
        let aside = (reservation.tokens, reservation.spend);
        let used = (usage.input.saturating_add(usage.output), reservation.price.of(usage));
        self.hour.correct(reservation.hour, aside, used);
        self.day.correct(reservation.day, aside, used);
    }

    /// Nothing was sent.
    pub fn give_back(&mut self, reservation: Reservation) {
        let aside = (reservation.tokens, reservation.spend);
        self.hour.give_back(reservation.hour, aside);
        self.day.give_back(reservation.day, aside);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
