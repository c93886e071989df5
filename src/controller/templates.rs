//! Which templates are kept.
//!
//! Role: after each look, what should be kept and is not is written, what is kept and should not be is dropped, and status
//! says what is there. Level-triggered and best effort: no verdict and no undo waits for it. Inputs: a case. Outputs:
//! `ControllerRevision`s of the guard, status. Must never import: `cli`, `console`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::case::Case;
use super::memory::Shelf;
use super::progress;
use crate::domain::known_good;
use crate::domain::retry::Retry;
use crate::domain::rollout::RevisionHash;
use crate::observe::workload::{self, ReadError};
use crate::record::owner::Owner;
use crate::record::templates::{Found, TemplateError, name_of};

/// How long all of it may take.
const MOST: Duration = Duration::from_secs(10);
/// How long until what failed is tried again, and what was refused.
const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_mins(5);

/// Why not everything is kept.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("keeping templates took longer than {MOST:?}")]
    TimedOut,
}

/// Keeps what should be kept.
pub async fn keep(case: &mut Case<'_>) {
    if !case.ctx.leadership.holds() || case.draft.target.is_none() {
        return;
    }
    let known = progress::read(&case.draft);
    let owner = case.owner();
    let name = |revision: RevisionHash| (name_of(&owner.guard, &revision), revision);
    let wanted: Wanted = known_good::to_keep(&known.good, known.current.as_ref()).into_iter().map(name).collect();
    let current = known.current.map(|current| current.revision.to_string()).unwrap_or_default();
    let mut shelf = std::mem::take(case.shelf());
    if shelf.current != current {
        // Another revision, another history: what was lost may be back.
        shelf = Shelf { lost: BTreeSet::new(), current, ..shelf };
    }
    let patient = shelf.patient_until.is_some_and(|until| case.now < until);
    if !patient && !is_in_order(&shelf, &wanted) {
        let done = tokio::time::timeout(MOST, put_in_order(case, &owner, &wanted, &mut shelf)).await;
        shelf.patient_until = done.unwrap_or(Err(Trouble::TimedOut)).err().and_then(|trouble| wait(case, &trouble));
    }
    if let Some(there) = &shelf.there {
        let there =
            |(name, revision): (&String, &RevisionHash)| Some((revision.clone(), there.get(name)?.kept.clone()));
        let kept: BTreeMap<_, _> = wanted.iter().filter_map(there).collect();
        progress::write_kept(&mut case.draft, &kept);
    }
    *case.shelf() = shelf;
}

/// Names of objects, and the revisions that they keep.
type Wanted = BTreeMap<String, RevisionHash>;

/// Whether everything is there that can be, and nothing else.
fn is_in_order(shelf: &Shelf, wanted: &Wanted) -> bool {
    let Some(there) = &shelf.there else { return false };
    wanted.iter().all(|(name, revision)| there.contains_key(name) || shelf.lost.contains(revision))
        && there.keys().all(|name| wanted.contains_key(name))
}

/// What is done is noted at once, so that an error in between loses none of it.
async fn put_in_order(case: &Case<'_>, owner: &Owner, wanted: &Wanted, shelf: &mut Shelf) -> Result<(), Trouble> {
    let templates = &case.ctx.templates;
    let leadership = case.ctx.leadership.clone();
    let fence = move || leadership.holds();
    if shelf.there.is_none() {
        let found = templates.list(owner).await?.into_iter();
        shelf.there =
            Some(found.filter(|(name, found)| wanted.get(name).is_none_or(|r| is_known(case, r, found))).collect());
    }
    let there = shelf.there.get_or_insert_default();
    let missing: BTreeSet<RevisionHash> = wanted
        .iter()
        .filter(|(name, revision)| !there.contains_key(*name) && !shelf.lost.contains(*revision))
        .map(|(_, revision)| revision.clone())
        .collect();
    if !missing.is_empty() {
        let uid = case.draft.target.as_ref().map(|target| target.uid.as_str()).unwrap_or_default();
        let held = workload::templates(&case.ctx.client, &case.target, uid, &missing).await?;
        for revision in missing {
            let Some(held) = held.get(&revision) else {
                // The workload's own history has lost it already.
                shelf.lost.insert(revision);
                continue;
            };
            let mut kept = templates.keep(owner, &revision, held, &fence).await;
            if matches!(kept, Err(TemplateError::Conflict { .. })) {
                // What was in the way is gone, or about to go.
                kept = templates.keep(owner, &revision, held, &fence).await;
            }
            match kept {
                Ok(found) => drop(there.insert(found.kept.name.clone(), found)),
                Err(error @ TemplateError::NotOurs { .. }) => {
                    tracing::warn!(%error, %revision, "the template of a revision is not kept");
                    shelf.lost.insert(revision);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let surplus: Vec<_> = there.values().filter(|found| !wanted.contains_key(&found.kept.name)).cloned().collect();
    for found in surplus {
        templates.drop(owner, &found, &fence).await?;
        there.remove(&found.kept.name);
    }
    Ok(())
}

/// Whether status already says that exactly this is kept. What an object says of itself anybody may have written; it is
/// believed again only after a comparison with the workload's own history.
fn is_known(case: &Case<'_>, revision: &RevisionHash, found: &Found) -> bool {
    progress::read(&case.draft).kept().get(revision) == Some(&found.kept)
}

/// Until when nothing is tried again.
fn wait(case: &mut Case<'_>, trouble: &Trouble) -> Option<Timestamp> {
    let (category, retry) = match trouble {
        Trouble::Template(error) => (error.category(), error.retry()),
        Trouble::Read(error) => (error.category(), error.retry()),
        Trouble::TimedOut => ("template_timeout", Retry::Backoff),
    };
    tracing::warn!(error = %trouble, category, "not every template that could be gone back to is kept yet");
    case.ctx.metrics.reconcile_failed(category);
    let wait = if retry == Retry::Never { LATER } else { SOON };
    case.wake_in(wait);
    case.now.checked_add(wait).ok()
}
