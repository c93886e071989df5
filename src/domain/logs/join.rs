//! Lines to entries: a stack trace and the line it belongs to are one.
//!
//! Role: the whole way from bytes to entries, holding one entry of bounded length. Inputs: chunks of a container's log.
//! Outputs: entries in their order. Lines of two threads that are woven into each other are not told apart. Must never
//! import: other rooms.

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

/// Which lines are new.
#[derive(Debug, Default)]
struct Seen {
    /// Lines up to this time were read before.
    since: Option<Timestamp>,
    /// The time of the last line.
    until: Option<Timestamp>,
}

impl Seen {
    /// The API knows whole seconds only, so the first second of a read comes twice.
    fn before(&mut self, line: &Line<'_>) -> bool {
        let Some(at) = line.at else { return false };
        self.until = self.until.max(Some(at));
        self.since.is_some_and(|since| at <= since)
    }
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

    /// Goes on behind the last line of another read: lines up to that time are passed over.
    #[must_use]
    pub fn since(since: Option<Timestamp>) -> Self {
        Self { lines: Lines::new(true), pending: None, seen: Seen { since, until: since } }
    }

    /// The time of the last line: what the next read is to begin behind.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        self.seen.until
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
