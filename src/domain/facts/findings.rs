//! What is seen on pods so far, proven or not, as findings.
//!
//! Role: shows people the first crash before the fourth proves anything. Inputs: symptoms of both sides. Outputs:
//! `Finding`s. Must never import: other rooms.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::symptom::{Rule, Symptom};
use super::weigh::Patient;
use super::{FactKind, StartRecord, words};
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::outcome::FailureClass;

/// One finding a kind, the clearest first. A pod that should have been ready `by` then and is not is one too.
pub(super) fn of(
    new: &[Patient<'_>],
    old: &[Patient<'_>],
    old_start: Option<StartRecord>,
    by: Timestamp,
) -> Vec<Finding> {
    let (seen, before) = (tally(new, by), tally(old, by));
    let finding = |(kind, (symptom, count)): (FactKind, (&Symptom, u64))| {
        // Old pods may be gone already; how they started is known.
        let recorded = old_start.filter(|_| matches!(symptom.rule, Rule::Ends(_))).map(|start| u64::from(start.exits));
        let compared = !old.is_empty() || recorded.is_some();
        let seen = before.get(&kind).map_or(0, |(_, count)| *count);
        let known = if old.is_empty() { recorded.unwrap_or(0) } else { seen };
        let (issue, fix, class) = said(kind);
        Finding {
            source: Source::Pods,
            issue: issue.into(),
            context: words::shown(&symptom.sample),
            suggested_fix: fix.into(),
            service: None,
            class,
            new: count,
            old: compared.then_some(known),
            novelty: match (compared, known) {
                (false, _) => Novelty::Unknown,
                (true, 0) => Novelty::New,
                (true, known) if known * 2 < count => Novelty::More,
                (true, _) => Novelty::Known,
            },
        }
    };
    seen.into_iter().map(finding).collect()
}

fn tally<'a>(patients: &'a [Patient<'_>], by: Timestamp) -> BTreeMap<FactKind, (&'a Symptom, u64)> {
    let mut tally: BTreeMap<FactKind, (&Symptom, u64)> = BTreeMap::new();
    for symptom in patients.iter().flat_map(|patient| &patient.symptoms) {
        // That a pod is not ready yet is no finding while it has time.
        let count = match symptom.rule {
            Rule::Ends(count) | Rule::MemoryKills(count) | Rule::ProbeKills(count) => count,
            Rule::From(due) if symptom.kind == FactKind::NeverReady && due > by => continue,
            Rule::From(_) => 1,
        };
        let entry = tally.entry(symptom.kind).or_insert((symptom, 0));
        entry.1 += u64::from(count);
    }
    tally
}

/// Issue, what usually helps, and the kind of failure.
fn said(kind: FactKind) -> (&'static str, &'static str, FailureClass) {
    match kind {
        FactKind::ImagePull => (
            "image cannot be pulled",
            "check the image's name and tag, that it was pushed, and the pull secret",
            FailureClass::Image,
        ),
        FactKind::Config => (
            "configuration missing",
            "create the ConfigMap or Secret with the key that the template names, or correct the name",
            FailureClass::ConfigError,
        ),
        FactKind::Start => (
            "container cannot be started",
            "check the command, its path in the image, and the security context",
            FailureClass::ConfigError,
        ),
        FactKind::Hook => ("hook fails", "run the hook's command in the image by hand", FailureClass::ConfigError),
        FactKind::OutOfMemory => {
            ("killed for memory", "find what uses the memory, or raise resources.limits.memory", FailureClass::Oom)
        }
        FactKind::LivenessKills => (
            "killed by a failing probe",
            "find out why the liveness or startup probe fails, or give it more time",
            FailureClass::Crash,
        ),
        FactKind::CrashLoop => {
            ("container ends", "read the log of the ended container: kubectl logs --previous", FailureClass::Crash)
        }
        FactKind::VolumeMount => (
            "volume cannot be mounted",
            "create the ConfigMap, Secret or claim that the volume names",
            FailureClass::ConfigError,
        ),
        FactKind::Progress | FactKind::NeverReady => {
            ("not ready", "find out why the readiness probe fails", FailureClass::Other)
        }
    }
}
