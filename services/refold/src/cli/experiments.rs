//! The flags of the benchmarks that are kept as experiments.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use refold_local::settings::WalLevel;

use super::Count;
use super::Failure;
use super::Format;
use super::Share;
use super::StreamArgs;
use super::args::duration;
use super::runs::BenchReplayArgs;

/// What all experiments share.
#[derive(Debug, Clone, Args)]
pub struct ExperimentArgs {
    /// Directory of result.json, the CSV and the SVG, and of the state file while it runs.
    #[arg(long)]
    pub out: PathBuf,
    /// Runs of each setting.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// The number that decides the order of the runs.
    #[arg(long, default_value_t = 1)]
    pub order_seed: u64,
    /// Directory of the private stack. Default: one under the system's directory for temporary files.
    #[arg(long, env = "REFOLD_STACK_DIR")]
    pub stack_dir: Option<PathBuf>,
    /// Run the private Postgres with wal_level=minimal, where a load into a new table is not logged.
    #[arg(long)]
    pub wal_minimal: bool,
    /// Leave the private stack's data in place at the end.
    #[arg(long)]
    pub keep: bool,
    /// A flag that is handed to every projector and replay as it is, such as memory=2GiB.
    #[arg(long = "engine", value_name = "FLAG=VALUE")]
    pub engine: Vec<String>,
    /// A flag that is handed to whatever appends as it is, such as linger=100ms.
    #[arg(long = "tail", value_name = "FLAG=VALUE")]
    pub tail: Vec<String>,
}

/// Flags as they are written on a command line.
fn on_a_command_line(flags: &[String]) -> Vec<String> {
    let flag = |text: &String| format!("--{}", text.trim_start_matches('-'));
    flags.iter().map(flag).collect()
}

impl ExperimentArgs {
    /// The directory of the results, which is made when there is none.
    ///
    /// # Errors
    /// A usage failure when it cannot be made.
    pub fn create_out(&self) -> Result<PathBuf, Failure> {
        let out = self.out.clone();
        std::fs::create_dir_all(&out)
            .map_err(|error| Failure::usage(format!("-out {}: {error}", out.display())))?;
        Ok(out)
    }

    /// How much the private Postgres' write-ahead log carries.
    pub fn wal_level(&self) -> WalLevel {
        match self.wal_minimal {
            true => WalLevel::Minimal,
            false => WalLevel::Replica,
        }
    }

    /// Directory of the private stack of the experiment `name`.
    pub fn dir(&self, name: &str) -> PathBuf {
        let default = || std::env::temp_dir().join(format!("refold-bench-{name}"));
        self.stack_dir.clone().unwrap_or_else(default)
    }

    /// The flags for projectors and replays, as they are written on a command line.
    pub fn engine_flags(&self) -> Vec<String> {
        on_a_command_line(&self.engine)
    }

    /// The flags for whatever appends, as they are written on a command line.
    pub fn tail_flags(&self) -> Vec<String> {
        on_a_command_line(&self.tail)
    }
}

/// `bench billion`
#[derive(Debug, Clone, Args)]
pub struct BenchBillionArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// What all experiments share; there is one run.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Compression of the log.
    #[arg(long, default_value = "zstd")]
    pub codec: String,
    /// Wire form of the log.
    #[arg(long, value_enum, default_value_t = Format::Proto)]
    pub format: Format,
    /// Events per second that keep coming while the new version is built.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// Reads per second from the first to after the switch, open loop.
    #[arg(long, default_value = "500")]
    pub read_rate: Count,
    /// Reads in all, at least.
    #[arg(long, default_value = "100000")]
    pub reads: Count,
    /// Most bytes that the log may take on the disk.
    #[arg(long, default_value = "33e9")]
    pub log_limit: Count,
    /// Bytes of the disk that stay free, whatever happens.
    #[arg(long, default_value = "6e9")]
    pub keep_free: Count,
}

/// `bench linearity`
#[derive(Debug, Clone, Args)]
pub struct BenchLinearityArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Sizes of the log in events; a tenth as many aggregates.
    #[arg(long, value_delimiter = ',', default_value = "1e7,1e8")]
    pub sizes: Vec<Count>,
    /// A result of `bench billion` whose rebuild is shown beside the sizes.
    #[arg(long)]
    pub with: Option<PathBuf>,
    /// Compression of the logs.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
}

/// `bench speed-up`
#[derive(Debug, Clone, Args)]
pub struct BenchSpeedUpArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Events; a tenth as many aggregates.
    #[arg(long, default_value = "1e7")]
    pub events: Count,
    /// Numbers of partitions; the first is that of the single writer.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    pub partitions: Vec<i32>,
    /// Numbers of workers in one process.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    pub workers: Vec<usize>,
    /// Numbers of processes of one worker each, over the largest number of partitions.
    #[arg(long, value_delimiter = ',', default_value = "2,3")]
    pub processes: Vec<usize>,
    /// Compression of the logs.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
}

/// `bench codec`
#[derive(Debug, Clone, Args)]
pub struct BenchCodecArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Events; a tenth as many aggregates.
    #[arg(long, default_value = "1e7")]
    pub events: Count,
    /// The codecs.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "none,lz4,zstd,snappy,gzip"
    )]
    pub codecs: Vec<String>,
    /// The wire forms.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "proto,json")]
    pub formats: Vec<Format>,
}

/// `bench client-cost`
#[derive(Debug, Clone, Args)]
pub struct BenchClientCostArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Events; a tenth as many aggregates.
    #[arg(long, default_value = "1e7")]
    pub events: Count,
    /// The codecs.
    #[arg(long, value_delimiter = ',', default_value = "lz4,zstd")]
    pub codecs: Vec<String>,
    /// Readers that `bench read` opens, each as NAME:FLAG=VALUE.
    /// Default, without -program: bulk:mode=bulk and tail:mode=tail.
    #[arg(long = "reader", value_delimiter = ',')]
    pub readers: Vec<String>,
    /// The built example read_rate, which measures clients that the product does not use as well.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// The clients that -program measures.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "raw,librdkafka_batch,librdkafka_poll"
    )]
    pub clients: Vec<String>,
}

/// `bench batching`
#[derive(Debug, Clone, Args)]
pub struct BenchBatchingArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Events of the log; a tenth as many aggregates.
    #[arg(long, default_value = "1e7")]
    pub events: Count,
    /// Batch sizes: events per transaction when applied, rows per frame when copied.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000,10000,100000")]
    pub sizes: Vec<Count>,
    /// Most events that one run applies. A small batch gets fewer: what counts is its rate.
    #[arg(long, default_value = "4e6")]
    pub most_applied: Count,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
}

/// `bench upsert`
#[derive(Debug, Clone, Args)]
pub struct BenchUpsertArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// The built example upsert_cost of refold-store-postgres, which makes each run.
    #[arg(long)]
    pub program: PathBuf,
    /// Rows of the table.
    #[arg(long, default_value = "1e6")]
    pub rows: Count,
    /// Rows a transaction while something else is varied.
    #[arg(long, default_value = "10000")]
    pub batch: Count,
    /// Rows a transaction.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000")]
    pub sizes: Vec<Count>,
    /// Seconds of writing in each run.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
}

/// `bench scale-model`
#[derive(Debug, Clone, Args)]
pub struct BenchScaleModelArgs {
    /// What all experiments share.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Events of the log that predictions are compared on; a tenth as many aggregates.
    #[arg(long, default_value = "2e7")]
    pub events: Count,
    /// Events of the smaller log that the unit costs are measured on.
    #[arg(long, default_value = "5e6")]
    pub calibration_events: Count,
    /// Numbers of pinned processes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    pub processes: Vec<usize>,
    /// Compression of the logs.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
}

/// `bench overlap`
#[derive(Debug, Clone, Args)]
pub struct BenchOverlapArgs {
    /// What all experiments share; there is one run of each overlap.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Events of the log; a tenth as many aggregates.
    #[arg(long, default_value = "1e7")]
    pub events: Count,
    /// Partitions of the log.
    #[arg(long, default_value_t = 4)]
    pub partitions: i32,
    /// How many offsets below the lowest mark a replay begins again.
    #[arg(long, value_delimiter = ',', default_value = "1e4,1e5,1e6")]
    pub overlaps: Vec<Count>,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
}

/// `bench zombies`
#[derive(Debug, Clone, Args)]
pub struct BenchZombiesArgs {
    /// What all experiments share; the number that decides the order decides every round.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Rounds: each stops one projector at one point.
    #[arg(long, default_value_t = 200)]
    pub rounds: usize,
    /// Events of the log; a tenth as many aggregates.
    #[arg(long, default_value = "3e4")]
    pub events: Count,
    /// Partitions of the log.
    #[arg(long, default_value_t = 2)]
    pub partitions: i32,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
}

/// `bench cutover-proof`
#[derive(Debug, Clone, Args)]
pub struct BenchCutoverProofArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// What all experiments share; there is one run.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Events per second that keep coming until the versions are frozen.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// Reads per second from the first to after the switch, open loop.
    #[arg(long, default_value = "500")]
    pub read_rate: Count,
}

/// `bench way-back`
#[derive(Debug, Clone, Args)]
pub struct BenchWayBackArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// What all experiments share; there is one run.
    #[command(flatten)]
    pub common: ExperimentArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Events per second that keep coming all the time.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// Reads per second all the time, open loop.
    #[arg(long, default_value = "1000")]
    pub read_rate: Count,
    /// How long the new version serves before the way back.
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub traffic: Duration,
}

/// What a measured replay reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadMode {
    /// History at full speed.
    Bulk,
    /// The moving end.
    Tail,
}

/// `bench part`: one measured process, started by the experiments.
#[derive(Debug, Args)]
pub struct BenchPartArgs {
    /// The log, the database and the engine, as for `bench replay`.
    #[command(flatten)]
    pub replay: BenchReplayArgs,
    /// Only these partitions. Default: all.
    #[arg(long)]
    pub only: Option<Share>,
    /// Events per transaction when applied.
    #[arg(long)]
    pub batch: Option<usize>,
    /// Bytes of one frame of copied rows.
    #[arg(long)]
    pub copy_frame_bytes: Option<usize>,
    /// Events in one read of history.
    #[arg(long)]
    pub chunk_events: Option<usize>,
    /// The log ends for this process where this share of each partition's events, in [0, 1), is left.
    #[arg(long)]
    pub leave_share: Option<f64>,
}

/// `bench read`: one measured reader, started by the experiments.
#[derive(Debug, Args)]
pub struct BenchReadArgs {
    /// The log, as for `bench replay`.
    #[command(flatten)]
    pub replay: BenchReplayArgs,
    /// How it is read.
    #[arg(long, value_enum, default_value = "bulk")]
    pub mode: ReadMode,
}
