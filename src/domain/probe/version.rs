//! The version a probe expects, and where it looks for it.
//!
//! Role: `expectVersion` as people write it, compared with what a pod says. Inputs: the text of the spec, the tag of the
//! pod's image. Outputs: the versions that are right for this pod. Must never import: other rooms.

use crate::domain::rollout::Side;

/// Stands for the tag of the asked pod's own image.
pub const IMAGE_TAG: &str = "{imageTag}";

/// What must be found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectVersion {
    text: String,
    header: Option<String>,
}

/// Which version is right for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This one.
    Version(String),
    /// Any: a fixed version says nothing about the old revision, and an image without a tag has none.
    Any,
}

impl ExpectVersion {
    /// Checks what a user wrote; the header's name in lower case.
    ///
    /// # Errors
    /// If braces hold something else than `imageTag`; the error is the end of a sentence that begins with the field.
    pub fn parse(text: &str, header: Option<&str>) -> Result<Self, String> {
        let rest = text.replace(IMAGE_TAG, "");
        if text.trim().is_empty() {
            return Err(format!("is empty; write a version such as 1.4.2, or {IMAGE_TAG}"));
        }
        if rest.contains(['{', '}']) {
            return Err(format!("is {text:?}, but {IMAGE_TAG} is the only thing that can stand between braces"));
        }
        Ok(Self { text: text.trim().to_owned(), header: header.map(str::to_ascii_lowercase) })
    }

    /// The header in which it stands, in lower case; `None`: the body.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// Which version a pod of this side, with an image of this tag, must report.
    #[must_use]
    pub fn wanted(&self, side: Side, image_tag: Option<&str>) -> Wanted {
        if self.text.contains(IMAGE_TAG) {
            return match image_tag {
                Some(tag) if !tag.is_empty() => Wanted::Version(self.text.replace(IMAGE_TAG, tag)),
                _ => Wanted::Any,
            };
        }
        match side {
            Side::New => Wanted::Version(self.text.clone()),
            Side::Old => Wanted::Any,
        }
    }
}

/// The tag of an image such as `registry:5000/shop/api:v1.4.2@sha256:…`; `None` for a digest alone.
#[must_use]
pub fn tag_of(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map(|(_, tag)| tag).filter(|tag| !tag.is_empty())
}

/// Whether a header's value is this version; a `v` in front makes no difference.
#[must_use]
pub fn is(value: &str, wanted: &str) -> bool {
    bare(value.trim()) == bare(wanted.trim())
}

/// Whether a text holds this version as a word of its own, so that 1.4.2 is not found in 11.4.20.
#[must_use]
pub fn stands_in(text: &[u8], wanted: &str) -> bool {
    let wanted = bare(wanted.trim()).as_bytes();
    if wanted.is_empty() {
        return false;
    }
    let part_of_version = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+');
    text.windows(wanted.len()).enumerate().any(|(at, found)| {
        let before = |back: usize| at.checked_sub(back).and_then(|at| text.get(at)).copied();
        let after = |on: usize| text.get(at + wanted.len() + on).copied();
        let starts = match before(1) {
            Some(b'v' | b'V') => before(2).is_none_or(|byte| !part_of_version(byte) && byte != b'.'),
            Some(byte) => !part_of_version(byte) && byte != b'.',
            None => true,
        };
        // A full stop may end a sentence, but not when the version goes on behind it.
        let ends = match after(0) {
            Some(b'.') => after(1).is_none_or(|byte| !part_of_version(byte)),
            Some(byte) => !part_of_version(byte),
            None => true,
        };
        found == wanted && starts && ends
    })
}

fn bare(version: &str) -> &str {
    match version.strip_prefix(['v', 'V']) {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_digit()) => rest,
        _ => version,
    }
}
