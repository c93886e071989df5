//! Where a prompt may be sent.
//!
//! Role: refuse URLs that would carry a key in the clear or to those who hand out credentials. Inputs: a URL, an
//! address. Outputs: the URL, or what is wrong with it. Names are not resolved here: whoever connects asks
//! [`refuse_address`] again. Must never import: other rooms, a socket.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use crate::domain::probe::address;

/// Names by which clouds serve their metadata.
const METADATA_NAMES: &[&str] =
    &["metadata.google.internal", "metadata.goog", "metadata", "instance-data", "instance-data.ec2.internal"];

/// Why an address is never asked, whatever named it; `None` if it may be. The own host may: a model can run beside.
#[must_use]
pub fn refuse_address(address: IpAddr) -> Option<&'static str> {
    if address.to_canonical().is_loopback() { None } else { address::refuse(address) }
}

/// Reads a base URL.
///
/// # Errors
/// If nothing may be sent there; the text says why and what to do.
pub fn base_url(text: &str, plain_http_anywhere: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); write for example https://host/v1"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain credentials: put the key into a Secret and name it in apiKeySecretRef".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment; leave out # and what follows".to_owned());
    }
    if url.query_pairs().any(|(name, _)| ["key", "api_key", "apikey", "access_token"].contains(&&*name.to_lowercase()))
    {
        return Err("must not contain a key: put it into a Secret and name it in apiKeySecretRef".to_owned());
    }
    let host = url.host().ok_or_else(|| "has no host".to_owned())?;
    let inside = match &host {
        Host::Domain(name) => inside_name(name)?,
        Host::Ipv4(ip) => inside_address((*ip).into())?,
        Host::Ipv6(ip) => inside_address((*ip).into())?,
    };
    if url.scheme() == "http" && !inside && !plain_http_anywhere {
        return Err(format!(
            "sends the key and the prompt in the clear to {host}, which is not in the cluster; use https://, or set \
             allowPlainHTTP: true"
        ));
    }
    Ok(url)
}

fn inside_name(name: &str) -> Result<bool, String> {
    let name = name.trim_end_matches('.').to_lowercase();
    if METADATA_NAMES.contains(&name.as_str()) {
        return Err("names a metadata service, which is never asked".to_owned());
    }
    let in_cluster = matches!(name.strip_suffix(".cluster.local").unwrap_or(&name).rsplit_once('.'), Some((_, "svc")));
    Ok(name == "localhost" || in_cluster || !name.contains('.'))
}

fn inside_address(ip: IpAddr) -> Result<bool, String> {
    if let Some(why) = refuse_address(ip) {
        return Err(format!("is never asked: {why}"));
    }
    Ok(match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    })
}

/// 100.64.0.0/10, which some clusters give to pods and Services.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (64..128).contains(&second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn https_may_go_anywhere_and_plain_http_stays_inside() {
        for url in [
            "https://api.openai.com/v1",
            "https://res.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "http://localhost:8000/v1",
            "http://127.0.0.1:11434/v1",
            "http://[::1]:8000/v1",
            "http://vllm.models.svc:8000/v1",
            "http://vllm.models.svc.cluster.local./v1",
            "http://vllm/v1",
            "http://10.2.3.4/v1",
            "http://100.64.1.1/v1",
            "http://[fd12::1]/v1",
        ] {
            base_url(url, false).unwrap();
        }
        for url in ["http://api.openai.com/v1", "http://8.8.8.8/", "http://x.svc.evil.example/", "http://[2a00::1]/"] {
            let problem = base_url(url, false).unwrap_err();
            assert!(problem.contains("in the clear") && problem.contains("allowPlainHTTP"), "{url}: {problem}");
            base_url(url, true).unwrap();
        }
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_spelling() {
        for url in [
            "http://169.254.169.254/latest",
            "https://169.254.1.1/",
            "http://2852039166/",
            "http://0xA9FEA9FE/",
            "http://0251.0376.0251.0376/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "http://100.100.100.200/",
            "https://metadata.google.internal/",
            "https://METADATA.google.internal./",
            "http://metadata/",
            "http://0.0.0.0:8000/",
        ] {
            let problem = base_url(url, true).unwrap_err();
            assert!(problem.contains("never asked"), "{url}: {problem}");
        }
    }

    #[test]
    fn credentials_do_not_stand_in_a_url() {
        for url in ["https://user:pass@host/", "https://user@host/", "https://host/?key=x", "https://host/?API_KEY=x"] {
            assert!(base_url(url, true).unwrap_err().contains("apiKeySecretRef"), "{url}");
        }
        for url in ["ftp://host/", "host/v1", "", "https://", "https://host/#x"] {
            assert!(base_url(url, true).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_an_address_gets_around_its_refusal(bits: u32, link_local: bool) {
            let bits = if link_local { 0xA9FE_0000 | (bits & 0xFFFF) } else { bits };
            let v4 = Ipv4Addr::from_bits(bits);
            let (high, low) = (bits >> 16, bits & 0xFFFF);
            let refused = refuse_address(v4.into()).is_some();
            let hosts = [v4.to_string(), bits.to_string(), format!("{bits:#x}"), format!("[::ffff:{high:x}:{low:x}]")];
            for host in hosts {
                for scheme in ["http", "https"] {
                    prop_assert_eq!(base_url(&format!("{scheme}://{host}/v1"), true).is_err(), refused, "{}", host);
                }
            }
        }
    }
}
