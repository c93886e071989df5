//! The evidence scorer on the real cluster: what it undoes, what survives a dead operator, what replays.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::operator_faults::kill;
use crate::scene::{Guard, Scene};
use crate::world;

/// A guard in a hurry, as far as evidence can be.
fn hurried() -> Value {
    json!({"analysis": {"scorer": "Evidence", "interval": "Auto", "warmup": "10s", "window": "2m"}})
}

/// Enough of the old revision to compare with.
const HISTORY: Duration = Duration::from_secs(45);

/// From the push to the recording that says the same again.
pub async fn evidence_undoes_a_bad_release_and_its_recording_replays_to_the_same_bits(scene: Scene) -> Result<()> {
    let before = scene.begin(hurried()).await?;
    tokio::time::sleep(HISTORY).await;
    scene.push(&scene.bad()).await?;
    let guard = scene.undone(&before).await?;
    explained(&guard)?;
    replayed(&scene, &guard).await
}

/// Nothing is lost and nothing counted twice: the recording of both operators replays to what the second one decided.
pub async fn an_operator_killed_in_the_analysis_decides_as_one_that_was_not(scene: Scene) -> Result<()> {
    scene.apply_guard("shop", hurried()).await?;
    let before = scene.until("the guard to follow its new spec", |guard| guard.status("Ready") == "True").await?;
    tokio::time::sleep(HISTORY).await;
    let turn = scene.my_turn().await;
    // Few errors more than none: it takes a while to be sure.
    scene.push(&scene.shop().version("v2").fault("ERROR_RATE", "0.1")).await?;
    let counting = |guard: &Guard| guard.state() == "Judging" && guard.0["status"]["analysis"]["design"].is_string();
    scene.until("steps to be counted", counting).await?;
    kill(&scene).await?;
    world::operator_ready(&scene.cluster).await?;
    let guard = scene.undone(&before).await;
    drop(turn);
    let guard = guard?;
    explained(&guard)?;
    replayed(&scene, &guard).await
}

fn explained(guard: &Guard) -> Result<()> {
    let decision = guard.decision();
    ensure!(decision["reason"] == "EvidenceOfHarm" && decision["decider"] == "evidence", "{decision}");
    let reasoning = guard.decided("reasoning");
    ensure!(reasoning.contains("error rate") && reasoning.contains("1 in "), "{reasoning}");
    ensure!(guard.decided("oneIn").starts_with("1 in "), "{decision}");
    ensure!(decision["healthScore"].as_i64().is_some_and(|score| score <= 50), "{decision}");
    Ok(())
}

/// The file of the rollout says the same again, to the bit of ln E.
async fn replayed(scene: &Scene, guard: &Guard) -> Result<()> {
    let file = recording(scene, guard)?;
    let output =
        Command::new(env!("CARGO_BIN_EXE_deployment-guard")).arg("replay").arg(&file).arg("--json").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (last, steps) = lines.split_last().context("replay printed nothing")?;
    let decision = guard.decision();
    for field in ["decision", "confidence", "healthScore", "reason"] {
        ensure!(last[field] == decision[field], "{field}: {} replayed as {}", decision[field], last[field]);
    }
    let deciding = last["decidingStep"].as_u64().context("no deciding step")?;
    let step = steps.iter().find(|step| step["step"] == deciding).context("the deciding step is not there")?;
    let samples = scene.get(&["configmap", "-l", "deploymentguard.dev/sample"]).await?;
    let sample = samples["items"][0]["data"][guard.decided("id")].as_str().context("no sample")?;
    let sample: Value = serde_json::from_str(sample)?;
    let (live, again) = (&sample["state"]["evidence"]["lnE"], &step["lnE"]);
    let bits = |value: &Value| value.as_f64().map(f64::to_bits);
    ensure!(bits(live).is_some() && bits(live) == bits(again), "ln E {live} replayed as {again}");
    let recorded = sample["state"]["evidence"]["recording"]["file"].as_str().unwrap_or_default();
    ensure!(file.ends_with(recorded) && !recorded.is_empty(), "the sample names {recorded}");
    Ok(())
}

fn recording(scene: &Scene, guard: &Guard) -> Result<PathBuf> {
    let begins = format!("{}.shop.{}.", scene.namespace, guard.decided("fromRevision"));
    let files = std::fs::read_dir(testbed::operator::recordings()?)?.filter_map(Result::ok).map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begins));
    files.into_iter().find(named).with_context(|| format!("no recording is called {begins}…"))
}
