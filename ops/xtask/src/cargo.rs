//! Running Cargo.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::outcome::{Failure, Outcome};
use crate::test_log::TestLog;
use crate::workspace::Workspace;

/// Cargo as the one that runs us, in the workspace's root.
pub(crate) fn command(workspace: &Workspace, args: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(workspace.root())
        .envs(workspace.build_variables());
    command
}

/// Runs Cargo with our own input and output; fails when it fails.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> Outcome {
    let status = command(workspace, args)
        .status()
        .map_err(|e| Failure::failed(format!("could not run cargo: {e}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed(format!("cargo {} failed", args.join(" "))))
}

/// Whether a Cargo subcommand such as `fmt` is installed: a minimal toolchain has none.
pub(crate) fn has(workspace: &Workspace, subcommand: &str) -> bool {
    command(workspace, &[subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a run of `cargo test` came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestCount {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl TestCount {
    /// Adds a line of the test runner; other lines count nothing.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("test result:") else {
            return;
        };
        let number = |what: &str| -> u64 {
            rest.split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
                .unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
        self.ignored += number("ignored");
    }
}

/// Runs `command` (a `cargo test`), shows its output as it comes, counts the results and puts
/// each into `log`. The second value tells whether Cargo itself was content.
pub(crate) fn count_tests(mut command: Command, log: &mut TestLog) -> Outcome<(TestCount, bool)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::failed(format!("could not run cargo: {e}")))?;
    let mut count = TestCount::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|e| Failure::failed(format!("lost cargo's output: {e}")))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count.add_line(&line);
            log.add_line(&line);
        }
    }
    let status = child
        .wait()
        .map_err(|e| Failure::failed(format!("could not wait for cargo: {e}")))?;
    Ok((count, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let mut count = TestCount::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.04s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            count.add_line(line);
        }
        let expected = TestCount {
            passed: 29,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(count, expected);
    }
}
