//! `bench part`: one projector process of a benchmark. It prints what it spent; whoever
//! started it compares the state.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use refold_domain::fold::AnyProjection;
use refold_domain::position::Partition;
use refold_ports::LogSource;
use refold_store_postgres::SessionOptions;
use refold_system::PartitionSelection;
use refold_system::ProjectorOptions;
use serde_json::json;

use super::shortened::Shortened;
use crate::cli::BenchPartArgs;
use crate::cli::BenchReplayArgs;
use crate::cli::Failure;
use crate::command::bench;

/// No event of the accounts stream is larger in either wire form.
const EVENT_BYTES: usize = 512;

pub(crate) async fn run(
    args: &BenchPartArgs,
    projection: Arc<dyn AnyProjection>,
) -> Result<ExitCode, Failure> {
    let (brokers, topic, session) = ground(&args.replay)?;
    let source: Arc<dyn LogSource> = bench::source(&args.replay, &brokers, &topic)?;
    let source = match args.leave_share {
        Some(left) => Arc::new(Shortened {
            inner: source,
            left,
        }),
        None => source,
    };
    let began = unix_seconds();
    let measured = bench::measured(projection, source, &session, options(args)).await?;
    let mut figures = bench::figures(&args.replay, &measured);
    figures["began"] = json!(began);
    figures["ended"] = json!(unix_seconds());
    println!("{figures}");
    Ok(ExitCode::SUCCESS)
}

/// Brokers, topic and database that the flags name: a part has none of its own.
pub(super) fn ground(args: &BenchReplayArgs) -> Result<(String, String, SessionOptions), Failure> {
    let missing = |flag: &str| Failure::usage(format!("a part of a benchmark needs {flag}"));
    let brokers = args.brokers.clone().ok_or_else(|| missing("-brokers"))?;
    let topic = args.topic.clone().ok_or_else(|| missing("-topic"))?;
    let postgres = args.postgres.as_ref().ok_or_else(|| missing("-postgres"))?;
    let session = SessionOptions::parse(postgres)
        .map_err(|error| Failure::usage(format!("-postgres: {error}")))?;
    Ok((brokers, topic, session))
}

fn options(args: &BenchPartArgs) -> ProjectorOptions {
    let mut options = bench::projector_options(&args.replay);
    if let Some(share) = &args.only {
        let only = share.0.iter().copied().map(Partition);
        options.partitions = PartitionSelection::Only(only.collect());
    }
    if let Some(batch) = args.batch {
        options.batch = batch;
        // A batch is also cut by age and by bytes: here by its size alone, or the sweep would
        // measure those.
        options.batch_age = Duration::from_secs(2);
        options.tail_read_bytes = options
            .tail_read_bytes
            .max(batch.saturating_mul(EVENT_BYTES));
    }
    if let Some(bytes) = args.copy_frame_bytes {
        options.copy_frame_bytes = bytes;
    }
    if let Some(events) = args.chunk_events {
        options.bulk_read.records = events;
    }
    options
}

/// The wall clock, to tell the first start and the last end of several processes.
fn unix_seconds() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |since| since.as_secs_f64())
}
