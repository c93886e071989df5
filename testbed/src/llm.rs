//! A real server of language models: that of llama.cpp, from a Python wheel of it, on a model of random weights.
//! Under a JSON schema it answers well-formed nonsense, under none it answers garbage. Input: Python 3.10 or later,
//! once the internet. Output: the wheel unpacked in the cache; a process that serves chat completions.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{build, cache, gguf, need};

/// The wheel, with the checksums of those for x86-64 and ARM; pip refuses any other.
const REQUIREMENTS: &str = "xllamacpp==2026.10.11549 \
     --hash=sha256:c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261 \
     --hash=sha256:e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e\n";
const LAUNCHER: &str = include_str!("llm.py");
/// How long it may take to load half a megabyte, on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The wheel as it lies in the cache.
#[derive(Debug, Clone)]
pub struct Installed {
    python: PathBuf,
    packages: PathBuf,
}

/// What was installed, if it was.
#[must_use]
pub fn installed() -> Option<Installed> {
    found(&cache::testbed_dir().ok()?)
}

fn folder(root: &Path) -> PathBuf {
    let mut key = hex::encode(Sha256::digest(REQUIREMENTS));
    key.truncate(12);
    root.join(format!("llm-{key}"))
}

fn found(root: &Path) -> Option<Installed> {
    let packages = folder(root);
    let python = PathBuf::from(fs::read_to_string(packages.join("python")).ok()?.trim());
    python.is_file().then_some(Installed { python, packages })
}

/// Installs it if it is not in the cache.
///
/// # Errors
/// When Python or pip is missing, or the wheel cannot be had.
pub async fn ensure() -> Result<Installed> {
    let root = cache::testbed_dir()?;
    if let Some(installed) = found(&root) {
        return Ok(installed);
    }
    let _lock = build::lock(&root).await?;
    if let Some(installed) = found(&root) {
        return Ok(installed);
    }
    let python = need::find_program("python3", &need::search_path())
        .context("python3 is missing: apt-get install python3 python3-pip")?;
    let asked = Command::new(&python).args(["-c", "import sys; print(sys.executable)"]).output().await?;
    let python = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    eprintln!("llama.cpp's server: installing a wheel of 34 MB");
    let unfinished = root.join(format!(".unfinished-llm-{}", std::process::id()));
    fs::create_dir_all(&unfinished)?;
    let requirements = unfinished.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let output = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--target"])
        .arg(&unfinished)
        .arg("-r")
        .arg(&requirements)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start pip")?;
    if !output.status.success() {
        bail!("pip could not install llama.cpp's server: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::write(unfinished.join("python"), python.display().to_string())?;
    let target = folder(&root);
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::rename(&unfinished, &target)?;
    found(&root).context("the wheel was installed, but is not in the cache")
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    _process: Child,
    _model: ModelFile,
    address: SocketAddr,
}

/// A model that is removed with its server.
#[derive(Debug)]
struct ModelFile(PathBuf);

impl Drop for ModelFile {
    fn drop(&mut self) {
        // A file that stays behind in the temporary folder harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

impl Installed {
    /// Starts a server at an address and waits until it answers.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub async fn serve(&self, address: SocketAddr) -> Result<Server> {
        let model = ModelFile(std::env::temp_dir().join(format!("{}.gguf", cache::cluster_name())));
        gguf::write(&model.0)?;
        let mut process = Command::new(&self.python)
            .args(["-c", LAUNCHER])
            .arg(&model.0)
            .arg(address.ip().to_string())
            .arg(address.port().to_string())
            .env("PYTHONPATH", &self.packages)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start python")?;
        let started = Instant::now();
        while !healthy(address).await {
            if let Some(status) = process.try_wait()? {
                bail!("llama.cpp's server ended at once ({status})");
            }
            if started.elapsed() > PATIENCE {
                bail!("llama.cpp's server does not answer at {address}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Server { _process: process, _model: model, address })
    }
}

/// It listens before its model is loaded, and answers 503 until then.
async fn healthy(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        std::io::Result::Ok(head.ends_with(b" 200"))
    };
    // A server that hangs here is given up by whoever counts the time.
    tokio::time::timeout(PATIENCE, ask).await.is_ok_and(|answer| answer.unwrap_or(false))
}

impl Server {
    /// The base URL of its chat completions.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}
