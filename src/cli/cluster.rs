//! The cluster that a person's kubeconfig names.
//!
//! Role: connects, bounds every call in time, and turns what goes wrong into a sentence with a cure. Inputs: the kubeconfig,
//! a namespace. Outputs: a connection; failures that know their exit code. Must never import: `console`. No sentence holds
//! a credential: only the names of context, namespace and object, and what the API server says.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::explain::plain;
use crate::domain::policy::Target;
use crate::domain::redact::{Redactor, SecretKind};
use crate::domain::rollout::Workload;
use crate::observe::pods::WorkloadKey;
use crate::observe::workload::{self, ReadError};

/// Exit code where the API server does not answer.
pub(super) const UNREACHABLE: u8 = 4;
/// The longest message of a server that is shown.
const MESSAGE: usize = 512;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The plural of guards, as the API server names them when one is missing.
pub(super) const GUARDS: &str = "deploymentguards";

/// A connection, and where it leads.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    /// The namespace that is meant.
    pub(super) namespace: String,
    /// What the kubeconfig calls it.
    pub(super) context: String,
}

/// Why a command ends.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody answered.
    Unreachable(String),
    /// Anything that a person has to change: usage, rights, configuration.
    Refused(String),
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The API server said no.
    #[error("the API server says {}", .0.message)]
    Said(Box<kube::core::Status>),
    /// It said nothing.
    #[error("{0}")]
    Silent(String),
}

impl Trouble {
    /// A refusal. Policies may repeat what they refuse, so secrets are taken out; who may not do what stays.
    pub(super) fn said(mut status: Box<kube::core::Status>) -> Self {
        let redactor = Redactor::new().without(&[SecretKind::Email, SecretKind::Ip]);
        redactor.redact(&status.message, MESSAGE).as_str().clone_into(&mut status.message);
        Self::Said(status)
    }
}

impl Failure {
    /// Something that the person has to change.
    pub(super) fn refused(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into())
    }

    /// As the exit code of the command; the sentence goes to standard error.
    pub(super) fn report(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Refused(sentence) => Err(anyhow!(plain::line(&sentence))),
            Self::Unreachable(sentence) => {
                super::terminal::note(&format!("error: {}", plain::line(&sentence)));
                Ok(ExitCode::from(UNREACHABLE))
            }
        }
    }
}

impl Cluster {
    /// Connects to where the kubeconfig, or the pod's own account, leads. `context` names another context than the
    /// current one.
    pub(super) async fn connect(namespace: Option<&str>, context: Option<&str>) -> Result<Self, Failure> {
        let (mut config, context) = configuration(context).await?;
        if let Some(namespace) = namespace {
            if let Some(why) = super::guards::no_namespace(namespace) {
                return Err(Failure::Refused(why));
            }
            namespace.clone_into(&mut config.default_namespace);
        }
        let namespace = config.default_namespace.clone();
        let unusable = |error: kube::Error| {
            Failure::Refused(format!("context {context} of the kubeconfig cannot be used: {}", deepest(&error)))
        };
        Ok(Self { client: Client::try_from(config).map_err(unusable)?, namespace, context })
    }

    /// Waits for an answer, but not for long.
    pub(super) async fn ask<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
        in_time(&self.context, call).await
    }

    /// What a person does about a call that failed, where no object is at fault. `what` completes "you may not …".
    pub(super) fn failed(&self, trouble: Trouble, what: &str) -> Failure {
        let status = match trouble {
            Trouble::Silent(sentence) => return Failure::Unreachable(sentence),
            Trouble::Said(status) => status,
        };
        match status.code {
            401 => Failure::Refused(format!(
                "the cluster of context {} does not know who you are; renew the kubeconfig's credentials",
                self.context
            )),
            403 => Failure::Refused(format!("you may not {what}: {}", status.message)),
            500.. => {
                Failure::Unreachable(format!("the API server of context {} says {}", self.context, status.message))
            }
            _ => Failure::Refused(format!("to {what} failed: {}", status.message)),
        }
    }

    /// The same for calls about guards, whose kind a cluster may not know.
    pub(super) fn failed_for_guards(&self, trouble: Trouble, what: &str) -> Failure {
        match trouble {
            Trouble::Said(status) if status.code == 404 => Failure::Refused(self.no_kind()),
            other => self.failed(other, what),
        }
    }

    /// A workload with its revisions, as the operator reads it; none if it does not exist.
    pub(super) async fn workload(&self, target: &Target) -> Result<Option<Workload>, Failure> {
        let key = WorkloadKey { namespace: self.namespace.as_str().into(), target: target.clone() };
        let what = format!("read {target} and its revisions in namespace {}", self.namespace);
        workload::fetch(&self.client, &key).await.map_err(|error| match error {
            ReadError::Api { source, .. } => match *source {
                kube::Error::Api(status) => self.failed(Trouble::said(status), &what),
                error => self.failed(silent(&self.context, &error), &what),
            },
            ReadError::TimedOut(_) => Failure::Unreachable(format!("context {}: {error}", self.context)),
            ReadError::Unreadable(_) => Failure::Refused(error.to_string()),
        })
    }

    /// What to do in a cluster without the definitions.
    pub(super) fn no_kind(&self) -> String {
        format!(
            "the cluster of context {} does not know DeploymentGuards: install DeploymentGuard, or apply what \
             `deployment-guard crd` prints",
            self.context
        )
    }
}

async fn configuration(context: Option<&str>) -> Result<(Config, String), Failure> {
    let refused =
        |error: &dyn Error| Failure::Refused(format!("no kubeconfig can be used ({}); set KUBECONFIG", deepest(error)));
    let read = Kubeconfig::read();
    let name = context.map(str::to_owned).or_else(|| read.as_ref().ok()?.current_context.clone());
    match (read, context) {
        (Ok(file), Some(wanted)) if !file.contexts.iter().any(|one| one.name == wanted) => {
            let known: Vec<&str> = file.contexts.iter().map(|one| one.name.as_str()).collect();
            Err(Failure::Refused(format!(
                "the kubeconfig has no context {wanted}{}",
                super::guards::suggestion(wanted, &known)
            )))
        }
        (Ok(file), Some(wanted)) => {
            let options = KubeConfigOptions { context: Some(wanted.to_owned()), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|error| refused(&error))?;
            Ok((config, wanted.to_owned()))
        }
        (Err(error), Some(_)) => Err(refused(&error)),
        (_, None) => {
            let config = Config::infer().await.map_err(|error| refused(&error))?;
            Ok((config, name.unwrap_or_else(|| "in-cluster".to_owned())))
        }
    }
}

/// Waits for an answer of the API server, but not for long.
pub(super) async fn in_time<T>(
    context: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Trouble::said(status)),
        Ok(Err(error)) => Err(silent(context, &error)),
        Err(_) => Err(Trouble::Silent(format!(
            "the API server of context {context} does not answer within {} s",
            CALL_TIMEOUT.as_secs()
        ))),
    }
}

fn silent(context: &str, error: &kube::Error) -> Trouble {
    Trouble::Silent(format!("the API server of context {context} cannot be asked: {}", deepest(error)))
}

/// The cause of an error: what wraps it repeats addresses and says less.
pub(super) fn deepest(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Runs a command that asks the cluster, on one thread.
pub(super) fn run<T>(command: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::guards;

    /// What reading a guard comes to where the API server always says this.
    async fn read(code: u16, kind: &'static str) -> (u8, String) {
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| async move {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "x",
                "code": code, "details": {"kind": kind}});
            let body = kube::client::Body::from(status.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
        });
        let client = Client::new(service, "shop");
        let cluster = Cluster { client, namespace: "shop".into(), context: "c".into() };
        match guards::read(&cluster, "api").await {
            Err(Failure::Refused(sentence)) => (2, sentence),
            Err(Failure::Unreachable(sentence)) => (UNREACHABLE, sentence),
            Ok(_) => panic!("nothing can be read"),
        }
    }

    #[tokio::test]
    async fn every_way_to_have_nothing_to_tell_says_what_to_do() {
        for (code, kind, exit, part) in [
            (404, GUARDS, 2, "there is no guard api in namespace shop"),
            (404, "", 2, "does not know DeploymentGuards"),
            (403, GUARDS, 2, "you may not read the guard api in namespace shop: no"),
            (401, "", 2, "does not know who you are"),
            (500, "", 4, "the API server of context c says no"),
        ] {
            let (found, sentence) = read(code, kind).await;
            assert!(found == exit && sentence.contains(part), "{code}: {found} {sentence}");
        }
    }

    #[test]
    fn a_refusal_that_repeats_a_secret_is_told_without_it_and_with_who_may_not() {
        let message = "user ada@shop.example may not: env DB_PASSWORD=correct-horse-battery is forbidden";
        let status = json!({"status": "Failure", "message": message, "reason": "x", "code": 403});
        let said = Trouble::said(serde_json::from_value(status).unwrap()).to_string();
        assert!(said.contains("ada@shop.example") && !said.contains("horse"), "{said}");
    }

    #[test]
    fn of_an_error_only_its_cause_is_told() {
        let cause = std::io::Error::other("connection refused");
        let wrapped = std::io::Error::other(std::io::Error::other(cause));
        assert_eq!(deepest(&wrapped), "connection refused");
    }
}
