//! `chaos`: faults on purpose, and the proof that they changed nothing.

use std::process::ExitCode;

use crate::cli::Chaos;
use crate::cli::ChaosArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect;
use crate::run::Projections;

pub(crate) async fn run(args: ChaosArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    match args.what {
        Chaos::Run(args) => tokio::select! {
            outcome = crate::demo::chaos(args, projections.clone()) => outcome,
            // What was started is dropped here, and ends with it.
            () = connect::shutdown() => Err(Failure::new(
                Kind::Interrupted,
                "stopped on the way; nothing was proven",
            )),
        },
        Chaos::Kinds => {
            for kind in refold_chaos::Kind::all() {
                println!("{kind:<26} {}", kind.tells());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
