//! Words without which an expression cannot match.
//!
//! Role: a hundred expressions cost little on a line that holds none of their words. Inputs: the expressions of users.
//! Outputs: which of them may match a text; never too few. Must never import: other rooms.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::memmem;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Shorter words stand in every other line.
const LEAST_BYTES: usize = 3;
/// Words of one expression, at most.
const MOST_WORDS: usize = 64;
/// The two characters beyond ASCII that are an ASCII letter in another case: `ſ` is `s`, and the sign for Kelvin is `k`.
const FOLDED: [char; 2] = ['\u{17f}', '\u{212a}'];

/// Finds the words of all expressions in one pass.
#[derive(Debug)]
pub(super) struct Required {
    words: AhoCorasick,
    /// The expression that a word belongs to.
    owners: Vec<usize>,
    /// Expressions without such words: these are always candidates.
    always: Vec<bool>,
    none: bool,
}

impl Required {
    /// Expressions that cannot be read have no words; they are refused elsewhere.
    pub(super) fn new<'e>(expressions: impl IntoIterator<Item = &'e str>) -> Option<Self> {
        let (mut words, mut owners, mut always) = (Vec::new(), Vec::new(), Vec::new());
        for (index, expression) in expressions.into_iter().enumerate() {
            let found = regex_syntax::parse(expression).ok().and_then(|hir| required(&hir));
            always.push(found.is_none());
            for word in found.unwrap_or_default() {
                words.push(word);
                owners.push(index);
            }
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&words)
            .ok()?;
        let none = always.is_empty();
        Some(Self { words, owners, always, none })
    }

    /// Which expressions may match, by index; `None` if none can.
    pub(super) fn candidates(&self, text: &[u8]) -> Option<Vec<bool>> {
        if self.none {
            return None;
        }
        if FOLDED.iter().any(|c| memmem::find(text, c.encode_utf8(&mut [0; 4]).as_bytes()).is_some()) {
            return Some(vec![true; self.always.len()]);
        }
        let mut candidates = self.always.clone();
        for found in self.words.find_overlapping_iter(text) {
            if let Some(candidate) = self.owners.get(found.pattern().as_usize()).and_then(|at| candidates.get_mut(*at))
            {
                *candidate = true;
            }
        }
        candidates.contains(&true).then_some(candidates)
    }
}

/// Words in small letters of which every match holds at least one, in any case.
fn required(hir: &Hir) -> Option<BTreeSet<Vec<u8>>> {
    let mut search = Search::default();
    search.walk(hir);
    search.end_of_run();
    search.best
}

#[derive(Default)]
struct Search {
    /// What stands side by side, so far.
    run: Vec<u8>,
    best: Option<BTreeSet<Vec<u8>>>,
}

impl Search {
    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.run.extend(literal.0.iter().map(u8::to_ascii_lowercase)),
            HirKind::Class(class) => match letter(class) {
                Some(letter) => self.run.push(letter),
                None => self.end_of_run(),
            },
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Repetition(repetition) => {
                self.end_of_run();
                if repetition.min > 0 {
                    self.offer(required(&repetition.sub));
                }
            }
            HirKind::Alternation(branches) => {
                self.end_of_run();
                let mut all = BTreeSet::new();
                for branch in branches {
                    let Some(words) = required(branch) else { return };
                    all.extend(words);
                }
                self.offer(Some(all));
            }
        }
    }

    fn end_of_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.offer(Some(BTreeSet::from([run])));
    }

    /// Keeps the words whose shortest is the longest: these stand in the fewest lines.
    fn offer(&mut self, words: Option<BTreeSet<Vec<u8>>>) {
        let shortest = |words: &BTreeSet<Vec<u8>>| words.iter().map(Vec::len).min().unwrap_or_default();
        let Some(words) = words.filter(|words| words.len() <= MOST_WORDS && shortest(words) >= LEAST_BYTES) else {
            return;
        };
        if self.best.as_ref().is_none_or(|best| shortest(&words) > shortest(best)) {
            self.best = Some(words);
        }
    }
}

/// The letter, if a class is one ASCII letter in both cases.
fn letter(class: &Class) -> Option<u8> {
    let chars: Vec<char> = match class {
        Class::Unicode(class) => class.iter().flat_map(|range| (range.start()..=range.end()).take(4)).take(4).collect(),
        Class::Bytes(class) => {
            let bytes = class.iter().flat_map(|range| (range.start()..=range.end()).take(4));
            bytes.take(4).map(char::from).collect()
        }
    };
    let letter = chars.first()?.to_ascii_lowercase();
    let same = chars.iter().all(|c| c.to_ascii_lowercase() == letter || FOLDED.contains(c));
    // Four and more are cut off above, so such a class may hold others too.
    u8::try_from(letter).ok().filter(|letter| same && chars.len() < 4 && letter.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(expression: &str) -> Vec<String> {
        let found = required(&regex_syntax::parse(expression).unwrap()).unwrap_or_default();
        found.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn the_longest_word_that_every_match_holds_is_found() {
        assert_eq!(words(r"(?i)ledger \S+ (refused|rejected)"), ["ledger "]);
        assert_eq!(words(r"(?i)risk task"), ["risk task"]);
        assert_eq!(words(r"\bE(?:0001|0002)-\d+ Timeout"), [" timeout"]);
        assert_eq!(words(r"(?:first|second){2,}x?"), ["first", "second"]);
        assert_eq!(words(r"(?-u)(?i)Disk(?: is)? full"), [" full"]);
        assert_eq!(words(r"straße"), ["straße"]);
        assert!(words(r"\d{3}-\d{4}").is_empty() && words(r"(?:long word|x)").is_empty() && words("a+b").is_empty());
        assert!(words(r"(?:optional)?").is_empty() && words(r"[abc][def][ghi]").is_empty());
    }

    #[test]
    fn letters_that_only_unicode_knows_to_be_the_same_hide_nothing() {
        let required = Required::new([r"(?i)task failed", r"\d\d"]).unwrap();
        assert_eq!(required.candidates("TASK FAILED".as_bytes()), Some(vec![true, true]));
        assert_eq!(required.candidates("ta\u{17f}\u{212a} failed".as_bytes()), Some(vec![true, true]));
        assert_eq!(required.candidates(b"nothing"), Some(vec![false, true]));
        assert_eq!(Required::new(["(?i)task failed"]).unwrap().candidates(b"nothing"), None);
        assert_eq!(Required::new([]).unwrap().candidates(b"anything"), None);
    }
}
