//! Which clusters exist on this machine: one locked file per cluster. The lock ends with the process that holds it, so
//! a file that can be locked belongs to a dead cluster, whatever killed it, and its remains may go.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{cache, cgroup};

const FOLDER: &str = "/run/deployment-guard-testbed";

/// What is known about a cluster.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Cluster {
    /// Name of its cgroup and of its work folder.
    pub name: String,
    /// Its work folder.
    pub dir: PathBuf,
    /// The process outside the namespaces that ends it.
    pub outer: i32,
    /// Started by `testbed up`, for a person.
    pub open: bool,
}

/// The locked record of a living cluster.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    _lock: File,
}

impl Record {
    /// Writes down a cluster before anything of it exists.
    ///
    /// # Errors
    /// When the folder of records cannot be written.
    pub fn create(cluster: &Cluster) -> Result<Self> {
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot create {FOLDER}"))?;
        let path = Path::new(FOLDER).join(format!("{}.json", cluster.name));
        let partial = path.with_extension("partial");
        let mut file = File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        // Locked before it has its name, or a sweep could take it for a dead one.
        file.lock()?;
        file.write_all(&serde_json::to_vec(cluster)?)?;
        fs::rename(&partial, &path)?;
        Ok(Self { path, _lock: file })
    }

    /// Forgets the cluster: nothing of it is left.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

fn records() -> Vec<(PathBuf, Cluster, File)> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().filter_map(Result::ok);
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    files
        .filter_map(|path| {
            let cluster = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            let file = File::open(&path).ok()?;
            Some((path, cluster, file))
        })
        .collect()
}

/// The cluster that `testbed up` left running, if it still does.
#[must_use]
pub fn open_cluster() -> Option<Cluster> {
    let alive = |file: &File| file.try_lock_shared().is_err();
    records().into_iter().find(|(_, cluster, file)| cluster.open && alive(file)).map(|(_, cluster, _)| cluster)
}

/// Removes what clusters left behind whose outer process was killed.
pub fn sweep() {
    for (path, cluster, file) in records() {
        if file.try_lock().is_err() {
            continue;
        }
        if let Err(error) = cgroup::remove(&cluster.name) {
            eprintln!("testbed: a dead cluster is not gone yet: {error:#}");
            continue;
        }
        // Only ever a folder that carries a testbed's name.
        if cluster.dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("testbed-")) {
            let _ = fs::remove_dir_all(&cluster.dir);
        }
        let _ = fs::remove_file(&path);
        eprintln!("testbed: removed what the killed cluster {} left behind", cluster.name);
    }
}

/// Keeps a cluster's logs where the next five failures leave them.
///
/// # Errors
/// When they cannot be moved.
pub fn keep_logs(cluster: &Cluster) -> Result<PathBuf> {
    let folder = cache::testbed_dir()?.join("logs");
    let target = folder.join(&cluster.name);
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(cluster.dir.join("log"))?.filter_map(Result::ok) {
        fs::copy(entry.path(), target.join(entry.file_name()))?;
    }
    let mut kept: Vec<_> = fs::read_dir(&folder)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    for (_, old) in kept.iter().rev().skip(5) {
        fs::remove_dir_all(old)?;
    }
    Ok(target)
}
