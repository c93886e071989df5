//! A world with two operators in it, and the time between them.
//!
//! Role: plays events, lets everything settle in the end, says what was promised and not kept. Inputs: a story. Outputs:
//! broken promises, the number of undos.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use deployment_guard::domain::policy::Kind;
use serde_json::json;

use super::replica::{Fate, Replica};
use super::watchdog::Watchdog;
use super::world::{BAD, World};

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The watches of a replica catch up.
    Refresh(usize),
    /// A replica begins to look at its guard.
    Look(usize),
    /// Its next request meets its fate.
    Step(usize, Fate),
    /// Its look goes on to the end.
    Run(usize),
    /// It is killed and starts again.
    Crash(usize),
    /// It gets the lease, and the other one loses it without noticing.
    Lease(usize),
    /// A person or a pipeline pushes.
    Push(&'static str),
    /// Git is applied again, with what is in it.
    Reapply(&'static str),
    /// The horizontal autoscaler writes.
    Scale(u64),
    /// Somebody annotates.
    Annotate,
    /// The workload's status changes.
    Churn,
    /// The Deployment is paused or resumed.
    Pause(bool),
    /// The workload is deleted and made again.
    Recreate(&'static str),
    /// A person answers to what is asked.
    Answer(&'static str),
    /// The controllers of Kubernetes catch up.
    Controllers,
    /// Time passes, in seconds.
    Pass(u16),
}

/// The stage.
pub struct Stage {
    pub world: World,
    pub watchdog: Arc<Mutex<Watchdog>>,
    replicas: [Replica; 2],
}

impl Stage {
    /// A serving workload, and one operator that leads and knows it.
    pub async fn new(kind: Kind, mode: &str) -> Self {
        let (world, watchdog) = (World::new(kind, mode), Arc::default());
        let mut leader = Replica::start(&world, &watchdog, true);
        leader.look().await;
        leader.run().await;
        let follower = Replica::start(&world, &watchdog, false);
        Self { world, watchdog, replicas: [leader, follower] }
    }

    /// The bad release is out and its pods have failed for long enough.
    pub async fn with_bad_release(kind: Kind, mode: &str) -> Self {
        let mut stage = Self::new(kind, mode).await;
        for event in [
            Event::Push(BAD),
            Event::Controllers,
            Event::Refresh(0),
            Event::Look(0),
            Event::Run(0),
            Event::Pass(2),
            Event::Refresh(0),
        ] {
            stage.play(event).await;
        }
        stage
    }

    pub async fn play(&mut self, event: Event) {
        match event {
            Event::Refresh(who) => self.replicas[who].refresh(),
            Event::Look(who) => self.replicas[who].look().await,
            Event::Step(who, fate) => drop(self.replicas[who].step(fate).await),
            Event::Run(who) => self.replicas[who].run().await,
            Event::Crash(who) => self.replicas[who].crash(),
            Event::Lease(who) => {
                self.replicas[1 - who].lead(false);
                self.replicas[who].lead(true);
            }
            Event::Push(image) => self.world.push(image, "kubectl"),
            Event::Reapply(image) => self.world.push(image, "git"),
            Event::Scale(replicas) => self.world.change(|workload| workload["spec"]["replicas"] = json!(replicas)),
            Event::Annotate => self.world.change(|workload| workload["metadata"]["annotations"]["note"] = json!("x")),
            Event::Churn => self.world.change(|workload| workload["status"]["churn"] = json!("x")),
            Event::Pause(paused) if self.world.kind == Kind::Deployment => {
                self.world.change(|workload| workload["spec"]["paused"] = json!(paused));
            }
            Event::Pause(_) => {}
            Event::Recreate(image) => self.world.recreate(image),
            Event::Answer(verb) => self.world.answer(verb),
            Event::Controllers => self.world.controllers(),
            Event::Pass(seconds) => self.pass(seconds).await,
        }
    }

    async fn pass(&mut self, seconds: u16) {
        self.world.pass(i64::from(seconds) * 1000);
        tokio::time::advance(Duration::from_secs(seconds.into())).await;
    }

    /// One request of a replica; says whether it had one.
    pub async fn step(&mut self, who: usize, fate: Fate) -> bool {
        self.replicas[who].step(fate).await
    }

    /// Nothing goes wrong any more: a fresh leader, and time; in the end what is paused is resumed. Says what does not
    /// come to rest.
    pub async fn come_to_rest(&mut self) -> Result<(), String> {
        let [leader, other] = &mut self.replicas;
        other.lead(false);
        leader.lead(true);
        leader.crash();
        self.rest().await?;
        if self.world.workload()["spec"]["paused"] == true {
            self.play(Event::Pause(false)).await;
            self.rest().await?;
        }
        Ok(())
    }

    async fn rest(&mut self) -> Result<(), String> {
        // A good version may need its window, an undo its time-out.
        for _ in 0..16 {
            for event in [Event::Controllers, Event::Refresh(0), Event::Look(0), Event::Run(0)] {
                self.play(event).await;
            }
            if self.unrest().is_none() {
                break;
            }
            self.play(Event::Pass(32)).await;
        }
        self.unrest().map_or(Ok(()), Err)
    }

    fn unrest(&self) -> Option<String> {
        let (status, workload) = (self.world.status(), self.world.workload());
        let fields = workload["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let ours = fields.iter().any(|entry| {
            entry["manager"] == "deployment-guard/undo" && !entry["fieldsV1"]["f:spec"]["f:template"].is_null()
        });
        let current = self.world.revision(&workload["spec"]["template"]);
        if workload["spec"]["paused"] == true {
            // It waits for a person, who may have pushed meanwhile: such a template has no revision yet.
            None
        } else if !status["undo"].is_null() {
            Some(format!("an undo is pending for ever: {status:#}"))
        } else if ours {
            Some(format!("the template is still ours: {fields:#?}"))
        } else if status["current"]["revision"] != *current {
            Some(format!("{current} serves, and status speaks of another revision: {status:#}"))
        } else if matches!(status["current"]["state"].as_str(), Some("Judging" | "AwaitingApproval" | "Restoring")) {
            Some(format!("the judging never ends: {status:#}"))
        } else {
            None
        }
    }

    /// What was promised and not kept.
    pub fn broken(&self) -> Vec<String> {
        self.watchdog.lock().unwrap().broken.clone()
    }

    pub fn undos(&self) -> usize {
        self.watchdog.lock().unwrap().undos()
    }
}
