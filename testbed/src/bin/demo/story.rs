//! What happens, in order.

mod advised;
mod careful;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, Component, wait_for};
use testbed::operator;
use testbed::shop::Shop;

use crate::guard::Guard;
use crate::manifests::{CART_GUARD, GUARD, LAST_WORDS, NAMESPACE, RATE, cart, load, shop};

/// More than the window of two minutes, the warm-up and the grace together.
const PATIENCE: Duration = Duration::from_secs(240);

/// The demo while it is told.
pub struct Story {
    cluster: Cluster,
    passed: u32,
    failed: u32,
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn say(text: &str) {
    println!("   {text}");
}

impl Story {
    /// Joins the cluster around.
    pub fn new() -> Result<Self> {
        Ok(Self { cluster: Cluster::join()?, passed: 0, failed: 0 })
    }

    /// How many expectations held.
    pub const fn passed(&self) -> u32 {
        self.passed
    }

    /// How many did not.
    pub const fn failed(&self) -> u32 {
        self.failed
    }

    fn expect(&mut self, what: &str, holds: bool) {
        println!("   {} {what}", if holds { "PASS" } else { "FAIL" });
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Tells it.
    pub async fn tell(&mut self) -> Result<()> {
        self.install().await?;
        self.start().await?;
        self.good_release().await?;
        self.bad_release().await?;
        self.crashing_release().await?;
        self.approved_release().await?;
        self.git_ops_release().await?;
        self.stuck_release().await?;
        self.advised_release().await?;
        self.unadvised_release().await?;
        self.blind_release().await?;
        self.look_back().await
    }

    async fn install(&self) -> Result<()> {
        title("Install DeploymentGuard: the definitions, and the operator as a pod");
        let recording = operator::manifests_recording(&operator::recordings()?);
        operator::apply(&self.cluster, &recording).await?;
        say("the operator is ready");
        Ok(())
    }

    async fn start(&mut self) -> Result<()> {
        title(&format!("shop v1 with 4 pods, {RATE} requests/s through its Service, and a guard"));
        self.release(&shop("v1")).await?;
        shop("v1").rolled_out(&self.cluster, Duration::from_secs(60)).await?;
        load().start(&self.cluster).await?;
        self.cluster.apply(&operator::class()).await?;
        self.cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], GUARD).await?;
        for line in GUARD.lines() {
            println!("     {line}");
        }
        let guard = self.narrate("the guard to see the workload", |guard| guard.state() == "Serving").await?;
        self.expect("the revision that served before the guard is not judged", guard.condition("Ready").0 == "True");
        let look = async || {
            let seen = self.traffic().await.map_err(|error| error.to_string())?;
            let ok = seen.get("v1").map_or(0, |counts| counts.0);
            if ok > 12_000 { Ok(()) } else { Err(format!("{ok} answers")) }
        };
        say("40 seconds of ordinary traffic: what the next release is compared with");
        wait_for("12,000 answers of v1", Duration::from_secs(90), look).await?;
        Ok(())
    }

    async fn good_release(&mut self) -> Result<()> {
        title("A good release: shop v2");
        let before = self.guard().await?.revision().to_owned();
        self.release(&shop("v2")).await?;
        let decided = |guard: &Guard| guard.revision() != before && guard.decided("fromRevision") == guard.revision();
        let guard = self.narrate("the decision on v2", decided).await?;
        print!("{}", guard.explain());
        let scored = guard.decision()["healthScore"].is_i64();
        self.expect("CONTINUE, with a score", guard.decided("decision") == "CONTINUE" && scored);
        self.expect("Healthy=True (AnalysisPassed)", guard.condition("Healthy").1 == "AnalysisPassed");
        Ok(())
    }

    async fn bad_release(&mut self) -> Result<()> {
        title("A bad release: shop v3, which fails 20 % of its requests");
        let good = self.guard().await?.revision().to_owned();
        let pushed = Timestamp::now();
        self.release(&shop("v3").fault("ERROR_RATE", "0.2")).await?;
        let guard = self.narrate("the undo", |guard| guard.decided("action") == "RolledBack").await?;
        let sent = guard.0["status"]["rollbackTimes"].as_array().and_then(|times| times.last()).and_then(Value::as_str);
        let sent: Timestamp = sent.context("the status does not say when the undo was sent")?.parse()?;
        print!("{}", guard.explain());
        say(&format!("from the push to the accepted undo:        {:5.1} s", seconds(pushed, sent)));
        if let Some(first) = self.first_error("v3").await? {
            say(&format!("from the first failed request to the undo: {:5.1} s", seconds(first, sent)));
        }
        self.replay(guard.decided("fromRevision")).await?;
        self.expect("ROLLBACK, and the workload carries v2 again", self.image().await? == "localhost/shop:v2");
        let verified = |guard: &Guard| guard.condition("RolledBack").1 == "RollbackSucceeded";
        let guard = self.narrate("the restored pods to prove themselves", verified).await?;
        let lost = self.traffic().await?.get("v3").map_or(0, |counts| counts.1);
        say(&format!("requests that users lost to v3: {lost}"));
        self.expect("the restored revision is the one that was judged good", guard.revision() == good);
        self.expect("one undo, not more", guard.0["status"]["rollbacksToday"] == 1);
        self.next_release(&good).await
    }

    /// How the evidence rose, from the recording, by the code that decided.
    async fn replay(&mut self, revision: &str) -> Result<()> {
        let begins = format!("{NAMESPACE}.shop.{revision}.");
        let files = std::fs::read_dir(operator::recordings()?)?.filter_map(Result::ok);
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let name = names.into_iter().find(|name| name.starts_with(&begins)).context("the rollout was not recorded")?;
        let file = format!("/recordings/{name}");
        say("the recording, judged once more by the same code:");
        let operator = ["-n", "deployment-guard", "exec", "deployment/deployment-guard", "--"];
        let command = ["/deployment-guard", "replay", &file];
        println!("   $ kubectl {} {}", operator.join(" "), command.join(" "));
        let printed = self.cluster.kubectl(&[&operator[..], &command[..]].concat()).await?;
        for line in printed.lines() {
            println!("   {line}");
        }
        self.expect("the recording replays to the same decision", printed.contains("ROLLBACK"));
        Ok(())
    }

    /// The fix, applied as a platform team does it. An undo that kept the fields it wrote would make this a conflict.
    async fn next_release(&mut self, restored: &str) -> Result<()> {
        title("The fix: shop v4, by kubectl apply --server-side");
        let applied = self.release(&shop("v4")).await;
        if let Err(error) = &applied {
            say(&format!("{error:#}"));
        }
        self.expect("not refused: the undo owns nothing of the template any more", applied.is_ok());
        let decided = |guard: &Guard| guard.revision() != restored && guard.decided("fromRevision") == guard.revision();
        let guard = self.narrate("the decision on v4", decided).await?;
        self.expect("CONTINUE", guard.decided("decision") == "CONTINUE");
        Ok(())
    }

    /// Another service, of which nothing is measured: its pods say enough.
    async fn crashing_release(&mut self) -> Result<()> {
        title("A release that crashes: cart v2, with a guard of three lines and no metrics");
        self.release(&cart("v1").replicas(2)).await?;
        cart("v1").replicas(2).rolled_out(&self.cluster, Duration::from_secs(60)).await?;
        self.cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], CART_GUARD).await?;
        self.narrate_of("cart", "the guard to see the workload", |guard| guard.state() == "Serving").await?;
        let crashes = cart("v2").replicas(2).rolling("100%", "0").fault("EXIT_AFTER_S", "0.5");
        let pushed = Timestamp::now();
        self.release(&crashes.fault("EXIT_MESSAGE", LAST_WORDS)).await?;
        let undone = |guard: &Guard| guard.decided("action") == "RolledBack";
        let guard = self.narrate_of("cart", "the undo", undone).await?;
        let sent = guard.0["status"]["rollbackTimes"][0].as_str().context("no time of an undo")?.parse()?;
        let took = seconds(pushed, sent);
        // The logs are read beside the undo, never before it.
        let line = |guard: &Guard| {
            let findings = guard.decision()["findings"].as_array().cloned().unwrap_or_default();
            findings.iter().any(|found| found["context"].as_str().is_some_and(|text| text.contains("DATABASE_URL")))
        };
        let guard = self.narrate_of("cart", "the line of the log that says why", line).await?;
        print!("{}", guard.explain());
        say(&format!("from the push to the accepted undo: {took:5.1} s"));
        self.expect("undone within seconds, by a hard fact", guard.decided("decider") == "hard-fact" && took < 15.0);
        self.expect("the kind of failure is named", guard.decided("failureClass") == "config_error");
        let verified = |guard: &Guard| guard.condition("RolledBack").1 == "RollbackSucceeded";
        self.narrate_of("cart", "the restored pods to prove themselves", verified).await?;
        Ok(())
    }

    async fn blind_release(&mut self) -> Result<()> {
        title("A good release, shop v5, while Prometheus is stopped");
        self.cluster.stop(Component::Prometheus).await?;
        let before = self.guard().await?.revision().to_owned();
        self.release(&shop("v5")).await?;
        let decided = |guard: &Guard| guard.revision() != before && guard.decided("fromRevision") == guard.revision();
        let guard = self.narrate("the decision without metrics", decided).await;
        self.cluster.start(Component::Prometheus).await?;
        let guard = guard?;
        print!("{}", guard.explain());
        let kept = self.image().await? == "localhost/shop:v5" && guard.decided("decision") != "ROLLBACK";
        self.expect("not rolled back", kept);
        self.expect("MetricsAvailable=False says why", guard.condition("MetricsAvailable").0 == "False");
        self.expect("and it does not pass as healthy", guard.condition("Healthy").0 == "Unknown");
        Ok(())
    }

    async fn look_back(&mut self) -> Result<()> {
        title("What is left to read");
        let of_guard = ["--field-selector", "involvedObject.kind=DeploymentGuard", "--sort-by=.lastTimestamp"];
        for command in
            [vec!["get", "dg", "-o", "wide"], vec!["get", "gclass"], [&["get", "events"], &of_guard[..]].concat()]
        {
            println!("   $ kubectl -n {NAMESPACE} {}", command.join(" "));
            let all = [&["-n", NAMESPACE], &command[..]].concat();
            for line in self.cluster.kubectl(&all).await?.lines() {
                println!("   {line}");
            }
        }
        let samples = self.get(&["configmap", "-l", "deploymentguard.dev/sample"]).await?;
        let rings = samples["items"].as_array().cloned().unwrap_or_default();
        let of_shop =
            rings.iter().find(|ring| ring["metadata"]["name"].as_str().is_some_and(|name| name.contains("shop")));
        let data = of_shop.and_then(|ring| ring["data"].as_object().cloned()).unwrap_or_default();
        say(&format!("{} training samples; the one of the undo:", data.len()));
        let undone = data.values().filter_map(Value::as_str).find(|sample| sample.contains("\"ROLLBACK\""));
        let sample: Value = serde_json::from_str(undone.unwrap_or("null"))?;
        for line in serde_json::to_string_pretty(&sample)?.lines() {
            println!("   {line}");
        }
        self.expect("every decision left a training sample", data.len() >= 4 && undone.is_some());
        Ok(())
    }

    /// What helps to find out why it broke off.
    pub async fn show_trouble(&self) {
        for command in [
            ["-n", "deployment-guard", "logs", "deployment/deployment-guard", "--tail=30"],
            ["-n", NAMESPACE, "get", "pods,dg", "--show-labels"],
            ["-n", NAMESPACE, "describe", "dg", "shop"],
        ] {
            println!("$ kubectl {}", command.join(" "));
            println!("{}", self.cluster.kubectl(&command).await.unwrap_or_else(|error| error.to_string()));
        }
    }

    /// Applies a release as a platform team does: all of it, every time, as the owner of what it names.
    async fn release(&self, shop: &Shop) -> Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let items = [namespace, shop.workload(), shop.service()];
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        self.cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], &list).await?;
        Ok(())
    }

    async fn get(&self, what: &[&str]) -> Result<Value> {
        let all = [&["-n", NAMESPACE, "get", "-o", "json"], what].concat();
        serde_json::from_str(&self.cluster.kubectl(&all).await?).context("kubectl printed something that is no JSON")
    }

    async fn guard(&self) -> Result<Guard> {
        self.guard_of("shop").await
    }

    async fn guard_of(&self, name: &str) -> Result<Guard> {
        Ok(Guard(self.get(&["dg", name]).await?))
    }

    /// Waits and prints whatever the guard says meanwhile.
    async fn narrate(&self, what: &str, holds: impl Fn(&Guard) -> bool) -> Result<Guard> {
        self.narrate_of("shop", what, holds).await
    }

    async fn narrate_of(&self, name: &str, what: &str, holds: impl Fn(&Guard) -> bool) -> Result<Guard> {
        let started = Instant::now();
        let mut last = String::new();
        let look = async || {
            let guard = self.guard_of(name).await.map_err(|error| format!("{error:#}"))?;
            let line = guard.line();
            // Before its first look a guard says nothing.
            if line != last && !guard.condition("Healthy").1.is_empty() {
                println!("   {:5.1} s  {line}", started.elapsed().as_secs_f64());
                line.clone_into(&mut last);
            }
            if holds(&guard) { Ok(guard) } else { Err(line) }
        };
        Ok(wait_for(what, PATIENCE, look).await?)
    }

    async fn image(&self) -> Result<String> {
        let deployment = self.get(&["deployment", "shop"]).await?;
        let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
        Ok(image.unwrap_or_default().to_owned())
    }

    /// Answered and failed requests per version, as the clients saw them.
    async fn traffic(&self) -> Result<BTreeMap<String, (i64, i64)>> {
        let mut versions = BTreeMap::<String, (i64, i64)>::new();
        for second in load().reports(&self.cluster).await?.iter().filter(|line| line.get("final").is_none()) {
            for (version, counts) in second["by_version"].as_object().into_iter().flatten() {
                let sum = versions.entry(version.clone()).or_default();
                sum.0 += counts["ok"].as_i64().unwrap_or_default();
                sum.1 += counts["errors"].as_i64().unwrap_or_default();
            }
        }
        Ok(versions)
    }

    /// The end of the second in which clients first saw this version fail.
    async fn first_error(&self, version: &str) -> Result<Option<Timestamp>> {
        let reports = load().reports(&self.cluster).await?;
        let failed = |line: &&Value| line["by_version"][version]["errors"].as_i64().is_some_and(|errors| errors > 0);
        Ok(reports.iter().find(failed).and_then(|line| line["t"].as_str()?.parse().ok()))
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
