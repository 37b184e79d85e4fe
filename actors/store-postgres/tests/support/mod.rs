//! A database of its own for each case, with writers behind a proxy.

// Each test binary uses its part of this.
#![allow(dead_code)]

pub(crate) mod proxy;

use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_local::testing;
use refold_ports::conformance::store::Break;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::ReadModel;
use refold_ports::registry::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::sink::PartitionWriter;
use refold_ports::sink::Sink;
use refold_ports::sink::TakeOver;
use refold_store_postgres::PgReadModel;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::PostgresSink;
use refold_store_postgres::ReadOptions;
use refold_store_postgres::ScanOptions;
use refold_store_postgres::ScanReport;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::migrate;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

use proxy::Proxy;

/// How long a condition may take to hold.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// A migrated database and every port to it.
pub(crate) struct Postgres {
    /// Straight to the server.
    pub(crate) options: SessionOptions,
    /// Stands between the server and the writers of [`StoreHarness::sink`].
    pub(crate) proxy: Proxy,
    sink: PostgresSink,
    registry: PgRegistry,
    read_model: PgReadModel,
}

impl Postgres {
    /// A fresh database.
    pub(crate) async fn fresh() -> Self {
        let dsn = testing::fresh_database("store").expect("a database for the test");
        Self::at(&dsn).await
    }

    /// The empty database at a connection URL.
    pub(crate) async fn at(dsn: &str) -> Self {
        let options = SessionOptions::parse(dsn).expect("a connection string");
        migrate(&options).await.expect("a migrated database");
        let server = dsn
            .split_once('@')
            .and_then(|(_, rest)| rest.split_once('/'))
            .map(|(server, _)| server.to_owned())
            .expect("user@host:port/database");
        let proxy = Proxy::to(server.clone()).await;
        let through = dsn.replace(&server, proxy.address());
        let through = SessionOptions::parse(&through).expect("a connection string");
        Self {
            sink: PostgresSink::new(through),
            registry: PgRegistry::new(&options),
            read_model: PgReadModel::new(&options, ReadOptions::default()),
            proxy,
            options,
        }
    }

    /// A sink that goes straight to the server.
    pub(crate) fn direct_sink(&self) -> PostgresSink {
        PostgresSink::new(self.options.clone())
    }

    /// A connection for looking at the database.
    pub(crate) async fn client(&self) -> Client {
        let connected = self.options.config.connect(NoTls).await;
        let (client, connection) = connected.expect("a connection");
        tokio::spawn(connection);
        client
    }
}

/// Runs statements.
pub(crate) async fn run(store: &Postgres, sql: &str) {
    let client = store.client().await;
    client.batch_execute(sql).await.expect("a statement");
}

/// The one number of an answer.
pub(crate) async fn count(store: &Postgres, sql: &str) -> i64 {
    let row = store.client().await.query_one(sql, &[]).await;
    row.expect("a count").get(0)
}

/// The scan of [`WIDE_V1`] and [`WIDE_V2`].
pub(crate) async fn scan(
    store: &Postgres,
    options: &ScanOptions,
) -> Result<ScanReport, RegistryError> {
    let verifier = PgVerifier::new(&store.options);
    verifier.scan_pair(&WIDE_V1, &WIDE_V2, options, None).await
}

/// The name of a leaf of [`WIDE_V2`].
pub(crate) async fn new_leaf(store: &Postgres, partition: i32) -> String {
    let leaf =
        "select 'rm.v' || id || '_p' || $1::int from refold.versions where label = 'wide_v2'";
    let row = store.client().await.query_one(leaf, &[&partition]).await;
    row.expect("a leaf").get(0)
}

/// Looks at a condition until it holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until so many sessions of the database wait for a lock.
pub(crate) async fn waiting(store: &Postgres, sessions: i64) {
    let locked = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    eventually("sessions wait for a lock", async || {
        count(store, locked).await == sessions
    })
    .await;
}

/// What two come to who wait for a lock that `hold` takes, in the order in which they came: `one`
/// first, or `other`.
pub(crate) async fn one_behind_the_other<A: Send + 'static, B: Send + 'static>(
    store: &Postgres,
    hold: &str,
    one_first: bool,
    one: impl Future<Output = A> + Send + 'static,
    other: impl Future<Output = B> + Send + 'static,
) -> (A, B) {
    let holder = store.client().await;
    let hold = format!("begin; {hold}");
    holder.batch_execute(&hold).await.expect("a lock");
    let (one, other) = if one_first {
        let one = tokio::spawn(one);
        waiting(store, 1).await;
        (one, tokio::spawn(other))
    } else {
        let other = tokio::spawn(other);
        waiting(store, 1).await;
        (tokio::spawn(one), other)
    };
    waiting(store, 2).await;
    holder.batch_execute("commit").await.expect("no lock");
    let (one, other) = (one.await, other.await);
    (one.expect("no panic"), other.expect("no panic"))
}

/// Loads ten rows into every partition of a version and makes it ready.
pub(crate) async fn ready(store: &Postgres, spec: &ProjectionSpec) -> VersionId {
    for partition in 0..PARTITIONS {
        let loaded = loaded(store, spec, partition, 10).await;
        loaded.expect("a partition is loaded");
    }
    let row = store.registry().version(&spec.label()).await;
    let version = row.expect("the version is registered").id;
    let ready = store.registry().make_ready(version).await;
    assert!(ready.expect("the registry answers"));
    version
}

/// Switches between two versions that stand at the same marks.
pub(crate) async fn switch(store: &Postgres, from: &ProjectionSpec, to: &ProjectionSpec) {
    let registry = store.registry();
    let id = async |spec: &ProjectionSpec| {
        let row = registry.version(&spec.label()).await;
        row.expect("the version is registered").id
    };
    let (from_id, to_id) = (id(from).await, id(to).await);
    let request = compared(registry, (from_id, from), (to_id, to)).await;
    let promotion = registry.promote(&request, from, to).await;
    assert!(promotion.expect("a switch").changed);
}

/// The order of a switch, behind a barrier between both versions and their comparison there.
pub(crate) async fn compared(
    registry: &dyn Registry,
    (from_id, from): (VersionId, &ProjectionSpec),
    (to_id, to): (VersionId, &ProjectionSpec),
) -> PromoteRequest {
    let barrier = registry.set_barrier(from_id, to_id).await;
    let barrier = barrier.expect("a barrier").id;
    let columns = to.same_columns();
    let proof = registry.compare_at_barrier(barrier, from, to, &columns);
    proof.await.expect("a comparison");
    PromoteRequest {
        to: to_id,
        barrier,
        if_generation: None,
        allowed_lag: 0,
        max_scan_age: None,
        forced: None,
        actor: "test".to_owned(),
        dry_run: false,
    }
}

impl StoreHarness for Postgres {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn registry(&self) -> &dyn Registry {
        &self.registry
    }

    fn read_model(&self) -> &dyn ReadModel {
        &self.read_model
    }

    fn break_next_commit(&self, moment: Break) {
        self.proxy.break_next_commit(moment);
    }
}

/// Whoever owns a partition, until it is dropped.
pub(crate) async fn owner(
    store: &Postgres,
    spec: &ProjectionSpec,
    partition: Partition,
) -> Box<dyn PartitionWriter> {
    let row = store.registry().version(&spec.label()).await;
    let version = row.expect("the version is registered").id;
    let sink = store.direct_sink();
    let writer = sink
        .take_over(TakeOver::from_anyone(version, spec, partition, Offset(0)))
        .await;
    writer.expect("a take-over")
}
