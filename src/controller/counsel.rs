//! The opinion of language models about a rollout, asked for beside the looks: nothing that decides ever waits in one.
//!
//! Role: one chain at a time and guard, in the background; it keeps what was said and rings. Inputs: a question. Outputs:
//! opinions, attempts. A chain always ends by its deadline. Must never import: `cli`, `console`.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc::UnboundedSender;

use super::advisers::{Advisers, ClassAdvisers};
use super::context::Clock;
use super::memory::GuardKey;
use crate::advise::{Prompt as Sent, Provider};
use crate::domain::advice::authority::Ground;
use crate::domain::advice::chain::{ANSWERED, Attempt, Chain, Event, Outcome, Step, Turn};
use crate::domain::advice::prompt::{self, Known, Prompt};
use crate::domain::advice::provider::DecisionPolicy;
use crate::domain::advice::reply::Opinion;
use crate::domain::advice::{Failure, Rung, Usage};
use crate::domain::rollout::RevisionHash;
use crate::observe::pods::WorkloadKey;
use crate::observe::workload;
use crate::record::prompts::Call;

/// How long reading the templates may take; without them the model is told less.
const TEMPLATES: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The judged revision.
    pub revision: String,
    /// When its rollout was first seen.
    pub started: Timestamp,
    /// Stands for the evidence.
    pub hash: String,
    /// What the model is told, but for the templates.
    pub case: prompt::Case,
    /// Whose templates, and of which revisions.
    pub templates: Option<Templates>,
    /// Who is asked, and for how long.
    pub policy: DecisionPolicy,
    /// The class that knows the providers.
    pub class: String,
    /// What was known without a model.
    pub ground: Ground,
    /// The decision that is to be explained, after the act.
    pub explains: Option<String>,
}

/// The templates that a question compares.
#[derive(Debug, Clone)]
pub struct Templates {
    /// The workload.
    pub key: WorkloadKey,
    /// Its uid.
    pub uid: String,
    /// The revision before.
    pub old: RevisionHash,
    /// The judged one.
    pub new: RevisionHash,
}

/// What came of a question.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Stands for the evidence that was asked about.
    pub hash: String,
    /// When the chain ended.
    pub at: Timestamp,
    /// Who has an opinion, and which; nobody, if all failed.
    pub opinion: Option<(String, Opinion)>,
    /// What could be cited.
    pub known: Vec<Known>,
    /// Every call.
    pub attempts: Vec<Attempt>,
    /// The decision that it explains.
    pub explains: Option<String>,
    /// What was known without a model when it was asked.
    pub ground: Ground,
    /// Whether no look has seen it yet.
    pub fresh: bool,
}

#[derive(Debug, Default)]
struct Room {
    revision: String,
    started: Option<Timestamp>,
    calls: u32,
    /// Hashes that were asked about.
    asked: Vec<String>,
    /// By when the chain that runs has ended.
    asking: Option<Timestamp>,
    heard: Option<Heard>,
    explained: Option<Heard>,
    /// The explanation to ask for once the chain that runs has ended: what it was asked is another question.
    next: Option<Box<Question>>,
    /// What left and what came back, until it is kept.
    unkept: Vec<Call>,
}

/// Every guard's counsel.
pub struct Counsel {
    client: Client,
    /// Who can be asked.
    pub advisers: Advisers,
    clock: Clock,
    rooms: Mutex<HashMap<GuardKey, Room>>,
    wake: Mutex<Option<UnboundedSender<GuardKey>>>,
}

/// A rollout, as far as a room belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// Its revision.
    pub revision: &'a str,
    /// When it was first seen.
    pub started: Timestamp,
    /// Calls that an earlier process counted.
    pub calls_before: u32,
}

impl Counsel {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new(client: Client, advisers: Advisers, clock: Clock) -> Self {
        Self { client, advisers, clock, rooms: Mutex::default(), wake: Mutex::default() }
    }

    /// Where to ring when a chain ended.
    pub fn ring(&self, wake: UnboundedSender<GuardKey>) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Calls of a rollout so far, and the hashes that were asked about.
    pub fn so_far(&self, key: &GuardKey, of: Of<'_>) -> (u32, Vec<String>) {
        let mut rooms = self.locked();
        let room = open(&mut rooms, key, of);
        (room.calls, room.asked.clone())
    }

    /// By when somebody who is being asked about this rollout has answered or will not be waited for.
    #[must_use]
    pub fn asking(&self, key: &GuardKey) -> Option<Timestamp> {
        self.locked().get(key)?.asking
    }

    /// What was heard last about a rollout; the same revision may be rolled out twice. The next look is told that it is
    /// no longer fresh.
    #[must_use]
    pub fn heard(&self, key: &GuardKey, revision: &str, started: Timestamp) -> Option<Heard> {
        let mut rooms = self.locked();
        let mine = |room: &&mut Room| room.revision == revision && room.started == Some(started);
        let room = rooms.get_mut(key).filter(mine)?;
        let heard = room.heard.clone();
        if let Some(heard) = &mut room.heard {
            heard.fresh = false;
        }
        heard
    }

    /// The explanation of a decision, once.
    #[must_use]
    pub fn explanation(&self, key: &GuardKey, decision: &str) -> Option<Heard> {
        let mut rooms = self.locked();
        let explained = &mut rooms.get_mut(key)?.explained;
        if explained.as_ref().is_some_and(|heard| heard.explains.as_deref() == Some(decision)) {
            explained.take()
        } else {
            None
        }
    }

    /// Calls that nobody kept yet.
    #[must_use]
    pub fn take_calls(&self, key: &GuardKey) -> Vec<Call> {
        self.locked().get_mut(key).map(|room| std::mem::take(&mut room.unkept)).unwrap_or_default()
    }

    /// Forgets a deleted guard; what is under way rings for nobody.
    pub fn forget(&self, key: &GuardKey) {
        self.locked().remove(key);
    }

    /// Asks, unless somebody is being asked already. An explanation is asked for after that.
    pub fn ask(self: &Arc<Self>, key: &GuardKey, of: Of<'_>, question: Question) {
        let mut rooms = self.locked();
        let room = open(&mut rooms, key, of);
        if room.asking.is_none() {
            self.begin(room, key, question);
        } else if question.explains.is_some() {
            room.next = Some(Box::new(question));
        }
    }

    fn begin(self: &Arc<Self>, room: &mut Room, key: &GuardKey, question: Question) {
        room.asking = Some((self.clock)().checked_add(question.policy.deadline).unwrap_or(Timestamp::MAX));
        if question.explains.is_none() {
            room.asked.push(question.hash.clone());
        }
        let (this, key) = (self.clone(), key.clone());
        tokio::spawn(async move { this.hear(key, question).await });
    }

    async fn hear(self: Arc<Self>, key: GuardKey, question: Question) {
        let Ran { known, opinion, attempts, calls } = self.run(&key, &question).await;
        let heard = Heard {
            hash: question.hash,
            at: (self.clock)(),
            opinion,
            known,
            attempts,
            explains: question.explains,
            ground: question.ground,
            fresh: true,
        };
        let mut rooms = self.locked();
        // Another rollout may have begun meanwhile, or the guard is gone.
        let mine = |room: &&mut Room| room.revision == question.revision && room.started == Some(question.started);
        let Some(room) = rooms.get_mut(&key).filter(mine) else { return };
        room.asking = None;
        room.unkept.extend(calls);
        if heard.explains.is_some() {
            room.explained = Some(heard);
        } else {
            room.heard = Some(heard);
        }
        if let Some(next) = room.next.take() {
            self.begin(room, &key, *next);
        }
        drop(rooms);
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = wake.send(key);
        }
    }

    async fn run(&self, key: &GuardKey, question: &Question) -> Ran {
        let (at, asked) = ((self.clock)(), Instant::now());
        let Some(class) = self.advisers.of(&question.class) else { return Ran::default() };
        let mut case = question.case.clone();
        case.changes = self.changes(question.templates.as_ref()).await;
        let prompt = match prompt::write(&case, class.policy.data, &boundary(), &class.redactor) {
            Ok(prompt) => prompt,
            Err(failure) => {
                tracing::error!(%failure, guard = %key.name, "there is no prompt");
                return Ran::default();
            }
        };
        let all: Vec<(Turn, Option<Arc<Provider>>)> =
            question.policy.chain.iter().filter_map(|name| self.turn(&class, name)).collect();
        let turns = all.iter().map(|(turn, _)| turn.clone()).collect();
        // What was read for the prompt took of the same time.
        let left = question.policy.deadline.saturating_sub(asked.elapsed());
        let (began, mut calls) = (Instant::now(), Vec::new());
        let (mut chain, mut step) = Chain::begin(turns, prompt.known.clone(), left);
        let outcome = loop {
            let event = match step {
                Step::Done(outcome) => break outcome,
                Step::Wait { until } => {
                    tokio::time::sleep(until.saturating_sub(began.elapsed())).await;
                    Event::TimePassed
                }
                Step::Ask { provider, rung, deadline } => {
                    let within = deadline.saturating_sub(began.elapsed());
                    let mut note = note(question, at, calls.len());
                    let event = match all.get(provider) {
                        Some((turn, Some(provider))) => {
                            let about = Asking { class: &class, turn, provider, prompt: &prompt, rung, within };
                            self.call(key, question, about, &mut note).await
                        }
                        // Its Secret or its settings cannot be used; the class's status says which.
                        _ => Event::Failed(Failure::Unauthorized),
                    };
                    calls.push(note);
                    event
                }
            };
            let answered = matches!(event, Event::Answered(_));
            step = chain.next(event, began.elapsed());
            // It answered, and what it said could not be used.
            if let Some(last) = chain.attempts().last().filter(|last| answered && last.outcome != ANSWERED)
                && let Some((turn, _)) = all.get(last.provider)
            {
                class.misread(&turn.name, last.outcome);
            }
        };
        let opinion = match outcome {
            Outcome::NoOpinion => None,
            Outcome::Opinion { provider, opinion } => all.get(provider).map(|(turn, _)| {
                class.learn(&turn.name, chain.rung());
                (turn.name.clone(), opinion.redacted(&class.redactor))
            }),
        };
        for (call, attempt) in calls.iter_mut().zip(chain.attempts()) {
            call.outcome = attempt.outcome;
            call.milliseconds = attempt.milliseconds;
        }
        Ran { known: prompt.known, opinion, attempts: chain.attempts().to_vec(), calls }
    }

    /// A provider of the chain, also one that cannot be used: it is listed with why.
    fn turn(&self, class: &ClassAdvisers, name: &str) -> Option<(Turn, Option<Arc<Provider>>)> {
        let policy = class.policy.providers.iter().find(|one| one.name == *name)?;
        let turn = Turn {
            name: name.to_owned(),
            timeout: policy.timeout,
            retries: policy.retries.into(),
            rung: class.rung(name),
        };
        Some((turn, self.advisers.provider(class, name)))
    }

    async fn call(&self, key: &GuardKey, question: &Question, about: Asking<'_>, note: &mut Call) -> Event {
        let Asking { class, turn, provider, prompt, rung, within } = about;
        note.provider.clone_from(&turn.name);
        note.model.clone_from(&provider.policy().model);
        if !self.count(key, question) {
            return Event::Failed(Failure::BudgetExhausted);
        }
        let leave = match class.admit(&turn.name, prompt.tokens(), (self.clock)()) {
            Ok(leave) => leave,
            Err(failure) => {
                self.uncount(key, question);
                return Event::Failed(failure);
            }
        };
        let sent = Sent { system: prompt.system.clone(), user: prompt.user.clone(), schema: prompt.schema.clone() };
        let began = Instant::now();
        let (sent, answer) = provider.exchange(&sent, rung, within).await;
        note.sent = sent.map(|sent| sent.as_str().to_owned()).unwrap_or_default();
        note.usage = answer.as_ref().map_or_else(|failed| failed.usage, |answer| answer.usage);
        note.replied = answer.as_ref().map(|answer| answer.text.clone()).unwrap_or_default();
        class.settle(&turn.name, leave, &answer, began.elapsed(), (self.clock)());
        match answer {
            Ok(answer) => Event::Answered(answer),
            Err(failed) => Event::Failed(failed.failure),
        }
    }

    /// One more call of the rollout, if it may have one.
    fn count(&self, key: &GuardKey, question: &Question) -> bool {
        self.with(key, question, |room| {
            let may = room.calls < question.policy.max_calls_per_rollout;
            room.calls = room.calls.saturating_add(u32::from(may));
            may
        })
        .unwrap_or(false)
    }

    /// It was not made.
    fn uncount(&self, key: &GuardKey, question: &Question) {
        self.with(key, question, |room| room.calls = room.calls.saturating_sub(1));
    }

    fn with<T>(&self, key: &GuardKey, question: &Question, change: impl FnOnce(&mut Room) -> T) -> Option<T> {
        let mut rooms = self.locked();
        let mine = |room: &&mut Room| room.revision == question.revision && room.started == Some(question.started);
        rooms.get_mut(key).filter(mine).map(change)
    }

    async fn changes(&self, wanted: Option<&Templates>) -> Vec<prompt::Change> {
        let Some(wanted) = wanted else { return Vec::new() };
        let both = BTreeSet::from([wanted.old.clone(), wanted.new.clone()]);
        let read = workload::templates(&self.client, &wanted.key, &wanted.uid, &both);
        let Ok(Ok(found)) = tokio::time::timeout(TEMPLATES, read).await else { return Vec::new() };
        let template = |revision| found.get(revision).map(|held| &held.template);
        template(&wanted.old).zip(template(&wanted.new)).map(|(old, new)| prompt::changes(old, new)).unwrap_or_default()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<GuardKey, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a chain came to.
#[derive(Debug, Default)]
struct Ran {
    known: Vec<Known>,
    opinion: Option<(String, Opinion)>,
    attempts: Vec<Attempt>,
    calls: Vec<Call>,
}

/// A call as it is kept, before it is made.
fn note(question: &Question, at: Timestamp, calls: usize) -> Call {
    Call {
        ask: format!("{}-{}", question.revision, at.as_millisecond()),
        number: u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(1),
        decision: question.explains.clone(),
        revision: question.revision.clone(),
        at,
        provider: String::new(),
        model: String::new(),
        prompt_version: prompt::PROMPT_VERSION,
        outcome: "",
        milliseconds: 0,
        usage: Usage::default(),
        sent: String::new(),
        replied: String::new(),
    }
}

struct Asking<'a> {
    class: &'a ClassAdvisers,
    turn: &'a Turn,
    provider: &'a Provider,
    prompt: &'a Prompt,
    rung: Rung,
    within: Duration,
}

/// The room of this rollout; another one's is cleared.
fn open<'r>(rooms: &'r mut HashMap<GuardKey, Room>, key: &GuardKey, of: Of<'_>) -> &'r mut Room {
    let room = rooms.entry(key.clone()).or_default();
    if room.revision != of.revision || room.started != Some(of.started) {
        *room = Room {
            revision: of.revision.to_owned(),
            started: Some(of.started),
            calls: of.calls_before,
            ..Room::default()
        };
    }
    room
}

/// What nobody who writes logs can guess: seeded by the operating system, new for each question.
fn boundary() -> String {
    let draw = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", draw(), draw())
}
