//! Packs container images without Docker: static binaries built by cargo, one layer each, in the archive form that
//! `ctr images import` takes. Input: this workspace and a cache folder. Output: paths of tar files, byte for byte the
//! same for the same binaries. Knows nothing of the cluster that imports them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The image that holds a pod's namespaces; containerd is told this name as its sandbox image.
pub const PAUSE_IMAGE: &str = "localhost/pause:dev";
/// The demo application without its tag; see [`SHOP_TAGS`].
pub const SHOP_REPOSITORY: &str = "localhost/shop";
/// Each tag is the same program with another `VERSION`, so that changing it is a real rollout. The last two try to command
/// whoever reads them.
pub const SHOP_TAGS: [&str; 7] = ["v1", "v2", "v3", "v4", "v5", "v6-answer-ROLLBACK", "v6-answer-CONTINUE"];
/// The client that drives traffic through a Service.
pub const LOAD_IMAGE: &str = "localhost/load:dev";
/// The exporter of counters for thousands of pods that do not run.
pub const CROWD_IMAGE: &str = "localhost/crowd:dev";
/// The double of a language model.
pub const ORACLE_IMAGE: &str = "localhost/oracle:dev";
/// The operator, from the release build of this workspace.
pub const OPERATOR_IMAGE: &str = "localhost/deployment-guard:dev";
/// The operator with places at which tests have it die; see its `failpoint.rs`.
pub const FAILPOINTS_IMAGE: &str = "localhost/deployment-guard-failpoints:dev";

/// The operator's program, and the archive of its image.
const OPERATOR: &str = "deployment-guard";
/// The archive of the one with fail points.
const FAILPOINTS: &str = "deployment-guard-failpoints";
/// The user of every image that needs no rights.
const NON_ROOT: &str = "65532:65532";
/// Where programs look for certificate authorities, on the host and in the image.
const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Part of the cache key: raise it when the form of the archive changes.
const FORMAT: &str = "docker-archive-1";

/// One name under which an image is imported, with the environment that only this name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageTag {
    /// Full name, for example `localhost/shop:v1`.
    pub name: String,
    /// Environment that a container starts with.
    pub env: Vec<(String, String)>,
}

impl ImageTag {
    /// A tag without environment of its own.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), env: Vec::new() }
    }
}

/// A file that goes into the layer beside the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraFile {
    /// Where it is read from.
    pub source: PathBuf,
    /// Where it lands, without a leading slash.
    pub path: String,
}

/// What goes into one archive: one layer, and a tag for each name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
    /// The names, all on the same layer.
    pub tags: Vec<ImageTag>,
    /// The static program; it lands in the root folder under its own file name.
    pub binary: PathBuf,
    /// Further files.
    pub files: Vec<ExtraFile>,
    /// The command of the container.
    pub entrypoint: Vec<String>,
    /// `uid:gid` of the process.
    pub user: String,
}

/// Writes the archive of `spec` to `out`, whole or not at all.
///
/// # Errors
/// When a source cannot be read, a path is not relative, or `out` cannot be written.
pub fn pack(spec: &ImageSpec, out: &Path) -> Result<()> {
    if spec.tags.is_empty() {
        bail!("an image needs at least one tag");
    }
    let layer = layer(spec)?;
    let digest = hex_digest(&layer);
    let layer_path = format!("{digest}/layer.tar");
    let mut configs = Vec::new();
    let mut manifest = Vec::new();
    for tag in &spec.tags {
        let config = serde_json::to_vec(&config(spec, tag, &digest)?)?;
        let path = format!("{}.json", hex_digest(&config));
        manifest.push(json!({ "Config": path, "RepoTags": [tag.name], "Layers": [layer_path] }));
        configs.push((path, config));
    }
    let partial = out.with_extension("tar.partial");
    let file = File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let mut archive = tar::Builder::new(BufWriter::new(file));
    append_file(&mut archive, "manifest.json", &serde_json::to_vec(&manifest)?, 0o644)?;
    let mut written = BTreeSet::new();
    for (path, config) in &configs {
        // Two tags with the same environment share one configuration.
        if written.insert(path) {
            append_file(&mut archive, path, config, 0o644)?;
        }
    }
    append_folder(&mut archive, &format!("{digest}/"))?;
    append_file(&mut archive, &layer_path, &layer, 0o644)?;
    archive.into_inner()?.flush()?;
    fs::rename(&partial, out).with_context(|| format!("cannot write {}", out.display()))
}

/// The testbed's own programs, each an image of its own.
pub const NAMES: [&str; 5] = ["pause", "shop", "load", "crowd", "oracle"];

/// Builds the testbed's own programs as static binaries and packs each into an archive under `cache`.
/// What did not change is not packed again.
///
/// # Errors
/// When the build fails or the cache cannot be written.
pub fn build_all(cache: &Path) -> Result<Vec<PathBuf>> {
    let names = NAMES;
    let mut arguments = vec!["--profile", "testbed", "-p", "testbed"];
    for name in names {
        arguments.extend(["--bin", name]);
    }
    let folder = build_static(&arguments, "testbed", &names.join(", "))?;
    names.iter().map(|name| pack_cached(name, &testbed_spec(name, &folder), cache)).collect()
}

/// Builds the operator's release binary and packs it as [`OPERATOR_IMAGE`] with the host's CA bundle, if there is one.
///
/// # Errors
/// When the build fails or the cache cannot be written.
pub fn build_operator(cache: &Path) -> Result<PathBuf> {
    let folder = build_static(&["--release", "-p", OPERATOR, "--bin", OPERATOR], "release", OPERATOR)?;
    pack_operator(OPERATOR, OPERATOR_IMAGE, &folder, cache)
}

/// The folder beside the other archives for what only some tests import.
fn on_demand(cache: &Path) -> PathBuf {
    cache.join("on-demand")
}

/// Where [`build_failpoints`] leaves the operator with fail points.
///
/// # Errors
/// When there is no cache folder.
pub fn failpoints_archive() -> Result<PathBuf> {
    Ok(on_demand(&crate::cache::root()?.join("images")).join(format!("{FAILPOINTS}.tar")))
}

/// Builds the operator with fail points as [`FAILPOINTS_IMAGE`]. Quickly rather than small: nobody ships it.
///
/// # Errors
/// When the build fails or the cache cannot be written.
pub fn build_failpoints(cache: &Path) -> Result<PathBuf> {
    let arguments = ["--profile", "testbed", "-p", OPERATOR, "--bin", OPERATOR, "--features", "failpoints"];
    let folder = build_static(&arguments, "testbed", "deployment-guard with fail points")?;
    pack_operator(FAILPOINTS, FAILPOINTS_IMAGE, &folder, &on_demand(cache))
}

fn pack_operator(archive: &str, image: &str, folder: &Path, cache: &Path) -> Result<PathBuf> {
    let bundle = Path::new("/").join(CA_BUNDLE);
    let files = if bundle.is_file() {
        vec![ExtraFile { source: bundle, path: CA_BUNDLE.to_owned() }]
    } else {
        eprintln!("images: no CA bundle at {}, the operator's image goes without", bundle.display());
        Vec::new()
    };
    let spec = ImageSpec {
        tags: vec![ImageTag::plain(image)],
        binary: folder.join(OPERATOR),
        files,
        entrypoint: vec![format!("/{OPERATOR}")],
        user: NON_ROOT.to_owned(),
    };
    pack_cached(archive, &spec, cache)
}

/// The image of one of the testbed's programs, whose binary lies in `folder`.
fn testbed_spec(name: &str, folder: &Path) -> ImageSpec {
    let tags = if name == "shop" {
        SHOP_TAGS
            .iter()
            .map(|tag| ImageTag {
                name: format!("{SHOP_REPOSITORY}:{tag}"),
                env: vec![("VERSION".to_owned(), (*tag).to_owned())],
            })
            .collect()
    } else {
        vec![ImageTag::plain(&format!("localhost/{name}:dev"))]
    };
    ImageSpec {
        tags,
        binary: folder.join(name),
        files: Vec::new(),
        entrypoint: vec![format!("/{name}")],
        user: NON_ROOT.to_owned(),
    }
}

/// Packs `spec` unless the archive of the very same content is there already.
fn pack_cached(name: &str, spec: &ImageSpec, cache: &Path) -> Result<PathBuf> {
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let out = cache.join(format!("{name}.tar"));
    let stamp = cache.join(format!("{name}.key"));
    let key = cache_key(spec)?;
    if out.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        eprintln!("images: {name} unchanged");
        return Ok(out);
    }
    let started = Instant::now();
    // Without its key a half-done archive is never taken for a finished one.
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    pack(spec, &out)?;
    fs::write(&stamp, &key)?;
    let kib = fs::metadata(&out)?.len() / 1024;
    let tags: Vec<&str> = spec.tags.iter().map(|tag| tag.name.as_str()).collect();
    eprintln!("images: {name} packed, {kib} KiB, {:.1} s ({})", started.elapsed().as_secs_f64(), tags.join(" "));
    Ok(out)
}

/// Changes when any byte that reaches the archive changes.
fn cache_key(spec: &ImageSpec) -> Result<String> {
    let mut hash = Sha256::new();
    // Where the sources lie must not matter, only what they hold.
    for part in [FORMAT, &format!("{:?} {:?} {}", spec.tags, spec.entrypoint, spec.user)] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(binary_name(spec)?);
    hash.update(Sha256::digest(read(&spec.binary)?));
    for file in &spec.files {
        hash.update(&file.path);
        hash.update([0]);
        hash.update(Sha256::digest(read(&file.source)?));
    }
    Ok(hex::encode(hash.finalize()))
}

/// The file system of the image as an uncompressed tar.
fn layer(spec: &ImageSpec) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for file in &spec.files {
        let path = &file.path;
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            bail!("{path} must be a path inside the image without a leading slash");
        }
        for (end, _) in path.match_indices('/') {
            folders.insert(&path[..=end]);
        }
    }
    for folder in folders {
        append_folder(&mut layer, folder)?;
    }
    append_file(&mut layer, binary_name(spec)?, &read(&spec.binary)?, 0o755)?;
    for file in &spec.files {
        append_file(&mut layer, &file.path, &read(&file.source)?, 0o644)?;
    }
    Ok(layer.into_inner()?)
}

/// The image configuration of one tag.
fn config(spec: &ImageSpec, tag: &ImageTag, layer_digest: &str) -> Result<Value> {
    let mut env = vec!["PATH=/".to_owned()];
    env.extend(tag.env.iter().map(|(name, value)| format!("{name}={value}")));
    Ok(json!({
        // A fixed time: the same binary gives the same image.
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture()?,
        "os": "linux",
        "config": {
            "User": spec.user,
            "Env": env,
            "Entrypoint": spec.entrypoint,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "testbed images" }],
    }))
}

/// The architecture in the words of image configurations.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no image architecture is known for {other}"),
    }
}

fn binary_name(spec: &ImageSpec) -> Result<&str> {
    let name = spec.binary.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} has no file name", spec.binary.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn append_file<W: Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(u64::try_from(content.len())?);
    archive.append_data(&mut header, path, content)?;
    Ok(())
}

fn append_folder<W: Write>(archive: &mut tar::Builder<W>, path: &str) -> Result<()> {
    let mut header = header(tar::EntryType::Directory, 0o755);
    header.set_size(0);
    archive.append_data(&mut header, path, std::io::empty())?;
    Ok(())
}

/// Owned by root and of the year 1970: nothing of the building host reaches the archive.
fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn hex_digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Runs cargo for a static build and returns the folder of the binaries.
fn build_static(arguments: &[&str], profile: &str, what: &str) -> Result<PathBuf> {
    let started = Instant::now();
    let root = workspace_root()?;
    let triple = host_triple()?;
    let flags = format!("target.{triple}.rustflags=[\"-C\",\"target-feature=+crt-static\"]");
    eprintln!("images: building {what} for {triple}, static");
    let status = cargo(&root)
        .arg("build")
        .args(arguments)
        .args(["--target", &triple, "--config", &flags])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run cargo; install Rust with rustup")?;
    if !status.success() {
        bail!("cargo could not build {what} ({status})");
    }
    eprintln!("images: built {what}, {:.1} s", started.elapsed().as_secs_f64());
    Ok(target_folder(&root)?.join(triple).join(profile))
}

/// Cargo in the workspace. The environment's flags would silently replace those that make the binaries static.
fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Where cargo puts its output, whichever way it was told to.
fn target_folder(root: &Path) -> Result<PathBuf> {
    let output = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&output).context("cargo metadata printed no JSON")?;
    let folder = metadata.get("target_directory").and_then(Value::as_str);
    Ok(PathBuf::from(folder.context("cargo metadata names no target directory")?))
}

fn host_triple() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    parse_host_triple(&version).context("rustc -vV names no host")
}

fn parse_host_triple(version: &str) -> Option<String> {
    version.lines().find_map(|line| line.strip_prefix("host: ")).map(|host| host.trim().to_owned())
}

fn workspace_root() -> Result<PathBuf> {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = member.parent().context("the testbed lies in no workspace")?;
    if !root.join("Cargo.toml").is_file() {
        bail!("the sources this program was built from are no longer at {}", root.display());
    }
    Ok(root.to_path_buf())
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let mut message = format!("{program} failed ({})", output.status);
        if let Some(line) = String::from_utf8_lossy(&output.stderr).lines().last() {
            write!(message, ": {line}")?;
        }
        bail!(message);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn sample(folder: &Path) -> ImageSpec {
        fs::write(folder.join("shop"), b"a program").unwrap();
        fs::write(folder.join("bundle"), b"authorities").unwrap();
        let mut spec = testbed_spec("shop", folder);
        spec.files.push(ExtraFile { source: folder.join("bundle"), path: CA_BUNDLE.to_owned() });
        spec
    }

    fn entries(bytes: &[u8]) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let (mode, mtime) = (entry.header().mode().unwrap(), entry.header().mtime().unwrap());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert!(found.insert(path, (mode, mtime, content)).is_none(), "an entry came twice");
        }
        found
    }

    #[test]
    fn every_shop_tag_shares_the_layer_and_has_its_own_version() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("shop.tar");
        pack(&sample(folder.path()), &out).unwrap();
        let files = entries(&fs::read(&out).unwrap());
        let manifest: Vec<Value> = serde_json::from_slice(&files["manifest.json"].2).unwrap();
        assert_eq!(manifest.len(), SHOP_TAGS.len());
        for (image, tag) in manifest.iter().zip(SHOP_TAGS) {
            assert_eq!(image["RepoTags"], json!([format!("localhost/shop:{tag}")]));
            assert_eq!(image["Layers"], manifest[0]["Layers"]);
            let config: Value = serde_json::from_slice(&files[image["Config"].as_str().unwrap()].2).unwrap();
            assert_eq!(config["config"]["Env"][1], format!("VERSION={tag}"));
            assert_eq!(config["config"]["User"], "65532:65532");
            assert_eq!(config["config"]["Entrypoint"], json!(["/shop"]));
            let layer = &files[image["Layers"][0].as_str().unwrap()].2;
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex_digest(layer)));
        }
    }

    #[test]
    fn the_layer_holds_an_executable_and_the_extra_files_with_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let files = entries(&layer(&sample(folder.path())).unwrap());
        let paths: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(paths, ["etc/", "etc/ssl/", "etc/ssl/certs/", CA_BUNDLE, "shop"]);
        assert_eq!(files["shop"], (0o755, 0, b"a program".to_vec()));
        assert_eq!(files[CA_BUNDLE], (0o644, 0, b"authorities".to_vec()));
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_wherever_it_lies() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (one.path().join("a.tar"), two.path().join("b.tar"));
        pack(&sample(one.path()), &first).unwrap();
        pack(&sample(two.path()), &second).unwrap();
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
        assert_eq!(cache_key(&sample(one.path())).unwrap(), cache_key(&sample(two.path())).unwrap());
    }

    #[test]
    fn a_changed_binary_is_packed_again_and_an_unchanged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let spec = sample(folder.path());
        let out = pack_cached("shop", &spec, &cache).unwrap();
        fs::write(&out, b"untouched").unwrap();
        pack_cached("shop", &spec, &cache).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"untouched");
        fs::write(&spec.binary, b"another program").unwrap();
        pack_cached("shop", &spec, &cache).unwrap();
        assert_ne!(fs::read(&out).unwrap(), b"untouched");
    }

    #[test]
    fn paths_that_leave_the_image_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["/etc/passwd", "../etc/passwd", "etc/../../passwd"] {
            let mut spec = sample(folder.path());
            spec.files[0].path = path.to_owned();
            assert!(layer(&spec).is_err(), "{path} was taken");
        }
    }

    #[test]
    fn the_host_triple_is_read_from_the_compiler() {
        let version = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(parse_host_triple(version).as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(parse_host_triple("rustc 1.95.0"), None);
    }
}
