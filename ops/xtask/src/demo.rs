//! `cargo x demo`: build the product as it ships, then let it show itself.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cargo;
use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

/// The flag that names the directory of the demo's private stack.
const STACK_DIR: &str = "--stack-dir";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Outcome {
    let program = build(workspace)?;
    let mut command = Command::new(&program);
    command.arg("demo");
    if !args.iter().any(|arg| arg.starts_with(STACK_DIR)) {
        command.arg(STACK_DIR).arg(workspace.path(".refold/demo"));
    }
    // In our place instead of below us: signals and the exit code are the demo's own.
    let error = command.args(args).exec();
    Err(Failure::failed(format!(
        "could not run {}: {error}",
        program.display()
    )))
}

/// Builds the release binary and returns its path.
pub(crate) fn build(workspace: &Workspace) -> Outcome<std::path::PathBuf> {
    cargo::run(
        workspace,
        &["build", "--release", "-p", "refold", "--bin", "refold"],
    )?;
    Ok(workspace.target().join("release/refold"))
}
