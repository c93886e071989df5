//! The command line for people and pipelines.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::approval::asked;
use crate::facts::shop;
use crate::scene::{LAST_ROLLBACK, Scene};

/// What the binary came to in this namespace: exit code, standard output, standard error.
async fn guard(scene: &Scene, arguments: &[&str]) -> Result<(i32, String, String)> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_deployment-guard"));
    command.args(arguments).args(["-n", &scene.namespace]).env("KUBECONFIG", scene.cluster.kubeconfig());
    let ran = command.output().await?;
    let code = ran.status.code().context("it was killed")?;
    Ok((code, String::from_utf8(ran.stdout)?, String::from_utf8(ran.stderr)?))
}

/// What a pipeline does right after its apply, when the guard still shows the verdict on the release before.
pub async fn a_pipeline_that_waits_hears_the_verdict_on_what_it_applied(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    scene.push(&scene.bad()).await?;
    let ran = guard(&scene, &["wait", "shop", "--revision=latest", "--timeout", "80s", "-o", "json"]).await?;
    ensure!(ran.0 == 1, "{ran:?}");
    let result: Value = serde_json::from_str(&ran.1)?;
    ensure!(result["result"] == "Bad" && result["revision"] != before.revision(), "{result}");
    scene.undone(&before).await?;
    scene.verified().await?;
    scene.push(&scene.shop().version("v3")).await?;
    let ran = guard(&scene, &["wait", "shop", "--timeout", "80s"]).await?;
    ensure!([0, 3].contains(&ran.0) && !ran.1.contains("rolled back"), "the undo before is not its verdict: {ran:?}");
    let shown = guard(&scene, &["status", "shop"]).await?;
    ensure!(shown.0 == 0 && shown.1.contains("Signals"), "{shown:?}");
    let past = guard(&scene, &["history", "shop", "-o", "json"]).await?;
    let past: Value = serde_json::from_str(&past.1)?;
    ensure!(
        past["decisions"].as_array().is_some_and(|all| all.iter().any(|one| one["decision"] == "ROLLBACK")),
        "{past}"
    );
    Ok(())
}

/// The annotation is written as the admission policy wants it.
pub async fn what_a_person_approves_on_the_command_line_is_undone(scene: Scene) -> Result<()> {
    let (before, id) = asked(&scene, json!({"mode": "Approve"})).await?;
    let wrong = guard(&scene, &["approve", "shop", "another-1"]).await?;
    ensure!(wrong.0 == 2 && wrong.2.contains(&id), "{wrong:?}");
    let ran = guard(&scene, &["approve", "shop", &id]).await?;
    ensure!(ran.0 == 0, "{ran:?}");
    let decided = scene.undone(&before).await?;
    ensure!(ran.1.starts_with(decided.decided("answeredBy")), "{ran:?}: {}", decided.decision());
    Ok(())
}

/// By hand, without a guard: the operator's own way of writing.
pub async fn an_undo_by_hand_is_conditional_and_leaves_nothing_of_the_template_owned(scene: Scene) -> Result<()> {
    shop(&scene).deploy(&scene.cluster).await?;
    shop(&scene).rolled_out(&scene.cluster, std::time::Duration::from_mins(1)).await?;
    scene.push(&shop(&scene).version("v2").fault("EXIT_AFTER_S", "0.5")).await?;
    let dry = guard(&scene, &["undo", "deployment/shop", "--dry-run"]).await?;
    ensure!(dry.0 == 0 && dry.1.contains("EXIT_AFTER_S") && dry.1.contains("nothing was changed"), "{dry:?}");
    scene.deployment().await?.untouched(2)?;
    let ran = guard(&scene, &["undo", "deployment/shop", "--yes"]).await?;
    ensure!(ran.0 == 0, "{ran:?}");
    let after = scene.get(&["deployment", "shop", "--show-managed-fields"]).await?;
    let mark = after["metadata"]["annotations"][LAST_ROLLBACK].as_str().unwrap_or_default();
    ensure!(mark.starts_with("by-hand-"), "{mark}");
    ensure!(!after["spec"]["template"].to_string().contains("EXIT_AFTER_S"), "{}", after["spec"]["template"]);
    let managers = after["metadata"]["managedFields"].as_array().context("no managed fields")?;
    let ours = managers.iter().find(|entry| entry["manager"] == "deployment-guard/undo");
    ensure!(ours.is_none_or(|entry| entry["fieldsV1"]["f:spec"].is_null()), "{ours:?}");
    Ok(())
}
