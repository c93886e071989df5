//! Many runs of each scenario, all rules on the same data.
//!
//! Role: two threads, and results that do not depend on them. Inputs: scenarios. Outputs: when each rule decided.

use std::thread;

use crate::generator::Dice;
use crate::rules::{self, Verdict};
use crate::scenarios::Scenario;

/// Threads; the order of results does not depend on it.
const THREADS: u64 = 2;

/// When one rule decided in each run; steps count from 1.
#[derive(Clone, Default)]
pub struct Decided {
    pub rolled_back: Vec<Option<u32>>,
    pub certified: Vec<Option<u32>>,
}

impl Decided {
    /// Runs rolled back.
    pub fn hits(&self) -> u64 {
        count(&self.rolled_back)
    }

    pub fn runs(&self) -> u64 {
        u64::try_from(self.rolled_back.len()).unwrap_or(0)
    }
}

/// How many runs came to an end.
pub fn count(steps: &[Option<u32>]) -> u64 {
    u64::try_from(steps.iter().flatten().count()).unwrap_or(0)
}

/// All runs of a scenario; one entry a rule, as in `rules::NAMES`, and then `rules::HOSTILE`.
pub fn run(scenario: &Scenario, runs: u64) -> Vec<Decided> {
    let share = runs.div_ceil(THREADS);
    let mut parts = thread::scope(|scope| {
        let handles: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || stretch(scenario, thread * share, runs.min((thread + 1) * share))))
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let mut all = parts.remove(0);
    for part in parts {
        for (all, part) in all.iter_mut().zip(part) {
            all.rolled_back.extend(part.rolled_back);
            all.certified.extend(part.certified);
        }
    }
    all
}

fn stretch(scenario: &Scenario, from: u64, to: u64) -> Vec<Decided> {
    let mut found = vec![Decided::default(); rules::COUNT];
    for number in from..to {
        let run = (scenario.make)(&mut Dice::new(scenario.name, number));
        let mut before = Dice::new("before", number);
        for (found, mut rule) in found.iter_mut().zip(rules::all(&run, &mut before)) {
            let (mut rolled_back, mut certified) = (None, None);
            for (step, seen) in (1..).zip(&run.seen) {
                match rule.step(seen) {
                    Some(Verdict::RollBack) => {
                        rolled_back = Some(step);
                        break;
                    }
                    Some(Verdict::Certified) if certified.is_none() => certified = Some(step),
                    Some(Verdict::Certified) | None => {}
                }
            }
            found.rolled_back.push(rolled_back);
            found.certified.push(certified);
        }
    }
    found
}
