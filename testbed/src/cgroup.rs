//! The cluster's own cgroup root in every controller, on cgroup v1 and v2: a kubelet removes pod cgroups it does not
//! know, so clusters side by side must not share one. Made and removed from outside the namespaces.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const MOUNT: &str = "/sys/fs/cgroup";
/// Holds the processes that were in the root of a cgroup v2 tree whose root may not have both processes and children.
const OUTSIDE: &str = "testbed-outside";
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

/// Where cgroups are made on this machine.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    /// One tree with every controller.
    Unified(PathBuf),
    /// One tree per controller.
    PerController(Vec<PathBuf>),
}

fn layout(mount: &Path) -> Result<Layout> {
    if mount.join("cgroup.controllers").is_file() {
        return Ok(Layout::Unified(mount.to_owned()));
    }
    let mut trees: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(mount).with_context(|| format!("cannot read {}", mount.display()))? {
        let entry = entry?;
        let real = entry.path().canonicalize()?;
        if real.join("cgroup.procs").is_file() && !trees.contains(&real) {
            trees.push(real);
        }
    }
    if trees.is_empty() {
        bail!("no cgroups are mounted under {}, in a container run it with --privileged", mount.display());
    }
    trees.sort();
    Ok(Layout::PerController(trees))
}

/// Makes the cluster's cgroup in every tree.
///
/// # Errors
/// When cgroups are not mounted or may not be written.
pub fn create(name: &str) -> Result<()> {
    match layout(Path::new(MOUNT))? {
        Layout::Unified(root) => create_unified(&root, name),
        Layout::PerController(trees) => trees.iter().try_for_each(|tree| create_in(tree, name)),
    }
}

fn create_in(tree: &Path, name: &str) -> Result<()> {
    let group = tree.join(name);
    fs::create_dir(&group).with_context(|| format!("cannot make the cgroup {}", group.display()))?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // A new cpuset is empty, and nothing can run in an empty one.
        if let Ok(value) = fs::read_to_string(tree.join(file)) {
            fs::write(group.join(file), value.trim()).with_context(|| format!("cannot set {file} of {name}"))?;
        }
    }
    Ok(())
}

fn create_unified(root: &Path, name: &str) -> Result<()> {
    if let Err(error) = delegate(root) {
        if error.kind() != ErrorKind::ResourceBusy {
            return Err(error).context("cannot hand cgroup controllers to a cluster");
        }
        // In a container the root of the visible tree holds processes, and then its children get no controllers.
        move_processes(root, &root.join(OUTSIDE))?;
        delegate(root).context("cannot hand cgroup controllers to a cluster")?;
    }
    fs::create_dir(root.join(name)).with_context(|| format!("cannot make the cgroup {name}"))?;
    delegate(&root.join(name)).context("cannot hand cgroup controllers to pods")
}

fn delegate(group: &Path) -> std::io::Result<()> {
    let offered = fs::read_to_string(group.join("cgroup.controllers"))?;
    for controller in CONTROLLERS {
        if offered.split_whitespace().any(|name| name == controller) {
            fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn move_processes(from: &Path, to: &Path) -> Result<()> {
    if !to.is_dir() {
        fs::create_dir(to)?;
    }
    for pid in fs::read_to_string(from.join("cgroup.procs"))?.split_whitespace() {
        // One that has just ended cannot be moved and need not be.
        let _ = fs::write(to.join("cgroup.procs"), pid);
    }
    Ok(())
}

/// Removes the cluster's cgroups, waiting a few seconds for processes that are still ending.
///
/// # Errors
/// When something is left.
pub fn remove(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let layout = layout(Path::new(MOUNT))?;
    let (trees, unified) = match &layout {
        Layout::Unified(root) => (std::slice::from_ref(root), true),
        Layout::PerController(trees) => (trees.as_slice(), false),
    };
    loop {
        let left: Vec<PathBuf> = trees.iter().map(|tree| tree.join(name)).filter(|group| !remove_tree(group)).collect();
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("the cgroup {} cannot be removed", left[0].display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if unified && let Some(root) = trees.first() {
        give_back(root)?;
    }
    Ok(())
}

/// Depth first, as the kernel wants it. True when nothing is left.
fn remove_tree(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// The last cluster that goes puts the processes back that [`create_unified`] moved away.
fn give_back(root: &Path) -> Result<()> {
    let outside = root.join(OUTSIDE);
    if !outside.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(root)?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("testbed-") && name != OUTSIDE {
            return Ok(());
        }
    }
    for controller in CONTROLLERS {
        // Processes may return only when the root hands no controller down; a missing one refuses, which is fine.
        let _ = fs::write(root.join("cgroup.subtree_control"), format!("-{controller}"));
    }
    move_processes(&outside, root)?;
    remove_tree(&outside);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_unified_tree_from_one_tree_per_controller() {
        let mount = tempfile::tempdir().expect("temp dir");
        assert!(layout(mount.path()).is_err());
        let cpu = mount.path().join("cpu");
        fs::create_dir(&cpu).expect("create");
        fs::write(cpu.join("cgroup.procs"), "").expect("write");
        std::os::unix::fs::symlink(&cpu, mount.path().join("cpuacct")).expect("link");
        let real = cpu.canonicalize().expect("canonical");
        assert_eq!(layout(mount.path()).expect("layout"), Layout::PerController(vec![real]));
        fs::write(mount.path().join("cgroup.controllers"), "cpu memory").expect("write");
        assert_eq!(layout(mount.path()).expect("layout"), Layout::Unified(mount.path().to_owned()));
    }

    #[test]
    fn removes_nested_groups_and_calls_a_missing_one_removed() {
        let root = tempfile::tempdir().expect("temp dir");
        let group = root.path().join("group");
        fs::create_dir_all(group.join("a/b")).expect("create");
        assert!(remove_tree(&group));
        assert!(!group.exists());
        assert!(remove_tree(&group));
    }
}
