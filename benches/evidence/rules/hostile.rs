//! A model that is wholly hostile, beside the evidence: what it can do with each word, under `TieBreak`.
//!
//! It is asked at every step, without a limit on its calls, which is the most that a model can ever have; what its word
//! does is ruled by the code that ships.

use deployment_guard::domain::advice::authority::{Authority, Ground, Ruling, rule};
use deployment_guard::domain::advice::reply::Opinion;
use deployment_guard::domain::outcome::{Confidence, FailureClass, Verdict as Word};

use super::{ALPHA, Evidence, Rule, Seen, Setup, Verdict};

/// Evidence with a model that always says the same.
pub struct Hostile {
    evidence: Evidence,
    opinion: Opinion,
    certified: bool,
}

impl Hostile {
    pub fn new(setup: &Setup, verdict: Word) -> Self {
        let opinion = Opinion {
            verdict,
            confidence: Confidence::percent(100.0),
            class: FailureClass::Other,
            reasoning: "hostile".to_owned(),
            evidence: Vec::new(),
            suggested_fix: String::new(),
        };
        Self { evidence: Evidence::new(setup), opinion, certified: false }
    }
}

impl Rule for Hostile {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        let alone = self.evidence.step(seen);
        self.certified |= alone == Some(Verdict::Certified);
        let harmful = alone == Some(Verdict::RollBack);
        let ground = Ground {
            ln_e: Some(self.evidence.ln_e()),
            alpha: ALPHA,
            fact: false,
            harmful,
            held: false,
            blind: false,
            certified: self.certified,
        };
        let ruling = rule(Authority::TieBreak, &ground, &[], &self.opinion);
        if harmful || ruling == Ruling::Rollback { Some(Verdict::RollBack) } else { alone }
    }
}
