//! Makes the namespaces a machine of their own: private mounts, fresh run folders, a bridge that pods hang on.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The node's address on the bridge.
pub const NODE: &str = "10.244.0.1";

/// The second node's address on it.
pub const SECOND_NODE: &str = "10.244.0.2";

/// Folders of the machine that two clusters would fight over; each cluster sees its own.
const OWN_FOLDERS: [&str; 4] = ["/run/containerd", "/run/netns", "/var/lib/cni", "/var/log/containers"];

/// What a kubelet insists on setting, under `/proc/sys`.
const KERNEL_SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Overlay file systems cannot be stacked on an overlay, which a container's own root usually is.
const OVERLAY: &str = "overlay";

/// Prepares mounts and network. Needs to be inside the namespaces.
///
/// # Errors
/// When the machine refuses a step; the message says which.
pub fn prepare(dir: &Path) -> Result<()> {
    mounts(dir)?;
    let steps: [&[&str]; 6] = [
        &["ip", "link", "set", "lo", "up"],
        &["ip", "link", "add", "dgbr0", "type", "bridge"],
        &["ip", "addr", "add", "10.244.0.1/20", "dev", "dgbr0"],
        &["ip", "link", "set", "dgbr0", "up"],
        // ClusterIPs need a route before they are translated; a default one would let other addresses time out.
        &["ip", "route", "add", "default", "dev", "dgbr0"],
        &["sysctl", "-qw", "net.ipv4.ip_forward=1"],
    ];
    steps.iter().try_for_each(|step| run(step))?;
    run(&["iptables", "-t", "nat", "-L", "-n"]).context("this kernel offers no address translation to iptables")?;
    protect_kernel_settings(dir)
}

fn mounts(dir: &Path) -> Result<()> {
    run(&["mount", "--make-rprivate", "/"])?;
    for folder in OWN_FOLDERS {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
        run(&["mount", "-t", "tmpfs", "tmpfs", folder])?;
    }
    let resolv = dir.join("resolv.conf");
    let text =
        "nameserver 10.244.0.1\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    fs::write(&resolv, text)?;
    if Path::new("/etc/resolv.conf").exists() {
        run(&["mount", "--bind", &resolv.to_string_lossy(), "/etc/resolv.conf"])?;
    }
    Ok(())
}

/// Makes the folder `ctr` fit for a containerd.
///
/// # Errors
/// When the mount is refused.
pub fn mount_containers(home: &Path) -> Result<()> {
    if file_system(home)? == OVERLAY {
        run(&["mount", "-t", "tmpfs", "tmpfs", &home.join("ctr").to_string_lossy()])?;
    }
    Ok(())
}

/// The second node's address, and its mounts: what the first has, with run folders of its own. A process that only waits
/// keeps them, and `link` leads to them; newer kernels refuse at times to keep them in a file. Addresses of pods are handed
/// out from the folder that both see.
///
/// # Errors
/// When the machine refuses a step; the message says which.
pub fn second_node(link: &Path) -> Result<()> {
    run(&["ip", "addr", "add", &format!("{SECOND_NODE}/20"), "dev", "dgbr0"])?;
    let own = OWN_FOLDERS.iter().filter(|folder| !folder.starts_with("/var/lib/cni"));
    let mounts: Vec<String> = own.map(|folder| format!("mount -t tmpfs tmpfs {folder}")).collect();
    let script = format!("{} && echo done && exec sleep infinity", mounts.join(" && "));
    let mut keeper = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start unshare")?;
    let mut said = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    if said.trim() != "done" {
        bail!("the second node gets no mounts of its own ({})", keeper.wait()?);
    }
    std::os::unix::fs::symlink(format!("/proc/{}/ns/mnt", keeper.id()), link)?;
    // It ends with everything else inside; until then somebody has to wait for it.
    std::thread::spawn(move || keeper.wait());
    Ok(())
}

/// The kubelet sets kernel parameters that belong to the whole machine: here it writes into copies of them.
fn protect_kernel_settings(dir: &Path) -> Result<()> {
    let copies = dir.join("sysctl");
    fs::create_dir(&copies)?;
    for setting in KERNEL_SETTINGS {
        let real = format!("/proc/sys/{setting}");
        let Ok(value) = fs::read(&real) else { continue };
        let copy = copies.join(setting.replace('/', "."));
        fs::write(&copy, value)?;
        run(&["mount", "--bind", &copy.to_string_lossy(), &real])?;
    }
    Ok(())
}

/// The type of the file system that holds `dir`: the longest mount point above it.
fn file_system(dir: &Path) -> Result<String> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mut best = (0, String::new());
    for line in table.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        if dir.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), kind.to_owned());
        }
    }
    Ok(best.1)
}

fn run(step: &[&str]) -> Result<()> {
    let (program, arguments) = step.split_first().context("an empty step")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", step.join(" "), said.trim());
    }
    Ok(())
}
