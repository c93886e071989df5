//! What the machine must offer before anything starts. Every refusal is one line that says what is missing and how
//! to get it; the program then ends with exit code 2.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something the machine lacks; the text is the whole message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} is missing: {remedy}")]
pub struct Missing {
    /// What is not there.
    pub what: String,
    /// How to get it.
    pub remedy: String,
}

impl Missing {
    fn new(what: &str, remedy: &str) -> Self {
        Self { what: what.to_owned(), remedy: remedy.to_owned() }
    }
}

/// Programs a cluster is started with, and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("sysctl", "procps"),
    ("runc", "runc"),
];

/// Where a program is, or `None`.
#[must_use]
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The search path with the system folders that a plain user's path lacks.
#[must_use]
pub fn search_path() -> std::ffi::OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
        if !env::split_paths(&path).any(|known| known == Path::new(folder)) {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(folder);
        }
    }
    path
}

/// The Go command.
///
/// # Errors
/// When there is none in `path`.
pub fn go(path: &OsStr) -> Result<PathBuf, Missing> {
    let remedy = "install Go 1.26 or newer from https://go.dev/dl (only the first `testbed build` needs it)";
    find_program("go", path).ok_or_else(|| Missing::new("Go", remedy))
}

/// Checks everything that starting a cluster needs.
///
/// # Errors
/// The first thing that is missing.
pub fn cluster(path: &OsStr, is_root: bool) -> Result<(), Missing> {
    if !is_root {
        let remedy = "the testbed makes namespaces and cgroups, run it as root (sudo -E, or a privileged container)";
        return Err(Missing::new("root", remedy));
    }
    for (program, package) in PROGRAMS {
        if find_program(program, path).is_none() {
            let remedy = format!("apt-get install {package}");
            return Err(Missing::new(program, &remedy));
        }
    }
    namespaces(path)
}

/// Tries the namespaces for real: a container without the right to make them has every program.
fn namespaces(path: &OsStr) -> Result<(), Missing> {
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"])
        .env("PATH", path)
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!("the right to make namespaces ({})", said.trim());
            Err(Missing::new(&what, "in a container, run it with --privileged"))
        }
        Err(error) => Err(Missing::new(
            &format!("the right to make namespaces ({error})"),
            "in a container, run it with --privileged",
        )),
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use std::fs;

    fn folder_with(programs: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temp dir");
        for program in programs {
            let file = folder.path().join(program);
            fs::write(&file, "#!/bin/sh\nexit 0\n").expect("write");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        folder
    }

    #[test]
    fn says_that_root_is_missing_before_anything_else() {
        let folder = folder_with(&[]);
        let error = cluster(folder.path().as_os_str(), false).expect_err("not root");
        assert!(error.to_string().starts_with("root is missing: "), "{error}");
    }

    #[test]
    fn names_the_missing_program_and_its_package_in_one_line() {
        for (index, (program, package)) in PROGRAMS.iter().enumerate() {
            let others: Vec<&str> =
                PROGRAMS.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, (name, _))| *name).collect();
            let folder = folder_with(&others);
            let error = cluster(folder.path().as_os_str(), true).expect_err("a program is missing");
            let text = error.to_string();
            assert_eq!(text, format!("{program} is missing: apt-get install {package}"));
            assert_eq!(text.lines().count(), 1);
        }
    }

    #[test]
    fn says_where_go_comes_from() {
        let folder = folder_with(&["runc"]);
        let error = go(folder.path().as_os_str()).expect_err("no go");
        assert!(error.to_string().contains("go.dev/dl"), "{error}");
    }

    #[test]
    fn says_that_namespaces_are_refused() {
        let names: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).collect();
        let folder = folder_with(&names);
        let refuse = folder.path().join("unshare");
        fs::write(&refuse, "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n").expect("write");
        let error = cluster(folder.path().as_os_str(), true).expect_err("no namespaces");
        assert!(error.to_string().contains("Operation not permitted"), "{error}");
        assert!(error.to_string().contains("--privileged"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_program() {
        let folder = tempfile::tempdir().expect("temp dir");
        fs::write(folder.path().join("go"), "").expect("write");
        assert_eq!(find_program("go", folder.path().as_os_str()), None);
    }
}
