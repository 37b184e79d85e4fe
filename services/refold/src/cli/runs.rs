//! The flags of the commands that measure and show.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;

use super::BenchProofCostArgs;
use super::BenchSeededCorruptionsArgs;
use super::BenchThousandSwitchesArgs;
use super::Count;
use super::Format;
use super::KafkaArgs;
use super::StreamArgs;
use super::args::duration;
use super::experiments::*;

/// `load`
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// The api.
    #[arg(long, env = "REFOLD_API", default_value = "http://127.0.0.1:8080")]
    pub api: String,
    /// Reads per second, started on schedule whatever the answers do (open loop).
    #[arg(long, default_value = "1000")]
    pub rate: Count,
    /// How long.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Ids are drawn from 1 to this number, and a tenth of the reads above it, where nothing exists.
    #[arg(long, default_value = "2e5")]
    pub aggregates: Count,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// `bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: Bench,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Seed a private topic on a private stack (or use the given one) and replay it from offset 0.
    Replay(BenchReplayArgs),
    /// The whole way at the largest size that the disk holds; goes on where it was stopped.
    Billion(BenchBillionArgs),
    /// Cost per event at several sizes of the log.
    Linearity(BenchLinearityArgs),
    /// Rate by partitions, workers and processes against a single writer.
    SpeedUp(BenchSpeedUpArgs),
    /// Rate, size and cost by codec and wire form.
    Codec(BenchCodecArgs),
    /// CPU per event of the log's readers alone.
    ClientCost(BenchClientCostArgs),
    /// Rate by batch size, when applied and when copied.
    Batching(BenchBatchingArgs),
    /// What a changed row costs the database, by statement, batch and settings of the log.
    Upsert(BenchUpsertArgs),
    /// Predict rebuilds from unit costs, and compare with pinned processes.
    ScaleModel(BenchScaleModelArgs),
    /// Replays that overlap what is applied, killed inside a batch, against one clean pass.
    Overlap(BenchOverlapArgs),
    /// Projectors stopped at each failpoint, replaced and continued: the old one may write nothing more.
    Zombies(BenchZombiesArgs),
    /// Freeze two versions at one vector and let the database compare them with EXCEPT.
    CutoverProof(BenchCutoverProofArgs),
    /// Let the new version serve for a while under read load, then promote the one before again.
    WayBack(BenchWayBackArgs),
    /// Promote and roll back a thousand times under read load, each switch behind its own proof.
    ThousandSwitches(BenchThousandSwitchesArgs),
    /// Damage random rows in every way and see which layer of the proof finds it.
    SeededCorruptions(BenchSeededCorruptionsArgs),
    /// Measure what the proof takes while both versions go on.
    ProofCost(BenchProofCostArgs),
    /// One measured process.
    #[command(hide = true)]
    Part(BenchPartArgs),
    /// One measured reader.
    #[command(hide = true)]
    Read(BenchReadArgs),
}

/// `bench replay`
#[derive(Debug, Args)]
pub struct BenchReplayArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Partitions folded at once. Default: one more than the machine has cores.
    #[arg(long)]
    pub workers: Option<usize>,
    /// Memory for folding.
    #[arg(long, default_value = "4GiB")]
    pub memory: Count,
    /// The version to rebuild.
    #[arg(
        long = "version",
        id = "projection_version",
        value_name = "VERSION",
        default_value = "accounts_v4"
    )]
    pub version: String,
    /// One JSON object as the last line on stdout.
    #[arg(long)]
    pub json: bool,
    /// Directory of the private stack.
    #[arg(long, env = "REFOLD_STACK_DIR")]
    pub stack_dir: Option<PathBuf>,
    /// The brokers to use instead of a private stack.
    #[arg(long, env = "REFOLD_BROKERS", requires = "postgres")]
    pub brokers: Option<String>,
    /// The database to use instead of a private stack.
    #[arg(long, env = "REFOLD_POSTGRES", requires = "brokers")]
    pub postgres: Option<String>,
    /// The topic; it is seeded when it does not exist.
    #[arg(long)]
    pub topic: Option<String>,
    /// Wire form.
    #[arg(long, value_enum, default_value_t = Format::Proto)]
    pub format: Format,
    /// How often; the figures are of the last run, the rates of all are printed.
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// How the log is read.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// `demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Wire form of the log.
    #[arg(long, value_enum, default_value_t = Format::Proto)]
    pub format: Format,
    /// Events per second that keep coming while the new version is built.
    #[arg(long, default_value = "5000")]
    pub tail_rate: Count,
    /// Reads per second over the whole demo, open loop.
    #[arg(long, default_value = "2000")]
    pub read_rate: Count,
    /// Reads in all, at least; the load goes on until they are done.
    #[arg(long, default_value = "100000")]
    pub reads: Count,
    /// SIGKILLs of the rebuilding projector on the way.
    #[arg(long, default_value_t = 1)]
    pub kills: u32,
    /// Replay's rate limit in events per second; 0 is as fast as it goes.
    #[arg(long, default_value = "0")]
    pub rate_limit: Count,
    /// Directory of the private stack; it is made and removed by the demo.
    #[arg(long, env = "REFOLD_STACK_DIR")]
    pub stack_dir: Option<PathBuf>,
    /// One JSON object as the last line on stdout.
    #[arg(long)]
    pub json: bool,
    /// The brokers to use instead of a private stack.
    #[arg(long, env = "REFOLD_BROKERS", requires = "postgres")]
    pub brokers: Option<String>,
    /// The database to use instead of a private stack.
    #[arg(long, env = "REFOLD_POSTGRES", requires = "brokers")]
    pub postgres: Option<String>,
}
