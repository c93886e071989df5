//! What is applied: the installation as a user has it, the shop and its guard.

use testbed::images::OPERATOR_IMAGE;
use testbed::shop::{Load, Shop};

/// Where the demo plays.
pub const NAMESPACE: &str = "demo";
/// Requests per second.
pub const RATE: u32 = 100;
/// The load ends by itself, whatever becomes of the demo.
const LOAD_SECONDS: u32 = 1800;

/// The class as in the examples.
pub const CLASS: &str = include_str!("../../../../manifests/examples/class.yaml");
/// The definitions.
pub const CRDS: [&str; 2] = [
    include_str!("../../../../crds/deploymentguards.deploymentguard.dev.yaml"),
    include_str!("../../../../crds/guardclasses.deploymentguard.dev.yaml"),
];
/// The guard: five lines of spec and a hurry.
pub const GUARD: &str = "apiVersion: deploymentguard.dev/v1alpha1
kind: DeploymentGuard
metadata: {name: shop}
spec:
  targetRef: {kind: Deployment, name: shop}
  mode: Enforce
  analysis: {interval: 5s, warmup: 10s, window: 1m}
";

/// A release of the shop.
pub fn shop(version: &str) -> Shop {
    Shop::new(NAMESPACE, "shop").version(version)
}

/// The clients.
pub fn load() -> Load {
    let target = format!("http://shop.{NAMESPACE}/");
    Load { name: "load".into(), namespace: NAMESPACE.into(), target, rate: RATE, duration_s: LOAD_SECONDS }
}

/// The installation. The only difference to a user's: the image comes from this checkout, not from a registry.
pub fn install() -> String {
    let image = format!("image: {OPERATOR_IMAGE}\n          imagePullPolicy: Never");
    include_str!("../../../../manifests/install.yaml").replace("image: deployment-guard:0.1.0", &image)
}
