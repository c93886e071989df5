//! The image registry inside the cluster: the pull side of the OCI distribution, over plain HTTP. Input: archives as
//! [`crate::images`] packs them. `localhost/shop:v1` of an archive is `registry.test/shop:v1` here; every other tag is
//! a manifest that is really unknown, and while this is stopped every pull is really refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path as Segments, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::components::Component;
use super::network::NODE;

/// The component; not started before somebody asks for it.
pub const NAME: &str = "image-registry";
/// What images of it are called, before the repository.
pub const HOST: &str = "registry.test";

const PORT: u16 = 5000;
/// Whose archive it serves.
const SERVED: &str = "shop.tar";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Where it listens.
#[must_use]
pub fn address() -> String {
    format!("{NODE}:{PORT}")
}

/// The process.
#[must_use]
pub fn component(dir: &Path, images: &[PathBuf]) -> Component {
    let served = images.iter().filter(|image| image.file_name().is_some_and(|name| name == SERVED));
    let archives = served.map(|image| image.to_string_lossy().into_owned());
    let arguments = [NAME.to_owned(), address()].into_iter().chain(archives).collect();
    Component { name: NAME, program: dir.join("bin/testbed"), arguments }
}

/// Tells every containerd that images of [`HOST`] are there, and that it speaks plain HTTP.
///
/// # Errors
/// When the file cannot be written.
pub fn configure(dir: &Path) -> Result<()> {
    let folder = dir.join("registries").join(HOST);
    fs::create_dir_all(&folder)?;
    let server = format!("http://{}", address());
    let hosts = format!("server = \"{server}\"\n[host.\"{server}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    Ok(fs::write(folder.join("hosts.toml"), hosts)?)
}

/// What one archive says about its images.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Packed {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Everything that is served.
#[derive(Debug, Default)]
struct Stock {
    /// The digest behind `repository:tag`.
    tags: BTreeMap<String, String>,
    manifests: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Stock {
    fn add(&mut self, archive: impl Read) -> Result<()> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(path, content);
        }
        let images = files.get("manifest.json").context("the archive has no manifest.json")?;
        for image in serde_json::from_slice::<Vec<Packed>>(images)? {
            let file = |path: &String| files.get(path).with_context(|| format!("the archive has no {path}"));
            let config = self.blob(&labelled(file(&image.config)?)?, CONFIG);
            let layers = image.layers.iter().map(|layer| Ok(self.blob(file(layer)?, LAYER)));
            let layers: Vec<Value> = layers.collect::<Result<_>>()?;
            let manifest = serde_json::to_vec(
                &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}),
            )?;
            let name = digest(&manifest);
            for tag in &image.repo_tags {
                let tag = tag.strip_prefix("localhost/").unwrap_or(tag);
                self.tags.insert(tag.to_owned(), name.clone());
            }
            self.manifests.insert(name, manifest);
        }
        Ok(())
    }

    /// Keeps a file; what a manifest says about it.
    fn blob(&mut self, content: &[u8], kind: &str) -> Value {
        let name = digest(content);
        let descriptor = json!({"mediaType": kind, "digest": name, "size": content.len()});
        self.blobs.entry(name).or_insert_with(|| content.to_owned());
        descriptor
    }

    /// A manifest by tag or digest, with its digest.
    fn manifest(&self, repository: &str, reference: &str) -> Option<(&String, &Vec<u8>)> {
        let name = self.tags.get(&format!("{repository}:{reference}")).map_or(reference, String::as_str);
        self.manifests.get_key_value(name)
    }
}

/// With its origin in the configuration the image is another one than that of the archive. Else the kubelet, which
/// remembers what it has pulled, would insist on pulling the imported one as well.
fn labelled(config: &[u8]) -> Result<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(config)?;
    config["config"]["Labels"] = json!({"registry": HOST});
    Ok(serde_json::to_vec(&config)?)
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

/// Serves the archives until the process ends.
///
/// # Errors
/// When an archive cannot be read or the address is taken.
pub async fn serve(listen: SocketAddr, archives: &[PathBuf]) -> Result<()> {
    let mut stock = Stock::default();
    for archive in archives {
        let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        stock.add(file).with_context(|| format!("cannot serve {}", archive.display()))?;
    }
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen at {listen}"))?;
    Ok(axum::serve(listener, router(stock)).await?)
}

fn router(stock: Stock) -> Router {
    Router::new()
        .route("/v2/", get(async || "{}"))
        .route("/v2/{repository}/manifests/{reference}", get(manifest))
        .route("/v2/{repository}/blobs/{digest}", get(blob))
        .with_state(Arc::new(stock))
}

async fn manifest(
    State(stock): State<Arc<Stock>>,
    Segments((repository, reference)): Segments<(String, String)>,
) -> Response {
    match stock.manifest(&repository, &reference) {
        Some((name, content)) => {
            let headers = [(header::CONTENT_TYPE.as_str(), MANIFEST), ("docker-content-digest", name)];
            (headers, content.clone()).into_response()
        }
        None => unknown("MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

async fn blob(State(stock): State<Arc<Stock>>, Segments((_, name)): Segments<(String, String)>) -> Response {
    match stock.blobs.get(&name) {
        Some(content) => ([(header::CONTENT_TYPE, "application/octet-stream")], content.clone()).into_response(),
        None => unknown("BLOB_UNKNOWN", "blob unknown to registry"),
    }
}

/// In the words of the distribution's specification.
fn unknown(code: &str, message: &str) -> Response {
    (StatusCode::NOT_FOUND, axum::Json(json!({"errors": [{"code": code, "message": message}]}))).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::images::{ImageSpec, ImageTag, pack};

    fn stock() -> Stock {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("shop");
        fs::write(&binary, "program").unwrap();
        let tag = |tag: &str| ImageTag {
            name: format!("localhost/shop:{tag}"),
            env: vec![("VERSION".to_owned(), tag.to_owned())],
        };
        let spec = ImageSpec {
            tags: vec![tag("v1"), tag("v2")],
            binary,
            files: Vec::new(),
            entrypoint: vec!["/shop".to_owned()],
            user: "1:1".to_owned(),
        };
        let archive = folder.path().join("shop.tar");
        pack(&spec, &archive).unwrap();
        let mut stock = Stock::default();
        stock.add(File::open(archive).unwrap()).unwrap();
        stock
    }

    #[test]
    fn each_tag_has_a_manifest_whose_blobs_are_there() {
        let stock = stock();
        let (first, content) = stock.manifest("shop", "v1").unwrap();
        let (second, _) = stock.manifest("shop", "v2").unwrap();
        assert_ne!(first, second);
        assert_eq!(stock.manifest("shop", first).unwrap().0, first);
        assert_eq!(*first, digest(content));
        let manifest: Value = serde_json::from_slice(content).unwrap();
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let content = &stock.blobs[blob["digest"].as_str().unwrap()];
            assert_eq!(blob["size"], content.len());
            assert_eq!(blob["digest"], digest(content));
        }
    }

    #[tokio::test]
    async fn an_unknown_tag_is_a_manifest_unknown() {
        let wanted = Segments(("shop".to_owned(), "v9".to_owned()));
        let answer = manifest(State(Arc::new(stock())), wanted).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("MANIFEST_UNKNOWN"), "{body:?}");
    }
}
