//! The flags of `repair` and `diff`.

use clap::Args;
use clap::ValueEnum;

use super::Count;
use super::KafkaArgs;
use super::LogArgs;
use super::StoreArgs;

/// `repair`
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The version whose rows are put right. No projector may own their partitions meanwhile.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// A key whose row is folded again from the log; as often as there are keys.
    #[arg(
        long = "key",
        value_name = "KEY",
        required_unless_present = "from_verify"
    )]
    pub keys: Vec<String>,
    /// The keys that the last scan (`verify`) named, and those that the log contradicted.
    #[arg(long, conflicts_with = "keys")]
    pub from_verify: bool,
    /// With -from-verify: the other version of the scan. Default: the one that this version replaces.
    #[arg(long, requires = "from_verify")]
    pub against: Option<String>,
    /// Say what would be changed and change nothing; exit 2 when there is something.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// Who asks, for the audit.
    #[arg(long, env = "REFOLD_ACTOR", default_value = "operator")]
    pub actor: String,
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

/// How differences are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
    /// With a line of names in front.
    Csv,
}

/// `diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The version that is looked at.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// The other one. Default: the one that this version replaces.
    #[arg(long)]
    pub against: Option<String>,
    /// Scan both tables now instead of telling what the last scan recorded.
    #[arg(long)]
    pub fresh: bool,
    /// Differences to tell at most.
    #[arg(long, default_value = "100")]
    pub limit: Count,
    /// table, json or csv.
    #[arg(long, value_enum, default_value_t = DiffFormat::Table)]
    pub format: DiffFormat,
    /// The keys alone, a line each.
    #[arg(long)]
    pub keys: bool,
    /// Those that differ as expected, too.
    #[arg(long)]
    pub expected: bool,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}
