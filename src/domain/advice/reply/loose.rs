//! JSON as models write it.
//!
//! Role: reads one object, with single quotes, trailing commas and line breaks in strings where only one reading is
//! possible. A key that stands twice makes the object unreadable. Inputs: text and where the object begins. Outputs: its
//! fields and where it ends. Linear, and never deeper than a fixed depth. Must never import: other rooms.

/// How deep values may be nested.
const MOST_DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Loose {
    Null,
    Truth(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Loose {
    /// Whether an object in it has such a key.
    pub(super) fn holds_key(&self, name: &str) -> bool {
        match self {
            Self::Object(fields) => fields.iter().any(|(key, value)| key == name || value.holds_key(name)),
            Self::List(items) => items.iter().any(|item| item.holds_key(name)),
            Self::Null | Self::Truth(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }
}

/// Where the next object begins. A brace without a quoted name behind it belongs to the prose.
pub(super) fn next_object(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let opens = |at: &usize| {
        let inside = rest.get(at + 1..).unwrap_or_default().trim_start();
        inside.starts_with(['"', '\''])
    };
    rest.match_indices('{').map(|(at, _)| at).find(opens).map(|at| from + at)
}

/// The object that begins here, and where it ends.
pub(super) fn object(text: &str, at: usize) -> Option<(Vec<(String, Loose)>, usize)> {
    let mut reader = Reader { text, at };
    let fields = reader.object(0)?;
    Some((fields, reader.at))
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no white space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<Loose> {
        match self.peek()? {
            b'{' => self.object(depth).map(Loose::Object),
            b'[' => self.list(depth).map(Loose::List),
            b'"' => self.double_quoted().map(Loose::Text),
            b'\'' => self.single_quoted().map(Loose::Text),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Vec<(String, Loose)>> {
        if depth >= MOST_DEPTH {
            return None;
        }
        self.take(b'{')?;
        let mut fields: Vec<(String, Loose)> = Vec::new();
        while self.peek()? != b'}' {
            let key = match self.peek()? {
                b'"' => self.double_quoted()?,
                b'\'' => self.single_quoted()?,
                _ => return None,
            };
            // Which of two would count is anybody's guess.
            if fields.iter().any(|(known, _)| *known == key) || fields.len() >= 64 {
                return None;
            }
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            fields.push((key, value));
            if self.peek()? != b'}' {
                self.take(b',')?;
            }
        }
        self.take(b'}')?;
        Some(fields)
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Loose>> {
        if depth >= MOST_DEPTH {
            return None;
        }
        self.take(b'[')?;
        let mut items = Vec::new();
        while self.peek()? != b']' {
            items.push(self.value(depth + 1)?);
            if self.peek()? != b']' {
                self.take(b',')?;
            }
        }
        self.take(b']')?;
        Some(items)
    }

    fn double_quoted(&mut self) -> Option<String> {
        let start = self.at;
        let end = self.quote_end(b'"')?;
        self.at = end + 1;
        let quoted = self.text.get(start..=end)?;
        // A line break within a string is no JSON, and can mean nothing else.
        let plain = quoted.replace(|c: char| c.is_control(), " ");
        serde_json::from_str(&plain).ok()
    }

    /// In single quotes, if the closing one cannot be an apostrophe.
    fn single_quoted(&mut self) -> Option<String> {
        let start = self.at + 1;
        let end = self.quote_end(b'\'')?;
        self.at = end + 1;
        if !matches!(self.peek()?, b',' | b':' | b']' | b'}') {
            return None;
        }
        let inner = self.text.get(start..end)?.replace(|c: char| c.is_control(), " ");
        let inner = inner.replace("\\'", "'");
        // A quote of the other kind has to be escaped in JSON, and need not be here.
        let mut escaped = String::with_capacity(inner.len() + 2);
        let mut after_backslash = false;
        for c in inner.chars() {
            if c == '"' && !after_backslash {
                escaped.push('\\');
            }
            after_backslash = c == '\\' && !after_backslash;
            escaped.push(c);
        }
        serde_json::from_str(&format!("\"{escaped}\"")).ok()
    }

    /// Where the string that begins here ends.
    fn quote_end(&self, quote: u8) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at)? {
                b'\\' => at += 2,
                byte if *byte == quote => return Some(at),
                _ => at += 1,
            }
        }
    }

    fn number(&mut self) -> Option<Loose> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
        let number = rest.get(..length)?;
        serde_json::from_str::<serde_json::Number>(number).ok()?;
        let number = Loose::Number(number.to_owned());
        self.at += length;
        Some(number)
    }

    fn word(&mut self) -> Option<Loose> {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let value = match rest.get(..length)? {
            "null" | "None" => Loose::Null,
            "true" | "True" => Loose::Truth(true),
            "false" | "False" => Loose::Truth(false),
            _ => return None,
        };
        self.at += length;
        Some(value)
    }
}
