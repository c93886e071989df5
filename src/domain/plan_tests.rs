use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{self, at, workload};
use crate::domain::policy::{Interval, OnInconclusive, Scorer};

fn hash(text: &str) -> RevisionHash {
    RevisionHash::new(text)
}

fn pod(name: &str, revision: &str, ready: Option<i64>) -> PodFact {
    PodFact { ready_since: ready.map(at), first_ready: ready.map(at), ..fixture::pod(name, revision) }
}

fn current(revision: &str, baseline: Option<&str>, stage: Stage) -> Current {
    Current { baseline: baseline.map(hash), ..Current::new(hash(revision), at(0), stage) }
}

fn progress(current: Current) -> Progress {
    Progress { current: Some(current), workload_uid: Some("w".into()), next: Some(at(5)), ..Progress::default() }
}

fn undo(sent: Option<i64>) -> PendingUndo {
    PendingUndo {
        decision: "d1".into(),
        workload_uid: "w".into(),
        from: hash("bad"),
        to: hash("good"),
        kept: None,
        intended: at(1),
        sent: sent.map(at),
    }
}

#[test]
fn a_workload_that_serves_when_the_guard_arrives_is_not_judged() {
    let world = workload(Some("a"), &[("a", 1)]);
    let pods = [pod("1", "a", Some(0)), pod("2", "a", Some(0))];
    let Situation::Adopted(seen) = situation(&Progress::default(), &world, &pods, at(9)) else { panic!() };
    assert_eq!((seen.stage, seen.baseline), (Stage::Serving, None));
}

#[test]
fn a_rollout_that_is_still_going_on_when_the_guard_arrives_is_judged() {
    let world = workload(Some("b"), &[("a", 1), ("b", 2)]);
    let pods = [pod("1", "a", Some(0)), pod("2", "b", None)];
    let Situation::Begin(seen) = situation(&Progress::default(), &world, &pods, at(9)) else { panic!() };
    assert_eq!((seen.stage, seen.baseline), (Stage::Judging, Some(hash("a"))));
}

#[test]
fn a_template_changed_while_nobody_looked_is_judged_from_its_start() {
    let before = progress(current("a", None, Stage::Passed));
    let world = workload(Some("b"), &[("a", 1), ("b", 2)]);
    let pods = [pod("1", "b", Some(3)), pod("2", "b", Some(4))];
    let Situation::Begin(seen) = situation(&before, &world, &pods, at(9)) else { panic!() };
    assert_eq!(seen.baseline, Some(hash("a")));
    assert_eq!(seen.first_ready, Some(at(3)));
}

#[test]
fn a_push_while_judging_keeps_the_last_good_baseline() {
    for stage in [Stage::Judging, Stage::Held, Stage::Condemned] {
        let before = progress(current("b", Some("a"), stage));
        let world = workload(Some("c"), &[("a", 1), ("b", 2), ("c", 3)]);
        let Situation::Begin(seen) = situation(&before, &world, &[], at(9)) else { panic!() };
        assert_eq!(seen.baseline, Some(hash("a")), "{stage:?}");
    }
}

#[test]
fn going_back_to_the_baseline_by_hand_is_not_judged() {
    let before = progress(current("b", Some("a"), Stage::Condemned));
    let world = workload(Some("a"), &[("a", 3), ("b", 2)]);
    let Situation::Begin(seen) = situation(&before, &world, &[], at(9)) else { panic!() };
    assert_eq!(seen.stage, Stage::Serving);
}

#[test]
fn another_object_of_the_same_name_starts_afresh() {
    let before = Progress { workload_uid: Some("older".into()), ..progress(current("x", None, Stage::Judging)) };
    let world = workload(Some("a"), &[("a", 1)]);
    assert!(matches!(situation(&before, &world, &[], at(9)), Situation::Adopted(_)));
}

#[test]
fn an_intent_without_its_patch_is_finished() {
    let before = Progress { undo: Some(undo(None)), ..progress(current("bad", Some("good"), Stage::Judging)) };
    let world = workload(Some("bad"), &[("good", 1), ("bad", 2)]);
    assert_eq!(situation(&before, &world, &[], at(9)), Situation::FinishUndo(undo(None)));
}

#[test]
fn a_patch_whose_answer_was_lost_is_found_done() {
    let before = Progress { undo: Some(undo(None)), ..progress(current("bad", Some("good"), Stage::Judging)) };
    let world = Workload { last_rollback: Some("d1".into()), ..workload(Some("good"), &[("good", 3), ("bad", 2)]) };
    assert_eq!(situation(&before, &world, &[], at(9)), Situation::Verify(undo(None)));
}

#[test]
fn the_same_bad_revision_pushed_again_after_the_undo_is_not_undone_by_the_old_decision() {
    let before = Progress { undo: Some(undo(None)), ..progress(current("bad", Some("good"), Stage::Judging)) };
    let world = Workload { last_rollback: Some("d1".into()), ..workload(Some("bad"), &[("good", 3), ("bad", 4)]) };
    assert!(matches!(situation(&before, &world, &[], at(9)), Situation::Overtaken(..)));
}

#[test]
fn a_push_over_a_pending_undo_wins() {
    let before = Progress { undo: Some(undo(Some(2))), ..progress(current("good", None, Stage::Restoring)) };
    let world = workload(Some("fixed"), &[("good", 3), ("bad", 2), ("fixed", 4)]);
    let Situation::Overtaken(_, next) = situation(&before, &world, &[], at(9)) else { panic!() };
    assert_eq!(next.baseline, Some(hash("good")));
}

#[test]
fn nothing_is_due_before_its_time() {
    let resting = progress(current("a", None, Stage::Passed));
    assert_eq!(due(&resting, Changes::default(), at(0)), Due::Rest(Some(at(5))));
    let judging = progress(current("a", Some("b"), Stage::Judging));
    assert_eq!(due(&judging, Changes::default(), at(4)), Due::Rest(Some(at(5))));
    assert_eq!(due(&judging, Changes { pods: true, ..Changes::default() }, at(4)), Due::Facts);
    assert_eq!(due(&judging, Changes::default(), at(5)), Due::Evaluate);
    assert_eq!(due(&resting, Changes { pods: true, ..Changes::default() }, at(4)), Due::Rest(Some(at(5))));
    assert_eq!(due(&Progress::default(), Changes::default(), at(0)), Due::Evaluate);
}

#[test]
fn the_window_counts_from_the_first_ready_pod_and_waits_for_it() {
    let analysis = Analysis {
        interval: Interval::Auto,
        warmup: std::time::Duration::from_secs(10),
        window: std::time::Duration::from_secs(60),
        min_requests: 20,
        on_inconclusive: OnInconclusive::Continue,
        scorer: Scorer::Seed,
        ..Analysis::default()
    };
    let world = workload(Some("b"), &[]);
    let mut judged = current("b", Some("a"), Stage::Judging);
    assert_eq!(window_end(&judged, &analysis, &world), at(660));
    judged.first_ready = Some(at(7));
    assert_eq!(window_end(&judged, &analysis, &world), at(67));
    judged.first_ready = Some(at(-500));
    assert_eq!(window_end(&judged, &analysis, &world), at(60));
}

fn undone(revision: &str, until: i64) -> BadRevision {
    BadRevision { revision: hash(revision), decision: "d0".into(), undone: at(0), until: at(until) }
}

#[test]
fn what_was_undone_and_comes_back_is_not_judged_until_it_is_forgotten() {
    let world = workload(Some("bad"), &[("good", 1), ("bad", 2)]);
    let serving = Progress { bad: vec![undone("bad", 100)], ..progress(current("good", None, Stage::Serving)) };
    let Situation::BackAgain(seen, bad) = situation(&serving, &world, &[], at(9)) else { panic!() };
    assert_eq!((seen.stage, seen.baseline.clone(), bad.until), (Stage::KnownBad, Some(hash("good")), at(100)));
    assert!(matches!(situation(&serving, &world, &[], at(100)), Situation::Begin(_)), "forgotten");

    let standing = Progress { current: Some(seen), ..serving };
    assert!(matches!(situation(&standing, &world, &[], at(99)), Situation::BackAgain(..)));
    let Situation::Begin(again) = situation(&standing, &world, &[], at(100)) else { panic!() };
    assert_eq!((again.stage, again.started, again.baseline), (Stage::Judging, at(100), Some(hash("good"))));
}

#[test]
fn a_new_revision_is_judged_whatever_was_undone_before() {
    let world = workload(Some("fixed"), &[("good", 1), ("bad", 2), ("fixed", 3)]);
    let standing =
        Progress { bad: vec![undone("bad", 100)], ..progress(current("bad", Some("good"), Stage::KnownBad)) };
    let Situation::Begin(seen) = situation(&standing, &world, &[], at(9)) else { panic!() };
    assert_eq!((seen.stage, seen.baseline), (Stage::Judging, Some(hash("good"))));
}

#[test]
fn what_comes_back_before_an_undo_is_verified_is_not_undone_again() {
    let world = workload(Some("bad"), &[("good", 1), ("bad", 2)]);
    let before = Progress { undo: Some(undo(Some(2))), ..progress(current("good", None, Stage::Restoring)) };
    let Situation::Overtaken(_, seen) = situation(&before, &world, &[], at(9)) else { panic!() };
    assert_eq!(seen.stage, Stage::KnownBad);
}

#[test]
fn a_template_put_back_from_what_is_kept_is_recognised_whatever_its_hash() {
    let mut world = workload(Some("good-again"), &[("bad", 2), ("good-again", 3)]);
    world.template = 7;
    let kept = Some(Kept { name: "shop-good-1".into(), template: 7 });
    let before = Progress {
        undo: Some(PendingUndo { kept, ..undo(Some(2)) }),
        ..progress(current("good", None, Stage::Restoring))
    };
    let Situation::Verify(found) = situation(&before, &world, &[], at(9)) else { panic!() };
    assert_eq!(found.to, hash("good-again"));
    world.template = 8;
    assert!(matches!(situation(&before, &world, &[], at(9)), Situation::Overtaken(..)));
}

#[test]
fn a_person_is_waited_for_only_while_there_is_something_to_answer() {
    let world = workload(Some("bad"), &[("good", 1), ("bad", 2)]);
    let pending = PendingApproval {
        decision: "d1".into(),
        workload_uid: "w".into(),
        from: hash("bad"),
        to: hash("good"),
        asked: at(0),
        expires: at(900),
    };
    let waiting = progress(current("bad", Some("good"), Stage::AwaitingApproval));
    let asked = Progress { pending: Some(pending.clone()), ..waiting.clone() };
    assert!(matches!(situation(&asked, &world, &[], at(9)), Situation::AwaitApproval(_, found) if found == pending));
    let Situation::Settled(seen) = situation(&waiting, &world, &[], at(9)) else { panic!() };
    assert_eq!(seen.stage, Stage::Condemned);
}

proptest! {
    #[test]
    fn guards_of_one_interval_wake_together(millis in 0_i64..10_000_000_000, seconds in 1_u64..600) {
        let now = Timestamp::from_millisecond(millis).unwrap();
        let interval = std::time::Duration::from_secs(seconds);
        let next = next_on_grid(now, interval);
        prop_assert!(next > now);
        prop_assert!(next.duration_since(now).unsigned_abs() <= interval);
        let every = i64::try_from(interval.as_millis()).unwrap();
        prop_assert_eq!((next.as_millisecond() - SETTLE_MS).rem_euclid(every), 0);
    }

    #[test]
    fn a_revision_found_bad_is_never_a_baseline(stage in 0_usize..Stage::ALL.len(), revision in "[ab]", base in proptest::option::of("[ab]")) {
        let stage = Stage::ALL[stage];
        let before = progress(current(&revision, base.as_deref(), stage));
        let world = workload(Some("c"), &[("a", 1), ("b", 2), ("c", 3)]);
        let Situation::Begin(seen) = situation(&before, &world, &[], at(9)) else { panic!() };
        let unfit = [Stage::Condemned, Stage::AwaitingApproval, Stage::KnownBad, Stage::Judging, Stage::Held];
        if unfit.contains(&stage) {
            prop_assert_eq!(seen.baseline, base.as_deref().map(hash));
        } else {
            prop_assert_eq!(seen.baseline, Some(hash(&revision)));
        }
    }

    #[test]
    fn a_pending_undo_is_sent_only_while_the_judged_revision_is_there(
        revision in proptest::sample::select(vec!["bad", "good", "other"]),
        landed in any::<bool>(),
        sent in any::<bool>(),
    ) {
        let before = Progress {
            undo: Some(undo(sent.then_some(2))),
            ..progress(current("bad", Some("good"), Stage::Judging))
        };
        let world = Workload {
            last_rollback: landed.then(|| "d1".into()),
            ..workload(Some(revision), &[("good", 1), ("bad", 2), ("other", 3)])
        };
        let sends = matches!(situation(&before, &world, &[], at(9)), Situation::FinishUndo(_));
        prop_assert_eq!(sends, revision == "bad" && !landed && !sent);
    }

    #[test]
    fn stages_read_back_as_written(index in 0_usize..7) {
        prop_assert_eq!(Stage::parse(Stage::ALL[index].as_str()), Some(Stage::ALL[index]));
    }
}
