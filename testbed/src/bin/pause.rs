//! Holds a pod's namespaces open: waits for SIGTERM or SIGINT, and reaps orphans when it is PID 1 of a shared
//! process namespace. Imports nothing of the testbed.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> ExitCode {
    match wait_for_the_end() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pause: cannot wait for signals: {error}");
            ExitCode::FAILURE
        }
    }
}

/// PID 1 has no default handlers, so the signals are blocked and fetched: a blocked signal is never discarded.
fn wait_for_the_end() -> nix::Result<()> {
    let awaited = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    awaited.thread_block()?;
    loop {
        match awaited.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// One SIGCHLD may stand for several children.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
