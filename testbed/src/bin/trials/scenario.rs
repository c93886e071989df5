//! What is tried: releases that must be undone and releases that must not, each with what serves before it and what
//! happens meanwhile. Input: a choice of names. Output: trials in the order in which they start.

use std::time::Duration;

/// Variables of the pod template.
pub type Faults = &'static [(&'static str, &'static str)];

/// What happens around the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    Nothing,
    /// A dependency of both revisions is away for a while, while both serve.
    Outage,
    /// Prometheus is stopped just before the push and started when the trial is over.
    Blind,
}

/// How the Deployment replaces its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// As by default: both revisions serve together for seconds.
    Plain,
    /// `minReadySeconds: 60`, as the documentation recommends.
    Patient,
}

impl Rollout {
    /// Seconds a pod must be ready before it counts.
    pub const fn min_ready_seconds(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Patient => 60,
        }
    }

    /// Its name in namespaces and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Patient => "min-ready-60",
        }
    }

    /// The window of a guard that has to reach its end: with every pod out of warm-up for a minute before it.
    const fn short_window(self) -> Duration {
        match self {
            Self::Plain => Duration::from_mins(3),
            Self::Patient => Duration::from_mins(5),
        }
    }
}

/// A kind of release.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, also of its namespaces.
    pub name: &'static str,
    /// Must be undone.
    pub bad: bool,
    /// The revision that serves.
    pub before: Faults,
    /// The release.
    pub after: Faults,
    /// Requests per second.
    pub rate: u32,
    /// What happens meanwhile.
    pub event: Event,
    /// How many, plain and patient.
    pub copies: [u32; 2],
}

const BAD: Scenario =
    Scenario { name: "", bad: true, before: &[], after: &[], rate: 100, event: Event::Nothing, copies: [1, 1] };
const HEALTHY: Scenario = Scenario { bad: false, rate: 30, ..BAD };
const COLD_START: Faults = &[("ERROR_RATE", "0.005"), ("ERRORS_FIRST_S", "8"), ("ERRORS_FIRST_RATE", "0.3")];
const TWO_PERCENT: Faults = &[("ERROR_RATE", "0.02")];

/// Everything there is to try. `{ns}` stands for the namespace.
pub static ALL: [Scenario; 12] = [
    Scenario { name: "errors-1-to-5", before: &[("ERROR_RATE", "0.01")], after: &[("ERROR_RATE", "0.05")], ..BAD },
    Scenario { name: "errors-0.1-to-1", before: &[("ERROR_RATE", "0.001")], after: &[("ERROR_RATE", "0.01")], ..BAD },
    Scenario { name: "errors-0-to-20", after: &[("ERROR_RATE", "0.2")], ..BAD },
    Scenario { name: "errors-0-to-40", after: &[("ERROR_RATE", "0.4")], ..BAD },
    Scenario {
        name: "latency-times-1.5",
        before: &[("LATENCY_MS", "80"), ("LATENCY_SPREAD", "0.5")],
        after: &[("LATENCY_MS", "120"), ("LATENCY_SPREAD", "0.5")],
        ..BAD
    },
    Scenario { name: "leak", after: &[("LEAK_MIB_PER_S", "1")], ..BAD },
    Scenario { name: "good", copies: [7, 5], ..HEALTHY },
    Scenario { name: "cold-start", before: COLD_START, after: COLD_START, copies: [4, 3], ..HEALTHY },
    Scenario {
        name: "shared-outage",
        before: &[("DEPENDENCY_URL", "http://db.{ns}/")],
        after: &[("DEPENDENCY_URL", "http://db.{ns}/")],
        event: Event::Outage,
        copies: [0, 1],
        ..HEALTHY
    },
    Scenario { name: "steady-2-percent", before: TWO_PERCENT, after: TWO_PERCENT, ..HEALTHY },
    Scenario { name: "no-traffic", rate: 0, copies: [1, 0], ..HEALTHY },
    Scenario { name: "no-prometheus", event: Event::Blind, copies: [1, 0], ..HEALTHY },
];

/// One release of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The kind.
    pub scenario: &'static Scenario,
    /// How pods are replaced.
    pub rollout: Rollout,
    /// Which of several, from 1.
    pub number: u32,
}

impl Trial {
    /// Its namespace.
    pub fn namespace(&self) -> String {
        let name = self.scenario.name.replace('.', "-");
        format!("{name}-{}-{}", self.rollout.word(), self.number)
    }

    /// The guard's window, if it is not the default: one that is to reach its end must not take half an hour.
    pub const fn window(&self) -> Option<Duration> {
        if self.scenario.bad { None } else { Some(self.rollout.short_window()) }
    }
}

/// The trials of these scenarios, all if none is named; those that disturb the others are last.
pub fn trials(names: &[String], repeat: u32) -> Result<Vec<Trial>, String> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|scenario| scenario.name != **name)) {
        let known: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(format!("there is no scenario {unknown}, but {}", known.join(", ")));
    }
    let chosen = ALL.iter().filter(|scenario| names.is_empty() || names.iter().any(|name| scenario.name == name));
    let mut trials = Vec::new();
    for scenario in chosen {
        for (rollout, copies) in [Rollout::Plain, Rollout::Patient].into_iter().zip(scenario.copies) {
            let numbers = 1..=copies.saturating_mul(repeat);
            trials.extend(numbers.map(|number| Trial { scenario, rollout, number }));
        }
    }
    trials.sort_by_key(|trial| trial.scenario.event == Event::Blind);
    Ok(trials)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_trial_has_a_namespace_of_its_own_that_kubernetes_accepts() {
        let trials = trials(&[], 2).unwrap();
        let names: BTreeSet<String> = trials.iter().map(Trial::namespace).collect();
        assert_eq!(names.len(), trials.len());
        let allowed = |name: &String| name.len() < 64 && !name.contains('.');
        assert!(names.iter().all(allowed), "{names:?}");
    }

    #[test]
    fn twenty_healthy_releases_with_cold_starts_and_an_outage_among_them() {
        let kinds = ["good", "cold-start", "shared-outage"].map(str::to_owned);
        assert_eq!(trials(&kinds, 1).unwrap().len(), 20);
    }

    #[test]
    fn without_prometheus_comes_last_and_unknown_names_are_refused() {
        let all = trials(&[], 1).unwrap();
        assert_eq!(all.last().unwrap().scenario.name, "no-prometheus");
        assert!(trials(&["bad".to_owned()], 1).unwrap_err().contains("errors-1-to-5"));
    }
}
