//! Which `ConfigMap`s and `Secret`s the pods of a template read.
//!
//! Role: names what can be changed in place, without a rollout. Inputs: a raw template. Outputs: names. Must never
//! import: other rooms.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::rollout::Configuration;

/// More than this nobody asks for.
const MOST: usize = 64;

/// Everything that the containers and volumes of a template refer to.
pub(super) fn configuration(template: &Value) -> BTreeSet<Configuration> {
    let mut found = BTreeSet::new();
    let Some(spec) = template.get("spec") else { return found };
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    for containers in ["initContainers", "containers"] {
        for container in list(spec, containers) {
            for from in list(&container, "envFrom") {
                add(&mut found, &from, "configMapRef", "secretRef", "name");
            }
            for variable in list(&container, "env") {
                let from = variable.get("valueFrom").unwrap_or(&Value::Null);
                add(&mut found, from, "configMapKeyRef", "secretKeyRef", "name");
            }
        }
    }
    for volume in list(spec, "volumes") {
        add(&mut found, &volume, "configMap", "", "name");
        add(&mut found, &volume, "", "secret", "secretName");
        for source in list(volume.get("projected").unwrap_or(&Value::Null), "sources") {
            add(&mut found, &source, "configMap", "secret", "name");
        }
    }
    found.into_iter().take(MOST).collect()
}

fn add(found: &mut BTreeSet<Configuration>, at: &Value, config_map: &str, secret: &str, name: &str) {
    for (key, is_secret) in [(config_map, false), (secret, true)] {
        if let Some(name) = at.get(key).and_then(|reference| reference.get(name)?.as_str()) {
            found.insert(Configuration { secret: is_secret, name: name.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_refer_to_a_configuration_is_seen() {
        let template = json!({"spec": {
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]}],
            "containers": [{"env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
                {"name": "Z", "value": "plain"},
            ]}],
            "volumes": [
                {"name": "1", "configMap": {"name": "e"}},
                {"name": "2", "secret": {"secretName": "f"}},
                {"name": "3", "projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]}},
                {"name": "4", "emptyDir": {}},
            ],
        }});
        let found: Vec<_> = configuration(&template).into_iter().map(|found| (found.secret, found.name)).collect();
        let wanted = [
            (false, "a"),
            (false, "c"),
            (false, "e"),
            (false, "g"),
            (true, "b"),
            (true, "d"),
            (true, "f"),
            (true, "h"),
        ];
        assert_eq!(found, wanted.map(|(secret, name)| (secret, name.to_owned())));
        assert!(configuration(&json!({})).is_empty());
    }
}
