//! Connections that many reads use at once.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::registry::ReadError;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Row;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

use crate::readable::Readable;
use crate::session::Pooler;
use crate::session::SessionOptions;

/// The settings of a reading session. A generic plan is never made again; no sequential scan, because a plan made while a leaf was
/// small would stay when it has grown.
const SET_UP: &str = "set default_transaction_read_only = on;
    set statement_timeout = '2s';
    set lock_timeout = '1s';
    set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off;
    set jit = off;
    set search_path = pg_catalog;
    set timezone = 'UTC'";

/// The same for one transaction, where a pooler lends the session for no longer.
const BEGIN: &str = "begin read only;
    set local statement_timeout = '2s';
    set local lock_timeout = '1s';
    set local idle_in_transaction_session_timeout = '5s';
    set local enable_seqscan = off;
    set local jit = off;
    set local search_path = pg_catalog;
    set local timezone = 'UTC'";

/// What a read asks for: the partition, the version that is taken to serve, and whether the
/// mark is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) partition: Partition,
    pub(crate) version: VersionId,
    pub(crate) marked: bool,
}

impl Asked {
    fn sql(&self, readable: &Readable) -> String {
        readable.sql(self.partition, self.version, self.marked)
    }
}

/// A set of versions, and what is asked of it.
type StatementKey = (u64, Asked);

/// A value with its SQL type.
pub(crate) type TypedValue<'a> = (&'a (dyn ToSql + Sync), Type);

/// One connection with what was prepared on it.
pub(crate) struct Connected {
    client: Client,
    connection: JoinHandle<()>,
    statements: RwLock<HashMap<StatementKey, Statement>>,
    pooler: Pooler,
    /// Held while the messages of one transaction are handed to the connection, so that no
    /// other read's come in between.
    turn: Mutex<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Connected {
    async fn open(config: &Config, pooler: Pooler) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a reading connection ended");
            }
        });
        let connected = Self {
            client,
            connection,
            statements: RwLock::default(),
            pooler,
            turn: Mutex::new(()),
        };
        if pooler == Pooler::None {
            connected.client.batch_execute(SET_UP).await?;
        }
        Ok(connected)
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Reads one aggregate, whose statement is prepared where the session is ours.
    pub(crate) async fn read(
        &self,
        readable: &Readable,
        asked: Asked,
        parameters: [&(dyn ToSql + Sync); 2],
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        match self.pooler {
            Pooler::None => {
                let statement = self.statement(readable, asked).await?;
                self.client.query_opt(&statement, &parameters).await
            }
            Pooler::Transaction => {
                let sql = asked.sql(readable);
                let types = readable.parameter_types();
                let typed: Vec<_> = parameters.into_iter().zip(types).collect();
                Ok(self.query(&sql, &typed).await?.into_iter().next())
            }
        }
    }

    /// Runs a reading statement without a name.
    pub(crate) async fn query(
        &self,
        sql: &str,
        parameters: &[TypedValue<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let rows = self.client.query_typed(sql, parameters);
        if self.pooler == Pooler::None {
            return rows.await;
        }
        let begun = self.client.batch_execute(BEGIN);
        let ended = self.client.batch_execute("commit");
        let mut all = pin!(futures::future::join3(begun, rows, ended));
        // Each hands its message over when it is polled first, in this order.
        let first = poll_fn(|cx| {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(all.as_mut().poll(cx))
        });
        let (begun, rows, ended) = match first.await {
            Poll::Ready(answers) => answers,
            Poll::Pending => all.await,
        };
        begun?;
        let rows = rows?;
        ended?;
        Ok(rows)
    }

    /// The statement for what is asked, prepared once. Two reads that come first at
    /// the same time prepare it both; the later one is kept.
    async fn statement(
        &self,
        readable: &Readable,
        asked: Asked,
    ) -> Result<Statement, tokio_postgres::Error> {
        let key = (readable.set, asked);
        if let Some(statement) = self.prepared(key) {
            return Ok(statement);
        }
        let (sql, types) = (asked.sql(readable), readable.parameter_types());
        let statement = self.client.prepare_typed(&sql, &types).await?;
        let mut statements = self
            .statements
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Statements of older sets are not asked for again once a new one is in
        // use; a set in use by another projection is prepared again, rarely.
        if statements.len() >= MAX_STATEMENTS {
            statements.retain(|(set, ..), _| *set == readable.set);
        }
        statements.insert(key, statement.clone());
        Ok(statement)
    }

    fn prepared(&self, key: StatementKey) -> Option<Statement> {
        let statements = self
            .statements
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        statements.get(&key).cloned()
    }
}

/// Prepared statements a connection keeps: some projections with 64 partitions each.
const MAX_STATEMENTS: usize = 1_024;

/// One place for a connection; replaced when it broke.
struct Slot {
    connected: RwLock<Option<Arc<Connected>>>,
    /// Held while connecting, so that a broken server sees one attempt at a time.
    connecting: tokio::sync::Mutex<()>,
}

/// A few connections, used in turn.
pub(crate) struct SharedClients {
    config: Config,
    pooler: Pooler,
    slots: Vec<Slot>,
    turn: AtomicUsize,
}

impl fmt::Debug for SharedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shared connections", self.slots.len())
    }
}

impl SharedClients {
    /// Connections that call themselves `application_name`, opened when they are needed.
    pub(crate) fn new(
        options: &SessionOptions,
        application_name: &str,
        clients: usize,
        deadline: Duration,
    ) -> Self {
        let mut config = options.config.clone();
        config
            .application_name(application_name)
            .connect_timeout(deadline)
            .tcp_user_timeout(deadline)
            .keepalives_idle(deadline);
        let slot = || Slot {
            connected: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(()),
        };
        Self {
            config,
            pooler: options.pooler,
            slots: (0..clients.max(1)).map(|_| slot()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The next connection in turn, opened if need be.
    pub(crate) async fn get(&self) -> Result<Arc<Connected>, ReadError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let slot = &self.slots[turn % self.slots.len()];
        if let Some(connected) = slot.usable() {
            return Ok(connected);
        }
        let _one_at_a_time = slot.connecting.lock().await;
        if let Some(connected) = slot.usable() {
            return Ok(connected);
        }
        let opened = Connected::open(&self.config, self.pooler).await;
        let opened = opened.map_err(|e| ReadError::Unavailable(format!("connect: {e}")))?;
        let opened = Arc::new(opened);
        let mut place = slot
            .connected
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Forgets a connection that does not answer; nothing on it fires by itself
    /// when its backend is stopped. Reads that wait on it fail by their own deadline.
    pub(crate) fn discard(&self, stuck: &Arc<Connected>) {
        for slot in &self.slots {
            let mut place = slot
                .connected
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if place.as_ref().is_some_and(|c| Arc::ptr_eq(c, stuck)) {
                *place = None;
            }
        }
    }
}

impl Slot {
    fn usable(&self) -> Option<Arc<Connected>> {
        let connected = self
            .connected
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        connected.as_ref().filter(|c| !c.is_closed()).cloned()
    }
}
