//! The servers that answer at the address of Prometheus: one, or several that are asked in turn and scrape at different
//! moments. Input: how many, how often. Output: components and configuration files.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::components::Component;
use super::network::NODE;

/// Where clients ask, however many servers there are.
const PORT: u16 = 9090;
/// Clients ask this component.
pub const NAME: &str = "prometheus";
/// Names of the servers when there are several.
const REPLICAS: [&str; 2] = ["prometheus-1", "prometheus-2"];

const ARGUMENTS: &str = "--config.file=@DIR@/@NAME@.yaml --storage.tsdb.path=@DIR@/@NAME@ \
    --storage.tsdb.retention.time=12h --web.listen-address=@ADDRESS@ --scrape.discovery-reload-interval=@RELOAD@ \
    --log.level=warn";

/// One Prometheus with its own storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name: of the log, of the folder, in messages.
    pub name: &'static str,
    /// Where it listens.
    pub address: String,
}

/// The servers. A single one listens at the address itself.
#[must_use]
pub fn servers(replicas: u16) -> Vec<Server> {
    if replicas <= 1 {
        return vec![Server { name: NAME, address: address() }];
    }
    let ports = PORT + 1..;
    let named = REPLICAS.into_iter().zip(ports).take(usize::from(replicas));
    named.map(|(name, port)| Server { name, address: format!("{NODE}:{port}") }).collect()
}

/// Where clients ask.
#[must_use]
pub fn address() -> String {
    format!("{NODE}:{PORT}")
}

/// Every process that is needed; with several servers also the one that asks them in turn.
///
/// # Errors
/// When the scrape interval is no duration.
pub fn components(dir: &Path, replicas: u16, scrape_interval: &str) -> Result<Vec<Component>> {
    let servers = servers(replicas);
    let reload = reload_interval(scrape_interval)?;
    let component = |server: &Server| Component {
        name: server.name,
        program: dir.join("bin/prometheus"),
        arguments: ARGUMENTS
            .split_whitespace()
            .map(|argument| fill(argument, server).replace("@RELOAD@", &reload))
            .map(|argument| argument.replace("@DIR@", &dir.to_string_lossy()))
            .collect(),
    };
    let mut all: Vec<Component> = servers.iter().map(component).collect();
    if servers.len() > 1 {
        let mut arguments = vec!["in-turn".to_owned(), address()];
        arguments.extend(servers.into_iter().map(|server| server.address));
        all.push(Component { name: NAME, program: dir.join("bin/testbed"), arguments });
    }
    Ok(all)
}

/// The configuration of each server with the name of its file. Their labels differ, because the moments of the scrapes
/// are computed from them.
#[must_use]
pub fn files(replicas: u16) -> Vec<(String, String)> {
    let template = include_str!("../../templates/prometheus.yaml");
    servers(replicas).iter().map(|server| (format!("{}.yaml", server.name), fill(template, server))).collect()
}

fn fill(text: &str, server: &Server) -> String {
    text.replace("@NAME@", server.name).replace("@ADDRESS@", &server.address)
}

/// Prometheus takes up new pods every 5 s unless told otherwise, which is long beside scrapes of a second.
fn reload_interval(scrape_interval: &str) -> Result<String> {
    let interval: jiff::SignedDuration =
        scrape_interval.parse().with_context(|| format!("the scrape interval {scrape_interval:?} is no duration"))?;
    let interval = interval.clamp(jiff::SignedDuration::from_secs(1), jiff::SignedDuration::from_secs(5));
    Ok(format!("{}ms", Duration::try_from(interval)?.as_millis()))
}

/// Checks a scrape interval as the command line gives it.
///
/// # Errors
/// With one sentence, when it is no duration.
pub fn parse_interval(text: &str) -> Result<String, String> {
    reload_interval(text).map(|_| text.to_owned()).map_err(|_| "must be a duration such as 1s or 500ms".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn new_pods_are_taken_up_as_often_as_pods_are_scraped_but_never_later_than_by_default() {
        let intervals = ["500ms", "1s", "2s", "5s", "15s", "1m"];
        let reloads = intervals.map(|interval| reload_interval(interval).unwrap());
        assert_eq!(reloads, ["1000ms", "1000ms", "2000ms", "5000ms", "5000ms", "5000ms"]);
        assert!(parse_interval("often").is_err());
    }

    #[test]
    fn one_server_listens_at_the_address_and_two_behind_it() {
        let dir = Path::new("/work-folder");
        let one = components(dir, 1, "1s").unwrap();
        assert_eq!(one.iter().map(|component| component.name).collect::<Vec<_>>(), [NAME]);
        assert!(one[0].arguments.contains(&"--web.listen-address=10.244.0.1:9090".to_owned()));
        let two = components(dir, 2, "1s").unwrap();
        assert_eq!(two.iter().map(|part| part.name).collect::<Vec<_>>(), ["prometheus-1", "prometheus-2", NAME]);
        assert_eq!(two[2].arguments, ["in-turn", "10.244.0.1:9090", "10.244.0.1:9091", "10.244.0.1:9092"]);
        assert!(two[1].arguments.contains(&"--storage.tsdb.path=/work-folder/prometheus-2".to_owned()));
    }
}
