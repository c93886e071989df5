//! `deployment-guard approve` and `reject`: a person's answer to a decision that waits.
//!
//! Role: writes the annotation that names the pending decision and the person. Inputs: the cluster, with the rights of
//! whoever answers; a terminal, where the decision is not named. Outputs: a line; 0 if answered, 2 if there is nothing to
//! answer or it may not be, 4 without an API server. Must never import: `console`. The operator reads the answer; this only gives it.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::cluster::{self, Cluster, Failure};
use super::explain::plain;
use super::guards::{self, Place};
use super::screen::next::answer_line;
use super::screen::seen::Seen;
use super::screen::times::{clock, relative};
use super::status::said;
use crate::domain::approval::{APPROVE, REJECT};
use crate::domain::managers;

/// Answer the decision of a guard that waits for a person.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the guard.
    guard: String,
    /// Id of the decision; if it is left out, the pending one is shown and you are asked.
    decision: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Answer the pending decision without being asked.
    #[arg(short, long)]
    yes: bool,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It is to be undone.
    Approve,
    /// It is to stay.
    Reject,
}

impl Word {
    const fn command(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }

    const fn past(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Reject => "rejected",
        }
    }

    const fn annotation(self) -> &'static str {
        match self {
            Self::Approve => APPROVE,
            Self::Reject => REJECT,
        }
    }
}

/// Answers.
pub fn run(arguments: &Arguments, word: Word) -> anyhow::Result<ExitCode> {
    cluster::run(answer(arguments, word))?.or_else(Failure::report)
}

async fn answer(arguments: &Arguments, word: Word) -> Result<ExitCode, Failure> {
    let cluster = arguments.place.connect().await?;
    let raw = guards::read(&cluster, &arguments.guard).await?;
    let guard = Seen::new(&raw);
    let decision = pending(&guard, arguments.decision.as_deref(), Timestamp::now()).map_err(Failure::Refused)?;
    if let Some(line) = already(&guard, &decision, word)? {
        return said(&line);
    }
    if arguments.decision.is_none() && !arguments.yes {
        confirm(&guard, word)?;
    }
    let by = who(&cluster).await?;
    let patch = json!({
        // Not another guard that took the name meanwhile.
        "metadata": {"uid": raw["metadata"]["uid"], "annotations": {word.annotation(): format!("{decision} by {by}")}},
    });
    let params = PatchParams { field_manager: Some(managers::ANSWER.to_owned()), ..PatchParams::default() };
    let api = guards::api(&cluster, Some(&cluster.namespace));
    let written = cluster.ask(api.patch(&arguments.guard, &params, &Patch::Merge(&patch))).await;
    let what = format!("{} decision {decision} of the guard {}", word.command(), guard.key());
    written.map_err(|trouble| cluster.failed_for_guards(trouble, &what))?;
    let then = match word {
        Word::Approve => "the operator undoes it within seconds, unless something else speaks against it by then",
        Word::Reject => "nothing is undone",
    };
    let watch = format!("{} status -w -n {} {}", super::program(), cluster.namespace, arguments.guard);
    said(&format!("{} {} decision {decision}; {then}. See: {watch}\n", plain::line(&by), word.past()))
}

/// The decision that waits, if it is the one that is named, and still waits.
fn pending(guard: &Seen, named: Option<&str>, now: Timestamp) -> Result<String, String> {
    let key = guard.key();
    let waits = guard.text("/status/pendingAction/decision");
    if waits.is_empty() {
        let last = guard.text("/status/lastDecision/id");
        let answered = guard.text("/status/lastDecision/answeredBy");
        let about = match named {
            Some(named) if named == last && !answered.is_empty() => format!("; {answered} answered {last} already"),
            _ => match guard.text("/status/lastDecision/action") {
                action if action.is_empty() => "; it has decided nothing yet".to_owned(),
                action => format!("; its last decision is {last} ({action})"),
            },
        };
        return Err(format!("no decision of the guard {key} waits for a person{about}"));
    }
    if let Some(named) = named.filter(|named| *named != waits) {
        return Err(format!(
            "the guard {key} does not wait for decision {}: {waits} waits, about revision {}",
            plain::line(named),
            guard.text("/status/pendingAction/fromRevision")
        ));
    }
    if let Some(expired) = guard.at("/status/pendingAction/expiresAt").filter(|at| *at <= now) {
        return Err(format!(
            "decision {waits} of the guard {key} expired at {} ({}): nothing was undone; to have the revision judged again, \
             annotate the guard deploymentguard.dev/retry with any new value",
            clock(expired, now),
            relative(expired, now)
        ));
    }
    Ok(waits)
}

/// An answer that was given before: the same is well, another one is in the way.
fn already(guard: &Seen, decision: &str, word: Word) -> Result<Option<String>, Failure> {
    let given = |annotation: &str| {
        let text = guard.text(&format!("/metadata/annotations/{}", annotation.replace('/', "~1")));
        text.strip_prefix(decision)?.strip_prefix(" by ").map(str::to_owned)
    };
    if let Some(by) = given(word.annotation()) {
        return Ok(Some(format!(
            "{by} gave this answer to decision {decision} already; the operator reads it within seconds\n"
        )));
    }
    match (word, given(REJECT)) {
        (Word::Approve, Some(by)) => {
            Err(Failure::refused(format!("{by} rejected decision {decision}, and a rejection wins over an approval")))
        }
        _ => Ok(None),
    }
}

/// Shows what is asked, and asks.
fn confirm(guard: &Seen, word: Word) -> Result<(), Failure> {
    let get = |field: &str| guard.text(&format!("/status/pendingAction/{field}"));
    super::terminal::note(&format!(
        "{} waits for a person: go back from revision {} to {}",
        guard.key(),
        get("fromRevision"),
        get("toRevision")
    ));
    super::terminal::note(&format!("  decision {}", get("decision")));
    super::terminal::note(&format!("  why asked: {}", get("why")));
    super::terminal::note(&format!("  rests on: {}", get("reasoning")));
    ask(&format!("{} it?", word.command()), &answer_line(super::program(), word.command(), guard))
}

/// Asks on a terminal; without one says what to type instead.
pub(super) fn ask(question: &str, instead: &str) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::refused(format!("nobody can be asked here; say it in full: {instead}")));
    }
    let _ = write!(std::io::stderr().lock(), "{question} [y/N] ");
    let mut said = String::new();
    let read = input.lock().read_line(&mut said);
    if read.is_ok() && ["y", "yes"].contains(&said.trim().to_lowercase().as_str()) {
        return Ok(());
    }
    Err(Failure::refused("nothing was done"))
}

/// The person's own name, as the API server knows it: the admission policy compares it.
async fn who(cluster: &Cluster) -> Result<String, Failure> {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = cluster.ask(reviews.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let review = review
        .map_err(|trouble| cluster.failed(trouble, "ask who you are (selfsubjectreviews.authentication.k8s.io)"))?;
    let name = review.status.and_then(|status| status.user_info?.username).filter(|name| !name.is_empty());
    name.ok_or_else(|| Failure::refused("the API server does not say who you are; an answer has to name you"))
}

/// What is asked of a guard whose decision waits; for those who would act beside it.
pub(super) fn waits(guard: &Value) -> Option<String> {
    let guard = Seen::new(guard);
    guard.has("/status/pendingAction").then(|| answer_line(super::program(), "approve", &guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(status: Value, annotations: Value) -> Seen {
        Seen::new(
            &json!({"metadata": {"namespace": "shop", "name": "api", "annotations": annotations}, "status": status}),
        )
    }

    fn waiting() -> Value {
        json!({"pendingAction": {"decision": "bad-1", "fromRevision": "bad", "toRevision": "good",
            "expiresAt": "1970-01-01T00:15:00Z"}})
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_the_decision_that_waits_can_be_answered_and_only_in_time() {
        let waits = guard(waiting(), json!({}));
        assert_eq!(pending(&waits, None, at(899)), Ok("bad-1".to_owned()));
        assert_eq!(pending(&waits, Some("bad-1"), at(899)), Ok("bad-1".to_owned()));
        let other = pending(&waits, Some("bad-0"), at(1)).unwrap_err();
        assert!(other.contains("does not wait for decision bad-0: bad-1 waits, about revision bad"), "{other}");
        let late = pending(&waits, None, at(900)).unwrap_err();
        assert!(late.contains("expired at 00:15:00Z") && late.contains("deploymentguard.dev/retry"), "{late}");
    }

    #[test]
    fn where_nothing_waits_it_is_said_what_was_decided_last() {
        let none = pending(&guard(json!({}), json!({})), None, at(1)).unwrap_err();
        assert_eq!(none, "no decision of the guard shop/api waits for a person; it has decided nothing yet");
        let last = json!({"lastDecision": {"id": "bad-1", "action": "RolledBack", "answeredBy": "ada"}});
        let done = guard(last, json!({}));
        assert!(pending(&done, Some("bad-1"), at(1)).unwrap_err().ends_with("; ada answered bad-1 already"));
        assert!(pending(&done, None, at(1)).unwrap_err().ends_with("its last decision is bad-1 (RolledBack)"));
    }

    #[test]
    fn a_rejection_stands_and_the_same_answer_again_is_none() {
        let rejected = guard(waiting(), json!({REJECT: "bad-1 by ada"}));
        assert!(
            matches!(already(&rejected, "bad-1", Word::Approve), Err(Failure::Refused(why)) if why.contains("ada rejected"))
        );
        assert!(already(&rejected, "bad-1", Word::Reject).unwrap().unwrap().starts_with("ada gave this answer"));
        assert!(already(&rejected, "bad-2", Word::Approve).unwrap().is_none());
        let approved = guard(waiting(), json!({APPROVE: "bad-1 by ada"}));
        assert!(already(&approved, "bad-1", Word::Reject).unwrap().is_none(), "who rejects may still win");
    }
}
