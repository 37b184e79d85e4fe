//! What an event table does not let happen, and what is not read as a log.

use refold_domain::log::Chunk;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::conformance::log::NewRecord;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_source_postgres as events;
use refold_source_postgres::EventTable;

use crate::stage::PATIENCE;
use crate::stage::Server;
use crate::stage::Table;

const P0: Partition = Partition(0);

fn records(count: usize) -> Vec<NewRecord> {
    (0..count)
        .map(|n| NewRecord::new(format!("key {n}"), "value").at(1 + n as i64))
        .collect()
}

/// A statement of a session whose `{events}` is the table, and what the server says to it.
async fn said(table: &Table, sql: &str) -> Result<(), String> {
    let client = table.server.client().await;
    let sql = sql.replace("{events}", &format!("refold_events.\"{}\"", table.name));
    let done = client.batch_execute(&sql).await;
    done.map_err(|error| match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => error.to_string(),
    })
}

async fn positions(table: &Table) -> Vec<i64> {
    let client = table.server.client().await;
    let sql = format!(
        "select position from refold_events.\"{}\" order by 1",
        table.name
    );
    let rows = client.query(&sql, &[]).await.expect("the rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_never_changed_and_goes_only_when_that_was_declared() {
    let table = Server::fresh("refusals").await.table(1).await;
    let client = table.server.client().await;
    table.write(&client, P0, &records(10)).await;
    for sql in [
        "update {events} set value = 'other'",
        "update {events} set position = position + 100 where false",
        "truncate {events}",
        "delete from {events} where position = 3",
        "set session_replication_role = replica; delete from {events}",
    ] {
        let refused = said(&table, sql).await.expect_err(sql);
        let why = ["never changed", "declared first"];
        assert!(why.iter().any(|why| refused.contains(why)), "{refused}");
    }
    assert_eq!(positions(&table).await, (0..10).collect::<Vec<_>>());

    let options = table.server.options();
    let beyond = events::delete_below(&options, &table.name, Offset(11)).await;
    assert!(matches!(beyond, Err(SourceError::Fatal(why)) if why.contains("ends at 10")));
    let deleted = events::delete_below(&options, &table.name, Offset(4)).await;
    assert_eq!(deleted, Ok(4));
    assert_eq!(positions(&table).await, (4..10).collect::<Vec<_>>());
    let again = said(&table, "delete from {events} where position < 4").await;
    assert_eq!(again, Ok(()), "what was declared may go by any statement");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_chooses_a_position() {
    let table = Server::fresh("positions").await.table(1).await;
    for sql in [
        "insert into {events} (position, partition, key) values (700, 0, 'a'), (0, 0, 'b')",
        "insert into {events} (position, partition, key) overriding system value values (3, 0, 'c')",
        "set session_replication_role = replica;
            insert into {events} (position, partition, key) values (900, 0, 'd')",
        "insert into {events} (partition, key) select 0, n::text::bytea from generate_series(1, 3) n",
    ] {
        assert_eq!(said(&table, sql).await, Ok(()), "{sql}");
    }
    assert_eq!(positions(&table).await, (0..7).collect::<Vec<_>>());
}

/// What the schema's first lines promise.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_may_only_insert_and_a_reader_only_select() {
    let table = Server::fresh("rights").await.table(3).await;
    let name = refold_local::testing::unique_topic("rights").replace('-', "_");
    let (writer, reader) = (format!("{name}_w"), format!("{name}_r"));
    let sequence = format!("refold_events.\"{}_position\"", table.name);
    let grants = format!(
        "create role {writer} login; create role {reader} login;
         grant usage on schema refold_events to {writer}, {reader};
         grant insert on {{events}} to {writer};
         grant usage on sequence {sequence} to {writer};
         grant select on {{events}}, refold_events.logs to {reader};
         grant select on sequence {sequence} to {reader}"
    );
    said(&table, &grants).await.expect("granted");
    let insert = format!("set role {writer}; insert into {{events}} (key) values ('a'), ('b')");
    assert_eq!(said(&table, &insert).await, Ok(()));
    let denied = said(
        &table,
        &format!("set role {writer}; delete from {{events}}"),
    )
    .await;
    assert!(denied.is_err_and(|why| why.contains("permission denied")));

    let mut options = table.server.options();
    options.config.user(&reader);
    let source = EventTable::new(options, &table.name).expect("a legal name");
    assert_eq!(source.identity().await, table.source.identity().await);
    let mut delivered = 0;
    for partition in (0..3).map(Partition) {
        let reader = source.open(partition, Offset(0), ReadMode::Bulk).await;
        let mut reader = reader.expect("it opens");
        let reading = tokio::task::spawn_blocking(move || {
            let mut chunk = Chunk::new(partition, Offset(0));
            let limit = ReadLimit {
                records: 10,
                bytes: 1_000,
            };
            reader
                .read(&mut chunk, limit, PATIENCE)
                .expect("it may read");
            chunk.len()
        });
        delivered += reading.await.expect("no panic");
    }
    assert_eq!(delivered, 2);
    let gone = format!("drop owned by {writer}, {reader}; drop role {writer}, {reader}");
    said(&table, &gone).await.expect("the roles go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_partition_is_where_kafka_would_put_it() {
    let table = Server::fresh("partitions").await.table(12).await;
    let client = table.server.client().await;
    let insert = format!(
        "insert into refold_events.\"{}\" (key) values ($1) returning partition",
        table.name
    );
    let mut rng = fastrand::Rng::with_seed(7);
    let keys = (0..200).map(|length| {
        std::iter::repeat_with(|| rng.u8(..))
            .take(length % 41)
            .collect()
    });
    for key in keys.collect::<Vec<Vec<u8>>>() {
        let row = client.query_one(&insert, &[&key]).await.expect("a row");
        assert_eq!(Partition(row.get(0)), partition_of(&key, 12), "{key:?}");
    }
    let outside = said(
        &table,
        "insert into {events} (partition, key) values (12, 'a')",
    )
    .await;
    assert!(outside.is_err_and(|why| why.contains("check constraint")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_no_log_any_more_is_refused_with_what_to_do() {
    let table = Server::fresh("fitness").await.table(2).await;
    let sequence = format!("refold_events.\"{}_position\"", table.name);
    let fresh = || EventTable::new(table.server.options(), &table.name).expect("a legal name");
    for (change, back, word) in [
        (
            "alter sequence {sequence} cache 20",
            "alter sequence {sequence} cache 1",
            "cache 1",
        ),
        (
            "alter sequence {sequence} cycle",
            "alter sequence {sequence} no cycle",
            "no cycle",
        ),
        (
            "alter table {events} disable trigger place",
            "alter table {events} enable always trigger place",
            "enable always trigger",
        ),
        (
            "alter table {events} enable trigger refuse",
            "alter table {events} enable always trigger refuse",
            "enable always trigger",
        ),
        (
            "alter table {events} set unlogged",
            "alter table {events} set logged",
            "set logged",
        ),
        (
            "create trigger another before insert on {events}
            for each row execute function suppress_redundant_updates_trigger()",
            "drop trigger another on {events}",
            "drop trigger",
        ),
        (
            "create rule another as on insert to {events} do also notify events",
            "drop rule another on {events}",
            "drop rule",
        ),
        (
            "create table child () inherits ({events})",
            "drop table child",
            "no inherit",
        ),
    ] {
        let sql = |sql: &str| sql.replace("{sequence}", &sequence);
        said(&table, &sql(change)).await.expect("it is changed");
        let refused = fresh().identity().await;
        assert!(
            matches!(&refused, Err(SourceError::Fatal(why)) if why.contains(word)),
            "{change}: {refused:?}"
        );
        assert_eq!(fresh().watermarks(P0).await.err(), refused.err());
        said(&table, &sql(back)).await.expect("it is changed back");
        assert!(fresh().identity().await.is_ok(), "{back}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_anew_is_another_log_and_stops_its_readers() {
    let table = Server::fresh("anew").await.table(1).await;
    let options = table.server.options();
    let client = table.server.client().await;
    table.write(&client, P0, &records(3)).await;
    let twice = events::create(&options, &table.name, 1).await;
    assert!(matches!(twice, Err(SourceError::Fatal(why)) if why.contains("already exists")));
    let before = table.source.identity().await.expect("it is there");
    let mut reader = table
        .source
        .open(P0, Offset(3), ReadMode::Tail)
        .await
        .expect("opens");

    said(&table, "drop table {events}").await.expect("dropped");
    let gone = SourceError::TopicMissing(table.name.clone());
    assert_eq!(table.source.identity().await, Err(gone));
    let created = events::create(&options, &table.name, 1).await;
    created.expect("created again");
    table.write(&client, P0, &records(5)).await;
    let after = table.source.identity().await.expect("it is there again");
    assert_ne!(before.topic_id, after.topic_id);
    assert!(!before.is_same_log(&after));
    let outcome = tokio::task::spawn_blocking(move || {
        let mut chunk = Chunk::new(P0, Offset(3));
        let limit = ReadLimit {
            records: 10,
            bytes: 1_000,
        };
        let outcome = reader.read(&mut chunk, limit, PATIENCE);
        (outcome, chunk.len())
    });
    let (outcome, delivered) = outcome.await.expect("no panic");
    assert!(
        matches!(&outcome, Err(SourceError::Fatal(_))),
        "{outcome:?}"
    );
    assert_eq!(delivered, 0);
}
