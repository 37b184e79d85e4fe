//! The flags of every command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
pub(super) use refold_domain::duration::parse as duration;

use super::AbortArgs;
use super::AsOfArgs;
use super::ChaosArgs;
use super::Count;
use super::EventTableArgs;
use super::KafkaArgs;
use super::LogArgs;
use super::ParkedArgs;
use super::Percent;
use super::ResetArgs;
use super::RetireArgs;
use super::Share;
use super::ThrottleArgs;
use super::repair::DiffArgs;
use super::repair::RepairArgs;
use super::runs::BenchArgs;
use super::runs::DemoArgs;
use super::runs::LoadArgs;
use super::verify::VerifyArgs;

/// Rebuild a Postgres read model from a Kafka log while the old one serves,
/// prove the new one right at an exact offset per partition, and switch.
#[derive(Debug, Parser)]
#[command(name = "refold", version, propagate_version = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the projectors of one version until they are told to stop.
    Projector(ProjectorArgs),
    /// Serve reads, the registry and promotions over HTTP.
    Api(ApiArgs),
    /// Promote a version: ask a running api for the gated switch.
    #[command(visible_alias = "promote")]
    Cutover(CutoverArgs),
    /// Write a deterministic log of accounts events, or look at one.
    Seed(SeedArgs),
    /// Prove a version equal to another one, or to the known final state, at one offset per partition.
    Verify(VerifyArgs),
    /// Tell the keys whose rows differ between two versions, of the last scan or a fresh one.
    Diff(DiffArgs),
    /// Fold keys again from the log and put their rows right where they are not what it gives.
    Repair(RepairArgs),
    /// Tell what an aggregate was at a point of the log: at an offset, a time, or one of its events.
    AsOf(AsOfArgs),
    /// Create a table in Postgres that is a log, or delete its head.
    EventTable(EventTableArgs),
    /// Show the versions and their partitions' marks.
    List(ListArgs),
    /// Show the events of a version that were put aside, and why.
    Parked(ParkedArgs),
    /// End a version that serves no more, or give a build up: the only step that destroys.
    Retire(RetireArgs),
    /// Give a build up: its projectors are refused from now on, and its tables go.
    Abort(AbortArgs),
    /// Begin a build once more, by the code of this program: all that was built of it goes.
    Reset(ResetArgs),
    /// Read at a fixed rate and report latencies and failed reads.
    Load(LoadArgs),
    /// Inject faults into a private stack and prove that they changed nothing.
    Chaos(ChaosArgs),
    /// Measure a replay of a topic into a new version.
    Bench(BenchArgs),
    /// The whole way on this machine: seed, live, rebuild, catch up, verify, promote under read load.
    Demo(DemoArgs),
}

/// The database.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Postgres address as a URL or key=value list, without a password.
    #[arg(long, env = "REFOLD_POSTGRES")]
    pub postgres: String,
    /// File that holds the password.
    #[arg(long, env = "REFOLD_POSTGRES_PASSWORD_FILE")]
    pub postgres_password_file: Option<PathBuf>,
}

/// A topic's wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Protocol buffers.
    Proto,
    /// JSON.
    Json,
}

/// The word of a wire form on the command line.
pub const fn word(format: Format) -> &'static str {
    match format {
        Format::Proto => "proto",
        Format::Json => "json",
    }
}

/// What a projector process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Keep a version at the tail of the log; activate it when it is the first of its name.
    Live,
    /// Rebuild a version beside the one that serves.
    Replay,
}

/// How a group of projectors is kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupProtocolArg {
    /// Cooperative sticky assignment among the members; every broker knows it.
    Classic,
    /// The broker assigns (KIP-848); for brokers from 4.0 on.
    Consumer,
}

/// `projector`
#[derive(Debug, Args)]
pub struct ProjectorArgs {
    /// live or replay.
    #[arg(long, env = "REFOLD_MODE", value_enum)]
    pub mode: Mode,
    /// The version, such as accounts_v4.
    #[arg(
        long = "version",
        id = "projection_version",
        value_name = "VERSION",
        env = "REFOLD_VERSION"
    )]
    pub version: String,
    /// Read from this offset of every partition again. What is in the table already is not applied
    /// twice; an offset above the durable mark is refused.
    #[arg(long, allow_negative_numbers = true)]
    pub from_offset: Option<i64>,
    /// Events per transaction in catch-up and live.
    #[arg(long, default_value = "10000")]
    pub batch: Count,
    /// No event waits longer for its transaction than this: how old a row may be against how many
    /// transactions there are. Each partition sends once in this time what it has, one after
    /// another, and at once what fills a transaction, as long as -transactions allow it. At most 10s.
    #[arg(long, default_value = "50ms", value_parser = duration)]
    pub batch_age: Duration,
    /// Most transactions of batches at once, over all partitions of this process. With more
    /// partitions than the database keeps up with, each waits for its turn and batches become larger.
    /// Default: four for each core of this machine, at least 8.
    #[arg(long)]
    pub transactions: Option<usize>,
    /// Events per second over all partitions of this process; 0 is as fast as it goes.
    #[arg(long, default_value = "0")]
    pub rate_limit: Count,
    /// What a replay may bear on the database.
    #[command(flatten)]
    pub throttle: ThrottleArgs,
    /// Park an event that cannot be decoded or folded, and all later events of its aggregate,
    /// instead of halting its partition in front of it: `refold parked` names them, and a version
    /// with parked events is promoted only by force.
    #[arg(long, env = "REFOLD_PARK")]
    pub park: bool,
    /// Let a batch's commit not wait for the disk. A crash of the server then loses the last
    /// batches together with their marks, and they are read from the log again.
    #[arg(long, env = "REFOLD_ASYNC_COMMIT")]
    pub async_commit: bool,
    /// Replay only: go on at the tail after history instead of ending.
    #[arg(long)]
    pub catch_up: bool,
    /// Only these partitions, such as 0-7. Default: all.
    #[arg(long)]
    pub partitions: Option<Share>,
    /// Share the partitions with every other process of this group, each of the same version and
    /// mode: Kafka's group coordinator says who works on which, and the fence in Postgres who may
    /// write. Positions are Postgres' all the same.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "partitions",
        env = "REFOLD_GROUP"
    )]
    pub group: Option<String>,
    /// How the group is kept together.
    #[arg(long, value_enum, requires = "group", default_value_t = GroupProtocolArg::Classic)]
    pub group_protocol: GroupProtocolArg,
    /// Memory for folding, over all partitions of this process.
    #[arg(long, default_value = "4GiB")]
    pub memory: Count,
    /// Partitions folded at once in bulk. Default: one more than the machine has cores.
    #[arg(long)]
    pub workers: Option<usize>,
    /// How often, at most, a history that is still being folded is made durable, so that a killed
    /// process goes on from there: less often where that would cost more than a tenth of the time,
    /// and not when the fold is nearly over; 0s is never.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub checkpoint: Duration,
    /// Where metrics and health are served.
    #[arg(long, env = "REFOLD_METRICS_LISTEN", default_value = "127.0.0.1:0")]
    pub metrics_listen: SocketAddr,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
    /// How it is read.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// `api`
#[derive(Debug, Args)]
pub struct ApiArgs {
    /// Address to listen on.
    #[arg(long, env = "REFOLD_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The projection that /aggregate/{id} answers from when the request names none.
    #[arg(long, default_value = "accounts")]
    pub projection: String,
    /// How long a promotion may wait for its barrier.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub cutover_deadline: Duration,
    /// Largest distance in events that the candidate may be behind the serving version.
    #[arg(long, default_value = "10000")]
    pub allowed_lag: Count,
    /// How old the last scan of both tables (`verify`) may be for a promotion, such as 10m; `none`
    /// asks for none and for no word of the log, but one that found something still holds a
    /// promotion back, and a row that the log contradicts.
    #[arg(long, default_value = "24h")]
    pub max_scan_age: ScanAge,
    /// How long the tables of a version that is ended over HTTP stay after it was retired.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub retire_grace: Duration,
    /// Ask this version for a share of the reads as well, off their path, and compare.
    #[arg(long, value_name = "VERSION", env = "REFOLD_SHADOW")]
    pub shadow: Option<String>,
    /// The share of the answered reads that -shadow compares, such as 1% or 0.1%.
    #[arg(long, default_value = "1%", requires = "shadow")]
    pub shadow_share: Percent,
    /// Where reads go, if not to -postgres: a streaming standby. One that lags answers with an
    /// older state, which is whole: version, mark and row are of one moment.
    #[arg(long, value_name = "POSTGRES", env = "REFOLD_READ_POSTGRES")]
    pub read_postgres: Option<String>,
    /// What -postgres leads to: the server itself, or a pooler that lends a session for one
    /// transaction at a time (PgBouncer's pool_mode=transaction).
    #[arg(long, value_enum, env = "REFOLD_POOLER", default_value_t = PoolerKind::None)]
    pub pooler: PoolerKind,
    /// The log that answers for the past (/aggregate/{id}/as-of). Without -brokers and -event-store
    /// nothing does, and all else works.
    #[command(flatten)]
    pub log: LogArgs,
    /// How the log is read.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What stands between the api and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PoolerKind {
    /// Nothing.
    None,
    /// A pooler in transaction mode.
    Transaction,
}

/// `cutover`
#[derive(Debug, Args)]
pub struct CutoverArgs {
    /// The version to promote, such as accounts_v4.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// The api.
    #[arg(long, env = "REFOLD_API", default_value = "http://127.0.0.1:8080")]
    pub api: String,
    /// Judge every gate and change nothing; exit 2 when the promotion would go through.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Refuse unless the registry is at this generation.
    #[arg(long)]
    pub if_generation: Option<i64>,
    /// How old the last scan of both tables (`verify`) may be, such as 10m; the api may ask
    /// for a younger one.
    #[arg(long, value_parser = duration)]
    pub max_scan_age: Option<Duration>,
    /// The one gate that shall not hold it back: verified, parked, gaps, keys or lag. Needs -reason.
    #[arg(long, value_name = "GATE", requires = "reason")]
    pub force: Option<String>,
    /// Why, for the audit.
    #[arg(long, requires = "force")]
    pub reason: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// The parameters of a deterministic log.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// Events in the log.
    #[arg(long, default_value = "2e6")]
    pub events: Count,
    /// Aggregates; each gets one creation event, the rest of the events are Zipf.
    #[arg(long, default_value = "2e5")]
    pub aggregates: Count,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 16)]
    pub partitions: i32,
    /// Zipf exponent of the aggregates' popularity.
    #[arg(long, default_value_t = 1.1)]
    pub zipf: f64,
    /// The number that decides every event.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// `seed`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SeedArgs {
    /// Something other than writing the log.
    #[command(subcommand)]
    pub action: Option<SeedAction>,
    /// Writing the log.
    #[command(flatten)]
    pub write: SeedWriteArgs,
}

/// Writing the log.
#[derive(Debug, Clone, Args)]
pub struct SeedWriteArgs {
    /// The stream.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// Compression of the log, with a level if need be: lz4, zstd:6.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// Bytes of a batch before it is compressed: larger ones make a smaller log.
    #[arg(long, default_value = "128KiB")]
    pub batch: Count,
    /// Events per second; 0 is as fast as it goes.
    #[arg(long, default_value = "0")]
    pub rate: Count,
    /// Copies of each partition, when the topic is created.
    #[arg(long, default_value_t = 1)]
    pub replication: i32,
    /// Kafka brokers, host:port, separated by commas. Needed to write.
    #[arg(long, env = "REFOLD_BROKERS")]
    pub brokers: Option<String>,
    /// The topic that holds the events.
    #[arg(long, env = "REFOLD_TOPIC", default_value = "accounts-events")]
    pub topic: String,
    /// Wire form of the topic's events.
    #[arg(long, env = "REFOLD_FORMAT", value_enum, default_value_t = Format::Proto)]
    pub format: Format,
}

/// The other things `seed` does.
#[derive(Debug, Subcommand)]
pub enum SeedAction {
    /// Show the profile of a log: skew, hot keys, bytes per event.
    Describe {
        /// The stream.
        #[command(flatten)]
        stream: StreamArgs,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Answer the row that an aggregate must have, or write all of them, for v3's and v4's rules.
    Expected {
        /// The stream.
        #[command(flatten)]
        stream: StreamArgs,
        /// csv or ndjson.
        #[arg(long, default_value = "csv")]
        output: String,
        /// Only this aggregate.
        #[arg(long)]
        id: Option<i64>,
        /// After this many of its events. Default: at the end of the log.
        #[arg(long)]
        at: Option<u64>,
    },
    /// Go on with the same stream at a fixed rate until stopped.
    Tail(SeedTailArgs),
}

/// `seed tail`: the parameters of the stream are stored beside the topic.
#[derive(Debug, Clone, Args)]
pub struct SeedTailArgs {
    /// Events per second over all partitions.
    #[arg(long, default_value = "20k")]
    pub rate: Count,
    /// Stop after this long. Default: when told to.
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Compression of the log.
    #[arg(long, default_value = "lz4")]
    pub codec: String,
    /// How long an event waits for others of its batch: a longer one is cheaper for everybody
    /// behind it.
    #[arg(long, value_parser = duration, default_value = "20ms")]
    pub linger: Duration,
    /// Print the ids that were just written, a line each, at most 100 a second.
    #[arg(long)]
    pub print_ids: bool,
    /// Read lines from stdin: `hold` delivers what is queued, answers `held` and writes nothing
    /// until `go`, which answers `going`.
    #[arg(long)]
    pub controlled: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// How old a scan may be, or that none is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanAge(pub Option<Duration>);

impl FromStr for ScanAge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            other => duration(other).map(|age| Self(Some(age))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_writes_by_default_and_has_verbs_beside() {
        let write = ["refold", "seed", "--brokers=b:1", "--events=1e3"];
        let Ok(Cli {
            command: Command::Seed(args),
        }) = Cli::try_parse_from(write)
        else {
            unreachable!("seed parses")
        };
        assert!(args.action.is_none());
        assert_eq!(args.write.brokers.as_deref(), Some("b:1"));
        assert_eq!(args.write.stream.events, Count(1_000));
        let describe = Cli::try_parse_from(["refold", "seed", "describe", "--events=5k"]);
        assert!(describe.is_ok(), "{describe:?}");
    }

    #[test]
    fn the_definition_of_the_commands_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
