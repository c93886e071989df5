//! The real Prometheus, as the testbed builds it, on a port of this machine.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes every target once a second.
    pub fn start((address, targets): &(SocketAddr, Vec<(String, String)>)) -> Self {
        let program =
            testbed::build::built_program("prometheus").expect("Prometheus is not built yet: run `make testbed`");
        let folder = tempfile::tempdir().unwrap();
        let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n\
                          - job_name: pods\n  honor_labels: true\n  static_configs:\n"
            .to_owned();
        let (renamed, kept): (Vec<_>, Vec<_>) = targets.iter().partition(|(space, _)| space.ends_with("-renamed"));
        for (namespace, pod) in kept {
            let path = format!("/{namespace}/{pod}");
            let own = format!("instance: {namespace}-{pod}, namespace: {namespace}, pod: {pod}");
            let _ = writeln!(config, "  - targets: ['{address}']\n    labels: {{__metrics_path__: {path}, {own}}}");
        }
        // Labels of a target of its own, as the Prometheus Operator gives them, and those of the exporter are renamed.
        config.push_str("- job_name: renamed\n  static_configs:\n");
        for (namespace, pod) in renamed {
            let path = format!("/{namespace}/{pod}");
            let own = format!("instance: {namespace}-{pod}, namespace: ingress-nginx, pod: {pod}, service: metrics");
            let _ = writeln!(config, "  - targets: ['{address}']\n    labels: {{__metrics_path__: {path}, {own}}}");
        }
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={port}"))
            .arg("--log.level=warn")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Self { child, address: port, folder };
        let end = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(started.address).is_err() {
            assert!(Instant::now() < end, "Prometheus does not listen: {}", started.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        started
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
