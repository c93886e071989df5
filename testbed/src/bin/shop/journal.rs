//! The shop's log: a JSON object per line on standard output, as a structured logger writes it.

use std::io::Write;

use jiff::Timestamp;
use serde_json::json;

use crate::dice::Dice;

/// The word a logger gives a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For developers.
    Debug,
    /// Business as usual.
    Info,
    /// Odd, but handled.
    Warn,
    /// A request failed.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Writes one line; a reader that went away must not end the server.
pub fn write(level: Level, version: &str, message: &str) {
    let line = line(Timestamp::now(), level, version, message);
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn line(now: Timestamp, level: Level, version: &str, message: &str) -> String {
    json!({
        "ts": format!("{now:.3}"),
        "level": level.word(),
        "msg": message,
        "version": version,
    })
    .to_string()
}

/// A line of daily business, with numbers that differ from line to line as in life.
pub fn chatter(dice: &Dice) -> (Level, String) {
    let (order, millis) = (dice.throw() % 1_000_000, dice.throw() % 180);
    match dice.throw() % 20 {
        0 => (Level::Warn, format!("payment for order {order} retried after {millis} ms")),
        1..=4 => (Level::Debug, format!("cache miss for product {order}")),
        5..=9 => (Level::Info, format!("order {order} shipped")),
        _ => (Level::Info, format!("GET /product/{order} 200 {millis}ms")),
    }
}

/// A line at error, with numbers that differ from line to line.
pub fn complaint(dice: &Dice) -> String {
    let (order, millis) = (dice.throw() % 1_000_000, dice.throw() % 5000);
    match dice.throw() % 2 {
        0 => format!("order {order} could not be stored: timeout after {millis} ms"),
        _ => format!("payment service answered 502 for order {order}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_line_breaks_and_quotes_stays_one_json_line() {
        let text = line(Timestamp::UNIX_EPOCH, Level::Error, "v2", "bad \"thing\"\nat line 3");
        assert!(!text.contains('\n'));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["level"], "error");
        assert_eq!(parsed["msg"], "bad \"thing\"\nat line 3");
        assert_eq!(parsed["ts"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn chatter_has_several_levels_and_never_an_error() {
        let dice = Dice::new(5);
        let levels: Vec<Level> = (0..200).map(|_| chatter(&dice).0).collect();
        for level in [Level::Debug, Level::Info, Level::Warn] {
            assert!(levels.contains(&level), "{level:?}");
        }
        assert!(!levels.contains(&Level::Error));
    }
}
