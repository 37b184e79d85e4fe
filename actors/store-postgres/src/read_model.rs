//! Point reads over a few shared connections.
//!
//! One statement is one snapshot: it reads which version serves, and the row from that one's
//! leaf. So a switch is seen by it entirely or not at all. It is made for the version that was
//! seen to serve last; one that is on its way while a switch commits finds the other version's
//! row all the same, and whoever reads behind it takes that one to serve.
//!
//! A pool would lend a connection to one read at a time. Point reads of many
//! requests go over the same few connections instead, pipelined, each statement
//! prepared once per connection.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::registry::MarkedAnswer;
use refold_ports::registry::ReadAnswer;
use refold_ports::registry::ReadError;
use refold_ports::registry::ReadModel;
use refold_projection::KeyRef;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::mark_follower::MarkFollower;
use crate::readable::Readable;
use crate::readable::VERSIONS;
use crate::readable::readable_of;
use crate::session::SessionOptions;
use crate::shared_client::Asked;
use crate::shared_client::Connected;
use crate::shared_client::SharedClients;
use crate::shared_client::TypedValue;

const MARKS: &str = include_str!("sql/read_marks.sql");

/// How the read model works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Shared connections.
    pub clients: usize,
    /// Longest wait for one read, reconnecting included.
    pub deadline: Duration,
    /// Between two looks for versions that came or went. A version is ready for
    /// longer than this before it can be active; one that is not is looked up at once.
    pub refresh: Duration,
    /// Between two looks at the marks, while somebody waits for one.
    pub follow: Duration,
}

impl Default for ReadOptions {
    /// Three connections keep two server cores busy; 2 s; 200 ms; 20 ms.
    fn default() -> Self {
        Self {
            clients: 3,
            deadline: Duration::from_secs(2),
            refresh: Duration::from_millis(200),
            follow: Duration::from_millis(20),
        }
    }
}

/// Point reads on Postgres.
pub struct PgReadModel {
    shared: Arc<Shared>,
    deadline: Duration,
    tasks: [JoinHandle<()>; 2],
}

impl fmt::Debug for PgReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgReadModel")
            .field("clients", &self.shared.clients)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Drop for PgReadModel {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Shared {
    clients: SharedClients,
    /// By projection name. Replaced as a whole entry, so a reader works on one consistent set.
    readable: RwLock<HashMap<String, Arc<Readable>>>,
    /// One look at the versions at a time, however many reads want one.
    refreshing: Mutex<()>,
    /// Looks so far.
    looks: AtomicU64,
    /// Longest wait for one answer, below the deadline of the whole read.
    patience: Duration,
    marks: MarkFollower,
}

impl PgReadModel {
    /// A read model on a migrated database. Connections are made when they are needed.
    /// Has to be called inside a runtime: it starts the task that follows the versions.
    pub fn new(options: &SessionOptions, reads: ReadOptions) -> Self {
        let shared = Arc::new(Shared {
            clients: SharedClients::new(options, "refold read", reads.clients, reads.deadline),
            readable: RwLock::default(),
            refreshing: Mutex::new(()),
            looks: AtomicU64::new(0),
            // Leaves the last quarter for a second attempt to fail in.
            patience: reads.deadline * 3 / 4,
            marks: MarkFollower::default(),
        });
        let follower = Arc::clone(&shared);
        let refresher = tokio::spawn(async move {
            loop {
                if let Err(Miss::Failed(error)) = follower.refresh().await {
                    tracing::debug!(%error, "the readable versions cannot be read");
                }
                tokio::time::sleep(reads.refresh).await;
            }
        });
        let follower = Arc::clone(&shared);
        let looker = tokio::spawn(async move {
            loop {
                if let Err(Miss::Failed(error)) = follower.look_at_marks().await {
                    tracing::debug!(%error, "the marks cannot be read");
                }
                tokio::time::sleep(reads.follow).await;
            }
        });
        Self {
            shared,
            deadline: reads.deadline,
            tasks: [refresher, looker],
        }
    }

    async fn ask(
        &self,
        name: &str,
        key: &str,
        marked: bool,
    ) -> Result<(ReadAnswer, Option<Offset>), ReadError> {
        let answer = self.shared.read(name, key, marked);
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ReadError::Unavailable(format!(
                "no answer within {:?}",
                self.deadline
            ))),
        }
    }
}

#[async_trait]
impl ReadModel for PgReadModel {
    async fn read(&self, name: &str, key: &str) -> Result<ReadAnswer, ReadError> {
        Ok(self.ask(name, key, false).await?.0)
    }

    async fn read_marked(&self, name: &str, key: &str) -> Result<MarkedAnswer, ReadError> {
        let (answer, next) = self.ask(name, key, true).await?;
        // A version that serves has a mark in every partition of its log.
        let next = next.ok_or_else(|| {
            let sentence = format!("version {} has no mark in this partition", answer.version);
            ReadError::Unavailable(sentence)
        })?;
        Ok(MarkedAnswer { answer, next })
    }

    async fn mark_passes(&self, name: &str, partition: Partition, offset: Offset) {
        self.shared.marks.passes(name, partition, offset).await;
    }
}

/// Attempts of one read: every connection may have broken at once, and the
/// versions may have changed.
const ATTEMPTS: usize = 5;

/// Why a read did not answer.
enum Miss {
    /// The versions changed: look again, then read again.
    Stale,
    /// The connection broke and was given up: read again over another.
    Broken(String),
    /// It is final.
    Failed(ReadError),
}

impl Shared {
    async fn read(
        &self,
        name: &str,
        key: &str,
        marked: bool,
    ) -> Result<(ReadAnswer, Option<Offset>), ReadError> {
        let mut reason = String::new();
        let mut readable = self.readable(name);
        for _ in 0..ATTEMPTS {
            let missed = match &readable {
                None => Miss::Stale,
                Some(found) => match self.read_from(found, name, key, marked).await {
                    Ok(answer) => return Ok(answer),
                    Err(missed) => missed,
                },
            };
            let missed = match missed {
                Miss::Stale => {
                    let looked = self.refresh().await;
                    readable = self.readable(name);
                    if looked.is_ok() && readable.is_none() {
                        return Err(ReadError::NoActiveVersion(name.to_owned()));
                    }
                    looked.err()
                }
                other => Some(other),
            };
            match missed {
                Some(Miss::Failed(error)) => return Err(error),
                Some(Miss::Broken(why)) => reason = why,
                Some(Miss::Stale) | None => reason = format!("the versions of {name} change"),
            }
        }
        Err(ReadError::Unavailable(reason))
    }

    fn readable(&self, name: &str) -> Option<Arc<Readable>> {
        // Plain values: a panic elsewhere cannot leave them half-written.
        let readable = self.readable.read().unwrap_or_else(PoisonError::into_inner);
        readable.get(name).cloned()
    }

    async fn read_from(
        &self,
        readable: &Readable,
        name: &str,
        key: &str,
        marked: bool,
    ) -> Result<(ReadAnswer, Option<Offset>), Miss> {
        let parsed = readable.key_type.parse(key);
        let parsed = parsed.map_err(|e| Miss::Failed(ReadError::BadKey(e.to_string())))?;
        let text = parsed.to_string();
        let partition = partition_of(text.as_bytes(), readable.partitions);
        let asked = Asked {
            partition,
            version: readable.serving(),
            marked,
        };
        let row = self.fetch(readable, name, parsed, asked).await?;
        let Some(row) = row else {
            return Err(Miss::Failed(ReadError::NoActiveVersion(name.to_owned())));
        };
        let broken = |e: tokio_postgres::Error| Miss::Failed(ReadError::Unavailable(e.to_string()));
        let version = VersionId(row.try_get(0).map_err(broken)?);
        if version != asked.version {
            if !readable.holds(version) {
                return Err(Miss::Stale);
            }
            readable.saw_serving(version);
        }
        let next: Option<i64> = match marked {
            true => row.try_get(3).map_err(broken)?,
            false => None,
        };
        let answer = ReadAnswer {
            version,
            generation: row.try_get(1).map_err(broken)?,
            partition,
            row: row.try_get(2).map_err(broken)?,
        };
        Ok((answer, next.map(Offset)))
    }

    async fn fetch(
        &self,
        readable: &Readable,
        name: &str,
        key: KeyRef<'_>,
        asked: Asked,
    ) -> Result<Option<Row>, Miss> {
        let client = self.clients.get().await.map_err(Miss::Failed)?;
        let key: KeyParameter<'_> = key.into();
        let parameters: [&(dyn ToSql + Sync); 2] = [key.as_sql(), &name];
        let answer = client.read(readable, asked, parameters);
        self.within(&client, answer).await
    }

    /// Waits for an answer of `client`, and gives the client up when it breaks or
    /// stays silent: nothing on it fires by itself when its backend is stopped.
    async fn within<T>(
        &self,
        client: &Arc<Connected>,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Miss> {
        let missed = match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => miss(&error),
            Err(_) => {
                let waited = self.patience;
                let reason = format!("a connection gave no answer within {waited:?}");
                self.clients.discard(client);
                Miss::Failed(ReadError::Unavailable(reason))
            }
        };
        if matches!(missed, Miss::Broken(_)) {
            self.clients.discard(client);
        }
        Err(missed)
    }

    /// Reads which versions are readable, and replaces what changed.
    async fn refresh(&self) -> Result<(), Miss> {
        let before = self.looks.load(Ordering::Acquire);
        let _one_at_a_time = self.refreshing.lock().await;
        if self.looks.load(Ordering::Acquire) != before {
            // Somebody looked while this one waited.
            return Ok(());
        }
        let client = self.clients.get().await.map_err(Miss::Failed)?;
        let rows = self.within(&client, client.query(VERSIONS, &[])).await?;
        let found = readable_of(&rows).map_err(Miss::Failed)?;
        self.looks.fetch_add(1, Ordering::AcqRel);
        let mut readable = self
            .readable
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        readable.retain(|name, _| found.iter().any(|f| f.name == *name));
        for new in found {
            let known = readable.get(&new.name);
            if known.is_none_or(|known| !known.reads_like(&new)) {
                readable.insert(new.name.clone(), Arc::new(new));
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Waits until somebody waits for a mark, and looks once for all of them.
    async fn look_at_marks(&self) -> Result<(), Miss> {
        let names = self.marks.wanted().await;
        let broken = |e: tokio_postgres::Error| Miss::Failed(ReadError::Unavailable(e.to_string()));
        let client = self.clients.get().await.map_err(Miss::Failed)?;
        let parameters: [TypedValue<'_>; 1] = [(&names, Type::TEXT_ARRAY)];
        let rows = client.query(MARKS, &parameters);
        for row in self.within(&client, rows).await? {
            let name: &str = row.try_get(0).map_err(broken)?;
            let partition = Partition(row.try_get(1).map_err(broken)?);
            let next = Offset(row.try_get(2).map_err(broken)?);
            self.marks.seen(name, partition, next);
        }
        Ok(())
    }
}

/// A key as a statement's parameter.
pub(crate) enum KeyParameter<'a> {
    Int(i64),
    Uuid(Uuid),
    Text(&'a str),
}

impl<'a> From<KeyRef<'a>> for KeyParameter<'a> {
    fn from(key: KeyRef<'a>) -> Self {
        match key {
            KeyRef::Int(v) => Self::Int(v),
            KeyRef::Uuid(u) => Self::Uuid(Uuid::from_bytes(u.0)),
            KeyRef::Text(t) => Self::Text(t),
        }
    }
}

impl<'a> KeyParameter<'a> {
    pub(crate) fn as_sql(&self) -> &(dyn ToSql + Sync + 'a) {
        match self {
            Self::Int(v) => v,
            Self::Uuid(u) => u,
            Self::Text(t) => t,
        }
    }
}

/// A leaf that is gone was dropped since the last look. A connection that was closed, whose
/// server shuts down, or whose pooler lost its server, is worth another one. The rest is final.
fn miss(error: &tokio_postgres::Error) -> Miss {
    match error.code() {
        Some(code) if *code == SqlState::UNDEFINED_TABLE => Miss::Stale,
        Some(code)
            if ["57P", "08"]
                .iter()
                .any(|class| code.code().starts_with(class)) =>
        {
            Miss::Broken(error.to_string())
        }
        None => Miss::Broken(error.to_string()),
        Some(_) => Miss::Failed(ReadError::Unavailable(error.to_string())),
    }
}
