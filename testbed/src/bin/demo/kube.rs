//! kubectl, and waiting with patience that ends.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs kubectl and returns what it printed.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    kubectl_with(arguments, "")
}

/// Runs kubectl with something on its standard input.
pub fn kubectl_with(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl cannot be started; run the demo with make demo")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads an object as JSON.
pub fn get(arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["get", "-o", "json"];
    all.extend_from_slice(arguments);
    serde_json::from_str(&kubectl(&all)?).context("kubectl printed something that is no JSON")
}

/// Asks again and again until there is an answer, or the patience ends.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut last = String::new();
    while started.elapsed() < patience {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            // A busy API server may refuse once; only the end of the patience makes it a failure.
            Err(error) => last = format!("; last error: {error:#}"),
        }
        sleep(Duration::from_millis(250));
    }
    bail!("waited {} s for {what}{last}", patience.as_secs())
}
