//! `deployment-guard list`: the guards of a namespace, or of all.
//!
//! Role: reads guards page by page and prints each page's share at once, or a few words of each as a table. Inputs: the
//! cluster. Outputs: a table, JSON or YAML; 0 if listed, 2 without the right, 4 without an API server. Must never import: `console`.

use std::process::ExitCode;

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;

use super::cluster::{self, Cluster, Failure, Trouble};
use super::guards::{self, Output, PAGE, Place};
use super::screen::list::{Row, screen};
use super::status::said;
use super::terminal::{Terminal, write};

/// List guards: what they guard, what they may do, how it stands.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Guards of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// How to print it; JSON and YAML are a List of the guards themselves.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    cluster::run(list(arguments))?.or_else(Failure::report)
}

async fn list(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let cluster = arguments.place.connect().await?;
    match arguments.output {
        Output::Text => table(&cluster, arguments.all_namespaces).await,
        Output::Json | Output::Yaml => whole(&cluster, arguments).await,
    }
}

async fn table(cluster: &Cluster, all: bool) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    let mut pages = Pages::new(cluster, all);
    while let Some(page) = pages.next().await? {
        let now = Timestamp::now();
        for guard in &page {
            rows.push(Row::of(&guards::raw(guard)?, now));
        }
    }
    if rows.is_empty() {
        if !all && guards::namespace_is_missing(cluster).await {
            let place = &cluster.namespace;
            return Err(Failure::Refused(format!(
                "there is no namespace {place}; -A lists the guards of all namespaces"
            )));
        }
        super::terminal::note(&nothing(cluster, all));
        return Ok(ExitCode::SUCCESS);
    }
    said(&screen(&rows, all, Terminal::of_table()))
}

fn nothing(cluster: &Cluster, all: bool) -> String {
    if all {
        "There is no guard; docs/getting-started.md writes the first one.".to_owned()
    } else {
        format!("There is no guard in namespace {}; -A lists those of all namespaces.", cluster.namespace)
    }
}

/// A List, written as its pages arrive: never more than one page is held.
async fn whole(cluster: &Cluster, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let yaml = arguments.output == Output::Yaml;
    let mut pages = Pages::new(cluster, arguments.all_namespaces);
    let head =
        if yaml { "apiVersion: v1\nkind: List\nitems:" } else { r#"{"apiVersion": "v1", "kind": "List", "items": ["# };
    let mut first = true;
    while let Some(page) = pages.next().await? {
        for guard in &page {
            let before = match (first, yaml) {
                (true, _) => format!("{head}\n"),
                (false, true) => String::new(),
                (false, false) => ",\n".to_owned(),
            };
            first = false;
            said(&format!("{before}{}", item(&guards::raw(guard)?, arguments.output)?))?;
        }
    }
    let tail = match (first, yaml) {
        (true, true) => format!("{head} []\n"),
        (true, false) => format!("{head}]}}\n"),
        (false, true) => String::new(),
        (false, false) => "\n]}\n".to_owned(),
    };
    write(&tail).map_err(|error| Failure::Refused(format!("cannot write: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// One guard as an item of a List.
fn item(guard: &Value, output: Output) -> Result<String, Failure> {
    let text = output.of(guard)?.unwrap_or_default();
    if output == Output::Json {
        return Ok(text.trim_end().to_owned());
    }
    let indented = text.lines().enumerate().map(|(at, line)| match (at, line) {
        (0, line) => format!("- {line}\n"),
        (_, "") => "\n".to_owned(),
        (_, line) => format!("  {line}\n"),
    });
    Ok(indented.collect())
}

/// Guards, page by page.
struct Pages<'a> {
    cluster: &'a Cluster,
    all: bool,
    /// Where the next page begins; none when there is none.
    next: Option<String>,
    begun: bool,
}

impl<'a> Pages<'a> {
    const fn new(cluster: &'a Cluster, all: bool) -> Self {
        Self { cluster, all, next: None, begun: false }
    }

    async fn next(&mut self) -> Result<Option<Vec<DynamicObject>>, Failure> {
        let token = self.next.take();
        if self.begun && token.is_none() {
            return Ok(None);
        }
        self.begun = true;
        let namespace = Some(self.cluster.namespace.as_str()).filter(|_| !self.all);
        let mut params = ListParams::default().limit(PAGE);
        if let Some(token) = &token {
            params = params.continue_token(token);
        }
        let page = self.cluster.ask(guards::api(self.cluster, namespace).list(&params)).await;
        let page = page.map_err(|trouble| self.failed(trouble))?;
        self.next = page.metadata.continue_.filter(|token| !token.is_empty());
        Ok(Some(page.items))
    }

    fn failed(&self, trouble: Trouble) -> Failure {
        match &trouble {
            Trouble::Said(status) if status.code == 410 => {
                Failure::refused("the guards changed too much while they were read; run it again")
            }
            _ if self.all => self.cluster.failed_for_guards(trouble, "list the guards of all namespaces"),
            _ => {
                let what = format!("list the guards of namespace {}", self.cluster.namespace);
                self.cluster.failed_for_guards(trouble, &what)
            }
        }
    }
}
