//! `cargo x test`: everything, on a private stack that is gone afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use refold_local::testing::{KAFKA_VARIABLE, POSTGRES_VARIABLE, UNSUPPORTED_VARIABLE};
use refold_local::{Stack, StackGuard, StackOptions};

use crate::cargo::{self, TestCount};
use crate::check::{self, stage};
use crate::outcome::{Failure, Outcome};
use crate::test_log::TestLog;
use crate::workspace::Workspace;
use crate::{files, mutate};

/// What is built and run.
const EVERYTHING: [&str; 4] = ["--workspace", "--lib", "--bins", "--tests"];

/// Names the program that end-to-end tests start; without it they have Cargo build one.
const PROGRAM_VARIABLE: &str = "REFOLD_E2E_BINARY";

/// Tests that may say that this machine cannot run them.
const UNSUPPORTED: &str = "ops/unsupported-tests.txt";

/// Runs all stages whatever the earlier ones say. The last line counts the tests.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let mut count = TestCount::default();
    let mut stages = check::stages(workspace, |_| true);
    stages.push(stage("build", || build(workspace)));
    let mut stand = None;
    stages.push(stage("stack", || {
        stand = Some(Stand::put_up(workspace)?);
        Ok(())
    }));
    let no_stack = || Failure::failed("there is no stack");
    stages.push(stage("tests", || {
        count = tests(workspace, stand.as_ref().ok_or_else(no_stack)?)?;
        judge(count)
    }));
    stages.push(stage("mutate", || {
        let servers = stand.as_ref().ok_or_else(no_stack)?.servers();
        mutate::run(workspace, None, &servers)
    }));
    drop(stand);
    let verdict = check::summary(&stages);
    if let Err(failure) = verdict {
        failure.report();
        println!("{} passed, {} failed", count.passed, count.failed);
        return Err(Failure::Exit(1));
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(())
}

/// Everything that the tests run, in one build: the programs alone would be built without the
/// features that tests ask of their dependencies, and all of those once more for the tests.
fn build(workspace: &Workspace) -> Outcome {
    cargo::run(
        workspace,
        &[&["build", "--quiet"][..], &EVERYTHING].concat(),
    )
}

/// What the tests stand on: servers and a directory that end with the value.
struct Stand {
    kafka: String,
    postgres: String,
    // Before the directory: the servers' files are in it.
    _stack: StackGuard,
    run: RunDirectory,
}

impl Stand {
    fn put_up(workspace: &Workspace) -> Outcome<Self> {
        let run = RunDirectory::create(workspace)?;
        let stack = run.stack()?;
        let addresses = stack.stack().addresses();
        let (Some(kafka), Some(postgres)) = (addresses.kafka, addresses.postgres) else {
            return Err(Failure::failed("the stack has no Kafka or no Postgres"));
        };
        Ok(Self {
            kafka,
            postgres,
            _stack: stack,
            run,
        })
    }

    /// The variables that name the servers to a test.
    fn servers(&self) -> [(&'static str, &str); 2] {
        [
            (KAFKA_VARIABLE, &self.kafka),
            (POSTGRES_VARIABLE, &self.postgres),
        ]
    }
}

fn tests(workspace: &Workspace, stand: &Stand) -> Outcome<TestCount> {
    let unsupported = stand.run.path.join("unsupported.txt");
    let mut command = cargo::command(
        workspace,
        &[&["test", "--no-fail-fast"][..], &EVERYTHING].concat(),
    );
    command
        .envs(stand.servers())
        .env(PROGRAM_VARIABLE, workspace.target().join("debug/refold"))
        .env(UNSUPPORTED_VARIABLE, &unsupported);
    let mut log = TestLog::default();
    let (mut count, content) = cargo::count_tests(command, &mut log)?;
    log.write(workspace)?;
    if !content && count.failed == 0 {
        // A program that did not build, or died without a result, is a failure as well.
        count.failed = 1;
    }
    let listed = files::list(workspace, UNSUPPORTED)?;
    let lines = fs::read_to_string(&unsupported).unwrap_or_default();
    let unexpected = unexpected_skips(&lines, &listed);
    for name in &unexpected {
        println!("unsupported here, but not listed in {UNSUPPORTED}: {name}");
    }
    if !unexpected.is_empty() {
        count.failed += unexpected.len() as u64;
    }
    println!("{} tests unsupported here", lines.lines().count());
    Ok(count)
}

fn judge(count: TestCount) -> Outcome {
    match count {
        TestCount { failed: 1.., .. } => Err(Failure::failed(format!("{} failed", count.failed))),
        TestCount { ignored: 1.., .. } => Err(Failure::failed(format!(
            "{} tests are ignored",
            count.ignored
        ))),
        TestCount { passed: 0, .. } => Err(Failure::failed("no test ran")),
        _ => Ok(()),
    }
}

/// Lines are `unsupported here: NAME: reason`.
fn unexpected_skips(lines: &str, listed: &[String]) -> BTreeSet<String> {
    lines
        .lines()
        .filter_map(|line| line.strip_prefix("unsupported here: "))
        .map(|rest| rest.split(':').next().unwrap_or(rest).trim().to_owned())
        .filter(|name| !listed.contains(name))
        .collect()
}

/// A directory for this run alone. The data of earlier runs that were killed is cleared.
struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    fn create(workspace: &Workspace) -> Outcome<Self> {
        let all = workspace.target().join("refold-test-run");
        for old in fs::read_dir(&all).into_iter().flatten().flatten() {
            let is_alive = old
                .file_name()
                .to_str()
                .is_some_and(|pid| Path::new("/proc").join(pid).exists());
            if !is_alive {
                clear(&old.path());
            }
        }
        let path = all.join(std::process::id().to_string());
        fs::create_dir_all(&path)
            .map_err(|e| Failure::failed(format!("could not create {}: {e}", path.display())))?;
        Ok(Self { path })
    }

    fn stack(&self) -> Outcome<StackGuard> {
        Ok(Stack::up(&StackOptions::new(&self.path))?.guard()?)
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

fn clear(dir: &Path) {
    let purged = match Stack::find(dir) {
        Ok(Some(stack)) => stack.purge().map(drop),
        Ok(None) => Ok(()),
        Err(e) => Err(e),
    };
    if let Err(e) = purged {
        eprintln!("{e}");
        return;
    }
    if let Err(e) = fs::remove_dir_all(dir) {
        eprintln!("could not remove {}: {e}", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_test_has_to_be_listed() {
        let lines =
            "unsupported here: huge_pages: no permission\nunsupported here: compose: no docker\n";
        let unexpected = unexpected_skips(lines, &["compose".into()]);
        assert_eq!(unexpected.into_iter().collect::<Vec<_>>(), ["huge_pages"]);
    }

    #[test]
    fn a_run_without_tests_or_with_ignored_ones_does_not_pass() {
        let count = |passed, failed, ignored| TestCount {
            passed,
            failed,
            ignored,
        };
        assert!(judge(count(5, 0, 0)).is_ok());
        assert!(judge(count(0, 0, 0)).is_err());
        assert!(judge(count(5, 1, 0)).is_err());
        assert!(judge(count(5, 0, 1)).is_err());
    }
}
