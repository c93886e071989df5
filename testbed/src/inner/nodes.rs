//! The nodes of the cluster. The first shares its mounts with everything else; the second, if asked for, has mounts of
//! its own, because the kubelet and its container metrics insist on `/run/containerd`. Both hang on one bridge and take
//! pod addresses from one list, so pods of both reach each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::components::Component;
use super::network;

/// What the second node's pods must tolerate: whatever does not ask for it stays on the first.
pub const TAINT: &str = "testbed/second-node";

/// The second node's kubelet among the components.
pub const SECOND_KUBELET: &str = "kubelet-2";
/// Its containerd.
pub const SECOND_CONTAINERD: &str = "containerd-2";

const CONTAINERD: &str = "-c @HOME@/containerd.toml";

// The memory of containers is read as often as Prometheus asks for it.
const KUBELET: &str = "--config=@HOME@/kubelet.yaml --kubeconfig=@DIR@/kubeconfig --hostname-override=@NAME@ \
    --node-ip=@ADDRESS@ --root-dir=@HOME@/kubelet --cert-dir=@HOME@/pki/kubelet --housekeeping-interval=2s";

/// One kubelet with its containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in the API.
    pub name: &'static str,
    /// Its address on the bridge.
    pub address: &'static str,
    /// Names of its two components.
    pub kubelet: &'static str,
    /// See `kubelet`.
    pub containerd: &'static str,
    dir: PathBuf,
    home: PathBuf,
    second: bool,
}

/// The nodes of a cluster of `count`.
#[must_use]
pub fn nodes(dir: &Path, count: u16) -> Vec<Node> {
    let node = |name, address, kubelet, containerd, second: bool| {
        let home = if second { dir.join(name) } else { dir.to_owned() };
        Node { name, address, kubelet, containerd, dir: dir.to_owned(), home, second }
    };
    let mut all = vec![node("node-1", network::NODE, "kubelet", "containerd", false)];
    if count > 1 {
        all.push(node("node-2", network::SECOND_NODE, SECOND_KUBELET, SECOND_CONTAINERD, true));
    }
    all
}

impl Node {
    /// Its two processes.
    #[must_use]
    pub fn components(&self) -> [Component; 2] {
        let mut kubelet = KUBELET.to_owned();
        if self.second {
            kubelet.push_str(" --register-with-taints=@TAINT@=true:NoSchedule");
        }
        [self.component(self.containerd, "containerd", CONTAINERD), self.component(self.kubelet, "kubelet", &kubelet)]
    }

    fn component(&self, name: &'static str, program: &str, arguments: &str) -> Component {
        let arguments = arguments.split_whitespace().map(|argument| self.fill(argument)).collect();
        let (program, arguments) = self.command(program, arguments);
        Component { name, program, arguments }
    }

    /// How a program of the cluster is started among this node's mounts.
    #[must_use]
    pub fn command(&self, program: &str, arguments: Vec<String>) -> (PathBuf, Vec<String>) {
        let program = self.dir.join("bin").join(program);
        if !self.second {
            return (program, arguments);
        }
        let mut all = vec![format!("--mount={}", self.mounts().display()), program.display().to_string()];
        all.extend(arguments);
        (PathBuf::from("nsenter"), all)
    }

    fn fill(&self, text: &str) -> String {
        text.replace("@DIR@", &self.dir.to_string_lossy())
            .replace("@HOME@", &self.home.to_string_lossy())
            .replace("@NAME@", self.name)
            .replace("@ADDRESS@", self.address)
            .replace("@TAINT@", TAINT)
    }

    /// Leads to the second node's mounts.
    fn mounts(&self) -> PathBuf {
        self.home.join("mounts")
    }

    /// Makes the node's folders, and mounts if it has its own.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn prepare(&self) -> Result<()> {
        if self.second {
            for folder in ["ctr", "kubelet", "pod-logs", "pki"] {
                fs::create_dir_all(self.home.join(folder))?;
            }
        }
        network::mount_containers(&self.home)?;
        if self.second { network::second_node(&self.mounts()) } else { Ok(()) }
    }

    /// Writes its configuration files; `fill` fills in what all files share.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn configure(&self, group: &str, nodes: usize, fill: impl Fn(&str) -> String) -> Result<()> {
        let group = if self.second { format!("{group}/{}", self.name) } else { group.to_owned() };
        // With a second node to lose, its loss must show soon; see the controllers' grace period.
        let lease = if nodes > 1 { "nodeLeaseDurationSeconds: 12\nnodeStatusUpdateFrequency: 3s\n" } else { "" };
        let kubelet = include_str!("../../templates/kubelet.yaml").replace("@CGROUP@", &group);
        fs::write(self.home.join("kubelet.yaml"), fill(&self.fill(&format!("{kubelet}{lease}"))))?;
        let containerd = include_str!("../../templates/containerd.toml");
        fs::write(self.home.join("containerd.toml"), fill(&self.fill(containerd)))?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_node_is_started_as_ever_and_the_second_among_mounts_of_its_own() {
        let dir = Path::new("/w");
        let [first, second] = nodes(dir, 2).try_into().unwrap();
        assert_eq!(nodes(dir, 1)[0], first);
        let [containerd, kubelet] = first.components();
        assert_eq!(containerd.program, Path::new("/w/bin/containerd"));
        assert!(kubelet.arguments.contains(&"--root-dir=/w/kubelet".to_owned()), "{:?}", kubelet.arguments);
        let [containerd, kubelet] = second.components();
        assert_eq!(containerd.program, Path::new("nsenter"));
        assert_eq!(containerd.arguments[..2], ["--mount=/w/node-2/mounts", "/w/bin/containerd"]);
        assert!(kubelet.arguments.contains(&"--root-dir=/w/node-2/kubelet".to_owned()), "{:?}", kubelet.arguments);
        assert!(kubelet.arguments.iter().any(|argument| argument.contains("second-node=true")));
    }
}
