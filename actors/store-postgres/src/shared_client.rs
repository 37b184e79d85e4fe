//! Connections that many reads use at once.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::position::Partition;
use refold_ports::registry::ReadError;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Statement;

use crate::readable::Readable;
use crate::session::SessionOptions;

/// The settings of a reading session. A generic plan names every branch once and
/// is never made again; no sequential scan, because a plan made while a leaf was
/// small would stay when it has grown.
const SET_UP: &str = "set default_transaction_read_only = on;
    set statement_timeout = '2s';
    set lock_timeout = '1s';
    set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off;
    set jit = off;
    set search_path = pg_catalog;
    set timezone = 'UTC'";

/// A set of versions and a partition.
type StatementKey = (u64, i32);

/// One connection with what was prepared on it.
pub(crate) struct Connected {
    client: Client,
    connection: JoinHandle<()>,
    statements: RwLock<HashMap<StatementKey, Statement>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Deref for Connected {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Connected {
    async fn open(config: &Config) -> Result<Self, tokio_postgres::Error> {
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
        };
        connected.client.batch_execute(SET_UP).await?;
        Ok(connected)
    }

    /// The statement for a partition, prepared once. Two reads that come first at
    /// the same time prepare it both; the later one is kept.
    pub(crate) async fn statement(
        &self,
        readable: &Readable,
        partition: Partition,
    ) -> Result<Statement, tokio_postgres::Error> {
        let key = (readable.set, partition.0);
        if let Some(statement) = self.prepared(key) {
            return Ok(statement);
        }
        let (sql, types) = (readable.sql(partition), readable.parameter_types());
        let statement = self.client.prepare_typed(&sql, &types).await?;
        let mut statements = self
            .statements
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Statements of older sets are not asked for again once a new one is in
        // use; a set in use by another projection is prepared again, rarely.
        if statements.len() >= MAX_STATEMENTS {
            statements.retain(|(set, _), _| *set == readable.set);
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
    connecting: Mutex<()>,
}

/// A few connections, used in turn.
pub(crate) struct SharedClients {
    config: Config,
    slots: Vec<Slot>,
    turn: AtomicUsize,
}

impl fmt::Debug for SharedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shared connections", self.slots.len())
    }
}

impl SharedClients {
    pub(crate) fn new(options: &SessionOptions, clients: usize, deadline: Duration) -> Self {
        let mut config = options.config.clone();
        config
            .application_name("refold read")
            .connect_timeout(deadline)
            .tcp_user_timeout(deadline)
            .keepalives_idle(deadline);
        let slot = || Slot {
            connected: RwLock::new(None),
            connecting: Mutex::new(()),
        };
        Self {
            config,
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
        let opened = Connected::open(&self.config).await;
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
