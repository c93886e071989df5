//! A guard that is to act needs an operator that may.
//!
//! Role: says in `Ready` which right is missing, long before a bad release comes. Inputs: a case and its policy. Outputs: a
//! condition. A question that is not answered says nothing: the undo itself tells. Must never import: `cli`, `console`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::case::Case;
use crate::api::condition::Type;
use crate::domain::guardrail::lies_within;
use crate::domain::outcome::Reason;
use crate::domain::policy::{Kind, Mode, Policy};
use crate::observe::rights;

/// For how long a right is believed to be there.
const GRANTED: Duration = Duration::from_mins(10);
/// When it is asked for again otherwise.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the API server may take.
const MOST: Duration = Duration::from_secs(2);

/// What the API server said of a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Granted,
    Missing,
    /// Nothing, so nothing is known; it is not asked at every look.
    None,
}

/// What was answered lately, by namespace and kind: guards share it.
#[derive(Debug, Default)]
pub struct Rights(Mutex<HashMap<(String, Kind), (Timestamp, Answer)>>);

impl Rights {
    fn known(&self, namespace: &str, kind: Kind, now: Timestamp) -> Option<Answer> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, answer) = *known.get(&(namespace.to_owned(), kind))?;
        lies_within(asked, if answer == Answer::Granted { GRANTED } else { AGAIN }, now).then_some(answer)
    }

    fn learn(&self, namespace: &str, kind: Kind, now: Timestamp, answer: Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.to_owned(), kind), (now, answer));
    }
}

async fn ask(case: &Case<'_>, namespace: &str, kind: Kind) -> Answer {
    match tokio::time::timeout(MOST, rights::may_patch(&case.ctx.client, namespace, kind)).await {
        Ok(Ok(true)) => Answer::Granted,
        Ok(Ok(false)) => Answer::Missing,
        Ok(Err(error)) => {
            tracing::debug!(%error, "rights could not be asked for");
            Answer::None
        }
        Err(_) => {
            tracing::debug!("rights were asked for without an answer");
            Answer::None
        }
    }
}

/// Asks whether the operator may do what the guard's mode lets it do.
pub async fn check(case: &mut Case<'_>, policy: &Policy) {
    if policy.mode < Mode::Approve || !case.ctx.leadership.holds() {
        return;
    }
    let (namespace, kind) = (case.target.namespace.clone(), case.target.target.kind);
    let answer = if let Some(answer) = case.ctx.rights.known(&namespace, kind, case.now) {
        answer
    } else {
        let answer = ask(case, &namespace, kind).await;
        case.ctx.rights.learn(&namespace, kind, case.now, answer);
        answer
    };
    if answer != Answer::Missing {
        return;
    }
    let message = format!(
        "the operator may not patch {}.apps in namespace {namespace}, so it judges and cannot undo (mode {}); grant its \
         ServiceAccount the verb patch (manifests/install.yaml lists its rights), or set spec.mode: Recommend",
        kind.plural(),
        policy.mode.as_str()
    );
    case.observe_condition(Type::Ready, false, Reason::Forbidden, &message);
    case.wake_in(AGAIN);
}
