//! Lines to entries: a stack trace and the line it belongs to are one.
//!
//! Role: the whole way from bytes to entries, holding one entry of bounded length. Inputs: chunks of a container's log.
//! Outputs: entries in their order. Lines of two threads that are woven into each other are not told apart. Must never
//! import: other rooms.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use super::access;
pub use super::frames::Trace;
use super::frames::{self, Mode};
use super::lines::{Line, Lines, Volume};
use super::severity::{self, Parsed, Severity, Shape};

/// Lines of a trace that are kept; more are read and dropped.
const MOST_LINES: usize = 256;
/// Characters of the first line that are kept, and of each further one.
const MOST_CHARS: usize = 4096;
const MOST_CHARS_OF_FRAME: usize = 512;

/// Something a container logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, by the node's clock.
    pub at: Option<Timestamp>,
    /// How bad it says it is.
    pub severity: Severity,
    /// What it says, with exception and cause, without frames. From outside and not redacted.
    pub text: String,
    /// The stack trace, if there is one.
    pub trace: Option<Trace>,
    /// The status of an answered request, if that is what it notes.
    pub status: Option<u16>,
}

/// Reads a log.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    pending: Option<Pending>,
    seen: Seen,
}

/// How far a log was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The last line's time: what the next read is to begin with. A clock may run backwards, so others may be later.
    pub at: Timestamp,
    /// The latest time of all.
    latest: Timestamp,
    /// The last line's hash, if a line was read. The hasher has no random seed.
    line: Option<u64>,
    /// The entry that was read last; more of it may come.
    torn: Torn,
}

impl std::convert::From<Timestamp> for Mark {
    fn from(at: Timestamp) -> Self {
        Self { at, latest: at, line: None, torn: Torn { mode: Mode::Frames, troubled: true, fresh: false } }
    }
}

/// What is known of an entry whose lines may go on in the next read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Torn {
    mode: Mode,
    troubled: bool,
    fresh: bool,
}

/// Which lines are new.
#[derive(Debug, Default)]
struct Seen {
    mark: Option<Mark>,
    /// Whether the place where the read before ended has been passed.
    passed: bool,
    /// The entry at which the read before was cut, as long as its lines go on.
    torn: Option<Torn>,
}

impl Seen {
    /// Whether a line is to be passed over. The API knows whole seconds only, so the first second of a read comes twice;
    /// and after a step of the node's clock lines come again whose time is later than that of the last line.
    fn before(&mut self, line: &Line<'_>) -> bool {
        let Some(at) = line.at else { return !self.passed && self.mark.is_some() };
        let hash = hash(at, &line.text);
        let latest = match self.mark {
            Some(mark) if !self.passed && at <= mark.latest => {
                self.passed = mark.line == Some(hash);
                return true;
            }
            Some(mark) => mark.latest.max(at),
            None => at,
        };
        self.passed = true;
        let torn = self.mark.map_or(Torn { mode: Mode::Open, troubled: false, fresh: false }, |mark| mark.torn);
        self.mark = Some(Mark { at, latest, line: Some(hash), torn });
        self.is_torn(&line.text)
    }

    /// What was cut off is not counted as another entry.
    fn is_torn(&mut self, text: &str) -> bool {
        let Some(torn) = self.torn else { return false };
        if text.trim().is_empty() {
            return true;
        }
        let goes_on = text.starts_with([' ', '\t']) || frames::continues(torn.mode, torn.troubled, torn.fresh, text);
        self.torn = (goes_on && severity::parse(text).shape == Shape::Plain).then(|| {
            let mode = frames::next(torn.mode, text);
            Torn { mode, fresh: false, ..torn }
        });
        self.torn.is_some()
    }

    /// Keeps how the last entry ended.
    fn end(&mut self, last: Option<&Pending>) {
        let last = last.map(|last| Torn {
            mode: last.mode,
            troubled: last.severity >= Severity::Warn,
            fresh: last.more.is_empty() && !last.blank,
        });
        if let (Some(mark), Some(torn)) = (&mut self.mark, last.or(self.torn)) {
            mark.torn = torn;
        }
    }
}

fn hash(at: Timestamp, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (at, text).hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug)]
struct Pending {
    at: Option<Timestamp>,
    severity: Severity,
    head: String,
    shape: Shape,
    status: Option<u16>,
    stack: Option<String>,
    more: Vec<String>,
    mode: Mode,
    /// An empty line came last.
    blank: bool,
}

impl Reader {
    /// `timestamps`: whether each line begins with the kubelet's time.
    #[must_use]
    pub fn new(timestamps: bool) -> Self {
        Self { lines: Lines::new(timestamps), pending: None, seen: Seen::default() }
    }

    /// Goes on behind the last line of another read. Lines that were read before are passed over, and so is what belongs
    /// to an entry which that read counted.
    #[must_use]
    pub fn since(since: Option<Mark>) -> Self {
        let torn = since.map(|mark| mark.torn);
        Self { lines: Lines::new(true), pending: None, seen: Seen { mark: since, passed: false, torn } }
    }

    /// How far the log was read: what the next read is to begin behind.
    #[must_use]
    pub const fn until(&self) -> Option<Mark> {
        self.seen.mark
    }

    /// Takes a chunk; gives every entry that is complete to `sink`.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(Entry)) {
        let (pending, seen) = (&mut self.pending, &mut self.seen);
        self.lines.feed(chunk, &mut |line| {
            if !seen.before(&line) {
                take(pending, &line, sink);
            }
        });
    }

    /// The end of the log; see [`Lines::end`].
    pub fn end(&mut self, complete: bool, sink: &mut impl FnMut(Entry)) -> Volume {
        let (pending, seen) = (&mut self.pending, &mut self.seen);
        let volume = self.lines.end(complete, &mut |line| {
            if !seen.before(&line) {
                take(pending, &line, sink);
            }
        });
        self.seen.end(self.pending.as_ref());
        if let Some(last) = self.pending.take() {
            sink(last.entry());
        }
        volume
    }
}

fn take(pending: &mut Option<Pending>, line: &Line<'_>, sink: &mut impl FnMut(Entry)) {
    let text = line.text.as_ref();
    if text.trim().is_empty() {
        if let Some(pending) = pending {
            pending.blank = true;
        }
        return;
    }
    let parsed = severity::parse(text);
    if let Some(pending) = pending.as_mut().filter(|pending| pending.takes(text, &parsed)) {
        pending.add(text);
        return;
    }
    if let Some(done) = pending.replace(Pending::new(line.at, text, parsed)) {
        sink(done.entry());
    }
}

impl Pending {
    fn new(at: Option<Timestamp>, text: &str, parsed: Parsed<'_>) -> Self {
        // News and structured lines begin no trace; the look at their head would cost more than all the rest.
        let may_begin = matches!(parsed.shape, Shape::Plain | Shape::Framework) && parsed.severity.may_be_trouble();
        let mode = match parsed.shape {
            Shape::Plain if may_begin => frames::mode(text),
            Shape::Framework if may_begin => frames::mode(&parsed.message),
            _ => Mode::Open,
        };
        Self {
            at,
            severity: parsed.severity,
            head: cut(&parsed.message, MOST_CHARS).to_owned(),
            shape: parsed.shape,
            status: parsed.status,
            stack: parsed.stack,
            more: Vec::new(),
            mode,
            blank: false,
        }
    }

    /// Whether a line belongs to this entry.
    fn takes(&self, text: &str, parsed: &Parsed<'_>) -> bool {
        if matches!(self.shape, Shape::Json | Shape::Logfmt | Shape::Access) {
            // A structured line is complete; only a dump may follow it.
            return self.severity >= Severity::Error
                && frames::continues(Mode::Open, true, false, text)
                && parsed.shape == Shape::Plain;
        }
        if parsed.shape != Shape::Plain {
            return false;
        }
        if text.starts_with([' ', '\t']) {
            return !self.blank || self.mode != Mode::Open;
        }
        let troubled = self.severity >= Severity::Warn;
        let fresh = self.more.is_empty() && !self.blank;
        frames::continues(self.mode, troubled, fresh, text) || (self.is_rails() && frames::is_frame(text))
    }

    /// Rails writes class and message, an empty line, and the frames.
    fn is_rails(&self) -> bool {
        self.severity >= Severity::Error && self.blank
    }

    fn add(&mut self, text: &str) {
        self.mode = frames::next(self.mode, text);
        self.blank = false;
        // .NET writes `fail: Category[0]` and the message in the next line.
        if self.more.is_empty() && self.shape == Shape::Framework && is_category(&self.head) {
            let message = cut(text.trim(), MOST_CHARS);
            if let Some(request) = access::request(message) {
                (self.status, self.head) = (Some(request.status), request.sentence());
                self.severity = access::severity(self.severity, request.status);
            } else {
                self.head = format!("{}: {message}", self.head.split('[').next().unwrap_or_default());
            }
        } else if self.more.len() < MOST_LINES {
            self.more.push(cut(text, MOST_CHARS_OF_FRAME).to_owned());
        }
    }

    fn entry(self) -> Entry {
        let Self { at, mut severity, head, shape, status, stack, more, .. } = self;
        let plain = shape == Shape::Plain;
        let trace = if let Some(stack) = &stack {
            frames::trace("", false, stack.lines().take(MOST_LINES))
        } else if more.is_empty() && (!plain || severity < Severity::Error) {
            None
        } else {
            frames::trace(&head, plain, more.iter().map(String::as_str))
        };
        if trace.is_some() && plain && frames::mode(&head) == Mode::NodeSource {
            severity = Severity::Fatal;
        } else if trace.is_some() && severity < Severity::Warn {
            severity = Severity::Error;
        }
        let text = match &trace {
            Some(trace) => with_trace(head, plain, trace),
            None => with_exception(head, &more),
        };
        Entry { at, severity, text, trace, status }
    }
}

/// What the logger said and what the trace says, each once.
fn with_trace(head: String, plain: bool, trace: &Trace) -> String {
    let sentence = trace.sentence();
    if sentence.is_empty() {
        return head;
    }
    if plain || head.is_empty() {
        return sentence;
    }
    if !trace.message.is_empty() && head.contains(&trace.message) || head.contains(&sentence) {
        return match &trace.cause {
            Some(cause) if !head.contains(cause.as_str()) => format!("{head}; caused by {cause}"),
            _ => head,
        };
    }
    format!("{head}: {sentence}")
}

/// Some loggers leave the frames out and write only the exception's line, or further lines of an error.
fn with_exception(head: String, more: &[String]) -> String {
    match more.iter().find(|line| severity::exception(line.trim()).is_some()) {
        Some(line) => format!("{head}: {}", line.trim()),
        None => head,
    }
}

/// `Shop.Api.Startup[0]`
fn is_category(text: &str) -> bool {
    text.strip_suffix(']')
        .and_then(|text| text.split_once('['))
        .is_some_and(|(name, id)| !name.contains(' ') && id.bytes().all(|b| b.is_ascii_digit()))
}

fn cut(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}
