//! Migrations run once, whoever comes first, and refuse what they do not know.

use std::path::Path;
use std::path::PathBuf;

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

/// Brings an empty database to the migration `last`, as a program of that time left it.
async fn migrated_to(client: &Client, last: i32) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sql = |path: PathBuf| std::fs::read_to_string(path).expect("a file");
    let ledger = sql(directory.join("src/sql/migration_ledger.sql"));
    client.batch_execute(&ledger).await.expect("a ledger");
    let files = std::fs::read_dir(directory.join("migrations")).expect("the migrations");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    for (number, path) in (1..=last).zip(files) {
        let sql = sql(path);
        client.batch_execute(&sql).await.expect("a migration");
        let record = "insert into refold.migrations (number, name, checksum)
            values ($1, 'then', encode(sha256(convert_to($2, 'UTF8')), 'hex'))";
        let recorded = client.execute(record, &[&number, &sql]).await;
        recorded.expect("a record");
    }
    client.batch_execute("commit").await.expect("migrated");
}

/// Two versions of two partitions, a finished scan of them and one that runs, as migration 14 had
/// them: what was found in one array. The second has found something in one partition, and chosen
/// rows in two, of which one was not recorded any more.
const SCANS: &str = r#"
    insert into refold.versions (name, number, label, state, code_hash, key_type,
        columns, cluster_id, topic, partitions)
    select 'a', n, 'a_v' || n, s, 'x', 'bigint', '[]', 'c', 't', 2
    from (values (1, 'active'), (2, 'ready')) as v (n, s);
    insert into refold.verifications (id, version_from, version_to, columns, partitions, differences,
        rows, expected, code_from, code_to, started_at, finished_at)
    select ('00000000-0000-0000-0000-00000000000' || s.n)::uuid, 1, 2, '{}', s.found, s.differences,
        s.rows, s.expected, 'x', 'x', clock_timestamp() - s.n * interval '1 minute', s.finished
    from (values
        (2, '[{"partition": 1, "equal": 7, "expected": 2, "unexpected": 0, "missing_expected": 0,
               "only_old": 0, "only_new": 0, "untied": []},
              {"partition": 0, "equal": 5, "expected": 1, "unexpected": 0, "missing_expected": 0,
               "only_old": 0, "only_new": 0, "untied": []}]'::jsonb, 0, 15, 3, clock_timestamp()),
        (1, '[{"partition": 1, "equal": 4, "expected": 2, "unexpected": 1, "missing_expected": 1,
               "only_old": 1, "only_new": 0, "untied": ["a_v2.x"]}]'::jsonb, 4, 9, 2, null)
    ) as s (n, found, differences, rows, expected, finished);
    insert into refold.scan_rows
    select '00000000-0000-0000-0000-000000000001', p, p, '', '', 0, 0, '', 0, 0
    from generate_series(0, 1) p"#;

#[tokio::test]
async fn scans_of_an_older_program_keep_what_they_found() {
    let (options, client) = database().await;
    migrated_to(&client, 14).await;
    client.batch_execute(SCANS).await.expect("scans");
    let latest = "select id::text || ' ' || findings from refold.latest_scan(1, 2)";
    let latest = async || -> String {
        let row = client.query_one(latest, &[]).await;
        row.expect("a scan").get(0)
    };
    assert_eq!(latest().await, "00000000-0000-0000-0000-000000000001 4");
    let ran = migrate(&options).await.expect("migrated");
    assert!(ran > 0);
    assert_eq!(latest().await, "00000000-0000-0000-0000-000000000001 4");
    let lines = "select string_agg(format('%s/%s: %s %s %s', right(scan::text, 1), partition,
            differences, rows, expected), ', ' order by scan, partition)
        from refold.scan_partitions where (found ->> 'partition')::int = partition";
    let row = client.query_one(lines, &[]).await.expect("partitions");
    assert_eq!(
        row.get::<_, String>(0),
        "1/1: 4 9 2, 2/0: 0 6 1, 2/1: 0 9 2"
    );
    let chosen = "select array_agg(partition) from refold.scan_rows";
    let row = client.query_one(chosen, &[]).await.expect("chosen rows");
    assert_eq!(row.get::<_, Vec<i32>>(0), [1]);
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
