//! `cargo x experiment` and `cargo x long`: committed commands under a name. A long one can be
//! detached from the terminal, asked, and started again where it stopped.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::detached::Detached;
use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;
use crate::{demo, files};

const EXPERIMENTS: &str = "ops/experiments";
const LONG_SUITES: &str = "ops/long-suites.txt";

/// Prints the names of all experiments.
pub(crate) fn list(workspace: &Workspace) -> Outcome {
    for name in names(workspace) {
        println!("{name}");
    }
    Ok(())
}

fn names(workspace: &Workspace) -> Vec<String> {
    let Ok(entries) = fs::read_dir(workspace.path(EXPERIMENTS)) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("command").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Builds the release binary and runs the one command line in `ops/experiments/NAME/command`.
pub(crate) fn run(workspace: &Workspace, name: &str) -> Outcome {
    let line = command_line(workspace, name)?;
    demo::build(workspace)?;
    shell(workspace, &line)
}

/// Does what a flag asks of an experiment: `--detach`, `--status` or `--resume`.
pub(crate) fn control(workspace: &Workspace, name: &str, flag: &str) -> Outcome {
    let line = command_line(workspace, name)?;
    let detached = Detached::of(workspace, name);
    match flag {
        "--status" => return detached.status(),
        "--detach" => {}
        "--resume" if detached.was_started() => {}
        "--resume" => {
            return Err(Failure::failed(format!(
                "{name} was not started yet; start it with --detach"
            )));
        }
        _ => {
            return Err(Failure::Usage(format!(
                "`{flag}` is not understood; an experiment takes --detach, --status or --resume"
            )));
        }
    }
    demo::build(workspace)?;
    // A session of its own: no signal of this terminal reaches it.
    let mut command = in_root(workspace, "setsid")?;
    command.args(["/bin/sh", "-c"]);
    detached.start(command, &line)
}

fn command_line(workspace: &Workspace, name: &str) -> Outcome<String> {
    let file = format!("{EXPERIMENTS}/{name}/command");
    let known = names(workspace);
    if !known.iter().any(|k| k == name) {
        return Err(Failure::Usage(format!(
            "there is no experiment `{name}`; there are: {}",
            known.join(", ")
        )));
    }
    match files::list(workspace, &file)?.as_slice() {
        [line] => Ok(line.clone()),
        lines => Err(Failure::failed(format!(
            "{file} has {} command lines, it must have one",
            lines.len()
        ))),
    }
}

/// Runs the suites in the committed list, or the one that is named.
pub(crate) fn long(workspace: &Workspace, only: Option<&str>) -> Outcome {
    let suites = parse_suites(&files::list(workspace, LONG_SUITES)?)?;
    let chosen: Vec<&(String, String)> = suites
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == name))
        .collect();
    if let (Some(name), true) = (only, chosen.is_empty()) {
        return Err(Failure::Usage(format!(
            "there is no long suite `{name}` in {LONG_SUITES}"
        )));
    }
    demo::build(workspace)?;
    let mut failed = Vec::new();
    for (name, line) in chosen {
        println!("== {name}: {line}");
        if let Err(failure) = shell(workspace, line) {
            failure.report();
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("failed: {}", failed.join(", "))))
}

/// `name: command line`.
fn parse_suites(lines: &[String]) -> Outcome<Vec<(String, String)>> {
    lines
        .iter()
        .map(|line| {
            line.split_once(':')
                .map(|(name, command)| (name.trim().to_owned(), command.trim().to_owned()))
                .ok_or_else(|| {
                    Failure::failed(format!("{LONG_SUITES}: `{line}` is not `name: command`"))
                })
        })
        .collect()
}

/// A program in the root, with the release binary first on the path.
fn in_root(workspace: &Workspace, program: &str) -> Outcome<Command> {
    let mut path: Vec<PathBuf> = vec![workspace.target().join("release")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(path)
        .map_err(|e| Failure::failed(format!("PATH cannot hold the build directory: {e}")))?;
    let mut command = Command::new(program);
    command
        .current_dir(workspace.root())
        .envs(workspace.build_variables())
        .env("PATH", path);
    Ok(command)
}

/// Runs a command line in the root.
fn shell(workspace: &Workspace, line: &str) -> Outcome {
    let status = in_root(workspace, "/bin/sh")?
        .args(["-c", line])
        .status()
        .map_err(|e| Failure::failed(format!("could not run `{line}`: {e}")))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Exit(code)),
        None => Err(Failure::failed(format!("`{line}` was ended by a signal"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_a_name_and_a_command_that_may_hold_colons() {
        let suites = parse_suites(&["soak: refold chaos --at 1:2".into()]).expect("a list");
        assert_eq!(suites, [("soak".into(), "refold chaos --at 1:2".into())]);
        assert!(parse_suites(&["no command".into()]).is_err());
    }
}
