//! Log lines, as JSON for machines or in colour for people.
//!
//! Role: set up the subscriber once. Inputs: a filter and a format. Outputs: lines on standard error. Must never
//! import: other rooms.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Starts logging.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start(filter: &str, format: Format) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
        Format::Pretty => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}
