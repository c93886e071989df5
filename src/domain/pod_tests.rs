use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{at, container};

fn end(second: i64, code: i32) -> Exit {
    Exit { at: at(second), code: Some(code), reason: "Error".into(), message: None }
}

fn waiting(reason: &str, message: &str) -> Glimpse {
    Glimpse { waiting: Some((reason.into(), message.into())), ..Glimpse::default() }
}

fn see(before: Option<&ContainerFact>, glimpse: &Glimpse, second: i64) -> ContainerFact {
    container("app").follow(before, glimpse, at(0), at(second))
}

#[test]
fn the_time_of_a_family_runs_on_while_its_reasons_alternate() {
    let first = see(None, &waiting("ErrImagePull", "dial tcp: i/o timeout"), 10);
    let second = see(Some(&first), &waiting("ImagePullBackOff", "Back-off pulling image"), 20);
    let third = see(Some(&second), &waiting("ContainerCreating", ""), 25);
    let last = see(Some(&third), &waiting("ErrImagePull", "dial tcp: i/o timeout"), 40);
    assert_eq!(last.trouble.unwrap().since, at(10));
}

#[test]
fn what_a_message_called_hopeless_stays_so_while_the_next_says_less() {
    let first = see(None, &waiting("ErrImagePull", "manifest unknown: manifest unknown"), 10);
    let second = see(Some(&first), &waiting("ImagePullBackOff", "Back-off pulling image"), 20);
    assert_eq!(second.trouble.unwrap().hopeless_since, Some(at(10)));
}

#[test]
fn a_container_that_runs_long_enough_got_over_it() {
    let first = see(None, &waiting("CreateContainerError", "x"), 10);
    let running = Glimpse { running: Some(at(20)), ..Glimpse::default() };
    assert!(see(Some(&first), &running, 25).trouble.is_some());
    assert!(see(Some(&first), &running, 30).trouble.is_none());
}

#[test]
fn a_start_error_is_still_one_while_the_container_backs_off() {
    let last = Exit { reason: "StartError".into(), ..end(5, 128) };
    let glimpse = Glimpse { restarts: 1, last: Some(last), ..waiting("CrashLoopBackOff", "back-off") };
    assert_eq!(see(None, &glimpse, 6).trouble.unwrap().family, Family::Start);
}

#[test]
fn an_init_container_that_ended_well_did_its_work() {
    let init = ContainerFact { role: Role::Init, ..container("init") };
    let done = Glimpse { terminated: Some(end(5, 0)), ..Glimpse::default() };
    assert_eq!(init.clone().follow(None, &done, at(0), at(6)).ended, 0);
    let failed = Glimpse { terminated: Some(end(5, 2)), ..Glimpse::default() };
    assert_eq!(init.follow(None, &failed, at(0), at(6)).ended, 1);
}

#[test]
fn only_what_cannot_heal_is_called_so() {
    let cases = [
        ("ErrImageNeverPull", "", true),
        ("InvalidImageName", "", true),
        ("ErrImagePull", "failed to resolve reference \"r/x:9\": r/x:9: not found", true),
        ("ErrImagePull", "manifest unknown", true),
        ("ErrImagePull", "dial tcp: lookup r on 10.0.0.10:53: no such host", false),
        ("ErrImagePull", "dial tcp 10.0.0.1:443: connect: connection refused", false),
        ("ErrImagePull", "429 Too Many Requests", false),
        ("CreateContainerConfigError", "couldn't find key url in ConfigMap shop/settings", true),
        ("CreateContainerConfigError", "configmap \"settings\" not found", false),
        ("CreateContainerConfigError", "secret \"db\" not found", false),
        ("CrashLoopBackOff", "not found", false),
    ];
    for (reason, message, wanted) in cases {
        assert_eq!(cannot_heal(reason, message), wanted, "{reason} {message}");
    }
}

proptest! {
    /// However many observations are missed, the count is that of the last one, and what is remembered is bounded.
    #[test]
    fn missed_observations_lose_details_but_never_the_count(restarts in proptest::collection::vec(0_u32..5, 1..40)) {
        let mut total = 0;
        let mut known: Option<ContainerFact> = None;
        for (second, more) in (0_i64..).zip(restarts) {
            total += more;
            let glimpse = Glimpse {
                restarts: total,
                running: Some(at(second)),
                last: (total > 0).then(|| end(second, 1)),
                ..Glimpse::default()
            };
            let next = see(known.as_ref(), &glimpse, second);
            prop_assert_eq!(next.ended, total);
            prop_assert!(next.exits.len() <= EXITS_KEPT);
            prop_assert!(next.exits.windows(2).all(|pair| pair[0].at <= pair[1].at));
            known = Some(next);
        }
    }
}

#[test]
fn every_reason_of_the_design_belongs_to_its_family() {
    let families: [(&[&str], Family); 4] = [
        (
            &["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"],
            Family::Image,
        ),
        (&["CreateContainerConfigError"], Family::Config),
        (&["CreateContainerError", "RunContainerError", "StartError"], Family::Start),
        (&["PreCreateHookError", "PreStartHookError", "PostStartHookError"], Family::Hook),
    ];
    for (reasons, family) in families {
        assert!(reasons.iter().all(|reason| Family::of(reason) == Some(family)), "{reasons:?}");
    }
    let ordinary: [Arc<str>; 3] = ["ContainerCreating".into(), "PodInitializing".into(), "CrashLoopBackOff".into()];
    assert!(ordinary.iter().all(|reason| Family::of(reason).is_none()));
}
