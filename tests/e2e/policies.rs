//! `manifests/admission-policy.yaml` as the real API server evaluates it: who is let through, who is not, and what they
//! are told. Tries are dry runs, so that a policy that is not in force yet can be waited for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;

use crate::scene::Scene;

const OPERATOR: &str = "--as=system:serviceaccount:deployment-guard:deployment-guard";
/// May write guards, and no workloads.
const TENANT: &str = "--as=tenant";
/// May write both.
const DEVELOPER: &str = "--as=developer";
const KINDS: [(&str, &str); 3] =
    [("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")];
/// A policy takes a few seconds until the API server knows it.
const IN_FORCE: Duration = Duration::from_secs(30);

/// The people of these tests. The operator may do anything here as far as roles go, so that the policies alone hold it.
async fn people(scene: &Scene) -> Result<()> {
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    let user = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let group = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "on-call"});
    let operator = json!({"kind": "ServiceAccount", "namespace": "deployment-guard", "name": "deployment-guard"});
    let all: Vec<_> = [
        ("tenant", "deployment-guard-edit", user("tenant")),
        ("tenant-looks", "view", user("tenant")),
        ("developer", "edit", user("developer")),
        ("on-call", "deployment-guard-approve", group),
        ("operator", "cluster-admin", operator),
    ]
    .into_iter()
    .map(|(name, role, subject)| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": scene.namespace}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    })
    .collect();
    Ok(scene.cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string()).await?)
}

fn guard(kind: &str, mode: &str) -> String {
    guard_of(kind, "db", mode)
}

fn guard_of(kind: &str, target: &str, mode: &str) -> String {
    json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "metadata": {"name": "db"},
        "spec": {"targetRef": {"kind": kind, "name": target}, "mode": mode},
    })
    .to_string()
}

fn with<'a>(first: &[&'a str], then: &[&'a str]) -> Vec<&'a str> {
    [first, then].concat()
}

/// Waits until a try is refused with this sentence. A role that is not known yet may refuse in other words at first.
async fn refused(scene: &Scene, arguments: &[&str], input: &str, sentence: &str) -> Result<()> {
    let look = async || match scene.kubectl_with(arguments, input).await {
        Ok(_) => Err("it was let through".to_owned()),
        Err(error) if format!("{error:#}").contains(sentence) => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    };
    wait_for(&format!("the refusal of {}: {sentence}", arguments.join(" ")), IN_FORCE, look).await?;
    Ok(())
}

/// Waits until something is let through, which roles may keep it from at first.
async fn let_through(scene: &Scene, arguments: &[&str], input: &str) -> Result<()> {
    let look = async || match scene.kubectl_with(arguments, input).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    };
    wait_for(&format!("{} to be let through", arguments.join(" ")), IN_FORCE, look).await?;
    Ok(())
}

/// Nobody gets a workload changed through a guard that they may not change themselves.
pub async fn a_guard_that_acts_needs_the_right_to_patch_its_target(scene: Scene) -> Result<()> {
    people(&scene).await?;
    let create = |who| [who, "create", "--dry-run=server", "-f", "-"];
    for (kind, resource) in KINDS {
        for mode in ["Recommend", "Approve", "Enforce"] {
            let sentence = format!(
                "a guard with mode {mode} acts on its target for you, and you may not patch {kind} db in namespace {}: \
                 ask for the verb patch on {resource}.apps there, or set mode: Observe",
                scene.namespace
            );
            refused(&scene, &create(TENANT), &guard(kind, mode), &sentence).await?;
            let_through(&scene, &create(DEVELOPER), &guard(kind, mode)).await?;
        }
        let_through(&scene, &create(TENANT), &guard(kind, "Observe")).await?;
    }
    // The right to patch one workload is enough for a guard of that one.
    let grant = ["create", "role", "one", "--verb=patch", "--resource=statefulsets.apps", "--resource-name=db"];
    scene.kubectl(&grant).await?;
    scene.kubectl(&["create", "rolebinding", "one", "--role=one", "--user=tenant"]).await?;
    let_through(&scene, &create(TENANT), &guard("StatefulSet", "Enforce")).await?;
    let other = guard_of("StatefulSet", "web", "Enforce");
    refused(&scene, &create(TENANT), &other, "you may not patch StatefulSet web").await?;
    refused(&scene, &create(TENANT), &guard("DaemonSet", "Enforce"), "you may not patch DaemonSet db").await
}

/// The example of a policy of one's own. Here it holds in one namespace, or it would hold all other tests too.
pub async fn with_the_example_only_who_may_enforce_writes_mode_enforce(scene: Scene) -> Result<()> {
    people(&scene).await?;
    let here = format!("namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {}}}}}", scene.namespace);
    let example = include_str!("../../manifests/examples/who-may-enforce.yaml")
        .replace("validationActions: [Deny]", &format!("validationActions: [Deny]\n  matchResources: {{{here}}}"))
        .replace("namespace: shop", &format!("namespace: {}", scene.namespace));
    scene.cluster.kubectl_with(&["apply", "-f", "-"], &example).await?;
    let create = ["create", "--dry-run=server", "-f", "-"];
    let sentence = "only who has the verb enforce on deploymentguards.deploymentguard.dev may write a guard";
    refused(&scene, &with(&[DEVELOPER], &create), &guard("StatefulSet", "Enforce"), sentence).await?;
    let_through(&scene, &with(&[DEVELOPER], &create), &guard("StatefulSet", "Approve")).await?;
    let lead = ["--as=developer", "--as-group=shop-leads"];
    let_through(&scene, &with(&lead, &create), &guard("StatefulSet", "Enforce")).await
}

/// What does not reach further than before is nobody's business but the writer's.
pub async fn who_may_not_patch_the_target_changes_of_an_acting_guard_only_what_undoes_nothing(
    scene: Scene,
) -> Result<()> {
    people(&scene).await?;
    scene.kubectl_with(&["create", "-f", "-"], &guard("StatefulSet", "Enforce")).await?;
    let sentence = "and you may not patch StatefulSet db";
    let patch = |spec: Value| json!({"spec": spec}).to_string();
    for spec in [
        json!({"rollback": {"maxPerDay": 9}}),
        json!({"rollback": {"statefulSet": {"withVolumes": "Enforce"}}}),
        json!({"className": "generous"}),
        json!({"mode": "Recommend"}),
        json!({"signals": [{"name": "errors", "preset": "http-generic", "max": "0.1%"}]}),
        json!({"analysis": {"falseRollbackRate": "20%"}}),
        json!({"pods": {"crashLoop": {"exits": 1}}}),
        json!({"decision": {"authority": "Decide"}}),
    ] {
        let patch = patch(spec);
        let merge = ["patch", "dg", "db", "--type=merge", "--dry-run=server", "-p", &patch];
        refused(&scene, &with(&[TENANT], &merge), "", sentence).await?;
        let_through(&scene, &with(&[DEVELOPER], &merge), "").await?;
    }
    for change in [
        &["label", "dg", "db", "team=shop"][..],
        &["annotate", "dg", "db", "deploymentguard.dev/retry=1"],
        &["patch", "dg", "db", "--type=merge", "-p", r#"{"spec":{"logs":{"enabled":false}}}"#],
        &["patch", "dg", "db", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#],
    ] {
        let_through(&scene, &with(&[TENANT], change), "").await?;
    }
    let resume = ["patch", "dg", "db", "--type=merge", "--dry-run=server", "-p", r#"{"spec":{"suspend":false}}"#];
    refused(&scene, &with(&[TENANT], &resume), "", sentence).await?;
    let mode = |mode: &str| patch(json!({"mode": mode}));
    let (down, up) = (mode("Observe"), mode("Enforce"));
    let_through(&scene, &[TENANT, "patch", "dg", "db", "--type=merge", "-p", &down], "").await?;
    let up = ["patch", "dg", "db", "--type=merge", "--dry-run=server", "-p", &up];
    refused(&scene, &with(&[TENANT], &up), "", sentence).await?;
    // The operator, which may patch nothing for this guard's writer, writes status all the same.
    let status = r#"{"status":{"retried":"1"}}"#;
    let_through(&scene, &[OPERATOR, "patch", "dg", "db", "--subresource=status", "--type=merge", "-p", status], "")
        .await
}

/// An approval says who gave it, and is given by nobody else.
pub async fn only_approvers_answer_and_only_in_their_own_name(scene: Scene) -> Result<()> {
    people(&scene).await?;
    scene.kubectl_with(&["create", "-f", "-"], &guard("Deployment", "Approve")).await?;
    let annotate = ["annotate", "dg", "db", "--overwrite"];
    let eve = ["--as=eve@shop.example", "--as-group=on-call"];
    let rights = "only approvers may write or remove the annotations deploymentguard.dev/approve and \
                  deploymentguard.dev/reject: ask for the verb approve on deploymentguards.deploymentguard.dev";
    let own_name = r#"an answer ends in your own name: write "<decision> by eve@shop.example""#;
    for word in ["approve", "reject"] {
        let answer = |value: &str| format!("deploymentguard.dev/{word}={value}");
        // Whoever may write guards may not answer for them, also not in their own name.
        for (who, name) in [(TENANT, "tenant"), (DEVELOPER, "developer")] {
            let answer = answer(&format!("abc-1 by {name}"));
            let all = with(&with(&[who], &annotate), &["--dry-run=server", &answer]);
            refused(&scene, &all, "", rights).await?;
        }
        for value in ["abc-1 by mallory", "abc-1", "abc-1 by mallory by eve@shop.example", "abc-1 by on-call"] {
            let answer = answer(value);
            let all = with(&with(&eve, &annotate), &["--dry-run=server", &answer]);
            refused(&scene, &all, "", own_name).await?;
        }
        let answer = answer("abc-1 by eve@shop.example");
        let_through(&scene, &with(&with(&eve, &annotate), &[&answer]), "").await?;
        // Taking an answer away is an answer too.
        let gone = format!("deploymentguard.dev/{word}-");
        let all = with(&with(&[TENANT], &annotate), &["--dry-run=server", &gone]);
        refused(&scene, &all, "", rights).await?;
        // Other changes of an answered guard are free.
        let_through(&scene, &with(&with(&[TENANT], &annotate), &["team=shop"]), "").await?;
        let_through(&scene, &with(&with(&eve, &annotate), &[&gone]), "").await?;
    }
    // An answer that a guard is made with is one.
    let mut early: Value = serde_json::from_str(&guard("Deployment", "Observe"))?;
    early["metadata"] = json!({"name": "early", "annotations": {"deploymentguard.dev/approve": "abc-1 by tenant"}});
    refused(&scene, &[TENANT, "create", "--dry-run=server", "-f", "-"], &early.to_string(), rights).await
}

/// A workload of no pods that run: they wait for a scheduler that does not exist.
fn workload(kind: &str, namespace: &str, replicas: u8) -> Value {
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": "db", "namespace": namespace, "labels": {"team": "shop"}, "annotations": {"note": "1"}},
        "spec": {
            "selector": {"matchLabels": {"app": kind}},
            "template": {
                "metadata": {"labels": {"app": kind}},
                "spec": {"schedulerName": "nobody", "containers": [{"name": "db", "image": "localhost/shop:v1"}]},
            },
        },
    });
    if kind != "DaemonSet" {
        workload["spec"]["replicas"] = json!(replicas);
    }
    workload
}

/// What an undo needs, and not a field more.
pub async fn the_operator_changes_template_and_annotations_of_workloads_and_nothing_else(scene: Scene) -> Result<()> {
    people(&scene).await?;
    let template = json!({"metadata": {"labels": {"version": "2"}}, "spec": {"terminationGracePeriodSeconds": 5}});
    let free =
        json!({"metadata": {"annotations": {"note": "2", "x": "y"}}, "spec": {"template": template}}).to_string();
    for (kind, resource) in KINDS {
        scene.cluster.apply(&workload(kind, &scene.namespace, 0).to_string()).await?;
        let patch = |patch: &Value| {
            let patch = patch.to_string();
            let scene = scene.clone();
            async move {
                let all = [OPERATOR, "patch", resource, "db", "--type=merge", "--dry-run=server", "-p", &patch];
                refused(&scene, &all, "", "DeploymentGuard changes nothing of a workload's").await
            }
        };
        patch(&json!({"spec": {"minReadySeconds": 7}})).await?;
        patch(&json!({"spec": {"revisionHistoryLimit": 0}})).await?;
        patch(&json!({"metadata": {"labels": {"team": "ours"}}})).await?;
        patch(&json!({"metadata": {"labels": null}})).await?;
        patch(&json!({"metadata": {"finalizers": ["deploymentguard.dev/mine"]}})).await?;
        // Hidden behind what is allowed.
        patch(&json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"minReadySeconds": 7}})).await?;
        if kind != "DaemonSet" {
            patch(&json!({"spec": {"replicas": 3}})).await?;
        }
        if kind == "Deployment" {
            patch(&json!({"spec": {"paused": true}})).await?;
        }
        let_through(&scene, &[OPERATOR, "patch", resource, "db", "--type=merge", "-p", &free], "").await?;
        let delete = [OPERATOR, "delete", resource, "db", "--dry-run=server"];
        refused(&scene, &delete, "", "DeploymentGuard creates and deletes no workloads").await?;
        // Others are not held by it.
        scene.kubectl(&["label", resource, "db", "team=theirs", "--overwrite"]).await?;
    }
    kube_system_is_left_alone(&scene).await
}

async fn kube_system_is_left_alone(scene: &Scene) -> Result<()> {
    let name = format!("left-alone-{}", scene.namespace);
    let image = "--image=localhost/shop:v1";
    scene.cluster.kubectl(&["-n", "kube-system", "create", "deployment", &name, image, "--replicas=0"]).await?;
    let annotate = ["annotate", "deployment", &name, "--dry-run=server", "a=b"];
    // The first -n is the scene's own, and the last one counts.
    let all = with(&["-n", "kube-system", OPERATOR], &annotate);
    let result = refused(scene, &all, "", "DeploymentGuard changes nothing in kube-system").await;
    scene.cluster.kubectl(&["-n", "kube-system", "delete", "deployment", &name]).await?;
    result
}

/// A pod of a workload of this kind, with its uid.
async fn pod_of(scene: &Scene, kind: &str) -> Result<(String, String)> {
    scene.cluster.apply(&workload(kind, &scene.namespace, 1).to_string()).await?;
    let selector = format!("app={kind}");
    let look = async || {
        let pods = scene.get(&["pods", "-l", &selector]).await.map_err(|error| format!("{error:#}"))?;
        let of = |field: &str| pods["items"][0]["metadata"][field].as_str().map(str::to_owned);
        of("name").zip(of("uid")).ok_or_else(|| "no pod".to_owned())
    };
    wait_for(&format!("a pod of the {kind}"), Duration::from_mins(1), look).await.context("the pods")
}

/// The pods that only a person would delete otherwise, each exactly as it was judged.
pub async fn the_operator_deletes_only_pods_of_stateful_and_daemon_sets_and_each_by_its_uid(
    scene: Scene,
) -> Result<()> {
    people(&scene).await?;
    for (kind, _) in KINDS {
        let (pod, uid) = pod_of(&scene, kind).await?;
        let path = format!("/api/v1/namespaces/{}/pods/{pod}", scene.namespace);
        let delete = [OPERATOR, "delete", "--raw", &path, "-f", "-"];
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"], "preconditions": {"uid": uid},
        });
        if kind == "Deployment" {
            let sentence = "DeploymentGuard deletes only pods of StatefulSets and DaemonSets";
            refused(&scene, &delete, &options.to_string(), sentence).await?;
        } else {
            let_through(&scene, &delete, &options.to_string()).await?;
            options["preconditions"] = Value::Null;
            let sentence = "DeploymentGuard deletes a pod only by its uid";
            refused(&scene, &delete, &options.to_string(), sentence).await?;
        }
        let label = [OPERATOR, "label", "pod", &pod, "--dry-run=server", "a=b"];
        refused(&scene, &label, "", "DeploymentGuard creates and changes no pods").await?;
    }
    Ok(())
}

/// An object as the operator would keep it for the guard `db`, if it could choose any owner.
fn kept(scene: &Scene, kind: &str, owner: &Value) -> String {
    let mut object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": "kept", "namespace": scene.namespace, "ownerReferences": [owner]},
    });
    if kind == "ControllerRevision" {
        object["apiVersion"] = json!("apps/v1");
        object["revision"] = json!(1);
        object["data"] = json!({"spec": {"template": {}}});
    }
    object.to_string()
}

/// The history of a workload and the settings of others are theirs; a guard has objects of its own.
pub async fn the_operator_writes_only_controller_revisions_and_config_maps_of_guards(scene: Scene) -> Result<()> {
    people(&scene).await?;
    pod_of(&scene, "StatefulSet").await?;
    let theirs = scene.get(&["controllerrevisions"]).await?;
    let revision = theirs["items"][0]["metadata"]["name"].as_str().context("no revision")?.to_owned();
    scene.kubectl(&["create", "configmap", "settings", "--from-literal=a=b"]).await?;
    scene.kubectl_with(&["create", "-f", "-"], &guard("StatefulSet", "Observe")).await?;
    let uid = scene.guard("db").await?.0["metadata"]["uid"].clone();
    let owner = |kind: &str, api: &str, controller: bool| json!({"apiVersion": api, "kind": kind, "name": "db", "uid": uid, "controller": controller});
    let sentence = "DeploymentGuard writes and deletes only ControllerRevisions that a DeploymentGuard controls and \
                    ConfigMaps that one owns";
    for (kind, theirs) in [("ControllerRevision", revision.as_str()), ("ConfigMap", "settings")] {
        refused(&scene, &[OPERATOR, "delete", kind, theirs, "--dry-run=server"], "", sentence).await?;
        refused(&scene, &[OPERATOR, "label", kind, theirs, "--dry-run=server", "a=b"], "", sentence).await?;
        // To take it would be to change it.
        let own = owner("DeploymentGuard", "deploymentguard.dev/v1alpha1", true);
        let take = json!({"metadata": {"ownerReferences": [own]}}).to_string();
        let take = [OPERATOR, "patch", kind, theirs, "--type=merge", "--dry-run=server", "-p", &take];
        refused(&scene, &take, "", sentence).await?;

        let create = [OPERATOR, "create", "--dry-run=server", "-f", "-"];
        for other in [owner("DeploymentGuard", "example.com/v1", true), owner("StatefulSet", "apps/v1", true)] {
            refused(&scene, &create, &kept(&scene, kind, &other), sentence).await?;
        }
        // Only a controller keeps workloads from adopting it.
        let controls = kind == "ControllerRevision";
        if controls {
            let loose = owner("DeploymentGuard", "deploymentguard.dev/v1alpha1", false);
            refused(&scene, &create, &kept(&scene, kind, &loose), sentence).await?;
        }
        let own = kept(&scene, kind, &owner("DeploymentGuard", "deploymentguard.dev/v1alpha1", controls));
        let_through(&scene, &[OPERATOR, "create", "-f", "-"], &own).await?;
        let_through(&scene, &[OPERATOR, "label", kind, "kept", "a=b"], "").await?;
        // Giving it away would get round the rule.
        let give = r#"{"metadata":{"ownerReferences":null}}"#;
        let give = [OPERATOR, "patch", kind, "kept", "--type=merge", "--dry-run=server", "-p", give];
        refused(&scene, &give, "", sentence).await?;
        let_through(&scene, &[OPERATOR, "delete", kind, "kept"], "").await?;
        let left = scene.kubectl(&["get", kind, "-o", "name"]).await?;
        ensure!(left.contains(theirs) && !left.contains("/kept"), "left: {left}");
    }
    Ok(())
}
