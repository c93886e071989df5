//! Builds everything Kubernetes consists of from pinned Go modules, once per version, into the cache.
//! Input: the modules embedded from `modules/`. Output: one folder of programs per module, renamed into place when it
//! is complete, so an interrupted build leaves nothing half-made and Go's own cache lets the next one go on.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::{cache, llm, need};

/// One Go module whose `tool` lines are built together.
#[derive(Debug)]
struct Module {
    name: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    tags: &'static str,
    ldflags: &'static str,
    programs: &'static [&'static str],
    manifests: &'static [Manifest],
}

/// A file that a module brings along and that a test applies: the module with its version, the path in it, its name here.
type Manifest = (&'static str, &'static str, &'static str);

/// What a cluster may have besides: built only where somebody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Extra {
    /// Helm 4.
    Helm,
    /// Flux's kustomize-controller and the definitions of what it reads.
    Flux,
    /// llama.cpp's server of language models, from a Python wheel.
    Llm,
    /// Prometheus' own checker of rules.
    Promtool,
    /// Helm 3, for a chart that works with both.
    Helm3,
}

const PLAIN_LDFLAGS: &str = "-s -w";

macro_rules! module_files {
    ($name:literal) => {
        (include_str!(concat!("../modules/", $name, "/go.mod")), include_str!(concat!("../modules/", $name, "/go.sum")))
    };
}

const fn module(name: &'static str, files: (&'static str, &'static str), programs: &'static [&'static str]) -> Module {
    Module { name, go_mod: files.0, go_sum: files.1, tags: "", ldflags: PLAIN_LDFLAGS, programs, manifests: &[] }
}

static MODULES: [Module; 5] = [
    Module {
        // Without these the API server calls itself v0.0.0.
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3",
        ..module(
            "kubernetes",
            module_files!("kubernetes"),
            &[
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
                "kwok",
            ],
        )
    },
    module("etcd", module_files!("etcd"), &["server"]),
    module(
        "containerd",
        module_files!("containerd"),
        &["containerd", "containerd-shim-runc-v2", "ctr", "host-local", "bridge", "loopback"],
    ),
    Module {
        // Only the Kubernetes discovery: all the clouds' libraries would double the build.
        tags: "remove_all_sd,enable_kubernetes_sd",
        ..module("prometheus", module_files!("prometheus"), &["prometheus"])
    },
    module("coredns", module_files!("coredns"), &["coredns"]),
];

static HELM: Module = module("helm", module_files!("helm"), &["helm"]);

static HELM3: Module = module("helm3", module_files!("helm3"), &["helm"]);

/// A module of its own, with the requirements and tags of the server: another line in that one would build the server anew.
static PROMTOOL: Module = Module {
    tags: "remove_all_sd,enable_kubernetes_sd",
    ..module("promtool", module_files!("promtool"), &["promtool"])
};

static FLUX: Module = Module {
    manifests: &[
        (
            "github.com/fluxcd/kustomize-controller@v1.9.5",
            "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
            "kustomizations.yaml",
        ),
        (
            "github.com/fluxcd/source-controller@v1.9.0",
            "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",
            "gitrepositories.yaml",
        ),
        (
            "github.com/fluxcd/source-controller@v1.9.0",
            "config/crd/bases/source.toolkit.fluxcd.io_ocirepositories.yaml",
            "ocirepositories.yaml",
        ),
        (
            "github.com/fluxcd/source-controller@v1.9.0",
            "config/crd/bases/source.toolkit.fluxcd.io_buckets.yaml",
            "buckets.yaml",
        ),
        (
            "github.com/fluxcd/source-controller@v1.9.0",
            "config/crd/bases/source.toolkit.fluxcd.io_externalartifacts.yaml",
            "externalartifacts.yaml",
        ),
    ],
    ..module("flux", module_files!("flux"), &["kustomize-controller"])
};

impl Extra {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Helm, Self::Flux, Self::Llm, Self::Promtool, Self::Helm3];

    /// Whether a cluster has it in its folder, rather than a test beside.
    fn is_of_clusters(self) -> bool {
        matches!(self, Self::Helm | Self::Flux)
    }

    /// What Go builds; the other is no part of a cluster, but runs beside one.
    fn module(self) -> Option<&'static Module> {
        match self {
            Self::Helm => Some(&HELM),
            Self::Flux => Some(&FLUX),
            Self::Llm => None,
            Self::Promtool => Some(&PROMTOOL),
            Self::Helm3 => Some(&HELM3),
        }
    }
}

impl Module {
    /// The part of the version key that needs no Go.
    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let manifests = self.manifests.iter().flat_map(|(module, path, name)| [*module, *path, *name]);
        for part in [self.go_mod, self.go_sum, self.tags, self.ldflags].into_iter().chain(manifests) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let mut text = hex::encode(hash.finalize());
        text.truncate(12);
        text
    }

    fn prefix(&self) -> String {
        format!("{}-{}-", self.name, self.hash())
    }

    fn is_complete(&self, folder: &Path) -> bool {
        let manifests = self.manifests.iter().map(|(_, _, name)| name);
        self.programs.iter().chain(manifests).all(|file| folder.join(file).is_file())
    }

    /// What the built folder holds.
    fn files(&self, folder: &Path) -> impl Iterator<Item = Program> {
        let programs = self
            .programs
            .iter()
            .map(|program| if *program == "server" { ("etcd", *program) } else { (*program, *program) });
        let manifests = self.manifests.iter().map(|(_, _, name)| (*name, *name));
        let folder = folder.to_owned();
        programs
            .map(|found| (BIN, found))
            .chain(manifests.map(|found| (CRDS, found)))
            .map(move |(place, (name, file))| Program { place, name, file: folder.join(file) })
    }

    /// The finished folder for this Go version, or for any when Go is not installed.
    fn find(&self, root: &Path, go: Option<&str>) -> Option<PathBuf> {
        if let Some(go) = go {
            let folder = root.join(format!("{}{go}", self.prefix()));
            return self.is_complete(&folder).then_some(folder);
        }
        let prefix = self.prefix();
        fs::read_dir(root)
            .ok()?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .find(|folder| self.is_complete(folder))
    }
}

/// The folder of a cluster's programs, in its work folder.
pub const BIN: &str = "bin";
/// The folder of definitions that a test may apply.
pub const CRDS: &str = "crds";

/// A file of the cluster, mostly a program, and where it was built.
#[derive(Clone, Debug)]
pub struct Program {
    /// [`BIN`] or [`CRDS`].
    pub place: &'static str,
    /// The name it is started by.
    pub name: &'static str,
    /// The built file.
    pub file: PathBuf,
}

/// The version of the `go` in `path`, read from its own files: starting it would cost more than all the rest.
fn go_version(go: &Path) -> Option<String> {
    let real = go.canonicalize().ok()?;
    let text = fs::read_to_string(real.parent()?.parent()?.join("VERSION")).ok();
    if let Some(version) = text.as_deref().and_then(|text| text.lines().next()) {
        return Some(version.trim().to_owned());
    }
    let output = std::process::Command::new(go).args(["env", "GOVERSION"]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|version| !version.is_empty())
}

/// Every program of the cluster, built now if it is not in the cache; of what a cluster may have besides, all that is in
/// the cache, and what is asked for.
///
/// # Errors
/// When Go is missing and something must be built, a build fails, or the cache cannot be written.
pub async fn ensure(extras: &[Extra]) -> Result<Vec<Program>> {
    if extras.contains(&Extra::Llm) {
        llm::ensure().await?;
    }
    let (with, beside): (Vec<Extra>, Vec<Extra>) = extras.iter().partition(|extra| extra.is_of_clusters());
    ensure_modules(&beside.iter().filter_map(|extra| extra.module()).collect::<Vec<_>>()).await?;
    let wanted: Vec<&Module> = MODULES.iter().chain(with.iter().filter_map(|extra| extra.module())).collect();
    let mut found = ensure_modules(&wanted).await?;
    let root = cache::testbed_dir()?;
    let version = need::go(&need::search_path()).ok().and_then(|go| go_version(&go));
    let others = Extra::ALL.iter().filter(|extra| extra.is_of_clusters() && !with.contains(extra));
    for module in others.filter_map(|extra| extra.module()) {
        if let Some(folder) = module.find(&root, version.as_deref()) {
            found.extend(module.files(&folder));
        }
    }
    Ok(found)
}

/// These and nothing else, for tests that need no cluster.
///
/// # Errors
/// As [`ensure`].
pub async fn ensure_only(extras: &[Extra]) -> Result<Vec<Program>> {
    if extras.contains(&Extra::Llm) {
        llm::ensure().await?;
    }
    ensure_modules(&extras.iter().filter_map(|extra| extra.module()).collect::<Vec<_>>()).await
}

/// Where the program of an extra is, if it was built before; nothing is built now.
#[must_use]
pub fn built(extra: Extra) -> Option<PathBuf> {
    let root = cache::testbed_dir().ok()?;
    let version = need::go(&need::search_path()).ok().and_then(|go| go_version(&go));
    let module = extra.module()?;
    let folder = module.find(&root, version.as_deref())?;
    module.files(&folder).next().map(|program| program.file)
}

async fn ensure_modules(wanted: &[&Module]) -> Result<Vec<Program>> {
    let root = cache::testbed_dir()?;
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let path = need::search_path();
    let go = need::go(&path);
    let version = go.as_ref().ok().and_then(|go| go_version(go));
    let mut found = locate(&root, version.as_deref(), wanted);
    if found.is_none() {
        let go = go?;
        let version = version.as_deref().with_context(|| format!("cannot tell the version of {}", go.display()))?;
        let mut terminations = signal(SignalKind::terminate())?;
        let mut interrupts = signal(SignalKind::interrupt())?;
        // Dropping the build ends Go with it.
        tokio::select! {
            built = build_missing(&root, &go, version, wanted) => built?,
            _ = terminations.recv() => bail!("the build was stopped, the next one goes on where it was"),
            _ = interrupts.recv() => bail!("the build was stopped, the next one goes on where it was"),
        }
        found = locate(&root, Some(version), wanted);
    }
    found.context("the cache was emptied while the testbed was built, run it again")
}

/// A program of the cluster, if it was built already.
#[must_use]
pub fn built_program(name: &str) -> Option<PathBuf> {
    let root = cache::testbed_dir().ok()?;
    MODULES.iter().find_map(|module| {
        let folder = module.find(&root, None)?;
        module.files(&folder).find(|program| program.name == name).map(|found| found.file)
    })
}

fn locate(root: &Path, go: Option<&str>, wanted: &[&Module]) -> Option<Vec<Program>> {
    let mut programs = Vec::new();
    for module in wanted {
        programs.extend(module.files(&module.find(root, go)?));
    }
    Some(programs)
}

async fn build_missing(root: &Path, go: &Path, version: &str, wanted: &[&Module]) -> Result<()> {
    let _lock = lock(root).await?;
    let started = Instant::now();
    remove_unfinished(root);
    let missing: Vec<&Module> =
        wanted.iter().copied().filter(|module| module.find(root, Some(version)).is_none()).collect();
    for (index, module) in missing.iter().enumerate() {
        eprintln!("[{}/{}] {}: building with {version}", index + 1, missing.len(), module.name);
        build(root, go, version, module).await?;
    }
    if !missing.is_empty() {
        eprintln!("built in {} s, kept in {}", started.elapsed().as_secs(), root.display());
    }
    Ok(())
}

/// Waits for another build on this machine; the lock ends with the process that holds it.
///
/// # Errors
/// When the lock file cannot be written.
pub async fn lock(root: &Path) -> Result<File> {
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    let file = File::create(root.join("build.lock")).context("cannot create the build lock")?;
    if file.try_lock().is_err() {
        eprintln!("another testbed build is running, waiting for it");
        let waiting = file.try_clone()?;
        tokio::task::spawn_blocking(move || waiting.lock()).await??;
    }
    Ok(file)
}

fn remove_unfinished(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(".unfinished-") {
            // Left by a build that was killed; if it cannot go now, the next build tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

async fn build(root: &Path, go: &Path, version: &str, module: &Module) -> Result<()> {
    let started = Instant::now();
    let source = root.join("source").join(format!("{}-{}", module.name, module.hash()));
    fs::create_dir_all(&source)?;
    fs::write(source.join("go.mod"), module.go_mod)?;
    fs::write(source.join("go.sum"), module.go_sum)?;
    let unfinished = root.join(format!(".unfinished-{}-{}", module.name, std::process::id()));
    fs::create_dir_all(&unfinished)?;
    let mut child = go_build(go, &source, &unfinished, module)?;
    let log = root.join(format!("build-{}.log", module.name));
    let (status, tail) = follow(&mut child, module.name, started, &log).await?;
    if !status.success() {
        for line in &tail {
            eprintln!("  {line}");
        }
        bail!("building {} failed ({status}), the whole log is in {}", module.name, log.display());
    }
    for manifest in module.manifests {
        bring_along(go, &source, &unfinished, manifest).await?;
    }
    if !module.is_complete(&unfinished) {
        bail!("the build of {} did not make every program", module.name);
    }
    let target = root.join(format!("{}{version}", module.prefix()));
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::rename(&unfinished, &target)?;
    let size = module.programs.len();
    eprintln!("      {}: done in {} s ({size} programs)", module.name, started.elapsed().as_secs());
    Ok(())
}

/// Copies a file out of a module; Go checks the module as it does for builds.
async fn bring_along(go: &Path, source: &Path, out: &Path, (module, path, name): &Manifest) -> Result<()> {
    let output = Command::new(go)
        .args(["mod", "download", "-json", module])
        .current_dir(source)
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start go")?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(folder) = said["Dir"].as_str().filter(|_| output.status.success()) else {
        bail!("cannot get {module}: {} {}", said["Error"], String::from_utf8_lossy(&output.stderr).trim());
    };
    let file = Path::new(folder).join(path);
    // Not `fs::copy`: files of the module cache are read-only, and so would be the copy.
    let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(out.join(name), text).with_context(|| format!("cannot write {name}"))
}

fn go_build(go: &Path, source: &Path, out: &Path, module: &Module) -> Result<Child> {
    let mut command = Command::new(go);
    command
        .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", module.ldflags])
        .args(["-tags", module.tags, "-o"])
        .arg(format!("{}/", out.display()))
        .arg("tool")
        .current_dir(source)
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().context("cannot start go")
}

/// Reads what Go prints (one line per package) and tells every ten seconds that it still works.
async fn follow(
    child: &mut Child,
    name: &str,
    started: Instant,
    log: &Path,
) -> Result<(std::process::ExitStatus, VecDeque<String>)> {
    let stderr = child.stderr.take().context("go has no error output")?;
    let mut lines = BufReader::new(stderr).lines();
    let mut log = File::create(log)?;
    let mut tail = VecDeque::new();
    let mut packages = 0_u32;
    let mut beat = tokio::time::interval(Duration::from_secs(10));
    beat.tick().await;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { break };
                writeln!(log, "{line}")?;
                packages += 1;
                if tail.len() == 15 {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
            _ = beat.tick() => {
                let last = tail.back().map_or("", String::as_str);
                eprintln!("      {name}: {} s, {packages} steps, now {last}", started.elapsed().as_secs());
            }
        }
    }
    Ok((child.wait().await?, tail))
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_module_or_flag_has_another_key() {
        let etcd = &MODULES[1];
        let other = Module { tags: "x", ..module("etcd", (etcd.go_mod, etcd.go_sum), &["server"]) };
        assert_ne!(etcd.hash(), other.hash());
        assert_eq!(etcd.hash().len(), 12);
    }

    #[test]
    fn a_folder_without_every_program_is_not_found() {
        let root = tempfile::tempdir().expect("temp dir");
        let module = &MODULES[2];
        let folder = root.path().join(format!("{}go1.99", module.prefix()));
        fs::create_dir_all(&folder).expect("create");
        fs::write(folder.join("ctr"), "").expect("write");
        assert_eq!(module.find(root.path(), None), None);
        for program in module.programs {
            fs::write(folder.join(program), "").expect("write");
        }
        assert_eq!(module.find(root.path(), None), Some(folder.clone()));
        assert_eq!(module.find(root.path(), Some("go1.99")), Some(folder));
        assert_eq!(module.find(root.path(), Some("go1.98")), None);
    }
}
