//! What comes back over HTTP: read as far as needed, then judged.
//!
//! Role: a reader that is fed the pieces of an answer, holds a bounded part of it and says when it has enough. Inputs:
//! status, headers, pieces of the body, how it ended. Outputs: why the answer is not as expected, or that it is. Must
//! never import: a socket, a clock, other rooms.

use super::version::{self, Wanted};
use super::{Expect, Issue};

/// Most of a body that is read.
pub const BODY_LIMIT: usize = 64 * 1024;
/// How much of an unexpected answer is read, for people to see.
const QUOTE_BYTES: usize = 400;
/// How much of it is shown.
const QUOTE_CHARS: usize = 120;

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The body is complete, or nothing more was needed.
    Complete,
    /// Time was up.
    Deadline,
    /// The connection broke.
    Broken(String),
}

/// What was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Not as expected.
    Answer(Issue, String),
    /// Time was up before it was known.
    Late,
}

/// One answer being read.
#[derive(Debug)]
pub struct Reader<'a> {
    expect: &'a Expect,
    wanted: Wanted,
    status: u16,
    /// The value of the version's header; the first one counts.
    reported: Option<String>,
    body: Vec<u8>,
    /// The expected text was seen, or none is expected.
    text_seen: bool,
}

impl<'a> Reader<'a> {
    /// Starts with status and headers; names of headers in any case.
    pub fn new<'h>(
        expect: &'a Expect,
        wanted: Wanted,
        status: u16,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> Self {
        let name = expect.version.as_ref().and_then(|version| version.header());
        let reported = name.and_then(|name| {
            let mut headers = headers.into_iter();
            headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| quote(value))
        });
        let text_seen = expect.body_contains.as_ref().is_none_or(String::is_empty);
        Self { expect, wanted, status, reported, body: Vec::new(), text_seen }
    }

    /// Whether more of the body can change anything. A body nobody asked about is not read at all.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        if !self.expect.status.contains(self.status) {
            return self.body.len() < QUOTE_BYTES;
        }
        // Whether a version is a whole word is known only with what comes behind it: read to the end.
        self.body.len() < BODY_LIMIT && (!self.text_seen || self.version_in_body().is_some())
    }

    /// Takes a piece of the body; what is beyond the limit is dropped.
    pub fn push(&mut self, piece: &[u8]) {
        let held = self.body.len();
        let room = BODY_LIMIT.saturating_sub(held);
        self.body.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        let text = self.expect.body_contains.as_deref().unwrap_or_default().as_bytes();
        if !self.text_seen && !text.is_empty() {
            // Only where it can be new: tiny pieces would else make this quadratic.
            let fresh = self.body.get(held.saturating_sub(text.len() - 1)..).unwrap_or_default();
            self.text_seen = fresh.windows(text.len()).any(|part| part == text);
        }
    }

    /// The verdict.
    ///
    /// # Errors
    /// If the answer is not as expected, or not enough of it came.
    pub fn verdict(&self, end: &End) -> Result<(), Wrong> {
        if !self.expect.status.contains(self.status) {
            let quoted = quote(self.body.get(..QUOTE_BYTES.min(self.body.len())).unwrap_or_default());
            let said = if quoted.is_empty() { String::new() } else { format!(": {quoted}") };
            return Err(Wrong::Answer(
                Issue::Status,
                format!("answered {} instead of {}{said}", self.status, self.expect.status),
            ));
        }
        self.judge_header()?;
        let text = (!self.text_seen).then(|| self.expect.body_contains.clone().unwrap_or_default());
        let version =
            self.version_in_body().filter(|wanted| !version::stands_in(&self.body, wanted)).map(str::to_owned);
        let (issue, missing) = match (text, version) {
            (None, None) => return Ok(()),
            (Some(text), _) => (Issue::Body, format!("{text:?}")),
            (None, Some(version)) => (Issue::Version, format!("the version {version}")),
        };
        match end {
            _ if self.body.len() >= BODY_LIMIT => {
                Err(Wrong::Answer(issue, format!("answered {} without {missing} in its first 64 KiB", self.status)))
            }
            End::Complete => Err(Wrong::Answer(issue, format!("answered {} without {missing}", self.status))),
            End::Deadline => Err(Wrong::Late),
            End::Broken(why) => Err(Wrong::Answer(
                Issue::ConnectionLost,
                format!("answered {}, but broke off before {missing}: {why}", self.status),
            )),
        }
    }

    fn judge_header(&self) -> Result<(), Wrong> {
        let (Some(expected), Wanted::Version(wanted)) = (&self.expect.version, &self.wanted) else { return Ok(()) };
        let Some(header) = expected.header() else { return Ok(()) };
        match &self.reported {
            Some(value) if version::is(value, wanted) => Ok(()),
            Some(value) => {
                Err(Wrong::Answer(Issue::Version, format!("says {header}: {value} instead of version {wanted}")))
            }
            None => Err(Wrong::Answer(Issue::Version, format!("has no header {header}, which should say {wanted}"))),
        }
    }

    /// The version that the body must hold, if one is looked for there.
    fn version_in_body(&self) -> Option<&str> {
        match (&self.expect.version, &self.wanted) {
            (Some(expected), Wanted::Version(wanted)) if expected.header().is_none() => Some(wanted),
            _ => None,
        }
    }
}

/// Bytes of a pod as one short line.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(QUOTE_CHARS).collect()
}
