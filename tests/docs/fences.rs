//! What stands between fences on the pages, and the commands in it.

use std::fs;

use super::root;

/// A block between fences.
#[derive(Debug)]
pub struct Fence {
    /// Page and line, for messages.
    pub place: String,
    /// The page's name, such as `docs/cli.md`.
    pub page: String,
    /// The language that the fence names.
    pub language: String,
    /// The comment right above the fence, if there is one.
    pub comment: String,
    /// What stands in it, without the indentation of the fence.
    pub lines: Vec<String>,
}

/// A command as a shell would run it, and what was written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// Program and arguments.
    pub words: Vec<String>,
    /// What stands between `<<'END'` and `END`.
    pub input: String,
}

/// The pages: the README, and everything in `docs/`.
pub fn pages() -> Vec<(String, String)> {
    let mut names: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| format!("docs/{}", path.file_name().unwrap().to_string_lossy()))
        .collect();
    names.sort();
    names.insert(0, "README.md".to_owned());
    let read = |name: String| (name.clone(), fs::read_to_string(root().join(&name)).unwrap());
    names.into_iter().map(read).collect()
}

/// The fences of a page.
pub fn fences(page: &str, text: &str) -> Vec<Fence> {
    let mut found = Vec::new();
    let mut above = "";
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            above = if line.trim().is_empty() { above } else { line };
            continue;
        };
        let indentation = line.len() - line.trim_start().len();
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        found.push(Fence {
            place: format!("{page}:{}", number + 1),
            page: page.to_owned(),
            language: language.to_owned(),
            comment: above
                .trim()
                .strip_prefix("<!--")
                .and_then(|rest| rest.strip_suffix("-->"))
                .unwrap_or("")
                .trim()
                .to_owned(),
            lines: inside.map(|line| line.get(indentation..).unwrap_or(line.trim_start()).to_owned()).collect(),
        });
        above = "";
    }
    found
}

/// All of them.
pub fn all() -> Vec<Fence> {
    pages().iter().flat_map(|(page, text)| fences(page, text)).collect()
}

/// Pieces of code in the running text of all pages, with their page.
pub fn inline() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (page, text) in pages() {
        let mut open = false;
        // A piece may go on in the next line; a paragraph ends it.
        let running: String = text
            .lines()
            .map(|line| {
                let fence = line.trim_start().starts_with("```");
                open ^= fence;
                if open || fence || line.trim().is_empty() { "\n\n".to_owned() } else { format!("{line} ") }
            })
            .collect();
        for paragraph in running.split("\n\n") {
            found.extend(paragraph.split('`').skip(1).step_by(2).map(|code| (page.clone(), code.replace("\\|", "|"))));
        }
    }
    found
}

/// The commands of a fence. Where some lines begin with a prompt, the others are what was printed.
pub fn commands(fence: &Fence) -> Vec<Shell> {
    let prompted = fence.lines.iter().any(|line| line.starts_with("$ "));
    let mut found = Vec::new();
    let mut lines = fence.lines.iter().map(String::as_str);
    while let Some(line) = lines.next() {
        let line = match (prompted, line.strip_prefix("$ ")) {
            (true, None) => continue,
            (_, Some(rest)) => rest,
            (false, None) => line,
        };
        let mut whole = line.trim().trim_start_matches("- ").trim_start_matches("run: ").to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            whole = format!("{begun}{}", lines.next().unwrap_or_default().trim());
        }
        let end = whole.split_once("<<").map(|(_, end)| end.trim().trim_matches(['\'', '"']).to_owned());
        let input = end.filter(|end| !end.starts_with('<')).map(|end| {
            let body: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != end).collect();
            body.join("\n")
        });
        let input = input.unwrap_or_default();
        found.extend(split(&whole).into_iter().map(|words| Shell { words, input: input.clone() }));
    }
    found
}

/// A line as simple commands: quotes are honoured, comments and redirections left out.
pub fn split(line: &str) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '|' | '&' | ';' | '(' | ')') => {
                commands.last_mut().unwrap().extend(word.take());
                if c != ' ' {
                    commands.push(Vec::new());
                }
            }
            (None, '<' | '>') => {
                // A number or nothing before it, and the file after it, are no arguments.
                commands.last_mut().unwrap().extend(word.take());
                while chars.next_if(|c| matches!(c, '<' | '>' | ' ')).is_some() {}
                if chars.peek() != Some(&'(') {
                    let mut quoted = false;
                    while let Some(c) = chars.next_if(|c| quoted || *c != ' ') {
                        quoted ^= c == '"';
                    }
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().unwrap().extend(word);
    commands.retain(|words| !words.is_empty());
    commands
}

#[test]
fn a_line_is_split_as_a_shell_would() {
    let of = |line: &str| -> Vec<String> { split(line).iter().map(|words| words.join("·")).collect() };
    assert_eq!(of("a -n 'b c' # d"), ["a·-n·b c"]);
    assert_eq!(of(r#"a > "${x[1]}/b c" -d || [ $? -eq 3 ]"#), ["a·-d", "[·$?·-eq·3·]"]);
    assert_eq!(of("source <(deployment-guard completion bash)"), ["source", "deployment-guard·completion·bash"]);
    assert_eq!(of(r#"ln -s "$(command -v deployment-guard)" /x"#), ["ln·-s·$(command -v deployment-guard)·/x"]);
    let page = "<!-- run by x.rs::y -->\n\n```\nkubectl apply \\\n  -f - <<'END'\na: b\nEND\nmake up\n```\n\n   ```\n   $ make down\n   ended\n   ```\n";
    let found = fences("p", page);
    assert_eq!(found[0].comment, "run by x.rs::y");
    let shell =
        |words: &str, input: &str| Shell { words: words.split(' ').map(str::to_owned).collect(), input: input.into() };
    assert_eq!(commands(&found[0]), [shell("kubectl apply -f -", "a: b"), shell("make up", "")]);
    assert_eq!(commands(&found[1]), [shell("make down", "")]);
}
