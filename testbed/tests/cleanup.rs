//! However a cluster ends, nothing of it is left on the machine. Needs root and a built testbed (`make test`).
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Running {
    child: Child,
    dir: PathBuf,
}

fn testbed() -> Command {
    Command::new(env!("CARGO_BIN_EXE_testbed"))
}

/// Starts a cluster whose command first prints its work folder.
fn start(script: &str) -> Running {
    start_with(&[], script)
}

fn start_with(options: &[&str], script: &str) -> Running {
    let script = format!("echo \"$TESTBED_DIR\"; {script}");
    let mut child = testbed()
        .args(["run", "--no-images"])
        .args(options)
        .args(["--", "sh", "-c", &script])
        .env_remove("TESTBED_DIR")
        .stdout(Stdio::piped())
        .spawn()
        .expect("testbed starts");
    let stdout = child.stdout.take().expect("stdout");
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let line = receive.recv_timeout(Duration::from_mins(2)).expect("the command runs within 120 s");
    Running { child, dir: PathBuf::from(line) }
}

impl Running {
    fn name(&self) -> String {
        self.dir.file_name().expect("name").to_string_lossy().into_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pid");
        kill(Pid::from_raw(pid), signal).expect("signal");
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child.kill().expect("kill");
        panic!("the testbed did not end within 60 s");
    }
}

fn processes_of(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(name) || groups.contains(name)).then_some(line)
        })
        .collect()
}

fn cgroups_of(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let trees = fs::read_dir(root).expect("cgroups").filter_map(Result::ok).map(|entry| entry.path());
    trees.chain([root.to_owned()]).map(|tree| tree.join(name)).filter(|group| group.exists()).collect()
}

fn nothing_is_left(name: &str, dir: &Path) {
    let left = processes_of(name);
    assert!(left.is_empty(), "processes: {left:?}");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(name), "mounts: {mounts}");
    let left = cgroups_of(name);
    assert!(left.is_empty(), "cgroups: {left:?}");
    assert!(!Path::new("/sys/class/net/dgbr0").exists(), "the bridge is in the machine's own network");
    assert!(!dir.exists(), "{} is left", dir.display());
    let record = format!("/run/deployment-guard-testbed/{name}.json");
    assert!(!Path::new(&record).exists(), "{record} is left");
}

fn kernel_settings() -> Vec<String> {
    ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
        .iter()
        .map(|setting| fs::read_to_string(Path::new("/proc/sys").join(setting)).unwrap_or_default())
        .collect()
}

#[test]
fn a_command_that_succeeds_leaves_nothing_and_the_kernel_as_it_was() {
    let before = kernel_settings();
    let mut cluster = start("kubectl get node node-1 >/dev/null");
    assert_eq!(cluster.exit_code(), Some(0));
    nothing_is_left(&cluster.name(), &cluster.dir);
    assert_eq!(kernel_settings(), before);
}

#[test]
fn a_second_node_and_a_registry_leave_nothing_either() {
    let script = "testbed registry start && testbed second-node restart && kubectl get node node-2 >/dev/null";
    let mut cluster = start_with(&["--nodes", "2"], script);
    assert_eq!(cluster.exit_code(), Some(0));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn a_command_that_fails_passes_its_exit_code_and_leaves_nothing() {
    let mut cluster = start("exit 7");
    assert_eq!(cluster.exit_code(), Some(7));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn ctrl_c_leaves_nothing() {
    let mut cluster = start("sleep 600");
    cluster.signal(Signal::SIGINT);
    assert_eq!(cluster.exit_code(), Some(130));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn sigterm_leaves_nothing() {
    let mut cluster = start("sleep 600");
    cluster.signal(Signal::SIGTERM);
    assert_eq!(cluster.exit_code(), Some(143));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn a_panic_of_the_supervisor_leaves_nothing() {
    // The supervisor is the parent of the command; an abort is the end a panic has at worst.
    let mut cluster = start("kill -ABRT $PPID; sleep 600");
    assert_eq!(cluster.exit_code(), Some(125));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn a_component_that_dies_ends_the_run() {
    let mut cluster = start(
        "kill -KILL $(cat /proc/[0-9]*/status | awk '/^Name:/{n=$2} /^Pid:/{if(n==\"etcd\")print $2}'); sleep 600",
    );
    assert_eq!(cluster.exit_code(), Some(125));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn a_killed_testbed_takes_everything_inside_along_and_the_next_one_sweeps_up() {
    let mut cluster = start("sleep 600");
    cluster.signal(Signal::SIGKILL);
    cluster.child.wait().expect("wait");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes_of(&cluster.name()).iter().all(String::is_empty) {
        assert!(Instant::now() < deadline, "left: {:?}", processes_of(&cluster.name()));
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut next = start("true");
    assert_eq!(next.exit_code(), Some(0));
    nothing_is_left(&cluster.name(), &cluster.dir);
}

#[test]
fn what_is_missing_is_said_in_one_line_with_exit_code_2() {
    let folder = tempfile::tempdir().expect("temp dir");
    let unshare = folder.path().join("unshare");
    fs::write(&unshare, "#!/bin/sh\necho refused >&2\nexit 1\n").expect("write");
    Command::new("chmod").arg("755").arg(&unshare).status().expect("chmod");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = testbed().args(["run", "--no-images", "--", "true"]).env("PATH", path).output().expect("testbed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(said.contains("namespaces (refused) is missing"), "{said}");
}
