use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn lease(holder: &str, renewal: i64) -> Observed {
    let renewed = Timestamp::from_second(renewal).ok();
    Observed { holder: (!holder.is_empty()).then(|| holder.to_owned()), renewed, transitions: 1 }
}

#[test]
fn a_missing_or_released_lease_is_taken_at_once() {
    assert_eq!(evaluate(&State::default(), "a", None, SECOND).1, Step::Create);
    assert_eq!(evaluate(&State::default(), "a", Some(lease("", 0)), SECOND).1, Step::Write);
}

#[test]
fn a_lease_of_another_is_taken_only_after_it_stood_still() {
    let (state, step) = evaluate(&State::default(), "a", Some(lease("b", 0)), Duration::ZERO);
    assert_eq!(step, Step::Wait);
    let (state, step) = evaluate(&state, "a", Some(lease("b", 0)), 14 * SECOND);
    assert_eq!(step, Step::Wait);
    let (renewed, step) = evaluate(&state, "a", Some(lease("b", 13)), 15 * SECOND);
    assert_eq!(step, Step::Wait, "a renewal starts the wait anew");
    assert_eq!(evaluate(&renewed, "a", Some(lease("b", 13)), 29 * SECOND).1, Step::Wait);
    assert_eq!(evaluate(&state, "a", Some(lease("b", 0)), 15 * SECOND).1, Step::Write);
}

#[test]
fn old_times_in_the_lease_mean_nothing() {
    assert_eq!(evaluate(&State::default(), "a", Some(lease("b", -1_000_000)), SECOND).1, Step::Wait);
}

#[test]
fn a_lease_deleted_under_its_holder_is_not_made_anew_at_once() {
    let (state, _) = evaluate(&State::default(), "a", Some(lease("b", 0)), Duration::ZERO);
    let (state, step) = evaluate(&state, "a", None, SECOND);
    assert_eq!(step, Step::Wait);
    let (state, step) = evaluate(&state, "a", None, 15 * SECOND);
    assert_eq!(step, Step::Wait);
    assert_eq!(evaluate(&state, "a", None, 16 * SECOND).1, Step::Create);
}

#[test]
fn a_leader_that_sees_another_holder_stops_at_once() {
    let mut state = State::default();
    state.wrote(SECOND);
    assert!(state.holds(2 * SECOND));
    assert!(!evaluate(&state, "a", Some(lease("b", 0)), 2 * SECOND).0.holds(2 * SECOND));
}

#[test]
fn a_leader_that_cannot_renew_stops_by_the_clock_alone() {
    let mut state = State::default();
    state.wrote(SECOND);
    assert!(state.holds(Duration::from_millis(10_999)));
    assert!(!state.holds(11 * SECOND));
}

#[test]
fn leadership_without_election_always_holds() {
    assert!(Leadership::always().holds());
}

/// One candidate of the simulation, with a clock that runs at its own speed (per mille of true time).
struct Candidate {
    name: &'static str,
    speed: u32,
    state: State,
    /// A look that was made and whose write is under way: version seen, step, when it was sent.
    under_way: Option<(u64, Step, Duration)>,
}

impl Candidate {
    fn clock(&self, time: Duration) -> Duration {
        time * self.speed / 1000
    }
}

/// The stored Lease and its resourceVersion; 0 means that there is none.
#[derive(Default)]
struct Server {
    version: u64,
    lease: Option<Observed>,
}

#[derive(Debug, Clone)]
enum Happening {
    /// True time passes, in milliseconds.
    Pass(u64),
    /// A candidate looks and sends its write.
    Look(usize),
    /// Its write arrives; the answer may be lost.
    Arrive(usize, bool),
    /// Its write is lost.
    Lose(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0_u64..4000).prop_map(Happening::Pass),
        1 => (4000_u64..20_000).prop_map(Happening::Pass),
        4 => (0_usize..2).prop_map(Happening::Look),
        4 => ((0_usize..2), any::<bool>()).prop_map(|(who, lost)| Happening::Arrive(who, lost)),
        1 => (0_usize..2).prop_map(Happening::Lose),
    ]
}

fn arrive(server: &mut Server, candidate: &mut Candidate, time: Duration, answer_lost: bool) {
    let Some((version, step, sent)) = candidate.under_way.take() else { return };
    let unchanged = match step {
        Step::Create => server.lease.is_none(),
        Step::Write => server.version == version,
        Step::Wait => false,
    };
    if !unchanged {
        return;
    }
    server.version += 1;
    server.lease = Some(Observed {
        holder: Some(candidate.name.to_owned()),
        renewed: Timestamp::from_millisecond(i64::try_from(time.as_millis()).expect("small")).ok(),
        transitions: 0,
    });
    if !answer_lost {
        candidate.state.wrote(sent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn two_candidates_never_both_hold(
        speeds in (850_u32..1150, 850_u32..1150), story in prop::collection::vec(happening(), 1..120),
    ) {
        let mut candidates = [("a", speeds.0), ("b", speeds.1)]
            .map(|(name, speed)| Candidate { name, speed, state: State::default(), under_way: None });
        let mut server = Server::default();
        let mut time = Duration::ZERO;
        for event in story {
            match event {
                Happening::Pass(milliseconds) => time += Duration::from_millis(milliseconds),
                Happening::Look(who) => {
                    let candidate = &mut candidates[who];
                    let now = candidate.clock(time);
                    let (state, step) = evaluate(&candidate.state, candidate.name, server.lease.clone(), now);
                    candidate.state = state;
                    candidate.under_way = Some((server.version, step, now));
                }
                Happening::Arrive(who, lost) => arrive(&mut server, &mut candidates[who], time, lost),
                Happening::Lose(who) => candidates[who].under_way = None,
            }
            let leaders = candidates.iter().filter(|candidate| candidate.state.holds(candidate.clock(time))).count();
            prop_assert!(leaders <= 1);
        }
    }
}

/// A stored Lease that candidates reach by clients of their own, each of which can be cut off.
#[derive(Default)]
struct Store {
    lease: Mutex<Option<Lease>>,
    version: std::sync::atomic::AtomicU64,
}

impl Store {
    fn answer(&self, request: &http::Request<Vec<u8>>) -> http::Response<kube::client::Body> {
        let mut lease = self.lease.lock().expect("lock");
        let status = |code: u16, reason: &str| {
            (code, serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}))
        };
        let (code, body) = if request.method() == http::Method::GET {
            lease.as_ref().map_or_else(|| status(404, "NotFound"), |lease| (200, serde_json::json!(lease)))
        } else {
            let mut sent: Lease = serde_json::from_slice(request.body()).expect("a Lease");
            let stored = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            if sent.metadata.resource_version == stored {
                let version = self.version.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                sent.metadata.resource_version = Some(version.to_string());
                *lease = Some(sent.clone());
                (200, serde_json::json!(sent))
            } else {
                status(409, "Conflict")
            }
        };
        let body = kube::client::Body::from(body.to_string().into_bytes());
        http::Response::builder().status(code).body(body).expect("a response")
    }

    fn holder(&self) -> Option<String> {
        self.lease.lock().expect("lock").as_ref()?.spec.as_ref()?.holder_identity.clone()
    }
}

/// A running candidate.
struct Running {
    leadership: Leadership,
    cut: Arc<AtomicBool>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

fn candidate(store: &Arc<Store>, identity: &str) -> (Campaign, Leadership, Arc<AtomicBool>) {
    let (cut, store) = (Arc::new(AtomicBool::new(false)), store.clone());
    let is_cut = cut.clone();
    let client = Client::new(
        tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (store, is_cut) = (store.clone(), is_cut.clone());
            async move {
                if is_cut.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?.to_vec();
                Ok::<_, kube::Error>(store.answer(&http::Request::from_parts(parts, body)))
            }
        }),
        "operators",
    );
    let config =
        LeaseConfig { namespace: "operators".into(), name: "deployment-guard".into(), identity: identity.into() };
    let (campaign, leadership) = Campaign::new(client, config);
    (campaign, leadership, cut)
}

fn run(store: &Arc<Store>, identity: &str) -> Running {
    let (campaign, leadership, cut) = candidate(store, identity);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(campaign.run(async { drop(stopped.await) }));
    Running { leadership, cut, stop: Some(stop) }
}

/// The first leads, the second waits.
async fn two(store: &Arc<Store>) -> [Running; 2] {
    let first = run(store, "first");
    first.leadership.acquired().await;
    let second = run(store, "second");
    tokio::time::sleep(5 * SECOND).await;
    assert!(first.leadership.holds() && !second.leadership.holds());
    [first, second]
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_five_seconds_before_the_next_one_begins() {
    let store = Arc::new(Store::default());
    let [first, second] = two(&store).await;
    first.cut.store(true, Ordering::SeqCst);
    let began = Instant::now();
    first.leadership.lost().await;
    let stopped = began.elapsed();
    assert!(!first.leadership.holds() && !second.leadership.holds());
    assert!(stopped <= RENEW_DEADLINE + SECOND / 10, "acted for {stopped:?} without the API server");
    second.leadership.acquired().await;
    let taken = began.elapsed();
    assert!(taken >= stopped + 3 * SECOND, "stopped after {stopped:?}, taken over after {taken:?}");
    assert!(taken <= LEASE + 2 * RETRY, "taken over after {taken:?}");
    // Back on the network it leads no more, whatever it does.
    first.cut.store(false, Ordering::SeqCst);
    tokio::time::sleep(20 * SECOND).await;
    assert!(!first.leadership.holds() && second.leadership.holds());
    assert_eq!(store.holder().as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_in_order_is_followed_within_seconds() {
    let store = Arc::new(Store::default());
    let [mut first, second] = two(&store).await;
    let began = Instant::now();
    assert!(first.stop.take().is_some_and(|stop| stop.send(()).is_ok()));
    first.leadership.lost().await;
    assert!(!first.leadership.holds(), "it gives the Lease back when nothing writes any more");
    second.leadership.acquired().await;
    assert!(began.elapsed() <= RETRY + SECOND / 10, "taken over after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_takes_the_lease_by_force_is_told_how_long_the_other_may_still_write() {
    let store = Arc::new(Store::default());
    let [first, second] = two(&store).await;
    // The worst case: it hears of nothing and stops by its own clock.
    first.cut.store(true, Ordering::SeqCst);
    let (campaign, leadership, _) = candidate(&store, "remover");
    let began = Instant::now();
    let wait = campaign.take().await.expect("the Lease is taken");
    tokio::spawn(campaign.run(std::future::pending()));
    first.leadership.lost().await;
    assert!(began.elapsed() < wait, "it may write for {:?}, told was {wait:?}", began.elapsed());
    tokio::time::sleep(2 * LEASE).await;
    assert!(leadership.holds() && !first.leadership.holds() && !second.leadership.holds());
    assert_eq!(store.holder().as_deref(), Some("remover"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_holds_is_taken_without_a_wait() {
    let store = Arc::new(Store::default());
    assert_eq!(candidate(&store, "remover").0.take().await.ok(), Some(Duration::ZERO));
    assert_eq!(candidate(&store, "remover").0.take().await.ok(), Some(Duration::ZERO), "ours already");
}
