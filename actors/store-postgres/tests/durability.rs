//! What is said of a switch whose synchronous standby does not answer.

mod support;

use std::time::Duration;

use refold_domain::version::VersionId;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing::ScratchDir;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::registry::Durability;
use refold_ports::registry::PromoteRequest;
use refold_store_postgres::PgRegistry;

use support::Postgres;
use support::compared;
use support::eventually;
use support::ready;

const BOUND: Duration = Duration::from_secs(30);

/// Makes the server wait for these standbys, or none, from the next commit on.
fn wait_for_standbys(server: &PostgresServer, names: &str) {
    let ask = |sql: &str| server.psql(sql).expect("the server answers");
    ask(&format!(
        "alter system set synchronous_standby_names = '{names}'"
    ));
    ask("select pg_reload_conf()");
    let told = || ask("show synchronous_standby_names").trim() == names;
    assert!(refold_local::testing::wait_until(BOUND, told));
    // Commits obey once the checkpointer has read it as well, and it reads before it works.
    ask("checkpoint");
}

/// A server of its own, with a version that serves and one that is ready.
struct Stage {
    server: PostgresServer,
    store: Postgres,
    old: VersionId,
    new: VersionId,
    registry: PgRegistry,
}

impl Stage {
    async fn at(scratch: &ScratchDir) -> Self {
        let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
        let server = server.expect("a server");
        let store = Postgres::at(&server.dsn()).await;
        let old = ready(&store, &WIDE_V1).await;
        let new = ready(&store, &WIDE_V2).await;
        let registry = PgRegistry::new(&store.options);
        let first = registry.activate_first(old, "test", None).await;
        let first = first.expect("the first version becomes active");
        assert_eq!(first.durability, Durability::Local);
        Self {
            server,
            store,
            old,
            new,
            registry,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_whose_wait_for_a_standby_is_cancelled_is_in_and_pending() {
    let scratch = ScratchDir::new("refold-pending").expect("a directory");
    let Stage {
        server,
        store,
        old,
        new,
        registry,
    } = Stage::at(&scratch).await;
    let request = compared(&registry, (old, &WIDE_V1), (new, &WIDE_V2)).await;
    wait_for_standbys(&server, "nobody");

    // Somebody cancels the commit while it waits.
    let operator = store.client().await;
    let promoting = {
        let (registry, request) = (registry.clone(), request.clone());
        tokio::spawn(async move { registry.promote(&request, &WIDE_V1, &WIDE_V2).await })
    };
    let cancel = "select count(*) filter (where pg_cancel_backend(pid))
        from pg_stat_activity where wait_event = 'SyncRep'";
    eventually("the commit waits, and is cancelled", async || {
        assert!(!promoting.is_finished(), "it did not wait for a standby");
        let row = operator.query_one(cancel, &[]).await.expect("an answer");
        row.get::<_, i64>(0) == 1
    })
    .await;
    let promotion = promoting.await.expect("no panic").expect("it is in");
    assert!(promotion.changed);
    assert_eq!(promotion.durability, Some(Durability::Pending));
    let active = registry.active("wide").await.expect("an answer");
    assert_eq!(active.map(|a| (a.version, a.generation)), Some((new, 2)));

    // Asked again, the server itself ends the wait, and it is no more confirmed than before.
    let again = registry.promote(&request, &WIDE_V1, &WIDE_V2).await;
    let again = again.expect("it is told again");
    assert_eq!((again.changed, &again.id), (false, &promotion.id));
    assert_eq!(again.durability, Some(Durability::Pending));
    let again = registry.activate_first(new, "test", None).await;
    let again = again.expect("it is told again");
    assert_eq!(
        (again.active.generation, again.durability),
        (2, Durability::Pending)
    );

    // Without a standby to wait for, the one disk is all there is.
    wait_for_standbys(&server, "");
    let alone = registry.promote(&request, &WIDE_V1, &WIDE_V2).await;
    let alone = alone.expect("it is told again");
    assert_eq!(alone.durability, Some(Durability::Local));
}

/// How far the log goes, and how far it is on the disk, in bytes.
async fn log_and_disk(operator: &tokio_postgres::Client) -> (i64, i64) {
    let sql = "select (pg_current_wal_insert_lsn() - '0/0')::bigint,
        (pg_current_wal_flush_lsn() - '0/0')::bigint";
    let row = operator.query_one(sql, &[]).await.expect("an answer");
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_does_not_wait_for_the_disk_and_a_promotion_does_before_it_judges() {
    let scratch = ScratchDir::new("refold-flushed").expect("a directory");
    let Stage {
        server,
        store,
        old,
        new,
        registry,
    } = Stage::at(&scratch).await;
    // Nobody else has the log written: what writes it in the background does so every ten seconds.
    for sql in [
        "alter system set wal_writer_delay = '10s'",
        "alter system set autovacuum = off",
        "select pg_reload_conf()",
    ] {
        server.psql(sql).expect("the server answers");
    }
    let operator = store.client().await;
    let mut left_to_write = 0;
    for _ in 0..5 {
        let request = compared(&registry, (old, &WIDE_V1), (new, &WIDE_V2)).await;
        let (log, disk) = log_and_disk(&operator).await;
        left_to_write += u32::from(disk < log);
        let judged = PromoteRequest {
            dry_run: true,
            ..request
        };
        let judged = registry.promote(&judged, &WIDE_V1, &WIDE_V2).await;
        assert!(!judged.expect("it may be promoted").changed);
        let (_, disk) = log_and_disk(&operator).await;
        assert!(disk >= log, "{disk} of {log} bytes are on the disk");
    }
    // One of them may meet the background writer.
    assert!(left_to_write >= 3, "{left_to_write} of 5");
}
