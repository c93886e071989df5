//! Runs a cluster from inside: prepares the machine, brings the components up, runs the command, and ends with it or
//! with the first component that dies.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::fleet::{Death, Fleet, last_lines};
use super::{components, control, network, nodes, startup};
use crate::outer::{FAILED, Options};

/// Supervises one cluster; the result is the exit code.
///
/// # Errors
/// When the namespaces cannot be prepared.
pub async fn supervise(dir: &Path, command: &[String]) -> Result<u8> {
    // The outer process decides what Ctrl-C means; it must not end the supervisor first.
    let _interrupts = signal(SignalKind::interrupt())?;
    let started = Instant::now();
    let options: Options = serde_json::from_slice(&std::fs::read(dir.join("options.json"))?)?;
    network::prepare(dir)?;
    let nodes = nodes::nodes(dir, options.nodes);
    nodes.iter().try_for_each(nodes::Node::prepare)?;
    components::configure(dir, &options)?;
    let (deaths, mut died) = mpsc::unbounded_channel();
    let fleet = Fleet::new(dir, components::all(dir, &options)?, nodes, deaths);
    let control = control::serve(fleet.clone());
    let work = work(&fleet, &options, command, started);
    tokio::select! {
        Some(death) = died.recv() => Ok(report(&fleet, &death)),
        Err(error) = control => Err(error),
        code = work => code,
    }
}

async fn work(fleet: &Fleet, options: &Options, command: &[String], started: Instant) -> Result<u8> {
    if let Err(error) = startup::bring_up(fleet, &options.images).await {
        eprintln!("testbed: the cluster did not come up: {error:#}");
        let name = format!("{error:#}").split([' ', ':']).next().unwrap_or_default().to_owned();
        show_log(fleet, &name);
        return Ok(FAILED);
    }
    eprintln!("testbed: cluster ready after {:.1} s", started.elapsed().as_secs_f32());
    tokio::fs::write(fleet.dir().join("ready"), "").await?;
    let Some((program, arguments)) = command.split_first() else {
        return std::future::pending().await;
    };
    let status = Command::new(program)
        .args(arguments)
        .envs(environment(fleet.dir()))
        .status()
        .await
        .with_context(|| format!("cannot start {program}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED))
}

/// What a command inside finds in its environment.
#[must_use]
pub fn environment(dir: &Path) -> Vec<(&'static str, OsString)> {
    let bin = dir.join("bin");
    let mut path = bin.clone().into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    vec![
        ("KUBECONFIG", dir.join("kubeconfig").into_os_string()),
        ("PROMETHEUS_URL", format!("http://{}:9090", network::NODE).into()),
        ("TESTBED_DIR", dir.as_os_str().to_owned()),
        ("TESTBED_BIN", bin.into_os_string()),
        ("PATH", path),
    ]
}

fn report(fleet: &Fleet, death: &Death) -> u8 {
    eprintln!("testbed: {} ended unexpectedly ({})", death.name, death.status);
    show_log(fleet, death.name);
    FAILED
}

fn show_log(fleet: &Fleet, name: &str) {
    let lines = last_lines(&fleet.log(name), 15);
    if !lines.is_empty() {
        eprintln!("testbed: the last lines of {name}:");
    }
    for line in lines {
        eprintln!("  {line}");
    }
}
