use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{self, at, container};
use crate::domain::plan::Stage;
use crate::domain::pod::{ContainerFact, Exit, Family, Role, Trouble};
use crate::domain::rollout::RevisionHash;

/// A cluster in which nothing else is wrong, unless a test says so.
#[derive(Default)]
struct Calm {
    node: Option<&'static str>,
    well_since: Option<Timestamp>,
    fails_on: Option<&'static str>,
    pulls: Option<&'static str>,
}

impl Around for Calm {
    fn node_trouble(&self, node: &str, _: Timestamp) -> Option<Arc<str>> {
        self.node.filter(|bad| *bad == node).map(|_| "not ready".into())
    }

    fn node_well_since(&self, _: &str) -> Option<Timestamp> {
        self.well_since
    }

    fn fails_on(&self, node: &str, _: Timestamp) -> Option<String> {
        self.fails_on.filter(|bad| *bad == node).map(|_| "other/pod".into())
    }

    fn cannot_pull(&self, registry: &str, _: Timestamp) -> Option<String> {
        self.pulls.filter(|down| *down == registry).map(|_| "other/pod".into())
    }
}

struct Scene {
    policy: PodPolicy,
    current: Current,
    workload: Workload,
    pods: Vec<PodFact>,
    told: BTreeMap<Arc<str>, Told>,
    around: Calm,
}

impl Scene {
    fn of(pods: Vec<PodFact>) -> Self {
        Self {
            policy: PodPolicy::default(),
            current: Current {
                baseline: Some(RevisionHash::new("good")),
                baseline_start: Some(StartRecord::default()),
                ..Current::new(RevisionHash::new("bad"), at(0), Stage::Judging)
            },
            workload: fixture::workload(Some("bad"), &[("good", 1), ("bad", 2)]),
            pods,
            told: BTreeMap::new(),
            around: Calm::default(),
        }
    }

    fn at(&self, second: i64) -> Report {
        report(&FactInput {
            now: at(second),
            policy: &self.policy,
            current: &self.current,
            workload: &self.workload,
            pods: &self.pods,
            told: &self.told,
            around: &self.around,
        })
    }

    fn fact(&self, second: i64) -> Option<FactKind> {
        self.at(second).fact.map(|fact| fact.kind)
    }

    fn held(&self, second: i64) -> Option<Reason> {
        let report = self.at(second);
        assert_eq!(report.fact, None);
        report.hold.map(|hold| hold.reason)
    }
}

fn exit(second: i64, reason: &str) -> Exit {
    Exit { at: at(second), code: Some(1), reason: reason.into(), message: None }
}

fn ended(seconds: &[i64], reason: &str) -> ContainerFact {
    ContainerFact {
        ended: u32::try_from(seconds.len()).unwrap(),
        exits: seconds.iter().map(|second| exit(*second, reason)).collect(),
        ..container("app")
    }
}

fn stuck(family: Family, since: i64, hopeless: bool) -> ContainerFact {
    let trouble = Trouble {
        family,
        since: at(since),
        hopeless_since: hopeless.then(|| at(since)),
        reason: "ErrImagePull".into(),
        message: "said the kubelet".into(),
    };
    ContainerFact { trouble: Some(Box::new(trouble)), ..container("app") }
}

fn new(name: &str, container: ContainerFact) -> PodFact {
    PodFact { containers: vec![container], ..fixture::pod(name, "bad") }
}

fn old(name: &str, container: ContainerFact) -> PodFact {
    PodFact { containers: vec![container], ..well(name, "good") }
}

fn well(name: &str, revision: &str) -> PodFact {
    let ready = ContainerFact { ready: true, ..container("app") };
    let mut pod = fixture::pod(name, revision);
    (pod.ready_since, pod.first_ready, pod.containers) = (Some(at(1)), Some(at(1)), vec![ready]);
    pod
}

fn on(node: &str, pod: PodFact) -> PodFact {
    PodFact { node: Some(node.into()), ..pod }
}

#[test]
fn four_ends_over_two_new_pods_are_a_crash_loop_and_three_are_not() {
    let three = Scene::of(vec![new("a", ended(&[1, 2], "Error")), new("b", ended(&[1], "Error"))]);
    assert_eq!(three.fact(3), None);
    let four = Scene::of(vec![new("a", ended(&[1, 2], "Error")), new("b", ended(&[1, 2], "Error"))]);
    assert_eq!(four.fact(3), Some(FactKind::CrashLoop));
}

#[test]
fn three_ends_of_the_only_pod_are_a_crash_loop() {
    assert_eq!(Scene::of(vec![new("a", ended(&[1, 2], "Error"))]).fact(3), None);
    let scene = Scene::of(vec![new("a", ended(&[1, 2, 13], "Error"))]);
    assert_eq!(scene.fact(13), Some(FactKind::CrashLoop));
    let sentence = scene.at(13).fact.unwrap().sentence;
    assert!(sentence.contains("pod a, container app: exit code 1 (Error)"), "{sentence}");
}

#[test]
fn that_all_pods_end_once_at_the_same_moment_is_no_loop() {
    let pods: Vec<PodFact> = (0..5).map(|n| new(&format!("p{n}"), ended(&[100], "Error"))).collect();
    assert_eq!(Scene::of(pods).fact(101), None);
}

#[test]
fn a_release_that_never_stops_crashing_is_found_however_badly_the_old_one_started() {
    let mut scene = Scene::of(vec![new("a", ended(&[0, 1, 12, 33, 75, 157], "Error"))]);
    scene.current.baseline_start = Some(StartRecord { exits: 40 });
    assert_eq!(scene.fact(76), Some(FactKind::CrashLoop));
}

#[test]
fn ends_further_apart_than_the_time_they_are_counted_in_are_none() {
    assert_eq!(Scene::of(vec![new("a", ended(&[1, 200, 400], "Error"))]).fact(400), None);
}

#[test]
fn as_many_ends_as_the_old_revisions_own_start_had_are_nothing_new() {
    let mut scene = Scene::of(vec![new("a", ended(&[1, 2], "Error")), new("b", ended(&[1, 2], "Error"))]);
    scene.current.baseline_start = Some(StartRecord { exits: 2 });
    assert_eq!(scene.fact(3), None);
    scene.pods = vec![new("a", ended(&[1, 2, 13, 30], "Error")), new("b", ended(&[1, 2, 13, 30], "Error"))];
    assert_eq!(scene.fact(30), Some(FactKind::CrashLoop));
    // Nobody saw the old one start: it may have been one of those.
    scene.current.baseline_start = None;
    scene.pods = vec![new("a", ended(&[1, 2], "Error")), new("b", ended(&[1, 2], "Error"))];
    assert_eq!(scene.fact(3), None);
}

#[test]
fn once_three_new_pods_had_time_to_start_one_alone_proves_nothing() {
    let crash = || new("a", ended(&[1, 2, 13], "Error"));
    let two = Scene::of(vec![crash(), well("b", "bad")]);
    assert_eq!(two.fact(13), Some(FactKind::CrashLoop));
    let three = Scene::of(vec![crash(), well("b", "bad"), well("c", "bad")]);
    assert_eq!(three.fact(13), None);
}

#[test]
fn two_bad_nodes_do_not_undo_a_large_daemon_set() {
    let mut pods: Vec<PodFact> = (0..498).map(|n| on(&format!("n{n}"), well(&format!("w{n}"), "bad"))).collect();
    for n in 498..500 {
        pods.push(on(&format!("n{n}"), new(&format!("w{n}"), ended(&[1, 2, 13], "Error"))));
    }
    let report = Scene::of(pods).at(13);
    assert_eq!(report.fact, None);
    assert_eq!(report.findings[0].new, 6);
}

#[test]
fn two_kills_for_memory_are_enough_unless_the_old_revision_has_them_as_often() {
    let oom = |name| new(name, ended(&[10], "OOMKilled"));
    assert_eq!(Scene::of(vec![oom("a"), oom("b")]).fact(20), Some(FactKind::OutOfMemory));
    assert_eq!(Scene::of(vec![oom("a")]).fact(20), None);
    // One in a while on the old revision, and two at once on the new one: more than chance.
    let seldom = PodFact { created: at(-7200), ..old("c", ended(&[2], "OOMKilled")) };
    assert_eq!(Scene::of(vec![oom("a"), oom("b"), seldom]).fact(20), Some(FactKind::OutOfMemory));
    let often = old("c", ended(&[2, 5, 8, 11, 14], "OOMKilled"));
    assert_eq!(Scene::of(vec![oom("a"), oom("b"), often]).fact(20), None);
}

#[test]
fn an_image_that_does_not_exist_is_waited_for_ten_seconds_and_a_slow_registry_a_minute() {
    let hopeless = Scene::of(vec![new("a", stuck(Family::Image, 1, true))]);
    assert_eq!(hopeless.fact(10), None);
    assert_eq!(hopeless.at(10).next, Some(at(11)));
    assert_eq!(hopeless.fact(11), Some(FactKind::ImagePull));
    let slow = Scene::of(vec![new("a", stuck(Family::Image, 1, false))]);
    assert_eq!(slow.fact(60), None);
    assert_eq!(slow.fact(61), Some(FactKind::ImagePull));
}

#[test]
fn a_registry_that_others_cannot_reach_either_is_no_fault_of_the_release() {
    let mut scene = Scene::of(vec![new("a", stuck(Family::Image, 1, false))]);
    scene.around.pulls = Some("registry.example");
    assert_eq!(scene.held(61), Some(Reason::RegistryUnavailable));
    // What does not exist does not exist, whatever others suffer.
    scene.pods = vec![new("a", stuck(Family::Image, 1, true))];
    assert_eq!(scene.fact(61), Some(FactKind::ImagePull));
}

#[test]
fn old_pods_with_the_same_symptom_make_it_nothing_new() {
    let pull = stuck(Family::Image, 1, false);
    let scene = Scene::of(vec![new("a", pull.clone()), old("b", pull), well("c", "good")]);
    assert_eq!(scene.held(61), Some(Reason::SharedIncident));
    let crash = |name: &str| new(name, ended(&[1, 2, 13], "Error"));
    let late = |name: &str, second: i64| new(name, ended(&[second - 12, second - 11, second], "Error"));
    let scene = Scene::of(vec![late("a", 400), old("b", ended(&[390, 395], "Error"))]);
    assert_eq!(scene.held(400), Some(Reason::SharedIncident));
    // What an old pod did at its own start excuses nobody.
    let scene = Scene::of(vec![crash("a"), old("b", ended(&[3], "Error"))]);
    assert_eq!(scene.fact(13), Some(FactKind::CrashLoop));
    // One old pod of ten that has been failing says nothing about two of two new ones.
    let mut pods: Vec<PodFact> = (0..9).map(|n| well(&format!("o{n}"), "good")).collect();
    pods.extend([late("a", 400), late("b", 400), old("o9", ended(&[390, 395], "Error"))]);
    assert_eq!(Scene::of(pods).fact(400), Some(FactKind::CrashLoop));
}

#[test]
fn a_node_in_trouble_explains_the_pods_on_it_and_no_others() {
    let crash = |name: &str, node: &str| on(node, new(name, ended(&[1, 2, 13], "Error")));
    let mut scene = Scene::of(vec![crash("a", "n2"), well("b", "bad")]);
    scene.around.node = Some("n2");
    assert_eq!(scene.held(13), Some(Reason::NodeProblem));
    scene.pods.push(crash("c", "n3"));
    assert_eq!(scene.fact(13), Some(FactKind::CrashLoop));
}

#[test]
fn others_who_fail_on_a_node_explain_it_only_while_new_pods_are_well_elsewhere() {
    let crash = on("n2", new("a", ended(&[1, 2, 13], "Error")));
    let mut scene = Scene::of(vec![crash.clone(), on("n1", well("b", "bad"))]);
    scene.around.fails_on = Some("n2");
    assert_eq!(scene.held(13), Some(Reason::NodeProblem));
    // One node, one replica: undone all the same.
    scene.pods = vec![crash];
    assert_eq!(scene.fact(13), Some(FactKind::CrashLoop));
}

#[test]
fn what_the_cluster_ends_itself_is_no_crash() {
    let evicted = PodFact { disrupted: Some("Evicted".into()), ..new("a", ended(&[1, 2, 13], "Error")) };
    let report = Scene::of(vec![evicted]).at(13);
    assert_eq!((report.fact, report.hold), (None, None));
}

#[test]
fn pods_without_a_place_hold_with_their_reason_unless_the_template_changed_what_decides_about_it() {
    let homeless = PodFact {
        unschedulable: Some("0/3 nodes are available: 3 Insufficient cpu".into()),
        scheduled: None,
        node: None,
        ..fixture::pod("a", "bad")
    };
    let mut scene = Scene::of(vec![homeless, well("b", "good")]);
    assert_eq!(scene.held(5), None, "a surge pod may wait a moment");
    assert_eq!(scene.at(5).next, Some(at(10)));
    assert_eq!(scene.held(10), Some(Reason::Unschedulable));
    scene.workload.replica_failure = Some("exceeded quota: pods".into());
    assert_eq!(scene.held(5), Some(Reason::ReplicaFailure));
    scene.workload.revisions.get_mut(&RevisionHash::new("bad")).unwrap().placement = 7;
    assert_eq!(scene.held(5), None);
    // Then it is the release that asks for what no node has.
    assert_eq!(scene.fact(600), Some(FactKind::NeverReady));
}

#[test]
fn kills_by_a_probe_are_known_from_events_and_are_no_crashes() {
    let probed = ContainerFact { is_probed: true, ..ended(&[10, 40], "Error") };
    let mut scene = Scene::of(vec![new("a", probed)]);
    assert_eq!(questions(&scene.policy, &scene.current, &scene.pods, at(41)).len(), 1);
    assert_eq!(scene.fact(41), None);
    scene.told.insert("a".into(), Told { probe_kills: 2, ..Told::default() });
    assert_eq!(scene.fact(41), Some(FactKind::LivenessKills));
}

#[test]
fn a_volume_that_never_mounts_needs_its_time_and_its_event() {
    let mut scene = Scene::of(vec![new("a", container("app"))]);
    assert_eq!(scene.at(60).next, Some(at(120)));
    assert!(questions(&scene.policy, &scene.current, &scene.pods, at(119)).is_empty());
    assert_eq!(questions(&scene.policy, &scene.current, &scene.pods, at(120)).len(), 1);
    assert_eq!(scene.fact(121), None);
    scene.told.insert("a".into(), Told { not_mounted: Some("configmap \"x\" not found".into()), ..Told::default() });
    assert_eq!(scene.fact(121), Some(FactKind::VolumeMount));
}

#[test]
fn readiness_is_waited_for_to_its_deadline_and_a_passed_deadline_needs_a_pod_that_is_not_well() {
    let mut scene = Scene::of(vec![new("a", container("app"))]);
    scene.policy.volume_mounts = None;
    assert_eq!(scene.at(1).next, Some(at(600)));
    assert_eq!(scene.fact(599), None);
    assert_eq!(scene.fact(600), Some(FactKind::NeverReady));
    scene.workload.deadline_passed = true;
    assert_eq!(scene.fact(300), Some(FactKind::Progress));
    // Old pods that are not ready either: something else is wrong.
    let unready = PodFact { ready_since: None, ..old("o", container("app")) };
    scene.pods.push(unready);
    assert_eq!(scene.held(300), Some(Reason::SharedIncident));
    scene.pods = vec![well("a", "bad")];
    assert_eq!(scene.fact(300), None);
}

#[test]
fn time_that_a_node_was_away_does_not_count_towards_any_deadline() {
    let mut scene = Scene::of(vec![new("a", container("app"))]);
    scene.policy.volume_mounts = None;
    scene.around.well_since = Some(at(700));
    assert_eq!(scene.fact(701), None);
    assert_eq!(scene.fact(1300), Some(FactKind::NeverReady));
    scene.pods = vec![new("a", stuck(Family::Image, 1, true))];
    assert_eq!(scene.fact(701), None);
    assert_eq!(scene.fact(760), Some(FactKind::ImagePull));
}

#[test]
fn the_workloads_deadline_counts_where_our_own_is_off() {
    let mut scene = Scene::of(vec![new("a", container("app"))]);
    (scene.policy.volume_mounts, scene.policy.readiness) = (None, None);
    assert_eq!(scene.fact(5000), None);
    scene.workload.deadline_passed = true;
    assert_eq!(scene.fact(300), Some(FactKind::Progress));
}

#[test]
fn init_and_sidecar_containers_are_named_for_what_they_are() {
    for (role, noun) in [(Role::Init, "init container"), (Role::Sidecar, "sidecar container")] {
        let failing = ContainerFact { role, ..ended(&[1, 2, 13], "Error") };
        let sentence = Scene::of(vec![new("a", failing)]).at(13).fact.unwrap().sentence;
        assert!(sentence.contains(noun), "{sentence}");
    }
}

#[test]
fn each_fact_can_be_off_and_all_of_them_at_once() {
    let mut scene = Scene::of(vec![new("a", ended(&[1, 2, 13], "Error"))]);
    scene.policy.crash_loop = None;
    assert_eq!(scene.fact(13), None);
    scene.policy = PodPolicy { enabled: false, ..PodPolicy::default() };
    assert_eq!(scene.at(13), Report::default());
}

#[test]
fn the_start_of_old_pods_is_read_from_what_is_left_of_it() {
    let young = old("a", ended(&[3, 9], "Error"));
    assert_eq!(StartRecord::of([&young]), Some(StartRecord { exits: 2 }));
    // Forty restarts over weeks are not forty at its start.
    let mut long = ended(&[500_000], "Error");
    long.ended = 40;
    assert_eq!(StartRecord::of([&old("b", long)]), Some(StartRecord { exits: 2 }));
    assert_eq!(StartRecord::of([]), None);
}

#[test]
fn the_registry_is_read_off_the_name_as_the_runtime_does() {
    for (image, wanted) in [
        ("nginx", "docker.io"),
        ("library/nginx:1", "docker.io"),
        ("ghcr.io/a/b:1", "ghcr.io"),
        ("localhost:5000/a", "localhost:5000"),
        ("localhost/a", "localhost"),
    ] {
        assert_eq!(registry(image), wanted);
    }
}

fn any_container() -> impl Strategy<Value = ContainerFact> {
    prop_oneof![
        Just(ContainerFact { ready: true, ..container("app") }),
        proptest::collection::vec(0_i64..100, 0..6).prop_map(|mut seconds| {
            seconds.sort_unstable();
            ended(&seconds, "Error")
        }),
        (0_i64..100, any::<bool>()).prop_map(|(since, hopeless)| stuck(Family::Image, since, hopeless)),
    ]
}

fn any_pods() -> impl Strategy<Value = Vec<PodFact>> {
    proptest::collection::vec((any::<bool>(), any_container()), 0..8).prop_map(|pods| {
        let pod = |(index, (is_new, container)): (usize, (bool, ContainerFact))| {
            let name = format!("p{index}");
            if is_new { new(&name, container) } else { old(&name, container) }
        };
        pods.into_iter().enumerate().map(pod).collect()
    })
}

proptest! {
    /// Without a new pod that fails there is no fact, whatever old pods do.
    #[test]
    fn old_pods_alone_never_prove_anything(pods in any_pods(), second in 0_i64..1000) {
        let pods: Vec<PodFact> = pods.into_iter().filter(|pod| pod.revision.as_str() == "good").collect();
        let report = Scene::of(pods).at(second);
        prop_assert_eq!(report.fact, None);
    }

    /// The order in which pods are listed changes neither fact nor hold.
    #[test]
    fn the_order_of_pods_does_not_matter(pods in any_pods(), second in 0_i64..200) {
        let there = Scene::of(pods.clone()).at(second);
        let back = Scene::of(pods.into_iter().rev().collect()).at(second);
        prop_assert_eq!(there.fact.map(|fact| fact.kind), back.fact.map(|fact| fact.kind));
        prop_assert_eq!(there.hold.map(|hold| hold.reason), back.hold.map(|hold| hold.reason));
        prop_assert_eq!(there.next, back.next);
    }

    /// A pod more that is well never makes a release worse.
    #[test]
    fn a_healthy_new_pod_never_causes_a_fact(pods in any_pods(), second in 0_i64..200) {
        let before = Scene::of(pods.clone()).at(second);
        let mut more = pods;
        more.push(well("extra", "bad"));
        let after = Scene::of(more).at(second);
        // It may end a hold by old pods' share, never begin a fact where nothing was held.
        prop_assert!(after.fact.is_none() || before.fact.is_some() || before.hold.is_some());
    }

    /// With everything off nothing is ever said.
    #[test]
    fn switched_off_it_is_silent(pods in any_pods(), second in 0_i64..200) {
        let mut scene = Scene::of(pods);
        scene.policy.enabled = false;
        prop_assert_eq!(scene.at(second), Report::default());
    }
}
