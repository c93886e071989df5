//! Places at which a test has the operator die; none of them is in a build for users.
//!
//! Role: ends the process at a named place, once. Inputs: `DEPLOYMENT_GUARD_FAILPOINT` (names, separated by commas) and
//! `DEPLOYMENT_GUARD_FAILPOINT_DIR`, where a file a name says that it was hit. Outputs: exit code 77. Compiled with the
//! feature `failpoints` alone; without it [`failpoint!`](crate::failpoint!) is nothing. Must never import: other rooms.

/// The process ends here if the environment names this place and it did not end here before.
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::hit($name);
    };
}

/// Ends the process as `kill -9` would: nothing is finished, nothing given back.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    let wanted = std::env::var("DEPLOYMENT_GUARD_FAILPOINT").unwrap_or_default();
    let Some(folder) = std::env::var_os("DEPLOYMENT_GUARD_FAILPOINT_DIR") else { return };
    if !wanted.split(',').any(|wanted| wanted == name) {
        return;
    }
    let file = std::path::Path::new(&folder).join(name);
    // Whoever made the file is the one that dies; who comes later goes on.
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(_) => std::process::exit(77),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => tracing::error!(%error, name, "the fail point cannot be marked, so it is passed"),
    }
}
