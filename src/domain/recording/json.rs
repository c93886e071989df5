//! One line of JSON as it stands there: numbers keep their digits, a key may stand once, and every error knows its field.
//!
//! Role: strict reading of text that others wrote. A general reader rounds some numbers, keeps the last of two equal keys
//! and names a column where a person needs a field. Inputs: one line. Outputs: a tree, or where it breaks and why. Must
//! never import: other rooms.

use std::borrow::Cow;
use std::fmt;

use crate::domain::evidence::number::to_count;

/// Brackets inside brackets.
const DEEPEST: u32 = 24;
/// How much of a wrong value is repeated in an error.
const SHOWN: usize = 40;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// What is wrong, and in which field of the line; empty for the line itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) field: String,
    pub(super) message: String,
}

/// Where in a line something stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    above: Option<&'a Path<'a>>,
    name: &'a str,
    index: Option<usize>,
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path { above: None, name: "", index: None };

    pub(super) const fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { above: Some(self), name, index: None }
    }

    pub(super) const fn index(&'a self, index: usize) -> Path<'a> {
        Path { above: Some(self), name: "", index: Some(index) }
    }

    pub(super) fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { field: self.to_string(), message: message.into() })
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(above) = self.above else { return Ok(()) };
        above.fmt(f)?;
        if let Some(index) = self.index {
            return write!(f, "[{index}]");
        }
        if above.above.is_some() {
            f.write_str(".")?;
        }
        f.write_str(&shown(self.name))
    }
}

/// Text of others, short and in one line.
pub(super) fn shown(text: &str) -> String {
    let clean: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > SHOWN { format!("{clean}…") } else { clean }
}

impl Json<'_> {
    /// The value as an error repeats it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(digits) => shown(digits),
            Self::Text(text) => format!("{:?}", shown(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }

    /// A finite number.
    pub(super) fn number(&self, path: &Path<'_>) -> Result<f64, Wrong> {
        let Self::Number(digits) = self else {
            return path.wrong(format!("is {}, but must be a number", self.shown()));
        };
        match digits.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => path.wrong(format!("is {}, which is too large for a number", shown(digits))),
        }
    }

    /// A whole number from 0.
    pub(super) fn count(&self, path: &Path<'_>) -> Result<u64, Wrong> {
        let Self::Number(digits) = self else {
            return path.wrong(format!("is {}, but must be a whole number from 0", self.shown()));
        };
        if let Some(count) = digits.parse().ok().filter(|count| *count <= crate::domain::evidence::number::MAX_EXACT) {
            return Ok(count);
        }
        let value = self.number(path)?;
        if value < 0.0 {
            return path.wrong(format!(
                "is {}, but cannot be negative; a counter that went back has no news: write 0 or leave the side out",
                shown(digits)
            ));
        }
        match to_count(value) {
            Some(count) => Ok(count),
            None if value.fract() != 0.0 => path.wrong(format!("is {}, but must be a whole number", shown(digits))),
            None => path.wrong(format!("is {}, but can be 9007199254740992 at most", shown(digits))),
        }
    }

    pub(super) fn text(&self, path: &Path<'_>) -> Result<&str, Wrong> {
        match self {
            Self::Text(text) => Ok(text),
            _ => path.wrong(format!("is {}, but must be a text in quotes", self.shown())),
        }
    }

    pub(super) fn bool(&self, path: &Path<'_>) -> Result<bool, Wrong> {
        match self {
            Self::Bool(value) => Ok(*value),
            _ => path.wrong(format!("is {}, but must be true or false", self.shown())),
        }
    }

    pub(super) fn list(&self, path: &Path<'_>) -> Result<&[Self], Wrong> {
        match self {
            Self::List(items) => Ok(items),
            _ => path.wrong(format!("is {}, but must be a list in [ ]", self.shown())),
        }
    }

    pub(super) fn object(&self, path: &Path<'_>) -> Result<&[(Cow<'_, str>, Self)], Wrong> {
        match self {
            Self::Object(fields) => Ok(fields),
            _ => path.wrong(format!("is {}, but must be an object in {{ }}", self.shown())),
        }
    }

    /// An object that has these fields at most.
    pub(super) fn fields(&self, path: &Path<'_>, known: &[&str]) -> Result<Fields<'_>, Wrong> {
        let fields = self.object(path)?;
        for (name, _) in fields {
            if !known.contains(&name.as_ref()) {
                return path.field(name).wrong(unknown(name, known));
            }
        }
        Ok(Fields(fields))
    }
}

/// Why a name is none, and which ones there are.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    match known.iter().find(|known| plain(known) == plain(name)) {
        Some(near) => format!("is unknown; it is written {near}"),
        None => format!("is unknown; known here: {}", known.join(", ")),
    }
}

/// The fields of an object; a null is as good as absent.
pub(super) struct Fields<'a>(&'a [(Cow<'a, str>, Json<'a>)]);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Json<'a>> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value).filter(|value| **value != Json::Null)
    }
}

/// Reads one line.
pub(super) fn parse(text: &str) -> Result<Json<'_>, Wrong> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(&Path::ROOT, 0)?;
    reader.blank();
    if reader.at < text.len() {
        return Path::ROOT.wrong(format!("goes on after its end at column {}; one object a line", reader.column()));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn column(&self) -> usize {
        self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is no blank, eaten if it is this one.
    fn eat(&mut self, wanted: u8) -> bool {
        self.blank();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn broken<T>(&self, path: &Path<'_>, wanted: &str) -> Result<T, Wrong> {
        let what = match self.rest().chars().next() {
            Some(found) => format!("{:?} stands at column {}", shown(&found.to_string()), self.column()),
            None => "the line ends".to_owned(),
        };
        path.wrong(format!("is no JSON: {what} where {wanted} should be"))
    }

    fn value(&mut self, path: &Path<'_>, depth: u32) -> Result<Json<'a>, Wrong> {
        if depth > DEEPEST {
            return Path::ROOT.wrong(format!("is nested more than {DEEPEST} deep"));
        }
        self.blank();
        match self.peek() {
            Some(b'{') => self.object(path, depth),
            Some(b'[') => self.list(path, depth),
            Some(b'"') => self.string(path).map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(path),
            _ => self.word(path),
        }
    }

    fn word(&mut self, path: &Path<'_>) -> Result<Json<'a>, Wrong> {
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        let word: String = self.rest().chars().take_while(char::is_ascii_alphanumeric).collect();
        if ["nan", "inf", "infinity"].contains(&word.to_lowercase().as_str()) {
            return path.wrong(format!("is {word}, which is no JSON; leave out what was not measured"));
        }
        self.broken(path, "a value")
    }

    fn object(&mut self, path: &Path<'_>, depth: u32) -> Result<Json<'a>, Wrong> {
        self.at += 1;
        let mut fields: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        if self.eat(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return self.broken(path, "a name in quotes");
            }
            let name = self.string(path)?;
            if !self.eat(b':') {
                return self.broken(&path.field(&name), "a colon");
            }
            let value = self.value(&path.field(&name), depth + 1)?;
            // Objects of a recording are short; the limit keeps long ones from taking quadratic time.
            if fields.len() >= 1000 {
                return path.wrong("has more than 1000 fields");
            }
            if fields.iter().any(|(known, _)| *known == name) {
                return path.field(&name).wrong("stands twice; keep one of them");
            }
            fields.push((name, value));
            if self.eat(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.eat(b',') {
                return self.broken(path, "a comma or }");
            }
        }
    }

    fn list(&mut self, path: &Path<'_>, depth: u32) -> Result<Json<'a>, Wrong> {
        self.at += 1;
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(&path.index(items.len()), depth + 1)?);
            if self.eat(b']') {
                return Ok(Json::List(items));
            }
            if !self.eat(b',') {
                return self.broken(path, "a comma or ]");
            }
        }
    }

    fn string(&mut self, path: &Path<'_>) -> Result<Cow<'a, str>, Wrong> {
        let whole = self.rest();
        let bytes = whole.as_bytes();
        let (mut end, mut plain) = (1, true);
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    end += 2;
                }
                Some(byte) => {
                    plain &= *byte >= 0x20;
                    end += 1;
                }
                None => return path.wrong("is no JSON: a text is not closed by a quote before the line ends"),
            }
        }
        self.at += end + 1;
        let quoted = whole.get(..=end).unwrap_or_default();
        if plain {
            return Ok(Cow::Borrowed(whole.get(1..end).unwrap_or_default()));
        }
        match serde_json::from_str::<String>(quoted) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => path.wrong("is no JSON: a text holds an escape or a control character that does not exist there"),
        }
    }

    fn number(&mut self, path: &Path<'_>) -> Result<Json<'a>, Wrong> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
        let digits = rest.get(..length).unwrap_or_default();
        if !is_number(digits) {
            return path.wrong(format!("is {}, which is no number in JSON", shown(digits)));
        }
        self.at += length;
        Ok(Json::Number(digits))
    }
}

/// The grammar of JSON's numbers.
fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> (String, String) {
        let wrong = parse(text).unwrap_err();
        (wrong.field, wrong.message)
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(error(r#"{"a":{"b":[1,{"c":tru}]}}"#).0, "a.b[1].c");
        assert_eq!(error(r#"{"a":1,"a":2}"#), ("a".into(), "stands twice; keep one of them".into()));
        assert!(error(r#"{"a":NaN}"#).1.contains("leave out what was not measured"));
        assert!(error(r#"{"a":01}"#).1.contains("no number"));
        assert!(error(r#"{"a":1"#).1.contains("the line ends"));
        assert!(error(r#"{"a":"x"#).1.contains("not closed"));
        assert!(error(r#"{"a":1} {"b":2}"#).1.contains("goes on after its end at column 9"));
        assert!(error(&"[".repeat(100_000)).1.contains("nested"));
    }

    #[test]
    fn counts_are_whole_numbers_in_any_spelling() {
        let count = |text: &str| parse(text).unwrap().count(&Path::ROOT).map_err(|wrong| wrong.message);
        assert_eq!(count("12"), Ok(12));
        assert_eq!(count("12.0"), Ok(12));
        assert_eq!(count("1e3"), Ok(1000));
        assert_eq!(count("-0"), Ok(0));
        for (text, part) in [
            ("-3", "negative"),
            ("1.5", "whole"),
            ("1e400", "too large"),
            ("-1e400", "too large"),
            ("1e17", "at most"),
            ("99999999999999999999", "at most"),
            ("\"3\"", "whole number"),
        ] {
            assert!(count(text).unwrap_err().contains(part), "{text}: {:?}", count(text));
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_to_the_bit(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = serde_json::to_string(&value).unwrap();
            let read = parse(&text).unwrap().number(&Path::ROOT).unwrap();
            prop_assert_eq!(read.to_bits(), value.to_bits());
        }

        #[test]
        fn whatever_another_reader_takes_is_taken_and_nothing_else(text in r#"[\[\]{}:,"a0-9eE.+\\n -]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = parse(&text);
            let twice = matches!(&ours, Err(wrong) if wrong.message.starts_with("stands twice"));
            let huge = matches!(&theirs, Err(error) if error.to_string().contains("out of range"));
            prop_assert!(twice || huge || ours.is_ok() == theirs.is_ok(), "{} {:?} {:?}", text, ours, theirs);
        }

        #[test]
        fn no_text_breaks_the_reader(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
