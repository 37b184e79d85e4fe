//! Point reads on Postgres while versions come, switch and go.

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::conformance::store::fixtures::log;
use refold_ports::registry::ReadError;
use refold_ports::registry::ReadModel;
use refold_ports::registry::RegistryError;
use refold_store_postgres::PgReadModel;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::ReadOptions;
use refold_store_postgres::SessionOptions;

use support::Postgres;
use support::eventually;
use support::ready;
use support::switch;

async fn first_active(store: &Postgres) -> VersionId {
    let version = ready(store, &WIDE_V1).await;
    let active = store.registry().activate_first(version, "test", None).await;
    active.expect("the first version becomes active");
    version
}

/// Reads whose background look never comes again within a test.
fn unrefreshed(store: &Postgres) -> PgReadModel {
    let options = ReadOptions {
        refresh: Duration::from_secs(3_600),
        ..ReadOptions::default()
    };
    PgReadModel::new(&store.options, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_neither_fail_nor_tear_while_versions_are_switched() {
    let store = Postgres::fresh().await;
    let first = first_active(&store).await;
    ready(&store, &WIDE_V2).await;
    let reads = Arc::new(PgReadModel::new(&store.options, ReadOptions::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (reads, stop) = (Arc::clone(&reads), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut seen, mut last) = (0_u64, 0);
                while !stop.load(Ordering::Acquire) {
                    let key = (seen + reader) % 12;
                    let answer = reads.read("wide", &key.to_string()).await;
                    let answer = answer.expect("no read fails");
                    // Version and generation are of one snapshot: they alternate together.
                    let is_first = answer.version == first;
                    assert_eq!(is_first, answer.generation % 2 == 1);
                    assert_eq!(answer.row.is_some(), key < 10);
                    assert!(answer.generation >= last, "generations never go back");
                    last = answer.generation;
                    seen += 1;
                }
                seen
            })
        })
        .collect();
    for _ in 0..5 {
        switch(&store, &WIDE_V1, &WIDE_V2).await;
        switch(&store, &WIDE_V2, &WIDE_V1).await;
    }
    stop.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.await.expect("no reader fails") > 0);
    }
}

#[tokio::test]
async fn a_version_that_became_active_unseen_is_looked_up_at_once() {
    let store = Postgres::fresh().await;
    first_active(&store).await;
    let reads = unrefreshed(&store);
    reads
        .read("wide", "1")
        .await
        .expect("the first version answers");
    let new = ready(&store, &WIDE_V2).await;
    switch(&store, &WIDE_V1, &WIDE_V2).await;
    let answer = reads
        .read("wide", "1")
        .await
        .expect("the new version answers");
    assert_eq!((answer.version, answer.generation), (new, 2));
    assert!(answer.row.is_some());
}

#[tokio::test]
async fn a_read_on_its_way_while_a_switch_commits_is_answered_in_the_same_turn() {
    let store = Postgres::fresh().await;
    let client = store.client().await;
    let count_calls = "do $$ begin
        execute format('alter database %I set track_functions = %L', current_database(), 'all');
        end $$";
    client.batch_execute(count_calls).await.expect("a setting");
    first_active(&store).await;
    let second = ready(&store, &WIDE_V2).await;
    let keys: Vec<_> = (0..12).map(|key| key.to_string()).collect();
    // Each takes the first version to serve, and does not see the switch before it reads.
    let mut unaware = Vec::new();
    for key in &keys {
        let reads = unrefreshed(&store);
        reads.read("wide", key).await.expect("the first version");
        unaware.push(reads);
    }
    switch(&store, &WIDE_V1, &WIDE_V2).await;
    let aware = unrefreshed(&store);
    for (key, unaware) in keys.iter().zip(&unaware) {
        let expected = aware.read("wide", key).await.expect("the new version");
        let answer = unaware.read("wide", key).await.expect("the new version");
        assert_eq!((answer.version, answer.generation), (second, 2));
        assert_eq!(answer, expected);
        // From here on it takes the new one to serve.
        assert_eq!(unaware.read("wide", key).await, Ok(expected));
    }
    let calls = "select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions
        where funcname = 'read_aggregate'";
    eventually("each was answered by the function once", async || {
        let row = client.query_one(calls, &[]).await.expect("a count");
        row.get::<_, i64>(0) == keys.len() as i64
    })
    .await;
}

#[tokio::test]
async fn a_table_that_was_dropped_unseen_fails_no_read() {
    let store = Postgres::fresh().await;
    let old = first_active(&store).await;
    let new = ready(&store, &WIDE_V2).await;
    let reads = unrefreshed(&store);
    for key in 0..10 {
        let answer = reads.read("wide", &key.to_string()).await;
        assert_eq!(answer.expect("an answer").version, old);
    }
    let client = store.client().await;
    let retire = format!(
        "drop view public.wide_v2;
         update refold.versions set state = 'dropped' where id = {new};
         drop table rm.v{new}_p0; drop table rm.v{new}_p1"
    );
    client
        .batch_execute(&retire)
        .await
        .expect("the version is dropped");
    for key in 0..10 {
        let answer = reads.read("wide", &key.to_string()).await;
        assert_eq!(answer.expect("an answer").version, old);
    }
}

#[tokio::test]
async fn a_locked_table_of_a_version_that_does_not_serve_holds_no_read_up() {
    let store = Postgres::fresh().await;
    let first = first_active(&store).await;
    let second = ready(&store, &WIDE_V2).await;
    let reads = unrefreshed(&store);
    let locker = store.client().await;
    for (serving, locked) in [(first, second), (second, first)] {
        let lock =
            format!("begin; lock table rm.v{locked}_p0, rm.v{locked}_p1 in access exclusive mode");
        locker.batch_execute(&lock).await.expect("the locks");
        for key in 0..10 {
            let key = key.to_string();
            let answer = reads.read("wide", &key);
            let answer = tokio::time::timeout(Duration::from_millis(500), answer).await;
            let answer = answer.expect("it waits for nobody").expect("an answer");
            assert_eq!(answer.version, serving);
            assert!(answer.row.is_some());
        }
        locker.batch_execute("rollback").await.expect("no locks");
        if serving == first {
            switch(&store, &WIDE_V1, &WIDE_V2).await;
            reads
                .read("wide", "1")
                .await
                .expect("the new version answers");
        }
    }
}

#[tokio::test]
async fn reads_outlive_their_connections() {
    let store = Postgres::fresh().await;
    first_active(&store).await;
    let reads = unrefreshed(&store);
    let client = store.client().await;
    for round in 0..5 {
        for key in 0..10 {
            let answer = reads.read("wide", &key.to_string()).await;
            answer.expect("an answer");
        }
        let end = "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
            where application_name = 'refold read' and datname = current_database()";
        let ended = client.query_one(end, &[]).await.expect("a count");
        assert!(ended.get::<_, i64>(0) > 0, "round {round}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_named_in_time() {
    let options = SessionOptions::parse("postgresql://refold@127.0.0.1:1/nowhere");
    let options = options.expect("a connection string");
    let reads = PgReadModel::new(&options, ReadOptions::default());
    let away = reads.read("wide", "1").await;
    assert!(matches!(away, Err(ReadError::Unavailable(_))), "{away:?}");
    let registry = PgRegistry::new(&options);
    let away = registry.versions().await;
    assert!(
        matches!(away, Err(RegistryError::Unreachable(_))),
        "{away:?}"
    );
}

#[tokio::test]
async fn views_carry_the_labels_and_hide_what_was_deleted() {
    let store = Postgres::fresh().await;
    let (mut writer, mut picture): (_, Picture) = loaded(&store, &WIDE_V1, 0, 10)
        .await
        .expect("a partition is loaded");
    loaded(&store, &WIDE_V1, 1, 10)
        .await
        .expect("a partition is loaded");
    let version = writer.lease().version;
    let ready = store.registry().make_ready(version).await;
    assert!(ready.expect("the registry answers"));
    picture.delete(&int_cell(4), 2, 10);
    let batch = picture.batch(10, 11).expect("a batch");
    writer.commit(&batch).await.expect("a commit");
    let client = store.client().await;
    let rows = "select aggregate_id, total, \"order\", applied_seq, applied_offset, partition
        from wide_v1 where partition = 0 order by aggregate_id";
    let rows = client.query(rows, &[]).await.expect("the view answers");
    let keys: Vec<i64> = rows.iter().map(|r| r.get(0)).collect();
    assert_eq!(keys, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    assert_eq!(rows[1].get::<_, i64>("total"), 1_000);
    let offsets = "select partition, applied_offset from projection_offsets
        where version = 'wide_v1' order by partition";
    let offsets = client.query(offsets, &[]).await.expect("the view answers");
    let offsets: Vec<(i32, i64)> = offsets.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(offsets, [(0, 10), (1, 9)]);
    let state = "select state from projections where version = 'wide_v1'";
    let state = client
        .query_one(state, &[])
        .await
        .expect("the view answers");
    assert_eq!(state.get::<_, String>(0), "ready");
    let write = client.batch_execute("delete from wide_v1").await;
    write.expect_err("the view cannot be written through");
}

#[tokio::test]
async fn a_table_of_the_same_name_is_left_alone_and_noted() {
    let store = Postgres::fresh().await;
    let client = store.client().await;
    let theirs = "create table public.wide_v1 (mine int); insert into wide_v1 values (7)";
    client.batch_execute(theirs).await.expect("their table");
    ready(&store, &WIDE_V1).await;
    let row = store.registry().register(&WIDE_V1, &log()).await;
    let note = row.expect("the version is registered").note;
    assert!(note.is_some_and(|note| note.contains("the view was not created")));
    let mine = client.query_one("select mine from wide_v1", &[]).await;
    assert_eq!(mine.expect("their row").get::<_, i32>(0), 7);
}
