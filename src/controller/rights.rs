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
/// When one that is missing is asked for again.
const MISSING: Duration = Duration::from_secs(30);
/// How long the API server may take.
const MOST: Duration = Duration::from_secs(2);

/// What was answered lately, by namespace and kind: guards share it.
#[derive(Debug, Default)]
pub struct Rights(Mutex<HashMap<(String, Kind), (Timestamp, bool)>>);

impl Rights {
    fn known(&self, namespace: &str, kind: Kind, now: Timestamp) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, granted) = *known.get(&(namespace.to_owned(), kind))?;
        lies_within(asked, if granted { GRANTED } else { MISSING }, now).then_some(granted)
    }

    fn learn(&self, namespace: &str, kind: Kind, now: Timestamp, granted: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.to_owned(), kind), (now, granted));
    }
}

/// Asks whether the operator may do what the guard's mode lets it do.
pub async fn check(case: &mut Case<'_>, policy: &Policy) {
    if policy.mode < Mode::Approve || !case.ctx.leadership.holds() {
        return;
    }
    let (namespace, kind) = (case.target.namespace.clone(), case.target.target.kind);
    let granted = match case.ctx.rights.known(&namespace, kind, case.now) {
        Some(granted) => granted,
        None => match tokio::time::timeout(MOST, rights::may_patch(&case.ctx.client, &namespace, kind)).await {
            Ok(Ok(granted)) => {
                case.ctx.rights.learn(&namespace, kind, case.now, granted);
                granted
            }
            Ok(Err(error)) => return tracing::debug!(%error, "rights could not be asked for"),
            Err(_) => return tracing::debug!("rights were asked for without an answer"),
        },
    };
    if granted {
        return;
    }
    let message = format!(
        "the operator may not patch {}.apps in namespace {namespace}, so it judges and cannot undo (mode {}); grant its \
         ServiceAccount the verb patch (manifests/install.yaml lists its rights), or set spec.mode: Recommend",
        kind.plural(),
        policy.mode.as_str()
    );
    case.observe_condition(Type::Ready, false, Reason::Forbidden, &message);
    case.wake_in(MISSING);
}
