//! Configuration that was changed in place, beside a rollout.
//!
//! Role: compares what pods read now with what they read when a revision was last known to be well, by resource versions
//! alone; contents are never looked at. Inputs: what was seen. Outputs: sentences. Must never import: other rooms, a clock.

use std::time::Duration;

use jiff::Timestamp;

use super::rollout::Configuration;

/// Objects that are remembered and compared.
pub const MOST: usize = 16;

/// An object as it was when a revision was last known to be well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub what: Configuration,
    /// Its resource version.
    pub version: String,
}

/// An object as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub what: Configuration,
    /// Its resource version; none if it does not exist.
    pub version: Option<String>,
    /// When it was last written, where the API server tells.
    pub changed: Option<Timestamp>,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// What could be seen.
    pub seen: Vec<Seen>,
    /// Whether some ConfigMaps could not be seen.
    pub blind_to_config_maps: bool,
    /// Whether some Secrets could not be seen.
    pub blind_to_secrets: bool,
}

impl Look {
    /// What is worth remembering of it.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        let known = |seen: &Seen| Some(Known { what: seen.what.clone(), version: seen.version.clone()? });
        self.seen.iter().filter_map(known).take(MOST).collect()
    }

    /// What changed since then, a sentence each. An object that was not known then belongs to the release.
    #[must_use]
    pub fn changes(&self, known: &[Known], started: Timestamp) -> Vec<String> {
        let before = |seen: &Seen| known.iter().find(|known| known.what == seen.what);
        let differs = |seen: &&Seen| before(seen).is_some_and(|known| seen.version.as_ref() != Some(&known.version));
        self.seen.iter().filter(differs).map(|seen| sentence(seen, started)).collect()
    }

    /// What could not be looked at, a sentence each.
    #[must_use]
    pub fn blind_spots(&self) -> Vec<String> {
        let blind = [("ConfigMaps", self.blind_to_config_maps), ("Secrets", self.blind_to_secrets)];
        let sentence = |what: &str| {
            format!(
                "whether {what} that the pods read were changed is not known: the operator may not read their metadata"
            )
        };
        blind.iter().filter(|(_, blind)| *blind).map(|(what, _)| sentence(what)).collect()
    }
}

fn sentence(seen: &Seen, started: Timestamp) -> String {
    let kind = if seen.what.secret { "Secret" } else { "ConfigMap" };
    let name = &seen.what.name;
    if seen.version.is_none() {
        return format!("{kind} {name}, which the pods read, was deleted");
    }
    let Some(changed) = seen.changed else {
        return format!(
            "{kind} {name}, which the pods read, was changed since the revision before was known to be well"
        );
    };
    let (time, when) = match Duration::try_from(started.duration_since(changed)) {
        Ok(before) => (before, "before the rollout was seen"),
        Err(_) => (changed.duration_since(started).unsigned_abs(), "after the rollout was seen"),
    };
    format!("{kind} {name}, which the pods read, was changed {} {when}", rough(time))
}

/// A time as people say it.
fn rough(time: Duration) -> String {
    let (number, unit) = match time.as_secs() {
        seconds @ 0..120 => (seconds, "second"),
        seconds @ 120..7_200 => (seconds / 60, "minute"),
        seconds @ 7_200..172_800 => (seconds / 3_600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixture::at;

    fn what(name: &str, secret: bool) -> Configuration {
        Configuration { secret, name: name.into() }
    }

    fn known(name: &str, version: &str) -> Known {
        Known { what: what(name, false), version: version.into() }
    }

    fn seen(name: &str, version: Option<&str>, changed: Option<i64>) -> Seen {
        Seen { what: what(name, false), version: version.map(str::to_owned), changed: changed.map(at) }
    }

    fn changes(known: &[Known], seen: &[Seen]) -> Vec<String> {
        Look { seen: seen.to_vec(), ..Look::default() }.changes(known, at(1000))
    }

    #[test]
    fn what_was_changed_is_named_with_the_time_to_the_rollout() {
        let before = [known("settings", "7")];
        assert!(changes(&before, &[seen("settings", Some("7"), Some(990))]).is_empty());
        let said = |changed| changes(&before, &[seen("settings", Some("8"), changed)]).join("");
        assert_eq!(
            said(Some(820)),
            "ConfigMap settings, which the pods read, was changed 3 minutes before the rollout was seen"
        );
        assert_eq!(
            said(Some(1001)),
            "ConfigMap settings, which the pods read, was changed 1 second after the rollout was seen"
        );
        assert!(said(None).ends_with("since the revision before was known to be well"));
        assert!(changes(&before, &[seen("settings", None, None)])[0].ends_with("was deleted"));
    }

    #[test]
    fn what_only_the_new_revision_reads_belongs_to_it() {
        assert!(changes(&[known("settings", "7")], &[seen("settings-v2", Some("9"), Some(999))]).is_empty());
        let same_name = Seen { what: what("settings", true), ..seen("settings", Some("9"), None) };
        assert!(changes(&[known("settings", "7")], &[same_name]).is_empty(), "a Secret is no ConfigMap");
    }

    #[test]
    fn what_cannot_be_seen_is_said_and_never_taken_for_unchanged() {
        let look = Look { blind_to_secrets: true, ..Look::default() };
        assert_eq!(look.blind_spots().len(), 1);
        assert!(look.blind_spots()[0].contains("Secrets"), "{:?}", look.blind_spots());
        assert!(look.known().is_empty());
        assert!(Look::default().blind_spots().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_is_what_was_there() {
        let seen: Vec<_> = (0..40).map(|n| seen(&format!("c{n}"), (n != 3).then_some("1"), None)).collect();
        let look = Look { seen, ..Look::default() };
        assert_eq!(look.known().len(), MOST);
        assert!(!look.known().iter().any(|known| known.what.name == "c3"));
    }
}
