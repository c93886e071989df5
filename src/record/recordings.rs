//! Recordings of analysed rollouts, for `deployment-guard replay`.
//!
//! Role: one file a rollout in a directory of the operator's: the header, then each closed step once, also across
//! restarts. Inputs: lines. Outputs: files, bounded in size and number, and a file's hash. Must never import: `act`,
//! `observe`, `controller`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The longest file; a recording that would grow beyond it ends there.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Steps are written to the millisecond.
const TOLERANCE: f64 = 0.0005;
/// Files that are kept; the oldest go first.
const MAX_FILES: usize = 200;

/// A directory of recordings, or none.
#[derive(Debug, Clone, Default)]
pub struct Recordings {
    directory: Option<PathBuf>,
}

impl Recordings {
    /// Writes into this directory; without one nothing is written.
    #[must_use]
    pub const fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// Whether anything is written at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.directory.is_some()
    }

    /// Appends steps to a rollout's file; `header` makes the file if there is none. `resumed`: after a restart the judging
    /// goes on behind this second; what a process that died wrote beyond it was judged by nobody who is left, and is cut
    /// off, so that the file holds what the decision rests on.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn append(
        &self,
        rollout: &str,
        header: impl FnOnce() -> String,
        steps: &[String],
        resumed: Option<f64>,
    ) -> std::io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        fs::create_dir_all(directory)?;
        let path = place(directory, rollout);
        let mut last = None;
        if path.exists() {
            last = last_moment(&path, resumed.map(|second| Moment(second + TOLERANCE)))?;
        } else {
            make_room(directory)?;
            fs::write(&path, format!("{}\n", header()))?;
        }
        let mut file = OpenOptions::new().append(true).open(&path)?;
        let mut size = file.metadata()?.len();
        for step in steps {
            let at = moment(step);
            let length = u64::try_from(step.len()).unwrap_or(u64::MAX);
            if at <= last || size.saturating_add(length) > MAX_FILE_BYTES {
                continue;
            }
            // One write a line: a process that dies leaves whole lines, but for the last one.
            file.write_all(format!("{step}\n").as_bytes())?;
            size += length + 1;
            last = at;
        }
        Ok(())
    }

    /// Writes a line between two steps of a rollout that is recorded already.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn note(&self, rollout: &str, line: &str) -> std::io::Result<()> {
        let Some(path) = self.directory.as_deref().map(|directory| place(directory, rollout)) else { return Ok(()) };
        if !path.exists() {
            return Ok(());
        }
        OpenOptions::new().append(true).open(&path)?.write_all(format!("{line}\n").as_bytes())
    }

    /// The name of a rollout's file and the SHA-256 of what stands in it, if it is recorded.
    #[must_use]
    pub fn reference(&self, rollout: &str) -> Option<(String, String)> {
        let path = place(self.directory.as_deref()?, rollout);
        let bytes = fs::read(&path).ok()?;
        Some((path.file_name()?.to_str()?.to_owned(), hex::encode(Sha256::digest(&bytes))))
    }
}

/// Names of objects are DNS names, so they are safe in paths; anything else is replaced.
fn place(directory: &Path, rollout: &str) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let name: String = rollout.chars().map(safe).take(240).collect();
    directory.join(format!("{}.jsonl", name.trim_start_matches('.')))
}

fn moment(line: &str) -> Option<Moment> {
    serde_json::from_str::<Value>(line).ok()?.get("t")?.as_f64().map(Moment)
}

/// Seconds of a step, in order.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Moment(f64);

/// The last step of a file. A line that a dying process left unfinished is cut off, and so is everything after `until`.
fn last_moment(path: &Path, until: Option<Moment>) -> std::io::Result<Option<Moment>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut whole, mut last) = (String::new(), 0_u64, None);
    loop {
        line.clear();
        let read = reader.read_line(&mut line)?;
        if read == 0 {
            break;
        }
        let at = moment(&line);
        let beyond = at.zip(until).is_some_and(|(at, until)| at > until);
        if beyond || !line.ends_with('\n') {
            OpenOptions::new().write(true).open(path)?.set_len(whole)?;
            break;
        }
        whole += u64::try_from(read).unwrap_or(0);
        last = at.or(last);
    }
    Ok(last)
}

/// Deletes the oldest recordings beyond what is kept.
fn make_room(directory: &Path) -> std::io::Result<()> {
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(directory)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jsonl"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let surplus = (files.len() + 1).saturating_sub(MAX_FILES);
    for (_, path) in files.into_iter().take(surplus) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(t: u32) -> String {
        format!("{{\"t\":{t},\"signals\":{{}}}}")
    }

    #[test]
    fn a_step_is_written_once_also_after_a_restart_in_the_middle_of_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let recordings = Recordings::new(Some(directory.path().to_owned()));
        recordings.append("shop/api@abc", || "header".into(), &[step(5), step(10)], None).unwrap();
        let path = directory.path().join("shop_api_abc.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"t\":15,\"sig").unwrap();
        recordings.append("shop/api@abc", || "another".into(), &[step(10), step(15), step(20)], None).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["header", &step(5), &step(10), &step(15), &step(20)]);
        let (name, hash) = recordings.reference("shop/api@abc").unwrap();
        assert_eq!((name.as_str(), hash.len()), ("shop_api_abc.jsonl", 64));
    }

    #[test]
    fn after_a_restart_the_file_holds_what_was_judged_and_not_what_a_dead_process_saw() {
        let directory = tempfile::tempdir().unwrap();
        let recordings = Recordings::new(Some(directory.path().to_owned()));
        recordings.append("r", || "header".into(), &[step(5), step(10), step(15)], None).unwrap();
        // The checkpoint knew of the first two; the next process closes its steps at other moments.
        recordings.append("r", || "another".into(), &[step(13), step(18)], Some(10.0)).unwrap();
        let text = fs::read_to_string(directory.path().join("r.jsonl")).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["header", &step(5), &step(10), &step(13), &step(18)]);
    }

    #[test]
    fn nothing_is_written_without_a_directory_and_old_files_make_room() {
        assert!(Recordings::default().append("a", String::new, &[], None).is_ok());
        assert_eq!(Recordings::default().reference("a"), None);
        let directory = tempfile::tempdir().unwrap();
        let recordings = Recordings::new(Some(directory.path().to_owned()));
        for index in 0..MAX_FILES + 3 {
            recordings.append(&format!("r{index}"), || "h".into(), &[], None).unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), MAX_FILES);
    }
}
