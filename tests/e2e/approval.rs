//! What is not undone by itself, and what is not undone again: people, limits, returns.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::facts::{serving, shop};
use crate::scene::{Guard, Scene};

/// A version that exits at its start: judged bad within seconds.
fn crashing(scene: &Scene) -> testbed::shop::Shop {
    shop(scene).version("v2").fault("EXIT_AFTER_S", "0.5")
}

/// What the events of a reason in this namespace say.
pub async fn events(scene: &Scene, reason: &str) -> Result<Vec<String>> {
    let all = scene.get(&["events", "--field-selector", &format!("reason={reason}")]).await?;
    let notes = all["items"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
    Ok(notes.map(str::to_owned).collect())
}

/// Nothing changed the Deployment but what the test knows of.
async fn generation(scene: &Scene, wanted: i64) -> Result<()> {
    let found = scene.deployment().await?.generation();
    ensure!(found == wanted, "generation {found} instead of {wanted}");
    Ok(())
}

/// A crash loop of which a person is asked; the guard, and the decision.
pub async fn asked(scene: &Scene, spec: Value) -> Result<(Guard, String)> {
    let before = serving(scene, &shop(scene), json!({})).await?;
    scene.kubectl(&["patch", "dg", "shop", "--type=merge", "-p", &json!({"spec": spec}).to_string()]).await?;
    scene.push(&crashing(scene)).await?;
    let guard = scene.until("a person to be asked", |guard| guard.state() == "AwaitingApproval").await?;
    let id = guard.0["status"]["pendingAction"]["decision"].as_str().context("no pending action")?.to_owned();
    ensure!(guard.decided("action") == "AwaitingApproval" && guard.decided("id") == id, "{}", guard.decision());
    ensure!(guard.decided("toRevision") == before.revision(), "{}", guard.decision());
    scene.deployment().await?.untouched(2)?;
    Ok((before, id))
}

/// What the guard says is what a person types.
pub async fn what_a_person_approves_by_the_command_that_the_guard_shows_is_undone(scene: Scene) -> Result<()> {
    let (before, id) = asked(&scene, json!({"mode": "Approve"})).await?;
    let asked = events(&scene, "ApprovalRequired").await?;
    ensure!(asked.iter().any(|note| note.contains(&id) && note.contains("approval until")), "{asked:?}");
    // An answer to something else does nothing, and says so.
    let wrong = "deploymentguard.dev/approve=another-1 by eve";
    // The admission policies let everybody answer in their own name only.
    scene.kubectl(&["annotate", "dg", "shop", wrong, "--as=eve", "--as-group=system:masters"]).await?;
    let ignored = |guard: &Guard| guard.0["status"]["pendingAction"]["ignored"].is_string();
    scene.until("the wrong answer to be named", ignored).await?;
    scene.deployment().await?.untouched(2)?;

    let guard = scene.guard("shop").await?;
    let command = guard.0["status"]["pendingAction"]["approve"].as_str().context("no command")?.to_owned();
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(&command).env("KUBECONFIG", scene.cluster.kubeconfig());
    let output = shell.output().await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let guard = scene.undone(&before).await?;
    ensure!(guard.decided("id") == id, "{}", guard.decision());
    ensure!(!guard.decided("answeredBy").is_empty(), "{}", guard.decision());
    scene.verified().await?;
    generation(&scene, 3).await
}

/// A rejection ends it.
pub async fn what_a_person_rejects_stays_as_it_is(scene: Scene) -> Result<()> {
    let (_, id) = asked(&scene, json!({"mode": "Approve"})).await?;
    let answer = format!("deploymentguard.dev/reject={id} by ada");
    scene.kubectl(&["annotate", "dg", "shop", &answer, "--as=ada", "--as-group=system:masters"]).await?;
    let guard = scene.until("the rejection", |guard| guard.reason("Healthy") == "Rejected").await?;
    ensure!(guard.decided("action") == "None" && guard.state() == "Condemned", "{}", guard.line());
    scene.deployment().await?.untouched(2)
}

/// A migration is not undone by its template.
pub async fn a_revision_that_says_it_is_irreversible_needs_approval_in_enforce(scene: Scene) -> Result<()> {
    serving(&scene, &shop(&scene), json!({})).await?;
    let annotated = json!({"metadata": {"annotations": {"deploymentguard.dev/irreversible": "true"}}});
    let bad = crashing(&scene).with_spec(&json!({"template": annotated}));
    scene.push(&bad).await?;
    let guard = scene.until("a person to be asked", |guard| guard.state() == "AwaitingApproval").await?;
    ensure!(guard.decided("clampedBy") == "irreversible", "{}", guard.decision());
    scene.deployment().await?.untouched(2)
}

/// The commands that people are given work.
pub async fn in_recommend_the_command_that_is_shown_undoes_the_release(scene: Scene) -> Result<()> {
    let before = serving(&scene, &shop(&scene), json!({})).await?;
    scene.kubectl(&["patch", "dg", "shop", "--type=merge", "-p", r#"{"spec":{"mode":"Recommend"}}"#]).await?;
    scene.push(&crashing(&scene)).await?;
    let guard = scene.until("a recommendation", |guard| guard.decided("action") == "Recommended").await?;
    guard.expect("Stalled", "False", "SuppressedByMode")?;
    scene.deployment().await?.untouched(2)?;
    let command = guard.decision()["commands"][0].as_str().context("no command")?.to_owned();
    let told = events(&scene, "RollbackSkipped").await?;
    ensure!(told.iter().any(|note| note.contains(&command)), "{command} is in no event: {told:?}");
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    scene.cluster.kubectl(&arguments).await?;
    let back = scene.until("version 1 again", |guard| guard.revision() == before.revision()).await?;
    ensure!(back.state() == "Serving", "{}", back.line());
    Ok(())
}

/// Whoever pushes what was undone again gets no second undo.
pub async fn what_was_undone_and_is_pushed_again_is_left_and_named(scene: Scene) -> Result<()> {
    let before = serving(&scene, &shop(&scene), json!({})).await?;
    let rollback = json!({"spec": {"rollback": {"cooldown": "0s", "maxPerDay": 10}}});
    scene.kubectl(&["patch", "dg", "shop", "--type=merge", "-p", &rollback.to_string()]).await?;
    scene.push(&crashing(&scene)).await?;
    scene.undone(&before).await?;
    scene.push(&crashing(&scene)).await?;
    let guard = scene.until("the return to be named", |guard| guard.reason("Healthy") == "RollbackReverted").await?;
    guard.expect("Stalled", "True", "RollbackReverted")?;
    ensure!(guard.message("Healthy").contains("wrote it"), "{}", guard.message("Healthy"));
    ensure!(!events(&scene, "RollbackReverted").await?.is_empty(), "no event");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let guard = scene.guard("shop").await?;
    ensure!(guard.state() == "KnownBad" && guard.0["status"]["rollbacksToday"] == 1, "{}", guard.line());
    ensure!(scene.deployment().await?.generation() == 4, "it was fought over");
    // A person can have it judged again; it is as bad as before.
    scene.kubectl(&["annotate", "dg", "shop", "deploymentguard.dev/retry=1"]).await?;
    scene.until("the second undo", |guard| guard.0["status"]["rollbacksToday"] == 2).await?;
    Ok(())
}

/// So many bad releases at once are something else.
pub async fn the_storm_breaker_of_a_class_stops_further_undos(scene: Scene) -> Result<()> {
    let class = format!("storm-{}", scene.namespace);
    let manifest = json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": class},
        "spec": {"prometheus": {"url": "http://prometheus.monitoring:9090"}, "stormBreaker": {"undos": 1}},
    });
    scene.cluster.apply(&manifest.to_string()).await?;
    let before = serving(&scene, &shop(&scene), json!({})).await?;
    let spec = json!({"spec": {"className": class, "rollback": {"cooldown": "0s", "maxPerDay": 10}}});
    scene.kubectl(&["patch", "dg", "shop", "--type=merge", "-p", &spec.to_string()]).await?;
    scene.push(&crashing(&scene)).await?;
    scene.undone(&before).await?;
    scene.verified().await?;
    scene.push(&shop(&scene).version("v3").fault("EXIT_AFTER_S", "0.5")).await?;
    let guard = scene.until("the open breaker", |guard| guard.reason("Stalled") == "StormBreakerOpen").await?;
    ensure!(
        guard.decided("action") == "Recommended" && guard.decided("clampedBy") == "storm-breaker",
        "{}",
        guard.decision()
    );
    let status: Value = serde_json::from_str(&scene.cluster.kubectl(&["get", "gclass", &class, "-o", "json"]).await?)?;
    ensure!(status["status"]["stormBreaker"]["open"] == true, "{}", status["status"]);
    generation(&scene, 4).await?;
    scene.cluster.kubectl(&["delete", "gclass", &class]).await?;
    Ok(())
}

/// The release was bad, and then something else broke as well.
pub async fn an_undo_that_does_not_help_is_said_and_nothing_more_is_undone(scene: Scene) -> Result<()> {
    let depends = |shop: testbed::shop::Shop| shop.fault("DEPENDENCY_URL", &scene.shop_named("db").url());
    scene.push(&scene.shop_named("db").replicas(1)).await?;
    scene.shop_named("db").rolled_out(&scene.cluster, Duration::from_mins(1)).await?;
    scene.push(&depends(scene.shop())).await?;
    let hurried = json!({"analysis": {"interval": "Auto", "warmup": "3s", "window": "3m", "scorer": "Evidence"}});
    let before = scene.begin_with_deployed(hurried).await?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    scene.push(&depends(scene.bad())).await?;
    scene.undone(&before).await?;
    scene.kubectl(&["scale", "deployment", "db", "--replicas=0"]).await?;
    scene.verified().await?;
    let guard =
        scene.until("the question to be answered", |guard| guard.reason("RolledBack") == "RollbackDidNotHelp").await?;
    guard.expect("Stalled", "True", "RollbackDidNotHelp")?;
    ensure!(guard.message("Healthy").contains("was not the cause"), "{}", guard.message("Healthy"));
    ensure!(guard.0["status"]["rollbacksToday"] == 1, "{}", guard.line());
    generation(&scene, 3).await
}
