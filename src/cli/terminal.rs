//! What standard output can show.
//!
//! Role: width, colours and characters, from the terminal and the environment. Inputs: both. Outputs: a [`Look`]. Must
//! never import: `console`. The only place that asks for them; what draws is pure.

use std::io::{IsTerminal, Write};

use super::screen::Look;

/// The width of what is no terminal.
const PIPED: usize = 100;

/// What is written to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    pub(super) look: Look,
    /// Lines, if it is a terminal.
    pub(super) height: Option<usize>,
}

impl Terminal {
    /// Standard output as it is now.
    pub(super) fn of_output() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let size = terminal_size::terminal_size().filter(|_| is_terminal);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let columns = variable("COLUMNS").and_then(|columns| columns.parse::<usize>().ok());
        let seen = size.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0);
        let colour =
            is_terminal && variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb");
        let locale = variable("LC_ALL").or_else(|| variable("LC_CTYPE")).or_else(|| variable("LANG"));
        let look = Look {
            width: seen.or(columns).unwrap_or(PIPED),
            colour,
            ascii: !is_utf_8(locale.as_deref()),
            program: super::program(),
        };
        Self { look, height: size.map(|(_, height)| usize::from(height.0)) }
    }

    /// The same for tables, which programs read line by line: nothing is cut where nobody looks.
    pub(super) fn of_table() -> Look {
        let terminal = Self::of_output();
        let width = if terminal.height.is_some() { terminal.look.width } else { usize::from(u16::MAX) };
        Look { width, ..terminal.look }
    }

    /// Puts a screen in the place of the last one; whether somebody still looks.
    pub(super) fn redraw(&self, screen: &str) -> std::io::Result<bool> {
        let most = self.height.unwrap_or(usize::MAX).saturating_sub(1).max(1);
        write_on(&frame(screen, most))
    }
}

/// What replaces the last screen: no more lines than there are, and if some are left out, how many.
fn frame(screen: &str, most: usize) -> String {
    let lines: Vec<&str> = screen.lines().collect();
    let left_out = if lines.len() > most { lines.len() - most + 1 } else { 0 };
    let shown = lines.iter().take(lines.len() - left_out).map(|line| format!("{line}\u{1b}[K\r\n"));
    let more = if left_out == 0 { String::new() } else { format!("({left_out} lines more)\u{1b}[K\r\n") };
    format!("\u{1b}[H{}{more}\u{1b}[J", shown.collect::<String>())
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
pub(super) fn write(text: &str) -> std::io::Result<()> {
    write_on(text).map(drop)
}

/// The same; whether somebody still reads.
pub(super) fn write_on(text: &str) -> std::io::Result<bool> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

/// A line on standard error. What a command does and how it ends does not depend on who reads it.
pub(super) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn is_utf_8(locale: Option<&str>) -> bool {
    let locale = locale.unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::{frame, is_utf_8};

    #[test]
    fn a_screen_that_is_too_tall_says_how_much_is_left_out() {
        let lines = |text: &str| text.lines().map(|line| line.replace("\u{1b}[K\r", "")).collect::<Vec<_>>();
        assert_eq!(frame("a\nb\nc\n", 3), "\u{1b}[Ha\u{1b}[K\r\nb\u{1b}[K\r\nc\u{1b}[K\r\n\u{1b}[J");
        assert_eq!(lines(&frame("a\nb\nc\nd\n", 3)).len(), 4, "three lines and what clears the rest");
        assert!(frame("a\nb\nc\nd\n", 3).contains("b\u{1b}[K\r\n(2 lines more)"));
    }

    #[test]
    fn only_a_locale_that_says_so_shows_more_than_ascii() {
        assert!(is_utf_8(Some("de_DE.UTF-8")) && is_utf_8(Some("C.utf8")));
        for locale in [None, Some("C"), Some("POSIX"), Some("en_US.ISO-8859-1")] {
            assert!(!is_utf_8(locale), "{locale:?}");
        }
    }
}
