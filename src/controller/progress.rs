//! Between status and `plan::Progress`.
//!
//! Role: status is the only memory that survives; this reads it and writes it. Inputs: a status. Outputs: progress, and
//! back. What cannot be read was written by another version and counts as absent. Must never import: a client.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::status::{
    BadRevisionStatus, CurrentStatus, DeploymentGuardStatus, KnownGood, PendingAction, RecheckStatus, UndoStatus,
    parse_time, time_ms,
};
use crate::domain::assess::AssessState;
use crate::domain::facts::StartRecord;
use crate::domain::judge::MAX_CHECKPOINT_BYTES;
use crate::domain::known_good::{Kept, ProvenGood, Trust};
use crate::domain::plan::{BadRevision, Current, PendingApproval, PendingUndo, Progress, Recheck, Stage, within_a_day};
use crate::domain::rollout::{RevisionHash, Workload};

/// Most undos that status lists; `maxPerDay` is at most that many.
const TIMES_KEPT: usize = 100;

/// Bad revisions that status lists.
const BAD_KEPT: usize = 10;

/// Reads what status remembers.
#[must_use]
pub fn read(status: &DeploymentGuardStatus) -> Progress {
    Progress {
        current: status.current.as_ref().and_then(read_current),
        workload_uid: status.target.as_ref().map(|target| target.uid.clone()),
        undo: status.undo.as_ref().and_then(read_undo),
        recheck: status.recheck.as_ref().and_then(read_recheck),
        pending: status.pending_action.as_ref().and_then(read_pending),
        bad: status.bad_revisions.iter().filter_map(read_bad).collect(),
        good: status.known_good.iter().filter_map(read_good).collect(),
        undone: status.rollback_times.iter().filter_map(|at| parse_time(at)).collect(),
        next: status.next_evaluation.as_deref().and_then(parse_time),
    }
}

fn read_current(current: &CurrentStatus) -> Option<Current> {
    Some(Current {
        revision: RevisionHash::new(&current.revision),
        started: parse_time(&current.started_at)?,
        first_ready: current.first_ready_at.as_deref().and_then(parse_time),
        baseline: current.baseline.as_deref().map(RevisionHash::new),
        stage: Stage::parse(&current.state)?,
        start: start(current.start_exits),
        baseline_start: start(current.baseline_start_exits),
    })
}

fn start(exits: Option<i32>) -> Option<StartRecord> {
    exits.and_then(|exits| u32::try_from(exits).ok()).map(|exits| StartRecord { exits })
}

fn read_undo(undo: &UndoStatus) -> Option<PendingUndo> {
    Some(PendingUndo {
        decision: undo.decision.clone(),
        workload_uid: undo.workload_uid.clone(),
        from: RevisionHash::new(&undo.from_revision),
        to: RevisionHash::new(&undo.to_revision),
        kept: undo.template.as_ref().and_then(|name| read_kept(name, undo.template_hash.as_ref()?)),
        intended: parse_time(&undo.intended_at)?,
        sent: undo.sent_at.as_deref().and_then(parse_time),
    })
}

fn read_recheck(recheck: &RecheckStatus) -> Option<Recheck> {
    Some(Recheck {
        decision: recheck.decision.clone(),
        revision: RevisionHash::new(&recheck.revision),
        since: parse_time(&recheck.since)?,
        until: parse_time(&recheck.until)?,
    })
}

fn read_pending(pending: &PendingAction) -> Option<PendingApproval> {
    Some(PendingApproval {
        decision: pending.decision.clone(),
        workload_uid: pending.workload_uid.clone(),
        from: RevisionHash::new(&pending.from_revision),
        to: RevisionHash::new(&pending.to_revision),
        asked: parse_time(&pending.asked_at)?,
        expires: parse_time(&pending.expires_at)?,
    })
}

fn read_bad(bad: &BadRevisionStatus) -> Option<BadRevision> {
    Some(BadRevision {
        revision: RevisionHash::new(&bad.revision),
        decision: bad.decision.clone(),
        undone: parse_time(&bad.undone_at)?,
        until: parse_time(&bad.until)?,
    })
}

fn read_good(good: &KnownGood) -> Option<ProvenGood> {
    let at = parse_time(&good.at)?;
    Some(ProvenGood {
        revision: RevisionHash::new(&good.revision),
        at,
        trust: Trust::parse(&good.trust)?,
        kept: good.template.as_ref().and_then(|name| read_kept(name, good.template_hash.as_ref()?)),
    })
}

fn read_kept(name: &str, hash: &str) -> Option<Kept> {
    Some(Kept { name: name.to_owned(), template: u64::from_str_radix(hash, 16).ok()? })
}

/// A template's number as status shows it.
#[must_use]
pub fn hash_text(template: u64) -> String {
    format!("{template:016x}")
}

/// Remembers a revision as bad; what is forgotten by now goes, and the oldest of too many.
pub fn write_bad(status: &mut DeploymentGuardStatus, bad: &BadRevision, now: Timestamp) {
    let known = &mut status.bad_revisions;
    known.retain(|known| {
        known.revision != bad.revision.as_str() && parse_time(&known.until).is_some_and(|until| now < until)
    });
    let entry = BadRevisionStatus {
        revision: bad.revision.to_string(),
        decision: bad.decision.clone(),
        undone_at: time_ms(bad.undone),
        until: time_ms(bad.until),
    };
    known.insert(0, entry);
    known.truncate(BAD_KEPT);
}

/// Writes the current revision into status.
pub fn write_current(status: &mut DeploymentGuardStatus, current: &Current, workload: &Workload) {
    let exits = |start: StartRecord| i32::try_from(start.exits).unwrap_or(i32::MAX);
    let images = workload.revision(&current.revision).map(|revision| revision.images.clone()).unwrap_or_default();
    status.current = Some(CurrentStatus {
        revision: current.revision.to_string(),
        images: images.into_iter().take(16).collect(),
        started_at: time_ms(current.started),
        first_ready_at: current.first_ready.map(time_ms),
        baseline: current.baseline.as_ref().map(ToString::to_string),
        start_exits: current.start.map(exits),
        baseline_start_exits: current.baseline_start.map(exits),
        state: current.stage.as_str().into(),
    });
}

/// Writes an undo into status, or takes it out.
pub fn write_undo(status: &mut DeploymentGuardStatus, undo: Option<&PendingUndo>) {
    status.undo = undo.map(|undo| UndoStatus {
        decision: undo.decision.clone(),
        workload_uid: undo.workload_uid.clone(),
        from_revision: undo.from.to_string(),
        to_revision: undo.to.to_string(),
        template: undo.kept.as_ref().map(|kept| kept.name.clone()),
        template_hash: undo.kept.as_ref().map(|kept| hash_text(kept.template)),
        intended_at: time_ms(undo.intended),
        sent_at: undo.sent.map(time_ms),
    });
}

/// The judge's state as two texts: the checkpoint, and what was fixed for the rollout, which people can read. A checkpoint
/// that does not fit would have the whole status refused, so it is left out: a restart then begins anew.
#[must_use]
pub fn write_checkpoint(state: &AssessState) -> (String, Option<String>) {
    let mut whole = serde_json::to_value(state).unwrap_or_default();
    let design = whole.get_mut("state").and_then(|state| state.as_object_mut()?.remove("design"));
    let text = whole.to_string();
    let fits = |text: String| if text.len() <= MAX_CHECKPOINT_BYTES { text } else { String::new() };
    (fits(text), design.map(|design| design.to_string()).map(fits))
}

/// Reads the judge's state back; none if it is of another version.
#[must_use]
pub fn read_checkpoint(checkpoint: &str, design: Option<&str>) -> Option<AssessState> {
    let mut whole: Value = serde_json::from_str(checkpoint).ok()?;
    if let (Some(state), Some(design)) = (whole.get_mut("state").and_then(Value::as_object_mut), design) {
        state.insert("design".to_owned(), serde_json::from_str(design).ok()?);
    }
    serde_json::from_value(whole).ok()
}

/// Writes the undos of the last 24 hours into status.
pub fn write_undone(status: &mut DeploymentGuardStatus, undone: &[Timestamp], now: Timestamp) {
    let recent = within_a_day(undone, now);
    status.rollbacks_today = i32::try_from(recent.len()).unwrap_or(i32::MAX);
    let surplus = recent.len().saturating_sub(TIMES_KEPT);
    status.rollback_times = recent.into_iter().skip(surplus).map(time_ms).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_a_round_trip_through_status() {
        let at = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let undo = PendingUndo {
            decision: "d".into(),
            workload_uid: "u".into(),
            from: RevisionHash::new("bad"),
            to: RevisionHash::new("good"),
            kept: Some(Kept { name: "shop-good-1".into(), template: u64::MAX - 1 }),
            intended: at,
            sent: None,
        };
        let mut status = DeploymentGuardStatus::default();
        write_undo(&mut status, Some(&undo));
        write_undone(&mut status, &[at], at);
        assert_eq!(read(&status).undo, Some(undo));
        assert_eq!(read(&status).undone, [at]);
        assert_eq!(status.rollbacks_today, 1);
    }

    #[test]
    fn a_state_of_another_version_counts_as_absent() {
        let current = CurrentStatus {
            revision: "r".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
            state: "Dancing".into(),
            ..CurrentStatus::default()
        };
        let status = DeploymentGuardStatus { current: Some(current), ..DeploymentGuardStatus::default() };
        assert_eq!(read(&status).current, None);
    }
}
