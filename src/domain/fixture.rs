//! Workloads and pods for tests: a test names what it is about, and the rest is ordinary.
//!
//! Role: the one place that fills in every field. Inputs: names. Outputs: plain data of other modules. Must never import:
//! other rooms; it exists in tests only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::pod::{ContainerFact, Role, Standing};
use super::policy::Kind;
use super::rollout::{PodFact, PodName, Revision, RevisionHash, Strategy, Workload};

/// A second of the tests' own time.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A pod that a node took a second after it was made, and nothing else.
pub(crate) fn pod(name: &str, revision: &str) -> PodFact {
    PodFact {
        pod: PodName::new("shop", name),
        uid: name.into(),
        owner: revision.into(),
        revision: RevisionHash::new(revision),
        created: at(0),
        ready_since: None,
        unready_since: None,
        first_ready: None,
        terminating: false,
        finished: false,
        restarts: 0,
        container_starts: Vec::new(),
        node: Some("n1".into()),
        scheduled: Some(at(0)),
        unschedulable: None,
        disrupted: None,
        ip: None,
        host_network: false,
        containers: Vec::new(),
    }
}

/// A container that waits to be started.
pub(crate) fn container(name: &str) -> ContainerFact {
    ContainerFact {
        name: name.into(),
        role: Role::App,
        image: "registry.example/app:1".into(),
        memory_limit: None,
        is_probed: false,
        standing: Standing::Waiting,
        ready: false,
        ended: 0,
        exits: Vec::new(),
        trouble: None,
    }
}

/// A revision with its number.
pub(crate) fn revision(name: &str, number: u64) -> (RevisionHash, Revision) {
    let hash = RevisionHash::new(name);
    let revision = Revision {
        hash: hash.clone(),
        uid: name.into(),
        number,
        images: vec![name.into()],
        pod_prefix: format!("api-{name}-"),
        placement: 0,
        substance: number,
        irreversible: false,
        configuration: BTreeSet::new(),
    };
    (hash, revision)
}

/// A Deployment with two replicas.
pub(crate) fn workload(current: Option<&str>, known: &[(&str, u64)]) -> Workload {
    Workload {
        kind: Kind::Deployment,
        uid: "w".into(),
        generation: 2,
        observed_generation: 2,
        replicas: 2,
        paused: false,
        strategy: Strategy::Rolling,
        partition: 0,
        first_ordinal: 0,
        update_revision: None,
        has_volumes: false,
        waves: Some(2),
        min_ready_seconds: 0,
        progress_deadline_seconds: 600,
        replica_failure: None,
        deadline_passed: false,
        controlled_by: None,
        canary: None,
        applier: None,
        suspension: None,
        template_manager: None,
        change_cause: None,
        skip: None,
        last_rollback: None,
        owns_template: false,
        current: current.map(RevisionHash::new),
        revisions: known.iter().map(|(name, number)| revision(name, *number)).collect::<BTreeMap<_, _>>(),
        kept: BTreeMap::new(),
        template: 0,
        terminating: false,
    }
}
