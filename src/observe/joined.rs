//! Several watches as one.
//!
//! Role: a list that is complete when all of them are, so that whoever follows knows no namespaces. Inputs: the watch of
//! each. Outputs: one stream of events. Must never import: other rooms than `domain`. If one lists again the others do
//! too: what is missing in a new list is gone, and only a whole list can say so.

use std::fmt::Debug;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::watch;
use crate::domain::scope::Scope;

/// Watches a kind wherever it is looked for. Errors are reported in the stream, and the watch goes on.
pub fn events<K>(client: &Client, scope: &Scope) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let apis: Vec<Api<K>> = apis(client, scope);
    join(apis.len(), move |index| watch::events(apis[index].clone()).boxed())
}

/// The same where another version may have written what cannot be read; see [`watch::readable`].
pub fn readable<K>(
    client: &Client,
    scope: &Scope,
    stand_in: fn(ObjectMeta) -> Option<K>,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let apis: Vec<Api<DeserializeGuard<K>>> = apis(client, scope);
    join(apis.len(), move |index| watch::readable(apis[index].clone(), stand_in).boxed())
}

/// The collections of a kind wherever it is looked for.
#[must_use]
pub fn apis<K>(client: &Client, scope: &Scope) -> Vec<Api<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let api = |place: Option<&str>| {
        place.map_or_else(|| Api::all(client.clone()), |name| Api::namespaced(client.clone(), name))
    };
    scope.places().into_iter().map(api).collect()
}

/// How far the list of one watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing of it came.
    Awaited,
    /// Some of it came.
    Arriving,
    /// It is complete.
    Complete,
}

/// What was heard of all of them.
struct Parts<K> {
    progress: Vec<Progress>,
    /// Whether the common list began.
    began: bool,
    /// Changes that came before the common list was complete.
    late: Vec<Event<K>>,
}

/// What one event comes to.
struct Heard<K> {
    events: Vec<Event<K>>,
    /// The others have to list again.
    again: bool,
}

impl<K> Parts<K> {
    fn new(count: usize) -> Self {
        Self { progress: vec![Progress::Awaited; count], began: false, late: Vec::new() }
    }

    fn hear(&mut self, from: usize, event: Event<K>) -> Heard<K> {
        let tell = |events| Heard { events, again: false };
        match event {
            Event::Init if self.progress[from] == Progress::Awaited => {
                let first = !std::mem::replace(&mut self.began, true);
                tell(first.then_some(Event::Init).into_iter().collect())
            }
            Event::Init => {
                *self = Self { began: true, ..Self::new(self.progress.len()) };
                Heard { events: vec![Event::Init], again: true }
            }
            Event::InitApply(_) => {
                self.progress[from] = Progress::Arriving;
                tell(vec![event])
            }
            Event::InitDone => {
                self.progress[from] = Progress::Complete;
                if !self.is_complete() {
                    return tell(Vec::new());
                }
                self.began = false;
                let late = std::mem::take(&mut self.late);
                tell(std::iter::once(Event::InitDone).chain(late).collect())
            }
            Event::Apply(_) | Event::Delete(_) if self.is_complete() => tell(vec![event]),
            Event::Apply(_) | Event::Delete(_) => {
                self.late.push(event);
                tell(Vec::new())
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.progress.iter().all(|progress| *progress == Progress::Complete)
    }
}

type Watch<K, E> = BoxStream<'static, Result<Event<K>, E>>;

fn join<K, E>(
    count: usize,
    start: impl Fn(usize) -> Watch<K, E> + Send + 'static,
) -> impl Stream<Item = Result<Event<K>, E>> + Send
where
    K: Send + 'static,
    E: Send + 'static,
{
    let watches: Vec<Watch<K, E>> = (0..count).map(&start).collect();
    let joined = stream::unfold((watches, Parts::new(count), start), |(mut watches, mut parts, start)| async move {
        let (next, from, _) = future::select_all(watches.iter_mut().map(StreamExt::next)).await;
        let items = match next? {
            Err(error) => vec![Err(error)],
            Ok(event) => {
                let heard = parts.hear(from, event);
                if heard.again {
                    for (index, watch) in watches.iter_mut().enumerate().filter(|(index, _)| *index != from) {
                        *watch = start(index);
                    }
                }
                heard.events.into_iter().map(Ok).collect()
            }
        };
        Some((stream::iter(items), (watches, parts, start)))
    });
    joined.flatten()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use super::*;

    type Script = Vec<Event<u8>>;

    /// What comes of scripts; a watch that is started again plays its next one.
    async fn joined(scripts: Vec<Vec<Script>>) -> Vec<String> {
        let count = scripts.len();
        let left: Vec<_> = scripts.into_iter().map(Vec::into_iter).collect();
        let left = Arc::new(Mutex::new(left));
        let start = move |index: usize| {
            let play = left.lock().unwrap()[index].next().unwrap_or_default();
            stream::iter(play.into_iter().map(Ok::<_, Infallible>)).chain(stream::pending()).boxed()
        };
        let events = join(count, start).take_until(tokio::time::sleep(std::time::Duration::from_millis(50)));
        events.map(|event| word(&event.unwrap())).collect().await
    }

    fn word(event: &Event<u8>) -> String {
        match event {
            Event::Init => "Init".into(),
            Event::InitDone => "Done".into(),
            Event::InitApply(n) => format!("list {n}"),
            Event::Apply(n) => format!("apply {n}"),
            Event::Delete(n) => format!("delete {n}"),
        }
    }

    fn list(of: u8) -> Script {
        vec![Event::Init, Event::InitApply(of), Event::InitDone]
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_watch_passes_as_it_is_lists_anew_included() {
        let script = [list(1), vec![Event::Apply(2), Event::Delete(1)], list(2)].concat();
        let words: Vec<_> = script.iter().map(word).collect();
        assert_eq!(joined(vec![vec![script]]).await, words);
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_is_complete_when_every_one_is_and_changes_wait_for_that() {
        let early = [list(1), vec![Event::Apply(2), Event::Delete(1)]].concat();
        let words = joined(vec![vec![early], vec![list(3)]]).await;
        assert_eq!(words, ["Init", "list 1", "list 3", "Done", "apply 2", "delete 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_one_lists_again_all_do_so_that_nothing_that_is_gone_stays() {
        let again = [list(1), list(2)].concat();
        // The second watch is complete, then plays its second script, in which 3 is gone.
        let words = joined(vec![vec![list(3), list(4)], vec![again]]).await;
        assert_eq!(words, ["Init", "list 3", "list 1", "Done", "Init", "list 4", "list 2", "Done"]);
    }

    #[test]
    fn one_that_may_not_list_keeps_the_list_incomplete_and_disturbs_nobody() {
        let mut parts = Parts::<u8>::new(2);
        let heard: Vec<_> = list(1).into_iter().flat_map(|event| parts.hear(0, event).events).collect();
        assert_eq!(heard.iter().map(word).collect::<Vec<_>>(), ["Init", "list 1"]);
        for _ in 0..3 {
            let heard = parts.hear(1, Event::Init);
            assert!(heard.events.is_empty() && !heard.again);
        }
        assert!(!parts.is_complete());
    }
}
