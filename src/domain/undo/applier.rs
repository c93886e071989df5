//! Who applies a workload, and who changed it last.
//!
//! Role: reads what GitOps tools and Helm leave on objects. Inputs: a raw workload. Outputs: an `Applier`, a manager's
//! name. Must never import: other rooms.

use serde_json::Value;

use super::describe::annotation;
use super::ownership::managers_of_template;
use crate::domain::git_ops::{FLUX_RECONCILE, is_name};
use crate::domain::managers;
use crate::domain::rollout::{Applier, Tool};

/// What applies the workload, the most persistent first.
pub(super) fn applier(workload: &Value) -> Option<Applier> {
    let label = |key: &str| workload.pointer("/metadata/labels")?.get(key)?.as_str().filter(|text| !text.is_empty());
    let flux = |tool: Tool, group: &str| {
        let name = label(&format!("{group}/name"))?.to_owned();
        let namespace = label(&format!("{group}/namespace")).unwrap_or_default().to_owned();
        Some(Applier { tool, name, namespace })
    };
    let left_alone = annotation(workload, FLUX_RECONCILE).is_some_and(|value| value == "disabled");
    argo_cd(workload)
        .or_else(|| flux(Tool::FluxKustomize, "kustomize.toolkit.fluxcd.io").filter(|_| !left_alone))
        .or_else(|| flux(Tool::FluxHelm, "helm.toolkit.fluxcd.io"))
        .or_else(|| {
            let name = readable(&annotation(workload, "meta.helm.sh/release-name")?);
            let namespace = annotation(workload, "meta.helm.sh/release-namespace").unwrap_or_default();
            let namespace = readable(&namespace);
            Some(Applier { tool: Tool::Helm, name, namespace })
        })
}

/// The tracking annotation reads `[namespace_]application:group/Kind:namespace/name`; the label is the application's name.
fn argo_cd(workload: &Value) -> Option<Applier> {
    let tracked = annotation(workload, "argocd.argoproj.io/tracking-id")
        .and_then(|id| id.split(':').next().map(str::to_owned))
        .filter(|name| !name.is_empty());
    let labelled = || {
        let labels = workload.pointer("/metadata/labels")?;
        labels.get("argocd.argoproj.io/instance")?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let application = tracked.or_else(labelled)?;
    let (namespace, name) = application.split_once('_').unwrap_or(("", application.as_str()));
    Some(Applier { tool: Tool::ArgoCd, name: readable(name), namespace: readable(namespace) })
}

/// Annotations can say anything, and these names are shown and stand in commands that people copy.
fn readable(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { String::new() }
}

/// The manager that changed the template last, as far as managed fields tell; never ourselves.
pub(super) fn template_manager(workload: &Value) -> Option<String> {
    managers_of_template(workload)
        .filter(|entry| entry.get("manager").and_then(Value::as_str) != Some(managers::UNDO))
        .max_by_key(|entry| entry.get("time").and_then(Value::as_str).unwrap_or_default().to_owned())
        .and_then(|entry| entry.get("manager")?.as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(metadata: Value) -> Option<(Tool, String, String)> {
        applier(&json!({"metadata": metadata})).map(|found| (found.tool, found.name, found.namespace))
    }

    #[test]
    fn who_applies_is_read_from_what_tools_leave() {
        let flux =
            json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
        let helm = json!({"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": "web"});
        let cases = [
            (json!({"labels": flux}), Some((Tool::FluxKustomize, "apps", "flux-system"))),
            (json!({"labels": flux, "annotations": {FLUX_RECONCILE: "disabled"}}), None),
            (
                json!({"labels": {"helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "web"}, "annotations": helm}),
                Some((Tool::FluxHelm, "shop", "web")),
            ),
            (json!({"annotations": helm}), Some((Tool::Helm, "shop", "web"))),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:web/api"}}),
                Some((Tool::ArgoCd, "shop", "")),
            ),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "teams_shop:apps/Deployment:web/api"}}),
                Some((Tool::ArgoCd, "shop", "teams")),
            ),
            (json!({"labels": {"argocd.argoproj.io/instance": "shop"}}), Some((Tool::ArgoCd, "shop", ""))),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "$(rm -rf x):apps/Deployment:web/api"}}),
                Some((Tool::ArgoCd, "", "")),
            ),
            (json!({"annotations": {"meta.helm.sh/release-name": "x; reboot"}}), Some((Tool::Helm, "", ""))),
            (json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}), None),
            (json!({}), None),
        ];
        for (metadata, wanted) in cases {
            let wanted = wanted.map(|(tool, name, namespace)| (tool, name.to_owned(), namespace.to_owned()));
            assert_eq!(found(metadata.clone()), wanted, "{metadata}");
        }
    }

    #[test]
    fn the_last_writer_of_the_template_is_named_and_never_ourselves() {
        let entry =
            |manager: &str, time: &str, fields: Value| json!({"manager": manager, "time": time, "fieldsV1": fields});
        let template = json!({"f:spec": {"f:template": {}}});
        let workload = json!({"metadata": {"managedFields": [
            entry("helm", "2026-01-01T00:00:00Z", template.clone()),
            entry("kustomize-controller", "2026-01-02T00:00:00Z", template.clone()),
            entry("kube-controller-manager", "2026-01-03T00:00:00Z", json!({"f:status": {}})),
            entry(managers::UNDO, "2026-01-04T00:00:00Z", template),
        ]}});
        assert_eq!(template_manager(&workload).as_deref(), Some("kustomize-controller"));
        assert_eq!(template_manager(&json!({})), None);
    }
}
