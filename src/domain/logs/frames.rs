//! Stack traces of Java, Python, Go, Node, Rust, .NET, Ruby and PHP.
//!
//! Role: tells which lines belong to a trace, and reads exception, cause and the first frame that is not a library's.
//! Inputs: the lines of one entry. Outputs: a `Trace`. Must never import: other rooms.

use super::severity::exception;

/// Characters of an exception's message that are kept.
const MOST_CHARS: usize = 300;

/// What a stack trace says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The type of the exception, or `panic`.
    pub exception: String,
    /// Its message.
    pub message: String,
    /// What caused it in the end, as `type: message`.
    pub cause: Option<String>,
    /// The first frame of the program itself, where libraries can be told apart.
    pub frame: Option<String>,
    /// Whether nobody caught it, so that it ended the process or a thread of it.
    pub uncaught: bool,
}

impl Trace {
    /// `type: message; caused by type: message`
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = match self.message.as_str() {
            "" => self.exception.clone(),
            message => format!("{}: {message}", self.exception),
        };
        if let Some(cause) = &self.cause {
            sentence.push_str("; caused by ");
            sentence.push_str(cause);
        }
        sentence
    }
}

/// Whose lines are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nobody's in particular.
    Open,
    /// Python's, between its first line and its exception.
    Python,
    /// Python's, behind its exception: another may follow.
    PythonAfter,
    /// Go's: function names stand unindented.
    Go,
    /// Rust's, whose next line is the message.
    RustMessage,
    /// Java's, .NET's, Node's, Ruby's, PHP's or Rust's.
    Frames,
    /// Node's, which first shows a place in the source.
    NodeSource,
}

/// What begins with this line.
pub(super) fn mode(line: &str) -> Mode {
    let text = line.trim();
    if text.starts_with("Traceback (most recent call last):") {
        Mode::Python
    } else if text.starts_with("panic: ") || text.starts_with("fatal error: ") || goroutine(text) {
        Mode::Go
    } else if panicked(text).is_some() {
        if text.ends_with(':') { Mode::RustMessage } else { Mode::Frames }
    } else if node_source(text) {
        Mode::NodeSource
    } else if heading(text).is_some() || is_frame(text) {
        Mode::Frames
    } else {
        Mode::Open
    }
}

/// Whether an unindented line belongs to the entry before it. `troubled`: the entry is a warning or worse.
pub(super) fn continues(mode: Mode, troubled: bool, fresh: bool, line: &str) -> bool {
    const FOLLOWS: &[&str] = &[
        "Caused by:",
        "** (",
        "Suppressed:",
        "... ",
        "--- End of ",
        "---> ",
        "Stack trace:",
        "[stacktrace]",
        "[previous exception]",
        "stack backtrace:",
        "note: run with `RUST_BACKTRACE",
        "note: Some details are omitted",
        // Node, behind the frames of an event that nobody listened for.
        "Emitted 'error' event",
    ];
    let text = line.trim_end();
    if FOLLOWS.iter().any(|start| text.starts_with(start)) || is_frame(text) {
        return mode != Mode::Open || troubled;
    }
    if goroutine(text) {
        return mode == Mode::Go || troubled || fresh;
    }
    match mode {
        Mode::Open => {
            // A logger's line, and right behind it the exception that it was given.
            fresh && troubled && (exception(text).is_some() || text.starts_with("Traceback (most recent call last):"))
        }
        Mode::Python | Mode::RustMessage | Mode::NodeSource => true,
        Mode::PythonAfter => {
            text.starts_with("During handling of the above exception")
                || text.starts_with("The above exception was the direct cause")
                || text.starts_with("Traceback (most recent call last):")
        }
        Mode::Go => {
            ["[signal ", "created by ", "exit status ", "panic: ", "runtime stack:", "main.", "goroutine "]
                .iter()
                .any(|start| text.starts_with(start))
                || (text.ends_with(')') && text.contains('(') && !text.contains(": ") && !text.starts_with('('))
        }
        Mode::Frames => matches!(text, "}" | "\"}" | "\"} ") || text.starts_with("Node.js v") || text == "^",
    }
}

/// What is read after this line.
pub(super) fn next(current: Mode, line: &str) -> Mode {
    let text = line.trim();
    let indented = line.starts_with([' ', '\t']);
    match current {
        _ if text.starts_with("Traceback (most recent call last):") => Mode::Python,
        Mode::Python if !indented && !text.is_empty() => Mode::PythonAfter,
        Mode::RustMessage => Mode::Frames,
        Mode::NodeSource if exception(text).is_some() || is_frame(text) => Mode::Frames,
        Mode::Open => mode(line),
        other => other,
    }
}

fn goroutine(text: &str) -> bool {
    text.strip_prefix("goroutine ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('['))
}

/// `/app/index.js:12` alone on a line.
fn node_source(text: &str) -> bool {
    ["/", "file://", "node:"].iter().any(|start| text.starts_with(start))
        && !text.contains(' ')
        && text.rsplit_once(':').is_some_and(|(path, line)| {
            line.bytes().all(|b| b.is_ascii_digit())
                && !line.is_empty()
                && (path.ends_with("js") || path.ends_with("ts") || path.starts_with("node:"))
        })
}

/// `thread 'main' panicked at …`
fn panicked(text: &str) -> Option<&str> {
    text.strip_prefix("thread '")?.split_once(" panicked at ").map(|(_, rest)| rest)
}

/// Whether a line is a frame of some language.
pub(super) fn is_frame(line: &str) -> bool {
    let text = line.trim();
    if let Some(rest) = text.strip_prefix("at ") {
        return rest.ends_with(')') || rest.contains(":line ") || last_is_number(rest) || rest.ends_with("<anonymous>");
    }
    (text.starts_with("File \"") && text.contains("\", line "))
        || ruby(text).is_some()
        || elixir(text)
        || text.strip_prefix('#').is_some_and(|rest| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0
                && rest.get(digits..).is_some_and(|rest| {
                    rest.starts_with(" /") || rest.starts_with(" {main}") || rest.starts_with(" [internal")
                })
        })
        || (text.starts_with('/') && text.contains(".go:"))
}

fn last_is_number(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, line)| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()))
}

/// `from app/x.rb:12:in 'call'`
fn ruby(text: &str) -> Option<&str> {
    let text = text.strip_prefix("from ").unwrap_or(text);
    let (place, rest) = text.split_once(":in ")?;
    (!place.contains(' ') && last_is_number(place) && rest.starts_with(['\'', '`'])).then_some(text)
}

/// Whether a line is Ruby's for an error that nobody caught: a frame, the message, and the class in parentheses.
pub(super) fn is_ruby_error(text: &str) -> bool {
    ruby(text).is_some() && text.ends_with(')') && heading(text).is_some()
}

/// `(shop 0.1.0) lib/shop/worker.ex:12: Shop.Worker.run/2`
fn elixir(text: &str) -> bool {
    text.starts_with('(')
        && text.split_once(".ex:").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The exception that a line names, in all the ways runtimes introduce one.
fn heading(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let text = text.strip_prefix("PHP ").unwrap_or(text);
    for start in ["Caused by: ", "Suppressed: ", "---> ", "Unhandled exception. ", "Uncaught ", "Error: "] {
        if let Some(found) = text.strip_prefix(start).and_then(exception) {
            return Some(found);
        }
    }
    if let Some(rest) = text.strip_prefix("Fatal error:") {
        return exception(rest.trim_start().strip_prefix("Uncaught ")?);
    }
    if let Some(rest) = text.strip_prefix("Exception in thread \"") {
        return exception(rest.split_once("\" ")?.1);
    }
    if let Some(rest) = text.strip_prefix("** (") {
        let (name, message) = rest.split_once(") ")?;
        return exception(name).map(|(name, _)| (name, message));
    }
    if ruby(text).is_some() {
        // `x.rb:12:in 'call': message (NoMethodError)`
        let (rest, name) = text.strip_suffix(')')?.rsplit_once(" (")?;
        let message = rest.split_once(": ")?.1;
        return exception(name).map(|(name, _)| (name, message));
    }
    exception(text)
}

/// Reads a trace. `head`: the first line; `plain`: it is no logger's line.
pub(super) fn trace<'t>(head: &'t str, plain: bool, lines: impl Iterator<Item = &'t str>) -> Option<Trace> {
    let mut read = Reading { main: None, cause: None, frame: None, frames: 0, python: false, expect: false };
    read.first(head);
    for line in lines {
        read.line(line);
    }
    let panic = read.main.as_ref().is_some_and(|(name, _)| name == "panic");
    if read.frames == 0 && !panic && !read.python {
        return None;
    }
    let (exception, message) = read.main.unwrap_or_default();
    if exception.is_empty() && read.frames == 0 {
        return None;
    }
    let nameless = exception.is_empty();
    let cause = read.cause.filter(|(name, text)| *name != exception || *text != message);
    Some(Trace {
        exception,
        message,
        cause: cause.map(|(name, text)| if text.is_empty() { name } else { format!("{name}: {text}") }),
        frame: read.frame,
        // Frames alone belong to a message of several lines, of which nothing more is known.
        uncaught: panic || (plain && !nameless),
    })
}

struct Reading {
    main: Option<(String, String)>,
    cause: Option<(String, String)>,
    frame: Option<String>,
    frames: u32,
    python: bool,
    /// The next line is the message of a Rust panic.
    expect: bool,
}

impl Reading {
    fn first(&mut self, head: &str) {
        if let Some(message) = head.strip_prefix("panic: ").or_else(|| head.strip_prefix("fatal error: ")) {
            self.main = Some(("panic".to_owned(), short(message)));
        } else if let Some((_, message)) = head.split_once(" panic serving ") {
            self.main = Some(("panic".to_owned(), short(message.split_once(": ").map_or(message, |(_, m)| m))));
        } else {
            self.line(head);
        }
    }

    fn line(&mut self, line: &str) {
        let text = line.trim();
        if self.expect {
            self.expect = false;
            self.main = Some(("panic".to_owned(), short(text)));
            return;
        }
        if text.starts_with("Traceback (most recent call last):") {
            // A chained exception replaces the one before it, which caused it.
            self.python = true;
            self.frame = None;
            return;
        }
        if let Some(rest) = panicked(text) {
            self.expect = text.ends_with(':');
            // `panicked at 'message', src/main.rs:1:2` before 1.73.
            let message = rest.strip_prefix('\'').and_then(|rest| rest.rsplit_once("', ")).map_or("", |(m, _)| m);
            self.main = Some(("panic".to_owned(), short(message)));
            return;
        }
        if is_frame(text) || self.is_rust_frame(text) {
            self.frames += 1;
            let name = frame(text);
            if (self.python || self.frame.is_none()) && own(name) {
                self.frame = Some(short(name));
            }
            if !text.contains(" (") || ruby(text).is_none() {
                return;
            }
        }
        let python_end = self.python && !line.starts_with([' ', '\t']) && !text.is_empty();
        let found = heading(text).or_else(|| if python_end { python(text) } else { None });
        let Some((name, message)) = found else { return };
        let found = Some((name.to_owned(), short(message)));
        if self.python && python_end {
            if self.cause.is_none() {
                self.cause = self.main.take();
            }
            self.main = found;
        } else if self.main.is_none() {
            self.main = found;
        } else if text.starts_with("Caused by: ") || text.starts_with("---> ") {
            self.cause = found;
        }
    }

    /// `   4: shop::db::connect`, and the functions of Go, which name no file.
    fn is_rust_frame(&self, text: &str) -> bool {
        self.main.as_ref().is_some_and(|(name, _)| name == "panic")
            && text
                .split_once(": ")
                .is_some_and(|(n, rest)| n.len() < 5 && n.bytes().all(|b| b.is_ascii_digit()) && rest.contains("::"))
    }
}

/// The last line of a Python traceback: `ModuleNotFoundError: message`, `shop.errors.OutOfStock`, `SystemExit: 1`.
fn python(text: &str) -> Option<(&str, &str)> {
    let (name, message) = text.split_once(": ").unwrap_or((text.trim_end_matches(':'), ""));
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
    is_name.then_some((name, message))
}

/// The place that a frame names.
fn frame(text: &str) -> &str {
    let text = text.strip_prefix("at ").or_else(|| text.strip_prefix("from ")).unwrap_or(text);
    let text =
        text.split_once(": ").filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit())).map_or(text, |(_, rest)| rest);
    text.split(" +0x").next().unwrap_or(text)
}

/// Whether a frame is the program's own, as far as names tell.
fn own(frame: &str) -> bool {
    const LIBRARIES: &[&str] = &[
        "java.",
        "javax.",
        "jdk.",
        "sun.",
        "jakarta.",
        "kotlin.",
        "scala.",
        "org.springframework.",
        "org.apache.",
        "org.hibernate.",
        "org.postgresql.",
        "io.netty.",
        "reactor.",
        "com.zaxxer.",
        "com.mysql.",
        "java.base/",
        "node:",
        "internal/",
        "std::",
        "core::",
        "alloc::",
        "tokio:",
        "rust_begin_unwind",
        "__rust",
        "<",
        "System.",
        "Microsoft.",
        "runtime.",
        "/usr/local/go/",
        "/usr/lib/",
        "/rustc/",
        "{main}",
    ];
    const INSIDE: &[&str] = &[
        "node_modules/",
        "site-packages/",
        "dist-packages/",
        "/lib/python3",
        "/pkg/mod/",
        "/gems/",
        "/vendor/",
        "node:internal",
        "<frozen ",
        "/library/std/",
        "/library/core/",
        "/.cargo/registry/",
    ];
    !LIBRARIES.iter().any(|start| frame.starts_with(start)) && !INSIDE.iter().any(|part| frame.contains(part))
}

fn short(text: &str) -> String {
    text.chars().take(MOST_CHARS).collect()
}
