//! What the tests of the last `cargo x test` came to, one by one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

/// Results by a test's name without its path. Tests of one name in several programs count as
/// one: it failed when one of them did.
#[derive(Debug, Default)]
pub(crate) struct TestLog {
    /// Revision and day.
    origin: Option<String>,
    results: BTreeMap<String, bool>,
}

impl TestLog {
    /// Takes a line of the test runner; others say nothing.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("test ") else {
            return;
        };
        let Some((path, verdict)) = rest.rsplit_once(" ... ") else {
            return;
        };
        let passed = match verdict.trim_end() {
            "ok" => true,
            "FAILED" => false,
            _ => return,
        };
        let name = path.rsplit("::").next().unwrap_or(path);
        // `- should panic` may stand behind it.
        let name = name.split(' ').next().unwrap_or(name);
        let known = self.results.entry(name.to_owned()).or_insert(true);
        *known &= passed;
    }

    /// Keeps the results for [`TestLog::read`].
    pub(crate) fn write(&self, workspace: &Workspace) -> Outcome {
        let mut text = format!("{}\n", origin(workspace));
        for (name, passed) in &self.results {
            let _ = writeln!(text, "{name} {}", word(*passed));
        }
        fs::write(place(workspace), text)
            .map_err(|e| Failure::failed(format!("could not keep the results: {e}")))
    }

    /// The results of the last run here, if there was one.
    pub(crate) fn read(workspace: &Workspace) -> Self {
        fs::read_to_string(place(workspace)).map_or_else(|_| Self::default(), |t| Self::parse(&t))
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let origin = lines.next().map(str::to_owned);
        let results = lines.filter_map(|line| {
            let (name, verdict) = line.rsplit_once(' ')?;
            Some((name.to_owned(), verdict == word(true)))
        });
        Self {
            origin,
            results: results.collect(),
        }
    }

    /// The run that the results are of, as a part of a sentence.
    pub(crate) fn origin(&self) -> String {
        match &self.origin {
            Some(origin) => format!("the results of `cargo x test` on {origin}"),
            None => "no results: `cargo x test` has not run here".to_owned(),
        }
    }

    /// `ok`, `FAILED`, or `not run`.
    pub(crate) fn result(&self, test: &str) -> &'static str {
        self.results.get(test).map_or("not run", |ok| word(*ok))
    }
}

const fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn place(workspace: &Workspace) -> PathBuf {
    workspace.target().join("refold-test-results.txt")
}

fn origin(workspace: &Workspace) -> String {
    let out = Command::new("git")
        .args(["log", "-1", "--format=%h of %cs"])
        .current_dir(workspace.root())
        .output();
    match out {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        _ => "an unknown revision".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_kept_by_name_and_one_failure_counts() {
        let mut log = TestLog::default();
        for line in [
            "running 3 tests",
            "test fold::tests::one ... ok",
            "test two ... FAILED",
            "test other::two ... ok",
            "test three - should panic ... ok",
            "test four has been running for over 60 seconds",
            "test result: ok. 3 passed; 0 failed",
        ] {
            log.add_line(line);
        }
        let results = ["one", "two", "three", "four"].map(|test| log.result(test));
        assert_eq!(results, ["ok", "FAILED", "ok", "not run"]);
        let read = TestLog::parse("abc of 2026-01-02\none ok\ntwo FAILED\n");
        assert_eq!(["one", "two"].map(|t| read.result(t)), ["ok", "FAILED"]);
        assert!(read.origin().contains("abc"));
    }
}
