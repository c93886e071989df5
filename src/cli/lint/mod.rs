//! `deployment-guard lint -f FILE…`: what is wrong with manifests, before anything is applied.
//!
//! Role: says what the API server would refuse or drop, and what would make a guard `Ready=False`. Inputs: files, or
//! standard input; no cluster. Outputs: one line a finding; 0 without one, 2 with one. Must never import: `console`.

mod schema;

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use self::schema::{Wrong, instead, wrong};
use super::explain::plain;
use crate::api::class::GuardClassSpec;
use crate::api::parse::{self, InvalidSpec};
use crate::api::{DEFAULT_CLASS_ANNOTATION, DeploymentGuard, GuardClass, crd};

const GROUP: &str = "deploymentguard.dev";
/// Objects that belong to a guard are named after it.
const LONGEST_NAME: usize = 200;

/// Say what is wrong with manifests of guards and classes, without a cluster. Other kinds are left alone.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files with YAML or JSON, of several documents each; `-` is standard input.
    #[arg(short = 'f', long = "filename", required = true, num_args = 1.., value_name = "FILE")]
    files: Vec<String>,
}

/// What every object has.
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// A document of one of our kinds.
#[derive(Debug)]
struct Document {
    file: usize,
    number: usize,
    value: Value,
}

/// Everything that was found, with the place in the files and in them.
#[derive(Debug, Default)]
struct Report {
    found: Vec<((usize, usize), String)>,
    seen: usize,
}

/// Reads and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for name in &arguments.files {
        let text = if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            text
        } else {
            std::fs::read_to_string(name).with_context(|| format!("{name} cannot be read"))?
        };
        files.push((name.clone(), text));
    }
    let report = lint(&files);
    let lines: Vec<String> = report.found.iter().map(|(_, line)| format!("{line}\n")).collect();
    super::terminal::write(&lines.concat())?;
    if report.seen == 0 && report.found.is_empty() {
        super::terminal::note(&format!(
            "there is no DeploymentGuard and no GuardClass in {}",
            arguments.files.join(", ")
        ));
    }
    Ok(if report.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::USAGE) })
}

fn lint(files: &[(String, String)]) -> Report {
    let mut report = Report::default();
    let mut documents = Vec::new();
    for (file, (name, text)) in files.iter().enumerate() {
        documents.extend(in_text((file, name), text, &mut report));
    }
    report.seen = documents.len();
    let classes: Vec<GuardClass> = documents
        .iter()
        .filter(|document| document.value["kind"] == "GuardClass")
        .filter_map(|document| serde_json::from_value(document.value.clone()).ok())
        .collect();
    for document in &documents {
        let name = files.get(document.file).map_or("", |(name, _)| name.as_str());
        for found in look(&document.value, &classes) {
            report.say((document.file, name), document.number, &found);
        }
    }
    report.found.sort_by_key(|(place, _)| *place);
    report
}

impl Report {
    fn say(&mut self, (file, name): (usize, &str), number: usize, found: &Wrong) {
        let Wrong { field, what, cure } = found;
        let cure = if cure.is_empty() { String::new() } else { format!(": {cure}") };
        self.found.push(((file, number), plain::line(&format!("{name}:{number} {field}: {what}{cure}"))));
    }
}

/// The documents of our kinds in a text; what is no YAML is told at once.
fn in_text(file: (usize, &str), text: &str, report: &mut Report) -> Vec<Document> {
    let mut chunks: Vec<String> = vec![String::new()];
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        // At the beginning of a line this always begins another document.
        if line == "---" || line.starts_with("--- ") {
            chunks.push(line.get(3..).unwrap_or_default().to_owned());
        } else if let Some(last) = chunks.last_mut() {
            last.push_str(line);
        }
        if let Some(last) = chunks.last_mut() {
            last.push('\n');
        }
    }
    let empty = |chunk: &String| chunk.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'));
    let begin = usize::from(chunks.first().is_some_and(empty));
    let mut found = Vec::new();
    for (index, chunk) in chunks.iter().skip(begin).enumerate() {
        let number = index + 1;
        if empty(chunk) {
            continue;
        }
        match serde_saphyr::from_str::<Value>(chunk) {
            Ok(value) => found.extend(ours(value).map(|value| Document { file: file.0, number, value })),
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                report.say(file, number, &wrong("document", "is no YAML", first));
            }
        }
    }
    found
}

/// A document of our group, or those in a list.
fn ours(value: Value) -> impl Iterator<Item = Value> {
    let items = match value["kind"].as_str() {
        Some("List") => value["items"].as_array().cloned().unwrap_or_default(),
        _ => vec![value],
    };
    items.into_iter().filter(|item| {
        let group = item["apiVersion"].as_str().and_then(|version| version.split('/').next());
        group == Some(GROUP) || matches!(item["kind"].as_str(), Some("DeploymentGuard" | "GuardClass"))
    })
}

/// What is wrong with one object: first by the schema, and if that has nothing to say, by what it means.
fn look(value: &Value, classes: &[GuardClass]) -> Vec<Wrong> {
    let definitions = crd::all();
    let kinds: Vec<&str> = definitions.iter().map(|known| known.spec.names.kind.as_str()).collect();
    let kind = value["kind"].as_str().unwrap_or_default();
    let Some(definition) = definitions.iter().find(|known| known.spec.names.kind == kind) else {
        return vec![wrong("kind", format!("is {kind:?}, which {GROUP} does not have"), instead(kind, &kinds))];
    };
    let wanted = format!("{GROUP}/v1alpha1");
    if value["apiVersion"] != wanted.as_str() {
        return vec![wrong("apiVersion", format!("is {}", value["apiVersion"]), format!("write {wanted}"))];
    }
    let mut found = Vec::new();
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        found.push(wrong("metadata.name", "is missing", "every object has a name"));
    } else if kind == "DeploymentGuard" && name.len() > LONGEST_NAME {
        let cure = format!("{LONGEST_NAME} at most, because objects that belong to the guard are named after it");
        found.push(wrong("metadata.name", format!("has {} characters", name.len()), cure));
    }
    let schema = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap_or_default();
    let schema = &schema["openAPIV3Schema"];
    for field in value.as_object().into_iter().flat_map(|fields| fields.keys()) {
        if !FIELDS.contains(&field.as_str()) {
            found.push(wrong(field, "is no field that there is", instead(field, &FIELDS)));
        }
    }
    // What stands in status is the operator's.
    match value.get("spec") {
        Some(spec) if !spec.is_null() => schema::check(&schema["properties"]["spec"], spec, "spec", &mut found),
        _ => found.push(wrong("spec", "is missing", "it is required")),
    }
    if !found.is_empty() {
        return found;
    }
    match kind {
        "GuardClass" => class(value),
        _ => guard(value, classes),
    }
}

fn class(value: &Value) -> Vec<Wrong> {
    match serde_json::from_value::<GuardClass>(value.clone()) {
        Ok(class) => parse::class(&class.spec).into_iter().map(of).collect(),
        Err(error) => vec![wrong("spec", "cannot be read", error.to_string())],
    }
}

fn guard(value: &Value, classes: &[GuardClass]) -> Vec<Wrong> {
    let guard: DeploymentGuard = match serde_json::from_value(value.clone()) {
        Ok(guard) => guard,
        Err(error) => return vec![wrong("spec", "cannot be read", error.to_string())],
    };
    let named = |class: &&GuardClass| guard.spec.class_name.is_some() && class.metadata.name == guard.spec.class_name;
    let default = |class: &&GuardClass| {
        let annotations = class.metadata.annotations.as_ref();
        let value = annotations.and_then(|all| all.get(DEFAULT_CLASS_ANNOTATION));
        guard.spec.class_name.is_none() && value.is_some_and(|value| value == "true")
    };
    let class = classes.iter().find(|class| named(class) || default(class));
    if let (None, Some(name), false) = (class, &guard.spec.class_name, classes.is_empty()) {
        let known: Vec<&str> = classes.iter().filter_map(|class| class.metadata.name.as_deref()).collect();
        let what = format!("is {name:?}, and none of the classes in these files is called so");
        return vec![wrong("spec.className", what, instead(name, &known))];
    }
    let Some(spec) = class.map(|class| class.spec.clone()).or_else(|| any_class(&guard)) else { return Vec::new() };
    parse::policy(&guard.spec, &spec).err().map(of).into_iter().collect()
}

/// A class that has whatever a guard names: nothing can be said about one that is not there.
fn any_class(guard: &DeploymentGuard) -> Option<GuardClassSpec> {
    let chain = guard.spec.decision.chain.iter().filter(|name| *name != "algorithm");
    let providers: Vec<Value> = chain.map(|name| json!({"name": name, "kind": "openai", "model": "any"})).collect();
    serde_json::from_value(json!({"prometheus": {"url": "http://any"}, "providers": providers})).ok()
}

/// The sentence of the operator: what is wrong stands before the semicolon, the cure after it.
fn of(error: InvalidSpec) -> Wrong {
    let (what, cure) = error.problem.split_once("; ").unwrap_or((&error.problem, ""));
    wrong(&format!("spec.{}", error.field), what, cure)
}

#[cfg(test)]
mod tests;
