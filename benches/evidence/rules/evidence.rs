//! The rule that ships: e-processes over counts, a weighted mean over signals, 1/α.

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::process::{Allowance, Counts, Harm, HarmTest, Onset, Safety, SafetyTest, ln_sum};

use super::{Rule, Seen, Setup, Verdict};
use crate::generator::STEPS;

/// False rollbacks allowed, per rollout.
pub const ALPHA: f64 = 0.01;
/// False certificates allowed.
pub const BETA: f64 = 0.05;
/// What errors may rise to.
pub const ERRORS: Allowance = Allowance { ratio: 1.25, excess: 0.001 };
/// What the share of slow requests may rise to.
pub const LATENCY: Allowance = Allowance { ratio: 1.5, excess: 0.01 };
/// The bounds below which health is shown.
const SAFE_ERRORS: Allowance = Allowance { ratio: 2.0, excess: 0.002 };
const SAFE_LATENCY: Allowance = Allowance { ratio: 2.0, excess: 0.005 };
/// Errors of young pods, and the largest ratio bet on.
const YOUNG: Allowance = Allowance { ratio: 5.0, excess: 0.02 };
const YOUNG_TOP: f64 = 12.0;

enum Reads {
    Grown,
    Young,
    Slower(usize),
}

struct Part {
    ln_weight: f64,
    reads: Reads,
    test: HarmTest,
    harm: Harm,
    cap: f64,
    safety: Option<(SafetyTest, Safety)>,
}

impl Part {
    fn new(weight: f64, reads: Reads, test: HarmTest, bound: Option<SafetyTest>) -> Self {
        let safety = bound.map(|bound| (bound, Safety::default()));
        Self { ln_weight: weight.ln(), reads, cap: test.cap(), test, harm: Harm::default(), safety }
    }

    fn counts(&self, seen: &Seen) -> (Counts, Counts) {
        match self.reads {
            Reads::Grown => (seen.new, seen.old),
            Reads::Young => (seen.young, seen.old),
            Reads::Slower(bound) => seen.latency.as_ref().map_or((Counts::default(), Counts::default()), |latency| {
                (slower(&latency.new, bound, seen.new.total), slower(&latency.old, bound, seen.old.total))
            }),
        }
    }

    fn step(&mut self, seen: &Seen) {
        let (new, old) = self.counts(seen);
        self.harm.step(ONSET, self.cap, &self.test.increments(new, old));
        if let Some((test, safety)) = &mut self.safety {
            safety.step(test.cap(), &test.increments(new, old));
        }
    }
}

const ONSET: Onset = Onset { start_mass: 0.5, steps: 120 };

/// Requests slower than a bound.
pub fn slower(parts: &[u64], bound: usize, total: u64) -> Counts {
    Counts::new(total.saturating_sub(parts.get(bound).copied().unwrap_or(0)), total)
}

/// The evidence of one release.
pub struct Evidence {
    parts: Vec<Part>,
    steps: usize,
}

impl Evidence {
    pub fn new(setup: &Setup) -> Self {
        let null = Allowance { ratio: setup.ratio, ..ERRORS };
        let bound = Allowance { ratio: SAFE_ERRORS.ratio.max(setup.ratio), ..SAFE_ERRORS };
        let [grown, young, latency] = setup.weights;
        let mut parts = Vec::new();
        if grown > 0.0 {
            let safety = SafetyTest::new(bound, setup.phi, BETA);
            parts.push(Part::new(grown, Reads::Grown, HarmTest::new(null, setup.phi, ALPHA), Some(safety)));
        }
        if young > 0.0 {
            let test = HarmTest::with_top(YOUNG, setup.phi, ALPHA, YOUNG_TOP);
            parts.push(Part::new(young, Reads::Young, test, None));
        }
        let share = latency / to_f64(u64::try_from(setup.boundaries.len().max(1)).unwrap_or(1));
        for boundary in setup.boundaries.iter().filter(|_| latency > 0.0) {
            let safety = SafetyTest::new(SAFE_LATENCY, 1.0, BETA);
            let test = HarmTest::new(LATENCY, 1.0, ALPHA);
            parts.push(Part::new(share, Reads::Slower(*boundary), test, Some(safety)));
        }
        if !setup.capped {
            for part in &mut parts {
                part.cap = f64::INFINITY;
            }
        }
        Self { parts, steps: 0 }
    }

    /// ln E. Weight that no signal has stays where it was at the start, at E = 1.
    pub fn ln_e(&self) -> f64 {
        let each: Vec<f64> = self.parts.iter().map(|part| part.ln_weight + part.harm.ln_e()).collect();
        ln_sum(&each)
    }

    fn safe(&self) -> bool {
        let mut shown = self.parts.iter().filter_map(|part| part.safety.as_ref()).map(|(_, safety)| safety.ln_e());
        shown.all(|ln_e| ln_e >= -BETA.ln())
    }
}

impl Rule for Evidence {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        self.steps += 1;
        for part in &mut self.parts {
            part.step(seen);
        }
        let ln_e = self.ln_e();
        if ln_e >= -ALPHA.ln() {
            return Some(Verdict::RollBack);
        }
        let certified = self.steps * 3 >= STEPS && ln_e <= 0.0 && self.safe();
        certified.then_some(Verdict::Certified)
    }
}
