//! `cargo x`: the commands that develop, check and show Refold. Nothing to install first.

mod cargo;
mod check;
mod demo;
mod detached;
mod doc_lint;
mod experiment;
mod files;
mod hazards;
mod layers;
mod mutate;
mod outcome;
mod rust_source;
mod simulate;
mod source_lint;
mod sql_lint;
mod stack;
mod test;
mod test_log;
mod text_lint;
mod workspace;

use std::env;
use std::process::ExitCode;

use outcome::{Failure, Outcome};
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo x VERB [ARGUMENTS]

  demo [ARGUMENTS]       build refold and run its demo on a private stack
  test                   format, lints, lock files, all tests, mutated builds, on a private stack
  check [STAGE]          format, lints (layers, SQL, sources), lock files, clippy
  mutate [NAME]          build with a guard removed; passes when the tests then fail
  hazards [--write]      the table of ops/hazards.toml with the last result of each test
  experiment [NAME]      run ops/experiments/NAME (without a name: list them)
         --detach        apart from this terminal, with a log
         --status        whether it runs, how it ended, the end of its log
         --resume        go on where it stopped
  simulate [ARGUMENTS]   the actors under seeded faults, on one thread and a clock that jumps
         --seed S        one seed again; --trace prints every step
  long [NAME]            run the long suites of ops/long-suites.txt
  stack up|down|status   private Kafka and Postgres as local processes
         --dir D         where their files are (default: .refold/stack)
         --nodes 1|3     number of Kafka nodes
         --wal-minimal   Postgres with wal_level=minimal
         --prometheus    a Prometheus too
         --purge         with down: remove the data as well
         --json          one JSON object on stdout
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: &[String]) -> Outcome {
    let (verb, rest) = args.split_first().ok_or(Failure::Usage(USAGE.into()))?;
    let mut workspace = Workspace::find()?;
    if [
        "demo",
        "test",
        "check",
        "mutate",
        "experiment",
        "simulate",
        "long",
    ]
    .contains(&verb.as_str())
    {
        workspace = workspace.built_with(refold_local::build_tools::ensure()?);
    }
    match (verb.as_str(), rest) {
        ("demo", _) => demo::run(&workspace, rest),
        ("test", []) => test::run(&workspace),
        ("check", [] | [_]) => check::run(&workspace, rest.first().map(String::as_str)),
        ("mutate", [] | [_]) => mutate::run(&workspace, rest.first().map(String::as_str), &[]),
        ("hazards", []) => hazards::run(&workspace, false),
        ("hazards", [flag]) if flag == "--write" => hazards::run(&workspace, true),
        ("experiment", []) => experiment::list(&workspace),
        ("experiment", [name]) => experiment::run(&workspace, name),
        ("experiment", [name, flag]) => experiment::control(&workspace, name, flag),
        ("simulate", _) => simulate::run(&workspace, rest),
        ("long", [] | [_]) => experiment::long(&workspace, rest.first().map(String::as_str)),
        ("stack", _) => stack::run(&workspace, rest),
        ("help" | "--help" | "-h", _) => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure::Usage(format!(
            "`{}` is not understood\n\n{USAGE}",
            args.join(" ")
        ))),
    }
}
