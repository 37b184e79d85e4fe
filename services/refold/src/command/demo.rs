//! `demo`: the whole way, with a proof at the end.

use std::process::ExitCode;

use crate::cli::DemoArgs;
use crate::cli::Failure;

pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    crate::demo::run(args).await?;
    Ok(ExitCode::SUCCESS)
}
