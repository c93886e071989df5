//! What pods read besides their template.
//!
//! Role: remembers it while a revision is known to be well, and says at a ROLLBACK what was changed since. It explains and
//! never decides: no undo waits for it. Inputs: a case. Outputs: status, the last decision, an event. Must never import:
//! `cli`, `console`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::case::Case;
use crate::api::status::{ConfigurationStatus, KnownConfiguration};
use crate::domain::configuration::{Known, Look};
use crate::domain::plan::Stage;
use crate::domain::rollout::{Configuration, RevisionHash, Workload};
use crate::observe::configuration;
use crate::record::events::EventReason;

/// How long the API server may take.
const MOST: Duration = Duration::from_secs(2);
/// Longest reasoning of a decision.
const REASONING: usize = 2048;
/// Sentences of a decision.
const SENTENCES: usize = 8;

/// What was found about the rollout that is judged.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What was changed.
    pub changes: Vec<String>,
    /// What could not be seen.
    pub blind: Vec<String>,
}

/// A revision that is judged bad in this look.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What its pods read.
    pub reads: BTreeSet<Configuration>,
    /// When it was first seen.
    pub started: Timestamp,
}

/// Remembers what the pods of a serving revision read, once a revision. Level-triggered and best effort.
pub async fn remember(case: &mut Case<'_>) {
    let Some(current) = case.draft.current.as_ref() else { return };
    let serves = matches!(Stage::parse(&current.state), Some(Stage::Serving | Stage::Passed | Stage::Unproven));
    let known = case.draft.configuration.as_ref().is_some_and(|known| known.revision == current.revision);
    if !serves || known || !case.ctx.leadership.holds() {
        return;
    }
    let revision = current.revision.clone();
    let Some(workload) = case.known_workload() else { return };
    let wanted = read_by(workload, &RevisionHash::new(&revision));
    let Some(look) = look(case, wanted).await else { return };
    let status = |known: Known| ConfigurationStatus {
        kind: if known.what.secret { "Secret" } else { "ConfigMap" }.into(),
        name: known.what.name,
        resource_version: known.version,
    };
    let objects = look.known().into_iter().map(status).collect();
    case.draft.configuration = Some(KnownConfiguration { revision, objects });
}

/// What was changed beside the rollout of a revision, by now.
pub async fn told(case: &Case<'_>, judged: Judged) -> Told {
    let known: Vec<Known> = case.draft.configuration.iter().flat_map(|known| &known.objects).map(read).collect();
    let Judged { reads: mut wanted, started } = judged;
    wanted.extend(known.iter().map(|known| known.what.clone()));
    let secrets = wanted.iter().any(|what| what.secret);
    let Some(look) = look(case, wanted).await else {
        let blind = Look { blind_to_config_maps: true, blind_to_secrets: secrets, ..Look::default() };
        return Told { changes: Vec::new(), blind: blind.blind_spots() };
    };
    Told { changes: look.changes(&known, started), blind: look.blind_spots() }
}

/// Completes a ROLLBACK of this look, after whatever was done about it.
pub async fn explain(case: &mut Case<'_>) {
    let told = match (case.told.take(), case.judged.take()) {
        (Some(told), _) => told,
        (None, Some(judged)) => told(case, judged).await,
        (None, None) => return,
    };
    let all: Vec<_> = told.changes.iter().chain(&told.blind).take(SENTENCES).cloned().collect();
    let Some(last) = case.draft.last_decision.as_mut().filter(|_| !all.is_empty()) else { return };
    last.configuration = all;
    if told.changes.is_empty() {
        return;
    }
    let changes = told.changes.join("; ");
    last.reasoning = format!("{}; {changes}", last.reasoning).chars().take(REASONING).collect();
    let text = format!("revision {} may not be the only cause: {changes}", last.from_revision);
    case.note(EventReason::ConfigurationChanged, text);
}

/// What the pods of a revision read.
#[must_use]
pub fn read_by(workload: &Workload, revision: &RevisionHash) -> BTreeSet<Configuration> {
    workload.revision(revision).map(|revision| revision.configuration.clone()).unwrap_or_default()
}

fn read(status: &ConfigurationStatus) -> Known {
    let what = Configuration { secret: status.kind == "Secret", name: status.name.clone() };
    Known { what, version: status.resource_version.clone() }
}

async fn look(case: &Case<'_>, wanted: BTreeSet<Configuration>) -> Option<Look> {
    if wanted.is_empty() {
        return Some(Look::default());
    }
    let look = configuration::look(&case.ctx.client, &case.key.namespace, wanted.into_iter());
    tokio::time::timeout(MOST, look).await.ok()
}
