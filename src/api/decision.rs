//! `decision` of a guard: who is asked for a second opinion, and how much that may decide.
//!
//! Role: the part of the spec, and its parsing. Inputs: the section and the class, whose names it uses. Outputs: a
//! [`DecisionPolicy`], or an error that names field and cure. Must never import: a kube client, other rooms than `domain`.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class::GuardClassSpec;
use super::parse::{InvalidSpec, duration, invalid};
use crate::domain::advice::authority::Authority as May;
use crate::domain::advice::provider::DecisionPolicy;

/// The decider that ends every chain.
const ALGORITHM: &str = "algorithm";
const DEADLINES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Who is asked for a second opinion. Hard facts, evidence that is strong enough and certified health are decided without.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.deadline) >= duration('100ms') && duration(self.deadline) <= duration('60s')").message("decision.deadline must lie between 100ms and 60s"))]
pub struct Decision {
    /// Names of providers of the class in the order in which they are asked; the first that gives an opinion is heard.
    /// `algorithm` ends every chain, whether it is written or not. Empty: all providers of the class in its order.
    /// `[algorithm]`: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 17), inner(length(min = 1, max = 63)))]
    pub chain: Vec<String>,
    /// How much an opinion may decide. Advisory: nothing, it explains. TieBreak: it decides where the evidence is strong
    /// but not strong enough. Decide: it is asked at every decision; then falseRollbackRate bounds nothing.
    #[serde(default = "tie_break")]
    pub authority: Authority,
    /// How long the whole chain may take, 100ms to 60s; after it the algorithm decides alone.
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,6}(ms|s|m))+$"))]
    #[serde(default = "eight_seconds")]
    pub deadline: String,
    /// Calls for one rollout, of all providers together.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default = "three")]
    pub max_calls_per_rollout: i32,
}

/// How much an opinion may decide.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// Nothing.
    Advisory,
    /// Inside the grey zone.
    TieBreak,
    /// At every decision.
    Decide,
}

impl Default for Decision {
    fn default() -> Self {
        Self { chain: Vec::new(), authority: tie_break(), deadline: eight_seconds(), max_calls_per_rollout: three() }
    }
}

const fn tie_break() -> Authority {
    Authority::TieBreak
}

fn eight_seconds() -> String {
    "8s".into()
}

const fn three() -> i32 {
    3
}

/// Parses the section under its class.
///
/// # Errors
/// If a field has a value that cannot be used; the error names the field and the cure.
pub fn parse(spec: &Decision, class: &GuardClassSpec) -> Result<DecisionPolicy, InvalidSpec> {
    let deadline = duration("decision.deadline", &spec.deadline)?;
    if deadline < DEADLINES.0 || deadline > DEADLINES.1 {
        return Err(invalid("decision.deadline", "must lie between 100ms and 60s"));
    }
    Ok(DecisionPolicy {
        chain: chain(&spec.chain, class)?,
        authority: match spec.authority {
            Authority::Advisory => May::Advisory,
            Authority::TieBreak => May::TieBreak,
            Authority::Decide => May::Decide,
        },
        deadline,
        max_calls_per_rollout: u32::try_from(spec.max_calls_per_rollout)
            .ok()
            .filter(|most| *most <= 100)
            .ok_or_else(|| invalid("decision.maxCallsPerRollout", "must lie between 0 and 100"))?,
    })
}

fn chain(names: &[String], class: &GuardClassSpec) -> Result<Vec<String>, InvalidSpec> {
    let known: Vec<&str> = class.providers.iter().map(|provider| provider.name.as_str()).collect();
    if names.is_empty() {
        return Ok(known.into_iter().map(str::to_owned).collect());
    }
    let mut chain: Vec<String> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let refuse = |problem: String| invalid(format!("decision.chain[{index}]"), problem);
        if name == ALGORITHM {
            if index + 1 < names.len() {
                return Err(refuse(
                    "is algorithm, which always answers, so what follows is never asked; put it last".into(),
                ));
            }
            continue;
        }
        if !known.contains(&name.as_str()) {
            return Err(refuse(unknown(name, &known)));
        }
        if chain.contains(name) {
            return Err(refuse(format!("is {name:?} for the second time; name each provider once")));
        }
        chain.push(name.clone());
    }
    Ok(chain)
}

fn unknown(name: &str, known: &[&str]) -> String {
    let deciders = || known.iter().copied().chain([ALGORITHM]);
    let advice = match nearest(name, deciders()) {
        Some(other) => format!("did you mean {other}?"),
        None => format!("write one of {}", deciders().collect::<Vec<_>>().join(", ")),
    };
    format!("is {name:?}, which the class has no provider for; {advice}")
}

/// What somebody probably meant who wrote `name`, if one of these is near enough.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|other| (distance(name, other), other)).min();
    near.filter(|(distance, _)| *distance <= 2.max(name.len() / 3)).map(|(_, other)| other)
}

/// How many characters to change, add or leave out, until one word is the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.to_lowercase().chars().enumerate() {
        let mut next = vec![i + 1];
        for (b, (left_above, above)) in other.iter().zip(row.iter().zip(row.iter().skip(1))) {
            let left = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(left + 1).min(left_above + usize::from(a != *b)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
