//! Facts and holds in sentences.
//!
//! Role: what people read. Inputs: symptoms. Outputs: text, in part from outside. Must never import: other rooms.

use super::FactKind;
use super::symptom::{Rule, Sample, Symptom};

/// A fact in a sentence: how many pods, what, where, how, in whose words.
pub(super) fn fact(kind: FactKind, symptom: &Symptom, failing: usize, of: usize, count: u32) -> String {
    let pods = if of == 1 { "the one new pod".to_owned() } else { format!("{failing} of {of} new pods") };
    format!("{pods}: {}; {}", what(kind, symptom, count), shown(&symptom.sample))
}

/// What pods do, as a clause.
fn what(kind: FactKind, symptom: &Symptom, count: u32) -> String {
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    match (kind, symptom.rule) {
        (FactKind::ImagePull, _) => "the image cannot be pulled".into(),
        (FactKind::Config, _) => "what the container is configured with is missing".into(),
        (FactKind::Start, Rule::Ends(_)) => format!("the container could not be started {times}"),
        (FactKind::Start, _) => "the container cannot be started".into(),
        (FactKind::Hook, _) => "a container hook fails".into(),
        (FactKind::OutOfMemory, _) => format!("killed {times} for more memory than the limit allows"),
        (FactKind::LivenessKills, _) => {
            format!("killed {times} by the kubelet because a liveness or startup probe failed")
        }
        (FactKind::CrashLoop, _) => format!("ended {times} beyond what the old revision's start did"),
        (FactKind::VolumeMount, _) => "a volume cannot be mounted".into(),
        (FactKind::Progress, _) => "the progress deadline passed and pods are not ready".into(),
        (FactKind::NeverReady, _) => "not ready by the deadline".into(),
    }
}

/// Pod, container, exit code, reason and message.
pub(super) fn shown(sample: &Sample) -> String {
    let mut text = format!("pod {}", sample.pod);
    if let Some((container, role)) = &sample.container {
        text = format!("{text}, {} {container}", role.noun());
    }
    if let Some(image) = &sample.image {
        text = format!("{text}, image {image}");
    }
    let said = said(sample);
    if said.is_empty() { text } else { format!("{text}: {said}") }
}

/// What the kubelet says of it.
pub(super) fn said(sample: &Sample) -> String {
    let mut words = Vec::new();
    match (sample.exit_code, sample.reason.is_empty()) {
        (Some(code), true) => words.push(format!("exit code {code}")),
        (Some(code), false) => words.push(format!("exit code {code} ({})", sample.reason)),
        (None, false) => words.push(sample.reason.to_string()),
        (None, true) => {}
    }
    let message = sample.message.split_whitespace().collect::<Vec<_>>().join(" ");
    if !message.is_empty() {
        words.push(message);
    }
    words.join(": ")
}

pub(super) fn shared(kind: FactKind, symptom: &Symptom, sick: usize, old: usize) -> String {
    let what = what(kind, symptom, 1);
    format!(
        "{sick} of {old} pods of the old revision show the same ({what}), so the release is not the cause; {}",
        shown(&symptom.sample)
    )
}

pub(super) fn registry(registry: &str, other: &str, symptom: &Symptom) -> String {
    format!("the registry {registry} cannot be reached by others either ({other}); {}", shown(&symptom.sample))
}
