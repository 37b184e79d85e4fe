//! The flags of `parked`.

use clap::Args;

use super::Count;
use super::StoreArgs;

/// `parked`
#[derive(Debug, Args)]
pub struct ParkedArgs {
    /// The version whose parked events are shown.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Only this partition's.
    #[arg(long)]
    pub partition: Option<i32>,
    /// Events to show at most, the first ones of each partition before those of the next.
    #[arg(long, default_value = "100")]
    pub limit: Count,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}
