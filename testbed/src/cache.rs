//! Where the testbed keeps what outlives a cluster, and how its temporary names are made.

use std::env;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The project's cache folder: `$DEPLOYMENT_GUARD_CACHE`, else `deployment-guard` in the user's cache folder.
///
/// # Errors
/// When neither variable nor a home folder is set.
pub fn root() -> Result<PathBuf> {
    if let Some(root) = set("DEPLOYMENT_GUARD_CACHE") {
        return Ok(root);
    }
    let user = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let user =
        user.context("neither DEPLOYMENT_GUARD_CACHE, XDG_CACHE_HOME nor HOME is set, so there is no cache folder")?;
    Ok(user.join("deployment-guard"))
}

/// The testbed's part of the cache.
///
/// # Errors
/// As [`root`].
pub fn testbed_dir() -> Result<PathBuf> {
    Ok(root()?.join("testbed"))
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A name for a cluster that no other one has.
#[must_use]
pub fn cluster_name() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    format!("testbed-{}-{:05x}", std::process::id(), nanos & 0xf_ffff)
}
