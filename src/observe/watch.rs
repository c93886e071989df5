//! One watch with streaming lists where the server has them, and small pages where it has not.
//!
//! Role: the way every large collection is watched. Inputs: an `Api`. Outputs: watch events, endlessly. Must never
//! import: other rooms than `domain`.

use std::fmt::Debug;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, future, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::domain::redact::{Redactor, SERVER_MESSAGE};

/// A silently dead connection is noticed after this long plus 5 s (kube's default is 290 s).
const TIMEOUT_SECONDS: u32 = 55;
/// Pages of a list while the server has no streaming lists: small, because a whole page is in memory at once.
const PAGE: u32 = 50;
/// Before a failed watch is tried again the other way.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches a collection. Errors are reported in the stream, and the watch goes on.
pub fn events<K>(api: Api<K>) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = |streaming: bool| {
        let config = watcher::Config::default().timeout(TIMEOUT_SECONDS);
        if streaming { config.streaming_lists() } else { config.page_size(PAGE) }
    };
    let start = move |streaming: bool| {
        let events = watch(api.clone(), config(streaming)).default_backoff();
        let delayed = async move {
            if !streaming {
                tokio::time::sleep(PAUSE).await;
            }
            events
        };
        delayed.flatten_stream().boxed()
    };
    // The state is the running stream and whether it streams its list; a refusal of streaming switches it once.
    let first = start(true);
    stream::unfold((first, true, start), |(mut events, streaming, start)| async move {
        let item = events.next().await?;
        let refused = streaming && item.as_ref().is_err_and(streaming_refused);
        if refused {
            tracing::info!("the API server has no streaming lists; listing in pages of {PAGE}");
            events = start(false);
        }
        Some((item, (events, streaming && !refused, start)))
    })
}

/// Watches a collection that another version may write: an object that cannot be read is left out, and that is said. It
/// would keep a whole page of others from being seen. `stand_in` makes an object that says no more than which one is meant.
pub fn readable<K>(
    api: Api<DeserializeGuard<K>>,
    stand_in: fn(ObjectMeta) -> Option<K>,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    events(api).filter_map(move |event| future::ready(event.map(|event| read(event, stand_in)).transpose()))
}

/// What an event says of what can be read: what cannot be read any more is as good as gone.
fn read<K: Resource<DynamicType = ()>>(
    event: Event<DeserializeGuard<K>>,
    stand_in: fn(ObjectMeta) -> Option<K>,
) -> Option<Event<K>> {
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::InitApply(object) => object.0.map_err(|invalid| warn::<K>(&invalid)).ok().map(Event::InitApply),
        Event::Apply(DeserializeGuard(Ok(object))) => Some(Event::Apply(object)),
        Event::Apply(DeserializeGuard(Err(invalid))) => {
            warn::<K>(&invalid);
            stand_in(invalid.metadata).map(Event::Delete)
        }
        Event::Delete(object) => object.0.map_or_else(|invalid| stand_in(invalid.metadata), Some).map(Event::Delete),
    }
}

fn warn<K: Resource<DynamicType = ()>>(invalid: &InvalidObject) {
    let (kind, object) = (K::kind(&()), &invalid.metadata);
    let why = Redactor::new().redact(&invalid.error, SERVER_MESSAGE);
    tracing::warn!(
        kind = &*kind,
        namespace = object.namespace.as_deref().unwrap_or_default(),
        name = object.name.as_deref().unwrap_or_default(),
        why = why.as_str(),
        "an object of another version cannot be read and is left out"
    );
}

/// Servers without the feature answer `sendInitialEvents` with 422 Invalid.
fn streaming_refused(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    code == 422
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_invalid_request_means_that_streaming_is_not_there() {
        let error = |code| {
            let status = kube::core::Status::failure("sendInitialEvents is forbidden", "Invalid").with_code(code);
            watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
        };
        assert!(streaming_refused(&error(422)));
        assert!(!streaming_refused(&error(403)));
        assert!(!streaming_refused(&error(500)));
    }
}
