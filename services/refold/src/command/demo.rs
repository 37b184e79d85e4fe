//! `demo`: the whole way, with a proof at the end.

use std::process::ExitCode;

use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::run::Projections;

pub(crate) async fn run(args: DemoArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    crate::demo::run(args, projections.clone()).await?;
    Ok(ExitCode::SUCCESS)
}
