//! What a person would type, where nothing is done.
//!
//! Role: the exact commands for the way a workload is applied. Inputs: the workload and the revision to go back to.
//! Outputs: lines for status and events. Must never import: other rooms. Names are those of objects, which have no
//! character that a shell would read; `domain::undo` keeps no other.

use super::known_good::Choice;
use super::outcome::Reason;
use super::policy::Target;
use super::rollout::{RevisionHash, Tool, Workload};

/// The commands, the one that lasts first; none where an undo would not help, or is not what was judged any more. `why` is
/// what the undo was held back for.
#[must_use]
pub fn commands(
    namespace: &str,
    target: &Target,
    workload: &Workload,
    to: Option<&Choice>,
    why: Reason,
) -> Vec<String> {
    let undo = to.and_then(|to| undo(namespace, target, workload, &to.revision));
    match why {
        Reason::SameRevisionRestarted
        | Reason::ConfigurationChanged
        | Reason::Superseded
        | Reason::NoNewRevisionPods => return Vec::new(),
        // A paused Deployment takes no `rollout undo`.
        Reason::WorkloadPaused => {
            let resumed = |undo| format!("kubectl -n {namespace} rollout resume {target} && {undo}");
            return undo.map(resumed).into_iter().collect();
        }
        _ => {}
    }
    let Some(applier) = workload.applier.as_ref().filter(|applier| !applier.name.is_empty()) else {
        return undo.into_iter().collect();
    };
    let (name, of) = (&applier.name, flag(&applier.namespace));
    let now = |first: String| undo.as_ref().map(|undo| format!("{first} && {undo}"));
    match applier.tool {
        Tool::FluxKustomize => {
            let lasting =
                format!("revert the commit in Git, then: flux reconcile kustomization {name}{of} --with-source");
            [Some(lasting), now(format!("flux suspend kustomization {name}{of}"))].into_iter().flatten().collect()
        }
        Tool::FluxHelm => {
            let lasting =
                format!("revert the HelmRelease in Git, then: flux reconcile helmrelease {name}{of} --with-source");
            [Some(lasting), now(format!("flux suspend helmrelease {name}{of}"))].into_iter().flatten().collect()
        }
        Tool::ArgoCd => {
            let lasting = format!("revert the commit in Git, then: argocd app sync {name}");
            [Some(lasting), now(format!("argocd app set {name} --self-heal=false"))].into_iter().flatten().collect()
        }
        Tool::Helm => [Some(format!("helm rollback {name}{of}")), undo].into_iter().flatten().collect(),
    }
}

/// The command that puts a revision back: from the workload's own history, or from what the guard keeps of it.
fn undo(namespace: &str, target: &Target, workload: &Workload, to: &RevisionHash) -> Option<String> {
    let number = workload.revision(to).map(|revision| revision.number).filter(|number| *number > 0);
    if let Some(number) = number {
        return Some(format!("kubectl -n {namespace} rollout undo {target} --to-revision={number}"));
    }
    let name = &workload.kept.get(to)?.name;
    Some(format!(
        "kubectl -n {namespace} patch {target} --type=json -p '[{{\"op\":\"replace\",\"path\":\"/spec/template\",\"value\":'\"$(kubectl \
         -n {namespace} get controllerrevision {name} -o jsonpath='{{.data.spec.template}}')\"'}}]'"
    ))
}

fn flag(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixture;
    use crate::domain::known_good::{Kept, Trust};
    use crate::domain::policy::Kind;
    use crate::domain::rollout::Applier;

    fn of(applier: Option<(Tool, &str)>, to: &str) -> Vec<String> {
        let mut workload = fixture::workload(Some("bad"), &[("good", 7), ("bad", 8)]);
        workload.applier =
            applier.map(|(tool, namespace)| Applier { tool, name: "shop".into(), namespace: namespace.into() });
        let choice = Choice { revision: RevisionHash::new(to), trust: Trust::Certified };
        let target = Target { kind: Kind::StatefulSet, name: "db".into() };
        commands("web", &target, &workload, Some(&choice), Reason::SuppressedByMode)
    }

    #[test]
    fn an_undo_that_would_not_help_is_in_no_command_and_a_paused_deployment_is_resumed_first() {
        let workload = fixture::workload(Some("bad"), &[("good", 7), ("bad", 8)]);
        let choice = Choice { revision: RevisionHash::new("good"), trust: Trust::Certified };
        let target = Target { kind: Kind::Deployment, name: "shop".into() };
        let of = |why| commands("web", &target, &workload, Some(&choice), why);
        assert!(of(Reason::SameRevisionRestarted).is_empty() && of(Reason::ConfigurationChanged).is_empty());
        let paused = "kubectl -n web rollout resume deployment/shop && kubectl -n web rollout undo deployment/shop \
                      --to-revision=7";
        assert_eq!(of(Reason::WorkloadPaused), [paused]);
    }

    #[test]
    fn each_way_to_apply_a_workload_has_its_commands() {
        let undo = "kubectl -n web rollout undo statefulset/db --to-revision=7";
        assert_eq!(of(None, "good"), [undo]);
        assert_eq!(of(Some((Tool::Helm, "web")), "good"), ["helm rollback shop -n web", undo]);
        let flux = of(Some((Tool::FluxKustomize, "flux-system")), "good");
        assert_eq!(
            flux,
            [
                "revert the commit in Git, then: flux reconcile kustomization shop -n flux-system --with-source"
                    .to_owned(),
                format!("flux suspend kustomization shop -n flux-system && {undo}"),
            ]
        );
        assert!(
            of(Some((Tool::ArgoCd, "")), "good")[1].starts_with("argocd app set shop --self-heal=false && kubectl")
        );
        assert!(of(Some((Tool::FluxHelm, "web")), "good")[0].contains("flux reconcile helmrelease shop -n web"));
    }

    #[test]
    fn what_only_the_guard_keeps_is_put_back_from_there() {
        let mut workload = fixture::workload(Some("bad"), &[("bad", 8)]);
        let kept = Kept { name: "shop-good-0123456789".into(), template: 1, substance: None };
        workload.kept.insert(RevisionHash::new("good"), kept);
        let choice = Choice { revision: RevisionHash::new("good"), trust: Trust::Certified };
        let target = Target { kind: Kind::Deployment, name: "shop".into() };
        assert_eq!(
            commands("web", &target, &workload, Some(&choice), Reason::SuppressedByMode),
            ["kubectl -n web patch deployment/shop --type=json -p \
                 '[{\"op\":\"replace\",\"path\":\"/spec/template\",\"value\":'\"$(kubectl -n web get controllerrevision \
                 shop-good-0123456789 -o jsonpath='{.data.spec.template}')\"'}]'"]
        );
    }

    #[test]
    fn what_no_longer_exists_is_in_no_command() {
        assert!(of(None, "gone").is_empty());
        assert_eq!(of(Some((Tool::Helm, "")), "gone"), ["helm rollback shop"]);
    }
}
