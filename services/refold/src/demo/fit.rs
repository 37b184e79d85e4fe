//! Whether a log and its tables fit on the disk: measured on a small log of the same kind
//! before a large one is written.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use refold_bench::disk::bytes_below;
use refold_local::Stack;
use refold_local::StackOptions;
use refold_local::settings::WalLevel;
use serde::Deserialize;
use serde::Serialize;

use super::processes::Role;
use super::scene::served;
use super::scene::start_stack;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::machine;

/// What a small log of the same kind takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Events in it.
    pub(super) events: u64,
    /// Bytes of log an event on the disk.
    pub(super) log_bytes_per_event: f64,
    /// Bytes a row of all tables together, keys included.
    pub(super) table_bytes_per_row: f64,
    /// Events written a second.
    pub(super) seeded_per_second: f64,
}

/// What is measured, and where.
#[derive(Debug)]
pub(super) struct Sampling<'a> {
    /// Its stack is in here, and gone afterwards.
    pub(super) dir: PathBuf,
    /// Flags that describe the log, without the numbers of events and aggregates.
    pub(super) stream: &'a [String],
    /// Events and aggregates.
    pub(super) size: (u64, u64),
    /// Compression of the log.
    pub(super) codec: &'a str,
    /// The versions whose tables count.
    pub(super) versions: &'a [&'a str],
    /// How the large run's database logs.
    pub(super) wal_level: WalLevel,
}

const BOUND: Duration = Duration::from_secs(3_600);
const TOPIC: &str = "sample";

/// Writes a small log, builds the versions from it, and looks at the disk.
pub(super) async fn sample(what: &Sampling<'_>) -> Result<Sample, Failure> {
    let options = StackOptions {
        wal_level: what.wal_level,
        ..StackOptions::new(&what.dir)
    };
    std::fs::create_dir_all(&what.dir)
        .map_err(|error| Failure::error(&format!("create {}", what.dir.display()), error))?;
    let guard = start_stack(options).await?;
    let sampled = fill(what, guard.stack()).await;
    let purged = tokio::task::spawn_blocking(move || guard.stack().purge()).await;
    purged
        .map_err(|error| Failure::error("stop the stack", error))?
        .map_err(|error| Failure::error("stop the stack", error))?;
    sampled
}

async fn fill(what: &Sampling<'_>, stack: &Stack) -> Result<Sample, Failure> {
    let addresses = stack.addresses();
    let (brokers, postgres) = (served(addresses.kafka)?, served(addresses.postgres)?);
    let (events, aggregates) = what.size;
    let log = [format!("--brokers={brokers}"), format!("--topic={TOPIC}")];
    let mut seed = vec![
        "seed".to_owned(),
        format!("--events={events}"),
        format!("--aggregates={aggregates}"),
        format!("--codec={}", what.codec),
    ];
    seed.extend(what.stream.iter().cloned());
    seed.extend(log.iter().cloned());
    let began = std::time::Instant::now();
    Role::start("sample-seed", &what.dir, &seed, false)?
        .finish(BOUND)
        .await?;
    let seeded = began.elapsed().as_secs_f64();
    let tables = tables_dir(stack);
    let empty = bytes_below(&tables, &|_: &Path| true);
    for version in what.versions {
        let mut build = vec![
            "projector".to_owned(),
            "--mode=replay".to_owned(),
            format!("--version={version}"),
            format!("--postgres={postgres}"),
        ];
        build.extend(format_flag(what.stream));
        build.extend(log.iter().cloned());
        Role::start("sample-build", &what.dir, &build, false)?
            .finish(BOUND)
            .await?;
    }
    let filled = bytes_below(&tables, &|_: &Path| true);
    Ok(Sample {
        events,
        log_bytes_per_event: log_bytes(&what.dir, TOPIC) as f64 / events.max(1) as f64,
        table_bytes_per_row: filled.saturating_sub(empty) as f64 / aggregates.max(1) as f64,
        seeded_per_second: events as f64 / seeded,
    })
}

/// A projector knows the wire form only, not the shape of the stream.
fn format_flag(stream: &[String]) -> Option<String> {
    let mut flags = stream.iter();
    flags.find(|flag| flag.starts_with("--format=")).cloned()
}

/// Where a stack's Postgres keeps its tables.
pub(crate) fn tables_dir(stack: &Stack) -> PathBuf {
    postgres_home(stack).join("data/base")
}

/// Where a stack's Postgres keeps its write-ahead log.
pub(super) fn wal_dir(stack: &Stack) -> PathBuf {
    postgres_home(stack).join("data/pg_wal")
}

fn postgres_home(stack: &Stack) -> PathBuf {
    let servers = stack.status().servers;
    let postgres = servers
        .iter()
        .find(|server| server.name.contains("Postgres"));
    let home = postgres.and_then(|server| server.log.parent());
    home.map(Path::to_path_buf).unwrap_or_default()
}

/// Bytes on the disk of a topic's records, in a stack below `dir`; the broker's indexes not counted.
pub(crate) fn log_bytes(dir: &Path, topic: &str) -> u64 {
    bytes_below(&dir.join("kafka"), &|path: &Path| {
        let partition = path.parent().and_then(Path::file_name);
        let name = partition.and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(topic)?.strip_prefix('-'));
        let records = path.extension().is_some_and(|extension| extension == "log");
        records && number.is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

/// What has to hold before a large log is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes free on the disk now.
    pub(super) free: u64,
    /// Bytes that have to stay free.
    pub(super) keep: u64,
    /// Most bytes that the log may take.
    pub(super) log_limit: u64,
    /// Bytes that are there already and count: a log that is half written.
    pub(super) there: u64,
}

/// Most bytes that a write-ahead log grows to between two checkpoints, and some. That is so
/// whatever its level: loads into new tables may not be logged, but the live versions' batches
/// are, and in a large table nearly each row of them brings its page's image along.
const WAL_ALLOWANCE: f64 = 9e9;

/// Refuses a log that would not fit, with the largest that would.
pub(super) fn check(
    sample: &Sample,
    (events, aggregates): (u64, u64),
    room: &Room,
) -> Result<(), Failure> {
    let log = sample.log_bytes_per_event * events as f64;
    let tables = sample.table_bytes_per_row * aggregates as f64;
    let fixed = WAL_ALLOWANCE + room.keep as f64;
    let available = room.free as f64 + room.there as f64;
    let fits = log <= room.log_limit as f64 && log + tables + fixed <= available;
    if fits {
        return Ok(());
    }
    let per_event = (log + tables) / events.max(1) as f64;
    let by_disk = (available - fixed).max(0.0) / per_event;
    let by_limit = room.log_limit as f64 / sample.log_bytes_per_event;
    let sentence = format!(
        "{} events would take {} bytes of log (at most {} are allowed), {} of tables and {} beside them, \
         and the disk has {}: at most {} events of this kind fit; take fewer, make room, or a codec that packs more",
        Count(events),
        Count(log as u64),
        Count(room.log_limit),
        Count(tables as u64),
        Count(fixed as u64),
        Count(available as u64),
        Count(by_disk.min(by_limit) as u64),
    );
    Err(Failure::new(Kind::Refused, sentence))
}

/// The room on the disk of `dir`.
pub(super) fn room(dir: &Path, (keep, log_limit): (u64, u64), there: u64) -> Result<Room, Failure> {
    Ok(Room {
        free: machine::free_disk_bytes(dir)?,
        keep,
        log_limit,
        there,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Sample = Sample {
        events: 10_000_000,
        log_bytes_per_event: 32.0,
        table_bytes_per_row: 250.0,
        seeded_per_second: 1e6,
    };

    fn room(free: u64) -> Room {
        Room {
            free,
            keep: 6_000_000_000,
            log_limit: 33_000_000_000,
            there: 0,
        }
    }

    #[test]
    fn a_log_that_fits_is_let_through_and_one_that_does_not_names_the_largest() {
        let billion = (1_000_000_000, 100_000_000);
        // 32 GB of log, 25 of tables, 9 of WAL, 6 to stay free.
        assert_eq!(check(&SAMPLE, billion, &room(72_000_000_001)), Ok(()));
        let refused = check(&SAMPLE, billion, &room(71_900_000_000));
        let refused = refused.expect_err("too large");
        assert_eq!(refused.kind, Kind::Refused);
        assert!(
            refused.sentence.contains("at most 998,245,614 events"),
            "{refused}"
        );
    }

    #[test]
    fn a_log_above_its_limit_is_refused_on_an_empty_disk_too() {
        let plump = Sample {
            log_bytes_per_event: 34.0,
            ..SAMPLE
        };
        let free = room(1_000_000_000_000);
        let billion = (1_000_000_000, 100_000_000);
        let refused = check(&plump, billion, &free).expect_err("too large");
        assert!(
            refused.sentence.contains("at most 970,588,235 events"),
            "{refused}"
        );
    }

    #[test]
    fn what_is_written_already_counts_as_room() {
        let half = Room {
            there: 16_000_000_000,
            ..room(56_100_000_000)
        };
        let billion = (1_000_000_000, 100_000_000);
        assert_eq!(check(&SAMPLE, billion, &half), Ok(()));
    }
}
