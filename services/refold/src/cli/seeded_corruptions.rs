//! The flags of `bench seeded-corruptions`.

use clap::Args;

use super::Count;
use super::ExperimentArgs;
use super::StreamArgs;

/// `bench seeded-corruptions`
#[derive(Debug, Clone, Args)]
pub struct BenchSeededCorruptionsArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// What all experiments share; there is one run.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Events per second that keep coming while sound tables are looked at.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// How often sound tables are looked at.
    #[arg(long, default_value_t = 50)]
    pub clean_runs: u64,
    /// How often damage of each kind is done.
    #[arg(long, default_value_t = 5)]
    pub times: usize,
    /// Decides where damage is done, and in which order.
    #[arg(long, default_value_t = 20_261_127)]
    pub damage_seed: u64,
}
