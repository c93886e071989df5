//! Bytes to lines, however they arrive.
//!
//! Role: an incremental splitter that holds one line of bounded length and nothing else. Inputs: chunks of bytes, each
//! line with the kubelet's time in front if it was asked for. Outputs: lines without ANSI codes, and how much was read.
//! Must never import: other rooms.

use std::borrow::Cow;
use std::ops::AddAssign;

use jiff::Timestamp;
use memchr::{memchr, memchr_iter};

/// Bytes of a line that are kept; the rest is skipped and counted.
pub const MOST_BYTES_OF_LINE: usize = 16 * 1024;
/// The longest time that the kubelet writes, with its zone.
const MOST_BYTES_OF_TIME: usize = 40;
/// The escape character that begins a terminal's codes.
const ESCAPE: u8 = 0x1b;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'t> {
    /// When the container wrote it, by the node's clock.
    pub at: Option<Timestamp>,
    /// What it wrote.
    pub text: Cow<'t, str>,
}

/// How much was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Complete lines.
    pub lines: u64,
    /// Bytes of them, with those that were skipped.
    pub bytes: u64,
    /// Lines that were too long and were shortened.
    pub shortened: u64,
    /// Ends of logs that a limit cut in the middle of a line; these are not counted.
    pub half: u64,
}

impl AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        self.lines = self.lines.saturating_add(other.lines);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.shortened = self.shortened.saturating_add(other.shortened);
        self.half = self.half.saturating_add(other.half);
    }
}

/// Splits a stream of bytes.
#[derive(Debug)]
pub struct Lines {
    timestamps: bool,
    held: Vec<u8>,
    too_long: bool,
    volume: Volume,
}

impl Lines {
    /// `timestamps`: whether each line begins with the kubelet's time.
    #[must_use]
    pub const fn new(timestamps: bool) -> Self {
        Self {
            timestamps,
            held: Vec::new(),
            too_long: false,
            volume: Volume { lines: 0, bytes: 0, shortened: 0, half: 0 },
        }
    }

    /// Takes a chunk; gives every line that ends in it to `sink`.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(Line<'_>)) {
        self.volume.bytes = self.volume.bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        let mut start = 0;
        for end in memchr_iter(b'\n', chunk) {
            let part = chunk.get(start..end).unwrap_or_default();
            start = end + 1;
            if self.held.is_empty() && !self.too_long && part.len() <= MOST_BYTES_OF_LINE {
                // The usual case: the line lies in the chunk as a whole and is never copied.
                self.volume.lines += 1;
                sink(line(part, self.timestamps));
            } else {
                self.hold(part);
                self.give(sink);
            }
        }
        self.hold(chunk.get(start..).unwrap_or_default());
    }

    /// The end of the stream. `complete`: whether it ended by itself; otherwise a last line without an end is a half
    /// one, and half lines are not counted.
    pub fn end(&mut self, complete: bool, sink: &mut impl FnMut(Line<'_>)) -> Volume {
        if !self.held.is_empty() {
            if complete {
                self.give(sink);
            } else {
                self.volume.half += 1;
                self.held.clear();
            }
        }
        self.too_long = false;
        std::mem::take(&mut self.volume)
    }

    fn hold(&mut self, part: &[u8]) {
        let room = MOST_BYTES_OF_LINE.saturating_sub(self.held.len());
        self.too_long |= part.len() > room;
        self.held.extend_from_slice(part.get(..part.len().min(room)).unwrap_or_default());
    }

    fn give(&mut self, sink: &mut impl FnMut(Line<'_>)) {
        self.volume.lines += 1;
        self.volume.shortened += u64::from(self.too_long);
        sink(line(&self.held, self.timestamps));
        self.held.clear();
        self.too_long = false;
    }
}

/// Reads one line; bytes that are no UTF-8 become replacement characters.
fn line(bytes: &[u8], timestamps: bool) -> Line<'_> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let (at, rest) = if timestamps { timestamp(bytes) } else { (None, bytes) };
    let text = String::from_utf8_lossy(rest);
    let text = if memchr(ESCAPE, rest).is_some() { Cow::Owned(without_codes(&text)) } else { text };
    Line { at, text }
}

/// The kubelet's time, and what follows it. A line without one is taken as it is.
fn timestamp(bytes: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let head = bytes.get(..bytes.len().min(MOST_BYTES_OF_TIME)).unwrap_or_default();
    // A line that was empty has its time and no space behind it.
    let end = memchr(b' ', head).unwrap_or(head.len());
    let parsed = std::str::from_utf8(head.get(..end).unwrap_or_default())
        .ok()
        .filter(|text| text.contains('T'))
        .and_then(|text| text.parse().ok());
    match parsed {
        Some(at) => (Some(at), bytes.get(end + 1..).unwrap_or_default()),
        None => (None, bytes),
    }
}

/// Takes out colours and other codes of terminals: CSI and OSC sequences, and pairs of escape and a letter.
fn without_codes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            clean.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {},
            Some(']') => while chars.next_if(|c| *c != '\u{7}' && *c != '\u{1b}').is_some() {},
            _ => continue,
        }
        chars.next();
    }
    clean
}
