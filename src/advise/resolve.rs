//! Names to addresses, without those that are never asked.
//!
//! Role: look at each address where the connection is made, so that no answer of DNS leads to a metadata service.
//! Inputs: a name. Outputs: addresses, or why none is asked. Must never import: other rooms than `domain`.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::advice::endpoint::refuse_address;

/// The system's resolver, guarded.
pub(super) struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = allowed(name.as_str(), found.collect())?;
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

/// All of them, or none: a name that has one such address is not to be trusted with the others.
fn allowed(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    match found.iter().find_map(|address| refuse_address(address.ip()).map(|why| (address.ip(), why))) {
        Some((ip, why)) => Err(format!("{name} stands for {ip}, which is never asked: {why}")),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn a_name_with_one_metadata_address_is_not_asked_at_all() {
        for bad in ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "100.100.100.200", "fe80::1"] {
            let why = allowed("models.example", addresses(&["93.184.216.34", bad])).unwrap_err();
            assert!(why.contains("models.example") && why.contains("never asked"), "{why}");
        }
        let fine = addresses(&["93.184.216.34", "10.0.0.1", "127.0.0.1", "::1", "2606:4700::1"]);
        assert_eq!(allowed("models.example", fine.clone()).unwrap(), fine);
    }
}
