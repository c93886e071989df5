//! Where statistics leave room: a language model breaks the tie, and its death changes nothing but who decides.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testbed::oracle::{Behaviour, Oracle};
use testbed::shop::{Load, Shop};

use super::{Story, say, title};
use crate::guard::Guard;
use crate::manifests::NAMESPACE;

/// Enough of the old revision to compare with.
const HISTORY: Duration = Duration::from_secs(60);
const NAME: &str = "payments";
const CLASS: &str = "advised";

/// An error in 33 requests more than none: at 30 requests a second that is not clear for some seconds.
fn grey(version: &str) -> Shop {
    service(version).fault("ERROR_RATE", "0.03")
}

fn service(version: &str) -> Shop {
    Shop::new(NAMESPACE, NAME).version(version).replicas(2)
}

fn traffic() -> Load {
    let target = service("v1").url();
    Load { name: format!("load-{NAME}"), namespace: NAMESPACE.into(), target, rate: 30, duration_s: 900 }
}

impl Story {
    /// A model is asked where the evidence is strong, but not strong enough.
    pub(super) async fn advised_release(&mut self) -> Result<()> {
        title("A grey zone, and a model double: payments v2 fails one request in 33");
        let oracle = Oracle { namespace: NAMESPACE.to_owned() };
        oracle.start(&self.cluster).await?;
        let class = json!({
            "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": CLASS},
            "spec": {
                "prometheus": {"url": "http://prometheus.monitoring:9090"},
                "stormBreaker": {"undos": 100, "within": "1m"},
                "providers": [oracle.provider(Behaviour::Agree)],
            },
        });
        self.cluster.apply(&class.to_string()).await?;
        let spec = json!({
            "targetRef": {"name": NAME}, "className": CLASS, "mode": "Enforce",
            // The bounds of 2 % lie at E = 5, where a model is heard, and E = 50, where nobody is asked.
            "analysis": {"warmup": "3s", "window": "10m", "falseRollbackRate": "2%", "onInconclusive": "Hold"},
            "decision": {"maxCallsPerRollout": 20},
            "rollback": {"cooldown": "0s", "maxPerDay": 10},
        });
        self.guarded(&service("v1"), NAME, spec).await?;
        traffic().start(&self.cluster).await?;
        say("60 seconds of ordinary traffic");
        tokio::time::sleep(HISTORY).await;
        self.release(&grey("v2")).await?;
        let undone = |guard: &Guard| guard.decided("action") == "RolledBack";
        let guard = self.narrate_of(NAME, "the undo", undone).await?;
        print!("{}", guard.explain());
        self.expect("the model broke the tie, and the record says so", guard.decided("decider") == "llm/agree");
        let cited = guard.decision()["advice"]["evidence"].as_array().is_some_and(|cited| !cited.is_empty());
        self.expect("it cites evidence of the prompt", cited);
        let verified = |guard: &Guard| guard.condition("RolledBack").1 == "RollbackSucceeded";
        self.narrate_of(NAME, "the restored pods to prove themselves", verified).await?;
        Ok(())
    }

    /// The same without anybody who answers.
    pub(super) async fn unadvised_release(&mut self) -> Result<()> {
        title("The same with every model dead: payments v3");
        let oracle = Oracle { namespace: NAMESPACE.to_owned() };
        oracle.tell(&self.cluster, Some(Behaviour::Die)).await?;
        let last = self.guard_of(NAME).await?.decided("id").to_owned();
        self.release(&grey("v3")).await?;
        let undone = |guard: &Guard| guard.decided("action") == "RolledBack" && guard.decided("id") != last;
        let guard = self.narrate_of(NAME, "the undo", undone).await?;
        print!("{}", guard.explain());
        self.expect("evidence decided alone", guard.decided("decider") == "evidence");
        let attempts = guard.decision()["attempts"].as_array().cloned().unwrap_or_default();
        let failed = attempts.iter().all(|attempt| attempt["outcome"] != "answered") && !attempts.is_empty();
        self.expect("who was asked in vain is listed", failed);
        self.expect("a failure is no opinion", guard.decision()["advice"].is_null());
        traffic().stop(&self.cluster).await?;
        Ok(())
    }
}
