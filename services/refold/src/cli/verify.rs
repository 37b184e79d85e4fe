//! The flags of `verify`.

use std::time::Duration;

use clap::Args;
use refold_domain::duration::parse as duration;

use super::Count;
use super::KafkaArgs;
use super::LogArgs;
use super::StoreArgs;
use super::StreamArgs;

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The version to verify.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Another version of the same projection, `log` for the log itself, folded again for a share
    /// of the keys by another way, `keys` for keys that have rows in two partitions, or `expected`
    /// for the known final state of a seeded log.
    #[arg(long)]
    pub against: String,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// Print the question as SQL that anyone can run, and ask nothing.
    #[arg(long)]
    pub sql: bool,
    /// Partitions that are compared at a time.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Memory for rows that wait for their partners, such as 1GiB.
    #[arg(long, default_value = "1GiB")]
    pub memory: Count,
    /// Rows a second that each worker reads at most. Default: no limit.
    #[arg(long)]
    pub rate: Option<Count>,
    /// The log: for `log`, and for another version to let it confirm rows that differ as expected.
    #[command(flatten)]
    pub log: LogArgs,
    /// For `log`: one key in so many is folded again; 1 for all of them.
    #[arg(long, default_value_t = 100)]
    pub one_of: u64,
    /// For `log`: which of the -one-of classes of keys, from 0 on; another one each night sees all.
    #[arg(long, default_value_t = 0)]
    pub class: u64,
    /// How the brokers are reached.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// For another version: the log is asked about so many keys that differ as expected. A promotion
    /// wants 10,000, or all there are.
    #[arg(long, default_value = "10k")]
    pub log_rows: Count,
    /// For another version: scan, and do not ask the log about what differs as expected.
    #[arg(long, conflicts_with = "confirm_only")]
    pub no_log: bool,
    /// For another version: scan nothing; ask the log about the rows of the last scan.
    #[arg(long)]
    pub confirm_only: bool,
    /// For another version: keys to name per partition and kind of difference.
    #[arg(long, default_value = "100")]
    pub sample: Count,
    /// The id of a scan that was stopped: it goes on behind the partitions that it finished.
    #[arg(long, value_name = "ID")]
    pub resume: Option<String>,
    /// For another version: compare again, so long after the comparison before began, until
    /// SIGINT or SIGTERM or until something is wrong. What the log gives for every key stays in
    /// memory, so that only what has come since is read. The known final state of a seeded log is not
    /// asked how many keys must differ.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["resume", "confirm_only"])]
    pub every: Option<Duration>,
    /// The stream that the log was seeded with (for `expected`, and to know how many keys must differ).
    #[command(flatten)]
    pub stream: StreamArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}
