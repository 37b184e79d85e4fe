//! The files that the lints look at: those Git knows, so that build output is never read.

use std::fs;
use std::process::Command;

use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

/// A text file of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct TextFile {
    /// Path below the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Something a lint refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// 1-based; 0 when the whole file is meant.
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// All text files that are tracked, or would be (not ignored); binary ones are left out.
pub(crate) fn all(workspace: &Workspace) -> Outcome<Vec<TextFile>> {
    let out = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(workspace.root())
        .output()
        .map_err(|e| Failure::failed(format!("could not run git: {e}")))?;
    if !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        return Err(Failure::failed(format!("git ls-files: {}", errors.trim())));
    }
    let names = String::from_utf8_lossy(&out.stdout);
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .filter_map(|name| {
            // A tracked file may be deleted in the working tree, and some are not text.
            let text = fs::read_to_string(workspace.path(name)).ok()?;
            Some(TextFile {
                path: name.to_owned(),
                text,
            })
        })
        .collect())
}

/// The 1-based line of a byte position.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    text.as_bytes()[..position.min(text.len())]
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count()
        + 1
}

/// The meaningful lines of a committed list: no comments, no empty lines.
pub(crate) fn list(workspace: &Workspace, path: &str) -> Outcome<Vec<String>> {
    let text = fs::read_to_string(workspace.path(path))
        .map_err(|e| Failure::failed(format!("could not read {path}: {e}")))?;
    Ok(parse_list(&text))
}

fn parse_list(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_and_empty_lines() {
        assert_eq!(parse_list("# why\n\na\nb # reason\n"), ["a", "b"]);
    }

    #[test]
    fn positions_count_lines_from_one() {
        assert_eq!(line_of("a\nb\nc", 0), 1);
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }
}
