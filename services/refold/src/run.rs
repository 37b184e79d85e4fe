//! From the command line to a command, and from its outcome to an exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory;
use clap::Parser;
use refold_domain::fold::AnyProjection;
use refold_telemetry::LogFormat;

use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::normalise;
use crate::command;
use crate::demo::follow_driver;

/// What is told unless somebody asks for more: what we do, not how our metrics end.
const LOG_FILTER: &str = "info,opentelemetry_sdk=warn";

/// The projections that a binary holds.
pub(crate) type Projections = Vec<Arc<dyn AnyProjection>>;

/// Runs the command that the process's arguments name, with these projections inside.
///
/// The binary's own name may be a command (a link named `projector` or
/// `cutover`). Data goes to stdout, everything else to stderr.
pub fn run(projections: Projections) -> ExitCode {
    if let Err(error) = refold_telemetry::init_logging(LogFormat::Text, LOG_FILTER) {
        eprintln!("refold: {error}");
    }
    if let Err(failure) = follow_driver() {
        eprintln!("refold: {failure}");
        return failure.exit_code();
    }
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout and the rest to stderr.
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(Kind::Usage.code()),
                false => ExitCode::SUCCESS,
            };
        }
    };
    match dispatch(cli.command, &projections) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("refold: {failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(command: Command, projections: &Projections) -> Result<ExitCode, Failure> {
    // Phase one, synchronous: what can be refused without a server.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error("start the runtime", error))?;
    match command {
        Command::Projector(args) => {
            let projection = find(projections, &args.version)?;
            runtime.block_on(command::projector::run(args, projection))
        }
        Command::Api(args) => runtime.block_on(command::api::run(args, projections)),
        Command::Cutover(args) => runtime.block_on(command::cutover::run(args)),
        Command::Seed(args) => runtime.block_on(command::seed::run(args)),
        Command::Verify(args) => runtime.block_on(command::verify::run(args, projections)),
        Command::Diff(args) => runtime.block_on(command::diff::run(args, projections)),
        Command::AsOf(args) => runtime.block_on(command::as_of::run(args, projections)),
        Command::Repair(args) => runtime.block_on(command::repair::run(args, projections)),
        Command::EventTable(args) => runtime.block_on(command::event_table::run(args)),
        Command::List(args) => runtime.block_on(command::list::run(args)),
        Command::Parked(args) => runtime.block_on(command::parked::run(args)),
        Command::Retire(args) => runtime.block_on(command::retire::run(args)),
        Command::Reset(args) => runtime.block_on(command::reset::run(args, projections)),
        Command::Abort(args) => runtime.block_on(command::retire::abort(args)),
        Command::Load(args) => runtime.block_on(command::load::run(args)),
        Command::Chaos(args) => runtime.block_on(command::chaos::run(args, projections)),
        Command::Bench(args) => runtime.block_on(command::bench::run(args, projections)),
        Command::Demo(args) => runtime.block_on(command::demo::run(args, projections)),
    }
}

/// The projection of a label, or a sentence that lists those that there are.
pub(crate) fn find(
    projections: &Projections,
    label: &str,
) -> Result<Arc<dyn AnyProjection>, Failure> {
    let found = projections.iter().find(|p| p.spec().label() == label);
    found.cloned().ok_or_else(|| {
        let known: Vec<_> = projections.iter().map(|p| p.spec().label()).collect();
        Failure::usage(format!(
            "version {label} is not in this binary, which holds {}; link the projection in or correct -version",
            known.join(", ")
        ))
    })
}

fn arguments() -> Vec<String> {
    let mut args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let command = Cli::command();
    let names: Vec<_> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let stem = args.first().map(|path| {
        let path = std::path::Path::new(path);
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    });
    if let Some(stem) = stem.filter(|stem| names.contains(&stem.as_str())) {
        args.insert(1, stem);
    }
    normalise(args)
}
