//! Named ports that Services need.
//!
//! Role: an undo must not take a port away that a Service targets by its name: the Service would lead nowhere. Inputs: raw
//! templates and Services. Outputs: what would be lost. Must never import: other rooms.

use std::collections::BTreeSet;

use serde_json::Value;

/// A Service that would lead nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPort {
    /// The Service.
    pub service: String,
    /// The name of the port that it targets.
    pub port: String,
}

/// Names of ports that the present template has and the good one has not. Usually none, and then nobody needs to be asked.
pub(super) fn lost_names(present: &Value, good: &Value) -> BTreeSet<String> {
    let kept = names(good);
    names(present).into_iter().filter(|name| !kept.contains(name)).collect()
}

/// The first Service that selects the good template's pods and targets one of these ports by its name.
#[must_use]
pub fn lost_port(services: &[Value], good: &Value, lost: &BTreeSet<String>) -> Option<LostPort> {
    let no_labels = Value::Null;
    let labels = good.pointer("/metadata/labels").unwrap_or(&no_labels);
    let selects = |service: &&Value| {
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        selector
            .is_some_and(|pairs| !pairs.is_empty() && pairs.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    services.iter().filter(selects).find_map(|service| {
        let ports = service.pointer("/spec/ports").and_then(Value::as_array)?;
        let port =
            ports.iter().filter_map(|port| port.get("targetPort")?.as_str()).find(|name| lost.contains(*name))?;
        let service = service.pointer("/metadata/name")?.as_str()?.to_owned();
        Some(LostPort { service, port: port.to_owned() })
    })
}

fn names(template: &Value) -> BTreeSet<String> {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| template.pointer("/spec")?.get(list)?.as_array());
    let ports = containers.flatten().filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.filter_map(|port| port.get("name")?.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(ports: &[&str]) -> Value {
        let ports: Vec<_> = ports.iter().map(|name| json!({"name": name, "containerPort": 80})).collect();
        json!({"metadata": {"labels": {"app": "api", "tier": "web"}}, "spec": {"containers": [{"ports": ports}]}})
    }

    fn service(selector: Value, target: Value) -> Value {
        json!({"metadata": {"name": "api"}, "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": target}]}})
    }

    #[test]
    fn a_service_that_needs_a_port_which_only_the_present_template_has_is_named() {
        let (present, good) = (template(&["http", "grpc"]), template(&["http"]));
        let lost = lost_names(&present, &good);
        assert_eq!(lost.iter().map(String::as_str).collect::<Vec<_>>(), ["grpc"]);
        let cases = [
            (service(json!({"app": "api"}), json!("grpc")), true),
            (service(json!({"app": "api"}), json!("http")), false),
            (service(json!({"app": "api"}), json!(9000)), false),
            (service(json!({"app": "other"}), json!("grpc")), false),
            (service(json!({"app": "api", "version": "2"}), json!("grpc")), false),
            (service(json!({}), json!("grpc")), false),
            (service(json!(null), json!("grpc")), false),
        ];
        for (service, wanted) in cases {
            let found = lost_port(std::slice::from_ref(&service), &good, &lost);
            assert_eq!(found.is_some(), wanted, "{service}");
        }
    }

    #[test]
    fn where_no_name_is_lost_nobody_is_asked() {
        assert!(lost_names(&template(&["http"]), &template(&["http", "grpc"])).is_empty());
        assert!(lost_names(&json!({}), &json!({})).is_empty());
    }
}
