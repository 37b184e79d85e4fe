//! `cargo x check`: everything that can be said about the sources without running them.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::files::{self, Finding};
use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;
use crate::{cargo, doc_lint, hazards, layers, source_lint, sql_lint, text_lint};

/// Modules that may put SQL text together.
const SQL_ALLOWED: &str = "ops/sql-allow.txt";

/// Written by tools, full of host names by nature.
const NOT_OURS: &[&str] = &["Cargo.lock", "LICENSE"];

/// How one stage of a longer run went.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) passed: bool,
}

/// Runs one stage: a failure is shown and remembered, and does not keep the next ones from
/// running.
pub(crate) fn stage(name: &'static str, work: impl FnOnce() -> Outcome) -> Stage {
    println!("== {name}");
    let start = Instant::now();
    let outcome = work();
    let passed = outcome.is_ok();
    if let Err(failure) = outcome {
        failure.report();
    }
    Stage {
        name,
        took: start.elapsed(),
        passed,
    }
}

/// Prints seconds a stage; fails when one failed.
pub(crate) fn summary(stages: &[Stage]) -> Outcome {
    println!();
    for stage in stages {
        let verdict = if stage.passed { "ok" } else { "FAILED" };
        println!(
            "{:>8.1} s  {:<8} {verdict}",
            stage.took.as_secs_f64(),
            stage.name
        );
    }
    let failed: Vec<&str> = stages
        .iter()
        .filter(|stage| !stage.passed)
        .map(|stage| stage.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "not passed: {}",
        failed.join(", ")
    )))
}

type Work = fn(&Workspace) -> Outcome;

/// Runs all stages, or the one that is named.
pub(crate) fn run(workspace: &Workspace, only: Option<&str>) -> Outcome {
    let stages = stages(workspace, |name| only.is_none_or(|only| only == name));
    if let (Some(name), true) = (only, stages.is_empty()) {
        return Err(Failure::Usage(format!("there is no stage `{name}`")));
    }
    summary(&stages)
}

/// Format, lints of our own, lock files, clippy: those that `wanted` names.
pub(crate) fn stages(workspace: &Workspace, wanted: impl Fn(&str) -> bool) -> Vec<Stage> {
    let all: [(&str, Work); 4] = [
        ("format", format),
        ("lints", lints),
        ("locks", locks),
        ("clippy", clippy),
    ];
    all.into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, work)| stage(name, || work(workspace)))
        .collect()
}

fn format(workspace: &Workspace) -> Outcome {
    if !cargo::has(workspace, "fmt") {
        println!("not checked: this toolchain has no rustfmt");
        return Ok(());
    }
    cargo::run(workspace, &["fmt", "--all", "--check"])
}

/// Every lock file names what its manifests ask for, also the one of the crate outside of the
/// workspace, whose build comes near the end of the tests.
fn locks(workspace: &Workspace) -> Outcome {
    let files = files::all(workspace)?;
    let locks = files.iter().map(|file| file.path.as_str());
    for lock in locks.filter(|path| Path::new(path).ends_with("Cargo.lock")) {
        let manifest = Path::new(lock).with_file_name("Cargo.toml");
        let manifest = manifest.to_string_lossy();
        println!("{lock}");
        let resolve = ["tree", "--quiet", "--locked", "--depth", "0"];
        let of = ["--manifest-path", manifest.as_ref()];
        cargo::run(workspace, &[&resolve[..], &of].concat()).map_err(|_| {
            Failure::failed(format!(
                "{lock} lacks what a manifest asks for: run `cargo update --workspace` beside it and \
                 commit it"
            ))
        })?;
    }
    Ok(())
}

fn clippy(workspace: &Workspace) -> Outcome {
    if !cargo::has(workspace, "clippy") {
        println!("not checked: this toolchain has no clippy");
        return Ok(());
    }
    cargo::run(
        workspace,
        &[
            "clippy",
            "--quiet",
            "--keep-going",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )
}

fn lints(workspace: &Workspace) -> Outcome {
    let mut findings = layers::check(workspace)?;
    let allowed = files::list(workspace, SQL_ALLOWED)?;
    let files = files::all(workspace)?;
    for file in &files {
        if NOT_OURS.contains(&file.path.as_str()) {
            continue;
        }
        findings.extend(text_lint::check(file));
        if file.path.ends_with(".sql") {
            findings.extend(sql_lint::check_sql(file));
        }
        if file.path.ends_with(".rs") {
            findings.extend(sql_lint::check_rust(file, &allowed));
            findings.extend(source_lint::check(file));
        }
    }
    findings.extend(doc_lint::check(&files));
    findings.extend(hazards::check(&files));
    println!("{} files looked at", files.len());
    report(&findings)
}

fn report(findings: &[Finding]) -> Outcome {
    for finding in findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} findings"))),
    }
}
