//! The flags of `bench thousand-switches`.

use clap::Args;

use super::Count;
use super::ExperimentArgs;
use super::StreamArgs;

/// `bench thousand-switches`
#[derive(Debug, Clone, Args)]
pub struct BenchThousandSwitchesArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// What all experiments share; there is one run.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Events per second that keep coming from before the rebuild to behind the last read.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// Sessions that read, each one read at a time over a connection of its own.
    #[arg(long, default_value_t = 16)]
    pub readers: usize,
    /// Reads per second of all sessions together, on a schedule; a read counts from when it was
    /// due. 0: each session reads again as soon as it has an answer (closed loop).
    #[arg(long, default_value = "0")]
    pub read_rate: Count,
    /// Cycles: the new version is promoted, and then the old one again.
    #[arg(long, default_value = "1000")]
    pub cycles: Count,
    /// Reads in all, over which the cycles are spread evenly; 0 is one switch right after another.
    #[arg(long, default_value = "1e7")]
    pub reads: Count,
    /// Seconds after which reading ends, also when fewer reads were made; cycles that are not
    /// done by then fail the run.
    #[arg(long, default_value_t = 3600)]
    pub most_seconds: u64,
    /// Seconds from the start of one scan of both tables to the start of the next.
    #[arg(long, default_value_t = 30)]
    pub scan_every: u64,
    /// Rows a second that a scan reads at most.
    #[arg(long, default_value = "200k")]
    pub scan_rate: Count,
    /// Niceness, 0 to 19, of the sessions of the broker, of who appends and of both projectors,
    /// and of who scans, from the first switch on: with 10 they have a tenth of the share of the database, the api
    /// and the readers while all of them want the processors. 0 leaves all alike.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub background_nice: u8,
}
