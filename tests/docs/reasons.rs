//! `docs/troubleshooting.md` has an entry for every reason that the operator can write, and for no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use deployment_guard::domain::outcome::Reason;
use deployment_guard::record::events::EventReason;

use super::root;

fn page() -> String {
    fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap()
}

/// Every word, from where the code defines it: of conditions and decisions, then of events.
fn words() -> BTreeSet<&'static str> {
    let conditions = Reason::ALL.iter().map(|reason| reason.as_str());
    conditions.chain(EventReason::ALL.iter().map(|reason| reason.as_str())).collect()
}

/// Entries of the page: the reasons in the heading, and what stands below it.
fn entries(page: &str) -> Vec<(Vec<&str>, &str)> {
    let sections = page.split("\n### ").skip(1).map(|section| section.split("\n## ").next().unwrap());
    sections
        .filter_map(|section| section.split_once('\n'))
        .map(|(heading, text)| (heading.split('`').skip(1).step_by(2).collect(), text))
        .collect()
}

/// What is wrong with the page.
fn troubles(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (reasons, text) in entries(page) {
        if reasons.is_empty() {
            found.push(format!("a heading without a reason, above {:?}", text.lines().nth(1)));
        }
        for reason in &reasons {
            *known.entry(reason).or_default() += 1;
        }
        let (meaning, rest) = text.split_once("\n* **Look:** ").unwrap_or_default();
        let (look, cure) = rest.split_once("\n* **Do:** ").unwrap_or_default();
        if meaning.trim().is_empty() || cure.trim().is_empty() {
            found.push(format!("{reasons:?} does not say what it means, **Look:** and **Do:**"));
        }
        if !["`kubectl ", "`deployment-guard "].iter().any(|command| look.contains(command)) {
            found.push(format!("{reasons:?} has no command to look with"));
        }
    }
    let words = words();
    found.extend(words.iter().filter(|word| !known.contains_key(*word)).map(|word| format!("{word} has no entry")));
    for (reason, times) in known {
        if !words.contains(reason) {
            found.push(format!("{reason} is no reason that there is"));
        } else if times > 1 {
            found.push(format!("{reason} has {times} entries"));
        }
    }
    found
}

#[test]
fn every_reason_has_an_entry_that_says_what_to_look_at_and_what_to_do() {
    let found = troubles(&page());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_reason_without_an_entry_and_an_entry_without_a_reason_are_noticed() {
    let renamed = page().replace("### `CrashLoop`", "### `CrashLop`");
    assert_eq!(troubles(&renamed), ["CrashLoop has no entry", "CrashLop is no reason that there is"]);
    let twice = format!("{}\n### `CrashLoop`\n\nIt ends.\n\n* **Look:** at it.\n* **Do:** fix it.\n", page());
    assert_eq!(troubles(&twice), [r#"["CrashLoop"] has no command to look with"#, "CrashLoop has 2 entries"]);
    let silent = page().replacen("* **Do:**", "* **Then:**", 1);
    assert_eq!(troubles(&silent).len(), 2, "the cure, and with it the command, cannot be told apart");
}

/// Code below a folder, without tests.
fn code(folder: &Path, skip: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path == skip || stem == "tests" || stem.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            code(&path, skip, into);
        } else {
            into.push(fs::read_to_string(&path).unwrap().split("\n#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

/// Names that follow `Reason::` or `EventReason::` in the code.
fn used(prefix: &str, skip: &str) -> BTreeSet<String> {
    let mut all = Vec::new();
    code(&root().join("src"), &root().join(skip), &mut all);
    let mut names = BTreeSet::new();
    for text in all {
        for (at, _) in text.match_indices(prefix) {
            if !text[..at].ends_with(|before: char| before.is_alphanumeric()) {
                names.insert(text[at + prefix.len()..].chars().take_while(|c| c.is_alphanumeric()).collect());
            }
        }
    }
    names
}

#[test]
fn a_reason_exists_only_if_something_writes_it() {
    let conditions = used("Reason::", "src/domain/outcome.rs");
    let events = used("EventReason::", "src/record/events.rs");
    let dead: Vec<String> =
        Reason::ALL.iter().map(|reason| format!("{reason:?}")).filter(|name| !conditions.contains(name)).collect();
    let dumb: Vec<String> =
        EventReason::ALL.iter().map(|reason| format!("{reason:?}")).filter(|name| !events.contains(name)).collect();
    assert!(dead.is_empty() && dumb.is_empty(), "nothing writes {dead:?} {dumb:?}");
}

/// As pages on a forge name the places of headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |heading: &str| -> String {
        let kept = heading.to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(kept).collect()
}

#[test]
fn every_link_of_the_page_leads_somewhere() {
    let page = page();
    let links: Vec<&str> = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 20, "{}", links.len());
    for link in links {
        let (file, place) = link.split_once('#').unwrap_or((link, ""));
        let file = if file.is_empty() { "troubleshooting.md" } else { file };
        let text = fs::read_to_string(root().join("docs").join(file)).unwrap_or_else(|error| panic!("{link}: {error}"));
        assert!(place.is_empty() || anchors(&text).contains(place), "{link}");
    }
}
