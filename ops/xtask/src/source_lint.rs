//! Lints on Rust sources that clippy does not have.
//!
//! Function length, argument count and `unwrap` are clippy's (see `clippy.toml`); what is
//! refused here about them is switching them off.

use crate::files::{Finding, TextFile, line_of};
use crate::rust_source::RustSource;

/// Longest source file, in lines.
const MAX_LINES: usize = 500;

/// Lints whose `allow` is refused in production code.
const NOT_TO_BE_ALLOWED: &[&str] = &[
    "clippy::unwrap_used",
    "clippy::too_many_lines",
    "clippy::too_many_arguments",
];

/// A sleep in a test that is not the pause of a loop must say why no condition can be awaited.
const SLEEP_REASON: &str = "// sleep:";

/// Findings in one Rust file.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let source = RustSource::scan(&file.text);
    let code = source.code();
    let tests = source.test_regions();
    let all_test = is_test_file(&file.path);
    let in_test = |at: usize| all_test || tests.iter().any(|region| region.contains(&at));
    let finding = |line: usize, what: String| Finding {
        path: file.path.clone(),
        line,
        what,
    };

    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        findings.push(finding(0, format!("{lines} lines, more than {MAX_LINES}")));
    }
    for (at, _) in code.match_indices("sleep(") {
        if in_test(at)
            && is_call(&code, at)
            && !pauses_a_loop(&code, at)
            && !has_reason(&file.text, at)
        {
            let what =
                format!("a test sleeps: await a condition, or say why (`{SLEEP_REASON} ...`)");
            findings.push(finding(line_of(&file.text, at), what));
        }
    }
    for (at, _) in code.match_indices("#[ignore") {
        findings.push(finding(line_of(&file.text, at), "a test is ignored".into()));
    }
    for lint in NOT_TO_BE_ALLOWED {
        for (at, _) in code.match_indices(lint) {
            if !in_test(at) {
                let what = format!("{lint} may not be switched off in production code");
                findings.push(finding(line_of(&file.text, at), what));
            }
        }
    }
    findings
}

/// Integration tests, benches and their modules; unit tests are found by `#[cfg(test)]`.
fn is_test_file(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| part == "tests" || part == "benches") || path.ends_with("/tests.rs")
}

/// A call, not a definition and not the end of a longer name.
fn is_call(code: &str, at: usize) -> bool {
    let before = &code[..at];
    !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !before.trim_end().ends_with("fn")
}

/// Whether the position is inside a `loop` or `while` of its function: there a sleep is the pause
/// between two looks at a condition, or the pace of something that goes on.
fn pauses_a_loop(code: &str, at: usize) -> bool {
    let mut depth = 0_usize;
    for (open, byte) in code[..at].bytes().enumerate().rev() {
        match byte {
            b'}' => depth += 1,
            b'{' if depth > 0 => depth -= 1,
            b'{' => {
                let before = &code[..open];
                let start = before.rfind([';', '{', '}']).map_or(0, |p| p + 1);
                let header = before[start..].trim_start();
                if header.starts_with("loop") || header.starts_with("while ") {
                    return true;
                }
                if header.contains("fn ") {
                    return false;
                }
            }
            _ => {}
        }
    }
    false
}

/// The reason stands on the same line or on the one above.
fn has_reason(text: &str, at: usize) -> bool {
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n);
    let mut lines = text[..end].lines().rev();
    lines
        .by_ref()
        .take(2)
        .any(|line| line.contains(SLEEP_REASON))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(path: &str, text: &str) -> Vec<String> {
        check(&TextFile {
            path: path.into(),
            text: text.into(),
        })
        .into_iter()
        .map(|finding| finding.what)
        .collect()
    }

    #[test]
    fn a_file_with_too_many_lines_is_refused() {
        let text = "// line\n".repeat(501);
        assert_eq!(lint("a/src/b.rs", &text), ["501 lines, more than 500"]);
        assert!(lint("a/src/b.rs", &"// line\n".repeat(500)).is_empty());
    }

    #[test]
    fn a_sleep_in_a_test_is_refused_unless_it_says_why() {
        let body = "fn f() { std::thread::sleep(D); }";
        assert_eq!(lint("a/tests/b.rs", body).len(), 1);
        assert_eq!(
            lint(
                "a/src/b.rs",
                &format!("#[cfg(test)]\nmod tests {{ {body} }}")
            )
            .len(),
            1
        );
        assert!(lint("a/src/b.rs", body).is_empty());
        let reasoned = format!("// sleep: the point is that nothing happens\n{body}");
        assert!(lint("a/tests/b.rs", &reasoned).is_empty());
    }

    #[test]
    fn the_pause_of_a_loop_passes_and_a_counted_one_does_not() {
        let polls = "fn f() { while !done() { if x { sleep(D) } } }";
        assert!(lint("a/tests/b.rs", polls).is_empty());
        let hopes = "fn g() { loop {} } fn f() { for _ in 0..9 { sleep(D); } }";
        assert_eq!(lint("a/tests/b.rs", hopes).len(), 1);
    }

    #[test]
    fn an_ignored_test_is_refused() {
        assert_eq!(
            lint("a/tests/b.rs", "#[ignore]\n#[test] fn t() {}"),
            ["a test is ignored"]
        );
    }

    #[test]
    fn switching_a_lint_off_is_refused_in_production_only() {
        let text = "#![allow(clippy::unwrap_used)]";
        assert_eq!(lint("a/src/b.rs", text).len(), 1);
        assert!(lint("a/tests/b.rs", text).is_empty());
        assert!(lint("a/src/b.rs", "// clippy::unwrap_used is on").is_empty());
    }
}
