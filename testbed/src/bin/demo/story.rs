//! What happens, in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use crate::guard::Guard;
use crate::kube::{get, kubectl, kubectl_with, wait_for};

const NAMESPACE: &str = "demo";
const INSTALL: &str = include_str!("../../../../manifests/install.yaml");
const CLASS: &str = include_str!("../../../../manifests/examples/class.yaml");
const CRDS: [&str; 2] = [
    include_str!("../../../../crds/deploymentguards.deploymentguard.dev.yaml"),
    include_str!("../../../../crds/guardclasses.deploymentguard.dev.yaml"),
];
const OPERATOR_IMAGE: &str = "localhost/deployment-guard:dev";
const REQUESTS_PER_SECOND: u32 = 100;
/// The load ends by itself, whatever becomes of the demo.
const LOAD_SECONDS: u32 = 1800;
/// More than the window of a minute, the warm-up and the grace together.
const PATIENCE: Duration = Duration::from_secs(150);

const GUARD: &str = "apiVersion: deploymentguard.dev/v1alpha1
kind: DeploymentGuard
metadata: {name: shop}
spec:
  targetRef: {kind: Deployment, name: shop}
  mode: Enforce
  analysis: {interval: 5s, warmup: 10s, window: 1m}
";

/// The demo while it is told.
#[derive(Default)]
pub struct Story {
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
    pub fn tell(&mut self) -> Result<()> {
        install()?;
        self.start()?;
        self.good_release()?;
        self.bad_release()?;
        self.blind_release()?;
        self.look_back()
    }

    fn start(&mut self) -> Result<()> {
        title(&format!(
            "shop v1 with 4 pods, {REQUESTS_PER_SECOND} requests/s through its Service, and a guard"
        ));
        kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], &shop())?;
        kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "deployment/shop",
            "--timeout=60s",
        ])?;
        kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], &load())?;
        kubectl_with(&["apply", "-f", "-"], CLASS)?;
        kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], GUARD)?;
        for line in GUARD.lines() {
            println!("     {line}");
        }
        let guard = wait("the guard to see the workload", |guard| {
            guard.state() == "Serving"
        })?;
        say(&guard.line());
        self.expect(
            "the revision that served before the guard is not judged",
            guard.condition("Ready").0 == "True",
        );
        wait_for("traffic", Duration::from_secs(30), || {
            Ok(traffic()?.iter().any(|(_, v)| v.0 > 200).then_some(()))
        })?;
        Ok(())
    }

    fn good_release(&mut self) -> Result<()> {
        title("A good release: shop v2");
        let before = current()?.revision().to_owned();
        kubectl(&[
            "-n",
            NAMESPACE,
            "set",
            "image",
            "deployment/shop",
            "shop=localhost/shop:v2",
        ])?;
        let guard = narrate("the decision on v2", |guard| {
            guard.revision() != before && guard.decided("fromRevision") == guard.revision()
        })?;
        print!("{}", guard.explain());
        self.expect(
            "CONTINUE, with a score",
            guard.decided("decision") == "CONTINUE" && guard.decision()["healthScore"].is_i64(),
        );
        self.expect(
            "Healthy=True (AnalysisPassed)",
            guard.condition("Healthy").1 == "AnalysisPassed",
        );
        Ok(())
    }

    fn bad_release(&mut self) -> Result<()> {
        title("A bad release: shop v3, which fails 40 % of its requests");
        let good = current()?.revision().to_owned();
        let errors_before = errors("v3")?;
        let pushed = Timestamp::now();
        kubectl(&["-n", NAMESPACE, "patch", "deployment/shop", "--patch", BAD])?;
        let guard = narrate("the undo", |guard| guard.decided("action") == "RolledBack")?;
        let sent = guard.0["status"]["rollbackTimes"]
            .as_array()
            .and_then(|times| times.last())
            .and_then(Value::as_str);
        let sent: Timestamp = sent
            .context("the status does not say when the undo was sent")?
            .parse()?;
        let first = first_error("v3")?;
        print!("{}", guard.explain());
        say(&format!(
            "from the push to the accepted undo:              {:.1} s",
            seconds(pushed, sent)
        ));
        if let Some(first) = first {
            say(&format!(
                "from the first failed request to the undo:       {:.1} s",
                seconds(first, sent)
            ));
        }
        self.expect(
            "ROLLBACK, and the workload carries v2 again",
            image()? == "localhost/shop:v2",
        );
        let guard = narrate("the restored pods to prove themselves", |guard| {
            guard.condition("RolledBack").1 == "RollbackSucceeded"
        })?;
        say(&format!(
            "requests that users lost to v3: {}",
            errors("v3")? - errors_before
        ));
        self.expect(
            "the restored revision is the one that was judged good",
            guard.revision() == good,
        );
        self.expect(
            "one undo, not more",
            guard.0["status"]["rollbacksToday"] == 1,
        );
        let conflict = apply_fixed_version();
        self.expect(
            "the next `kubectl apply --server-side` is not refused",
            conflict.is_ok(),
        );
        if let Err(error) = conflict {
            say(&format!("{error:#}"));
        }
        narrate("the decision on the applied version", |guard| {
            guard.decided("fromRevision") == guard.revision()
                && guard.decided("decision") == "CONTINUE"
                && guard.revision() != good
        })?;
        Ok(())
    }

    fn blind_release(&mut self) -> Result<()> {
        title("A good release, shop v5, while Prometheus is stopped");
        testbed(&["prometheus", "stop"])?;
        let before = current()?.revision().to_owned();
        kubectl(&[
            "-n",
            NAMESPACE,
            "set",
            "image",
            "deployment/shop",
            "shop=localhost/shop:v5",
        ])?;
        let guard = narrate("the decision without metrics", |guard| {
            guard.revision() != before && guard.decided("fromRevision") == guard.revision()
        });
        testbed(&["prometheus", "start"])?;
        let guard = guard?;
        print!("{}", guard.explain());
        self.expect(
            "not rolled back",
            image()? == "localhost/shop:v5" && guard.decided("decision") != "ROLLBACK",
        );
        self.expect(
            "MetricsAvailable=False says why",
            guard.condition("MetricsAvailable").0 == "False",
        );
        self.expect(
            "and it does not pass as healthy",
            guard.condition("Healthy").0 == "Unknown",
        );
        Ok(())
    }

    fn look_back(&mut self) -> Result<()> {
        title("What is left to read");
        for command in [
            vec!["get", "dg", "-o", "wide"],
            vec!["get", "gclass"],
            vec![
                "get",
                "events",
                "--field-selector",
                "involvedObject.kind=DeploymentGuard",
                "--sort-by=.lastTimestamp",
            ],
        ] {
            println!("   $ kubectl -n {NAMESPACE} {}", command.join(" "));
            let mut all = vec!["-n", NAMESPACE];
            all.extend(command);
            for line in kubectl(&all)?.lines() {
                println!("   {line}");
            }
        }
        let samples = get(&[
            "-n",
            NAMESPACE,
            "configmap",
            "-l",
            "deploymentguard.dev/sample",
        ])?;
        let data = samples["items"][0]["data"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        say(&format!(
            "{} training samples; the one of the undo:",
            data.len()
        ));
        let undone = data
            .values()
            .filter_map(Value::as_str)
            .find(|sample| sample.contains("\"ROLLBACK\""));
        let sample: Value = serde_json::from_str(undone.unwrap_or("null"))?;
        for line in serde_json::to_string_pretty(&sample)?.lines() {
            println!("   {line}");
        }
        self.expect(
            "every decision left a training sample",
            data.len() >= 4 && undone.is_some(),
        );
        Ok(())
    }

    /// What helps to find out why it broke off.
    pub fn show_trouble(&self) {
        for command in [
            vec![
                "-n",
                "deployment-guard",
                "logs",
                "deployment/deployment-guard",
                "--tail=30",
            ],
            vec!["-n", NAMESPACE, "get", "pods,dg"],
            vec!["-n", NAMESPACE, "describe", "dg", "shop"],
        ] {
            println!("$ kubectl {}", command.join(" "));
            println!(
                "{}",
                kubectl(&command).unwrap_or_else(|error| format!("{error:#}"))
            );
        }
    }
}

fn install() -> Result<()> {
    title("Install DeploymentGuard: the definitions, and the operator as a pod");
    for definition in CRDS {
        kubectl_with(&["apply", "--server-side", "-f", "-"], definition)?;
    }
    // The only difference to a user's installation: the image comes from this checkout, not from a registry.
    let install = INSTALL.replace(
        "image: deployment-guard:0.1.0",
        &format!("image: {OPERATOR_IMAGE}\n          imagePullPolicy: Never"),
    );
    kubectl_with(&["apply", "--server-side", "-f", "-"], &install)?;
    kubectl(&[
        "-n",
        "deployment-guard",
        "rollout",
        "status",
        "deployment/deployment-guard",
        "--timeout=60s",
    ])?;
    kubectl_with(
        &["apply", "-f", "-"],
        &format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"),
    )?;
    say("the operator is ready");
    Ok(())
}

const BAD: &str = r#"{"spec":{"template":{"spec":{"containers":[
  {"name":"shop","image":"localhost/shop:v3","env":[{"name":"ERROR_RATE","value":"0.4"}]}]}}}}"#;

/// The shop as a user would write it.
fn manifest(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata:
      labels: {{app: shop}}
      annotations: {{prometheus.io/scrape: \"true\", prometheus.io/port: \"8080\"}}
    spec:
      containers:
        - name: shop
          image: {image}
          imagePullPolicy: Never
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
          resources: {{limits: {{memory: 64Mi}}}}
"
    )
}

fn shop() -> String {
    let service = "apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
";
    format!("{}---\n{service}", manifest("localhost/shop:v1"))
}

/// What a platform team does after an undo: fix it and apply, as another field manager.
fn apply_fixed_version() -> Result<()> {
    let arguments = [
        "apply",
        "--server-side",
        "--field-manager=platform",
        "-n",
        NAMESPACE,
        "-f",
        "-",
    ];
    let fixed = manifest("localhost/shop:v4");
    // The first apply of a new manager takes over what `kubectl set image` and the creation own.
    let mut forced = arguments.to_vec();
    forced.insert(1, "--force-conflicts");
    kubectl_with(
        if kubectl_with(&arguments, &fixed)
            .is_err_and(|e| !format!("{e:#}").contains("deployment-guard"))
        {
            &forced
        } else {
            &arguments
        },
        &fixed,
    )?;
    Ok(())
}

fn load() -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: load}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 2
  containers:
    - name: load
      image: localhost/load:dev
      imagePullPolicy: Never
      env:
        - {{name: TARGET, value: \"http://shop.{NAMESPACE}/\"}}
        - {{name: RATE, value: \"{REQUESTS_PER_SECOND}\"}}
        - {{name: DURATION_S, value: \"{LOAD_SECONDS}\"}}
"
    )
}

fn current() -> Result<Guard> {
    Ok(Guard(get(&["-n", NAMESPACE, "dg", "shop"])?))
}

fn wait(what: &str, holds: impl Fn(&Guard) -> bool) -> Result<Guard> {
    wait_for(what, PATIENCE, || Ok(Some(current()?).filter(&holds)))
}

/// Waits and prints whatever the guard says meanwhile.
fn narrate(what: &str, holds: impl Fn(&Guard) -> bool) -> Result<Guard> {
    let started = Instant::now();
    let mut last = String::new();
    wait_for(what, PATIENCE, || {
        let guard = current()?;
        let line = guard.line();
        if line != last {
            println!("   {:5.1} s  {line}", started.elapsed().as_secs_f64());
            last = line;
        }
        Ok(Some(guard).filter(&holds))
    })
}

fn image() -> Result<String> {
    let deployment = get(&["-n", NAMESPACE, "deployment", "shop"])?;
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
    Ok(image.unwrap_or_default().to_owned())
}

/// Successful and failed requests per version, as the clients saw them.
fn traffic() -> Result<Vec<(String, (i64, i64))>> {
    let mut versions = std::collections::BTreeMap::<String, (i64, i64)>::new();
    for line in kubectl(&["-n", NAMESPACE, "logs", "load"])?.lines() {
        let Ok(second) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if second.get("final").is_some() {
            continue;
        }
        for (version, counts) in second["by_version"].as_object().into_iter().flatten() {
            let sum = versions.entry(version.clone()).or_default();
            sum.0 += counts["ok"].as_i64().unwrap_or_default();
            sum.1 += counts["errors"].as_i64().unwrap_or_default();
        }
    }
    Ok(versions.into_iter().collect())
}

fn errors(version: &str) -> Result<i64> {
    Ok(traffic()?
        .into_iter()
        .find(|(name, _)| name == version)
        .map_or(0, |(_, (_, errors))| errors))
}

/// The second in which clients first saw this version fail.
fn first_error(version: &str) -> Result<Option<Timestamp>> {
    for line in kubectl(&["-n", NAMESPACE, "logs", "load"])?.lines() {
        let Ok(second) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if second["by_version"][version]["errors"]
            .as_i64()
            .is_some_and(|errors| errors > 0)
        {
            return Ok(second["t"].as_str().and_then(|text| text.parse().ok()));
        }
    }
    Ok(None)
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn testbed(arguments: &[&str]) -> Result<()> {
    let status = std::process::Command::new("testbed")
        .args(arguments)
        .status()
        .context("testbed cannot be started")?;
    if !status.success() {
        bail!("testbed {} failed", arguments.join(" "));
    }
    Ok(())
}
