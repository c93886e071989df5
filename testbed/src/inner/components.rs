//! What the cluster consists of: each component's command line and configuration file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{image_registry, nodes, prometheus};
use crate::images::PAUSE_IMAGE;
use crate::outer::Options;

/// One process of the cluster.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its name: of the program, of the log, in messages.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

const ETCD: &str = "--data-dir=@DIR@/etcd --unsafe-no-fsync --listen-client-urls=http://127.0.0.1:2379 \
    --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380 --log-level=warn";

const API_SERVER: &str = "--etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --advertise-address=10.244.0.1 \
    --secure-port=6443 --cert-dir=@DIR@/pki --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=@DIR@/pki/sa.pub --service-account-signing-key-file=@DIR@/pki/sa.key \
    --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=RBAC --token-auth-file=@DIR@/pki/tokens.csv \
    --allow-privileged=true --kubelet-preferred-address-types=InternalIP";

const CONTROLLERS: &str = "--kubeconfig=@DIR@/kubeconfig --bind-address=127.0.0.1 --cert-dir=@DIR@/pki/controllers \
    --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 \
    --service-account-private-key-file=@DIR@/pki/sa.key --root-ca-file=@DIR@/pki/apiserver.crt";

const SCHEDULER: &str = "--kubeconfig=@DIR@/kubeconfig --bind-address=127.0.0.1 --cert-dir=@DIR@/pki/scheduler \
    --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000";

/// A node whose kubelet is silent for this long is lost. Only with a second node to lose: kubelets report more often then.
const LOSE_NODES: &str = " --node-monitor-period=1s --node-monitor-grace-period=12s";

const KWOK: &str = "--kubeconfig=@DIR@/kubeconfig --config=@DIR@/kwok-stages.yaml --manage-all-nodes=false \
    --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake --node-lease-duration-seconds=@LEASE@ \
    --cidr=10.200.0.1/16 --node-ip=10.244.0.1";

/// Flux's controller that applies what lies in Git; its command line.
pub const KUSTOMIZE_CONTROLLER: &str = "kustomize-controller";
/// Where it says that it runs.
pub const FLUX_HEALTH: &str = "10.244.0.1:9440";

const FLUX: &str = "--watch-all-namespaces=true --metrics-addr=0 \
    --health-addr=10.244.0.1:9440 --events-addr= --http-retry=2 --requeue-dependency=2s --log-level=info";

/// Every component, also those that are started only on demand: kwok, the image registry, Flux.
///
/// # Errors
/// When an option cannot be used.
pub fn all(dir: &Path, options: &Options) -> Result<Vec<Component>> {
    // Nodes of kwok renew their leases four times in that time, which must be often enough for the controllers.
    let (lose, lease) = if options.nodes > 1 { (LOSE_NODES, "24") } else { ("", "40") };
    let (controllers, kwok) = (format!("{CONTROLLERS}{lose}"), KWOK.replace("@LEASE@", lease));
    let fixed = [
        ("etcd", ETCD),
        ("kube-apiserver", API_SERVER),
        ("kube-controller-manager", &controllers),
        ("kube-scheduler", SCHEDULER),
        ("kube-proxy", "--config=@DIR@/kube-proxy.yaml"),
        ("coredns", "-conf @DIR@/Corefile"),
        ("kwok", &kwok),
        (KUSTOMIZE_CONTROLLER, FLUX),
    ];
    let mut all = prometheus::components(dir, options.prometheus_replicas, &options.scrape_interval)?;
    all.push(image_registry::component(dir, &options.images));
    all.extend(nodes::nodes(dir, options.nodes).iter().flat_map(nodes::Node::components));
    all.extend(fixed.into_iter().map(|(name, arguments)| Component {
        name,
        program: dir.join("bin").join(name),
        arguments:
            arguments.split_whitespace().map(|argument| argument.replace("@DIR@", &dir.to_string_lossy())).collect(),
    }));
    Ok(all)
}

/// Writes every configuration file and the keys.
///
/// # Errors
/// When the work folder cannot be written.
pub fn configure(dir: &Path, options: &Options) -> Result<()> {
    let token = new_token()?;
    let cgroup = dir.file_name().context("the work folder has no name")?.to_string_lossy().into_owned();
    let nodes = nodes::nodes(dir, options.nodes);
    let kubelets: Vec<String> = nodes.iter().map(|node| format!("\"{}:10250\"", node.address)).collect();
    let fill = |template: &str| {
        template
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@PAUSE@", PAUSE_IMAGE)
            .replace("@KUBELETS@", &kubelets.join(", "))
            .replace("@SCRAPE@", &options.scrape_interval)
            .replace("@TOKEN@", &token)
    };
    let files = [
        ("cni/10-bridge.conflist", include_str!("../../templates/cni.conflist")),
        ("kube-proxy.yaml", include_str!("../../templates/kube-proxy.yaml")),
        ("Corefile", include_str!("../../templates/Corefile")),
        ("kubeconfig", include_str!("../../templates/kubeconfig.yaml")),
        ("services.yaml", include_str!("../../templates/services.yaml")),
        ("kwok-stages.yaml", include_str!("../../templates/kwok-stages.yaml")),
    ];
    for (name, template) in files {
        fs::write(dir.join(name), fill(template)).with_context(|| format!("cannot write {name}"))?;
    }
    image_registry::configure(dir).context("cannot configure the image registry")?;
    nodes
        .iter()
        .try_for_each(|node| node.configure(&cgroup, nodes.len(), fill))
        .context("cannot configure the nodes")?;
    for (name, template) in prometheus::files(options.prometheus_replicas) {
        fs::write(dir.join(&name), fill(&template)).with_context(|| format!("cannot write {name}"))?;
    }
    fs::write(dir.join("pki/tokens.csv"), format!("{token},admin,admin,\"system:masters\"\n"))?;
    service_account_keys(&dir.join("pki"))
}

fn new_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("the machine gives no random numbers"))?;
    Ok(hex::encode(bytes))
}

/// The keys that sign and check the tokens of service accounts.
fn service_account_keys(pki: &Path) -> Result<()> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| anyhow!("cannot make a key"))?;
    let private = key.to_pkcs8v1().map_err(|_| anyhow!("cannot write a key"))?;
    let public: PublicKeyX509Der = key.public_key().as_der().map_err(|_| anyhow!("cannot write a key"))?;
    fs::write(pki.join("sa.key"), pem("PRIVATE KEY", private.as_ref()))?;
    fs::write(pki.join("sa.pub"), pem("PUBLIC KEY", public.as_ref()))?;
    Ok(())
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}
