//! The flags of `chaos`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

/// `chaos`
#[derive(Debug, Args)]
pub struct ChaosArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: Chaos,
}

/// What `chaos` does.
#[derive(Debug, Subcommand)]
pub enum Chaos {
    /// Run a scenario: start a private stack, build a version and follow the log under faults, and
    /// prove at the end that nothing is lost, doubled or wrong.
    Run(ChaosRunArgs),
    /// List the kinds of faults that a scenario can name.
    Kinds,
}

/// `chaos run`
#[derive(Debug, Args)]
pub struct ChaosRunArgs {
    /// The scenario, a TOML file such as ops/chaos/short.toml.
    pub scenario: PathBuf,
    /// One JSON object as the last line on stdout.
    #[arg(long)]
    pub json: bool,
    /// Directory for result.json, report.txt, faults.csv, failed-reads.txt and output.txt.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Directory of the private stack, which must not hold one yet. Default: one under the
    /// system's directory for temporary files.
    #[arg(long, env = "REFOLD_STACK_DIR")]
    pub stack_dir: Option<PathBuf>,
}
