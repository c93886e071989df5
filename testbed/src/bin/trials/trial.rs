//! One trial: a shop with traffic and a guard in a namespace of its own, a while of history, a push, and what the guard
//! makes of it. Input: a running operator. Output: an [`Outcome`]; the namespace is deleted.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, Component, wait_for};
use testbed::shop::{Load, Shop};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::outcome::{Answers, Measured, Outcome, Verdict};
use crate::scenario::{Event, Faults, Trial};

/// kubectl costs a twentieth of a second of a core; the times that count are read from status.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// More than what comes after the window: the wait for samples that are late, and the last intervals.
const GRACE: Duration = Duration::from_secs(90);
/// A machine that compiles at the same time is slow.
const PREPARATION: Duration = Duration::from_mins(4);
/// The load ends by itself, whatever becomes of the trial.
const LOAD_SECONDS: u32 = 3600;
/// Both revisions serve, and the first new pods are through their start.
const OUTAGE_AFTER: Duration = Duration::from_secs(20);
const OUTAGE: Duration = Duration::from_secs(25);

/// How long things take, as the command line says.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Steady traffic before the push.
    pub history: Duration,
    /// From the push until a bad release counts as missed.
    pub patience: Duration,
}

/// Runs one trial to its end. `door` lets only a few prepare themselves at a time.
pub async fn run(cluster: &Cluster, trial: Trial, pace: Pace, door: &Semaphore) -> Outcome {
    let stage = Stage { cluster, trial, namespace: trial.namespace(), door };
    let measured = stage.play(pace).await;
    let gone = stage.kubectl(&["delete", "namespace", &stage.namespace, "--wait=false"]).await;
    match measured.and_then(|measured| gone.map(|_| measured)) {
        Ok(measured) => Outcome { trial, measured },
        Err(error) => Outcome { trial, measured: Measured::broken(format!("{error:#}")) },
    }
}

struct Stage<'a> {
    cluster: &'a Cluster,
    trial: Trial,
    namespace: String,
    door: &'a Semaphore,
}

impl Stage<'_> {
    async fn play(&self, pace: Pace) -> Result<Measured> {
        let open = self.door.acquire().await?;
        let before = self.serve().await.context("before the push")?;
        drop(open);
        sleep(pace.history).await;
        let blind = self.trial.scenario.event == Event::Blind;
        if blind {
            self.cluster.stop(Component::Prometheus).await?;
        }
        let pushed = Timestamp::now();
        let played = async {
            self.push("v2", self.trial.scenario.after).await?;
            let (seen, event) = tokio::join!(self.watch(&before, pace), self.event());
            event?;
            seen
        };
        let played = played.await;
        if blind {
            self.cluster.start(Component::Prometheus).await?;
        }
        self.measure(pushed, &before, &played?).await
    }

    /// Everything as it is before the push; returns the revision that serves.
    async fn serve(&self) -> Result<String> {
        if self.trial.scenario.event == Event::Outage {
            Shop::new(&self.namespace, "db").replicas(1).deploy(self.cluster).await?;
        }
        let shop = self.push("v1", self.trial.scenario.before).await?;
        // A service in use gets requests from its first second on, and so did the release before.
        if self.trial.scenario.rate > 0 {
            let load = self.load();
            wait_for("the load", PREPARATION, async || load.start(self.cluster).await).await?;
        }
        shop.rolled_out(self.cluster, PREPARATION).await?;
        self.cluster.apply(&self.guard().to_string()).await?;
        let serving = async || {
            let status = self.look().await.map_err(|error| format!("{error:#}"))?.guard;
            let state = text(&status["current"]["state"]);
            if state == "Serving" { Ok(text(&status["current"]["revision"])) } else { Err(state) }
        };
        Ok(wait_for("the guard to see the workload", PREPARATION, serving).await?)
    }

    fn guard(&self) -> Value {
        let mut spec = json!({"targetRef": {"kind": "Deployment", "name": "shop"}, "mode": "Enforce"});
        if let Some(window) = self.trial.window() {
            spec["analysis"] = json!({"window": format!("{}s", window.as_secs())});
        }
        json!({
            "apiVersion": "deploymentguard.dev/v1alpha1",
            "kind": "DeploymentGuard",
            "metadata": {"name": "shop", "namespace": self.namespace},
            "spec": spec,
        })
    }

    fn load(&self) -> Load {
        let target = format!("http://shop.{}/", self.namespace);
        let rate = self.trial.scenario.rate;
        Load { name: "load".into(), namespace: self.namespace.clone(), target, rate, duration_s: LOAD_SECONDS }
    }

    /// Applies a release as a platform team does: all of it, as the owner of what it names.
    async fn push(&self, version: &str, faults: Faults) -> Result<Shop> {
        let mut shop = Shop::new(&self.namespace, "shop").version(version);
        shop.min_ready_seconds = self.trial.rollout.min_ready_seconds();
        // A leak of a mebibyte a second takes minutes to reach it.
        "256Mi".clone_into(&mut shop.memory_limit);
        for (name, value) in faults {
            shop = shop.fault(name, &value.replace("{ns}", &self.namespace));
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        let items = [namespace, shop.workload(), shop.service()];
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        self.cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], &list).await?;
        Ok(shop)
    }

    async fn event(&self) -> Result<()> {
        if self.trial.scenario.event != Event::Outage {
            return Ok(());
        }
        sleep(OUTAGE_AFTER).await;
        self.kubectl(&["scale", "deployment/db", "--replicas=0"]).await?;
        sleep(OUTAGE).await;
        self.kubectl(&["scale", "deployment/db", "--replicas=1"]).await.map(|_| ())
    }

    /// Looks until there is nothing more to wait for; returns the last look.
    async fn watch(&self, before: &str, pace: Pace) -> Result<Look> {
        let begun = Instant::now();
        let least = self.trial.window().unwrap_or(pace.patience);
        let most = self.trial.window().map_or(pace.patience, |window| window + self.rollout_time() + GRACE);
        loop {
            sleep(LOOK_EVERY).await;
            let late = begun.elapsed() >= most;
            match self.look().await {
                Ok(look) if late || look.over(before, begun.elapsed() >= least) => return Ok(look),
                Err(error) if late => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Until the first pod is Ready the window does not count; the rest of the rollout may outlast it.
    fn rollout_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.trial.rollout.min_ready_seconds()))
    }

    async fn look(&self) -> Result<Look> {
        let both = self.kubectl(&["get", "dg/shop", "deployment/shop", "-o", "json"]).await?;
        let mut both: Value = serde_json::from_str(&both).context("kubectl printed something that is no JSON")?;
        let image = text(&both["items"][1]["spec"]["template"]["spec"]["containers"][0]["image"]);
        Ok(Look { guard: both["items"][0]["status"].take(), image })
    }

    async fn measure(&self, pushed: Timestamp, before: &str, look: &Look) -> Result<Measured> {
        let decision = look.decision(before);
        let revision = match text(&decision["fromRevision"]) {
            none if none.is_empty() => text(&look.guard["current"]["revision"]),
            judged => judged,
        };
        let answers = if self.trial.scenario.rate > 0 {
            Answers::count(&self.load().reports(self.cluster).await?)
        } else {
            Answers::default()
        };
        let undone_at = look.undone_at();
        let since = |from: Option<Timestamp>| Some(undone_at?.duration_since(from?).as_secs_f64());
        let erring = self.trial.scenario.after.iter().any(|(name, _)| *name == "ERROR_RATE");
        let first_bad = if erring { answers.first_error } else { answers.first };
        Ok(Measured {
            verdict: look.verdict(&decision),
            push_to_sample: self.first_sample(pushed, &revision).await,
            push_to_undo: since(Some(pushed)),
            bad_to_undo: since(first_bad),
            answers,
            decision,
            signals: look.guard["signals"].clone(),
            note: text(&look.guard["analysis"]["message"]),
        })
    }

    /// When Prometheus first scraped a pod of the revision; none without Prometheus.
    async fn first_sample(&self, pushed: Timestamp, revision: &str) -> Option<f64> {
        let pods = format!("{{namespace=\"{}\",pod=~\"shop-{revision}-.+\"}}", self.namespace);
        let query = format!("min(min_over_time(timestamp(process_start_time_seconds{pods})[30m:1s]))");
        let series = self.cluster.query(&query).await.ok()?;
        let at: f64 = series.first()?["value"][1].as_str()?.parse().ok()?;
        Some(at - pushed.as_duration().as_secs_f64())
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat()).await?)
    }
}

/// The guard's status and the Deployment's image at one moment.
struct Look {
    guard: Value,
    image: String,
}

impl Look {
    /// The decision on the release, or null: an earlier one does not count.
    fn decision(&self, before: &str) -> Value {
        let decision = &self.guard["lastDecision"];
        let judged = decision["fromRevision"].as_str().unwrap_or_default();
        if judged.is_empty() || judged == before { Value::Null } else { decision.clone() }
    }

    fn undone_at(&self) -> Option<Timestamp> {
        self.guard["rollbackTimes"].as_array()?.last()?.as_str()?.parse().ok()
    }

    /// Nothing more will come: a rollback was carried out or held back, or something else was decided and the time in
    /// which that may still change is over.
    fn over(&self, before: &str, window_over: bool) -> bool {
        let decision = self.decision(before);
        match decision["decision"].as_str() {
            Some("ROLLBACK") => self.undone_at().is_some() || decision["clampedBy"].is_string(),
            Some(_) => window_over,
            None => false,
        }
    }

    fn verdict(&self, decision: &Value) -> Verdict {
        match decision["decision"].as_str() {
            Some("ROLLBACK") if self.undone_at().is_some() && self.image.ends_with(":v1") => Verdict::Undone,
            Some("ROLLBACK") => Verdict::Condemned,
            Some(_) => Verdict::Kept,
            None => Verdict::Undecided,
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
