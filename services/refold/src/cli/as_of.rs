//! The flags of `as-of`.

use clap::Args;
use refold_domain::as_of::Point;

use super::KafkaArgs;
use super::LogArgs;

/// `as-of`
#[derive(Debug, Args)]
pub struct AsOfArgs {
    /// The aggregate's id.
    #[arg(allow_negative_numbers = true)]
    pub id: String,
    /// The version whose fold and columns count, such as accounts_v4. It need not have been built.
    #[arg(long = "version", id = "projection_version", value_name = "VERSION")]
    pub version: String,
    /// Which point.
    #[command(flatten)]
    pub point: PointArgs,
    /// Tell what each event changed, of the last 1,000 in the state.
    #[arg(long)]
    pub trace: bool,
    /// One JSON object on stdout, as the api answers it.
    #[arg(long)]
    pub json: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
    /// How it is read.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// The point, one way or another.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct PointArgs {
    /// A moment in UTC, such as 2026-03-01 or 2026-03-01T09:14:00Z: the events that are not later
    /// by their own time, in the order of their offsets.
    #[arg(long, value_name = "TIME", value_parser = Point::time)]
    pub ts: Option<Point>,
    /// The events at or below this offset of the aggregate's partition.
    #[arg(long, value_name = "PARTITION:OFFSET", value_parser = Point::offset)]
    pub offset: Option<Point>,
    /// The first events of the aggregate, up to this number.
    #[arg(long, value_name = "N", value_parser = Point::seq)]
    pub seq: Option<Point>,
}

impl PointArgs {
    /// The one that is given.
    pub fn point(&self) -> Option<Point> {
        self.ts.or(self.offset).or(self.seq)
    }
}
