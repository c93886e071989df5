//! Everything that happens inside the namespaces: the first process, and the supervisor it starts.

pub mod components;
pub mod control;
pub mod fleet;
pub mod image_registry;
pub mod network;
pub mod nodes;
pub mod prometheus;
pub mod startup;
pub mod supervisor;
pub mod turns;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::outer::FAILED;

/// Process 1 inside: starts the supervisor, collects orphans (each container's shim becomes one), and ends with the
/// supervisor, upon which the kernel ends everything else.
///
/// # Errors
/// When the supervisor cannot be started.
pub fn first_process(dir: &Path, command: &[String]) -> Result<u8> {
    let child = Command::new(std::env::current_exe()?)
        .arg("supervise")
        .arg(dir)
        .arg("--")
        .args(command)
        .spawn()
        .context("cannot start the supervisor")?;
    let supervisor = i32::try_from(child.id()).context("the process id is out of range")?;
    loop {
        match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == supervisor => {
                return Ok(u8::try_from(code).unwrap_or(FAILED));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == supervisor => {
                eprintln!("testbed: the supervisor was ended by {signal}");
                return Ok(FAILED);
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the supervisor"),
        }
    }
}
