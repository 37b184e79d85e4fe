//! A lint on the page that names the test behind each promise: the tests must exist.

use crate::files::{Finding, TextFile, line_of};

/// The page. In it, a name in backticks with this many underscores is a test's.
const PAGE: &str = "actors/ARCHITECTURE.md";
const UNDERSCORES: usize = 3;

/// Findings over the whole tree.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return Vec::new();
    };
    let sources: Vec<&TextFile> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect();
    let missing = |name: &str| {
        let definition = format!("fn {name}(");
        !sources.iter().any(|file| file.text.contains(&definition))
    };
    test_names(&page.text)
        .filter(|(_, name)| missing(name))
        .map(|(at, name)| Finding {
            path: page.path.clone(),
            line: line_of(&page.text, at),
            what: format!("there is no test {name}"),
        })
        .collect()
}

/// Every test's name on the page with its position.
fn test_names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split('`').enumerate().filter_map(move |(i, part)| {
        let start = at;
        at += part.len() + 1;
        let is_name = part
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let quoted = i % 2 == 1;
        (quoted && is_name && part.matches('_').count() >= UNDERSCORES).then_some((start, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_test_that_does_not_exist_is_refused_with_its_line() {
        let page = file(PAGE, "one\n`a_test_that_is_there`, `a_test_that_is_gone`\n");
        let code = file("x/tests.rs", "fn a_test_that_is_there() {}");
        let findings = check(&[page, code]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 2);
        assert!(findings[0].what.contains("a_test_that_is_gone"));
    }

    #[test]
    fn paths_words_and_other_pages_pass() {
        let page = file(PAGE, "`services/e2e/a_b_c_d.rs` `fence()` `mark` a_b_c_d");
        let other = file("README.md", "`a_test_that_is_gone`");
        assert_eq!(check(&[page, other]), []);
    }
}
