//! One look at one guard: watch → observe → assess → decide → act → record.
//!
//! Role: the order of the steps; each step is a function of its own. Inputs: a guard and the shared context. Outputs: when
//! to look again. Must never import: `cli`, `console`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;

use super::case::{Case, Opened};
use super::context::Context;
use super::error::Error;
use super::{
    approval, configuration, decision, findings, hearing, judge, recheck, restore, rights, templates, verification,
};
use crate::api::DeploymentGuard;
use crate::domain::plan::{self, Situation};

/// Looks at one guard.
///
/// # Errors
/// If the API server cannot be read or written; sources of metrics that fail are readings, not errors.
pub async fn reconcile(guard: Arc<DeploymentGuard>, ctx: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    ctx.health.beat();
    // watch: when nothing is due, no I/O at all.
    let mut case = match Case::open(&guard, &ctx)? {
        Opened::Rest(action) => return Ok(action),
        Opened::Due(case) => *case,
    };
    let result = look(&mut case).await;
    // record: whatever was seen so far, also when a later step failed.
    let action = match result {
        Ok(()) => {
            findings::complete(&mut case);
            hearing::complete(&mut case);
            hearing::explain(&mut case);
            configuration::explain(&mut case).await;
            decision::keep_sample(&mut case).await;
            configuration::remember(&mut case).await;
            templates::keep(&mut case).await;
            findings::rest(&case);
            Box::pin(case.close()).await
        }
        Err(error) => case.give_up(error),
    };
    ctx.metrics.reconciled(if action.is_ok() { "ok" } else { "error" }, started.elapsed());
    action
}

/// The steps. Each that ends the look early has said why in the case.
async fn look(case: &mut Case<'_>) -> Result<(), Error> {
    // parse
    let Some((class, policy)) = case.parse() else { return Ok(()) };
    // observe the API (client)
    let Some((workload, pods)) = case.observe().await? else { return Ok(()) };
    rights::check(case, &policy).await;
    // act, level-triggered: fields of the template that an undo still owns (client)
    restore::give_back(case, &workload).await;
    approval::retry(case, &pods);
    // decide what this look is about (no client)
    match plan::situation(&case.progress, &workload, &pods, case.now) {
        Situation::TemplatePending => case.wake_in(Duration::from_secs(2)),
        Situation::Idle(reason, message) => case.idle(reason, &message),
        Situation::Adopted(current) => case.adopt(&current, &workload),
        Situation::Settled(current) => case.settled(&current, &workload),
        Situation::Begin(current) => {
            case.begin(&current, &workload);
            if current.stage.is_judging() {
                judge::step(case, &class, &policy, current, &workload, &pods).await?;
            }
        }
        // observe metrics → assess → decide → act (client)
        Situation::Judge(current) => judge::step(case, &class, &policy, current, &workload, &pods).await?,
        // act (client)
        Situation::FinishUndo(undo) => restore::finish(case, &class, &policy, &workload, &pods, undo).await?,
        Situation::Verify(undo) => verification::look(case, &policy, &workload, &pods, undo).await,
        Situation::Overtaken(undo, current) => restore::overtaken(case, &policy, &workload, undo, &current),
        Situation::BackAgain(current, bad) => restore::back_again(case, &workload, &current, &bad),
        // observe metrics → assess (client)
        Situation::Recheck(current, recheck) => {
            recheck::look(case, &class, &policy, current, &workload, &pods, recheck).await;
        }
        // a person decides → act (client)
        Situation::AwaitApproval(current, pending) => {
            approval::look(case, &class, &policy, current, &workload, &pods, pending).await?;
        }
    }
    Ok(())
}
