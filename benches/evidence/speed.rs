//! What one signal and step costs: time, state, allocations.

use std::alloc::System;
use std::hint::black_box;
use std::mem::size_of;
use std::time::Instant;

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::process::{Harm, HarmTest, Onset, Safety, SafetyTest};
use serde_json::{Value, json};
use stats_alloc::{Region, StatsAlloc};

use crate::generator::Dice;
use crate::rules::{ALPHA, BETA, ERRORS};

const ROUNDS: u32 = 200_000;
/// Signals of an ordinary guard: errors of grown-up and of young pods, three boundaries of latency.
const SIGNALS: usize = 5;

/// The figures.
pub struct Speed {
    nanoseconds: f64,
    allocations: usize,
    bytes: usize,
}

/// One harm and one safety process, fed with counts drawn before.
pub fn measure(allocator: &StatsAlloc<System>) -> Speed {
    let mut dice = Dice::new("step", 0);
    let counts: Vec<_> = (0..1000).map(|_| (dice.requests(750, 0.01), dice.requests(750, 0.01))).collect();
    let harm_test = HarmTest::new(ERRORS, 1.0, ALPHA);
    let safety_test = SafetyTest::new(ERRORS, 1.0, BETA);
    let onset = Onset { start_mass: 0.5, steps: 120 };
    let (mut harm, mut safety) = (Harm::default(), Safety::default());
    let region = Region::new(allocator);
    let started = Instant::now();
    for (_, (new, old)) in (0..ROUNDS).zip(counts.iter().cycle()) {
        harm.step(onset, harm_test.cap(), &harm_test.increments(*new, *old));
        safety.step(safety_test.cap(), &safety_test.increments(*new, *old));
        black_box((harm.ln_e(), safety.ln_e()));
    }
    let nanoseconds = started.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS);
    let change = region.change();
    Speed {
        nanoseconds,
        allocations: change.allocations + change.reallocations,
        bytes: size_of::<Harm>() + size_of::<Safety>(),
    }
}

impl Speed {
    pub fn sentence(&self) -> String {
        format!(
            "one signal and step: {:.0} ns, {} allocations in {ROUNDS} steps; state {} bytes a signal, {} bytes a guard of \
             {SIGNALS} signals",
            self.nanoseconds,
            self.allocations,
            self.bytes,
            SIGNALS * self.bytes
        )
    }

    pub fn json(&self) -> Value {
        let allocations = to_f64(u64::try_from(self.allocations).unwrap_or(u64::MAX)) / f64::from(ROUNDS);
        json!({"nanosecondsPerSignalAndStep": self.nanoseconds, "allocationsPerStep": allocations,
            "bytesPerSignal": self.bytes, "bytesPerGuard": SIGNALS * self.bytes})
    }
}
