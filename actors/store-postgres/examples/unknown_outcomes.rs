//! Commits whose outcome their writer does not learn: `unknown_outcomes DIR [COUNT] [SEED]`.
//!
//! A proxy stands between the writer and a real server. Each commit meets one of three fates:
//! the connection breaks before the server sees it; the server makes it durable and the
//! connection breaks before the answer; or it stands in front of the server, its row locked and
//! its writer dead, while a successor takes the partition over, and arrives then. The successor
//! asks by a take-over, sends what is not in again, and all rows and sums are compared with what
//! they must be. Prints one JSON object.

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::batch::WriteBatch;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_ports::PartitionWriter;
use refold_ports::Sink;
use refold_ports::conformance::store::Break;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::expect_pictured;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;
use serde_json::Value;
use serde_json::json;
use tokio_postgres::Client;

use support::Postgres;

/// Rows of the table.
const ROWS: usize = 200;

/// Most rows of a batch.
const MOST_CHANGED: usize = 8;

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The connection breaks before the server sees it.
    NeverArrives,
    /// The server makes it durable, and its answer is lost.
    AnswerLost,
    /// Its writer is dead; it arrives while the successor waits for its row.
    InFlight,
}

const FATES: [Fate; 3] = [Fate::NeverArrives, Fate::AnswerLost, Fate::InFlight];

type Writer = Box<dyn PartitionWriter>;
type Failure = Box<dyn Error + Send + Sync>;

/// What was counted, by looking at the row afterwards.
#[derive(Debug, Default)]
struct Counts {
    never_arrived: u64,
    answer_lost: u64,
    in_flight: u64,
    /// The row says something else than the fate: neither range end, or the other one.
    unexpected: u64,
    /// A plain read before the take-over showed a mark that did not stay.
    misleading_reads: u64,
    /// Looks at the table that found another row, or other sums.
    differences: u64,
    rows_compared: u64,
    take_overs: Vec<Duration>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map(PathBuf::from);
    let dir = dir.ok_or("usage: unknown_outcomes DIR [COUNT] [SEED]")?;
    let number = |text: Option<String>, default: u64| text.map_or(Ok(default), |t| t.parse());
    let (count, seed) = (number(args.next(), 2_400)?, number(args.next(), 42)?);
    std::fs::create_dir_all(&dir)?;
    let server = PostgresServer::start(&dir, PostgresOptions::default())?;
    let began = Instant::now();
    let counts = play(&server.dsn(), count, seed).await?;
    let result = counts.told(count, seed, began.elapsed());
    println!("{result}");
    let clean = counts.differences == 0 && counts.unexpected == 0;
    Ok(ExitCode::from(if clean { 0 } else { 2 }))
}

async fn play(dsn: &str, count: u64, seed: u64) -> Result<Counts, Failure> {
    let postgres = Postgres::at(dsn).await;
    let look = postgres.client().await;
    let loaded = loaded(&postgres, &WIDE_V1, 0, ROWS as i64).await;
    let (mut writer, picture) = loaded.map_err(|e| e.to_string())?;
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut fates: Vec<Fate> = FATES.into_iter().cycle().take(count as usize).collect();
    dice.shuffle(&mut fates);
    let mut table = Table {
        picture,
        seqs: vec![1; ROWS],
        next: ROWS as i64,
    };
    let mut counts = Counts::default();
    for fate in fates {
        let from = table.next;
        let batch = Arc::new(table.change(&mut dice)?);
        let going = meet(&postgres, writer, &batch, fate).await?;
        let seen = mark(&look).await?;
        let begun = Instant::now();
        writer = going.take_over(&postgres, &look).await?;
        counts.take_overs.push(begun.elapsed());
        let found = writer.lease().next.0;
        counts.misleading_reads += u64::from(seen != found);
        match (fate, found == table.next, found == from) {
            (Fate::NeverArrives, false, true) => counts.never_arrived += 1,
            (Fate::AnswerLost, true, false) => counts.answer_lost += 1,
            (Fate::InFlight, true, false) => counts.in_flight += 1,
            _ => counts.unexpected += 1,
        }
        if found == from {
            writer.commit(&batch).await?;
        }
        let same = expect_pictured(writer.as_mut(), &table.picture).await;
        counts.differences += u64::from(same.is_err());
        counts.rows_compared += ROWS as u64;
    }
    Ok(counts)
}

/// The rows as they must be.
struct Table {
    picture: Picture,
    seqs: Vec<i64>,
    /// Offset of the next event.
    next: i64,
}

impl Table {
    /// Changes some rows, an event each.
    fn change(&mut self, dice: &mut fastrand::Rng) -> Result<WriteBatch, Failure> {
        let from = self.next;
        for _ in 0..dice.usize(1..=MOST_CHANGED) {
            let key = dice.usize(0..ROWS);
            self.seqs[key] += 1;
            let (n, off) = (dice.i64(0..1_000_000), self.next);
            let put = self
                .picture
                .put(&int_cell(key as i64), n, self.seqs[key], off);
            put.map_err(|e| e.to_string())?;
            self.next += 1;
        }
        let batch = self.picture.batch(from, self.next);
        Ok(batch.map_err(|e| e.to_string())?)
    }
}

/// A commit on its way, whose writer is gone.
enum Going {
    Decided,
    Held(tokio::sync::oneshot::Sender<()>),
}

/// Lets a commit meet its fate. Its writer learns nothing, and is gone.
async fn meet(
    postgres: &Postgres,
    mut writer: Writer,
    batch: &Arc<WriteBatch>,
    fate: Fate,
) -> Result<Going, Failure> {
    let moment = match fate {
        Fate::NeverArrives => Break::Before,
        Fate::AnswerLost => Break::After,
        Fate::InFlight => {
            let held = postgres.proxy.hold_next_commit();
            let batch = Arc::clone(batch);
            let owner = tokio::spawn(async move { writer.commit(&batch).await });
            let go = held.arrived().await;
            owner.abort();
            // Ended in the middle, as asked.
            drop(owner.await);
            return Ok(Going::Held(go));
        }
    };
    postgres.proxy.break_next_commit(moment);
    match writer.commit(batch).await {
        Err(StoreError::Disconnected(_)) => {}
        other => return Err(format!("the commit was answered: {other:?}").into()),
    }
    Ok(Going::Decided)
}

impl Going {
    /// Asks what is in. The writer that this answers goes through the proxy again.
    async fn take_over(self, postgres: &Postgres, look: &Client) -> Result<Writer, Failure> {
        let version = version(look).await?;
        let Self::Held(go) = self else {
            return take(postgres.sink(), version).await;
        };
        let sink = postgres.direct_sink();
        let taking = tokio::spawn(async move {
            let writer = take(&sink, version).await?;
            Ok::<_, Failure>(writer.lease().next)
        });
        wait_for_the_row(look).await?;
        // A commit whose connection was ended in the meantime is lost, not doubled.
        let _ = go.send(());
        let found = taking.await??;
        let writer = take(postgres.sink(), version).await?;
        match writer.lease().next == found {
            true => Ok(writer),
            false => Err("a second take-over found another mark than the first".into()),
        }
    }
}

async fn take(sink: &dyn Sink, version: VersionId) -> Result<Writer, Failure> {
    let taken = sink.take_over(TakeOver::from_anyone(
        version,
        &WIDE_V1,
        Partition(0),
        Offset(0),
    ));
    Ok(taken.await?)
}

/// Waits until a take-over waits for the row that the held commit has locked.
async fn wait_for_the_row(look: &Client) -> Result<(), Failure> {
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                   and wait_event_type = 'Lock' and query like '%take_over%'";
    let deadline = Instant::now() + Duration::from_secs(10);
    while look.query_one(waiting, &[]).await?.get::<_, i64>(0) == 0 {
        if Instant::now() > deadline {
            return Err("no take-over waits for the row".into());
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A plain read of the mark: what resuming must never go by.
async fn mark(look: &Client) -> Result<i64, Failure> {
    let sql = "select next_offset from refold.offsets where partition = 0";
    Ok(look.query_one(sql, &[]).await?.get(0))
}

async fn version(look: &Client) -> Result<VersionId, Failure> {
    let row = look
        .query_one("select id from refold.versions", &[])
        .await?;
    Ok(VersionId(row.get(0)))
}

impl Counts {
    fn told(&self, count: u64, seed: u64, took: Duration) -> Value {
        let mut take_overs = self.take_overs.clone();
        take_overs.sort_unstable();
        let quantile = |q: f64| {
            let at = (take_overs.len().saturating_sub(1)) as f64 * q;
            let at = take_overs.get(at as usize);
            at.map(|took| took.as_secs_f64() * 1e3)
        };
        json!({
            "schema": "refold.unknown-outcomes/1",
            "unknown": count,
            "never_arrived": self.never_arrived,
            "in_flight": self.in_flight,
            "committed_answer_lost": self.answer_lost,
            "unexpected": self.unexpected,
            "differences": self.differences,
            "rows_compared": self.rows_compared,
            "misleading_plain_reads": self.misleading_reads,
            "take_over_p50_ms": quantile(0.5),
            "take_over_p99_ms": quantile(0.99),
            "take_over_max_ms": quantile(1.0),
            "seed": seed,
            "seconds": took.as_secs_f64(),
        })
    }
}
