//! One connection with deadlines.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use refold_ports::source::SourceError;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Row;
use tokio_postgres::config::Host;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::ToSql;

use crate::failure::source_error;
use crate::failure::too_late;
use crate::options::EventStoreOptions;

/// The settings of a session that reads: statements by themselves, each with a snapshot of its
/// own. The plan of a read is the key's index and nothing else, also while a table has no
/// statistics.
const SET_UP: &str = "set default_transaction_isolation = 'read committed';
    set default_transaction_read_only = on;
    set lock_timeout = '2s';
    set client_min_messages = warning;
    set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off;
    set enable_bitmapscan = off;
    set enable_sort = off;
    set jit = off;
    set search_path = pg_catalog;
    set timezone = 'UTC'";

/// What tells a server from another one, and from itself after it was started again.
const SERVER: &str = "select (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint";

/// A connection and the task that drives it. Dropping it closes the socket.
pub(crate) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    deadline: Duration,
    /// The event table that it is for.
    table: String,
    /// When the server was started, microseconds since 1970; 0 where nobody asked.
    server: i64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("table", &self.table)
            .field("closed", &self.client.is_closed())
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Connects, to read an event table.
    pub(crate) async fn open(
        options: &EventStoreOptions,
        table: &str,
    ) -> Result<Self, SourceError> {
        let mut session = Self::connect(options, table).await?;
        session.batch("set the session up", SET_UP).await?;
        let what = "ask when the server was started";
        let row = session.within(what, session.client.query_one(SERVER, &[]));
        let row = row.await?;
        session.server = row
            .try_get(0)
            .map_err(|error| SourceError::Fatal(format!("{what}: {error}")))?;
        Ok(session)
    }

    /// Connects, and leaves the session as the server made it.
    pub(crate) async fn connect(
        options: &EventStoreOptions,
        table: &str,
    ) -> Result<Self, SourceError> {
        let mut config = options.config.clone();
        config
            .application_name("refold event log")
            .connect_timeout(options.deadline)
            .tcp_user_timeout(options.deadline)
            .keepalives_idle(options.deadline);
        if config.get_hosts().len() > 1 {
            // Of several servers the one that is written to: a standby has no end.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let what = connecting_to(&options.config);
        let connecting = tokio::time::timeout(options.deadline, config.connect(NoTls));
        let (client, connection) = connecting
            .await
            .map_err(|_| too_late(&what, options.deadline))?
            .map_err(|error| source_error(&what, table, &error))?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the event store ended");
            }
        });
        Ok(Self {
            client,
            connection,
            deadline: options.deadline,
            table: table.to_owned(),
            server: 0,
        })
    }

    /// The event table that it is for.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// The server, as it was started. A name may lead to another one each time: what is settled by
    /// one server is not what another one has, and least of all a standby.
    pub(crate) fn server(&self) -> i64 {
        self.server
    }

    /// The client, for statements that [`Session::within`] guards.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits for `answer` no longer than the session's deadline.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SourceError> {
        tokio::time::timeout(self.deadline, answer)
            .await
            .map_err(|_| too_late(what, self.deadline))?
            .map_err(|error| source_error(what, &self.table, &error))
    }

    /// Runs a statement and answers its rows.
    pub(crate) async fn rows(
        &self,
        what: &str,
        statement: &tokio_postgres::Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        self.within(what, self.client.query(statement, parameters))
            .await
    }

    /// Prepares a statement for this session.
    pub(crate) async fn prepare(
        &self,
        what: &str,
        sql: &str,
    ) -> Result<tokio_postgres::Statement, SourceError> {
        self.within(what, self.client.prepare(sql)).await
    }

    /// Runs statements without parameters.
    pub(crate) async fn batch(&self, what: &str, sql: &str) -> Result<(), SourceError> {
        self.within(what, self.client.batch_execute(sql)).await
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
    let hosts = hosts.collect::<Vec<_>>().join(",");
    format!("connect to the event store at {hosts}")
}
