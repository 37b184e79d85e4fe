//! Stages event tables on a real server: creates them, writes to them with and without
//! transactions, deletes the head of their log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::conformance::log::LogHarness;
use refold_ports::conformance::log::NewRecord;
use refold_ports::conformance::log::StagedTopic;
use refold_ports::conformance::log::StagedTransaction;
use refold_ports::source::LogSource;
use refold_source_postgres as events;
use refold_source_postgres::EventStoreOptions;
use refold_source_postgres::EventTable;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

/// A database of its own.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) dsn: String,
}

impl Server {
    pub(crate) async fn fresh(prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        let dsn =
            tokio::task::spawn_blocking(move || refold_local::testing::fresh_database(&prefix));
        let dsn = dsn.await.expect("no panic").expect("a database");
        Self { dsn }
    }

    pub(crate) fn options(&self) -> EventStoreOptions {
        EventStoreOptions::parse(&self.dsn).expect("a connection string")
    }

    /// A session that shares nothing with the adapter.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.dsn, NoTls)
            .await
            .expect("the server is there");
        tokio::spawn(connection);
        client
    }

    /// An empty event table.
    pub(crate) async fn table(&self, partitions: i32) -> Table {
        let name = refold_local::testing::unique_topic("events");
        let created = events::create(&self.options(), &name, partitions).await;
        created.expect("the table is created");
        Table {
            server: self.clone(),
            source: EventTable::new(self.options(), &name).expect("a legal name"),
            name,
        }
    }
}

#[async_trait]
impl LogHarness for Server {
    async fn create(&self, partitions: i32) -> Arc<dyn StagedTopic> {
        Arc::new(self.table(partitions).await)
    }

    fn missing(&self) -> Arc<dyn LogSource> {
        let name = refold_local::testing::unique_topic("never-created");
        Arc::new(EventTable::new(self.options(), &name).expect("a legal name"))
    }
}

/// An event table on the stage.
pub(crate) struct Table {
    pub(crate) server: Server,
    pub(crate) source: EventTable,
    pub(crate) name: String,
}

impl Table {
    /// The statement that writes one event: partition, key, value, time.
    pub(crate) fn insert(&self) -> String {
        format!(
            "insert into refold_events.\"{}\" (partition, key, value, recorded_at)
                 values ($1, $2, $3, to_timestamp(0) + $4 * interval '1 millisecond')",
            self.name
        )
    }

    pub(crate) async fn write(&self, client: &Client, partition: Partition, records: &[NewRecord]) {
        let insert = client.prepare(&self.insert()).await.expect("a statement");
        for record in records {
            let time = record.ts_millis as f64;
            client
                .execute(&insert, &[&partition.0, &record.key, &record.value, &time])
                .await
                .expect("the event is written");
        }
    }
}

#[async_trait]
impl StagedTopic for Table {
    fn source(&self) -> Arc<dyn LogSource> {
        Arc::new(self.source.clone())
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn markers(&self) -> i64 {
        0
    }

    fn shares_offsets(&self) -> bool {
        true
    }

    async fn produce(&self, partition: Partition, records: Vec<NewRecord>) {
        let client = self.server.client().await;
        // Half of them by themselves would take a commit each.
        let (alone, together) = records.split_at(records.len().min(3));
        self.write(&client, partition, alone).await;
        client.batch_execute("begin").await.expect("a transaction");
        self.write(&client, partition, together).await;
        client.batch_execute("commit").await.expect("a commit");
    }

    async fn begin(
        &self,
        partition: Partition,
        records: Vec<NewRecord>,
    ) -> Box<dyn StagedTransaction> {
        let client = self.server.client().await;
        client.batch_execute("begin").await.expect("a transaction");
        self.write(&client, partition, &records).await;
        Box::new(Transaction(client))
    }

    async fn delete_below(&self, _partition: Partition, low: Offset) {
        let deleted = events::delete_below(&self.server.options(), &self.name, low).await;
        deleted.expect("the head is deleted");
    }
}

struct Transaction(Client);

#[async_trait]
impl StagedTransaction for Transaction {
    async fn commit(self: Box<Self>) {
        self.0.batch_execute("commit").await.expect("a commit");
    }

    async fn abort(self: Box<Self>) {
        self.0.batch_execute("rollback").await.expect("a rollback");
    }
}

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
