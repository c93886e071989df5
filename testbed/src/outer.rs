//! The process outside the namespaces. It makes the cgroup and the work folder, starts the first process inside,
//! listens to Ctrl-C and SIGTERM, and removes everything again however the cluster ended.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::build::Program;
use crate::inner::nodes;
use crate::registry::{Cluster, Record};
use crate::{build, cache, cgroup, registry};

/// How a cluster is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Archives that containerd imports before the first pod.
    pub images: Vec<PathBuf>,
    /// How often Prometheus scrapes.
    pub scrape_interval: String,
    /// How many Prometheus servers answer in turn.
    pub prometheus_replicas: u16,
    /// How many nodes really run containers: one, or two.
    pub nodes: u16,
    /// Left running by `testbed up`.
    pub open: bool,
}

/// Exit code when the cluster failed and not the command.
pub const FAILED: u8 = 125;

/// Everything that must go at the end; it goes when this is dropped at the latest.
struct Remains {
    cluster: Cluster,
    record: Option<Record>,
}

impl Remains {
    fn create(options: &Options) -> Result<Self> {
        let name = cache::cluster_name();
        let dir = std::env::temp_dir().join(&name);
        let outer = i32::try_from(std::process::id()).context("the process id is out of range")?;
        let cluster = Cluster { name, dir, outer, open: options.open };
        let record = Record::create(&cluster)?;
        let remains = Self { cluster, record: Some(record) };
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&remains.cluster.dir)
            .with_context(|| format!("cannot create the work folder {}", remains.cluster.dir.display()))?;
        fs::create_dir(remains.cluster.dir.join("log"))?;
        cgroup::create(&remains.cluster.name)?;
        for node in nodes::nodes(&remains.cluster.dir, options.nodes).iter().skip(1) {
            cgroup::create(&format!("{}/{}", remains.cluster.name, node.name))?;
        }
        Ok(remains)
    }

    fn remove(&mut self) -> Result<()> {
        let Some(record) = self.record.take() else {
            return Ok(());
        };
        let cgroups = cgroup::remove(&self.cluster.name);
        if self.cluster.dir.exists() {
            fs::remove_dir_all(&self.cluster.dir)
                .with_context(|| format!("cannot remove {}", self.cluster.dir.display()))?;
        }
        cgroups?;
        record.remove()
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("testbed: {error:#}");
        }
    }
}

/// Starts a cluster, runs `command` in it, and ends it. The result is the exit code of the command, or [`FAILED`].
///
/// # Errors
/// When the cluster cannot be started or not all of it removed.
pub async fn run(programs: &[Program], options: &Options, command: &[String]) -> Result<u8> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    // The first process inside comes to us when `unshare` is killed: nobody else may be there to collect it.
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut remains = Remains::create(options)?;
    let dir = remains.cluster.dir.clone();
    lay_out(&dir, programs, options)?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .arg("enter-namespaces")
        .arg(&dir)
        .arg("--")
        .args(command)
        .spawn()
        .context("cannot start the first process of the cluster")?;
    let outer = child.id().and_then(|pid| i32::try_from(pid).ok()).context("the cluster has no process id")?;
    let ending = tokio::select! {
        status = child.wait() => Ending::Own(exit_code(status?)),
        _ = interrupts.recv() => Ending::Signal(130),
        _ = terminations.recv() => Ending::Signal(143),
        _ = hangups.recv() => Ending::Signal(129),
    };
    end(outer, &mut child).await?;
    if let Ending::Own(1..) = ending {
        let kept = registry::keep_logs(&remains.cluster)?;
        eprintln!("testbed: the logs of every component are in {}", kept.display());
    }
    remains.remove()?;
    match ending {
        Ending::Own(code) | Ending::Signal(code) => Ok(code),
    }
}

/// Why a cluster ended, with the exit code that follows.
enum Ending {
    Own(u8),
    Signal(u8),
}

fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

/// Writes what the inside reads: the programs under one folder, and the options.
fn lay_out(dir: &Path, programs: &[Program], options: &Options) -> Result<()> {
    for folder in [build::BIN, build::CRDS, "etcd", "pki", "ctr", "cni", "kubelet", "pod-logs", "prometheus"] {
        fs::create_dir(dir.join(folder))?;
    }
    for program in programs {
        std::os::unix::fs::symlink(&program.file, dir.join(program.place).join(program.name))?;
    }
    std::os::unix::fs::symlink(std::env::current_exe()?, dir.join("bin/testbed"))?;
    fs::write(dir.join("options.json"), serde_json::to_vec(options)?)?;
    Ok(())
}

/// Ends the first process inside, which ends every other one there, and waits for the kernel to have done it.
async fn end(outer: i32, child: &mut tokio::process::Child) -> Result<()> {
    if child.id().is_none() {
        return Ok(());
    }
    let first = child_of(outer).map(Pid::from_raw);
    // It takes its child along, which then becomes ours to collect: see `set_child_subreaper`.
    child.start_kill()?;
    child.wait().await?;
    let Some(first) = first else { return Ok(()) };
    for _ in 0..500 {
        match waitpid(first, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return Ok(()),
        }
    }
    bail!("the processes of the cluster did not end within 10 s")
}

/// The (only) child of a process.
#[must_use]
pub fn child_of(parent: i32) -> Option<i32> {
    let line = format!("PPid:\t{parent}");
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.lines().any(|found| found == line).then_some(pid)
    })
}

/// The first process of an open cluster, as seen from outside: its namespaces are the cluster's.
#[must_use]
pub fn first_process(cluster: &Cluster) -> Option<i32> {
    child_of(cluster.outer).and_then(child_of)
}

/// Becomes `unshare`, which starts the first process inside. Dies with the process that started it, and everything
/// inside dies with it in turn.
///
/// # Errors
/// When `unshare` cannot be started; else it does not return.
pub fn enter(dir: &Path, command: &[String]) -> Result<()> {
    let parent = nix::unistd::getppid();
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() != parent || parent.as_raw() == 1 && !started_by_first() {
        bail!("the process that started the cluster is gone");
    }
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(std::env::current_exe()?)
        .arg("first-process")
        .arg(dir)
        .arg("--")
        .args(command)
        .exec();
    Err(error).context("cannot start unshare")
}

/// In a container the outer process may itself be process 1.
fn started_by_first() -> bool {
    fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "testbed")
}

/// Leaves a cluster running in the background and returns when it is ready.
///
/// # Errors
/// When it does not come up; its messages are in the error.
pub fn up(arguments: &[String]) -> Result<Cluster> {
    let log = std::env::temp_dir().join(format!("{}-up.log", cache::cluster_name()));
    let output = fs::File::create(&log)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("stay")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let deadline = Instant::now() + Duration::from_mins(3);
    let result = loop {
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(&log).unwrap_or_default();
            fs::remove_file(&log)?;
            bail!("the cluster did not come up ({status}): {}", said.trim());
        }
        if let Some(cluster) = registry::open_cluster()
            && cluster.dir.join("ready").exists()
        {
            break cluster;
        }
        if Instant::now() > deadline {
            let pid = i32::try_from(child.id()).context("the process id is out of range")?;
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
            bail!("the cluster is not ready after 180 s, its messages are in {}", log.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    fs::rename(&log, result.dir.join("log/testbed.log"))?;
    Ok(result)
}

/// Ends the open cluster and waits until nothing of it is left. False when there is none.
///
/// # Errors
/// When it does not end within 30 s.
pub fn down() -> Result<bool> {
    let Some(cluster) = registry::open_cluster() else {
        return Ok(false);
    };
    kill(Pid::from_raw(cluster.outer), Signal::SIGTERM)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while registry::open_cluster().is_some_and(|now| now.name == cluster.name) {
        if Instant::now() > deadline {
            bail!("the cluster {} did not end within 30 s", cluster.name);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(true)
}
