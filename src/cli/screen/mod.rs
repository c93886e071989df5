//! Text on a terminal, as a pure function of what is shown.
//!
//! Role: lines of styled text that fit a width, and nothing in them that a terminal would obey. Inputs: text by anybody, a
//! [`Look`], `now`. Outputs: one string. Must never import: a clock, a client, the environment, `console`.

pub(super) mod history;
pub(super) mod list;
pub(super) mod next;
mod phases;
pub(super) mod seen;
pub(super) mod status;
mod table;
pub(super) mod times;

#[cfg(test)]
mod tests;

use unicode_width::UnicodeWidthStr;

use super::explain::plain;

/// The narrowest that is drawn for; a terminal that is narrower breaks lines itself.
const NARROWEST: usize = 20;

/// For what kind of terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Columns.
    pub(super) width: usize,
    /// Whether colours are shown.
    pub(super) colour: bool,
    /// Whether only ASCII can be shown.
    pub(super) ascii: bool,
    /// What a person types to run this program.
    pub(super) program: &'static str,
}

/// What a piece of text is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Bad,
    Warn,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warn => "33",
        }
    }
}

/// A piece of a line.
type Span = (Tone, String);

/// Lines that grow downwards.
pub(super) struct Page {
    look: Look,
    lines: Vec<Vec<Span>>,
}

impl Page {
    pub(super) fn new(look: Look) -> Self {
        Self { look: Look { width: look.width.max(NARROWEST), ..look }, lines: Vec::new() }
    }

    pub(super) const fn look(&self) -> Look {
        self.look
    }

    /// One line, cut where it does not fit.
    pub(super) fn line<T: AsRef<str>>(&mut self, spans: &[(Tone, T)]) {
        let mut left = self.look.width;
        let mut line = Vec::new();
        for (tone, text) in spans {
            let text = cut(&self.clean(text.as_ref()), left, self.look.ascii);
            left = left.saturating_sub(text.width());
            line.push((*tone, text));
        }
        self.lines.push(line);
    }

    /// Words in as many lines as they need, each indented.
    pub(super) fn words(&mut self, indent: usize, tone: Tone, text: &str) {
        let indent = indent.min(self.look.width / 4);
        let pad = " ".repeat(indent);
        for line in wrap(&self.clean(text), self.look.width - indent) {
            self.lines.push(vec![(Tone::Plain, pad.clone()), (tone, line)]);
        }
    }

    /// What a person pastes: broken only so that a shell joins it again.
    pub(super) fn command(&mut self, text: &str) {
        const INDENT: usize = 4;
        let room = self.look.width - INDENT - 2;
        let clean = self.clean(text);
        let mut lines = wrap(&clean, room);
        // A word that was broken must go on at the first column, or a shell would take it for two.
        let whole = lines.iter().all(|line| line.width() < room);
        let pad = if whole { " ".repeat(INDENT) } else { String::new() };
        if !whole {
            lines = pieces(&clean, room);
        }
        let last = lines.len().saturating_sub(1);
        let end = |at: usize| {
            if at == last {
                ""
            } else if whole {
                " \\"
            } else {
                "\\"
            }
        };
        let lines = lines.iter().enumerate().map(|(at, line)| format!("{pad}{line}{}", end(at)));
        self.lines.extend(lines.map(|line| vec![(Tone::Strong, line)]));
    }

    /// A title over what follows, after an empty line.
    pub(super) fn title(&mut self, text: &str) {
        self.blank();
        self.line(&[(Tone::Strong, text)]);
    }

    pub(super) fn blank(&mut self) {
        self.lines.push(Vec::new());
    }

    /// One of two signs, as far as the terminal can show the first.
    pub(super) const fn sign(&self, sign: &'static str, ascii: &'static str) -> &'static str {
        if self.look.ascii { ascii } else { sign }
    }

    /// A bar of a length between 0 and 1; what is not nothing shows at least a little.
    pub(super) fn bar(&self, share: f64, cells: usize) -> String {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let filled = (0..=cells).rev().find(|n| ratio(*n, cells) <= share + 0.5 / ratio_of(cells)).unwrap_or(0);
        let filled = if share > 0.0 { filled.max(1).min(cells) } else { 0 };
        format!("{}{}", self.sign("█", "#").repeat(filled), self.sign("░", ".").repeat(cells.saturating_sub(filled)))
    }

    /// Everything as text.
    pub(super) fn finish(self) -> String {
        let colour = self.look.colour;
        let show = |(tone, text): &Span| match tone.code() {
            code if colour && !code.is_empty() && !text.is_empty() => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            _ => text.clone(),
        };
        let line = |line: &Vec<Span>| format!("{}\n", line.iter().map(show).collect::<String>().trim_end());
        self.lines.iter().map(line).collect()
    }

    fn clean(&self, text: &str) -> String {
        let mut clean = String::new();
        for c in plain::line(text).chars() {
            match c {
                // They change the width of what stands before them.
                '\u{fe00}'..='\u{fe0f}' => clean.push(' '),
                c if self.look.ascii && !c.is_ascii() => clean.push_str(spelled(c)),
                c => clean.push(c),
            }
        }
        clean
    }
}

/// A sign that our own sentences use, where only ASCII can be shown.
const fn spelled(c: char) -> &'static str {
    match c {
        'α' => "alpha",
        'κ' => "kappa",
        '≤' => "<=",
        '≥' => ">=",
        '×' => "x",
        '–' => "-",
        '…' => "...",
        _ => "?",
    }
}

/// A text that was laid out for wide terminals: here longer lines go on below their beginning.
pub(super) fn relaid(text: &str, look: Look) -> String {
    let mut page = Page::new(look);
    for line in text.lines() {
        let words = line.trim_start();
        if page.clean(line).width() <= page.look.width {
            page.line(&[(Tone::Plain, line)]);
        } else {
            page.words(line.len() - words.len(), Tone::Plain, words);
        }
    }
    page.finish()
}

/// One line about something that is no part of a screen.
pub(super) fn fitted(text: &str, look: Look) -> String {
    let mut page = Page::new(look);
    page.line(&[(Tone::Warn, text)]);
    page.finish().trim_end().to_owned()
}

fn ratio(part: usize, whole: usize) -> f64 {
    ratio_of(part) / ratio_of(whole.max(1))
}

fn ratio_of(cells: usize) -> f64 {
    f64::from(u32::try_from(cells).unwrap_or(u32::MAX))
}

/// The beginning of a text that fits, with a sign that something is missing.
fn cut(text: &str, width: usize, ascii: bool) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let sign = if ascii { "~" } else { "…" };
    if width == 0 {
        return String::new();
    }
    format!("{}{sign}", beginning(text, width - 1))
}

fn beginning(text: &str, width: usize) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if kept.width() > width {
            kept.pop();
            break;
        }
    }
    kept
}

/// Words in lines; a word that is longer than a line is broken.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let (mut lines, mut last) = (Vec::new(), String::new());
    // A number stays with its unit.
    let text = text.replace(" %", "\u{a0}%");
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let joined = if last.is_empty() { word.to_owned() } else { format!("{last} {word}") };
        if joined.width() <= width {
            last = joined;
            continue;
        }
        if !last.is_empty() {
            lines.push(std::mem::take(&mut last));
        }
        let mut parts = pieces(word, width);
        last = parts.pop().unwrap_or_default();
        lines.append(&mut parts);
    }
    if !last.is_empty() {
        lines.push(last);
    }
    lines.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// A text in pieces of a width, wherever they end.
fn pieces(text: &str, width: usize) -> Vec<String> {
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let mut piece = beginning(rest, width);
        if piece.is_empty() {
            // A character wider than the line: left out, or this would never end.
            piece = rest.chars().take(1).collect();
            rest = rest.get(piece.len()..).unwrap_or_default();
            continue;
        }
        rest = rest.get(piece.len()..).unwrap_or_default();
        pieces.push(piece);
    }
    pieces
}
