//! Text of a cluster on a terminal.
//!
//! Role: takes out what would move a cursor or turn a line around, aligns columns, breaks lines. Inputs: text by anybody.
//! Outputs: lines. Must never import: `console`.

use serde_json::Value;

/// Where long lines are broken.
const WIDTH: usize = 110;

/// One line without control characters and without those that change the direction of a text.
pub(in crate::cli) fn line(text: &str) -> String {
    text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect()
}

/// JSON in which they are escaped, so that it reads back as it was.
pub(in crate::cli) fn escaped(json: &str) -> String {
    let one = |c: char| {
        if hidden(c) && c != '\n' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
    };
    json.chars().map(one).collect()
}

fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The same for every text in a value, names too.
pub(in crate::cli) fn value(found: &Value) -> Value {
    match found {
        Value::String(text) => Value::String(line(text)),
        Value::Array(items) => items.iter().map(value).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (line(key), value(field))).collect(),
        other => other.clone(),
    }
}

/// Words in lines of limited width, each indented; a word that is longer stands alone.
pub(in crate::cli) fn wrapped(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    // A number stays with its unit.
    let text = text.replace(" %", "\u{a0}%").replace(" = ", "\u{a0}=\u{a0}");
    let (mut lines, mut last) = (Vec::new(), String::new());
    for word in text.split([' ', '\n', '\t']).filter(|word| !word.is_empty()) {
        if !last.is_empty() && indent + last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut last));
        }
        if !last.is_empty() {
            last.push(' ');
        }
        last.push_str(word);
    }
    lines.push(last);
    let lines: Vec<String> = lines.iter().map(|line| format!("{pad}{}\n", line.replace('\u{a0}', " "))).collect();
    lines.concat()
}

/// Rows below each other, indented by two.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| widest(column).unwrap_or_default()).collect();
    let row = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(row).collect()
}

/// A request or a reply as it was, its texts readable: strings of several lines stand for themselves, the rest is JSON.
pub(super) fn body(text: &str) -> String {
    let Ok(mut whole) = serde_json::from_str::<Value>(text) else { return quoted(text) };
    let mut texts = Vec::new();
    take_texts(&mut whole, "", &mut texts);
    if texts.is_empty() {
        return quoted(text);
    }
    let parts: Vec<String> =
        texts.iter().map(|(place, text)| format!("    {}\n{}", line(place), quoted(text))).collect();
    format!("{}    and around it\n{}", parts.concat(), quoted(&whole.to_string()))
}

fn take_texts(value: &mut Value, place: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.contains('\n') => {
            texts.push((place.to_owned(), std::mem::take(text)));
            *value = Value::String("(above)".to_owned());
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                take_texts(item, &format!("{place}/{index}"), texts);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                take_texts(field, &format!("{place}/{key}"), texts);
            }
        }
        _ => {}
    }
}

/// Each line behind a bar, so that nobody takes it for ours.
fn quoted(text: &str) -> String {
    text.split('\n').map(|part| format!("    | {}", line(part)).trim_end().to_owned() + "\n").collect()
}
