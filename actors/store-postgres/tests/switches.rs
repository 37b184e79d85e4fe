//! Switches, rollbacks, failures and retirements at once, and the end of a version under its readers.

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing::ScratchDir;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::WIDE_V3;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::ReadModel;
use refold_ports::registry::RegistryError;
use refold_ports::registry::RetireRequest;
use refold_store_postgres::PgReadModel;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::ReadOptions;
use tokio_postgres::Client;

use support::Postgres;
use support::eventually;
use support::one_behind_the_other;
use support::ready;

const SPECS: [ProjectionSpec; 3] = [WIDE_V1, WIDE_V2, WIDE_V3];

async fn count(client: &Client, sql: &str) -> i64 {
    let row = client.query_one(sql, &[]).await;
    row.expect("a count").get(0)
}

/// Tries to switch to a version, whoever serves, and says whether it did.
async fn try_switch(registry: &PgRegistry, to: (VersionId, &ProjectionSpec)) -> bool {
    let active = registry.active("wide").await.expect("the registry answers");
    let from = active.expect("somebody serves").version;
    let versions = registry.versions().await.expect("the registry answers");
    let label = versions.iter().find(|v| v.id == from).map(|v| &v.label);
    let from_spec = SPECS.iter().find(|s| Some(&s.label()) == label);
    let from_spec = from_spec.expect("a version of the fixture");
    let Ok(barrier) = registry.set_barrier(from, to.0).await else {
        return false;
    };
    let columns = ["total"];
    let proof = registry
        .compare_at_barrier(barrier.id, from_spec, to.1, &columns)
        .await;
    // Another barrier may have replaced this one meanwhile.
    if proof.is_err() {
        return false;
    }
    let request = PromoteRequest {
        to: to.0,
        barrier: barrier.id,
        if_generation: None,
        allowed_lag: 0,
        max_scan_age: None,
        forced: None,
        actor: "test".to_owned(),
        dry_run: false,
    };
    match registry.promote(&request, from_spec, to.1).await {
        Ok(promotion) => promotion.changed,
        Err(RegistryError::Failed(what)) => panic!("{what}"),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_at_once_one_version_serves_and_the_audit_tells_how() {
    let store = Postgres::fresh().await;
    let mut ids = Vec::new();
    for spec in &SPECS {
        ids.push(ready(&store, spec).await);
    }
    let registry = PgRegistry::new(&store.options);
    let first = registry.activate_first(ids[0], "test", None).await;
    first.expect("the first version becomes active");
    let workers: Vec<_> = (0..6_usize)
        .map(|worker| {
            let (registry, ids) = (registry.clone(), ids.clone());
            tokio::spawn(async move {
                let mut dice = fastrand::Rng::with_seed(worker as u64);
                let mut switched = 0;
                for turn in 0..40 {
                    let at = dice.usize(0..2);
                    switched += u32::from(try_switch(&registry, (ids[at], &SPECS[at])).await);
                    // One version is retired, and another failed, in the middle of it all;
                    // whichever serves refuses.
                    if worker == 0 && turn == 20 {
                        let ended = registry.retire(ids[2], "test", "enough").await;
                        ended.expect("it does not serve");
                    }
                    // Not in the first turns: when it is retired, nobody switches any more.
                    if worker == 1 && turn > 20 && turn % 5 == 0 {
                        let active = registry.active("wide").await.expect("an answer");
                        let active = active.expect("somebody serves").version;
                        let retired = registry.retire(active, "test", "never").await;
                        // Another one may have been promoted in between; then it was not active.
                        if retired.is_ok() {
                            return (switched, true);
                        }
                    }
                }
                (switched, false)
            })
        })
        .collect();
    let client = store.client().await;
    let mut looked = 0;
    let both = "select (select count(*) from refold.versions where state = 'active')
        + (select count(*) from refold.active a join refold.versions v
            on v.id = a.version and v.state = 'active')";
    while workers.iter().any(|worker| !worker.is_finished()) {
        assert_eq!(count(&client, both).await, 2, "at every commit");
        looked += 1;
    }
    let mut switched = 0;
    for worker in workers {
        switched += worker.await.expect("no worker fails").0;
    }
    assert!(
        switched > 5 && looked > 5,
        "{switched} switches, {looked} looks"
    );
    // Each switch begins where the one before it ended, and none is missing.
    let broken = "select count(*) from (
            select version_from, generation,
                lag(version_to) over (order by generation) as before,
                lag(generation) over (order by generation) as generation_before
            from refold.promotions) p
        where generation > 1
            and (version_from is distinct from before or generation <> generation_before + 1)";
    assert_eq!(count(&client, broken).await, 0);
    let promotions = count(&client, "select count(*) from refold.promotions").await;
    assert_eq!(promotions, i64::from(switched) + 1);
    let chain = "select count(*) from refold.audit a
        left join refold.audit b on b.id = a.id - 1
        where a.previous <> coalesce(b.hash, ''::bytea)
            or a.hash <> refold.audit_hash(
                a.id, a.at, a.actor, a.action, a.subject, a.details, a.previous)";
    assert_eq!(count(&client, chain).await, 0);
    let told = "select count(*) from refold.audit where action = 'promote'";
    assert_eq!(count(&client, told).await, promotions);
}

/// The second one: both wait for the row that says who serves, in the order in which they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_switch_and_an_abort_at_once_one_is_refused() {
    for switch_first in [true, false, true, false] {
        let store = Postgres::fresh().await;
        let old = ready(&store, &WIDE_V1).await;
        let new = ready(&store, &WIDE_V2).await;
        let registry = PgRegistry::new(&store.options);
        let first = registry.activate_first(old, "test", None).await;
        first.expect("the first version becomes active");
        let request = RetireRequest {
            version: new,
            abort: true,
            if_generation: Some(1),
            actor: "test".to_owned(),
            reason: "given up".to_owned(),
        };
        let (one, other) = (registry.clone(), registry.clone());
        let switch = async move { try_switch(&one, (new, &WIDE_V2)).await };
        let abort = async move { other.retire_as(&request).await };

        let hold = "select 1 from refold.active where name = 'wide' for update";
        let (switch, abort) = one_behind_the_other(&store, hold, switch_first, switch, abort).await;
        assert_eq!(
            (switch, abort.is_ok()),
            (switch_first, !switch_first),
            "{abort:?}"
        );
        let active = registry.active("wide").await.expect("an answer");
        let serving = active.map(|a| (a.version, a.generation));
        let state = registry.version("wide_v2").await.expect("a version").state;
        let wanted = match switch_first {
            true => (Some((new, 2)), VersionState::Active),
            false => (Some((old, 1)), VersionState::Retired),
        };
        assert_eq!((serving, state), wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_insists_on_a_generation_is_refused_behind_a_switch() {
    let store = Postgres::fresh().await;
    let old = ready(&store, &WIDE_V1).await;
    let new = ready(&store, &WIDE_V2).await;
    let third = ready(&store, &WIDE_V3).await;
    let registry = PgRegistry::new(&store.options);
    let first = registry.activate_first(old, "test", None).await;
    first.expect("the first version becomes active");
    assert!(try_switch(&registry, (new, &WIDE_V2)).await);
    let end = |version, abort, generation| RetireRequest {
        version,
        abort,
        if_generation: Some(generation),
        actor: "test".to_owned(),
        reason: "done with".to_owned(),
    };
    for version in [old, third] {
        let stale = registry.retire_as(&end(version, false, 1)).await;
        let wanted = RegistryError::GenerationChanged {
            wanted: 1,
            found: 2,
        };
        assert_eq!(stale, Err(wanted));
    }
    for version in [old, new] {
        let no_build = registry.retire_as(&end(version, true, 2)).await;
        assert!(
            matches!(no_build, Err(RegistryError::Conflict(_))),
            "{no_build:?}"
        );
    }
    let ended = registry.retire_as(&end(third, true, 2)).await;
    ended.expect("it is a build");
    let ended = registry.retire_as(&end(old, false, 2)).await;
    ended.expect("it served before");
    // There is no way back to it.
    assert!(!try_switch(&registry, (old, &WIDE_V1)).await);
    let back = registry.set_barrier(new, old).await;
    assert!(matches!(back, Err(RegistryError::Conflict(_))), "{back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_does_not_wait_for_a_reader_that_takes_its_time() {
    let store = Postgres::fresh().await;
    let old = ready(&store, &WIDE_V1).await;
    let new = ready(&store, &WIDE_V2).await;
    let registry = PgRegistry::new(&store.options);
    let first = registry.activate_first(old, "test", None).await;
    first.expect("the first version becomes active");
    let reader = store.client().await;
    let begun = format!(
        "begin isolation level repeatable read; select * from refold.active; select * from rm.v{old}_p0"
    );
    reader.batch_execute(&begun).await.expect("a slow reader");
    assert!(try_switch(&registry, (new, &WIDE_V2)).await);
    // It sees to its end what it saw at its beginning.
    let seen = count(&reader, "select version from refold.active").await;
    assert_eq!(seen, old.0);
    reader.batch_execute("commit").await.expect("its end");
    let seen = count(&reader, "select version from refold.active").await;
    assert_eq!(seen, new.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_dropped_under_its_readers_and_none_of_them_fails() {
    let store = Postgres::fresh().await;
    let old = ready(&store, &WIDE_V1).await;
    let new = ready(&store, &WIDE_V2).await;
    let registry = PgRegistry::new(&store.options);
    let first = registry.activate_first(old, "test", None).await;
    first.expect("the first version becomes active");
    let reads = Arc::new(PgReadModel::new(&store.options, ReadOptions::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (reads, stop) = (Arc::clone(&reads), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = 0_u64;
                while !stop.load(Ordering::Acquire) {
                    let answer = reads.read("wide", &(seen % 10).to_string()).await;
                    assert!(answer.expect("no read fails").row.is_some());
                    seen += 1;
                }
                seen
            })
        })
        .collect();
    // Somebody who reads the old version at length began before it was retired.
    let slow = store.client().await;
    let begun = format!("begin isolation level repeatable read; select * from rm.v{old}_p0");
    slow.batch_execute(&begun).await.expect("a slow reader");
    assert!(try_switch(&registry, (new, &WIDE_V2)).await);
    let retired = registry.retire(old, "test", "done with").await;
    retired.expect("it does not serve");
    let refused = registry.drop_retired(old, Duration::ZERO, "test").await;
    let refused = refused.expect_err("somebody reads it");
    let RegistryError::Conflict(sentence) = &refused else {
        panic!("{refused}");
    };
    assert!(
        sentence.contains("older than the retirement of wide_v1"),
        "{sentence}"
    );
    let table = format!("rm.v{old}_p0");
    assert_eq!(
        count(&slow, &format!("select count(*) from {table}")).await,
        10
    );
    slow.batch_execute("commit").await.expect("its end");
    // Readers of the api are as short as a statement: one of them may still be in its own.
    eventually("it is dropped", async || {
        let dropped = registry.drop_retired(old, Duration::ZERO, "test").await;
        dropped.is_ok()
    })
    .await;
    let gone = format!("select count(*) from pg_class where oid = to_regclass('{table}')");
    assert_eq!(count(&slow, &gone).await, 0);
    let view = "select count(*) from pg_class where oid = to_regclass('public.wide_v1')";
    assert_eq!(count(&slow, view).await, 0);
    stop.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.await.expect("no reader fails") > 0);
    }
}

/// A server that looks every second whether there is something to vacuum.
fn vacuuming(scratch: &ScratchDir) -> PostgresServer {
    let settings = [("autovacuum", "on"), ("autovacuum_naptime", "1s")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = PostgresOptions {
        settings: settings.into(),
        ..PostgresOptions::default()
    };
    PostgresServer::start(scratch.path(), options).expect("a server")
}

#[tokio::test]
async fn a_vacuum_is_no_reader_of_a_version_that_was_retired() {
    let scratch = ScratchDir::new("refold-vacuum").expect("a directory");
    let server = vacuuming(&scratch);
    let store = Postgres::at(&server.dsn()).await;
    let old = ready(&store, &WIDE_V1).await;
    let new = ready(&store, &WIDE_V2).await;
    let registry = PgRegistry::new(&store.options);
    let first = registry.activate_first(old, "test", None).await;
    first.expect("the first version becomes active");
    let client = store.client().await;
    // Ten pages a second at most, of more than four hundred.
    let dead = "create table dead (n integer) with (autovacuum_vacuum_threshold = 1,
            autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
        insert into dead select generate_series(1, 100000);
        delete from dead";
    client.batch_execute(dead).await.expect("dead rows");
    let vacuums = "select count(*) from pg_stat_activity
        where backend_type = 'autovacuum worker' and query like '%dead%'";
    let begun = format!("{vacuums} and xact_start is not null");
    eventually("a vacuum has begun", async || {
        count(&client, &begun).await == 1
    })
    .await;
    assert!(try_switch(&registry, (new, &WIDE_V2)).await);
    let retired = registry.retire(old, "test", "done with").await;
    retired.expect("it does not serve");
    let older = format!(
        "{vacuums} and xact_start < (select retired_at from refold.versions where id = {old})"
    );
    let dropped = registry.drop_retired(old, Duration::ZERO, "test").await;
    assert_eq!(dropped, Ok(()));
    assert_eq!(count(&client, &older).await, 1, "it went on all the time");
}

#[tokio::test]
async fn a_snapshot_that_is_older_than_a_leaf_is_told_not_to_read_it() {
    let store = Postgres::fresh().await;
    let old = ready(&store, &WIDE_V1).await;
    // Its first statement takes the snapshot; the load of the second version comes behind it.
    let snapshot = store.client().await;
    let begun = "begin isolation level repeatable read; select count(*) from refold.offsets";
    snapshot.batch_execute(begun).await.expect("a snapshot");
    let new = ready(&store, &WIDE_V2).await;
    let marks = include_str!("../src/sql/verify_marks.sql");
    let seen = snapshot.query(marks, &[&old.0, &new.0, &0]).await;
    // The mark of the new leaf is not in it, and so the leaf is not read.
    let seen = seen.expect("marks");
    let versions: Vec<i64> = seen.iter().map(|row| row.get("version")).collect();
    assert_eq!(versions, [old.0]);
    assert!(seen[0].get::<_, bool>("readable"));
    // A table that is there shows its frozen rows all the same: this is what the rule is for.
    let rows = count(&snapshot, &format!("select count(*) from rm.v{new}_p0")).await;
    assert_eq!(rows, 10);
    snapshot.batch_execute("commit").await.expect("its end");
    let seen = snapshot.query(marks, &[&old.0, &new.0, &0]).await;
    let seen = seen.expect("marks");
    assert!(seen.iter().all(|row| row.get::<_, bool>("readable")));
    assert_eq!(seen.len(), 2);
}
