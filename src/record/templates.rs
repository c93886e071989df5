//! Kept templates.
//!
//! Role: writes the templates that a guard may go back to as `ControllerRevision`s which the guard controls, and drops
//! them. Inputs: the guard, raw templates. Outputs: objects of its namespace. Must never import: other rooms than
//! `domain` and `api`; typed workload structs, which drop fields. kube's own `request` logs a body that it cannot parse,
//! which may hold env values; ours does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, ListParams, PostParams, Preconditions};
use kube::core::Request;
use kube::core::params::DeleteParams;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::owner::Owner;
use crate::domain::known_good::Kept;
use crate::domain::managers;
use crate::domain::redact::{Redacted, Redactor, SERVER_MESSAGE};
use crate::domain::retry::Retry;
use crate::domain::rollout::RevisionHash;
use crate::domain::undo::Held;

/// Marks kept templates; its value is the guard's uid. No workload selects by it.
pub const TEMPLATE_LABEL: &str = "deploymentguard.dev/template";

/// The full name of the revision.
const REVISION: &str = "deploymentguard.dev/revision";
/// What stands for the template, and for everything in it that runs.
const TEMPLATE_HASH: &str = "deploymentguard.dev/template-hash";
const SUBSTANCE_HASH: &str = "deploymentguard.dev/substance-hash";

/// So much of a guard's name is part of the names.
const MAX_GUARD: usize = 200;

/// How much of a hash tells names apart.
const DIGITS: usize = 10;

/// A kept template as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What status remembers of it.
    pub kept: Kept,
    /// The uid of the object.
    uid: String,
}

/// Keeps templates.
#[derive(Clone)]
pub struct Templates {
    client: Client,
    redactor: Arc<Redactor>,
    time_out: Duration,
}

/// Why a template was not kept or not dropped.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// An object of that name exists and is not this guard's.
    #[error("ControllerRevision {name} exists and does not belong to this guard; it was left alone")]
    NotOurs {
        /// The object.
        name: String,
    },
    /// An object of that name is in the way and about to go.
    #[error("another ControllerRevision {name} is in the way")]
    Conflict {
        /// The object.
        name: String,
    },
    /// Another replica leads.
    #[error("leadership was lost before a template was written")]
    FenceLost,
    /// The API server did not answer in time.
    #[error("the API server did not answer in time about kept templates")]
    TimedOut,
    /// The API server refused.
    #[error("kept templates: {message}")]
    Refused {
        /// What it said, redacted and cut.
        message: Redacted,
    },
    /// The API server was not reached or could not answer.
    #[error("kept templates: {message}")]
    Api {
        /// What it said, redacted and cut.
        message: Redacted,
    },
}

impl TemplateError {
    /// The metric label.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "template_not_ours",
            Self::Conflict { .. } => "template_conflict",
            Self::FenceLost => "lease_lost",
            Self::TimedOut => "template_timeout",
            Self::Refused { .. } => "template_refused",
            Self::Api { .. } => "template_api",
        }
    }

    /// When to try again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::NotOurs { .. } | Self::FenceLost | Self::Refused { .. } => Retry::Never,
            Self::Conflict { .. } => Retry::Conflict,
            Self::TimedOut | Self::Api { .. } => Retry::Backoff,
        }
    }
}

/// Whether this process may still write. Asked immediately before every write.
pub type Fence<'a> = &'a (dyn Fn() -> bool + Send + Sync);

impl Templates {
    /// A writer that waits at most `time_out` for one answer.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>, time_out: Duration) -> Self {
        Self { client, redactor, time_out }
    }

    /// What is kept for a guard, by the names of the objects.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn list(&self, owner: &Owner) -> Result<BTreeMap<String, Found>, TemplateError> {
        let only = ListParams::default().labels(&format!("{TEMPLATE_LABEL}={}", owner.uid));
        let all = self.in_time(self.metadata(owner).list_metadata(&only)).await?;
        let ours = all.items.into_iter().filter(|found| is_controlled(owner, &found.metadata));
        Ok(ours.filter_map(|found| read(&found.metadata)).map(|found| (found.kept.name.clone(), found)).collect())
    }

    /// Keeps the template of a revision. Repeating it changes nothing.
    ///
    /// # Errors
    /// When another object is in the way, leadership is lost, or the API server does not do it.
    pub async fn keep(
        &self,
        owner: &Owner,
        revision: &RevisionHash,
        held: &Held,
        fence: Fence<'_>,
    ) -> Result<Found, TemplateError> {
        let name = name_of(&owner.guard, revision);
        let params = PostParams { field_manager: Some(managers::TEMPLATES.to_owned()), ..PostParams::default() };
        let body = object(owner, &name, revision, held).to_string().into_bytes();
        let request = Request::new(path(owner)).create(&params, body).map_err(|error| self.failed(&error))?;
        check(fence)?;
        match self.in_time(self.client.request_text(request)).await {
            Ok(text) => {
                let made: Value = serde_json::from_str(&text).map_err(|error| self.failed(&error))?;
                let uid = made.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
                Ok(Found { kept: kept(name, held), uid })
            }
            Err(TemplateError::Conflict { .. }) => self.in_the_way(owner, name, held, fence).await,
            Err(error) => Err(error),
        }
    }

    /// Drops what a guard keeps no longer: exactly the object that was found.
    ///
    /// # Errors
    /// When leadership is lost or the API server does not do it.
    pub async fn drop(&self, owner: &Owner, found: &Found, fence: Fence<'_>) -> Result<(), TemplateError> {
        let only = Preconditions { uid: Some(found.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        let request =
            Request::new(path(owner)).delete(&found.kept.name, &params).map_err(|error| self.failed(&error))?;
        check(fence)?;
        match self.in_time(self.client.request_text(request)).await {
            // Another object of that name is none of ours.
            Ok(_) | Err(TemplateError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An object of the name exists. It may be what was to be written, before a crash.
    async fn in_the_way(
        &self,
        owner: &Owner,
        name: String,
        held: &Held,
        fence: Fence<'_>,
    ) -> Result<Found, TemplateError> {
        let Some(there) = self.in_time(self.metadata(owner).get_metadata_opt(&name)).await? else {
            return Err(TemplateError::Conflict { name });
        };
        let found = read(&there.metadata).filter(|_| is_controlled(owner, &there.metadata));
        match found {
            Some(found) if found.kept == kept(name.clone(), held) => Ok(found),
            // Its data cannot be changed: the next try writes it anew.
            Some(other) => {
                self.drop(owner, &other, fence).await?;
                Err(TemplateError::Conflict { name })
            }
            None if owner.owned_before(&there.metadata) => Err(TemplateError::Conflict { name }),
            None => Err(TemplateError::NotOurs { name }),
        }
    }

    fn metadata(&self, owner: &Owner) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), &owner.namespace)
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, TemplateError> {
        match tokio::time::timeout(self.time_out, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => {
                let message = || self.redactor.redact(&status.message, SERVER_MESSAGE);
                let gone = status.details.as_ref().is_some_and(|details| details.kind == "controllerrevisions");
                Err(match status.code {
                    409 => TemplateError::Conflict { name: String::new() },
                    404 if gone => TemplateError::Conflict { name: String::new() },
                    401 | 408 | 429 => TemplateError::Api { message: message() },
                    400..500 => TemplateError::Refused { message: message() },
                    _ => TemplateError::Api { message: message() },
                })
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(TemplateError::TimedOut),
        }
    }

    fn failed(&self, error: &dyn std::error::Error) -> TemplateError {
        TemplateError::Api { message: self.redactor.redact(&error.to_string(), SERVER_MESSAGE) }
    }
}

/// The name of the object that keeps a guard's revision.
#[must_use]
pub fn name_of(guard: &str, revision: &RevisionHash) -> String {
    let digits = |text: &str| hex::encode(Sha256::digest(text)).chars().take(DIGITS).collect::<String>();
    let suffix = format!("-good-{}", digits(revision.as_str()));
    if guard.len() <= MAX_GUARD {
        return format!("{guard}{suffix}");
    }
    let head: String = guard.chars().take(MAX_GUARD - DIGITS - 1).collect();
    // Each part of a name ends in a letter or a digit.
    format!("{}-{}{suffix}", head.trim_end_matches(['-', '.']), digits(guard))
}

fn object(owner: &Owner, name: &str, revision: &RevisionHash, held: &Held) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": owner.labels(TEMPLATE_LABEL, &owner.uid),
            "annotations": {
                REVISION: revision.as_str(),
                TEMPLATE_HASH: number(held.fingerprint),
                SUBSTANCE_HASH: number(held.substance),
            },
            "ownerReferences": [owner.reference(true)],
        },
        "data": {"spec": {"template": held.template}},
        "revision": held.number,
    })
}

fn kept(name: String, held: &Held) -> Kept {
    Kept { name, template: held.fingerprint, substance: Some(held.substance) }
}

fn read(found: &ObjectMeta) -> Option<Found> {
    let told = |key: &str| u64::from_str_radix(found.annotations.as_ref()?.get(key)?, 16).ok();
    let kept = Kept {
        name: found.name.clone()?,
        template: told(TEMPLATE_HASH).unwrap_or_default(),
        substance: told(SUBSTANCE_HASH),
    };
    Some(Found { kept, uid: found.uid.clone()? })
}

fn is_controlled(owner: &Owner, found: &ObjectMeta) -> bool {
    let mut owners = found.owner_references.iter().flatten();
    owners.any(|other| other.controller == Some(true) && other.uid == owner.uid) && found.deletion_timestamp.is_none()
}

fn number(of: u64) -> String {
    format!("{of:016x}")
}

fn path(owner: &Owner) -> String {
    format!("/apis/apps/v1/namespaces/{}/controllerrevisions", owner.namespace)
}

fn check(fence: Fence<'_>) -> Result<(), TemplateError> {
    if fence() { Ok(()) } else { Err(TemplateError::FenceLost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(guard: &str) -> Owner {
        Owner {
            namespace: "shop".into(),
            guard: guard.into(),
            api_version: "deploymentguard.dev/v1alpha1".into(),
            uid: "uid-of-the-guard".into(),
        }
    }

    #[test]
    fn a_kept_template_is_named_after_guard_and_revision_within_the_limit() {
        let (one, two) = (RevisionHash::new("5d4f"), RevisionHash::new("5d50"));
        assert_eq!(name_of("api", &one).len(), "api-good-".len() + 10);
        assert_ne!(name_of("api", &one), name_of("api", &two));
        let (long, other) = ("a".repeat(253), format!("{}b", "a".repeat(252)));
        assert!(name_of(&long, &one).len() <= 253);
        assert_ne!(name_of(&long, &one), name_of(&other, &one));
        let dots = format!("{}x", "a.".repeat(126));
        assert!(!name_of(&dots, &one).contains(".-"));
    }

    #[test]
    fn the_object_goes_with_its_guard_and_keeps_every_field_of_the_template() {
        let template = json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"newer": {"x": 1}}]}});
        let held = Held { template: template.clone(), fingerprint: 0xab, substance: u64::MAX, number: 7 };
        let long = "g".repeat(80);
        for guard in ["api", long.as_str()] {
            let object = object(&owner(guard), "name", &RevisionHash::new("5d4f"), &held);
            assert_eq!(object["data"]["spec"]["template"], template);
            assert_eq!(object["revision"], 7);
            let reference = &object["metadata"]["ownerReferences"][0];
            assert_eq!((&reference["controller"], &reference["blockOwnerDeletion"]), (&json!(true), &json!(false)));
            assert_eq!(reference["uid"], "uid-of-the-guard");
            let labels = object["metadata"]["labels"].as_object().unwrap();
            assert!(labels.keys().all(|key| key.starts_with("deploymentguard.dev/")), "{labels:?}");
            assert!(labels.values().all(|value| value.as_str().unwrap().len() <= 63), "{labels:?}");
            let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
            assert!(is_controlled(&owner(guard), &meta));
            let read = read(&ObjectMeta { uid: Some("u".into()), ..meta }).unwrap();
            assert_eq!(read.kept, kept("name".into(), &held));
        }
    }

    #[test]
    fn an_object_of_another_guard_is_not_ours() {
        let held = Held { template: json!({}), fingerprint: 1, substance: 2, number: 1 };
        let object = object(&owner("api"), "name", &RevisionHash::new("r"), &held);
        let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        let other = Owner { uid: "another".into(), ..owner("api") };
        assert!(!is_controlled(&other, &meta));
        assert!(other.owned_before(&meta), "an earlier guard of the same name had it");
        let ours = ObjectMeta { owner_references: None, ..meta };
        assert!(!is_controlled(&owner("api"), &ours), "labels alone prove nothing");
    }
}
