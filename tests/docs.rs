//! What the documentation says is shown by a test is shown by one that exists and is run, and what it has you write can be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/fences.rs"]
mod fences;
#[path = "docs/manifests.rs"]
mod manifests;
#[path = "docs/reasons.rs"]
mod reasons;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use deployment_guard::api::{DeploymentGuard, GuardClass, decision, providers};
use deployment_guard::domain::advice::Failure;
use deployment_guard::domain::advice::authority::{Authority, Limit};
use deployment_guard::domain::advice::prompt::DataPolicy;
use serde_json::{Value, json};

const TABLE: &str = "## Situations";

/// Tests that are being written. Empty at a release; a name that exists by now must go.
const AWAITED: &[&str] = &[];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rows of the table "Situations": what, and by what it is shown.
fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/undo.md")).unwrap();
    let section = text.split_once(TABLE).expect("no section of situations").1;
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect() };
    lines
        .skip(2)
        .map(|line| match &cells(line)[..] {
            [situation, _, shown] => (situation.clone(), shown.clone()),
            other => panic!("{} cells instead of 3: {line}", other.len()),
        })
        .collect()
}

/// The names of tests in a cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').filter(|part| part.contains("::")).collect()
}

/// Why a name is no test, if it is none.
fn trouble(name: &str) -> Option<String> {
    let (file, function) = name.split_once("::")?;
    let path = if file.starts_with("src/") { root().join(file) } else { root().join("tests").join(file) };
    let Ok(text) = fs::read_to_string(&path) else { return Some(format!("no file {file}")) };
    if !is_test(&text, function, file.starts_with("e2e/")) {
        return Some(format!("no test {function} in {file}"));
    }
    let module = Path::new(file).file_stem()?.to_str()?;
    let registered = || fs::read_to_string(root().join("tests/e2e/main.rs")).unwrap();
    let entry = format!(" {module}::{function},");
    (file.starts_with("e2e/") && !registered().contains(&entry))
        .then(|| format!("{name} is not run by tests/e2e/main.rs"))
}

fn is_test(text: &str, function: &str, of_cluster: bool) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| {
        let line = line.trim_start_matches("pub ").trim_start_matches("async ");
        line.strip_prefix("fn ")
            .is_some_and(|rest| rest.strip_prefix(function).is_some_and(|rest| rest.starts_with('(')))
    });
    // Those of the cluster are run by their own harness.
    at.is_some_and(|at| {
        of_cluster || lines[..at].iter().rev().take(3).any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn every_situation_of_an_undo_is_shown_by_a_test_that_is_run() {
    let rows = rows();
    assert!(rows.len() >= 24, "{} rows: the table was not read", rows.len());
    let awaited: BTreeSet<_> = AWAITED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (situation, shown) in &rows {
        let names = names(shown);
        if names.is_empty() {
            wrong.push(format!("{situation}: no test"));
        }
        let troubles = names.iter().filter(|name| !awaited.contains(*name)).filter_map(|name| trouble(name));
        wrong.extend(troubles.map(|trouble| format!("{situation}: {trouble}")));
    }
    let named: BTreeSet<_> = rows.iter().flat_map(|(_, shown)| names(shown)).collect();
    wrong.extend(awaited.difference(&named).map(|name| format!("{name} is awaited, but no row names it")));
    wrong.extend(
        awaited.iter().filter(|name| trouble(name).is_none()).map(|name| format!("{name} is awaited, but exists")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    for name in ["e2e/undo.rs::no_such_test", "e2e/no_such_file.rs::x", "e2e/undo.rs::policy", "src/act/undo.rs::check"]
    {
        assert!(trouble(name).is_some(), "{name}");
    }
    assert_eq!(trouble("src/act/tests.rs::what_is_gone_stops_quietly"), None);
}

fn llm() -> String {
    fs::read_to_string(root().join("docs/llm.md")).unwrap()
}

/// Blocks of a page in one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("\n```{language}\n");
    page.split(&open).skip(1).map(|rest| rest.split_once("\n```\n").expect("a block ends").0).collect()
}

/// The class of a block; one that shows providers only stands in the smallest class there is.
fn class(block: &Value) -> GuardClass {
    let small = json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": "default"},
        "spec": {"prometheus": {"url": "http://prometheus.monitoring:9090"}, "providers": block["providers"]},
    });
    let whole = if block["kind"] == "GuardClass" { block } else { &small };
    serde_json::from_value(whole.clone()).unwrap_or_else(|error| panic!("{error}\n{whole:#}"))
}

#[test]
fn every_setting_for_language_models_that_is_shown_can_be_used() {
    let page = llm();
    let (mut names, mut guards, mut first) = (BTreeSet::new(), 0, None);
    for text in blocks(&page, "yaml") {
        let block: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        if block["decision"].is_object() {
            let guard = json!({
                "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "metadata": {"name": "api"},
                "spec": {"targetRef": {"name": "api"}, "decision": block["decision"]},
            });
            let guard: DeploymentGuard = serde_json::from_value(guard).unwrap();
            let class: &GuardClass = first.as_ref().expect("the class stands before the guard");
            decision::parse(&guard.spec.decision, &class.spec).unwrap_or_else(|error| panic!("{error}\n{text}"));
            guards += 1;
            continue;
        }
        let class = class(&block);
        let policy = providers::parse(&class.spec).unwrap_or_else(|error| panic!("{error}\n{text}"));
        names.extend(policy.providers.into_iter().map(|provider| provider.name));
        first.get_or_insert(class);
    }
    let wanted =
        ["anthropic", "azure", "gemini", "groq", "local", "ollama", "openai", "openrouter", "together", "vllm"];
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert_eq!(guards, 1);
}

/// Every way to fail; a new one does not compile until it stands here.
fn failures() -> Vec<Failure> {
    let all = vec![
        Failure::Timeout,
        Failure::Unreachable,
        Failure::Tls,
        Failure::Unauthorized,
        Failure::UnknownModel,
        Failure::RateLimited(None),
        Failure::Server(500),
        Failure::Refused(400),
        Failure::Redirected,
        Failure::TooLarge,
        Failure::Truncated,
        Failure::Declined,
        Failure::Empty,
        Failure::Unreadable,
        Failure::Invalid,
        Failure::BreakerOpen,
        Failure::BudgetExhausted,
        Failure::NotSendable,
    ];
    for failure in &all {
        match failure {
            Failure::Timeout
            | Failure::Unreachable
            | Failure::Tls
            | Failure::Unauthorized
            | Failure::UnknownModel
            | Failure::RateLimited(_)
            | Failure::Server(_)
            | Failure::Refused(_)
            | Failure::Redirected
            | Failure::TooLarge
            | Failure::Truncated
            | Failure::Declined
            | Failure::Empty
            | Failure::Unreadable
            | Failure::Invalid
            | Failure::BreakerOpen
            | Failure::BudgetExhausted
            | Failure::NotSendable => {}
        }
    }
    all
}

/// First cells of the table under a heading or a sentence, in code.
fn first_cells(page: &str, after: &str) -> Vec<String> {
    let section = page.split_once(after).unwrap_or_else(|| panic!("no {after:?}")).1;
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).filter_map(|row| Some(row.split('`').nth(1)?.to_owned())).collect()
}

#[test]
fn every_outcome_clamp_authority_and_policy_is_explained_and_no_other() {
    let page = llm();
    let mut words: Vec<String> = failures().iter().map(|failure| failure.word().to_owned()).collect();
    words.insert(0, "answered".to_owned());
    assert_eq!(first_cells(&page, "## When it does not work"), words);
    let limits = [
        Limit::HardFact,
        Limit::Evidence,
        Limit::CertifiedHealth,
        Limit::Held,
        Limit::Blind,
        Limit::Advisory,
        Limit::BelowGreyZone,
        Limit::NoAbnormalEvidence,
    ];
    assert_eq!(first_cells(&page, "**What clamps**"), limits.map(Limit::as_str));
    let authorities: Vec<&str> = Authority::ALL.iter().map(|authority| authority.as_str()).collect();
    assert_eq!(first_cells(&page, "## Authority"), authorities);
    let policies: Vec<&str> = DataPolicy::ALL.iter().map(|policy| policy.as_str()).collect();
    assert_eq!(first_cells(&page, "## What leaves the cluster"), policies);
}

#[test]
fn what_is_shown_of_a_prompt_and_of_a_story_is_what_tests_have() {
    let page = llm();
    let golden = include_str!("../src/domain/advice/prompt/golden/redacted.txt");
    let user = golden.split("\n=====\n").nth(1).unwrap().trim_end();
    assert!(blocks(&page, "text").contains(&user), "the prompt that is shown is not the golden one");
    let story = include_str!("../src/cli/explain/golden/grey-zone.txt");
    assert!(page.contains(story), "the story that is shown is not the golden one");
    let guarantee = fs::read_to_string(root().join("docs/evidence.md")).unwrap().replace("\n> ", " ");
    let quoted = page.replace("\n> ", " ");
    let said = quoted.split("With `authority: TieBreak`").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(
        guarantee.contains(&format!("With `authority: TieBreak`{said}")),
        "the guarantee is not quoted word for word"
    );
}

#[test]
fn what_is_said_of_prompt_injection_is_shown_by_tests() {
    let page = llm();
    let section = page.split_once("## Prompt injection").unwrap().1.split_once("\n## ").unwrap().0;
    let shown: Vec<&str> = section.lines().filter(|line| line.starts_with('|')).flat_map(names).collect();
    assert!(shown.len() >= 8, "{shown:?}");
    let wrong: Vec<String> = shown.iter().filter_map(|name| trouble(name)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The pages of the folder.
fn paths() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).unwrap().map(|file| file.unwrap().path());
    folder.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A page, as one writes its name in a link.
fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The quotation that follows the heading "The guarantee", without its lines and marks.
fn guarantee(name: &str) -> String {
    let page = page(name);
    let section = page.split_once("\n## The guarantee\n").unwrap_or_else(|| panic!("{name} has no guarantee")).1;
    let quoted = section.lines().skip_while(|line| !line.starts_with('>')).take_while(|line| line.starts_with('>'));
    let words: Vec<&str> = quoted.flat_map(|line| line.trim_start_matches('>').split_whitespace()).collect();
    words.join(" ")
}

#[test]
fn the_guarantee_is_the_same_word_for_word_wherever_it_stands() {
    let whole = guarantee("evidence.md");
    assert!(whole.starts_with("If, in every step,") && whole.contains("Not covered:"), "{whole}");
    assert_eq!(guarantee("decisions.md"), whole);
}

/// The words of a heading in the address of a page, as GitHub makes them.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace('`', "");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}

/// Headings of a page, without blocks of code.
fn anchors(page: &str) -> BTreeSet<String> {
    let text: String = page.split("\n```").step_by(2).collect();
    text.lines().filter_map(|line| Some(anchor(line.trim_start_matches('#').strip_prefix(' ')?))).collect()
}

/// Where the links of a page lead that name a file of this repository: file and heading.
fn links(page: &str) -> Vec<(String, Option<String>)> {
    let text: String = page.split("\n```").step_by(2).collect();
    // A pattern in a line of code may look like one.
    let text: String = text.split('`').step_by(2).collect();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned());
    let inside = targets.filter(|target| !target.contains("://") && !target.contains(char::is_whitespace));
    inside
        .map(|target| match target.split_once('#') {
            Some((file, heading)) => (file.to_owned(), Some(heading.to_owned())),
            None => (target, None),
        })
        .collect()
}

#[test]
fn every_link_between_pages_leads_to_a_heading_that_exists() {
    let pages =
        paths().into_iter().chain(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
    let (mut wrong, mut headings, mut seen) = (Vec::new(), BTreeMap::new(), 0);
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        for (file, heading) in links(&text) {
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(&file) };
            let told = format!("{}: {file}#{}", path.display(), heading.as_deref().unwrap_or_default());
            seen += 1;
            if !target.exists() {
                wrong.push(told);
                continue;
            }
            let Some(heading) = heading else { continue };
            let of = headings.entry(target.clone()).or_insert_with(|| anchors(&fs::read_to_string(&target).unwrap()));
            if !of.contains(&heading) {
                wrong.push(told);
            }
        }
    }
    assert!(seen >= 200, "{seen} links: the pages were not read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_page_says_what_it_is_for_and_is_reached_from_the_first_ones() {
    let names: BTreeSet<String> =
        paths().iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    for name in &names {
        let text = page(name);
        // What is generated says so first.
        let text =
            text.split_once("-->\n\n").filter(|_| text.starts_with("<!--")).map_or(text.as_str(), |(_, rest)| rest);
        let second = text.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default();
        assert!(text.starts_with("# "), "{name} has no title");
        assert!(second.starts_with(char::is_alphanumeric) || second.starts_with('`'), "{name} begins with {second:?}");
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap().replace("docs/", "");
    let mut reached: BTreeSet<String> = links(&readme).into_iter().map(|(file, _)| file).collect();
    for _ in 0..names.len() {
        let further: Vec<_> =
            reached.iter().filter(|name| names.contains(*name)).flat_map(|name| links(&page(name))).collect();
        reached.extend(further.into_iter().map(|(file, _)| file));
    }
    let lost: Vec<_> = names.difference(&reached).collect();
    assert!(lost.is_empty(), "no page leads to {lost:?}");
}
