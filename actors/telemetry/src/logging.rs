//! Logs go to stderr; stdout belongs to a command's answer.

use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::TelemetryError;

/// The environment variable that overrides the filter.
const FILTER_VARIABLE: &str = "REFOLD_LOG";

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends the process's logs to stderr. `default_filter` (such as `info`) holds
/// unless the variable `REFOLD_LOG` names another.
///
/// # Errors
/// [`TelemetryError::Logging`] when it is called twice or the filter cannot be read.
pub fn init_logging(format: LogFormat, default_filter: &str) -> Result<(), TelemetryError> {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| default_filter.to_owned());
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|e| TelemetryError::Logging(format!("filter {wanted:?}: {e}")))?;
    // Colours are for a terminal that did not ask to be without them.
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours);
    let outcome = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    outcome.map_err(|e| TelemetryError::Logging(e.to_string()))
}
