//! The shop's environment as data: every fault is a variable of the pod template, so a bad release is an ordinary
//! `kubectl set env`. Input: a look-up of names. Output: settings, or one sentence that says what is wrong.

use std::time::Duration;

/// The value of a variable, if it is set and not empty.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What this release does, and does wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Sent with every answer as `x-version`.
    pub version: String,
    /// Where it listens.
    pub port: u16,
    /// Share of requests answered with 500.
    pub error_rate: f64,
    /// Added to every request.
    pub latency: Duration,
    /// How much that differs from request to request: the standard deviation of its logarithm. 0 is none.
    pub latency_spread: f64,
    /// Memory kept for ever, per second.
    pub leak_mib_per_s: u32,
    /// The end of the leak: without it a shop outside a container would eat the host.
    pub leak_max_mib: u32,
    /// The process ends by itself after this time, with `exit_code`.
    pub exit_after: Option<Duration>,
    /// Exit code of that end.
    pub exit_code: u8,
    /// What it prints before that end, as it stands: several lines look like a stack trace.
    pub exit_message: Option<String>,
    /// It ends like that at once on this node.
    pub exit_on_node: Option<String>,
    /// The node it is on, if the pod template says so.
    pub node_name: Option<String>,
    /// It ends like that in its first so many starts, counted in the file `/starts/count`.
    pub exit_at_start_times: u32,
    /// It ends like that at its start while the dependency does not answer 200.
    pub exit_until_dependency: bool,
    /// From this age on it takes memory as fast as it can, until the kernel kills it.
    pub oom_after: Option<Duration>,
    /// From this age on `/livez` fails.
    pub liveness_fails_after: Option<Duration>,
    /// Readiness never succeeds.
    pub never_ready: bool,
    /// Readiness does not succeed before this age.
    pub ready_after: Duration,
    /// Serves, but exposes no metric about requests.
    pub silent: bool,
    /// Length of the cold start.
    pub errors_first: Duration,
    /// Share of errors during the cold start.
    pub errors_first_rate: f64,
    /// Every request fails while this does not answer 200.
    pub dependency_url: Option<String>,
    /// Log lines per second besides those of failures.
    pub log_lines: u32,
    /// Lines per second at error, besides those.
    pub log_error_lines: u32,
    /// Logged at error for each failing request.
    pub log_error: Option<String>,
    /// Time between SIGTERM and the last accepted connection.
    pub drain: Duration,
    /// Start of the random numbers; the same seed fails the same requests.
    pub seed: Option<u64>,
}

impl Settings {
    /// Reads the settings; an empty variable counts as absent.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let get: Lookup = &|name| lookup(name).filter(|value| !value.is_empty());
        Ok(Self {
            version: get("VERSION").unwrap_or_else(|| "unknown".to_owned()),
            port: number(get, "PORT", 8080, 1, u16::MAX)?,
            error_rate: rate(get, "ERROR_RATE", 0.0)?,
            latency: Duration::from_millis(number(get, "LATENCY_MS", 0, 0, 600_000)?),
            latency_spread: decimal(get, "LATENCY_SPREAD", 0.0, 2.0)?,
            leak_mib_per_s: number(get, "LEAK_MIB_PER_S", 0, 0, 1024)?,
            leak_max_mib: number(get, "LEAK_MAX_MIB", 1024, 1, 65_536)?,
            exit_after: seconds(get, "EXIT_AFTER_S")?,
            exit_code: number(get, "EXIT_CODE", 1, 0, u8::MAX)?,
            exit_message: get("EXIT_MESSAGE"),
            exit_on_node: get("EXIT_ON_NODE"),
            node_name: get("NODE_NAME"),
            exit_at_start_times: number(get, "EXIT_AT_START_TIMES", 0, 0, 1000)?,
            exit_until_dependency: switch(get, "EXIT_UNTIL_DEPENDENCY")?,
            oom_after: seconds(get, "OOM_AFTER_S")?,
            liveness_fails_after: seconds(get, "LIVENESS_FAILS_AFTER_S")?,
            never_ready: switch(get, "NEVER_READY")?,
            ready_after: seconds(get, "READY_AFTER_S")?.unwrap_or_default(),
            silent: switch(get, "SILENT")?,
            errors_first: seconds(get, "ERRORS_FIRST_S")?.unwrap_or_default(),
            errors_first_rate: rate(get, "ERRORS_FIRST_RATE", 1.0)?,
            dependency_url: url(get, "DEPENDENCY_URL")?,
            log_lines: number(get, "LOG_LINES", 0, 0, 10_000)?,
            log_error_lines: number(get, "LOG_ERROR_LINES", 0, 0, 10_000)?,
            log_error: get("LOG_ERROR"),
            drain: seconds(get, "DRAIN_S")?.unwrap_or(Duration::from_secs(3)),
            seed: get("SEED").map(|_| number(get, "SEED", 0, 0, u64::MAX)).transpose()?,
        })
    }

    /// Whether it is ready at this age of the process.
    pub fn ready_at(&self, age: Duration) -> bool {
        !self.never_ready && age >= self.ready_after
    }

    /// Whether it calls itself alive at this age of the process.
    pub fn alive_at(&self, age: Duration) -> bool {
        self.liveness_fails_after.is_none_or(|fails| age < fails)
    }

    /// The share of requests that fail by plan at this age of the process.
    pub fn error_rate_at(&self, age: Duration) -> f64 {
        if age < self.errors_first { self.errors_first_rate } else { self.error_rate }
    }
}

fn number<T>(get: Lookup, name: &str, default: T, least: T, most: T) -> Result<T, String>
where
    T: Copy + std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Some(text) = get(name) else {
        return Ok(default);
    };
    match text.trim().parse::<T>() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("{name}={text:?} must be a whole number from {least} to {most}")),
    }
}

fn rate(get: Lookup, name: &str, default: f64) -> Result<f64, String> {
    decimal(get, name, default, 1.0)
}

fn decimal(get: Lookup, name: &str, default: f64, most: f64) -> Result<f64, String> {
    let Some(text) = get(name) else {
        return Ok(default);
    };
    match text.trim().parse::<f64>() {
        Ok(value) if (0.0..=most).contains(&value) => Ok(value),
        _ => Err(format!("{name}={text:?} must be a number from 0 to {most}")),
    }
}

fn seconds(get: Lookup, name: &str) -> Result<Option<Duration>, String> {
    let Some(text) = get(name) else {
        return Ok(None);
    };
    match text.trim().parse::<f64>() {
        Ok(value) if (0.0..=86_400.0).contains(&value) => Ok(Some(Duration::from_secs_f64(value))),
        _ => Err(format!("{name}={text:?} must be seconds from 0 to 86400")),
    }
}

fn switch(get: Lookup, name: &str) -> Result<bool, String> {
    match get(name).as_deref() {
        None | Some("0" | "false" | "no") => Ok(false),
        Some("1" | "true" | "yes") => Ok(true),
        Some(text) => Err(format!("{name}={text:?} must be true or false")),
    }
}

fn url(get: Lookup, name: &str) -> Result<Option<String>, String> {
    let Some(text) = get(name) else {
        return Ok(None);
    };
    match text.parse::<hyper::Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => Ok(Some(text)),
        _ => Err(format!("{name}={text:?} must be an http:// address")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_is_a_healthy_release() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings, read(&[("ERROR_RATE", "")]).unwrap());
        assert!(settings.error_rate.abs() < f64::EPSILON);
        assert_eq!(settings.drain, Duration::from_secs(3));
        assert_eq!((settings.port, settings.exit_after), (8080, None));
    }

    #[test]
    fn every_fault_can_be_set() {
        let settings = read(&[
            ("VERSION", "v2"),
            ("ERROR_RATE", "0.4"),
            ("LATENCY_MS", "250"),
            ("LEAK_MIB_PER_S", "8"),
            ("EXIT_AFTER_S", "1.5"),
            ("EXIT_CODE", "3"),
            ("NEVER_READY", "true"),
            ("SILENT", "1"),
            ("EXIT_MESSAGE", "Traceback\n  line 2"),
            ("OOM_AFTER_S", "2"),
            ("READY_AFTER_S", "5"),
            ("LIVENESS_FAILS_AFTER_S", "3"),
            ("EXIT_UNTIL_DEPENDENCY", "yes"),
            ("DEPENDENCY_URL", "http://db:5432/ready"),
            ("LOG_ERROR", "boom"),
        ])
        .unwrap();
        assert_eq!(settings.version, "v2");
        assert_eq!(settings.latency, Duration::from_millis(250));
        assert_eq!(settings.exit_after, Some(Duration::from_millis(1500)));
        assert_eq!((settings.exit_code, settings.leak_mib_per_s), (3, 8));
        assert!(settings.never_ready && settings.silent && settings.exit_until_dependency);
        assert_eq!(settings.exit_message.as_deref(), Some("Traceback\n  line 2"));
        assert_eq!(settings.oom_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_slow_start_and_a_late_hang_have_their_times() {
        let settings = read(&[("READY_AFTER_S", "5"), ("LIVENESS_FAILS_AFTER_S", "8")]).unwrap();
        let at = |s| (settings.ready_at(Duration::from_secs(s)), settings.alive_at(Duration::from_secs(s)));
        assert_eq!([at(4), at(5), at(8)], [(false, true), (true, true), (true, false)]);
        assert!(!read(&[("NEVER_READY", "1")]).unwrap().ready_at(Duration::from_secs(99)));
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable() {
        let bad = [
            ("ERROR_RATE", "1.1"),
            ("ERROR_RATE", "NaN"),
            ("ERRORS_FIRST_RATE", "-0.1"),
            ("LATENCY_MS", "fast"),
            ("LATENCY_SPREAD", "2.1"),
            ("EXIT_CODE", "256"),
            ("EXIT_AFTER_S", "inf"),
            ("NEVER_READY", "maybe"),
            ("DEPENDENCY_URL", "https://db"),
            ("DEPENDENCY_URL", "db"),
            ("PORT", "0"),
            ("SEED", "-1"),
        ];
        for (name, value) in bad {
            let error = read(&[(name, value)]).expect_err(value);
            assert!(error.starts_with(&format!("{name}={value:?} must be ")), "{error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn the_cold_start_ends_by_itself() {
        let settings = read(&[("ERRORS_FIRST_S", "10"), ("ERROR_RATE", "0.01")]).unwrap();
        let rate = |s| settings.error_rate_at(Duration::from_secs(s));
        assert!((rate(9) - 1.0).abs() < f64::EPSILON);
        assert!((rate(10) - 0.01).abs() < f64::EPSILON);
    }
}
