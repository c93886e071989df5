//! Where an undo needs care: a person is asked, a GitOps tool would revert it, a StatefulSet would wait for ever.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use testbed::cluster::Component;
use testbed::shop::{Kind, Shop};
use tokio::process::Command;

use super::{Story, say, title};
use crate::guard::Guard;
use crate::manifests::NAMESPACE;

/// What the Kustomization leaves on what it applies.
const FLUX: [(&str, &str); 2] =
    [("kustomize.toolkit.fluxcd.io/name", "apps"), ("kustomize.toolkit.fluxcd.io/namespace", "flux-system")];

fn service(name: &str, version: &str) -> Shop {
    Shop::new(NAMESPACE, name).version(version).replicas(2).rolling("100%", "0")
}

fn crashes(name: &str) -> Shop {
    service(name, "v2").fault("EXIT_AFTER_S", "0.5")
}

impl Story {
    /// Version 1 of a service and its guard.
    pub(super) async fn guarded(&self, shop: &Shop, name: &str, spec: serde_json::Value) -> Result<()> {
        self.release(shop).await?;
        shop.rolled_out(&self.cluster, Duration::from_secs(90)).await?;
        let guard = json!({
            "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        });
        self.cluster.apply(&guard.to_string()).await?;
        self.narrate_of(name, "the guard to see the workload", |guard| guard.state() == "Serving").await?;
        Ok(())
    }

    /// A person decides, with the command that the guard shows.
    pub(super) async fn approved_release(&mut self) -> Result<()> {
        title("A person is asked: checkout v2 crashes, and its guard has mode: Approve");
        let spec = json!({"targetRef": {"name": "checkout"}, "mode": "Approve"});
        self.guarded(&service("checkout", "v1"), "checkout", spec).await?;
        self.release(&crashes("checkout")).await?;
        let asked = |guard: &Guard| guard.state() == "AwaitingApproval";
        let guard = self.narrate_of("checkout", "the question", asked).await?;
        let pending = &guard.0["status"]["pendingAction"];
        for field in ["decision", "fromRevision", "toRevision", "why", "reasoning", "expiresAt", "approve"] {
            say(&format!("{field}: {}", pending[field].as_str().unwrap_or_default()));
        }
        self.expect("nothing is touched before somebody answers", guard.0["status"]["rollbacksToday"] == 0);
        let command = pending["approve"].as_str().context("no command to approve it")?;
        println!("   $ {command}");
        let shell =
            Command::new("sh").args(["-c", command]).env("KUBECONFIG", self.cluster.kubeconfig()).output().await?;
        print!("   {}{}", String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
        let undone = |guard: &Guard| guard.decided("action") == "RolledBack";
        let guard = self.narrate_of("checkout", "the undo", undone).await?;
        say(&format!("approved by {}", guard.decided("answeredBy")));
        self.expect("undone once it was approved", !guard.decided("answeredBy").is_empty());
        Ok(())
    }

    /// Whoever applies it again and again is told, not fought.
    pub(super) async fn git_ops_release(&mut self) -> Result<()> {
        title("Flux applies it: catalog v2 crashes, and an undo would be reverted");
        let labelled = |shop: &Shop| -> Result<String> {
            let mut workload = shop.workload();
            for (key, value) in FLUX {
                workload["metadata"]["labels"][key] = json!(value);
            }
            Ok(json!({"apiVersion": "v1", "kind": "List", "items": [workload, shop.service()]}).to_string())
        };
        let first = service("catalog", "v1");
        let spec = json!({"targetRef": {"name": "catalog"}, "mode": "Enforce"});
        self.guarded(&first, "catalog", spec).await?;
        let apply = ["apply", "--server-side", "--field-manager=kustomize-controller", "--force-conflicts", "-f", "-"];
        self.cluster.kubectl_with(&apply, &labelled(&first)?).await?;
        self.cluster.kubectl_with(&apply, &labelled(&crashes("catalog"))?).await?;
        let recommended = |guard: &Guard| guard.decided("action") == "Recommended";
        let guard = self.narrate_of("catalog", "the recommendation", recommended).await?;
        for command in guard.decision()["commands"].as_array().into_iter().flatten() {
            say(&format!("recommended: {}", command.as_str().unwrap_or_default()));
        }
        let left = guard.decided("clampedBy") == "git-ops" && guard.0["status"]["rollbacksToday"] == 0;
        self.expect("recommended, not fought", left);
        self.expect("GitOpsManaged=True names who applies it", guard.condition("GitOpsManaged").2.contains("apps"));
        Ok(())
    }

    /// Kubernetes itself leaves it broken for ever, also after `kubectl rollout undo`.
    pub(super) async fn stuck_release(&mut self) -> Result<()> {
        title("A StatefulSet stuck on an image that does not exist: orders v2");
        self.cluster.start(Component::ImageRegistry).await?;
        let orders = |version: &str| {
            let shop = Shop::new(NAMESPACE, "orders").version(version).replicas(2);
            shop.kind(Kind::StatefulSet).from_registry("IfNotPresent")
        };
        let first = orders("v1");
        let spec = json!({"targetRef": {"kind": "StatefulSet", "name": "orders"}, "mode": "Enforce"});
        self.guarded(&first, "orders", spec).await?;
        self.release(&orders("does-not-exist")).await?;
        let undone = |guard: &Guard| guard.decided("action") == "RolledBack";
        self.narrate_of("orders", "the undo", undone).await?;
        say("the template is back; the broken pod is in the way of its own replacement until somebody deletes it");
        let verified = |guard: &Guard| guard.condition("RolledBack").1 == "RollbackSucceeded";
        let guard = self.narrate_of("orders", "the freed StatefulSet to prove itself", verified).await?;
        self.expect("freed: every pod serves v1 again", guard.state() == "Serving");
        Ok(())
    }
}
