//! A server's notes of the requests it answered.
//!
//! Role: finds method, path and status where the format says they stand, so that a 500 elsewhere is no status. Inputs: a
//! line. Outputs: the request. Must never import: other rooms.

use super::severity::Severity;

/// Methods that stand in front of a path.
const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/// An answered request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'t> {
    /// `GET` and so on; empty where the line does not say.
    pub method: &'t str,
    /// Without the query; empty where the line does not say.
    pub path: &'t str,
    /// The answer's status.
    pub status: u16,
}

impl Request<'_> {
    /// What is kept of it: no address, no query, no user agent.
    #[must_use]
    pub fn sentence(&self) -> String {
        match (self.method, self.path) {
            ("", "") => "answered a request".to_owned(),
            (method, path) => format!("{method} {path}"),
        }
    }
}

/// An answer of the 500s is an error, whatever level the server writes in front.
#[must_use]
pub fn severity(of_line: Severity, status: u16) -> Severity {
    match status {
        500.. => of_line.max(Severity::Error),
        _ if of_line == Severity::Unknown => Severity::Info,
        _ => of_line,
    }
}

/// Reads the request, if the line notes one.
#[must_use]
pub fn request(text: &str) -> Option<Request<'_>> {
    quoted(text).or_else(|| gin(text)).or_else(|| morgan(text)).or_else(|| completed(text)).or_else(|| finished(text))
}

/// Three digits from 100 to 599, alone.
fn status(token: &str) -> Option<u16> {
    if token.len() != 3 {
        return None;
    }
    token.parse().ok().filter(|status| (100..600).contains(status))
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or(path)
}

/// `"GET /path HTTP/1.1" 500 …`: Apache, nginx, Envoy, uvicorn, gunicorn, Django.
fn quoted(text: &str) -> Option<Request<'_>> {
    let mut rest = text;
    for _ in 0..4 {
        let (_, inner) = rest.split_once('"')?;
        let (request, after) = inner.split_once('"')?;
        rest = inner;
        let mut parts = request.split(' ');
        let (method, path, version) = (parts.next()?, parts.next(), parts.next());
        if METHODS.contains(&method) && version.is_some_and(|version| version.starts_with("HTTP/")) {
            let status = status(after.split_whitespace().next()?)?;
            return Some(Request { method, path: without_query(path?), status });
        }
    }
    None
}

/// `[GIN] 2026/11/21 - 10:00:00 | 500 | 1.2ms | 10.0.0.1 | GET "/path"`
fn gin(text: &str) -> Option<Request<'_>> {
    if !text.contains(" | ") {
        return None;
    }
    let mut parts = text.split('|').map(str::trim);
    let status = parts.by_ref().take(3).find_map(status)?;
    let (method, path) = parts.find_map(|part| {
        let (method, path) = part.split_once(' ')?;
        METHODS.contains(&method).then_some((method, path.trim().trim_matches('"')))
    })?;
    Some(Request { method, path: without_query(path), status })
}

/// `GET /path 500 12.3 ms - 12`
fn morgan(text: &str) -> Option<Request<'_>> {
    let mut parts = text.split_whitespace();
    let method = parts.next().filter(|method| METHODS.contains(method))?;
    let path = parts.next().filter(|path| path.starts_with('/'))?;
    let status = status(parts.next()?)?;
    // Some write the time with its unit, some the size first; a sentence goes on with words.
    let number = |part: &str| part == "-" || part.starts_with(|c: char| c.is_ascii_digit());
    parts.next().is_none_or(number).then(|| Request { method, path: without_query(path), status })
}

/// `Completed 500 Internal Server Error in 12ms`: Rails.
fn completed(text: &str) -> Option<Request<'_>> {
    let rest = text.split_once("Completed ").filter(|(before, _)| before.is_empty() || before.ends_with("] "))?.1;
    let status = status(rest.split_whitespace().next()?)?;
    rest.contains(" in ").then_some(Request { method: "", path: "", status })
}

/// `Request finished HTTP/1.1 GET http://host/path - 500 0 - 12.3ms`: ASP.NET Core.
fn finished(text: &str) -> Option<Request<'_>> {
    let rest = text.split_once("Request finished HTTP/")?.1;
    let (request, answer) = rest.split_once(" - ")?;
    let mut parts = request.split_whitespace().skip(1);
    let method = parts.next().filter(|method| METHODS.contains(method))?;
    let url = parts.next()?;
    let after_host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_host.find('/').and_then(|at| after_host.get(at..)).unwrap_or("/");
    Some(Request { method, path: without_query(path), status: status(answer.split_whitespace().next()?)? })
}
