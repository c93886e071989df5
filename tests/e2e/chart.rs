//! The chart on a real cluster with the real Helm: installed into a namespace that enforces the Pod Security level
//! `restricted`, used, upgraded, rolled back, removed. The operator of all other tests is away meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::images::OPERATOR_IMAGE;
use testbed::shop::Shop;

use crate::git::Git;
use crate::gitops;
use crate::helm::Helm;
use crate::scene::{Guard, Scene};
use crate::world;

/// Where the release lies.
const NAMESPACE: &str = "chart";
/// Its name, and what it calls its objects.
const RELEASE: &str = "chart";
const NAME: &str = "chart-deployment-guard";
/// For pods to go or to come.
const A_MINUTE: Duration = Duration::from_mins(1);

/// The chart, and Helm.
struct Chart {
    helm: Helm,
    scene: Scene,
    values: PathBuf,
}

impl Chart {
    async fn new(scene: &Scene) -> Result<Self> {
        let helm = Helm::of(&scene.cluster, NAMESPACE)?;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        scene.cluster.apply(&namespace.to_string()).await?;
        let (repository, tag) = OPERATOR_IMAGE.rsplit_once(':').context("the operator's image has no tag")?;
        let values = json!({
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "guardClass": {
                "name": "chart", "isDefault": false,
                "spec": {
                    "prometheus": {"url": scene.cluster.prometheus_url()},
                    "stormBreaker": {"undos": 100, "within": "1m"},
                },
            },
        });
        let file = helm.home().join("values.yaml");
        std::fs::write(&file, values.to_string())?;
        Ok(Self { helm, scene: scene.clone(), values: file })
    }

    /// `install` or `upgrade`, and waits until the operator is ready.
    async fn release(&self, verb: &str, more: &[&str]) -> Result<()> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/deployment-guard");
        let (chart, values) = (chart.to_string_lossy(), self.values.to_string_lossy());
        // The definitions are there from kubectl, as with somebody who changes over.
        let first = [verb, RELEASE, &chart, "-f", &values, "--take-ownership", "--force-conflicts"];
        self.helm.run(&[&first, more].concat()).await?;
        self.ready().await
    }

    async fn ready(&self) -> Result<()> {
        let deployment = format!("deployment/{NAME}");
        self.kubectl(&["rollout", "status", &deployment, "--timeout=90s"]).await?;
        Ok(())
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let all: Vec<_> = ["-n", NAMESPACE].iter().chain(arguments).copied().collect();
        Ok(self.scene.cluster.kubectl(&all).await?)
    }

    async fn uninstall(&self) -> Result<()> {
        let removed = self.helm.run(&["uninstall", RELEASE, "--timeout", "3m"]).await;
        let job = format!("job/{NAME}-resume");
        match removed {
            Ok(_) => Ok(()),
            Err(error) => {
                let log = self.kubectl(&["logs", &job]).await.unwrap_or_else(|error| error.to_string());
                Err(error.context(format!("the hook said: {log}")))
            }
        }
    }

    /// What a failed test leaves.
    async fn clean(&self) {
        let _ = self.helm.run(&["uninstall", RELEASE, "--no-hooks", "--ignore-not-found"]).await;
        let _ = self.kubectl(&["delete", "jobs", "--all"]).await;
        let _ = self.scene.cluster.kubectl(&["delete", "gclass", "chart", "--ignore-not-found"]).await;
    }
}

/// Runs a story in which the chart's operator is the only one.
async fn alone(scene: &Scene, story: impl AsyncFnOnce(&Chart) -> Result<()>) -> Result<()> {
    let chart = Chart::new(scene).await?;
    let operator = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        let cluster = scene.cluster.clone();
        async move { cluster.kubectl(&["-n", world::NAMESPACE, "scale", world::OPERATOR, &replicas]).await }
    };
    operator("0").await?;
    let gone = async || {
        let pods = ["-n", world::NAMESPACE, "get", "pods", "-o", "name"];
        let left = scene.cluster.kubectl(&pods).await.map_err(|error| error.to_string())?;
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    };
    wait_for("the other operator to be gone", A_MINUTE, gone).await?;
    let told = story(&chart).await;
    let log = chart.kubectl(&["logs", &format!("deployment/{NAME}"), "--tail=30"]).await;
    chart.clean().await;
    operator("1").await?;
    world::operator_ready(&scene.cluster).await?;
    told.with_context(|| format!("the last lines of the chart's operator:\n{}", log.unwrap_or_default()))
}

/// A bad release, undone by the chart's operator, and the shop is as it was.
async fn undoes(scene: &Scene, before: &Guard, bad: &Shop) -> Result<()> {
    scene.push(bad).await?;
    let fresh = |guard: &Guard| guard.decided("action") == "RolledBack" && guard.decided("id") != before.decided("id");
    let guard = scene.until("the undo", fresh).await?;
    ensure!(guard.revision() == before.revision(), "went to {}, not to {}", guard.revision(), before.revision());
    scene.verified().await?;
    Ok(())
}

async fn exists(scene: &Scene, arguments: &[&str]) -> Result<bool> {
    let all: Vec<_> = ["get", "--ignore-not-found", "-o", "name"].iter().chain(arguments).copied().collect();
    Ok(!scene.cluster.kubectl(&all).await?.trim().is_empty())
}

/// Panels of the dashboard that may be empty where nothing failed and no model is asked.
const QUIET: [&str; 6] = [
    "Undos that failed in 24 h",
    "Looks at guards",
    "Requests to language models",
    "Tokens of language models in 24 h",
    "Duration of a request to a language model",
    "Pieces blacked out, events written",
];

/// Every query of the dashboard, asked of the Prometheus that scrapes the chart's operator.
async fn the_dashboard_shows_it(scene: &Scene) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/deployment-guard/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap_or_default();
        panel["targets"].as_array().into_iter().flatten().map(move |target| (title, &target["expr"]))
    });
    let queries: Vec<_> = targets
        .filter_map(|(title, expr)| {
            let expr = expr.as_str()?.replace("$__rate_interval", "1m").replace("$namespace", NAMESPACE);
            Some((title.to_owned(), expr))
        })
        .collect();
    ensure!(queries.len() > 20, "{} queries: the dashboard was not read", queries.len());
    let url = format!("{}/api/v1/query", scene.cluster.prometheus_url());
    let client = reqwest::Client::new();
    let look = async || {
        let mut empty = Vec::new();
        for (title, expr) in &queries {
            let asked = client.get(&url).query(&[("query", expr)]).send().await.map_err(|error| error.to_string())?;
            let answer: Value = asked.json().await.map_err(|error| error.to_string())?;
            let found = answer["data"]["result"].as_array().filter(|_| answer["status"] == "success");
            let found = found.ok_or_else(|| format!("{title}: {expr}: {answer}"))?;
            if found.is_empty() && !QUIET.contains(&title.as_str()) {
                empty.push(title.clone());
            }
        }
        if empty.is_empty() { Ok(()) } else { Err(format!("nothing is shown of {empty:?}")) }
    };
    Ok(wait_for("every panel of the dashboard", A_MINUTE, look).await?)
}

/// From the first command to the last; what people made stays.
pub async fn a_release_of_the_chart_is_installed_upgraded_rolled_back_and_removed(scene: Scene) -> Result<()> {
    alone(&scene, async |chart| {
        chart.release("install", &[]).await.context("the installation")?;
        let rollback = json!({"cooldown": "0s", "maxPerDay": 10});
        let before = scene.begin(json!({"className": "chart", "rollback": rollback})).await?;
        undoes(&scene, &before, &scene.bad()).await.context("after the installation")?;
        the_dashboard_shows_it(&scene).await?;

        let more = ["--set", "replicas=2", "--set", "podDisruptionBudget.enabled=true"];
        chart.release("upgrade", &more).await.context("the upgrade")?;
        ensure!(exists(&scene, &["-n", NAMESPACE, &format!("pdb/{NAME}")]).await?, "the upgrade brought nothing");
        chart.helm.run(&["rollback", RELEASE, "1"]).await.context("the rollback")?;
        chart.ready().await?;
        ensure!(!exists(&scene, &["-n", NAMESPACE, &format!("pdb/{NAME}")]).await?, "the rollback took nothing back");
        let before = scene.until("the guard to be seen again", |guard| guard.status("Ready") == "True").await?;
        // Another one: what was undone is not judged again.
        undoes(&scene, &before, &scene.bad().version("v3")).await.context("after the rollback")?;

        chart.uninstall().await?;
        for kind in ["deployments", "serviceaccounts", "roles", "jobs"] {
            let left = chart.kubectl(&["get", kind, "-o", "name"]).await?;
            ensure!(!left.contains(NAME), "left of the release: {left}");
        }
        ensure!(!exists(&scene, &[&format!("clusterrole/{NAME}")]).await?, "left: the ClusterRole");
        ensure!(exists(&scene, &["crd/deploymentguards.deploymentguard.dev"]).await?, "the definitions are gone");
        ensure!(exists(&scene, &["gclass/chart"]).await?, "the class is gone");
        let guard = scene.guard("shop").await?;
        ensure!(guard.decided("action") == "RolledBack", "the guard forgot what it decided: {}", guard.line());
        ensure!(scene.deployment().await?.image() == "localhost/shop:v1", "the workload was changed");

        // Over what the first installation left: definitions, class, guards.
        chart.release("install", &[]).await.context("the installation over what was left")?;
        let before = scene.until("the guard to be seen again", |guard| guard.status("Ready") == "True").await?;
        undoes(&scene, &before, &scene.bad().version("v4")).await.context("after the second installation")?;
        chart.uninstall().await
    })
    .await
}

/// With Roles in one namespace, without any right on workloads of others.
pub async fn with_roles_in_one_namespace_a_bad_release_is_undone_there(scene: Scene) -> Result<()> {
    scene.shop().deploy(&scene.cluster).await?;
    alone(&scene, async |chart| {
        let watched = format!("watchNamespaces={{{}}}", scene.namespace);
        chart.release("install", &["--set", &watched, "--set", "rbac.readNodes=false"]).await?;
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{NAME}");
        let may = async |verb: &str, namespace: &str| {
            let asked = ["auth", "can-i", verb, "deployments.apps", "-n", namespace, &account];
            scene.cluster.kubectl(&asked).await.is_ok_and(|said| said.trim() == "yes")
        };
        ensure!(may("patch", &scene.namespace).await, "no right where it is to act");
        for verb in ["patch", "list"] {
            ensure!(!may(verb, "default").await, "it may {verb} Deployments of other namespaces");
        }
        let before = scene.begin_with_deployed(json!({"className": "chart"})).await?;
        undoes(&scene, &before, &scene.bad()).await?;
        chart.uninstall().await
    })
    .await
}

/// Nobody else would: before the operator goes, Flux gets back what was suspended for an undo.
pub async fn a_suspended_sync_is_given_back_before_the_operator_is_removed(scene: Scene) -> Result<()> {
    alone(&scene, async |chart| {
        chart.release("install", &[]).await?;
        let git = Git::with(&scene, &scene.shop()).await?;
        let rollback = json!({"gitOps": "Suspend", "suspendFor": "1h"});
        let before = scene.begin_with_deployed(json!({"className": "chart", "rollback": rollback})).await?;
        git.push(&scene.bad(), "main@sha1:2").await?;
        scene.undone(&before).await?;
        let marker = |deployment: &Value| {
            deployment["metadata"]["annotations"]["deploymentguard.dev/suspended-sync"].as_str().map(str::to_owned)
        };
        ensure!(marker(&scene.deployment().await?.0).is_some(), "nothing is suspended");

        chart.uninstall().await?;
        ensure!(marker(&scene.deployment().await?.0).is_none(), "it is still suspended");
        let told = gitops::notes(&scene, "SyncResumed").await?;
        ensure!(told.iter().any(|note| note.contains("being removed")), "no event says why: {told:?}");
        // Git still holds the bad version, and Flux applies what Git holds.
        let look = async || {
            let deployment = scene.deployment().await.map_err(|error| format!("{error:#}"))?;
            if deployment.image() == "localhost/shop:v2" { Ok(()) } else { Err(deployment.image().to_owned()) }
        };
        wait_for("Flux to apply what Git holds", A_MINUTE, look).await?;
        Ok(())
    })
    .await
}
