//! The flags of the commands that end a version, or begin it once more.

use std::time::Duration;

use clap::Args;
use refold_domain::duration::parse as duration;

use super::StoreArgs;

/// `retire`
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// What both commands share.
    #[command(flatten)]
    pub ending: EndingArgs,
    /// Retire it and leave its tables.
    #[arg(long)]
    pub keep_tables: bool,
}

/// `abort`
#[derive(Debug, Args)]
pub struct AbortArgs {
    /// What both commands share.
    #[command(flatten)]
    pub ending: EndingArgs,
}

/// `reset`
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The version to build again. One that never served: building, ready or failed.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Its name once more: what was built of it goes.
    #[arg(long, value_name = "VERSION")]
    pub confirm: Option<String>,
    /// How long to wait for its projectors and for transactions that may still read it.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// Why, for the audit and the version's note.
    #[arg(long, default_value = "built again by hand")]
    pub reason: String,
    /// Who asks, for the audit.
    #[arg(long, env = "REFOLD_ACTOR", default_value = "operator")]
    pub actor: String,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Which version ends, and how.
#[derive(Debug, Args)]
pub struct EndingArgs {
    /// The version to end. Not the one that serves; `abort` wants one that never did.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Its name once more: what is dropped comes back by a rebuild only.
    #[arg(long, value_name = "VERSION")]
    pub confirm: Option<String>,
    /// Refuse unless the registry is at this generation.
    #[arg(long)]
    pub if_generation: Option<i64>,
    /// How long its tables stay if they could be read. Longer than an api takes to notice.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub grace: Duration,
    /// How much longer to wait for its projectors and for transactions that may still read it.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// Why, for the audit.
    #[arg(long, default_value = "ended by hand")]
    pub reason: String,
    /// Who asks, for the audit.
    #[arg(long, env = "REFOLD_ACTOR", default_value = "operator")]
    pub actor: String,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}
