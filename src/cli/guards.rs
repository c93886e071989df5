//! Guards as the API server has them.
//!
//! Role: reads one or many, and says what to do about a name that leads nowhere. Inputs: a cluster, names. Outputs: raw
//! JSON, so that fields of a newer or an older version are neither missed nor in the way. Must never import: `console`.

use clap::ValueEnum;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, Failure, GUARDS, Trouble};
use super::explain::plain;
use super::terminal::note;
use crate::api::DeploymentGuard;
use crate::domain::policy::{Kind, Target};

/// Guards asked for at once.
pub(super) const PAGE: u32 = 500;
/// Names that are looked through for a suggestion.
const NAMES: u32 = 500;

/// Where a command looks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// Namespace of the guard; that of the kubeconfig if none is named.
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Context of the kubeconfig; the current one if none is named.
    #[arg(long)]
    pub(super) context: Option<String>,
}

impl Place {
    /// Connects there.
    pub(super) async fn connect(&self) -> Result<Cluster, Failure> {
        Cluster::connect(self.namespace.as_deref(), self.context.as_deref()).await
    }
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs, and readable.
    Yaml,
}

impl Output {
    /// A value for programs; nothing where text is asked for.
    pub(super) fn of(self, value: &Value) -> Result<Option<String>, Failure> {
        let unwritable = |error: &dyn std::fmt::Display| Failure::Refused(format!("this cannot be printed: {error}"));
        match self {
            Self::Text => Ok(None),
            Self::Json => {
                let text = serde_json::to_string_pretty(value).map_err(|error| unwritable(&error))?;
                Ok(Some(format!("{}\n", plain::escaped(&text))))
            }
            Self::Yaml => {
                // YAML has no escape outside quotes, so what would move a cursor is taken out.
                let text = serde_saphyr::to_string(&tame(value)).map_err(|error| unwritable(&error))?;
                Ok(Some(format!("{}\n", text.trim_end())))
            }
        }
    }
}

/// The value without characters that a terminal would obey; line ends stay.
fn tame(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(text.split('\n').map(plain::line).collect::<Vec<_>>().join("\n")),
        Value::Array(items) => items.iter().map(tame).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (plain::line(key), tame(field))).collect(),
        other => other.clone(),
    }
}

/// Guards of one namespace, or of all of them.
pub(super) fn api(cluster: &Cluster, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<DeploymentGuard>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    }
}

/// What no namespace can be called.
pub(super) fn no_namespace(name: &str) -> Option<String> {
    let fits = not_a_name(name).is_none() && !name.contains('.');
    (!fits).then(|| format!("\"{}\" is no name of a namespace", plain::line(name)))
}

/// What no guard can be called: it would lead to another address of the API server, and to a strange answer.
pub(super) fn not_a_name(name: &str) -> Option<String> {
    let of_dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !name.is_empty() && name.chars().all(of_dns) && !name.starts_with('.') {
        return None;
    }
    let cure = match name.split_once('/') {
        Some((kind, name)) if kind == "dg" || kind.starts_with("deploymentguard") => {
            format!("leave out the kind: {name}")
        }
        Some((namespace, name)) => format!("its namespace stands apart: -n {namespace} {name}"),
        None => "names have small letters, digits, - and .".to_owned(),
    };
    Some(format!("\"{}\" is no name of a guard; {}", plain::line(name), plain::line(&cure)))
}

/// One guard of the cluster's namespace.
pub(super) async fn read(cluster: &Cluster, name: &str) -> Result<Value, Failure> {
    if let Some(why) = not_a_name(name) {
        return Err(Failure::Refused(why));
    }
    match cluster.ask(api(cluster, Some(&cluster.namespace)).get(name)).await {
        Ok(guard) => raw(&guard),
        Err(trouble) => Err(missing(cluster, name, trouble).await),
    }
}

/// The same, or nothing if there is none: because of the name, or because the cluster knows no guards.
pub(super) async fn find(cluster: &Cluster, name: &str) -> Result<Option<Value>, Failure> {
    match cluster.ask(api(cluster, Some(&cluster.namespace)).get_opt(name)).await {
        Ok(found) => found.as_ref().map(raw).transpose(),
        Err(trouble) => Err(cluster.failed(trouble, &format!("read guards in namespace {}", cluster.namespace))),
    }
}

/// The guards of one workload. None, and a note, for whoever may not read guards; none in a cluster that knows no guards.
pub(super) async fn of_workload(cluster: &Cluster, target: &Target) -> Result<Vec<Value>, Failure> {
    let guards = api(cluster, Some(&cluster.namespace));
    let selected = ListParams::default().fields(&format!("spec.targetRef.name={}", target.name)).limit(NAMES);
    let mut found = cluster.ask(guards.list(&selected)).await;
    // Definitions of an older version select by no field.
    if matches!(&found, Err(Trouble::Said(status)) if status.code == 400) {
        found = cluster.ask(guards.list(&ListParams::default())).await;
    }
    match found {
        Ok(list) => {
            let guards = list.items.iter().filter_map(|guard| raw(guard).ok());
            Ok(guards.filter(|guard| self::target(guard).as_ref() == Ok(target)).collect())
        }
        Err(Trouble::Said(status)) if status.code == 404 => Ok(Vec::new()),
        Err(Trouble::Said(status)) if status.code == 403 => {
            note(&format!("note: what guards know of {target} is not used, for you may not read them"));
            Ok(Vec::new())
        }
        Err(trouble) => Err(cluster.failed(trouble, &format!("read the guards of {target}"))),
    }
}

/// The workload that a guard names.
pub(super) fn target(guard: &Value) -> Result<Target, String> {
    let read = |field: &str| guard.pointer(field).and_then(Value::as_str);
    let kind = read("/spec/targetRef/kind").unwrap_or(Kind::Deployment.name());
    let name = read("/spec/targetRef/name").ok_or("the guard names no workload in spec.targetRef")?;
    let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
    let kind = known
        .ok_or_else(|| format!("the guard's target is a {}, which this version does not know", plain::line(kind)))?;
    Ok(Target { kind, name: name.to_owned() })
}

/// An object as JSON.
pub(super) fn raw(guard: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(guard).map_err(|error| Failure::Refused(format!("the guard cannot be read: {error}")))
}

/// Why a guard cannot be read, and what to do about it.
async fn missing(cluster: &Cluster, name: &str, trouble: Trouble) -> Failure {
    let namespace = &cluster.namespace;
    match &trouble {
        // A server that knows the kind names it when an object is missing; one that does not has only a 404.
        Trouble::Said(status) if status.code == 404 => {
            if status.details.as_ref().is_none_or(|details| details.kind != GUARDS) {
                return Failure::Refused(cluster.no_kind());
            }
        }
        _ => return cluster.failed(trouble, &format!("read the guard {name} in namespace {namespace}")),
    }
    Failure::Refused(format!("there is no guard {name} in namespace {namespace}{}", elsewhere(cluster, name).await))
}

/// Where the name is, or which name was meant.
async fn elsewhere(cluster: &Cluster, name: &str) -> String {
    let params = ListParams::default().fields(&format!("metadata.name={name}")).limit(NAMES);
    let named = cluster.ask(api(cluster, None).list_metadata(&params)).await;
    let places: Vec<String> = named.into_iter().flatten().filter_map(|guard| guard.metadata.namespace).collect();
    match &places[..] {
        [] => {}
        [one] => return format!("; it is in namespace {one}: add -n {one}"),
        several => return format!("; there is one in each of {}: choose with -n", several.join(", ")),
    }
    let params = ListParams::default().limit(NAMES);
    let here = cluster.ask(api(cluster, Some(&cluster.namespace)).list_metadata(&params)).await;
    let names: Vec<String> = here.into_iter().flatten().filter_map(|guard| guard.metadata.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if !names.is_empty() {
        return suggestion(name, &names);
    }
    if namespace_is_missing(cluster).await {
        return "; there is no such namespace".to_owned();
    }
    "; there is no guard at all there: `list -A` lists them, -n names another namespace".to_owned()
}

/// Whether the namespace does not exist, as far as the person may know.
pub(super) async fn namespace_is_missing(cluster: &Cluster) -> bool {
    let spaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client.clone());
    matches!(cluster.ask(spaces.get_metadata_opt(&cluster.namespace)).await, Ok(None))
}

/// What was probably meant, or what there is.
pub(super) fn suggestion(name: &str, known: &[&str]) -> String {
    const SHOWN: usize = 8;
    let close = |other: &&&str| strsim::damerau_levenshtein(name, other) <= 2.max(name.chars().count() / 3);
    let nearest = known.iter().min_by_key(|other| strsim::damerau_levenshtein(name, other)).filter(close);
    if let Some(nearest) = nearest {
        return format!("; did you mean {nearest}?");
    }
    let more = known.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let shown: Vec<&str> = known.iter().take(SHOWN).copied().collect();
    if shown.is_empty() { String::new() } else { format!("; there are {}{more}", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_corrected_and_another_lists_what_there_is() {
        assert_eq!(suggestion("apii", &["web", "api"]), "; did you mean api?");
        assert_eq!(suggestion("orders-service", &["web", "api"]), "; there are web, api");
        let many: Vec<String> = (0..12).map(|n| format!("service-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(suggestion("x", &many).ends_with("service-7 and 4 more"));
        assert_eq!(suggestion("x", &[]), "");
    }

    #[test]
    fn what_cannot_be_a_name_is_corrected_before_anybody_is_asked() {
        for good in ["api", "api-v2", "api.shop", "0"] {
            assert_eq!(not_a_name(good), None);
        }
        for (wrong, part) in [
            ("shop/api", "its namespace stands apart: -n shop api"),
            ("dg/api", "leave out the kind: api"),
            ("deploymentguards.deploymentguard.dev/api", "leave out the kind: api"),
            ("", "names have small letters"),
            ("..", "names have small letters"),
            ("Api", "names have small letters"),
            ("api?watch=1", "names have small letters"),
            ("\u{1b}[2J", "names have small letters"),
        ] {
            let said = not_a_name(wrong).unwrap();
            assert!(said.contains(part) && !said.contains('\u{1b}'), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_is_printed_for_programs_reads_back_and_moves_no_cursor() {
        let value = json!({"a": "1\u{1b}[2Jx", "b": ["two\nlines", 3, null], "c\u{7}": true});
        let text = Output::Json.of(&value).unwrap().unwrap();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        let text = Output::Yaml.of(&value).unwrap().unwrap();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["b"][0], "two\nlines");
    }

    #[test]
    fn a_kind_of_a_newer_version_is_named() {
        let guard = json!({"spec": {"targetRef": {"kind": "Rollout", "name": "x"}}});
        assert!(target(&guard).unwrap_err().contains("a Rollout, which this version does not know"));
    }
}
