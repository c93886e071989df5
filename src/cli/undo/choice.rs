//! What a person's undo goes back to.
//!
//! Role: the revision that is named, else the newest that proved good, else the one before. Inputs: a workload, what a guard
//! remembers, a name. Outputs: a plan in words and data. Must never import: a clock, a client, `console`.

use crate::cli::guards::suggestion;
use crate::domain::known_good::{self, Choice, Trust};
use crate::domain::plan::{Current, Progress, Stage};
use crate::domain::policy::RollbackTarget;
use crate::domain::rollout::{RevisionHash, Workload};

/// How the id of a person's undo begins.
const BY_HAND: &str = "by-hand-";

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) from: RevisionHash,
    pub(super) to: Choice,
}

/// Finds the way, or says why there is none.
pub(super) fn route(workload: &Workload, progress: &Progress, wanted: Option<&str>) -> Result<Route, String> {
    let from = workload
        .current
        .clone()
        .ok_or("its controller has made no revision of the present template yet; try again in a moment")?;
    let to = match wanted {
        Some(wanted) => named(workload, progress, &from, wanted)?,
        None => chosen(workload, progress, &from)
            .ok_or_else(|| "no earlier revision is left to go back to; push a fixed version".to_owned())?,
    };
    Ok(Route { from, to })
}

fn trust(progress: &Progress, revision: &RevisionHash) -> Trust {
    let known = progress.good.iter().find(|good| good.revision == *revision);
    known.map_or(Trust::NeverJudged, |good| good.trust)
}

fn named(workload: &Workload, progress: &Progress, from: &RevisionHash, wanted: &str) -> Result<Choice, String> {
    let to = RevisionHash::new(wanted);
    if to == *from {
        return Err(format!("revision {to} is the present one"));
    }
    if workload.exists(&to) {
        return Ok(Choice { trust: trust(progress, &to), revision: to });
    }
    let known: Vec<&str> = workload
        .revisions
        .keys()
        .chain(workload.kept.keys().filter(|kept| !workload.revisions.contains_key(*kept)))
        .filter(|revision| *revision != from)
        .map(RevisionHash::as_str)
        .collect();
    Err(format!("there is no revision {wanted} any more{}", suggestion(wanted, &known)))
}

fn chosen(workload: &Workload, progress: &Progress, from: &RevisionHash) -> Option<Choice> {
    let known = progress.current.clone().filter(|current| current.revision == *from);
    let began = jiff::Timestamp::UNIX_EPOCH;
    let current = known.unwrap_or_else(|| Current::new(from.clone(), began, Stage::Serving));
    let exists = |revision: &RevisionHash| workload.exists(revision);
    known_good::choose(RollbackTarget::LastKnownGood, &current, &progress.good, &progress.bad, exists)
        .or_else(|| before(workload, progress, from))
}

/// What `kubectl rollout undo` would take, but never what a guard undid, nor what was undone last.
fn before(workload: &Workload, progress: &Progress, from: &RevisionHash) -> Option<Choice> {
    let last = workload.last_rollback.as_deref().and_then(undone_by);
    let is_bad = |revision: &RevisionHash| {
        last == Some(revision.as_str()) || progress.bad.iter().any(|bad| bad.revision == *revision)
    };
    let others = workload.revisions.values().filter(|one| one.hash != *from && !is_bad(&one.hash));
    let newest = others.max_by_key(|one| one.number)?;
    Some(Choice { revision: newest.hash.clone(), trust: trust(progress, &newest.hash) })
}

/// The id of a person's undo: what was undone, and when.
pub(super) fn id(from: &RevisionHash, now: jiff::Timestamp) -> String {
    format!("{BY_HAND}{from}-{}", now.as_millisecond())
}

/// The revision that a decision undid, by its id.
fn undone_by(id: &str) -> Option<&str> {
    id.strip_prefix(BY_HAND).unwrap_or(id).rsplit_once('-').map(|(revision, _)| revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixture::{at, workload};
    use crate::domain::known_good::ProvenGood;
    use crate::domain::plan::BadRevision;

    fn hash(name: &str) -> RevisionHash {
        RevisionHash::new(name)
    }

    fn to(progress: &Progress, wanted: Option<&str>) -> Result<(String, Trust), String> {
        let workload = workload(Some("v4"), &[("v1", 1), ("v2", 2), ("v3", 3), ("v4", 4)]);
        route(&workload, progress, wanted).map(|route| (route.to.revision.to_string(), route.to.trust))
    }

    fn good(revision: &str) -> ProvenGood {
        ProvenGood { revision: hash(revision), at: at(1), trust: Trust::Certified, kept: None }
    }

    #[test]
    fn without_a_guard_it_is_the_revision_before() {
        assert_eq!(to(&Progress::default(), None), Ok(("v3".to_owned(), Trust::NeverJudged)));
    }

    #[test]
    fn what_proved_good_comes_first_and_what_was_undone_never() {
        let bad = |revision: &str| BadRevision {
            revision: hash(revision),
            decision: "d".into(),
            undone: at(0),
            until: at(9),
        };
        let known = Progress { good: vec![good("v1")], ..Progress::default() };
        assert_eq!(to(&known, None), Ok(("v1".to_owned(), Trust::Certified)));
        let undone = Progress { bad: vec![bad("v3")], ..Progress::default() };
        assert_eq!(to(&undone, None), Ok(("v2".to_owned(), Trust::NeverJudged)));
        let all = Progress { bad: ["v1", "v2", "v3"].map(bad).to_vec(), ..Progress::default() };
        assert!(to(&all, None).unwrap_err().contains("no earlier revision is left"));
    }

    #[test]
    fn a_second_undo_does_not_bring_the_bad_revision_back() {
        let mut workload = workload(Some("v1"), &[("v0", 1), ("v2", 2), ("v1", 3)]);
        for last in [id(&hash("v2"), at(1)), "v2-1763717369603".to_owned()] {
            workload.last_rollback = Some(last);
            let route = route(&workload, &Progress::default(), None).unwrap();
            assert_eq!(route.to.revision, hash("v0"));
        }
    }

    #[test]
    fn a_named_revision_must_exist_and_be_another() {
        let known = Progress { good: vec![good("v2")], ..Progress::default() };
        assert_eq!(to(&known, Some("v2")), Ok(("v2".to_owned(), Trust::Certified)));
        assert_eq!(to(&known, Some("v4")).unwrap_err(), "revision v4 is the present one");
        assert!(
            to(&known, Some("zz9")).unwrap_err().contains("there is no revision zz9 any more; there are v1, v2, v3")
        );
        let pending = workload(None, &[("v1", 1)]);
        assert!(route(&pending, &known, None).unwrap_err().contains("try again in a moment"));
    }
}
