//! The command line: `testbed build | run | up | down | shell | kubectl | …`.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::build::Extra;
use crate::inner::{components, control, image_registry, nodes, prometheus, supervisor, turns};
use crate::need::Missing;
use crate::outer::Options;
use crate::{build, cache, images, inner, need, outer, registry};

/// A real Kubernetes in private namespaces of this machine, built from source, gone without a trace.
#[derive(Debug, Parser)]
#[command(name = "testbed", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build every component into the cache; what is there already is not built again
    Build {
        /// Build these too; some tests need them
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        with: Vec<Extra>,
        /// Build these and nothing else; tests that need no cluster need them
        #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with = "with")]
        only: Vec<Extra>,
    },
    /// Print where a program of `build --with` or `--only` is; it is not built now
    Program {
        /// Such as helm
        name: Extra,
    },
    /// Build the images of the operator and of the testbed's programs into the cache
    Images {
        /// The operator with fail points too, for the tests that have it die at a chosen step
        #[arg(long)]
        failpoints: bool,
    },
    /// Start a cluster, run a command in it, end it; exits as the command does
    Run {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Leave the cluster up when the command has ended
        #[arg(long)]
        keep: bool,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Start a cluster and leave it running
    Up(ClusterArgs),
    /// End the cluster that `up` started
    Down,
    /// Open a shell in the running cluster
    Shell,
    /// Run a command in the running cluster
    Exec {
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run kubectl in the running cluster
    Kubectl {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stop or start Prometheus
    Prometheus {
        /// What to do
        action: Action,
    },
    /// Stop, start or restart the API server
    Apiserver {
        /// What to do
        action: Action,
    },
    /// Stop, start or restart the image registry, which is not started before it is asked for
    Registry {
        /// What to do
        action: Action,
    },
    /// Stop, start or restart Flux's kustomize-controller, which is not started before it is asked for
    Flux {
        /// What to do
        action: Action,
    },
    /// Lose the second node of `--nodes 2`, or get it back
    SecondNode {
        /// What to do
        action: Action,
    },
    /// Nodes that exist only in the API, for scale
    Kwok {
        /// What to do
        action: KwokAction,
        /// How many nodes
        #[arg(long, default_value_t = 10)]
        nodes: u32,
    },
    /// Import image archives into the running cluster
    LoadImage {
        /// The archives
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    #[command(hide = true)]
    Stay(ClusterArgs),
    #[command(hide = true)]
    InTurn { listen: SocketAddr, servers: Vec<SocketAddr> },
    #[command(hide = true)]
    ImageRegistry { listen: SocketAddr, archives: Vec<PathBuf> },
    #[command(hide = true)]
    EnterNamespaces(InsideArgs),
    #[command(hide = true)]
    FirstProcess(InsideArgs),
    #[command(hide = true)]
    Supervise(InsideArgs),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Action {
    Stop,
    Start,
    Restart,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KwokAction {
    Start,
    Stop,
}

#[derive(Debug, Args)]
struct ClusterArgs {
    /// Import this image archive; may be repeated
    #[arg(long = "image", value_name = "FILE", env = "TESTBED_IMAGES", value_delimiter = ':')]
    images: Vec<PathBuf>,
    /// Start without the images in the cache
    #[arg(long)]
    no_images: bool,
    /// How often Prometheus scrapes
    #[arg(long, default_value = "1s", value_parser = prometheus::parse_interval)]
    scrape_interval: String,
    /// How many independent Prometheus servers answer in turn behind the one address
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2))]
    prometheus_replicas: u16,
    /// How many nodes really run containers; pods reach the second only if they tolerate the taint `testbed/second-node`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2))]
    nodes: u16,
    /// Build these first if they are not in the cache; what is there is in every cluster
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    with: Vec<Extra>,
}

#[derive(Debug, Args)]
struct InsideArgs {
    dir: PathBuf,
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the command line and turns errors into one line and an exit code.
#[must_use]
pub fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::from(if error.is::<Missing>() { 2 } else { outer::FAILED })
        }
    }
}

fn start(task: Task) -> Result<u8> {
    match task {
        Task::EnterNamespaces(inside) => outer::enter(&inside.dir, &inside.command).map(|()| 0),
        Task::FirstProcess(inside) => inner::first_process(&inside.dir, &inside.command),
        // One thread: what ends with the thread that started it ends with the process.
        other => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(perform(other)),
    }
}

async fn perform(task: Task) -> Result<u8> {
    match task {
        Task::Build { with, only } => {
            if only.is_empty() {
                build::ensure(&with).await?
            } else {
                build::ensure_only(&only).await?
            };
            Ok(0)
        }
        Task::Program { name } => {
            let word = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let file =
                build::built(name).with_context(|| format!("{word} is not built: testbed build --only {word}"))?;
            println!("{}", file.display());
            Ok(0)
        }
        Task::Images { failpoints } => build_images(failpoints).await,
        Task::Run { cluster, keep: false, command } => run(cluster, false, &command).await,
        Task::Run { cluster, keep: true, command } => run_and_keep(cluster, &command).await,
        Task::Stay(cluster) => {
            nix::unistd::setsid()?;
            run(cluster, true, &[]).await
        }
        Task::Up(cluster) => up(cluster).await,
        Task::Down => down(),
        Task::Shell => enter(&[env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())]),
        Task::Exec { command } => enter(&command),
        Task::Kubectl { arguments } => enter(&[vec!["kubectl".to_owned()], arguments].concat()),
        Task::Prometheus { action } => ask(&component_request(action, "prometheus")).await,
        Task::Apiserver { action } => ask(&component_request(action, "kube-apiserver")).await,
        Task::Registry { action } => ask(&component_request(action, image_registry::NAME)).await,
        Task::Flux { action } => ask(&component_request(action, components::KUSTOMIZE_CONTROLLER)).await,
        Task::SecondNode { action } => second_node(action).await,
        Task::Kwok { action: KwokAction::Start, nodes } => ask(&format!("kwok {nodes}")).await,
        Task::Kwok { action: KwokAction::Stop, .. } => ask("stop kwok").await,
        Task::LoadImage { files } => load_images(&files).await,
        Task::Supervise(inside) => supervisor::supervise(&inside.dir, &inside.command).await,
        Task::InTurn { listen, servers } => turns::serve(listen, servers).await.map(|()| 0),
        Task::ImageRegistry { listen, archives } => image_registry::serve(listen, &archives).await.map(|()| 0),
        Task::EnterNamespaces(_) | Task::FirstProcess(_) => bail!("not to be called here"),
    }
}

async fn build_images(failpoints: bool) -> Result<u8> {
    let folder = images_dir()?;
    let _lock = build::lock(&folder).await?;
    images::build_all(&folder)?;
    images::build_operator(&folder)?;
    if failpoints {
        images::build_failpoints(&folder)?;
    }
    Ok(0)
}

async fn run_and_keep(cluster: ClusterArgs, command: &[String]) -> Result<u8> {
    if let Some(up) = registry::open_cluster() {
        let dir = up.dir.display();
        bail!("a cluster is up already ({dir}), end it with `testbed down`");
    }
    up(cluster).await?;
    let code = enter(command)?;
    // The command may have said a lot since.
    if let Some(up) = registry::open_cluster() {
        say_how_to_use(&up.dir);
    }
    Ok(code)
}

/// What a person types next, as they would have to type it here.
fn say_how_to_use(dir: &Path) {
    let program = env::args().next().unwrap_or_else(|| "testbed".to_owned());
    println!("the cluster is up in {}", dir.display());
    println!("  {program} kubectl get pods -A    one command of kubectl");
    println!("  {program} shell                  a shell with KUBECONFIG and PROMETHEUS_URL set");
    println!("  {program} down                   end it");
}

fn down() -> Result<u8> {
    let said = if outer::down()? { "the cluster is down" } else { "no cluster is up" };
    registry::sweep();
    println!("{said}");
    Ok(0)
}

async fn load_images(files: &[PathBuf]) -> Result<u8> {
    for file in files {
        let file = file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?;
        ask(&format!("import {}", file.display())).await?;
    }
    Ok(0)
}

/// A node is lost with its kubelet; it comes back with its containerd first.
async fn second_node(action: Action) -> Result<u8> {
    let stops = !matches!(action, Action::Start);
    let starts = !matches!(action, Action::Stop);
    if stops {
        ask(&format!("stop {}", nodes::SECOND_KUBELET)).await?;
        ask(&format!("stop {}", nodes::SECOND_CONTAINERD)).await?;
    }
    if starts {
        ask(&format!("start {}", nodes::SECOND_CONTAINERD)).await?;
        ask(&format!("start {}", nodes::SECOND_KUBELET)).await?;
    }
    Ok(0)
}

fn component_request(action: Action, component: &str) -> String {
    let action = match action {
        Action::Stop => "stop",
        Action::Start => "start",
        Action::Restart => "restart",
    };
    format!("{action} {component}")
}

async fn run(args: ClusterArgs, open: bool, command: &[String]) -> Result<u8> {
    need::cluster(&need::search_path(), nix::unistd::geteuid().is_root())?;
    registry::sweep();
    let programs = build::ensure(&args.with).await?;
    let options = options(args, open).await?;
    outer::run(&programs, &options, command).await
}

async fn options(args: ClusterArgs, open: bool) -> Result<Options> {
    let mut archives = if args.no_images { Vec::new() } else { built_images().await? };
    for image in args.images {
        archives.push(image.canonicalize().with_context(|| format!("cannot read the image {}", image.display()))?);
    }
    Ok(Options {
        images: archives,
        scrape_interval: args.scrape_interval,
        prometheus_replicas: args.prometheus_replicas,
        nodes: args.nodes,
        open,
    })
}

fn images_dir() -> Result<PathBuf> {
    Ok(cache::root()?.join("images"))
}

/// What `testbed images` left in the cache; only without that the testbed's own images are built now. Archives appear
/// whole, so whoever finds them need not wait for a build that goes on elsewhere.
async fn built_images() -> Result<Vec<PathBuf>> {
    let folder = images_dir()?;
    if let Some(found) = archives(&folder) {
        return Ok(found);
    }
    let _lock = build::lock(&folder).await?;
    match archives(&folder) {
        Some(found) => Ok(found),
        None => images::build_all(&folder),
    }
}

/// Every archive in the cache, if the testbed's own are among them.
fn archives(folder: &Path) -> Option<Vec<PathBuf>> {
    let complete = images::NAMES.iter().all(|name| folder.join(format!("{name}.tar")).is_file());
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path());
    complete.then(|| paths.filter(|path| path.extension().is_some_and(|end| end == "tar")).collect())
}

async fn up(args: ClusterArgs) -> Result<u8> {
    need::cluster(&need::search_path(), nix::unistd::geteuid().is_root())?;
    if let Some(cluster) = registry::open_cluster() {
        println!("the cluster is up already ({})", cluster.dir.display());
        return Ok(0);
    }
    registry::sweep();
    build::ensure(&args.with).await?;
    // Built here, where the person sees it; the background process finds it done.
    let options = options(args, true).await?;
    let mut arguments = vec![
        "--no-images".to_owned(),
        format!("--scrape-interval={}", options.scrape_interval),
        format!("--prometheus-replicas={}", options.prometheus_replicas),
        format!("--nodes={}", options.nodes),
    ];
    arguments.extend(options.images.iter().map(|image| format!("--image={}", image.display())));
    let cluster = outer::up(&arguments)?;
    say_how_to_use(&cluster.dir);
    Ok(0)
}

/// The work folder of the cluster we are in, else of the one that is up.
fn current_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("TESTBED_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let cluster = registry::open_cluster().context("no cluster is up, start one with `testbed up`")?;
    Ok(cluster.dir)
}

async fn ask(request: &str) -> Result<u8> {
    control::request(&current_dir()?, request).await?;
    Ok(0)
}

/// Runs a command inside the namespaces of the cluster that is up, or right here when this is inside one.
fn enter(command: &[String]) -> Result<u8> {
    if env::var_os("TESTBED_DIR").is_some() {
        return wait_for(Command::new(&command[0]).args(&command[1..]));
    }
    let cluster = registry::open_cluster().context("no cluster is up, start one with `testbed up`")?;
    let first = outer::first_process(&cluster).context("the cluster that is up is just ending")?;
    let here = env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned());
    let mut nsenter = Command::new("nsenter");
    nsenter
        .args(["-t", &first.to_string(), "-n", "-m", "-p", "--"])
        .args(["env", "-C"])
        .arg(here)
        .args(command)
        .envs(supervisor::environment(&cluster.dir));
    wait_for(&mut nsenter)
}

fn wait_for(command: &mut Command) -> Result<u8> {
    let status = command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(outer::FAILED))
}
