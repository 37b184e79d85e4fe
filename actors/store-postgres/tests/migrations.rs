//! Migrations run once, whoever comes first, and refuse what they do not know.

use refold_local::testing;
use refold_ports::sink::StoreError;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::migrate;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

async fn database() -> (SessionOptions, Client) {
    let dsn = testing::fresh_database("migrations").expect("a database for the test");
    let options = SessionOptions::parse(&dsn).expect("a connection string");
    let connected = options.config.connect(NoTls).await;
    let (client, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    (options, client)
}

fn refusal(outcome: Result<usize, StoreError>) -> String {
    match outcome {
        Err(StoreError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn migrations_run_once_however_many_processes_start() {
    let (options, client) = database().await;
    let (left, right) = tokio::join!(migrate(&options), migrate(&options));
    let (left, right) = (left.expect("one runs them"), right.expect("one waits"));
    assert!(
        left.min(right) == 0 && left.max(right) > 0,
        "{left} and {right}"
    );
    assert_eq!(migrate(&options).await, Ok(0));
    let ledger = "select count(*) from refold.migrations";
    let count: i64 = client
        .query_one(ledger, &[])
        .await
        .expect("a ledger")
        .get(0);
    assert_eq!(count, left.max(right) as i64);
}

#[tokio::test]
async fn a_migration_that_was_changed_later_is_refused() {
    let (options, client) = database().await;
    migrate(&options).await.expect("migrated");
    let change = "update refold.migrations set checksum = 'x' where number = 2";
    client.execute(change, &[]).await.expect("a change");
    let reason = refusal(migrate(&options).await);
    assert!(reason.contains("migration 2"), "{reason}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let (options, client) = database().await;
    migrate(&options).await.expect("migrated");
    let newer = "insert into refold.migrations values (9999, 'later', 'x')";
    client.execute(newer, &[]).await.expect("a newer migration");
    let reason = refusal(migrate(&options).await);
    assert!(reason.contains("9999"), "{reason}");
}

#[tokio::test]
async fn the_audit_cannot_be_changed_and_its_chain_shows_what_was() {
    let (options, client) = database().await;
    migrate(&options).await.expect("migrated");
    for subject in ["a", "b", "c"] {
        let append = "select refold.audit_append('test', 'did', $1, '{\"n\": 1.50}')";
        client.execute(append, &[&subject]).await.expect("an entry");
    }
    for change in [
        "update refold.audit set subject = 'x'",
        "delete from refold.audit",
        "truncate refold.audit",
    ] {
        let outcome = client.batch_execute(change).await;
        let code = outcome.expect_err("append-only").code().cloned();
        assert_eq!(code.expect("an answer").code(), "42501", "{change}");
    }
    let broken = "select count(*) from refold.audit a
         left join refold.audit before on before.id = a.id - 1
         where a.previous <> coalesce(before.hash, '') or a.hash <> refold.audit_hash(
             a.id, a.at, a.actor, a.action, a.subject, a.details, a.previous)";
    let count = |row: tokio_postgres::Row| row.get::<_, i64>(0);
    assert_eq!(
        count(client.query_one(broken, &[]).await.expect("a chain")),
        0
    );
    // Somebody with the owner's rights removes the trigger and changes a row.
    let tamper = "alter table refold.audit disable trigger audit_no_change;
                  update refold.audit set subject = 'x' where id = 2";
    client
        .batch_execute(tamper)
        .await
        .expect("a superuser's change");
    assert_eq!(
        count(client.query_one(broken, &[]).await.expect("a chain")),
        1
    );
}

#[tokio::test]
async fn no_statement_can_retire_the_version_that_serves() {
    let (options, client) = database().await;
    migrate(&options).await.expect("migrated");
    let serve = "insert into refold.versions (name, number, label, state, code_hash, key_type,
             columns, cluster_id, topic, partitions)
         select 'a', n, 'a_v' || n, s, 'x', 'bigint', '[]', 'c', 't', 1
         from (values (1, 'active'), (2, 'ready')) as v (n, s);
         insert into refold.active (name, version, generation) values ('a', 1, 1)";
    client
        .batch_execute(serve)
        .await
        .expect("a serving version");
    for (change, code) in [
        (
            "update refold.versions set state = 'retired' where id = 1",
            "23503",
        ),
        (
            "update refold.versions set state = 'active' where id = 2",
            "23505",
        ),
        ("update refold.active set version = 2", "23503"),
        ("delete from refold.versions where id = 1", "23503"),
    ] {
        let outcome = client.batch_execute(change).await;
        let found = outcome.expect_err(change).code().cloned();
        assert_eq!(found.expect("an answer").code(), code, "{change}");
    }
}
