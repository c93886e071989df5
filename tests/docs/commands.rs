//! Every command of the pages is read by what would run it, or its page says that our tests do not run it.

use std::collections::BTreeMap;
use std::fs;

use clap::error::ErrorKind;
use deployment_guard::cli;
use serde_json::Value;

use super::fences::{self, Fence, Shell};
use super::{root, trouble};

/// Programs by the names that a page says of them.
const OTHERS: &[(&str, &str)] = &[
    ("kubectl", "kubectl"),
    ("kind", "kind"),
    ("minikube", "minikube"),
    ("k3d", "k3d"),
    ("flux", "flux"),
    ("argocd", "argo cd"),
    ("docker", "docker"),
    ("podman", "podman"),
    ("git", "git"),
    ("curl", "curl"),
    ("cargo", "cargo"),
    ("promtool", "promtool"),
];

/// The sentence with which a page says so: "The commands of A, B and C on this page are not run by our tests."
const NOT_RUN: &str = " on this page are not run by our tests";

/// The arguments of our own program, under any of its names.
fn ours(words: &[String]) -> Option<&[String]> {
    match words {
        [first, rest @ ..] if first == "deployment-guard" || first == "kubectl-guard" => Some(rest),
        [first, second, rest @ ..] if first == "kubectl" && second == "guard" => Some(rest),
        _ => None,
    }
}

/// What the command line itself says about arguments. Running text may name a command without all that it needs.
fn refused(arguments: &[String], in_text: bool) -> Option<String> {
    let words = std::iter::once("deployment-guard".to_owned()).chain(arguments.iter().cloned());
    let error = cli::command_line().try_get_matches_from(words).err()?;
    let fine = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => in_text,
        _ => false,
    };
    (!fine).then(|| error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// Lines in blocks of any language that begin with our program, as in screens and in pipelines.
fn lines_with_ours(fence: &Fence) -> Vec<Shell> {
    let begins = |line: &&String| {
        let line = line.trim().trim_start_matches("$ ").trim_start_matches("- ").trim_start_matches("run: ");
        ["deployment-guard ", "kubectl guard ", "kubectl-guard "].iter().any(|name| line.starts_with(name))
    };
    let only = |line: &String| Fence {
        place: String::new(),
        page: String::new(),
        language: String::new(),
        comment: String::new(),
        lines: vec![line.trim().to_owned()],
    };
    fence.lines.iter().filter(begins).flat_map(|line| fences::commands(&only(line))).collect()
}

#[test]
fn every_command_of_ours_that_a_page_shows_is_one_that_there_is() {
    let (mut seen, mut wrong) = (0, Vec::new());
    let mut look = |place: &str, words: &[String], in_text: bool| {
        let Some(arguments) = ours(words) else { return };
        seen += 1;
        wrong.extend(refused(arguments, in_text).map(|why| format!("{place}: {}: {why}", words.join(" "))));
    };
    for fence in fences::all() {
        let of_shell = if fence.language.is_empty() { fences::commands(&fence) } else { Vec::new() };
        for command in of_shell.into_iter().chain(lines_with_ours(&fence)) {
            look(&fence.place, &command.words, false);
        }
    }
    // In running text names stand for what is to be filled in, and brackets around what can be left out.
    for (page, code) in fences::inline() {
        let whole = code.split_whitespace().count() > 1 && !code.contains(['[', '…']);
        let a_shape = code.split_whitespace().any(|word| word.len() > 1 && word.chars().all(char::is_uppercase));
        for words in fences::split(&code).iter().filter(|_| whole && !a_shape) {
            look(&page, words, true);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen >= 60, "{seen}: the pages were not read");
}

#[test]
fn a_command_that_there_is_not_is_noticed() {
    let words = |line: &str| fences::split(line).remove(0);
    for (line, part) in [
        ("deployment-guard status api --wach", "--wach"),
        ("kubectl guard aprove api", "aprove"),
        ("kubectl-guard wait", "required arguments"),
        ("deployment-guard wait api --timeout soon", "soon"),
    ] {
        let why = refused(ours(&words(line)).unwrap(), false).unwrap_or_default();
        assert!(why.contains(part), "{line}: {why}");
    }
    assert_eq!(refused(ours(&words("kubectl guard wait -n shop api --timeout 30m")).unwrap(), false), None);
    assert_eq!(refused(&words("wait"), true), None);
    assert!(refused(&words("wait --no-such-flag"), true).is_some() && refused(&words("wiat"), true).is_some());
    assert_eq!(ours(&words("kubectl get dg")), None);
}

/// The schema below a path of the chart's values.
fn value<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let name = key.split('[').next().unwrap_or_default();
    let at = schema["properties"].get(name);
    // What the schema leaves open may hold anything.
    let open = schema["properties"].is_null() && schema["additionalProperties"] != false;
    at.or_else(|| open.then_some(&Value::Null))
}

fn wrong_with_helm(words: &[String]) -> Option<String> {
    let schema = fs::read_to_string(root().join("charts/deployment-guard/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut rest = words.iter().skip(1);
    let verb = rest.next()?;
    if !["install", "upgrade", "uninstall", "rollback", "template", "lint", "show", "test"].contains(&verb.as_str()) {
        return Some(format!("helm {verb} is not known here"));
    }
    while let Some(word) = rest.next() {
        if word.starts_with("charts/") && !root().join(word).join("Chart.yaml").exists() {
            return Some(format!("there is no chart {word}"));
        }
        if ["-f", "--values"].contains(&word.as_str()) {
            let file = rest.next()?;
            let missing = file.contains('/') && !root().join(file).exists();
            if missing {
                return Some(format!("there is no file {file}"));
            }
        }
        if word.starts_with("--set") {
            let pairs = word.split_once('=').map(|(_, pairs)| pairs.to_owned()).or_else(|| rest.next().cloned())?;
            // A comma parts two values, but not inside of a list.
            let list = pairs.contains('{');
            for pair in pairs.split(',').filter(|pair| !list || pair.contains('=')) {
                let path = pair.split('=').next().unwrap_or_default();
                if path.split('.').try_fold(&schema, value).is_none() {
                    return Some(format!("the chart has no value {path}"));
                }
            }
        }
    }
    None
}

#[test]
fn every_command_of_helm_names_a_chart_and_values_that_there_are() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for fence in fences::all().iter().filter(|fence| fence.language.is_empty()) {
        for command in fences::commands(fence).iter().filter(|command| command.words[0] == "helm") {
            seen += 1;
            wrong.extend(wrong_with_helm(&command.words).map(|why| format!("{}: {why}", fence.place)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen >= 4, "{seen}");
    for line in [
        "helm install x charts/no-such-chart",
        "helm install x charts/deployment-guard --set image.regsitry=x",
        "helm install x charts/deployment-guard --set=replicas=2,imagge.tag=1",
        "helm instal x charts/deployment-guard",
        "helm upgrade x charts/deployment-guard -f no/such.yaml",
    ] {
        assert!(wrong_with_helm(&fences::split(line)[0]).is_some(), "{line}");
    }
    let open = "helm install x charts/deployment-guard --set guardClass.spec.prometheus.url=http://p --set 'watchNamespaces={a,b}'";
    assert_eq!(wrong_with_helm(&fences::split(open)[0]), None);
}

/// Targets of the Makefile and programs of the testbed are there; what else runs them is `make test` itself.
fn wrong_with_make(words: &[String]) -> Option<String> {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets = words.iter().skip(1).filter(|word| !word.contains('=') && !word.starts_with('-'));
    let missing = |target: &&String| !makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    targets.into_iter().find(missing).map(|target| format!("the Makefile has no target {target}"))
}

#[test]
fn every_target_of_make_that_a_page_shows_is_one_that_there_is() {
    let mut wrong = Vec::new();
    for fence in fences::all().iter().filter(|fence| fence.language.is_empty()) {
        for command in fences::commands(fence).iter().filter(|command| command.words[0] == "make") {
            wrong.extend(wrong_with_make(&command.words).map(|why| format!("{}: {why}", fence.place)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(wrong_with_make(&fences::split("make dmeo KEEP=1")[0]).is_some());
}

/// Of which programs a page says that their commands are not run by our tests.
fn said(page: &str) -> String {
    let running = page.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let mut of = String::new();
    for (at, _) in running.match_indices(NOT_RUN) {
        let sentence = &running[..at];
        let begin = sentence.rfind("commands of ").unwrap_or(at);
        of.push_str(&sentence[begin..]);
        of.push(' ');
    }
    of
}

/// Commands of others on a page that neither a test runs nor a sentence excuses, by program.
fn unexcused(page: &str, text: &str) -> BTreeMap<&'static str, Vec<String>> {
    let said = said(text);
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for fence in fences::fences(page, text).iter().filter(|fence| fence.language.is_empty()) {
        let test = fence.comment.strip_prefix("run by ");
        if let Some(why) = test.and_then(trouble) {
            found.entry("a test that is none").or_default().push(format!("{}: {why}", fence.place));
        }
        if test.is_some() {
            continue;
        }
        for command in fences::commands(fence) {
            let known = OTHERS.iter().find(|(program, _)| command.words[0] == *program);
            let Some((program, name)) = known.filter(|_| ours(&command.words).is_none()) else { continue };
            let excused = said.split(|c: char| c == ',' || c.is_whitespace()).any(|word| word == *name)
                || (name.contains(' ') && said.contains(name));
            if !excused {
                found.entry(program).or_default().push(format!("{}: {}", fence.place, command.words.join(" ")));
            }
        }
    }
    found
}

#[test]
fn commands_of_others_are_run_by_a_test_or_the_page_says_that_they_are_not() {
    let pages = fences::pages();
    let found: Vec<_> =
        pages.iter().map(|(page, text)| unexcused(page, text)).filter(|found| !found.is_empty()).collect();
    assert!(
        found.is_empty(),
        "write \"The commands of A and B{NOT_RUN}.\", or <!-- run by e2e/FILE.rs::TEST --> above the block:\n{found:#?}"
    );
}

#[test]
fn a_page_that_does_not_say_it_is_noticed() {
    let block = "\n```\nkubectl get dg\necho flux\nargocd app list\nkubectl guard list\n```\n";
    let programs = |text: &str| unexcused("p", text).into_keys().collect::<Vec<_>>();
    assert_eq!(programs(block), ["argocd", "kubectl"]);
    let said = |names: &str| format!("The\ncommands of {names} on this page\nare not run by our tests.\n{block}");
    assert_eq!(programs(&said("kubectl")), ["argocd"]);
    assert!(programs(&said("kubectl, Flux and Argo CD")).is_empty());
    let excused = |test: &str| format!("\n<!-- run by {test} -->{block}");
    assert!(programs(&excused("e2e/undo.rs::a_fix_pushed_while_the_bad_release_is_judged_is_not_undone")).is_empty());
    assert_eq!(programs(&excused("e2e/undo.rs::no_such_test")), ["a test that is none"]);
}
