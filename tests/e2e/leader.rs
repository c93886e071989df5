//! Two operators, one leader: who leads, who follows, and what happens when the leader is gone in each of the ways in
//! which it can be. Each test begins with traffic, a guard, and two replicas.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use testbed::cluster::wait_for;

use crate::scene::{Guard, Scene};
use crate::world;

/// A Lease that stands still this long is taken, at the second look at the latest.
const TAKEN_OVER: Duration = Duration::from_secs(17);
/// For an API server, a kubelet and a machine that are busy with everything else.
const SLACK: Duration = Duration::from_secs(8);

/// A replica as the cluster runs it.
struct Replica {
    pod: String,
    ip: String,
}

/// The Lease.
struct Lease(Value);

impl Lease {
    fn holder(&self) -> &str {
        self.0["spec"]["holderIdentity"].as_str().unwrap_or("")
    }

    /// The pod of the holder: its identity is the pod's name and when it began.
    fn pod(&self) -> &str {
        self.holder().split('_').next().unwrap_or("")
    }

    fn acquired(&self) -> Result<Timestamp> {
        self.0["spec"]["acquireTime"].as_str().unwrap_or("").parse().context("the Lease's acquireTime")
    }
}

async fn kubectl(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let all: Vec<_> = ["-n", world::NAMESPACE].iter().chain(arguments).copied().collect();
    Ok(scene.cluster.kubectl(&all).await?)
}

async fn lease(scene: &Scene) -> Result<Lease> {
    Ok(Lease(serde_json::from_str(&kubectl(scene, &["get", "lease", "deployment-guard", "-o", "json"]).await?)?))
}

async fn replicas(scene: &Scene) -> Result<Vec<Replica>> {
    let list = kubectl(scene, &["get", "pods", "-l", "app.kubernetes.io/name=deployment-guard", "-o", "json"]).await?;
    let list: Value = serde_json::from_str(&list)?;
    let alive = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let pods = list["items"].as_array().into_iter().flatten().filter(alive);
    Ok(pods.map(|pod| Replica { pod: text(&pod["metadata"]["name"]), ip: text(&pod["status"]["podIP"]) }).collect())
}

/// Something a replica says over HTTP, asked through the API server.
async fn ask(scene: &Scene, pod: &str, path: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/{path}", world::NAMESPACE);
    Ok(scene.cluster.kubectl(&["get", "--raw", &path]).await?)
}

async fn scale(scene: &Scene, replicas: u32) -> Result<()> {
    kubectl(scene, &["scale", world::OPERATOR, &format!("--replicas={replicas}")]).await?;
    world::operator_ready(&scene.cluster).await
}

/// Two replicas; exactly the holder of the Lease says that it leads, and both are ready.
async fn two(scene: &Scene) -> Result<Lease> {
    scale(scene, 2).await?;
    let look = async || {
        let pods = replicas(scene).await.map_err(|error| format!("{error:#}"))?;
        let lease = lease(scene).await.map_err(|error| format!("{error:#}"))?;
        let mut leading = Vec::new();
        for replica in &pods {
            let metrics = ask(scene, &replica.pod, "metrics").await.map_err(|error| format!("{error:#}"))?;
            let ready = ask(scene, &replica.pod, "readyz").await.map_err(|error| format!("{error:#}"))?;
            if !ready.starts_with("ok") {
                return Err(format!("{} is not ready: {ready}", replica.pod));
            }
            if metrics.lines().any(|line| line == "deployment_guard_leader 1") {
                leading.push(replica.pod.clone());
            }
        }
        if pods.len() == 2 && leading == [lease.pod()] {
            Ok(lease)
        } else {
            Err(format!("{} replicas, {leading:?} lead, {} holds the Lease", pods.len(), lease.holder()))
        }
    };
    Ok(wait_for("one leader and one follower", Duration::from_secs(60), look).await?)
}

/// Waits until somebody else leads; says how long that took.
async fn taken_over(scene: &Scene, before: &Lease, within: Duration) -> Result<(Lease, Duration)> {
    let began = Instant::now();
    let look = async || {
        let now = lease(scene).await.map_err(|error| format!("{error:#}"))?;
        if now.holder().is_empty() || now.holder() == before.holder() { Err(now.holder().to_owned()) } else { Ok(now) }
    };
    let now = wait_for("another leader", within, look).await?;
    Ok((now, began.elapsed()))
}

/// Pushes the bad release and waits until it is being judged.
async fn bad_release(scene: &Scene, before: &Guard) -> Result<()> {
    scene.push(&scene.bad()).await?;
    scene.until("the analysis", |guard| guard.revision() != before.revision() && guard.state() == "Judging").await?;
    Ok(())
}

/// One undo, by one decision, verified.
async fn undone_once(scene: &Scene, before: &Guard) -> Result<()> {
    scene.undone(before).await?;
    scene.verified().await?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3, "not one undo: generation {}", deployment.generation());
    ensure!(deployment.image() == "localhost/shop:v1", "{}", deployment.image());
    Ok(())
}

/// The operator's process in a pod: its environment names the pod.
fn process_of(pod: &str) -> Result<PathBuf> {
    let named = format!("POD_NAME={pod}");
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok).map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let starts = |file: &str, text: &str| {
            let content = fs::read(path.join(file)).unwrap_or_default();
            content.split(|byte| *byte == 0).any(|part| part == text.as_bytes())
        };
        starts("cmdline", "/deployment-guard") && starts("environ", &named)
    };
    entries.into_iter().find(is_it).with_context(|| format!("no process of {pod}"))
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} {} failed", arguments.join(" "));
    Ok(())
}

fn signal(process: &std::path::Path, name: &str) -> Result<()> {
    let id = process.file_name().context("a process has a number")?.to_string_lossy().into_owned();
    run("kill", &[name, &id])
}

/// Everything back to one replica, whatever a test came to.
async fn one_again(scene: &Scene, result: Result<()>) -> Result<()> {
    let scaled = scale(scene, 1).await;
    result.and(scaled)
}

/// Asked to end, it gives the Lease back: the other goes on within seconds.
pub async fn of_two_replicas_one_leads_and_the_other_follows_a_graceful_end_within_seconds(scene: Scene) -> Result<()> {
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    let result = async {
        let led = two(&scene).await?;
        bad_release(&scene, &before).await?;
        kubectl(&scene, &["delete", "pod", led.pod(), "--wait=false"]).await?;
        let (now, took) = taken_over(&scene, &led, TAKEN_OVER + SLACK).await?;
        ensure!(took <= Duration::from_secs(3) + SLACK, "the other leads only after {took:?}");
        ensure!(now.pod() != led.pod(), "{} leads again", now.pod());
        undone_once(&scene, &before).await
    };
    let result = result.await;
    let result = one_again(&scene, result).await;
    drop(turn);
    result
}

/// Killed without a word: its Lease has to expire.
pub async fn a_leader_that_is_killed_in_a_rollout_is_followed_and_the_release_undone_once(scene: Scene) -> Result<()> {
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    let result = async {
        let led = two(&scene).await?;
        bad_release(&scene, &before).await?;
        signal(&process_of(led.pod())?, "-KILL")?;
        kubectl(&scene, &["delete", "pod", led.pod(), "--grace-period=0", "--force"]).await?;
        let (_, took) = taken_over(&scene, &led, TAKEN_OVER + SLACK).await?;
        ensure!(took >= Duration::from_secs(8), "a Lease that nobody gave back was taken after {took:?}");
        undone_once(&scene, &before).await
    };
    let result = result.await;
    let result = one_again(&scene, result).await;
    drop(turn);
    result
}

/// Cut off from the API server it stops by the clock alone, seconds before the other begins.
pub async fn a_leader_that_is_cut_off_stops_before_the_other_begins_and_writes_nothing_more(
    scene: Scene,
) -> Result<()> {
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    let result = async {
        let led = two(&scene).await?;
        let pods = replicas(&scene).await?;
        let leader = pods.iter().find(|replica| replica.pod == led.pod()).context("the leader's pod")?;
        bad_release(&scene, &before).await?;
        // Nothing from its address reaches the API server.
        let rule = ["-s", leader.ip.as_str(), "-j", "DROP"];
        run("iptables", &[&["-I", "INPUT"][..], &rule].concat())?;
        let followed = async {
            let (now, _) = taken_over(&scene, &led, TAKEN_OVER + SLACK).await?;
            ensure!(now.pod() != led.pod(), "{} leads again", now.pod());
            stopped_before(&scene, led.pod(), now.acquired()?).await?;
            scene.undone(&before).await
        };
        let followed = followed.await;
        run("iptables", &[&["-D", "INPUT"][..], &rule].concat())?;
        followed?;
        // It is back on the network, and somebody else leads.
        undone_once(&scene, &before).await?;
        ensure!(lease(&scene).await?.pod() != led.pod(), "the one that was cut off leads again");
        Ok(())
    };
    let result = result.await;
    let result = one_again(&scene, result).await;
    drop(turn);
    result
}

/// The log of the process that led says when it stopped.
async fn stopped_before(scene: &Scene, pod: &str, taken: Timestamp) -> Result<()> {
    let look = async || {
        // The process ends after it has tried to give the Lease back, and its container starts anew.
        let mut log = kubectl(scene, &["logs", pod]).await.unwrap_or_default();
        log.push_str(&kubectl(scene, &["logs", pod, "--previous"]).await.unwrap_or_default());
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lost = lines.into_iter().find(|line| line.to_string().contains("the lease was lost"));
        let time = lost.and_then(|line| line["timestamp"].as_str()?.parse::<Timestamp>().ok());
        time.ok_or_else(|| "it does not say so".to_owned())
    };
    let stopped = wait_for("the log to say that the lease was lost", Duration::from_secs(30), look).await?;
    ensure!(stopped < taken, "it stopped at {stopped}, and the other one led from {taken}");
    Ok(())
}

/// Stopped like a machine that sleeps, it wakes up with its work half done, and another one has led for long.
pub async fn a_leader_that_was_frozen_writes_nothing_when_it_wakes_up(scene: Scene) -> Result<()> {
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    let result = async {
        let led = two(&scene).await?;
        bad_release(&scene, &before).await?;
        let process = process_of(led.pod())?;
        signal(&process, "-STOP")?;
        let followed = taken_over(&scene, &led, TAKEN_OVER + SLACK).await;
        signal(&process, "-CONT")?;
        let (now, _) = followed?;
        let gone = async || if process.exists() { Err("it still runs".to_owned()) } else { Ok(()) };
        wait_for("the process that woke up to end", Duration::from_secs(20), gone).await?;
        undone_once(&scene, &before).await?;
        ensure!(lease(&scene).await?.holder() == now.holder(), "leadership moved once more");
        Ok(())
    };
    let result = result.await;
    let result = one_again(&scene, result).await;
    drop(turn);
    result
}
