//! Lints on every text file: nothing that is true only on one machine or behind one proxy.

use crate::files::{Finding, TextFile, line_of};

/// Directories that exist on a developer's machine only. Written in two halves, so that this
/// file does not refuse itself.
const MACHINE_ROOTS: &[(&str, &str)] = &[
    ("/ro", "ot/"),
    ("/wo", "rk/"),
    ("/fa", "rm/"),
    ("/ho", "me/"),
    ("/Us", "ers/"),
];

/// Host names of package registries: which one is used is the machine's business.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("repo.", "maven.apache.org"),
    ("repo1.", "maven.org"),
    ("registry.", "npmjs.org"),
    ("files.", "pythonhosted.org"),
    ("deb.", "debian.org"),
    ("registry-1.", "docker.io"),
];

/// Findings in one file.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let finding = |at: usize, what: String| Finding {
        path: file.path.clone(),
        line: line_of(&file.text, at),
        what,
    };
    let mut findings = Vec::new();
    for (head, tail) in MACHINE_ROOTS {
        let root = format!("{head}{tail}");
        for (at, _) in file.text.match_indices(&root) {
            if starts_a_path(&file.text, at) {
                findings.push(finding(at, format!("a path of one machine: {root}...")));
            }
        }
    }
    for (head, tail) in REGISTRY_HOSTS {
        let host = format!("{head}{tail}");
        for (at, _) in file.text.match_indices(&host) {
            findings.push(finding(at, format!("the host name of a registry: {host}")));
        }
    }
    findings
}

/// Whether the slash at `at` begins an absolute path rather than continuing a longer one.
fn starts_a_path(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.~/}>)*".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(text: &str) -> usize {
        check(&TextFile {
            path: "README.md".into(),
            text: text.into(),
        })
        .len()
    }

    #[test]
    fn paths_of_one_machine_are_refused() {
        for (head, tail) in MACHINE_ROOTS {
            assert_eq!(lint(&format!("see {head}{tail}x")), 1);
            assert_eq!(lint(&format!("\"{head}{tail}x\"")), 1);
        }
    }

    #[test]
    fn the_same_words_inside_a_longer_path_pass() {
        for (head, tail) in MACHINE_ROOTS {
            assert_eq!(lint(&format!("target{head}{tail}x and ~{head}{tail}")), 0);
        }
    }

    #[test]
    fn registry_hosts_are_refused() {
        for (head, tail) in REGISTRY_HOSTS {
            assert_eq!(lint(&format!("from {head}{tail}/x")), 1);
        }
    }
}
