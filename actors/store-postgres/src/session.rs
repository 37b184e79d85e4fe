//! One connection with deadlines, and a commit that is believed only when the
//! server says so.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use refold_ports::sink::StoreError;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::Connection;
use tokio_postgres::NoTls;
use tokio_postgres::Row;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::Statement;
use tokio_postgres::ToStatement;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

use crate::error::store_error;
use crate::parameter::Parameter;
use crate::parameter::typed;

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooler {
    /// Nothing: a connection is a session.
    #[default]
    None,
    /// A pooler that lends a session for one transaction at a time. Nothing is left in a
    /// session: every setting is local to its transaction, no statement has a name. Point
    /// reads and the registry work through it; writers, scans and whatever else needs a
    /// session of its own do not.
    Transaction,
}

/// How sessions are opened and how long they wait.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Where the server is and who we are there. Its `Debug` form hides the password.
    pub config: Config,
    /// Longest wait for one answer, enforced by the client: nothing on the
    /// server fires for a stopped backend. An apply batch has to fit in.
    pub deadline: Duration,
    /// Longest wait for the server to take the next piece of a bulk load. Longer
    /// than the deadline: a checkpoint may hold the disk, and a load that is
    /// given up begins again at its first row.
    pub copy_deadline: Duration,
    /// Longest wait for a primary key to be built.
    pub index_deadline: Duration,
    /// Whether a commit of the apply path waits for the disk. Off is safe (mark
    /// and rows are lost together) and the next take-over reads the log again.
    pub synchronous_commit: bool,
    /// Memory for sorting a primary key, in MiB.
    pub maintenance_work_mem_mib: u32,
    /// What the connection string leads to.
    pub pooler: Pooler,
}

impl SessionOptions {
    /// Default options for a connection URL or key-value string.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the string cannot be read.
    pub fn parse(dsn: &str) -> Result<Self, StoreError> {
        let config = dsn
            .parse()
            .map_err(|e| StoreError::Refused(format!("read the connection string: {e}")))?;
        Ok(Self {
            config,
            deadline: Duration::from_secs(10),
            copy_deadline: Duration::from_secs(60),
            index_deadline: Duration::from_secs(600),
            synchronous_commit: true,
            maintenance_work_mem_mib: 256,
            pooler: Pooler::None,
        })
    }
}

/// A connection and the task that drives it. Dropping it closes the socket.
pub(crate) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    deadline: Duration,
    /// Settings that each transaction begins with; empty where the session has them.
    local: &'static str,
    /// What was prepared by [`Session::keep`], by its text.
    kept: HashMap<&'static str, Statement>,
    /// Set by the connection's task when a warning says that the last commit waits no longer.
    pub(crate) standby_given_up: Arc<AtomicBool>,
}

/// What a transaction of the registry gets where no session can be set up.
const LOCAL: &str = "set local idle_in_transaction_session_timeout = '5s';
    set local synchronous_commit = on;
    set local client_min_messages = warning;
    set local search_path = pg_catalog;
    set local jit = off;";

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("deadline", &self.deadline)
            .field("closed", &self.client.is_closed())
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without its task the connection is gone at once, also when an answer is
        // outstanding: the server sees the end of the stream and rolls back.
        self.connection.abort();
    }
}

impl Session {
    /// Connects as `application_name` and sets the time-outs of a writer.
    pub(crate) async fn open(
        options: &SessionOptions,
        application_name: &str,
    ) -> Result<Self, StoreError> {
        let mut config = options.config.clone();
        config
            .application_name(application_name)
            .connect_timeout(options.deadline)
            .tcp_user_timeout(options.deadline)
            .keepalives_idle(options.deadline);
        let connecting = tokio::time::timeout(options.deadline, config.connect(NoTls));
        let (client, connection) = connecting
            .await
            .map_err(|_| too_late(&connecting_to(&options.config), options.deadline))?
            .map_err(|e| store_error(&connecting_to(&options.config), &e))?;
        let standby_given_up = Arc::new(AtomicBool::new(false));
        let connection = tokio::spawn(drive(connection, Arc::clone(&standby_given_up)));
        let session = Self {
            client,
            connection,
            deadline: options.deadline,
            local: match options.pooler {
                Pooler::None => "",
                Pooler::Transaction => LOCAL,
            },
            kept: HashMap::new(),
            standby_given_up,
        };
        if options.pooler == Pooler::None {
            let what = "set the session up";
            session.batch(what, &set_up(options)).await?;
        }
        Ok(session)
    }

    /// The client, for statements that [`Session::within`] guards.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for `answer` no longer than the session's deadline.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.within_time(what, self.deadline, answer).await
    }

    /// Waits for `answer` no longer than `deadline`.
    pub(crate) async fn within_time<T>(
        &self,
        what: &str,
        deadline: Duration,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(deadline, answer)
            .await
            .map_err(|_| too_late(what, deadline))?
            .map_err(|e| store_error(what, &e))
    }

    /// Runs a statement that answers one row.
    pub(crate) async fn one<T>(
        &self,
        what: &str,
        statement: &T,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, StoreError>
    where
        T: ?Sized + ToStatement + Sync,
    {
        self.within(what, self.client.query_one(statement, parameters))
            .await
    }

    /// Runs a statement without a name that answers one row.
    pub(crate) async fn one_typed(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Row, StoreError> {
        let parameters = typed(parameters);
        let rows = self.client.query_typed(sql, &parameters);
        let row = self.within(what, rows).await?.into_iter().next();
        row.ok_or_else(|| StoreError::Refused(format!("{what}: no row came back")))
    }

    /// Prepares those of the statements that are not prepared yet, for as long as this session
    /// lasts: the server parses and plans them once, and not while somebody waits for a lock
    /// that they took. Nothing is done where the session is lent by a pooler.
    pub(crate) async fn keep(&mut self, statements: &[&'static str]) -> Result<(), StoreError> {
        let untyped = statements.iter().map(|sql| (*sql, Vec::new()));
        self.keep_typed(untyped.collect()).await
    }

    /// The same with the types of the first parameters, which the server does not have to guess.
    pub(crate) async fn keep_typed(
        &mut self,
        statements: Vec<(&'static str, Vec<Type>)>,
    ) -> Result<(), StoreError> {
        if !self.local.is_empty() {
            return Ok(());
        }
        let this = &*self;
        let is_missing = |(sql, _): &(&'static str, _)| !this.kept.contains_key(sql);
        let missing = statements.into_iter().filter(is_missing);
        let preparing = missing.map(|(sql, types)| async move {
            let statement = this.client.prepare_typed(sql, &types);
            let statement = this.within("prepare a statement", statement).await?;
            Ok::<_, StoreError>((sql, statement))
        });
        let prepared = futures::future::try_join_all(preparing).await?;
        self.kept.extend(prepared);
        Ok(())
    }

    /// What [`Session::keep`] prepared for this text.
    pub(crate) fn kept(&self, sql: &str) -> Option<&Statement> {
        self.kept.get(sql)
    }

    /// Prepares a statement for this session.
    pub(crate) async fn prepare(&self, what: &str, sql: &str) -> Result<Statement, StoreError> {
        self.within(what, self.client.prepare(sql)).await
    }

    /// Runs statements without parameters.
    pub(crate) async fn batch(&self, what: &str, sql: &str) -> Result<(), StoreError> {
        self.within(what, self.client.batch_execute(sql)).await
    }

    /// Begins a transaction with the statements in `settings` (`set local ..`) and returns its id.
    pub(crate) async fn begin(&self, settings: &str) -> Result<String, StoreError> {
        let local = self.local;
        let sql = format!("begin; {local} {settings}; select pg_current_xact_id()::text");
        let messages = self.within("begin", self.client.simple_query(&sql)).await?;
        let xid = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        xid.ok_or_else(|| {
            StoreError::Refused("begin: the server told no transaction id".to_owned())
        })
    }

    /// Rolls back whatever is open.
    pub(crate) async fn rollback(&self) -> Result<(), StoreError> {
        self.batch("roll back", "rollback").await
    }
}

/// Drives a connection to its end, and takes note of commits that wait for no standby any more.
async fn drive<S, T>(mut connection: Connection<S, T>, standby_given_up: Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(|context| connection.poll_message(context));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::info!(%notice, "the server remarks");
                // Its text is in the server's language. Warnings of this code are few, and none
                // of the others comes from a commit; one too many is a promotion that has to be
                // asked for again. A warning comes before the answer that it belongs to.
                if *notice.code() == SqlState::WARNING {
                    standby_given_up.store(true, Ordering::Release);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a store connection ended");
                return;
            }
        }
    }
}

/// The step of connecting, with the addresses that were tried.
fn connecting_to(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = (0..).zip(config.get_hosts()).map(|(at, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        Host::Unix(path) => format!("{}:{}", path.display(), port(at)),
    });
    format!("connect to {}", hosts.collect::<Vec<_>>().join(","))
}

/// A stalled answer: what it was about and how long it was waited for.
fn too_late(what: &str, deadline: Duration) -> StoreError {
    StoreError::Disconnected(format!("{what}: no answer within {deadline:?}"))
}

/// The settings of a writer's session.
///
/// Plans never look at parameters and never scan a whole leaf: a plan made
/// while the leaf was empty would otherwise stay after millions of rows. No
/// parallel key build: partitions are loaded in parallel already.
fn set_up(options: &SessionOptions) -> String {
    let commit = if options.synchronous_commit {
        "on"
    } else {
        "off"
    };
    format!(
        "set idle_in_transaction_session_timeout = '5s';
         set lock_timeout = '2s';
         set client_min_messages = warning;
         set synchronous_commit = {commit};
         set maintenance_work_mem = '{}MB';
         set max_parallel_maintenance_workers = 0;
         set default_statistics_target = 10;
         set plan_cache_mode = force_generic_plan;
         set enable_seqscan = off;
         set jit = off;
         set search_path = pg_catalog;
         set timezone = 'UTC'",
        options.maintenance_work_mem_mib
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const XID: &str = "select pg_current_xact_id()::text";

    async fn session() -> Session {
        let dsn = refold_local::testing::stack().postgres.clone();
        let options = SessionOptions::parse(&dsn).expect("a connection string");
        Session::open(&options, "refold test")
            .await
            .expect("a session")
    }

    async fn begin(session: &Session) -> String {
        session
            .batch("begin", "begin")
            .await
            .expect("a transaction");
        let row = session.one("read the id", XID, &[]).await;
        row.expect("an id").get(0)
    }

    #[tokio::test]
    async fn a_commit_that_the_server_turned_into_a_rollback_is_reported() {
        let session = session().await;
        let xid = begin(&session).await;
        session
            .batch("fail", "select 1 / 0")
            .await
            .expect_err("an error that aborts the transaction");
        // The server answers this commit without an error.
        let outcome = session.commit(&xid).await;
        assert!(matches!(outcome, Err(StoreError::Retry(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_commit_that_is_in_is_reported() {
        let session = session().await;
        let xid = begin(&session).await;
        assert_eq!(session.commit(&xid).await, Ok(()));
    }

    #[tokio::test]
    async fn a_commit_outside_of_a_transaction_is_not_mistaken_for_one() {
        let session = session().await;
        let xid = begin(&session).await;
        session.rollback().await.expect("a rollback");
        let outcome = session.commit(&xid).await;
        assert!(matches!(outcome, Err(StoreError::Retry(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn an_error_behind_a_commit_does_not_hide_that_it_is_in() {
        let dsn = refold_local::testing::fresh_database("session").expect("a database");
        let options = SessionOptions::parse(&dsn).expect("a connection string");
        let session = Session::open(&options, "refold test").await;
        let session = session.expect("a session");
        // Takes the question that is sent with the commit, as a cancel that comes late would.
        let trap = "create schema trap;
            create function trap.pg_xact_status(text) returns text language plpgsql as
                $$ begin raise query_canceled using message = 'too late'; end $$;
            set search_path = trap, pg_catalog";
        session.batch("set the trap", trap).await.expect("a trap");
        let xid = begin(&session).await;
        assert_eq!(session.commit(&xid).await, Ok(()));
        let refused = session.batch("ask", "select pg_xact_status('3')").await;
        assert!(matches!(refused, Err(StoreError::Retry(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_ends_the_wait() {
        let mut session = session().await;
        session.deadline = Duration::from_millis(50);
        let outcome = session.batch("sleep", "select pg_sleep(30)").await;
        assert!(
            matches!(outcome, Err(StoreError::Disconnected(_))),
            "{outcome:?}"
        );
    }
}
