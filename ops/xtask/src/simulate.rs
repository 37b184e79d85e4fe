//! `cargo x simulate`: the actors under seeded faults; see `actors/simulation`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cargo;
use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

/// Builds the simulation and runs it in our place.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Outcome {
    // An example, because only tests and examples may stop the runtime's clock.
    let build = [
        "build",
        "--release",
        "--quiet",
        "--workspace",
        "--example",
        "simulate",
    ];
    cargo::run(workspace, &build)?;
    let program = workspace.target().join("release/examples/simulate");
    let error = Command::new(&program).args(args).exec();
    Err(Failure::failed(format!(
        "could not run {}: {error}",
        program.display()
    )))
}
