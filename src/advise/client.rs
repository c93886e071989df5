//! The HTTP side: no redirects, no surprise proxies, bounded bodies, no address that must not be asked.
//!
//! Role: one request out, status, headers and body back. Inputs: a policy with its Secrets. Outputs: bytes, or a failure
//! with a sentence. Must never import: other rooms than `domain`.

use std::error::Error;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use url::Url;

use super::resolve::Guarded;
use super::{MAX_BODY, Secrets};
use crate::domain::advice::Failure;
use crate::domain::advice::provider::ProviderPolicy;

/// An answer, unread.
pub(super) struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A value that no log shows; `None` if no header can carry it.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    if text.trim().is_empty() || text == "Bearer " {
        return None;
    }
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(super) fn build(policy: &ProviderPolicy, url: &Url, secrets: &Secrets) -> Result<reqwest::Client, String> {
    let mut headers = super::credentials(policy.wire, secrets.api_key.as_ref())?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &secrets.headers {
        let cannot = || format!("the header {name} cannot be sent as it is");
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| cannot())?;
        headers.insert(parsed, sensitive(value.expose_secret().trim()).ok_or_else(cannot)?);
    }
    let pem = secrets.authorities.as_deref().unwrap_or_default();
    let refused = || "the certificate authorities cannot be read; the Secret must hold PEM".to_owned();
    let authorities = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| refused())?;
    if secrets.authorities.is_some() && authorities.is_empty() {
        return Err(refused());
    }
    let proxy = policy.proxy.as_ref().map(reqwest::Proxy::all).transpose().map_err(|_| "the proxy cannot be used")?;
    let builder = || {
        let builder = reqwest::Client::builder()
            .connect_timeout(policy.timeout)
            .timeout(policy.timeout)
            // The key goes to the origin in the class and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            // Whoever counts calls counts them before they are made.
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(2)
            .dns_resolver(Guarded)
            .default_headers(headers.clone());
        match &proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    };
    if url.scheme() == "https"
        && secrets.authorities.is_none()
        && let Ok(client) = builder().build()
    {
        return Ok(client);
    }
    // With authorities of the class, over plain HTTP, and where the system has none at all.
    builder().tls_certs_only(authorities).build().map_err(|_| "the TLS settings cannot be used".to_owned())
}

pub(super) async fn exchange(client: &reqwest::Client, url: &Url, body: String) -> Result<Got, (Failure, String)> {
    let mut response = client.post(url.clone()).body(body).send().await.map_err(|error| transport(&error))?;
    let too_large = || (Failure::TooLarge, format!("the answer is larger than {} KiB", MAX_BODY / 1024));
    if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > MAX_BODY))
    {
        return Err(too_large());
    }
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Got { status, headers, body })
}

/// The innermost cause says most, and never holds the URL.
fn transport(error: &reqwest::Error) -> (Failure, String) {
    if error.is_timeout() {
        return (Failure::Timeout, "there was no whole answer in time".to_owned());
    }
    let mut cause = "the connection ended".to_owned();
    let mut source = error.source();
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    if of_tls(error) { (Failure::Tls, cause) } else { (Failure::Unreachable, cause) }
}

/// A handshake's failure hides in I/O errors, whose source is not what they hold but what that one's source is.
fn of_tls(error: &(dyn Error + 'static)) -> bool {
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || held.is_some_and(|held| of_tls(held)) || error.source().is_some_and(of_tls)
}
