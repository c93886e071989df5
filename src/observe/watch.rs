//! One watch with streaming lists where the server has them, and small pages where it has not.
//!
//! Role: the way every large collection is watched. Inputs: an `Api`. Outputs: watch events, endlessly. Must never
//! import: other rooms.

use std::fmt::Debug;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

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
