//! Helm as a person has it, and a chart of a shop.
//!
//! Role: runs the real Helm against the test's cluster. Inputs: its arguments, manifests. Outputs: what it printed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster::Cluster;
use tokio::process::Command;

use crate::scene::Scene;

/// Helm in one namespace.
pub struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
    cluster: Cluster,
    namespace: String,
}

impl Helm {
    /// With a home of its own: nothing of the person who runs the tests is read or written.
    pub fn of(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let program = cluster.program("helm");
        let program = program.context("this test needs Helm: start it with `testbed run --with helm -- …`")?;
        Ok(Self { program, home: tempfile::tempdir()?, cluster: cluster.clone(), namespace: namespace.to_owned() })
    }

    /// Where files for it may lie.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["-n", &self.namespace, "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .env("HOME", self.home())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {said}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A chart `shop`, and its releases in a test's namespace.
pub struct Releases {
    helm: Helm,
}

impl Releases {
    /// None yet, in a namespace that is there.
    pub async fn new(scene: &Scene) -> Result<Self> {
        let helm = Helm::of(&scene.cluster, &scene.namespace)?;
        std::fs::create_dir(helm.home().join("templates"))?;
        std::fs::write(helm.home().join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 0.1.0\n")?;
        scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
        Ok(Self { helm })
    }

    /// `install` or `upgrade` with these objects in the chart.
    pub async fn release(&self, verb: &str, objects: &[Value], more: &[&str]) -> Result<()> {
        // JSON is YAML.
        let list: Vec<_> = objects.iter().map(Value::to_string).collect();
        std::fs::write(self.helm.home().join("templates/shop.yaml"), list.join("\n---\n"))?;
        let chart = self.helm.home().to_string_lossy();
        self.helm.run(&[&[verb, "shop", &chart], more].concat()).await.map(|_| ())
    }

    /// Puts Helm's record one revision back.
    pub async fn rollback(&self) -> Result<()> {
        self.helm.run(&["rollback", "shop"]).await.map(|_| ())
    }

    /// Status and description of every revision, the oldest first.
    pub async fn history(&self) -> Result<Vec<String>> {
        let history: Value = serde_json::from_str(&self.helm.run(&["history", "shop", "-o", "json"]).await?)?;
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let entries = history.as_array().into_iter().flatten();
        Ok(entries.map(|entry| format!("{}: {}", text(entry, "status"), text(entry, "description"))).collect())
    }
}
