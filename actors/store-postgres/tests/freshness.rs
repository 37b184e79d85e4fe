//! Waiting for marks, and pairs of rows, on Postgres.

mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use refold_domain::diff::Held;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::PairReads;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::conformance::store::fixtures::log;
use refold_ports::conformance::store::fixtures::writer_of;
use refold_ports::pair::Declared;
use refold_ports::pair::Pair;
use refold_ports::registry::ReadError;
use refold_ports::registry::ReadModel;
use refold_store_postgres::PgPairReads;
use refold_store_postgres::PgReadModel;
use refold_store_postgres::ReadOptions;
use tokio_postgres::Client;
use tokio_postgres::Row;

use support::Postgres;
use support::eventually;
use support::ready;

const FIRST: Partition = Partition(0);

/// An aggregate of the first partition.
fn at_home() -> i64 {
    let home = |k: &i64| partition_of(k.to_string().as_bytes(), PARTITIONS) == FIRST;
    (0..10).find(home).expect("half of all live there")
}

/// A session that looks at what the others do, and counts what it asks itself.
struct Watch {
    client: Client,
    asked: Cell<i64>,
}

impl Watch {
    async fn of(store: &Postgres) -> Self {
        Self {
            client: store.client().await,
            asked: Cell::new(0),
        }
    }

    async fn ask(&self, sql: &str) -> Vec<Row> {
        self.asked.set(self.asked.get() + 1);
        self.client.query(sql, &[]).await.expect("an answer")
    }

    /// The sessions of read models.
    async fn sessions(&self) -> Vec<i32> {
        let pids = "select pid from pg_stat_activity
            where application_name = 'refold read' and datname = current_database()";
        self.ask(pids).await.iter().map(|row| row.get(0)).collect()
    }

    /// Transactions of the others so far, in this database.
    async fn transactions(&self) -> i64 {
        let count = "select pg_stat_force_next_flush(),
            (select xact_commit from pg_stat_database where datname = current_database())";
        let all: i64 = self.ask(count).await[0].get(1);
        all - self.asked.get()
    }

    /// Waits until somebody has looked at the marks so many times more.
    async fn looks_at_marks(&self, times: usize) {
        let begun = "select pid, query_start::text from pg_stat_activity
            where application_name = 'refold read' and datname = current_database()
                and query like '-- The marks of the versions%'";
        let mut seen = HashSet::new();
        eventually("the marks are looked at", async || {
            let rows = self.ask(begun).await;
            seen.extend(
                rows.iter()
                    .map(|row| (row.get::<_, i32>(0), row.get::<_, String>(1))),
            );
            seen.len() >= times
        })
        .await;
    }
}

#[tokio::test]
async fn many_who_wait_for_a_mark_cost_one_look_and_all_are_told() {
    const WAITERS: usize = 2_000;
    const LOOKS: usize = 40;
    let store = Postgres::fresh().await;
    let (mut writer, mut picture) = loaded(&store, &WIDE_V1, 0, 10).await.expect("a partition");
    loaded(&store, &WIDE_V1, 1, 10).await.expect("a partition");
    let version = writer.lease().version;
    store.registry().make_ready(version).await.expect("ready");
    let active = store.registry().activate_first(version, "test", None).await;
    active.expect("it becomes active");
    let watch = Watch::of(&store).await;
    let options = ReadOptions {
        refresh: Duration::from_secs(3_600),
        ..ReadOptions::default()
    };
    // Those of the store's own read model are there already, and stay.
    for _ in 0..6 {
        let other = store.read_model().read("wide", "1").await;
        other.expect("an answer");
    }
    let known = watch.sessions().await;
    let before = watch.transactions().await;
    let reads = Arc::new(PgReadModel::new(&store.options, options));
    let key = at_home().to_string();
    let found = reads.read_marked("wide", &key).await.expect("an answer");
    assert_eq!((found.answer.partition, found.next), (FIRST, Offset(10)));
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let reads = Arc::clone(&reads);
            tokio::spawn(async move { reads.mark_passes("wide", FIRST, Offset(10)).await })
        })
        .collect();
    // The mark does not move, and nobody is told.
    watch.looks_at_marks(LOOKS).await;
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    picture.put(&int_cell(at_home()), 7, 2, 10).expect("a row");
    let batch = picture.batch(10, 11).expect("a batch");
    writer.commit(&batch).await.expect("a commit");
    for waiter in waiters {
        let told = tokio::time::timeout(Duration::from_secs(10), waiter).await;
        told.expect("it is told in time").expect("no panic");
    }
    let found = reads.read_marked("wide", &key).await.expect("an answer");
    assert_eq!(found.next, Offset(11));
    // Its connections tell the server what they did when they end.
    drop(reads);
    eventually("its connections end", async || {
        let sessions = watch.sessions().await;
        sessions.iter().all(|pid| known.contains(pid))
    })
    .await;
    let took = watch.transactions().await - before;
    println!("{WAITERS} waiters, {LOOKS} looks and more: {took} transactions");
    // One for each look, and a few for everything else; not one for each waiter.
    assert!(took < WAITERS as i64 / 4, "{took}");
}

#[tokio::test]
async fn whoever_waits_for_a_version_that_is_switched_away_waits_for_its_successor() {
    let store = Postgres::fresh().await;
    let old = ready(&store, &WIDE_V1).await;
    ready(&store, &WIDE_V2).await;
    let registry = store.registry();
    registry
        .activate_first(old, "test", None)
        .await
        .expect("it serves");
    let reads = Arc::new(PgReadModel::new(&store.options, ReadOptions::default()));
    let key = at_home().to_string();
    let waiting = {
        let reads = Arc::clone(&reads);
        tokio::spawn(async move { reads.mark_passes("wide", FIRST, Offset(10)).await })
    };
    support::switch(&store, &WIDE_V1, &WIDE_V2).await;
    write(&store, &WIDE_V1, 10).await;
    // None of these may tell anybody.
    Watch::of(&store).await.looks_at_marks(10).await;
    assert!(
        !waiting.is_finished(),
        "told of a version that serves no more"
    );
    let found = reads.read_marked("wide", &key).await.expect("an answer");
    assert_eq!((found.answer.generation, found.next), (2, Offset(10)));
    write(&store, &WIDE_V2, 10).await;
    let told = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    told.expect("it is told in time").expect("no panic");
    let found = reads.read_marked("wide", &key).await.expect("an answer");
    assert_eq!((found.answer.generation, found.next), (2, Offset(11)));
}

/// Takes the first partition over and writes one event into it.
async fn write(store: &Postgres, spec: &ProjectionSpec, off: i64) {
    let writer = writer_of(store, spec, 0).await;
    let mut writer = writer.expect("a writer");
    let mut picture = Picture::new(spec);
    for key in 0..10 {
        picture.put(&int_cell(key), key, 1, key).expect("a row");
    }
    picture.load(0, 10).expect("the loaded rows");
    picture
        .put(&int_cell(at_home()), off, 2, off)
        .expect("a row");
    let batch = picture.batch(off, off + 1).expect("a batch");
    writer.commit(&batch).await.expect("a commit");
}

async fn pair(
    reads: &PgPairReads,
    (old, new): (VersionId, VersionId),
    key: i64,
) -> Result<Option<Pair>, ReadError> {
    let first = Declared {
        version: old,
        spec: &WIDE_V1,
    };
    let second = Declared {
        version: new,
        spec: &WIDE_V2,
    };
    reads
        .read_pair(first, second, FIRST, &key.to_string())
        .await
}

#[tokio::test]
async fn a_pair_is_read_in_one_snapshot_and_a_locked_table_is_given_up() {
    let store = Postgres::fresh().await;
    let old = ready(&store, &WIDE_V1).await;
    let reads = PgPairReads::new(&store.options, Duration::from_millis(500));
    let registered = store.registry().register(&WIDE_V2, &log()).await;
    let new = registered.expect("registered").id;
    let without = pair(&reads, (old, new), at_home()).await;
    assert_eq!(without, Ok(None), "it has no table yet");
    assert_eq!(ready(&store, &WIDE_V2).await, new);
    let found = pair(&reads, (old, new), at_home()).await;
    let found = found.expect("an answer").expect("a pair");
    assert_eq!(
        (found.first.next, found.second.next),
        (Offset(10), Offset(10))
    );
    let (first, second) = (found.first.side(&found.key), found.second.side(&found.key));
    let (Held::Row(a), Held::Row(b)) = (first.held, second.held) else {
        panic!("{found:?}");
    };
    assert_eq!((a.off, a.applied_seq), (Offset(at_home()), 1));
    assert_eq!((a.off, a.applied_seq), (b.off, b.applied_seq));
    // As the writer's cells are: key, columns, position, tombstone.
    let picture = {
        let mut picture = Picture::new(&WIDE_V1);
        picture
            .put(&int_cell(at_home()), at_home(), 1, at_home())
            .expect("a row");
        picture.rows().remove(0)
    };
    assert!(picture.starts_with(&[&found.key[..], a.cells].concat()));

    let locker = store.client().await;
    let lock = format!("begin; lock table rm.v{new}_p0 in access exclusive mode");
    locker.batch_execute(&lock).await.expect("a lock");
    let locked = pair(&reads, (old, new), at_home()).await;
    assert!(
        matches!(locked, Err(ReadError::Unavailable(_))),
        "{locked:?}"
    );
    locker.batch_execute("rollback").await.expect("no lock");
    let again = pair(&reads, (old, new), at_home()).await;
    assert!(again.expect("an answer").is_some());
}
