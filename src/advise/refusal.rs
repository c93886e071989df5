//! What a server says when it does not answer.
//!
//! Role: status, headers and the error bodies of many servers to one [`Failure`] and one sentence. Inputs: an answer.
//! Outputs: why it is none, or nothing. Must never import: other rooms than `domain`.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::client::Got;
use crate::domain::advice::Failure;

/// Most of a body that is no JSON.
const MOST_TEXT: usize = 512;
/// Longer than this is as good as never.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Why an answer is none; `None` if it may be one.
pub(super) fn of(got: &Got, json: Option<&Value>) -> Option<(Failure, String)> {
    let said = json.and_then(message);
    let status = match got.status {
        // Some gateways answer 200 and mean it not.
        200..=299 => {
            let json = json?;
            let errors = [json.get("error"), json.pointer("/choices/0/error")];
            let error =
                errors.into_iter().flatten().find(|error| !matches!(error, Value::Null | Value::Bool(false)))?;
            let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
            let code = ["code", "status"].iter().find_map(|name| error.get(name).and_then(number));
            code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..=599).contains(code)).unwrap_or(500)
        }
        300..=399 => {
            let to =
                got.headers.get("location").and_then(|to| to.to_str().ok()).and_then(|to| url::Url::parse(to).ok());
            let to = to.as_ref().and_then(url::Url::host_str).unwrap_or("somewhere else");
            return Some((
                Failure::Redirected,
                format!("it sends the request to {to}; set baseURL to where it answers"),
            ));
        }
        status => status,
    };
    let said = said.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(got.body.get(..MOST_TEXT).unwrap_or(&got.body)).trim().to_owned();
        if text.is_empty() || text.starts_with('<') { format!("status {status} without explanation") } else { text }
    });
    let words = words(json);
    let failure = match status {
        401 | 403 => Failure::Unauthorized,
        // Google's word for a wrong key comes as a bad request.
        400 if words.contains("API_KEY_INVALID") => Failure::Unauthorized,
        404 => Failure::UnknownModel,
        429 => Failure::RateLimited(retry_after(&got.headers).or_else(|| json.and_then(retry_info))),
        400..=499 if unknown_model(&words, &said) => Failure::UnknownModel,
        500..=599 => Failure::Server(status),
        _ => Failure::Refused(status),
    };
    Some((failure, said))
}

/// The sentence in an error body, wherever servers put it.
fn message(json: &Value) -> Option<String> {
    // Google's come in a list, if one asked for a stream somewhere on the way.
    let json = json.as_array().and_then(|list| list.first()).unwrap_or(json);
    let found = ["/error/message", "/error", "/choices/0/error/message", "/message", "/detail", "/detail/0/msg"];
    found.iter().find_map(|place| json.pointer(place).and_then(Value::as_str)).map(str::to_owned)
}

/// Codes, types and reasons of an error body.
fn words(json: Option<&Value>) -> String {
    let Some(json) = json else { return String::new() };
    let places = ["/error/code", "/error/type", "/error/status", "/type", "/code"];
    let mut words: Vec<&str> = places.iter().filter_map(|place| json.pointer(place).and_then(Value::as_str)).collect();
    let details = json.pointer("/error/details").and_then(Value::as_array);
    words.extend(details.into_iter().flatten().filter_map(|detail| detail.get("reason").and_then(Value::as_str)));
    words.join(" ")
}

fn unknown_model(words: &str, said: &str) -> bool {
    let words = words.to_lowercase();
    if ["model_not_found", "model_not_available", "unknown_model", "invalid_model", "deploymentnotfound"]
        .iter()
        .any(|word| words.contains(word))
    {
        return true;
    }
    let said = said.to_lowercase();
    let absent = ["does not exist", "not found", "is not available", "not a valid model", "unknown model"];
    said.contains("model") && absent.iter().any(|word| said.contains(word))
}

/// How long the server wants to be left alone: milliseconds, seconds, or a date by its own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<u64>().ok()) {
        return Some(Duration::from_millis(millis).min(LONGEST_WAIT));
    }
    let after = text(RETRY_AFTER.as_str())?;
    if let Some(wait) = after.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        return Some(wait.min(LONGEST_WAIT));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    // The server's clock and ours may differ; its two dates do not.
    let now = text(DATE.as_str()).and_then(date).or_else(|| Timestamp::try_from(SystemTime::now()).ok())?;
    let wait = date(after)?.duration_since(now).max(SignedDuration::ZERO);
    Duration::try_from(wait).ok().map(|wait| wait.min(LONGEST_WAIT))
}

/// Google says it in the body: `{"@type": "…RetryInfo", "retryDelay": "34s"}`.
fn retry_info(json: &Value) -> Option<Duration> {
    let details = json.pointer("/error/details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay").and_then(Value::as_str))?;
    let seconds = delay.strip_suffix('s')?.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_read_in_every_spelling_and_by_the_servers_own_clock() {
        let date = [("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
        for (pairs, expected) in [
            (&[("retry-after", "7")][..], Some(7_000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after-ms", "1200"), ("retry-after", "7")], Some(1_200)),
            (&date, Some(30_000)),
            // A date that has passed: at once.
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0)),
            (&[("retry-after", "99999999999999")], Some(86_400_000)),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(retry_after(&headers(pairs)), expected.map(Duration::from_millis), "{pairs:?}");
        }
    }
}
