//! `cargo x hazards`: what threatens a read model, and whether the tests that show our promises exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde::Deserialize;

use crate::files::{self, Finding, TextFile};
use crate::outcome::{Failure, Outcome};
use crate::rust_source::RustSource;
use crate::test_log::TestLog;
use crate::workspace::Workspace;

const TABLE: &str = "ops/hazards.toml";
const PAGE: &str = "ops/hazards.md";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Rows that have to be there, as ranges: `A1-A14`.
    rows: Vec<String>,
    hazard: Vec<Hazard>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hazard {
    row: String,
    /// What may happen.
    what: String,
    /// What holds all the same.
    promise: String,
    /// Names of tests that show it.
    tests: Vec<String>,
    /// What of it no test shows yet.
    missing: Option<String>,
}

/// Prints the table with the last result of each test; with `--write` as the committed page.
///
/// # Errors
/// A row or a test that is not there.
pub(crate) fn run(workspace: &Workspace, write: bool) -> Outcome {
    let text = fs::read_to_string(workspace.path(TABLE))
        .map_err(|e| Failure::failed(format!("could not read {TABLE}: {e}")))?;
    let table = parse(&text).map_err(Failure::failed)?;
    let findings = judge(&table, &test_names(&files::all(workspace)?));
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        return Err(Failure::failed(format!("{} findings", findings.len())));
    }
    let log = TestLog::read(workspace);
    let page = page(&table, &log);
    if write {
        return fs::write(workspace.path(PAGE), page)
            .map_err(|e| Failure::failed(format!("could not write {PAGE}: {e}")));
    }
    print!("{page}");
    Ok(())
}

/// Findings over the whole tree, for the lints.
pub(crate) fn check(all: &[TextFile]) -> Vec<Finding> {
    let Some(file) = all.iter().find(|file| file.path == TABLE) else {
        return vec![finding("it is not there")];
    };
    match parse(&file.text) {
        Ok(table) => judge(&table, &test_names(all)),
        Err(reason) => vec![finding(reason)],
    }
}

fn finding(what: impl Into<String>) -> Finding {
    Finding {
        path: TABLE.to_owned(),
        line: 0,
        what: what.into(),
    }
}

fn parse(text: &str) -> Result<Table, String> {
    toml::from_str(text).map_err(|e| format!("{TABLE}: {e}"))
}

/// What is wrong with a table in a tree that has these tests.
fn judge(table: &Table, tests: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = BTreeSet::new();
    for range in &table.rows {
        match expand(range) {
            Some(rows) => expected.extend(rows),
            None => findings.push(finding(format!("{range} is no range such as A1-A14"))),
        }
    }
    let mut seen = BTreeSet::new();
    for hazard in &table.hazard {
        let row = &hazard.row;
        if !expected.contains(row) {
            findings.push(finding(format!("{row} is no row that `rows` names")));
        }
        if !seen.insert(row.clone()) {
            findings.push(finding(format!("{row} is there twice")));
        }
        if hazard.tests.is_empty() && hazard.missing.is_none() {
            findings.push(finding(format!(
                "{row} names no test and does not say what is missing"
            )));
        }
        let gone = hazard.tests.iter().filter(|test| !tests.contains(*test));
        findings.extend(gone.map(|test| finding(format!("{row}: there is no test {test}"))));
    }
    let absent = expected.difference(&seen);
    findings.extend(absent.map(|row| finding(format!("{row} is not there"))));
    findings
}

/// `A1-A3` is A1, A2 and A3.
fn expand(range: &str) -> Option<Vec<String>> {
    let (from, to) = range.split_once('-')?;
    let (letter, first) = from.split_at_checked(1)?;
    let last = to.strip_prefix(letter)?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    Some((first..=last).map(|n| format!("{letter}{n}")).collect())
}

/// The functions behind a test's attribute, in all sources.
fn test_names(all: &[TextFile]) -> BTreeSet<String> {
    let sources = all.iter().filter(|file| file.path.ends_with(".rs"));
    sources.flat_map(|file| tests_of(&file.text)).collect()
}

fn tests_of(text: &str) -> Vec<String> {
    let code = RustSource::scan(text).code();
    let attributes = ["#[test]", "#[tokio::test"];
    let found = attributes.iter().flat_map(|a| code.match_indices(a));
    found
        .filter_map(|(at, _)| {
            let (_, rest) = code[at..].split_once("fn ")?;
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            Some(rest[..end].to_owned())
        })
        .collect()
}

fn page(table: &Table, log: &TestLog) -> String {
    let shown = |hazard: &&Hazard| hazard.missing.is_none();
    let count = table.hazard.iter().filter(shown).count();
    let named: BTreeSet<&String> = table.hazard.iter().flat_map(|h| &h.tests).collect();
    let mut results = BTreeMap::new();
    for test in &named {
        *results.entry(log.result(test)).or_insert(0) += 1;
    }
    let results: Vec<String> = results.iter().map(|(r, n)| format!("{n} {r}")).collect();
    let mut out = String::from("# Hazards, promises, tests\n\n");
    let _ = writeln!(
        out,
        "Written by `cargo x hazards --write` from `{TABLE}` and {}.\n\n\
         {} rows, {count} of them shown in full; {} tests: {}.\n",
        log.origin(),
        table.hazard.len(),
        named.len(),
        results.join(", ")
    );
    out.push_str(
        "| row | hazard | promise | tests, last result | missing |\n|---|---|---|---|---|\n",
    );
    for hazard in &table.hazard {
        let tests = hazard.tests.iter();
        let tests: Vec<_> = tests
            .map(|test| format!("`{test}` {}", log.result(test)))
            .collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            hazard.row,
            hazard.what,
            hazard.promise,
            tests.join("<br>"),
            hazard.missing.as_deref().unwrap_or("")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        parse(&format!("rows = [\"A1-A2\"]\n{text}")).expect("a table")
    }

    fn row(row: &str, tests: &str, rest: &str) -> String {
        format!(
            "[[hazard]]\nrow = \"{row}\"\nwhat = \"w\"\npromise = \"p\"\ntests = [{tests}]\n{rest}\n"
        )
    }

    fn told(table: &Table) -> Vec<String> {
        let tests = BTreeSet::from(["a_test".to_owned()]);
        judge(table, &tests).into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn a_row_needs_a_test_that_exists_or_says_what_is_missing() {
        let good = row("A1", "\"a_test\"", "") + &row("A2", "", "missing = \"all\"");
        assert_eq!(told(&table(&good)), Vec::<String>::new());
        let gone = row("A1", "\"gone\"", "") + &row("A2", "", "");
        let gone = told(&table(&gone));
        assert_eq!(gone.len(), 2, "{gone:?}");
        assert!(gone[0].contains("no test gone"));
        assert!(gone[1].contains("A2 names no test"));
    }

    #[test]
    fn rows_are_all_there_and_once() {
        let twice = row("A1", "\"a_test\"", "") + &row("A1", "\"a_test\"", "");
        let told = told(&table(&twice));
        assert!(told.contains(&"A1 is there twice".to_owned()), "{told:?}");
        assert!(told.contains(&"A2 is not there".to_owned()), "{told:?}");
        assert_eq!(expand("B9-B11").expect("a range"), ["B9", "B10", "B11"]);
        assert_eq!(expand("A1-B2"), None);
    }

    #[test]
    fn only_functions_behind_an_attribute_are_tests() {
        let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(start_paused = true)]\n\
                    async fn three() {}\n// #[test]\nfn four() {}\n";
        assert_eq!(tests_of(text), ["one", "three"]);
    }
}
