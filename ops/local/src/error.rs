//! The one error of this crate: a sentence for a person, with the log that explains it.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What went wrong, in one sentence, and the last lines of the server's log if there is one.
#[derive(Debug)]
pub struct Error {
    sentence: String,
    log: Option<(PathBuf, String)>,
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// How much of a log's end is shown with an error.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;

impl Error {
    /// An error that is explained by its sentence alone.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            log: None,
        }
    }

    /// An I/O error with what was being done, e.g. `"could not create /some/dir"`.
    pub(crate) fn io(doing: impl fmt::Display, cause: &io::Error) -> Self {
        Self::new(format!("{doing}: {cause}"))
    }

    /// Attaches the end of `log`, if it can be read.
    pub(crate) fn with_log(mut self, log: &Path) -> Self {
        self.log = Some((log.to_path_buf(), tail(log)));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        if let Some((path, tail)) = &self.log {
            write!(f, " (log: {})", path.display())?;
            for line in tail.lines() {
                write!(f, "\n  | {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The last lines of a file; empty when it cannot be read, because the caller already has a
/// sentence to show and a missing log must not hide it.
fn tail(path: &Path) -> String {
    let Ok(mut file) = fs::File::open(path) else {
        return String::new();
    };
    let length = file.metadata().map_or(0, |m| m.len());
    let mut bytes = Vec::new();
    if file
        .seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .and_then(|_| file.read_to_end(&mut bytes))
        .is_err()
    {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_log_path_and_its_last_lines() {
        let path = std::env::temp_dir().join(format!("refold-error-{}.log", std::process::id()));
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, text).expect("temp file");
        let shown = Error::new("the broker did not start")
            .with_log(&path)
            .to_string();
        fs::remove_file(&path).expect("temp file");
        assert!(shown.starts_with("the broker did not start (log: "));
        assert!(shown.contains("| line 99"));
        assert!(!shown.contains("| line 79\n"));
    }
}
