//! `cargo x`: the commands that develop, check and show Refold. Nothing to install first.

mod outcome;
mod stack;

use std::env;
use std::process::ExitCode;

use outcome::{Failure, Outcome};

const USAGE: &str = "\
usage: cargo x VERB [ARGUMENTS]

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
    match verb.as_str() {
        "stack" => stack::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::Usage(format!("unknown verb `{other}`\n\n{USAGE}"))),
    }
}
