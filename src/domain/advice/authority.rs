//! How much an opinion may decide, and when one is asked for.
//!
//! Role: the table of authority and of what no model overrules. Inputs: where the evidence stands, an opinion. Outputs:
//! a ruling with what clamped it; whether to ask. Only ROLLBACK can change anything: CONTINUE and INCONCLUSIVE mean what
//! the algorithm does anyway, which is to keep watching. Must never import: other rooms, a clock.

use super::prompt::Known;
use super::reply::Opinion;
use crate::domain::assess::{Assessment, Standing};
use crate::domain::judge::kappa;
use crate::domain::outcome::Verdict;

/// How much a model may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Authority {
    /// It explains, and never decides.
    Advisory,
    /// It decides inside the grey zone.
    #[default]
    TieBreak,
    /// It is asked at every decision point, and may roll back below the grey zone too. No bound on false rollbacks holds.
    Decide,
}

impl Authority {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::Advisory, Self::TieBreak, Self::Decide];

    /// The word in a spec and in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Advisory => "Advisory",
            Self::TieBreak => "TieBreak",
            Self::Decide => "Decide",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|authority| authority.as_str() == word)
    }

    /// The most false rollbacks per rollout that evidence and a wholly hostile model reach together, as a share; `None`
    /// where no bound holds.
    #[must_use]
    pub fn bound(self, alpha: f64) -> Option<f64> {
        match self {
            Self::Advisory => Some(alpha),
            Self::TieBreak => Some((kappa(alpha) * alpha).min(1.0)),
            Self::Decide => None,
        }
    }
}

/// What is known without a model.
#[expect(clippy::struct_excessive_bools, reason = "each may be true beside any other; `zone` says which counts")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ground {
    /// ln E, if evidence was computed and compared with anything.
    pub ln_e: Option<f64>,
    /// α as a share.
    pub alpha: f64,
    /// A hard fact decided.
    pub fact: bool,
    /// The algorithm rolls back: E ≥ 1/α, or a limit of the user's was broken.
    pub harmful: bool,
    /// Something else is wrong at the same time.
    pub held: bool,
    /// Nothing could be read.
    pub blind: bool,
    /// Health was certified.
    pub certified: bool,
}

impl Ground {
    /// Of an assessment. `certified` says whether an earlier look certified the revision, `blind` whether this one saw
    /// nothing.
    #[must_use]
    pub fn of(assessment: &Assessment, alpha: f64, fact: bool, certified: bool, blind: bool) -> Self {
        Self {
            ln_e: assessment.ln_e,
            alpha,
            fact,
            harmful: assessment.standing == Standing::Harmful,
            held: matches!(assessment.standing, Standing::Held { .. }),
            blind,
            certified: certified || assessment.standing == Standing::Fine,
        }
    }

    /// Where that is, the strongest first.
    #[must_use]
    pub fn zone(&self) -> Zone {
        if self.fact {
            return Zone::Fact;
        }
        let ln_e = self.ln_e.filter(|ln_e| ln_e.is_finite());
        // As the judge computes it, so that both agree to the last bit.
        let threshold = -self.alpha.ln();
        if self.harmful {
            Zone::Harm
        } else if self.held {
            Zone::Held
        } else if self.blind {
            Zone::Blind
        } else if self.certified {
            Zone::Certified
        } else if ln_e.is_some_and(|ln_e| ln_e >= threshold - kappa(self.alpha).ln()) {
            Zone::Grey
        } else {
            Zone::Below
        }
    }
}

/// Where the evidence stands, as far as a model is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Zone {
    /// A hard fact decided.
    Fact,
    /// Evidence decided.
    Harm,
    /// Something else is wrong: nothing is concluded.
    Held,
    /// Nothing could be read: nothing is concluded.
    Blind,
    /// Health was certified.
    Certified,
    /// 1/(κα) ≤ E < 1/α, or more where the algorithm itself does not act on it.
    Grey,
    /// E < 1/(κα), or nothing to compare.
    Below,
}

impl Zone {
    /// The word in prompts and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "hard-fact",
            Self::Harm => "harm",
            Self::Held => "held",
            Self::Blind => "blind",
            Self::Certified => "certified",
            Self::Grey => "grey",
            Self::Below => "below-grey",
        }
    }
}

/// What keeps a proposal from being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// A model does not overrule a hard fact.
    HardFact,
    /// Nor E ≥ 1/α.
    Evidence,
    /// Nor certified health.
    CertifiedHealth,
    /// While something else is wrong nothing is concluded.
    Held,
    /// Blind is not bad.
    Blind,
    /// The guard lets the model explain only.
    Advisory,
    /// Too little evidence for the model to decide.
    BelowGreyZone,
    /// It cites nothing that is worse than on the old revision.
    NoAbnormalEvidence,
}

impl Limit {
    /// The word in `clampedBy`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HardFact => "hard-fact",
            Self::Evidence => "evidence",
            Self::CertifiedHealth => "certified-health",
            Self::Held => "held",
            Self::Blind => "blind",
            Self::Advisory => "advisory",
            Self::BelowGreyZone => "below-grey-zone",
            Self::NoAbnormalEvidence => "no-abnormal-evidence",
        }
    }
}

/// A proposal that is not done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamped {
    /// By what.
    pub by: Limit,
    /// As people read it.
    pub message: String,
}

/// What comes of an opinion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// The model's ROLLBACK decides; the guardrails are asked as for any other.
    Rollback,
    /// The algorithm's decision stands, and the opinion wants nothing else.
    Stands,
    /// The algorithm's decision stands, against the opinion.
    Clamped(Clamped),
}

/// Says what an opinion does. `known` are the pieces of evidence that were in the prompt.
#[must_use]
pub fn rule(authority: Authority, ground: &Ground, known: &[Known], opinion: &Opinion) -> Ruling {
    let limit = match opinion.verdict {
        Verdict::Continue => match ground.zone() {
            Zone::Fact => Some(Limit::HardFact),
            Zone::Harm => Some(Limit::Evidence),
            _ => None,
        },
        Verdict::Inconclusive => None,
        Verdict::Rollback => match (ground.zone(), authority) {
            // It agrees with what is done anyway.
            (Zone::Fact | Zone::Harm, _) => None,
            (Zone::Held, _) => Some(Limit::Held),
            (Zone::Blind, _) => Some(Limit::Blind),
            (Zone::Certified, _) => Some(Limit::CertifiedHealth),
            (Zone::Grey | Zone::Below, Authority::Advisory) => Some(Limit::Advisory),
            (Zone::Below, Authority::TieBreak) => Some(Limit::BelowGreyZone),
            (Zone::Grey, Authority::TieBreak) => return Ruling::Rollback,
            (Zone::Grey | Zone::Below, Authority::Decide) if cites_abnormal(known, opinion) => return Ruling::Rollback,
            (Zone::Grey | Zone::Below, Authority::Decide) => Some(Limit::NoAbnormalEvidence),
        },
    };
    limit.map_or(Ruling::Stands, |by| Ruling::Clamped(Clamped { by, message: sentence(by, ground, opinion) }))
}

fn cites_abnormal(known: &[Known], opinion: &Opinion) -> bool {
    known.iter().any(|known| known.abnormal && opinion.evidence.contains(&known.id))
}

fn sentence(by: Limit, ground: &Ground, opinion: &Opinion) -> String {
    let asks = format!("the model proposed {} at {} % confidence", opinion.verdict, opinion.confidence.value());
    let why = match by {
        Limit::HardFact => "a hard fact is overruled by no opinion".to_owned(),
        Limit::Evidence => format!("evidence that reaches {} is overruled by no opinion", one_over(ground.alpha)),
        Limit::CertifiedHealth => "certified health is overruled by no opinion".to_owned(),
        Limit::Held => "something else is wrong at the same time, so nothing is concluded".to_owned(),
        Limit::Blind => "nothing could be read, and blind is not bad".to_owned(),
        Limit::Advisory => "authority Advisory lets it explain only".to_owned(),
        Limit::BelowGreyZone => match ground.ln_e {
            Some(ln_e) => format!(
                "E = {} is below {}, where authority TieBreak begins",
                number(ln_e.exp()),
                number(1.0 / (kappa(ground.alpha) * ground.alpha))
            ),
            None => "there is no evidence to break a tie of".to_owned(),
        },
        Limit::NoAbnormalEvidence => "it cites nothing that is worse than on the old revision".to_owned(),
    };
    format!("{asks}; {why}")
}

fn one_over(alpha: f64) -> String {
    format!("E ≥ {}", number(1.0 / alpha))
}

/// Three digits are enough.
pub(super) fn number(value: f64) -> String {
    if value >= 1e6 {
        "more than a million".to_owned()
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Why a model is not asked at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotAsked {
    /// It is decided; a model may explain it after the act.
    Decided,
    /// Whatever it said would be clamped.
    NothingToDecide,
    /// It was asked about this evidence already.
    SameEvidence,
    /// The calls of the rollout are used up.
    NoCallsLeft,
}

/// What asking depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Occasion<'a> {
    /// What the guard lets a model do.
    pub authority: Authority,
    /// What is known.
    pub ground: &'a Ground,
    /// New error signatures or failing probes were found.
    pub signs: bool,
    /// [`super::prompt::evidence_hash`] of what would be asked.
    pub hash: &'a str,
    /// The hashes that were answered in this rollout.
    pub answered: &'a [String],
    /// Calls left to this rollout.
    pub calls_left: u32,
}

/// Whether to ask now. Signs alone leave one call for the grey zone.
///
/// # Errors
/// Why not.
pub fn ask(occasion: &Occasion<'_>) -> Result<(), NotAsked> {
    let zone = occasion.ground.zone();
    let (wanted, reserve) = match zone {
        Zone::Fact | Zone::Harm => return Err(NotAsked::Decided),
        Zone::Held | Zone::Blind | Zone::Certified => return Err(NotAsked::NothingToDecide),
        Zone::Grey => (true, 0),
        Zone::Below => (occasion.signs || occasion.authority == Authority::Decide, 1),
    };
    if !wanted {
        return Err(NotAsked::NothingToDecide);
    }
    if occasion.answered.iter().any(|hash| hash == occasion.hash) {
        return Err(NotAsked::SameEvidence);
    }
    let reserve = if occasion.authority == Authority::Decide { 0 } else { reserve };
    if occasion.calls_left > reserve { Ok(()) } else { Err(NotAsked::NoCallsLeft) }
}

/// Whether to ask for an explanation of what was done. It is asked for after the act only, and changes nothing but words.
///
/// # Errors
/// Why not.
pub fn explain(acted: bool, calls_left: u32) -> Result<(), NotAsked> {
    match (acted, calls_left) {
        (false, _) => Err(NotAsked::NothingToDecide),
        (true, 0) => Err(NotAsked::NoCallsLeft),
        (true, _) => Ok(()),
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
