//! Suspends what would apply a bad version again, and gives it back.
//!
//! Role: fresh read, plan, patch; finds suspended objects that are not watched. Inputs: a place, a marker, a fence.
//! Outputs: what became of it. Must never import: other rooms than `domain`. What can be written are the fields that
//! `domain::git_ops` names and nothing else.

use kube::core::params::ListParams;
use serde_json::Value;

use super::server::{Refusal, Written, collection};
use super::undo::check;
use super::{Act, ActError, Fence};
use crate::domain::git_ops::{
    LABEL, Marker, Object, Place, SuspendPlan, applies_to, is_name, plan_resume, plan_suspend, revision_of,
    revision_of_kustomization,
};
use crate::domain::managers;
use crate::domain::policy::Target;
use crate::domain::redact::Redacted;
use crate::domain::rollout::{Applier, Tool};

/// How often a write that lost a race is planned and sent again.
const TRIES: u32 = 3;

/// What became of a wish to suspend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspended {
    /// It is suspended, and carries the marker.
    Done {
        /// What.
        place: Place,
        /// What Git held, where that can be read: then something new ends it too, else only time does.
        git: Option<String>,
    },
    /// Nothing would apply the bad version again.
    NotNeeded,
    /// It cannot be suspended, and why.
    Refused(Redacted),
}

/// What became of giving back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It was given back.
    Done,
    /// It is not suspended by us, or should still be, or does not exist any more.
    NotDue,
    /// The API server does not allow it.
    Refused(Redacted),
}

/// A suspended object that is not watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// Its marker.
    pub marker: Marker,
    /// What it tells of Git now.
    pub git: Option<String>,
}

/// The kinds that are found by their label: group and version, resource.
const LABELLED: [(&str, &str); 2] =
    [("helm.toolkit.fluxcd.io/v2", "helmreleases"), ("argoproj.io/v1alpha1", "applications")];

impl Act {
    /// Suspends what applies the workload. Safe to repeat.
    ///
    /// # Errors
    /// When the API server cannot be asked, or leadership is lost before the write.
    pub async fn suspend(
        &self,
        applier: &Applier,
        (namespace, target, uid): (&str, &Target, &str),
        wanted: &Marker,
        fence: Fence<'_>,
    ) -> Result<Suspended, ActError> {
        const STEP: &str = "suspending the sync";
        let place = match self.place(applier, namespace, target).await? {
            Ok(Some(place)) => place,
            Ok(None) => return Ok(Suspended::NotNeeded),
            Err(refused) => return Ok(Suspended::Refused(refused)),
        };
        let mut last = None;
        for _ in 0..TRIES {
            let object = match self.read(STEP, &place).await? {
                Written::Object(object) => object,
                Written::Refused(refusal) => return Ok(Suspended::Refused(refusal.message)),
            };
            let is_workload = matches!(place.object, Object::Workload(_));
            if is_workload && object.pointer("/metadata/uid").and_then(Value::as_str) != Some(uid) {
                // Another object under this name: the undo finds that out and says so.
                return Ok(Suspended::NotNeeded);
            }
            if !applies_to(&place.object, &object, namespace, target) {
                let words = format!("{place} does not say itself that it applies {target} in {namespace}");
                return Ok(Suspended::Refused(self.server.say(&words)));
            }
            let wanted = self.with_git(applier, &place, &object, wanted).await;
            let SuspendPlan::Patch(patch) = plan_suspend(&place.object, &object, &wanted) else {
                return Ok(Suspended::NotNeeded);
            };
            check(fence, STEP)?;
            match self.write(STEP, &place, &patch).await? {
                Written::Object(_) => return Ok(Suspended::Done { place, git: wanted.git }),
                Written::Refused(refusal) if lost_a_race(&refusal) => last = Some(refusal.message),
                Written::Refused(refusal) => return Ok(Suspended::Refused(refusal.message)),
            }
        }
        last.map(Suspended::Refused).ok_or(ActError::Conflict { step: STEP, tries: TRIES })
    }

    /// Gives back what is suspended, if its marker says so when it is read again.
    ///
    /// # Errors
    /// When the API server cannot be asked, keeps changing the object, or leadership is lost before the write.
    pub async fn resume(
        &self,
        place: &Place,
        is_due: &(dyn Fn(&Marker) -> bool + Send + Sync),
        fence: Fence<'_>,
    ) -> Result<Resumed, ActError> {
        const STEP: &str = "giving back the sync";
        for _ in 0..TRIES {
            let object = match self.read(STEP, place).await? {
                Written::Object(object) => object,
                Written::Refused(refusal) if refusal.answer.code == 404 => return Ok(Resumed::NotDue),
                Written::Refused(refusal) => return Ok(Resumed::Refused(refusal.message)),
            };
            if !Marker::of(&object).is_some_and(|marker| is_due(&marker)) {
                return Ok(Resumed::NotDue);
            }
            let Some(patch) = plan_resume(&place.object, &object) else { return Ok(Resumed::NotDue) };
            check(fence, STEP)?;
            match self.write(STEP, place, &patch).await? {
                Written::Object(_) => return Ok(Resumed::Done),
                Written::Refused(refusal) if lost_a_race(&refusal) => {}
                Written::Refused(refusal) => return Ok(Resumed::Refused(refusal.message)),
            }
        }
        Err(ActError::Conflict { step: STEP, tries: TRIES })
    }

    /// Suspended objects that are not watched. `None` where they may not be listed, or do not exist in this cluster.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn suspended(&self) -> Result<Vec<Option<Vec<Found>>>, ActError> {
        const STEP: &str = "looking for suspended objects";
        let mut all = Vec::new();
        for (group, resource) in LABELLED {
            let params = ListParams::default().labels(LABEL).limit(500);
            for path in self.collections(group, resource) {
                all.push(match self.server.list(STEP, &path, &params).await? {
                    Written::Object(list) => Some(items(&list).filter_map(|item| found(resource, item)).collect()),
                    Written::Refused(_) => None,
                });
            }
        }
        Ok(all)
    }

    /// What Git held when Flux last tried to apply a workload; `None` if that may not be read.
    pub async fn flux_revision(&self, kustomization: &str, of: &str, target: &Target) -> Option<String> {
        const STEP: &str = "reading the Kustomization";
        let (namespace, name) = kustomization.split_once('/')?;
        if !is_name(namespace) || !is_name(name) {
            return None;
        }
        let path = collection("kustomize.toolkit.fluxcd.io/v1", namespace, "kustomizations");
        match self.server.object(STEP, &path, name).await {
            Ok(Written::Object(object)) => revision_of_kustomization(&object, of, target),
            // Then the suspension ends with its time.
            Ok(Written::Refused(_)) | Err(_) => None,
        }
    }

    /// The object on which the sync of a workload is suspended; none where nothing applies it again and again.
    async fn place(
        &self,
        applier: &Applier,
        namespace: &str,
        target: &Target,
    ) -> Result<Result<Option<Place>, Redacted>, ActError> {
        let named = |object: fn(String) -> Object| {
            let (namespace, name) = (&applier.namespace, &applier.name);
            let place = Place { namespace: namespace.clone(), object: object(name.clone()) };
            if is_name(namespace) && is_name(name) {
                Ok(Some(place))
            } else {
                Err(self.server.say(&format!("{namespace}/{name} cannot be the name of an object")))
            }
        };
        Ok(match applier.tool {
            Tool::Helm => Ok(None),
            Tool::FluxKustomize => {
                Ok(Some(Place { namespace: namespace.to_owned(), object: Object::Workload(target.clone()) }))
            }
            Tool::FluxHelm => named(Object::HelmRelease),
            Tool::ArgoCd if !applier.namespace.is_empty() => named(Object::Application),
            Tool::ArgoCd => return self.application(&applier.name).await,
        })
    }

    /// The Application of that name: only Argo CD knows in which namespace it looks for those without one.
    async fn application(&self, name: &str) -> Result<Result<Option<Place>, Redacted>, ActError> {
        const STEP: &str = "looking for the Argo CD Application";
        if !is_name(name) {
            return Ok(Err(self.server.say(&format!("{name} cannot be the name of an object"))));
        }
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let mut namespaces: Vec<String> = Vec::new();
        for path in self.collections(LABELLED[1].0, LABELLED[1].1) {
            let list = match self.server.list(STEP, &path, &params).await? {
                Written::Object(list) => list,
                Written::Refused(refusal) => return Ok(Err(refusal.message)),
            };
            let found = items(&list).filter_map(|item| item.pointer("/metadata/namespace")?.as_str());
            namespaces.extend(found.map(str::to_owned));
        }
        Ok(match namespaces.as_slice() {
            [namespace] => {
                Ok(Some(Place { namespace: namespace.clone(), object: Object::Application(name.to_owned()) }))
            }
            found => Err(self.server.say(&format!("there are {} Applications of the name {name}", found.len()))),
        })
    }

    /// Every collection of a kind where we may look.
    fn collections(&self, group: &str, resource: &str) -> Vec<String> {
        let path = |place: Option<&str>| {
            place.map_or_else(|| format!("/apis/{group}/{resource}"), |name| collection(group, name, resource))
        };
        self.scope.places().into_iter().map(path).collect()
    }

    async fn with_git(&self, applier: &Applier, place: &Place, object: &Value, wanted: &Marker) -> Marker {
        let Object::Workload(target) = &place.object else {
            return Marker { git: revision_of(&place.object, object), ..wanted.clone() };
        };
        let kustomization = format!("{}/{}", applier.namespace, applier.name);
        let git = self.flux_revision(&kustomization, &place.namespace, target).await;
        Marker { kustomization: Some(kustomization), git, ..wanted.clone() }
    }

    async fn read(&self, step: &'static str, place: &Place) -> Result<Written, ActError> {
        let (path, name) = path(place);
        self.server.object(step, &path, name).await
    }

    async fn write(&self, step: &'static str, place: &Place, operations: &Value) -> Result<Written, ActError> {
        let (path, name) = path(place);
        self.server.patch_as(step, managers::GIT_OPS, &path, name, operations).await
    }
}

fn path(place: &Place) -> (String, &str) {
    let namespace = &place.namespace;
    match &place.object {
        Object::Workload(target) => (super::server::workloads(namespace, target.kind), &target.name),
        Object::HelmRelease(name) => (collection(LABELLED[0].0, namespace, LABELLED[0].1), name),
        Object::Application(name) => (collection(LABELLED[1].0, namespace, LABELLED[1].1), name),
    }
}

/// A failed `test`, which says nothing else, and a conflict.
fn lost_a_race(refusal: &Refusal) -> bool {
    refusal.answer.code == 409 || (refusal.answer.code == 422 && refusal.answer.cause_fields.is_empty())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn found(resource: &str, item: &Value) -> Option<Found> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let name = text("/metadata/name")?;
    let object = if resource == LABELLED[0].1 { Object::HelmRelease(name) } else { Object::Application(name) };
    let git = revision_of(&object, item);
    Some(Found { place: Place { namespace: text("/metadata/namespace")?, object }, marker: Marker::of(item)?, git })
}

#[cfg(test)]
#[path = "suspend_tests.rs"]
mod tests;
