//! What is applied beside the installation: the shop and its guard.

use testbed::shop::{Load, Shop};

/// Where the demo plays.
pub const NAMESPACE: &str = "demo";
/// Requests per second.
pub const RATE: u32 = 300;
/// The load ends by itself, whatever becomes of the demo.
const LOAD_SECONDS: u32 = 1800;

/// The guard: five lines of spec and a hurry.
pub const GUARD: &str = "apiVersion: deploymentguard.dev/v1alpha1
kind: DeploymentGuard
metadata: {name: shop}
spec:
  targetRef: {kind: Deployment, name: shop}
  mode: Enforce
  analysis: {warmup: 10s, window: 2m}
";

/// A guard that says no more than it must.
pub const CART_GUARD: &str = "apiVersion: deploymentguard.dev/v1alpha1
kind: DeploymentGuard
metadata: {name: cart}
spec:
  targetRef: {kind: Deployment, name: cart}
  mode: Enforce
";

/// What the crashing release of the cart prints before it ends.
pub const LAST_WORDS: &str = "Traceback (most recent call last):
  File \"/app/cart/main.py\", line 12, in <module>
    db = connect(os.environ[\"DATABASE_URL\"])
KeyError: 'DATABASE_URL'";

/// A release of the cart, which nobody measures.
pub fn cart(version: &str) -> Shop {
    Shop::new(NAMESPACE, "cart").version(version)
}

/// A release of the shop.
pub fn shop(version: &str) -> Shop {
    Shop::new(NAMESPACE, "shop").version(version)
}

/// The clients.
pub fn load() -> Load {
    let target = format!("http://shop.{NAMESPACE}/");
    Load { name: "load".into(), namespace: NAMESPACE.into(), target, rate: RATE, duration_s: LOAD_SECONDS }
}
