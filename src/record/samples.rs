//! Sample ConfigMaps.
//!
//! Role: puts training samples into the guard's ring. Inputs: the guard and a sample. Outputs: a ConfigMap that the guard
//! owns. Must never import: other rooms than `domain` and `api`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use super::owner::Owner;
use super::ring::{Change, RingError, Rings, Sort, hash, name};
use crate::domain::managers;
use crate::domain::redact::Redactor;
use crate::domain::sample::{RingChange, Sample, canonical, push};

/// Marks ConfigMaps that hold samples.
pub const SAMPLE_LABEL: &str = "deploymentguard.dev/sample";

const SORT: Sort = Sort { suffix: "-samples", label: SAMPLE_LABEL, manager: managers::SAMPLES };

/// Writes samples.
#[derive(Clone)]
pub struct Samples {
    rings: Rings,
}

impl Samples {
    /// A writer that waits at most `time_out` for one answer.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>, time_out: Duration) -> Self {
        Self { rings: Rings::new(client, redactor, time_out) }
    }

    /// Puts a sample into the guard's ring under its decision's id and returns the ConfigMap's name. Repeating it with
    /// the same id changes nothing.
    ///
    /// # Errors
    /// When the ConfigMap is somebody else's, keeps changing, or cannot be written.
    pub async fn append(
        &self,
        owner: &Owner,
        decision_id: &str,
        sample: &Sample,
        retain: usize,
    ) -> Result<String, RingError> {
        let mut sample = sample.clone();
        sample.evidence_hash = hash(&canonical(&sample.state.evidence));
        self.rings.write(owner, SORT, |ring| push(ring, decision_id, &sample, retain).map(change)).await
    }
}

fn change(change: RingChange) -> Change {
    Change { added: BTreeMap::from([(change.key, change.value)]), dropped: change.dropped }
}

/// The name of a guard's sample ConfigMap.
#[must_use]
pub fn config_map_name(guard: &str) -> String {
    name(guard, SORT.suffix)
}
