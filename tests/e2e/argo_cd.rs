//! Argo CD, as far as it matters here. Its application controller needs a repository server, Redis and a Git server, so
//! this is what it does to a workload, with its names and its timing: an Application whose automated sync applies each
//! revision once, server-side as `argocd-controller`, and heals what differs about 5 s later if `selfHeal` says so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::shop::Shop;
use tokio::task::JoinHandle;

use crate::scene::{Guard, Scene};
use crate::world;

/// Argo CD's own `--self-heal-timeout-seconds`.
const SELF_HEAL: Duration = Duration::from_secs(5);
/// Long enough for it to heal twice.
const SEVERAL_SYNCS: Duration = Duration::from_secs(13);
const MARKER: &str = "deploymentguard.dev/suspended-sync";

/// What stands in Git: the revision and the workload.
type Head = Arc<Mutex<(String, Value)>>;

struct ArgoCd {
    head: Head,
    controller: JoinHandle<()>,
}

impl Drop for ArgoCd {
    fn drop(&mut self) {
        self.controller.abort();
    }
}

impl ArgoCd {
    async fn with(scene: &Scene, first: &Shop) -> Result<Self> {
        define(scene).await?;
        scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
        scene.cluster.apply(&first.service().to_string()).await?;
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": "shop", "namespace": scene.namespace},
            "spec": {
                "project": "default",
                "source": {"repoURL": "https://git.example/shop", "path": ".", "targetRevision": "main"},
                "destination": {"namespace": scene.namespace, "server": "https://kubernetes.default.svc"},
                "syncPolicy": {"automated": {"prune": true, "selfHeal": true}, "syncOptions": ["ServerSideApply=true"]},
            },
        });
        scene.cluster.apply(&application.to_string()).await?;
        let head = Arc::new(Mutex::new(("1".to_owned(), tracked(scene, first))));
        sync(scene, &head).await?;
        let controller = tokio::spawn(control(scene.clone(), head.clone()));
        Ok(Self { head, controller })
    }

    fn push(&self, scene: &Scene, shop: &Shop, revision: &str) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = (revision.to_owned(), tracked(scene, shop));
    }
}

/// The definition of what it reads, and the rights that `gitOps: Suspend` needs for it.
async fn define(scene: &Scene) -> Result<()> {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "applications.argoproj.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test's own"},
        },
        "spec": {
            "group": "argoproj.io", "scope": "Namespaced", "versions": [version],
            "names": {"kind": "Application", "plural": "applications", "singular": "application"},
        },
    });
    let rule = json!({"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": ["get", "list", "patch"]});
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "guard-argo-cd"}, "rules": [rule],
    });
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "guard-argo-cd"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "guard-argo-cd"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployment-guard", "namespace": world::NAMESPACE}],
    });
    for object in [definition, role, binding] {
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        scene.cluster.kubectl_with(&apply, &object.to_string()).await?;
    }
    let wait = ["wait", "--for=condition=Established", "crd/applications.argoproj.io", "--timeout=30s"];
    scene.cluster.kubectl(&wait).await?;
    Ok(())
}

fn tracked(scene: &Scene, shop: &Shop) -> Value {
    let mut workload = shop.workload();
    let namespace = &scene.namespace;
    let id = format!("{namespace}_shop:apps/Deployment:{namespace}/shop");
    workload["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = id.into();
    workload
}

async fn control(scene: Scene, head: Head) {
    loop {
        tokio::time::sleep(SELF_HEAL).await;
        // What fails is tried again.
        if let Err(error) = look(&scene, &head).await {
            eprintln!("argocd-controller of {}: {error:#}", scene.namespace);
        }
    }
}

async fn look(scene: &Scene, head: &Head) -> Result<()> {
    let application = scene.get(&["applications.argoproj.io", "shop"]).await?;
    let is_new =
        application["status"]["sync"]["revision"] != head.lock().unwrap_or_else(PoisonError::into_inner).0.as_str();
    let heals = application["spec"]["syncPolicy"]["automated"]["selfHeal"] == true;
    if is_new || heals { sync(scene, head).await } else { Ok(()) }
}

async fn sync(scene: &Scene, head: &Head) -> Result<()> {
    let (revision, workload) = head.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-"];
    scene.kubectl_with(&apply, &workload.to_string()).await?;
    let namespace = &scene.namespace;
    let resource =
        json!({"group": "apps", "version": "v1", "kind": "Deployment", "namespace": namespace, "name": "shop"});
    let status = json!({"status": {"sync": {"status": "Synced", "revision": revision}, "resources": [resource]}});
    scene.kubectl(&["patch", "applications.argoproj.io", "shop", "--type=merge", "-p", &status.to_string()]).await?;
    Ok(())
}

async fn begin(scene: &Scene, rollback: Value) -> Result<(ArgoCd, Guard)> {
    let argo = ArgoCd::with(scene, &scene.shop()).await?;
    let guard = scene.begin_with_deployed(json!({"rollback": rollback})).await?;
    Ok((argo, guard))
}

/// `Rollback` vouches for `ignoreDifferences`, which are not there.
pub async fn an_undo_that_argo_cd_heals_away_is_said_with_its_name_and_not_repeated(scene: Scene) -> Result<()> {
    let (argo, _) = begin(&scene, json!({"gitOps": "Rollback"})).await?;
    argo.push(&scene, &scene.bad(), "2");
    let guard = scene.until("the return", |guard| guard.reason("RolledBack") == "RollbackReverted").await?;
    ensure!(guard.message("RolledBack").contains("argocd-controller"), "{}", guard.message("RolledBack"));
    ensure!(scene.deployment().await?.generation() == 4, "generation {}", scene.deployment().await?.generation());
    tokio::time::sleep(SEVERAL_SYNCS).await;
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 4 && deployment.image() == "localhost/shop:v2", "it was fought over");
    ensure!(scene.guard("shop").await?.0["status"]["rollbacksToday"] == 1, "not one undo");
    Ok(())
}

/// `Suspend` turns self-heal off. A new revision is synced all the same, and then self-heal is on again.
pub async fn with_self_heal_suspended_an_undo_lasts_until_there_is_a_new_revision(scene: Scene) -> Result<()> {
    let (argo, before) = begin(&scene, json!({"gitOps": "Suspend", "suspendFor": "10m"})).await?;
    let original = scene.get(&["applications.argoproj.io", "shop"]).await?;
    argo.push(&scene, &scene.bad(), "2");
    scene.undone(&before).await?;
    let application = scene.get(&["applications.argoproj.io", "shop"]).await?;
    let policy = &application["spec"]["syncPolicy"]["automated"];
    ensure!(*policy == json!({"prune": true, "selfHeal": false}), "{policy}");
    let marker = application["metadata"]["annotations"][MARKER].as_str().unwrap_or_default();
    ensure!(marker.contains(scene.deployment().await?.last_rollback()), "the marker names no decision: {marker}");
    scene.verified().await?;
    ensure!(scene.deployment().await?.generation() == 3, "generation {}", scene.deployment().await?.generation());

    argo.push(&scene, &scene.shop().version("v3"), "3");
    let look = async || {
        let get = scene.get(&["applications.argoproj.io", "shop"]).await;
        let application = get.map_err(|error| format!("{error:#}"))?;
        let is_back = application["spec"] == original["spec"] && !application.to_string().contains(MARKER);
        if is_back { Ok(()) } else { Err(application["spec"]["syncPolicy"].to_string()) }
    };
    wait_for("self-heal to be on again", Duration::from_secs(60), look).await?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v3", "{}", deployment.image());
    Ok(())
}
