//! The task that settles ends, for all readers of a process.
//!
//! Whoever wants to know the end asks for one that is settled by a look that begins later, and
//! waits for it. What is asked while a look is under way is answered together by the next one, so
//! that many partitions ask the server as often as one does.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_ports::source::SourceError;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Statement;
use uuid::Uuid;

use crate::facts::Facts;
use crate::options::EventStoreOptions;
use crate::session::Session;
use crate::settle::Candidate;
use crate::settle::Writer;

const HANDED_OUT: &str = include_str!("sql/handed_out.sql");
const HOLDERS: &str = include_str!("sql/holders.sql");

/// How far the write-ahead log was written and how far it is on disk.
const LOG: &str = "select (pg_current_wal_insert_lsn() - '0/0')::bigint as written,
    (pg_current_wal_flush_lsn() - '0/0')::bigint as durable";

/// A commit of nothing, which brings to disk what no commit does.
const FLUSH: &str = "select pg_logical_emit_message(true, 'refold', '')";

/// A look begins no sooner than this after the one before, however many readers ask.
const BETWEEN_LOOKS: Duration = Duration::from_millis(8);

/// The same behind a look that found no later end.
const BETWEEN_IDLE_LOOKS: Duration = Duration::from_millis(20);

/// The pauses while somebody is waited for: the first one, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Somebody who is waited for longer than this is told of.
const LONG: Duration = Duration::from_secs(10);

/// What is known of the ends of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// First position that was not deleted.
    pub(crate) low: Offset,
    /// The settled end, exclusive.
    pub(crate) end: Offset,
    /// The table's id.
    pub(crate) log: Uuid,
    /// How many partitions the table has.
    pub(crate) partitions: i32,
    /// The server that settled it, as it was started.
    pub(crate) server: i64,
    /// Counts the sessions by which ends were settled. After a change the server may have been
    /// started again, and of what nobody committed nothing is sure.
    pub(crate) session: u64,
}

impl Ends {
    /// The same as the ends of any of the partitions.
    pub(crate) fn watermarks(self) -> Watermarks {
        Watermarks {
            low: self.low,
            high: self.end,
        }
    }
}

/// What the task says.
#[derive(Debug, Clone)]
struct Said {
    /// Questions up to this one are answered.
    answered: u64,
    /// The last settled end of the table.
    known: Option<Ends>,
    /// What came in between since.
    trouble: Option<SourceError>,
    /// Who holds the next end back.
    held_by: Option<String>,
}

/// Asks for the ends of a table; shared by all readers.
#[derive(Debug)]
pub(crate) struct Follower {
    options: EventStoreOptions,
    table: String,
    board: Arc<Board>,
    task: Mutex<Option<(watch::Receiver<Said>, JoinHandle<()>)>>,
}

/// What the task and those who ask have in common.
#[derive(Debug, Default)]
struct Board {
    /// The number of the last question.
    asked: AtomicU64,
    question: Notify,
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some((_, task)) = self.slot().take() {
            task.abort();
        }
    }
}

impl Follower {
    pub(crate) fn new(options: &EventStoreOptions, table: &str) -> Self {
        Self {
            options: options.clone(),
            table: table.to_owned(),
            board: Arc::default(),
            task: Mutex::default(),
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<(watch::Receiver<Said>, JoinHandle<()>)>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the running task says; starts one when there is none.
    fn said(&self) -> watch::Receiver<Said> {
        let mut slot = self.slot();
        if let Some((said, task)) = &*slot
            && !task.is_finished()
        {
            return said.clone();
        }
        let (say, said) = watch::channel(Said {
            answered: self.board.asked.load(Ordering::Acquire),
            known: None,
            trouble: None,
            held_by: None,
        });
        let task = Task {
            options: self.options.clone(),
            table: self.table.clone(),
            board: Arc::clone(&self.board),
            say,
            sessions: 0,
        };
        let task = tokio::spawn(task.run());
        *slot = Some((said.clone(), task));
        said
    }

    /// The last settled end, if there is one. Asks nobody.
    pub(crate) fn known(&self) -> Option<Ends> {
        self.slot()
            .as_ref()
            .and_then(|(said, _)| said.borrow().known)
    }

    /// The end as it is settled by a look that begins now, or, where that takes longer than
    /// `wait`, the one before.
    ///
    /// # Errors
    /// What the task met; [`SourceError::Unreachable`] when no end was settled in time.
    pub(crate) async fn ask(&self, wait: Duration) -> Result<Ends, SourceError> {
        let mut said = self.said();
        let mine = self.board.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.board.question.notify_one();
        let answered = said.wait_for(|said| said.answered >= mine);
        let answer = tokio::time::timeout(wait, answered)
            .await
            .map(|answer| answer.map(|said| said.clone()));
        let said = match answer {
            Ok(Ok(said)) => said,
            Ok(Err(_)) => return Err(self.unreachable("the task that asks ended")),
            Err(_) => said.borrow().clone(),
        };
        match (said.trouble, said.known) {
            (Some(trouble), _) => Err(trouble),
            (None, Some(known)) => Ok(known),
            (None, None) => Err(self.unreachable(&match said.held_by {
                Some(who) => format!("it is held back by transaction {who}, which writes"),
                None => format!("no answer within {wait:?}"),
            })),
        }
    }

    fn unreachable(&self, why: &str) -> SourceError {
        SourceError::Unreachable(format!("ask for the end of {}: {why}", self.table))
    }
}

/// Settles an end for every question.
struct Task {
    options: EventStoreOptions,
    table: String,
    board: Arc<Board>,
    say: watch::Sender<Said>,
    sessions: u64,
}

impl Task {
    /// Ends when nobody is there to listen.
    async fn run(mut self) {
        let mut looker = None;
        loop {
            let begun = Instant::now();
            let asked = self.board.asked.load(Ordering::Acquire);
            if asked > self.say.borrow().answered {
                let outcome = self.settle(&mut looker).await;
                if outcome.is_err() {
                    looker = None;
                }
                let before = self.say.borrow().known.map(|ends| ends.end);
                let between = match outcome.as_ref().is_ok_and(|ends| Some(ends.end) == before) {
                    true => BETWEEN_IDLE_LOOKS,
                    false => BETWEEN_LOOKS,
                };
                self.say.send_modify(|said| {
                    said.answered = asked;
                    said.held_by = None;
                    match outcome {
                        Ok(ends) => (said.known, said.trouble) = (Some(ends), None),
                        Err(error) => said.trouble = Some(error),
                    }
                });
                tokio::time::sleep_until(begun + between).await;
            } else {
                tokio::select! {
                    () = self.board.question.notified() => {}
                    () = self.say.closed() => return,
                }
            }
        }
    }

    async fn settle(&mut self, looker: &mut Option<Looker>) -> Result<Ends, SourceError> {
        let looking = match looker.take().filter(|looker| !looker.session.is_closed()) {
            Some(looking) => looking,
            None => {
                self.sessions += 1;
                Looker::open(&self.options, &self.table).await?
            }
        };
        let looking = looker.insert(looking);
        let handed_out = looking.handed_out().await?;
        let mut candidate = Candidate::new(handed_out.last);
        let before = looking.end;
        if before.is_some_and(|before| candidate.bound() < before) {
            let bound = candidate.bound();
            return Err(SourceError::Fatal(format!(
                "the sequence of event table {} was set back: it stands in front of {bound} and stood behind it; positions that were read may be given again, so the log cannot be followed any more",
                self.table
            )));
        }
        let end = match before {
            // All that was handed out is settled already, and nothing was handed out since.
            Some(before) if candidate.bound() == before => before,
            _ => {
                let end = self.wait_for_writers(&mut candidate, looking).await?;
                looking.make_durable().await?;
                end
            }
        };
        looking.end = Some(end);
        Ok(Ends {
            low: handed_out.low,
            end,
            log: looking.facts.id,
            partitions: looking.facts.partitions,
            server: looking.session.server(),
            session: self.sessions,
        })
    }

    /// Looks at the writers until nobody has to be waited for; the settled end.
    async fn wait_for_writers(
        &self,
        candidate: &mut Candidate,
        looking: &Looker,
    ) -> Result<Offset, SourceError> {
        let begun = Instant::now();
        let mut pause = PAUSES.0;
        let mut warned = false;
        loop {
            if let Some(end) = candidate.look(&looking.writers().await?) {
                return Ok(end);
            }
            let held_by = candidate.waits_for();
            if begun.elapsed() > LONG && !warned {
                warned = true;
                tracing::warn!(table = %self.table, transaction = %held_by, "a transaction that writes holds the end of the log back");
            }
            self.say.send_modify(|said| said.held_by = Some(held_by));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// What was handed out when it was asked.
struct HandedOut {
    last: Option<i64>,
    low: Offset,
}

/// A session that looks at the sequence and at locks, in statements of their own.
struct Looker {
    session: Session,
    facts: Facts,
    table: String,
    handed_out: Statement,
    holders: Statement,
    log: Statement,
    /// The end that was settled last by this session.
    end: Option<Offset>,
}

impl Looker {
    async fn open(options: &EventStoreOptions, table: &str) -> Result<Self, SourceError> {
        let session = Session::open(options, table).await?;
        let facts = Facts::ask(&session, table).await?;
        let prepare = "prepare to ask for the end of the log";
        Ok(Self {
            handed_out: session.prepare(prepare, HANDED_OUT).await?,
            holders: session.prepare(prepare, HOLDERS).await?,
            log: session.prepare(prepare, LOG).await?,
            session,
            facts,
            table: table.to_owned(),
            end: None,
        })
    }

    async fn handed_out(&self) -> Result<HandedOut, SourceError> {
        let Facts { id, sequence, .. } = &self.facts;
        let what = "ask for the last position";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&self.table, id, sequence];
        let rows = self
            .session
            .rows(what, &self.handed_out, &parameters)
            .await?;
        let Some(row) = rows.first() else {
            return Err(made_anew(&self.table));
        };
        let read = |error| unreadable(what, &error);
        Ok(HandedOut {
            last: row.try_get("last").map_err(read)?,
            low: Offset(row.try_get("low").map_err(read)?),
        })
    }

    async fn writers(&self) -> Result<Vec<Writer>, SourceError> {
        let what = "ask who writes";
        let rows = self
            .session
            .rows(what, &self.holders, &[&self.facts.events])
            .await?;
        let writer = |row: &tokio_postgres::Row| {
            Ok(Writer {
                transaction: row.try_get("transaction")?,
                first: row.try_get("first")?,
            })
        };
        let writers: Result<_, tokio_postgres::Error> = rows.iter().map(writer).collect();
        writers.map_err(|error| unreadable(what, &error))
    }

    /// Waits until everything that was written before is on disk: neither what was handed out
    /// for nothing nor what was committed without waiting for the disk is forgotten then.
    async fn make_durable(&self) -> Result<(), SourceError> {
        let (written, mut durable) = self.log().await?;
        let mut pause = PAUSES.0;
        while durable < written {
            tokio::time::sleep(pause).await;
            if pause > PAUSES.0 * 4 {
                // It is not on its way: a transaction that was rolled back, for one, waits for nobody.
                let flush = "bring the write-ahead log to disk";
                self.session.batch(flush, FLUSH).await?;
            }
            pause = (pause * 2).min(PAUSES.1);
            (_, durable) = self.log().await?;
        }
        Ok(())
    }

    async fn log(&self) -> Result<(i64, i64), SourceError> {
        let what = "ask how far the write-ahead log is on disk";
        let rows = self.session.rows(what, &self.log, &[]).await?;
        let row = rows.first().ok_or_else(|| made_anew(&self.table))?;
        let read = |error| unreadable(what, &error);
        Ok((
            row.try_get("written").map_err(read)?,
            row.try_get("durable").map_err(read)?,
        ))
    }
}

pub(crate) fn made_anew(table: &str) -> SourceError {
    SourceError::Fatal(format!(
        "event table {table} was removed or made anew while it was read: start again"
    ))
}

pub(crate) fn unreadable(what: &str, error: &tokio_postgres::Error) -> SourceError {
    SourceError::Fatal(format!("{what}: {error}"))
}
