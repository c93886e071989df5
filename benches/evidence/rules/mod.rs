//! Who judges: this project's evidence, and the rules it is compared with, all on the same closed steps.
//!
//! Role: the trait and the list. The rules of others are written from their documentation (`docs/evidence.md` cites it),
//! with every doubt decided in their favour: they read the same clean counts, pay no time for discovery or for acting.

mod evidence;
mod hostile;
mod judge;
mod kayenta;
mod thresholds;

use deployment_guard::domain::outcome::Verdict as Word;
use deployment_guard::domain::process::Counts;

use crate::generator::Dice;

pub use evidence::{ALPHA, BETA, ERRORS, Evidence, slower};

/// What one closed step shows of both sides.
#[derive(Clone, Default)]
pub struct Seen {
    /// Grown-up pods of the new revision.
    pub new: Counts,
    /// Its young pods.
    pub young: Counts,
    /// Pods of the old revision.
    pub old: Counts,
    /// Response times of grown-up pods, if the service has a histogram.
    pub latency: Option<Latency>,
}

/// Cumulative buckets; the bounds are `generator::BUCKETS`.
#[derive(Clone)]
pub struct Latency {
    pub new: Vec<u64>,
    pub old: Vec<u64>,
}

impl Seen {
    /// All pods of the new revision, as rules see them that know no age.
    pub fn all_new(&self) -> Counts {
        self.new.plus(self.young)
    }
}

/// What was known before the rollout.
#[derive(Clone)]
pub struct Setup {
    /// φ of errors.
    pub phi: f64,
    /// The allowed ratio of errors, after it was widened by the spread.
    pub ratio: f64,
    /// Whether the most that one step may add is limited, as it is.
    pub capped: bool,
    /// Weights of grown-up errors, young errors, latency; their sum is at most 1.
    pub weights: [f64; 3],
    /// Indexes of the bounds that latency is judged at.
    pub boundaries: Vec<usize>,
    /// Median in milliseconds and spread in log of response times, if there is a histogram.
    pub times: Option<(f64, f64)>,
    /// Errors of the old pods before the rollout, pod by pod; empty if they fail independently at the usual rate.
    pub before: Vec<Vec<Counts>>,
    /// The usual error rate.
    pub usual: f64,
    /// The success rate that somebody who knows the service would ask for.
    pub tuned: f64,
}

impl Setup {
    /// One signal of weight 1; the error rate is known to whoever tunes thresholds, who allows three times as much.
    pub fn errors(usual: f64) -> Self {
        Self {
            phi: 1.0,
            ratio: ERRORS.ratio,
            capped: true,
            weights: [1.0, 0.0, 0.0],
            boundaries: Vec::new(),
            times: None,
            before: Vec::new(),
            usual,
            tuned: 1.0 - 3.0 * usual,
        }
    }
}

/// One release.
pub struct Run {
    pub setup: Setup,
    pub seen: Vec<Seen>,
}

/// What a rule may say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    RollBack,
    /// Not worse so far; only this project's rule says so.
    Certified,
}

/// A judge of one release.
pub trait Rule {
    /// Looks at one more closed step.
    fn step(&mut self, seen: &Seen) -> Option<Verdict>;
}

/// Names of the rules, in the order of `all`.
pub const NAMES: [&str; 10] = [
    "evidence",
    "judge",
    "seed formula",
    "Flagger 99 %",
    "Argo 95 %, 5 m",
    "Argo 99 %, 1 m",
    "Kayenta, 50 points",
    "Kayenta, 8 points",
    "tuned, 1 check",
    "tuned, 5 checks",
];

/// After them: evidence with a model that always says ROLLBACK, and with one that always says CONTINUE.
pub const HOSTILE: [usize; 2] = [NAMES.len(), NAMES.len() + 1];
/// All of them.
pub const COUNT: usize = NAMES.len() + HOSTILE.len();

/// The first of them are this project's, and have goals.
pub const OURS: usize = 2;

/// All rules, fresh. The dice are for what was seen before the rollout.
pub fn all(run: &Run, dice: &mut Dice) -> Vec<Box<dyn Rule>> {
    use thresholds::{Argo, SeedFormula, Threshold};
    let setup = &run.setup;
    vec![
        Box::new(Evidence::new(setup)),
        Box::new(judge::Shipped::new(run, dice)),
        Box::new(SeedFormula::default()),
        Box::new(Threshold::flagger()),
        Box::new(Argo::documented()),
        Box::new(Argo::every_minute()),
        Box::new(kayenta::Kayenta::from_points(50)),
        Box::new(kayenta::Kayenta::from_points(8)),
        Box::new(Threshold::tuned(setup.tuned, 1)),
        Box::new(Threshold::tuned(setup.tuned, 5)),
        Box::new(hostile::Hostile::new(setup, Word::Rollback)),
        Box::new(hostile::Hostile::new(setup, Word::Continue)),
    ]
}
