//! The releases that are simulated: healthy ones inside and outside of the guarantee, and bad ones.
//!
//! Role: names, what is in them, what must come out. Inputs: dice. Outputs: one `Run` for each throw.

mod cluster;
mod regressions;
mod steps;

use crate::generator::Dice;
use crate::rules::Run;
use crate::statistics::Pair;

type Make = Box<dyn Fn(&mut Dice) -> Run + Sync + Send>;

/// What a scenario is there to show.
pub enum Kind {
    /// Healthy, and every condition of the guarantee holds.
    Inside,
    /// Healthy, and a condition is broken: which one, and what protects.
    Outside { protects: &'static str },
    /// Healthy, and this project reads or judges it without one of its protections; the rules of others are not shown,
    /// because they have nothing to do with it.
    Without { protects: &'static str },
    /// Bad: what must be reached.
    Regression(Goal),
    /// As bad as certificates allow at most: no more than β of the runs may be certified.
    AtTheBound,
}

/// What a rule must reach; delays count from the onset.
#[derive(Clone, Copy, Default)]
pub struct Goal {
    /// Steps before the harm begins.
    pub onset: u32,
    pub median: Option<u32>,
    pub p90: Option<u32>,
    /// The largest share of runs that may be rolled back, for harm too small to be one.
    pub most_found: Option<f64>,
    /// Rates for the bound, where there is one.
    pub pair: Option<Pair>,
    /// What the bound must come out as, as a check of its definition.
    pub bound: Option<&'static str>,
}

/// One kind of release.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub kind: Kind,
    /// Most runs must be certified before half of the window.
    pub certify: bool,
    pub make: Make,
}

impl Scenario {
    fn new(
        name: &'static str,
        about: &'static str,
        kind: Kind,
        make: impl Fn(&mut Dice) -> Run + Sync + Send + 'static,
    ) -> Self {
        Self { name, about, kind, certify: false, make: Box::new(make) }
    }

    fn inside(
        name: &'static str,
        about: &'static str,
        make: impl Fn(&mut Dice) -> Run + Sync + Send + 'static,
    ) -> Self {
        Self::new(name, about, Kind::Inside, make)
    }

    fn outside(
        name: &'static str,
        about: &'static str,
        protects: &'static str,
        make: impl Fn(&mut Dice) -> Run + Sync + Send + 'static,
    ) -> Self {
        Self::new(name, about, Kind::Outside { protects }, make)
    }

    fn without(
        name: &'static str,
        about: &'static str,
        protects: &'static str,
        make: impl Fn(&mut Dice) -> Run + Sync + Send + 'static,
    ) -> Self {
        Self::new(name, about, Kind::Without { protects }, make)
    }

    fn must_be_certified(mut self) -> Self {
        self.certify = true;
        self
    }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = steps::scenarios();
    all.extend(cluster::scenarios());
    all.extend(regressions::scenarios());
    all
}
