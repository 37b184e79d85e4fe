//! Pooled sessions for short transactions of the registry.
//!
//! A transaction wants a connection of its own, so it comes from a pool; point
//! reads do not (see `read_model`). A session that is given back inside a
//! transaction, because its future was dropped or its deadline passed, is thrown
//! away: the server rolls back when the socket closes.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bb8::ManageConnection;
use bb8::Pool;
use bb8::PooledConnection;
use bb8::QueueStrategy;
use bb8::RunError;
use refold_ports::registry::RegistryError;
use refold_ports::sink::StoreError;
use tokio_postgres::Row;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::FromSql;

use crate::parameter::Parameter;
use crate::parameter::typed;
use crate::session::Session;
use crate::session::SessionOptions;

/// Connections of the registry. Promotions, barriers and listings are few.
const POOL_SIZE: u32 = 8;

/// How long a caller waits for a connection.
const CHECK_OUT: Duration = Duration::from_secs(3);

/// How long a session counts as alive after its last check. One whose server went away is closed
/// as soon as that is known here; a check is a turn in front of every statement.
const ALIVE: Duration = Duration::from_secs(1);

/// How long a commit waits for a synchronous standby before its caller is told that it is in and
/// not confirmed. The rows that a switch locks stay locked meanwhile; readers take no locks.
const STANDBY_PATIENCE: Duration = Duration::from_secs(3);

/// Opens and checks the pool's sessions.
#[derive(Debug, Clone)]
pub(crate) struct SessionManager {
    options: Arc<SessionOptions>,
}

/// A session of the pool.
#[derive(Debug)]
pub(crate) struct PooledSession {
    session: Session,
    /// Set before `begin` and cleared after a known end.
    in_transaction: bool,
    /// When it answered to a check, or was opened.
    checked: Instant,
}

impl ManageConnection for SessionManager {
    type Connection = PooledSession;
    type Error = StoreError;

    async fn connect(&self) -> Result<PooledSession, StoreError> {
        let session = Session::open(&self.options, "refold registry").await?;
        Ok(PooledSession {
            session,
            in_transaction: false,
            checked: Instant::now(),
        })
    }

    async fn is_valid(&self, connection: &mut PooledSession) -> Result<(), StoreError> {
        if connection.checked.elapsed() < ALIVE {
            return Ok(());
        }
        let answered = connection.session.batch("check the connection", "").await;
        connection.checked = Instant::now();
        answered
    }

    fn has_broken(&self, connection: &mut PooledSession) -> bool {
        connection.in_transaction || connection.session.client().is_closed()
    }
}

/// The registry's connections.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    pool: Pool<SessionManager>,
}

impl Sessions {
    /// A pool that connects on demand.
    pub(crate) fn new(options: &SessionOptions) -> Self {
        let mut options = options.clone();
        // What the registry answers has to outlive a crash of the server.
        options.synchronous_commit = true;
        let manager = SessionManager {
            options: Arc::new(options),
        };
        let pool = Pool::builder()
            .max_size(POOL_SIZE)
            .connection_timeout(CHECK_OUT)
            .retry_connection(false)
            // The session that was used last has the catalog and the plans in its memory.
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(manager);
        Self { pool }
    }

    async fn check_out(&self) -> Result<PooledConnection<'_, SessionManager>, RegistryError> {
        self.pool.get().await.map_err(|error| match error {
            RunError::User(error) => registry_error(error),
            RunError::TimedOut => {
                RegistryError::Unreachable(format!("no connection within {CHECK_OUT:?}"))
            }
        })
    }

    /// Runs one reading statement outside a transaction. It is prepared once for each connection:
    /// who waits for a barrier asks a hundred times a second, and planning the question takes
    /// longer than answering it.
    pub(crate) async fn query(
        &self,
        what: &str,
        sql: &'static str,
        parameters: &[&dyn Parameter],
    ) -> Result<Vec<Row>, RegistryError> {
        let mut connection = self.check_out().await?;
        let types = typed(parameters).into_iter().map(|(_, ty)| ty).collect();
        let kept = connection.session.keep_typed(vec![(sql, types)]).await;
        kept.map_err(registry_error)?;
        query(&connection.session, what, sql, parameters).await
    }

    /// Begins a writing transaction with the isolation and time-outs in `settings`
    /// (statements, `set local ..`).
    pub(crate) async fn begin(&self, settings: &str) -> Result<Transaction<'_>, RegistryError> {
        let transaction = self.start(&[]).await?;
        let xid = transaction.begin(settings).await?;
        Ok(transaction.with(xid))
    }

    /// Checks a connection out for a transaction whose first statements are sent with its
    /// `begin`. The `prepared` ones are prepared before that, once for each connection.
    pub(crate) async fn start(
        &self,
        prepared: &[&'static str],
    ) -> Result<Transaction<'_>, RegistryError> {
        let mut connection = self.check_out().await?;
        let kept = connection.session.keep(prepared).await;
        kept.map_err(registry_error)?;
        connection.in_transaction = true;
        Ok(Transaction {
            connection,
            xid: String::new(),
            begun: Instant::now(),
        })
    }
}

/// What a transaction that is in answered last.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) row: Row,
    /// Whether the server gave up waiting for a synchronous standby: it is in on the one server,
    /// and maybe nowhere else.
    pub(crate) standby_given_up: bool,
}

/// One open transaction. Dropping it closes its connection, which rolls it back.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    connection: PooledConnection<'a, SessionManager>,
    /// Its id, by which its commit is checked; empty until `begin` was answered, and a commit
    /// without one is refused.
    xid: String,
    begun: Instant,
}

impl Transaction<'_> {
    /// When it was begun, without the wait for a connection.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    fn session(&self) -> &Session {
        &self.connection.session
    }

    /// Sends `begin` with `settings` and returns the transaction's id. What is polled after
    /// this future reaches the server behind it; if it fails, that ran outside of any
    /// transaction, so nothing that writes may be sent along.
    pub(crate) async fn begin(&self, settings: &str) -> Result<String, RegistryError> {
        let xid = self.session().begin(settings).await;
        xid.map_err(registry_error)
    }

    /// The transaction that `begin` answered `xid` for.
    pub(crate) fn with(self, xid: String) -> Self {
        Self { xid, ..self }
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn query(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Vec<Row>, RegistryError> {
        query(self.session(), what, sql, parameters).await
    }

    /// Runs a statement that answers at most one row.
    pub(crate) async fn first(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Option<Row>, RegistryError> {
        Ok(self.query(what, sql, parameters).await?.into_iter().next())
    }

    /// Runs a statement that answers one row.
    pub(crate) async fn one(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Row, RegistryError> {
        let row = self.first(what, sql, parameters).await?;
        row.ok_or_else(|| RegistryError::Failed(format!("{what}: no row came back")))
    }

    /// Commits, and returns `Ok` only when the transaction is known to be in.
    pub(crate) async fn commit(mut self) -> Result<(), RegistryError> {
        let outcome = self.session().commit(&self.xid).await;
        outcome.map_err(registry_error)?;
        self.connection.in_transaction = false;
        Ok(())
    }

    /// Runs a statement that answers one row and commits, both in one wait: the server takes the
    /// commit when the statement is through, and turns it into a rollback when it failed.
    ///
    /// # Errors
    /// The statement's error, after which nothing has changed, unless the commit is known to be
    /// in: then only the row was lost, and the caller may ask for it again.
    ///
    /// A synchronous standby is waited for within a bound; [`Committed`] tells how that ended.
    pub(crate) async fn one_and_commit(
        mut self,
        what: &str,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Committed, RegistryError> {
        // This macro polls in the order in which they stand here; that is the order on the wire.
        let (row, outcome) = futures::join!(
            self.one(what, sql, parameters),
            self.session().commit_within(&self.xid, STANDBY_PATIENCE)
        );
        match (row, outcome) {
            (Ok(row), Ok(commit)) => {
                // The pool throws away what is left in a transaction.
                self.connection.in_transaction = commit.cancelled;
                let standby_given_up = commit.standby_given_up;
                Ok(Committed {
                    row,
                    standby_given_up,
                })
            }
            (Ok(_), Err(outcome)) => Err(registry_error(outcome)),
            (Err(error), Err(_)) => Err(error),
            (Err(error), Ok(_)) => Err(RegistryError::Unreachable(format!(
                "{what}: it is in, and its answer was lost ({error}); ask again"
            ))),
        }
    }

    /// Gives everything up.
    pub(crate) async fn rollback(mut self) -> Result<(), RegistryError> {
        let outcome = self.session().rollback().await;
        outcome.map_err(registry_error)?;
        self.connection.in_transaction = false;
        Ok(())
    }
}

/// Runs a statement on a session, within the session's deadline: one message there and back.
pub(crate) async fn query(
    session: &Session,
    what: &str,
    sql: &str,
    parameters: &[&dyn Parameter],
) -> Result<Vec<Row>, RegistryError> {
    let rows = async {
        match session.kept(sql) {
            Some(statement) => {
                let values: Vec<_> = parameters.iter().map(|p| p.value()).collect();
                session.client().query(statement, &values).await
            }
            None => {
                let parameters = typed(parameters);
                session.client().query_typed(sql, &parameters).await
            }
        }
    };
    session.within(what, rows).await.map_err(registry_error)
}

/// A column of a row, by position or name.
pub(crate) fn field<'a, T: FromSql<'a>>(
    row: &'a Row,
    column: impl RowIndex + Display,
) -> Result<T, RegistryError> {
    row.try_get(column)
        .map_err(|e| RegistryError::Failed(format!("read an answer: {e}")))
}

/// What a store error means to a caller of the registry.
pub(crate) fn registry_error(error: StoreError) -> RegistryError {
    let sentence = error.to_string();
    match error {
        // A lock that somebody else holds, a disconnect, a full disk: it passes.
        StoreError::Retry(_) | StoreError::Disconnected(_) | StoreError::DiskFull(_) => {
            RegistryError::Unreachable(sentence)
        }
        StoreError::Fenced(_) | StoreError::CutAt { .. } | StoreError::Refused(_) => {
            RegistryError::Failed(sentence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sessions() -> Sessions {
        let dsn = refold_local::testing::fresh_database("transaction").expect("a database");
        let options = SessionOptions::parse(&dsn).expect("a connection string");
        let sessions = Sessions::new(&options);
        let client = sessions.check_out().await.expect("a connection");
        let made = client
            .session
            .batch("make a table", "create table public.t (n int primary key)");
        made.await.expect("a table");
        drop(client);
        sessions
    }

    async fn rows(sessions: &Sessions) -> i64 {
        let counted = sessions
            .query("count", "select count(*) from public.t", &[])
            .await;
        field(&counted.expect("an answer")[0], 0).expect("a number")
    }

    #[tokio::test]
    async fn a_statement_that_is_sent_with_its_commit_is_in_or_changed_nothing() {
        let sessions = sessions().await;
        let insert = "insert into public.t values ($1) returning n";
        let begun = sessions
            .begin("set local lock_timeout = '1s'")
            .await
            .expect("begun");
        let row = begun.one_and_commit("insert", insert, &[&1_i32]).await;
        assert_eq!(field::<i32>(&row.expect("a row").row, 0), Ok(1));
        assert_eq!(rows(&sessions).await, 1);

        let begun = sessions
            .begin("set local lock_timeout = '1s'")
            .await
            .expect("begun");
        begun
            .query("insert", insert, &[&2_i32])
            .await
            .expect("a row");
        let twice = begun.one_and_commit("insert", insert, &[&1_i32]).await;
        let sentence = twice.expect_err("a key comes twice").to_string();
        assert!(sentence.contains("duplicate key"), "{sentence}");
        assert_eq!(rows(&sessions).await, 1, "nor is what came before it");
    }

    #[tokio::test]
    async fn what_is_sent_with_a_begin_is_inside_of_the_transaction() {
        let sessions = sessions().await;
        let starting = sessions.start(&[]).await.expect("a connection");
        let (xid, seen) = futures::join!(
            starting.begin("set local lock_timeout = '1s'"),
            starting.one("ask", "select pg_current_xact_id()::text", &[])
        );
        let xid = xid.expect("begun");
        let seen: String = field(&seen.expect("an answer"), 0).expect("a text");
        assert_eq!(seen, xid);
        starting.with(xid).rollback().await.expect("rolled back");
        // A transaction that was not begun cannot be committed by mistake.
        let starting = sessions.start(&[]).await.expect("a connection");
        assert!(starting.commit().await.is_err());
    }
}
