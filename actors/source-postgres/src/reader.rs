//! The reader of one partition.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures::TryStreamExt as _;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use refold_ports::source::inside;
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::follower::Ends;
use crate::follower::Follower;
use crate::follower::made_anew;
use crate::follower::unreadable;
use crate::lines::Line;
use crate::lines::Lines;

/// Rows that the first read asks for: how large they are is not known yet.
const FIRST_ROWS: usize = 256;

/// Milliseconds from the Unix epoch to that of Postgres, 2000-01-01.
const EPOCH_MILLIS: i64 = 946_684_800_000;

/// Where the events of a read are, exclusive of its end.
const READ: &str = "read events";

/// Reads one partition of an event table.
pub(crate) struct EventReader {
    follower: Arc<Follower>,
    lines: Arc<Lines>,
    runtime: Handle,
    /// The table's id when the reader was opened.
    log: Uuid,
    partition: Partition,
    /// One past the last event that was delivered.
    position: Offset,
    /// One past what was passed: `position`, or the settled end behind trailing gaps.
    reached: Offset,
    /// Whether the caller was told that the log ends at `reached`.
    told: bool,
    /// The session of the follower by which `reached` was settled.
    session: u64,
    /// The server that settled the end.
    server: i64,
    /// Whether the last read failed: what was known before is not believed then.
    failed: bool,
    /// Rows that the next read asks for.
    rows: usize,
    broken: Option<SourceError>,
}

/// What ended a read of rows.
enum Taken {
    /// There may be more below the end.
    Enough,
    /// Everything up to the end is in the chunk.
    All,
}

impl EventReader {
    /// A reader at `from`, which lies inside of `ends`. Its reads are done by this runtime.
    pub(crate) fn new(
        follower: Arc<Follower>,
        lines: Arc<Lines>,
        (partition, from): (Partition, Offset),
        ends: Ends,
    ) -> Self {
        Self {
            follower,
            lines,
            runtime: Handle::current(),
            log: ends.log,
            partition,
            position: from,
            reached: from,
            told: false,
            session: ends.session,
            server: ends.server,
            failed: false,
            rows: FIRST_ROWS,
            broken: None,
        }
    }

    async fn fill(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        let until = Instant::now() + wait;
        let mut known = self.follower.known().filter(|_| !self.failed);
        // An end that was settled for somebody else may be long past.
        let mut is_news = false;
        loop {
            if let Some(ends) = known
                && let Some(end) = self.news(ends)?
            {
                match self.take(chunk, limit, end).await? {
                    Taken::Enough => {
                        self.told = false;
                        return Ok(());
                    }
                    Taken::All => self.reached = end,
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if !chunk.is_empty() || (is_news && !self.told) || left.is_zero() {
                if known.is_some() {
                    self.told = true;
                    chunk.set_end_of_log(self.reached);
                }
                return Ok(());
            }
            known = Some(self.follower.ask(left).await?);
            self.failed = false;
            is_news = true;
        }
    }

    /// The end, when it lies behind what was passed.
    fn news(&mut self, ends: Ends) -> Result<Option<Offset>, SourceError> {
        if ends.log != self.log {
            return Err(made_anew(self.lines.table()));
        }
        if ends.session != self.session {
            // The server may have been started again, or be another one. What it has forgotten
            // of, nobody committed; a position that was passed for that may be given again.
            self.reached = self.position;
            self.told = false;
            self.session = ends.session;
        }
        self.server = ends.server;
        inside(ends.watermarks(), self.partition, self.reached)?;
        Ok((ends.end > self.reached).then_some(ends.end))
    }

    /// Moves the events below `end` into the chunk, as far as they fit.
    async fn take(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        end: Offset,
    ) -> Result<Taken, SourceError> {
        let line = self.lines.line().await?;
        if line.session.server() != self.server {
            self.lines.give_up(&line).await;
            return Err(SourceError::Unreachable(format!(
                "{READ}: this server is not the one that settled the end of {}",
                self.lines.table()
            )));
        }
        let taken = self.take_by(&line, chunk, limit, end).await;
        if taken.as_ref().is_err_and(SourceError::is_transient) {
            self.lines.give_up(&line).await;
        }
        taken
    }

    async fn take_by(
        &mut self,
        line: &Line,
        chunk: &mut Chunk,
        limit: ReadLimit,
        end: Offset,
    ) -> Result<Taken, SourceError> {
        let asked = self.rows.min(limit.records).max(1);
        let from = self.reached.max(chunk.to());
        let count = asked as i64;
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&self.log, &self.partition.0, &from.0, &end.0, &count];
        let session = &line.session;
        let rows = session.client().query_raw(&line.read, parameters);
        let rows = session.within(READ, rows).await?;
        let mut rows = std::pin::pin!(rows);
        let mut taken = 0;
        let mut answered = false;
        while let Some(row) = session.within(READ, rows.try_next()).await? {
            if !answered {
                answered = true;
                self.check_start(&row, from)?;
            }
            let Some(event) = Event::of(&row).map_err(|e| unreadable(READ, &e))? else {
                break;
            };
            let size = event.key.len() + event.value.map_or(0, <[u8]>::len);
            if !chunk.is_empty() && chunk.bytes() + size > limit.bytes {
                self.rows = taken.max(1);
                return Ok(Taken::Enough);
            }
            self.put(chunk, &event)?;
            taken += 1;
        }
        if !answered {
            return Err(made_anew(line.session.table()));
        }
        if taken < asked {
            return Ok(Taken::All);
        }
        // Rows in a chunk's bytes at most, and not many more than last time.
        let fit = limit.bytes / (chunk.bytes() / taken).max(1);
        self.rows = (asked * 4).min(fit).max(1);
        self.reached = chunk.to();
        Ok(Taken::Enough)
    }

    /// Checks that the snapshot of these rows still has everything from `from` on.
    fn check_start(&self, row: &Row, from: Offset) -> Result<(), SourceError> {
        let low = row.try_get("low").map_err(|e| unreadable(READ, &e))?;
        if Offset(low) <= from {
            return Ok(());
        }
        Err(SourceError::Truncated {
            partition: self.partition,
            wanted: from,
            low: Offset(low),
        })
    }

    fn put(&self, chunk: &mut Chunk, event: &Event<'_>) -> Result<(), SourceError> {
        let offset = Offset(event.position);
        if chunk.push(offset, event.ts_millis, event.key, event.value) {
            return Ok(());
        }
        Err(SourceError::Corrupt {
            partition: self.partition,
            offset,
            reason: format!("it came behind {}, or a chunk would hold 4 GiB", chunk.to()),
        })
    }
}

/// A row as a record.
struct Event<'a> {
    position: i64,
    ts_millis: i64,
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// `None` for the row that a read without events has.
    fn of(row: &'a Row) -> Result<Option<Self>, tokio_postgres::Error> {
        let Some(position) = row.try_get(1)? else {
            return Ok(None);
        };
        let Micros(micros) = row.try_get(2)?;
        Ok(Some(Self {
            position,
            ts_millis: micros.div_euclid(1_000).saturating_add(EPOCH_MILLIS),
            key: row.try_get(3)?,
            value: row.try_get(4)?,
        }))
    }
}

/// A time as the server sends it: microseconds since 2000-01-01, and the ends of all times.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl ChunkReader for EventReader {
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        chunk.recycle(self.partition, self.position);
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        // Not the runtime's own way to block: a thread may call this from a future that it drives,
        // whose budget must not run out here, where nobody refills it.
        let runtime = self.runtime.clone();
        let _inside = runtime.enter();
        let filling = tokio::task::unconstrained(self.fill(chunk, limit, wait));
        let outcome = futures::executor::block_on(filling);
        match &outcome {
            Ok(()) => {
                self.position = chunk.to();
                self.reached = self.reached.max(self.position);
            }
            Err(error) => {
                // What a read that failed has put into the chunk is not delivered.
                chunk.recycle(self.partition, self.position);
                self.reached = self.position;
                self.told = false;
                self.failed = true;
                if !error.is_transient() {
                    self.broken = Some(error.clone());
                }
            }
        }
        outcome
    }
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("partition", &self.partition)
            .field("position", &self.position)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}
