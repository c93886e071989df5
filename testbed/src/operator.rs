//! The operator of this checkout, installed as a user installs it. Input: the files of a release. Output: a ready
//! operator.

use crate::cluster::{Cluster, Error};
use crate::images::OPERATOR_IMAGE;

/// The definitions.
pub const CRDS: [&str; 2] = [
    include_str!("../../crds/deploymentguards.deploymentguard.dev.yaml"),
    include_str!("../../crds/guardclasses.deploymentguard.dev.yaml"),
];
/// The class as in the examples.
pub const CLASS: &str = include_str!("../../manifests/examples/class.yaml");

/// The installation. The only difference to a user's: the image comes from this checkout, not from a registry.
#[must_use]
pub fn manifests() -> String {
    let image = format!("image: {OPERATOR_IMAGE}\n          imagePullPolicy: Never");
    include_str!("../../manifests/install.yaml").replace("image: deployment-guard:0.1.0", &image)
}

/// Installs the definitions and the operator, and waits until it is ready. The class is another matter.
///
/// # Errors
/// When the API server refuses something, or the operator is not ready within a minute.
pub async fn install(cluster: &Cluster) -> Result<(), Error> {
    let server_side = ["apply", "--server-side", "-f", "-"];
    for definition in CRDS {
        cluster.kubectl_with(&server_side, definition).await?;
    }
    cluster.kubectl_with(&server_side, &manifests()).await?;
    let ready = ["-n", "deployment-guard", "rollout", "status", "deployment/deployment-guard", "--timeout=60s"];
    cluster.kubectl(&ready).await.map(|_| ())
}
