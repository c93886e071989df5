//! What all tests share: the definitions, the operator as a pod, the default class; and what to show when one fails.
//!
//! Role: installs as a user does, once. Inputs: the files of a release. Outputs: a ready operator.

use anyhow::{Context, Result};
use testbed::cluster::{Cluster, Component};
use testbed::operator;

use crate::scene::Scene;

/// Where the operator runs.
pub const NAMESPACE: &str = "deployment-guard";
/// The operator's Deployment.
pub const OPERATOR: &str = "deployment/deployment-guard";

/// Installs everything and waits until the operator is ready.
pub async fn install(cluster: &Cluster) -> Result<()> {
    // A cluster that was kept up has it already.
    let _ = cluster.start(Component::ImageRegistry).await;
    operator::apply(cluster, &operator::manifests_recording(&operator::recordings()?)).await?;
    operator_ready(cluster).await?;
    cluster.apply(&operator::class()).await.context("the default class")
}

/// Waits until the operator that is wanted now is ready.
pub async fn operator_ready(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", OPERATOR, "--timeout=90s"]).await?;
    Ok(())
}

/// The last lines of the operator's log.
pub async fn operator_log(cluster: &Cluster) -> String {
    let log = cluster.kubectl(&["-n", NAMESPACE, "logs", OPERATOR, "--tail=40"]).await;
    log.unwrap_or_else(|error| error.to_string())
}

/// Everything that helps to find out why a test failed.
pub async fn trouble(scene: &Scene) -> String {
    let mut text = String::new();
    for command in ["get dg -o yaml", "get deployments,replicasets,pods -o wide", "get events --sort-by=.lastTimestamp"]
    {
        let arguments: Vec<_> = command.split(' ').collect();
        let printed = scene.kubectl(&arguments).await.unwrap_or_else(|error| format!("{error:#}"));
        text.extend(["$ kubectl -n ", &scene.namespace, " ", command, "\n", &printed, "\n"]);
    }
    let log = operator_log(&scene.cluster).await;
    format!("{text}$ the operator's last lines\n{log}\n")
}
