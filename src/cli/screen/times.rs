//! Moments and spans as people read them.
//!
//! Role: clock times, how long ago, how long still. Inputs: moments and `now`. Outputs: words. Must never import: a clock,
//! `console`.

use std::time::Duration;

use jiff::Timestamp;

/// The time of day in UTC, with the date unless it is today's.
pub(in crate::cli) fn clock(at: Timestamp, now: Timestamp) -> String {
    let format = if day(at) == day(now) { "%H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%SZ" };
    at.strftime(format).to_string()
}

fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

/// How long ago, or how long still.
pub(in crate::cli) fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", span(between(now, at))) } else { format!("{} ago", span(between(at, now))) }
}

/// Time between two moments; none if the second came first.
pub(in crate::cli) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// The two largest units.
pub(in crate::cli) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{smaller}") }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => two(minutes, "m", seconds % 60, "s"),
        (0, hours, minutes) => two(hours, "h", minutes, "m"),
        (days, hours, _) => two(days, "d", hours, "h"),
    }
}

/// The largest unit alone, for columns.
pub(in crate::cli) fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = between(at, now).as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [0, 59, 60, 61, 3_600, 3_725, 90_000, 176_400].map(of),
            ["0s", "59s", "1m", "1m1s", "1h", "1h2m", "1d1h", "2d1h"]
        );
    }

    #[test]
    fn a_moment_of_another_day_has_its_date() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(clock(at(3_661), at(7_000)), "01:01:01Z");
        assert_eq!(clock(at(3_661), at(90_000)), "1970-01-01 01:01:01Z");
        assert_eq!(relative(at(10), at(5)), "in 5s");
        assert_eq!(relative(at(5), at(10)), "5s ago");
        assert_eq!(age(at(0), at(7_300)), "2h");
    }
}
