//! The flags of the commands that end a version.

use std::time::Duration;

use clap::Args;
use refold_domain::duration::parse as duration;

use super::StoreArgs;

/// `retire`
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// The version to end. Not the one that serves.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Its name once more: what is dropped comes back by a rebuild only.
    #[arg(long, value_name = "VERSION")]
    pub confirm: Option<String>,
    /// How long its tables stay after it was retired. Longer than an api takes to notice.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub grace: Duration,
    /// How much longer to wait for transactions that may still read it.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// Refuse unless the registry is at this generation.
    #[arg(long)]
    pub if_generation: Option<i64>,
    /// Retire it and leave its tables.
    #[arg(long)]
    pub keep_tables: bool,
    /// Why, for the audit.
    #[arg(long, default_value = "retired by hand")]
    pub reason: String,
    /// Who asks, for the audit.
    #[arg(long, env = "REFOLD_ACTOR", default_value = "operator")]
    pub actor: String,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// `abort`
#[derive(Debug, Args)]
pub struct AbortArgs {
    /// The build to give up: a version that is building, ready or failed.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Its name once more: what is dropped comes back by a rebuild only.
    #[arg(long, value_name = "VERSION")]
    pub confirm: Option<String>,
    /// Refuse unless the registry is at this generation.
    #[arg(long)]
    pub if_generation: Option<i64>,
    /// How long its tables stay, if it was ready and could be read already.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub grace: Duration,
    /// How much longer to wait for its projectors and for transactions that may still read it.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// Why, for the audit.
    #[arg(long, default_value = "aborted by hand")]
    pub reason: String,
    /// Who asks, for the audit.
    #[arg(long, env = "REFOLD_ACTOR", default_value = "operator")]
    pub actor: String,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}
