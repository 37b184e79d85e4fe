//! What is said of a switch whose synchronous standby does not answer.

mod support;

use std::time::Duration;

use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing::ScratchDir;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::registry::Durability;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_whose_wait_for_a_standby_is_cancelled_is_in_and_pending() {
    let scratch = ScratchDir::new("refold-pending").expect("a directory");
    let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
    let server = server.expect("a server");
    let store = Postgres::at(&server.dsn()).await;
    let old = ready(&store, &WIDE_V1).await;
    let new = ready(&store, &WIDE_V2).await;
    let registry = PgRegistry::new(&store.options);
    let first = registry.activate_first(old, "test", None).await;
    let first = first.expect("the first version becomes active");
    assert_eq!(first.durability, Durability::Local);
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
