//! The mutated builds: a guard is compiled out, and the tests that watch it must fail.

use std::fs;
use std::process::Stdio;

use serde::Deserialize;

use crate::cargo::{self, TestCount};
use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

const TABLE: &str = "ops/mutations.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    mutation: Vec<Mutation>,
}

/// One guard and the tests that must notice its absence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    name: String,
    package: String,
    /// Feature of the package that compiles the guard out.
    feature: String,
    /// Test programs of the package that hold the tests: `lib`, or a file's name in `tests/`.
    /// No other is built: with another feature that means compiled anew.
    programs: Vec<String>,
    /// Names (or parts) of the tests; at least one of them must fail.
    tests: Vec<String>,
}

impl Mutation {
    /// For Cargo: the mutated build of the test programs, and of nothing else.
    ///
    /// Of a single package Cargo takes other features of what it depends on than of the workspace,
    /// and builds all that once more. So programs are picked by their names in the whole workspace,
    /// which only this package has; `lib` is a name that all have.
    fn arguments(&self) -> Vec<String> {
        let feature = format!("{}/{}", self.package, self.feature);
        let selection = match self.programs.iter().any(|program| program == "lib") {
            true => ["-p", &self.package].to_vec(),
            false => ["--workspace"].to_vec(),
        };
        let mut all = vec!["test", "--quiet", "--no-fail-fast"];
        all.extend(selection);
        all.extend(["--features", &feature]);
        for program in &self.programs {
            match program.as_str() {
                "lib" => all.push("--lib"),
                name => all.extend(["--test", name]),
            }
        }
        all.into_iter().map(str::to_owned).collect()
    }
}

/// What the tests made of a mutated build.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A test failed: the guard is guarded.
    Noticed,
    /// All passed: nobody would notice if the guard went missing.
    Unnoticed,
    /// No test ran, which proves nothing.
    NothingRan,
}

/// Variables for the tests, which name the servers that they use.
type Servers<'a> = &'a [(&'a str, &'a str)];

/// Runs all mutations, or the one that is named. Without `servers` a test that needs some
/// starts the stack that tests share, and leaves it running.
pub(crate) fn run(workspace: &Workspace, only: Option<&str>, servers: Servers<'_>) -> Outcome {
    let text = fs::read_to_string(workspace.path(TABLE))
        .map_err(|e| Failure::failed(format!("could not read {TABLE}: {e}")))?;
    let table: Table =
        toml::from_str(&text).map_err(|e| Failure::failed(format!("{TABLE}: {e}")))?;
    let mut survived = Vec::new();
    let mut ran = 0;
    for mutation in &table.mutation {
        if only.is_some_and(|only| only != mutation.name) {
            continue;
        }
        ran += 1;
        let verdict = try_out(workspace, mutation, servers)?;
        println!("mutation {}: {verdict:?}", mutation.name);
        if verdict != Verdict::Noticed {
            survived.push(mutation.name.as_str());
        }
    }
    if let (0, Some(name)) = (ran, only) {
        return Err(Failure::Usage(format!(
            "there is no mutation `{name}` in {TABLE}"
        )));
    }
    if survived.is_empty() {
        println!("{ran} mutations, each noticed by a test");
        return Ok(());
    }
    Err(Failure::failed(format!(
        "no test fails without: {}",
        survived.join(", ")
    )))
}

fn try_out(workspace: &Workspace, mutation: &Mutation, servers: Servers<'_>) -> Outcome<Verdict> {
    let arguments = mutation.arguments();
    // Built on its own first: a build that fails would look like tests that fail.
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    cargo::run(workspace, &[&arguments[..], &["--no-run"]].concat())?;
    let mut command = cargo::command(workspace, &arguments);
    command.arg("--").args(&mutation.tests);
    let out = command
        // The failures are wanted here: they are no regressions to be kept beside the sources.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .envs(servers.iter().copied())
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::failed(format!("could not run cargo: {e}")))?;
    let mut count = TestCount::default();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        count.add_line(line);
    }
    Ok(judge(count, out.status.success()))
}

/// A test program that dies without a result line (an abort, a signal) has noticed too, but
/// only if a test is known to have been run at all.
fn judge(count: TestCount, cargo_content: bool) -> Verdict {
    match (count, cargo_content) {
        (TestCount { failed: 1.., .. }, false) => Verdict::Noticed,
        (TestCount { passed: 0, .. }, _) => Verdict::NothingRan,
        (_, true) => Verdict::Unnoticed,
        (_, false) => Verdict::Noticed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u64, failed: u64) -> TestCount {
        TestCount {
            passed,
            failed,
            ignored: 0,
        }
    }

    #[test]
    fn a_failing_test_notices_the_mutation() {
        assert_eq!(judge(count(3, 1), false), Verdict::Noticed);
    }

    #[test]
    fn a_mutation_that_all_tests_pass_is_unnoticed() {
        assert_eq!(judge(count(4, 0), true), Verdict::Unnoticed);
    }

    #[test]
    fn a_filter_that_matches_no_test_proves_nothing() {
        assert_eq!(judge(count(0, 0), true), Verdict::NothingRan);
        assert_eq!(judge(count(0, 0), false), Verdict::NothingRan);
    }

    #[test]
    fn the_table_has_a_fixed_form() {
        let good = "[[mutation]]\nname = 'a'\npackage = 'p'\nfeature = 'f'\n\
                    programs = ['lib', 'x']\ntests = ['t']";
        let table: Table = toml::from_str(good).expect("a table");
        assert_eq!(table.mutation[0].tests, ["t"]);
        let built = table.mutation[0].arguments().join(" ");
        let wanted = "test --quiet --no-fail-fast -p p --features p/f --lib --test x";
        assert_eq!(built, wanted);
        let table: Table = toml::from_str(&good.replace("'lib', ", "")).expect("a table");
        let built = table.mutation[0].arguments().join(" ");
        let wanted = "test --quiet --no-fail-fast --workspace --features p/f --test x";
        assert_eq!(built, wanted);
        assert!(toml::from_str::<Table>("[[mutation]]\nname = 'a'").is_err());
    }
}
