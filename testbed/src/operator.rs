//! The operator of this checkout, installed as a user installs it. Input: the files of a release. Output: a ready
//! operator.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, Error};
use crate::images::OPERATOR_IMAGE;

/// The definitions.
pub const CRDS: [&str; 2] = [
    include_str!("../../crds/deploymentguards.deploymentguard.dev.yaml"),
    include_str!("../../crds/guardclasses.deploymentguard.dev.yaml"),
];
/// What a user replaces.
const IMAGE: &str = "image: deployment-guard:0.1.0\n          imagePullPolicy: IfNotPresent";
/// The class as in the examples.
const CLASS: &str = include_str!("../../manifests/examples/class.yaml");

/// The class as in the examples, but for one thing: where a cluster lives for minutes and everything in it is bad on
/// purpose, its storm breaker would open.
#[must_use]
pub fn class() -> String {
    format!("{CLASS}  stormBreaker: {{undos: 100, within: 1m}}\n")
}

/// The installation. The only difference to a user's: the image comes from this checkout, not from a registry.
#[must_use]
pub fn manifests() -> String {
    let image = format!("image: {OPERATOR_IMAGE}\n          imagePullPolicy: Never");
    include_str!("../../manifests/install.yaml").replace(IMAGE, &image)
}

/// The same, with recordings of every analysed rollout in a directory of the node. Its namespace takes no host paths, so
/// it claims a volume, as a user would.
#[must_use]
pub fn manifests_recording(directory: &Path) -> String {
    let claim = format!(
        "---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: recordings}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: \"\"
  hostPath: {{path: {}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: recordings, namespace: deployment-guard}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: \"\"
  volumeName: recordings
  resources: {{requests: {{storage: 1Gi}}}}
",
        directory.display()
    );
    let volume = "      volumes:
        - name: recordings
          persistentVolumeClaim: {claimName: recordings}
      containers:
        - name: operator";
    let mount = "          args: [run, --record, /recordings]
          volumeMounts:
            - {name: recordings, mountPath: /recordings}
";
    let manifests = manifests()
        .replace("      containers:\n        - name: operator", volume)
        .replace("          args: [run]\n", mount);
    format!("{}\n{claim}", manifests.trim_end())
}

/// Where the operator of a cluster records, if it was installed that way: a directory that it may write to.
///
/// # Errors
/// When it cannot be made, or when this is not run inside a testbed.
pub fn recordings() -> std::io::Result<PathBuf> {
    let inside = std::env::var_os("TESTBED_DIR");
    let inside = inside.ok_or_else(|| std::io::Error::other("not inside a testbed"))?;
    let directory = PathBuf::from(inside).join("recordings");
    std::fs::create_dir_all(&directory)?;
    // The operator is nobody in particular.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777))?;
    Ok(directory)
}

/// Installs the definitions and the operator, and waits until it is ready. The class is another matter.
///
/// # Errors
/// When the API server refuses something, or the operator is not ready within a minute.
pub async fn install(cluster: &Cluster) -> Result<(), Error> {
    apply(cluster, &manifests()).await
}

/// The same with these manifests in place of the plain ones.
///
/// # Errors
/// As [`install`].
pub async fn apply(cluster: &Cluster, manifests: &str) -> Result<(), Error> {
    let server_side = ["apply", "--server-side", "-f", "-"];
    for definition in CRDS {
        cluster.kubectl_with(&server_side, definition).await?;
    }
    cluster.kubectl_with(&server_side, manifests).await?;
    let ready = ["-n", "deployment-guard", "rollout", "status", "deployment/deployment-guard", "--timeout=60s"];
    cluster.kubectl(&ready).await.map(|_| ())
}
