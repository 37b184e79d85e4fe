//! The flags of `bench proof-cost`.

use clap::Args;

use super::Count;
use super::ExperimentArgs;
use super::StreamArgs;

/// `bench proof-cost`
#[derive(Debug, Clone, Args)]
pub struct BenchProofCostArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// What all experiments share; `-runs` is the number of scans by each number of workers.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Events per second that keep coming while tables are compared.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// Numbers of partitions that a scan compares at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub workers: Vec<usize>,
    /// Comparisons of the checksums.
    #[arg(long, default_value_t = 50)]
    pub barriers: usize,
}
