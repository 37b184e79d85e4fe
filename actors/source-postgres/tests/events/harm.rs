//! What happens to the server, and what must not come of it.

use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing::ScratchDir;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_source_postgres as events;
use refold_source_postgres::EventStoreOptions;
use refold_source_postgres::EventTable;

use crate::stage::PATIENCE;

const P0: Partition = Partition(0);

/// Writes one event; `{}` is its key.
const ONE: &str = "insert into refold_events.log (partition, key) values (0, '{}')";

fn one(key: &str) -> String {
    ONE.replace("{}", key)
}

fn server(scratch: &ScratchDir) -> PostgresServer {
    let options = PostgresOptions {
        settings: vec![("max_prepared_transactions".to_owned(), "8".to_owned())],
        ..PostgresOptions::default()
    };
    PostgresServer::start(scratch.path(), options).expect("a server")
}

async fn table(server: &PostgresServer) -> EventTable {
    let options = EventStoreOptions::parse(&server.dsn()).expect("a connection string");
    let created = events::create(&options, "log", 1).await;
    created.expect("the table is created");
    EventTable::new(options, "log").expect("a legal name")
}

async fn end(table: &EventTable) -> i64 {
    let ends = table.watermarks(P0).await;
    ends.expect("the server answers").high.0
}

/// Reads until something came or the end was told; a reader that is not reached asks again.
async fn read(mut reader: Box<dyn ChunkReader>) -> (Box<dyn ChunkReader>, Vec<String>, Chunk) {
    tokio::task::spawn_blocking(move || {
        let mut chunk = Chunk::new(P0, Offset(0));
        let limit = ReadLimit {
            records: 100,
            bytes: 1 << 20,
        };
        let begun = Instant::now();
        loop {
            match reader.read(&mut chunk, limit, Duration::from_millis(500)) {
                Ok(()) => break,
                Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {}
                Err(error) => panic!("{error}"),
            }
        }
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let keys = chunk.records().map(|record| text(record.key)).collect();
        (reader, keys, chunk)
    })
    .await
    .expect("the reader does not panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_holds_the_end_back_over_a_restart_of_the_server() {
    let scratch = ScratchDir::new("refold-prepared").expect("a directory");
    let mut server = server(&scratch);
    let table = table(&server).await;
    let psql = |server: &PostgresServer, sql: &str| server.psql(sql).expect("the server answers");
    psql(&server, &one("first"));
    psql(
        &server,
        &format!("begin; {}; prepare transaction 'held'", one("held")),
    );
    psql(&server, &one("behind"));
    assert_eq!(end(&table).await, 1);
    let reader = table.open(P0, Offset(0), ReadMode::Tail).await;
    let (reader, keys, _) = read(reader.expect("it opens")).await;
    assert_eq!(keys, ["first"]);

    for crash in [true, false] {
        let ended = if crash { server.crash() } else { server.stop() };
        ended.expect("it ends");
        server.ensure().expect("it comes up again");
        let other = EventTable::new(
            EventStoreOptions::parse(&server.dsn()).expect("a connection string"),
            "log",
        )
        .expect("a legal name");
        assert_eq!(end(&other).await, 1, "after a crash: {crash}");
        psql(&server, &one("later"));
        assert_eq!(end(&other).await, 1);
    }
    let (reader, keys, chunk) = read(reader).await;
    assert_eq!((keys.len(), chunk.log_end()), (0, Some(Offset(1))));

    psql(&server, "commit prepared 'held'");
    let (_, keys, _) = read(reader).await;
    assert_eq!(keys, ["held", "behind", "later", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_gives_no_position_again_that_was_passed_and_takes_no_event_that_was_delivered() {
    let scratch = ScratchDir::new("refold-crash").expect("a directory");
    let mut server = server(&scratch);
    let table = table(&server).await;
    let mut delivered = Vec::new();
    let mut written = 0;
    let mut reader = table
        .open(P0, Offset(0), ReadMode::Tail)
        .await
        .expect("it opens");
    for round in 0..4 {
        // No commit that waits for the disk: what is passed and delivered is there all the same.
        let relaxed = format!(
            "set synchronous_commit = off; {}",
            one(&format!("r{round}"))
        );
        server.psql(&relaxed).expect("the server answers");
        let wasted = "begin; insert into refold_events.log (partition, key)
            select 0, 'wasted' from generate_series(1, 40); rollback";
        server.psql(wasted).expect("the server answers");
        written += 1;
        let passed = end(&table).await;
        let begun = Instant::now();
        while delivered.len() < written && begun.elapsed() < PATIENCE {
            let (again, keys, _) = read(reader).await;
            reader = again;
            delivered.extend(keys);
        }
        server.crash().expect("it ends");
        server.ensure().expect("it comes up again");
        let next = "select last_value + 1 from refold_events.log_position";
        let next: i64 = server
            .psql(next)
            .expect("an answer")
            .trim()
            .parse()
            .expect("a number");
        assert!(
            next >= passed,
            "round {round}: {next} is given again, {passed} was passed"
        );
    }
    let there = server
        .psql("select count(*) from refold_events.log")
        .expect("an answer");
    assert_eq!(there.trim(), written.to_string());
    assert_eq!(delivered, ["r0", "r1", "r2", "r3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_never_read_in_place_of_the_server_that_settled_the_end() {
    let scratch = ScratchDir::new("refold-instead").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (mut primary, standby) = servers.expect("two servers");
    table(&primary).await;
    primary.psql(&one("a")).expect("the server answers");
    let options = EventStoreOptions::parse(&primary.dsn()).expect("a connection string");
    let mut both = options.clone();
    let other = EventStoreOptions::parse(&standby.dsn()).expect("a connection string");
    both.config
        .host("127.0.0.1")
        .port(other.config.get_ports()[0]);
    let table = EventTable::new(both, "log").expect("a legal name");
    let reader = table.open(P0, Offset(0), ReadMode::Tail).await;
    let (mut reader, keys, _) = read(reader.expect("it opens")).await;
    assert_eq!(keys, ["a"]);

    let paused = "select pg_wal_replay_pause()";
    standby.psql(paused).expect("the standby answers");
    for key in ["b", "c"] {
        primary.psql(&one(key)).expect("the server answers");
    }
    assert_eq!(end(&table).await, 3);
    primary.crash().expect("it ends");
    // Only the standby answers, and it does not have what is below the end that is known.
    let asking = tokio::task::spawn_blocking(move || {
        let mut chunk = Chunk::new(P0, Offset(0));
        let limit = ReadLimit {
            records: 10,
            bytes: 1_000,
        };
        for _ in 0..5 {
            let answer = reader.read(&mut chunk, limit, Duration::from_millis(50));
            let refused = matches!(&answer, Err(error) if error.is_transient());
            assert!(refused, "{answer:?} {chunk:?}");
        }
        reader
    });
    let reader = asking.await.expect("nothing but the primary is read");
    primary.ensure().expect("it comes up again");
    let fresh = EventStoreOptions::parse(&primary.dsn()).expect("a connection string");
    assert_eq!(fresh.config.get_ports(), options.config.get_ports());
    let (_, keys, _) = read(reader).await;
    assert_eq!(keys, ["b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_and_a_server_that_lost_its_end_are_refused() {
    let scratch = ScratchDir::new("refold-standby").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (primary, standby) = servers.expect("two servers");
    let table = table(&primary).await;
    primary.psql(&one("a")).expect("the server answers");
    let settled = end(&table).await;
    let options = EventStoreOptions::parse(&standby.dsn()).expect("a connection string");
    let of_standby = EventTable::new(options, "log").expect("a legal name");
    let caught_up = || {
        let found = standby.psql("select count(*) from refold_events.log");
        found.is_ok_and(|count| count.trim() == "1")
    };
    assert!(refold_local::testing::wait_until(PATIENCE, caught_up));
    let refused = of_standby.identity().await;
    assert!(
        matches!(&refused, Err(SourceError::Fatal(why)) if why.contains("in recovery")),
        "{refused:?}"
    );
    // Where a log ends in front of a mark, that is said, and nothing is passed over.
    let beyond = table.open(P0, Offset(settled + 1), ReadMode::Tail).await;
    assert!(matches!(beyond.err(), Some(SourceError::BeyondEnd { .. })));
    let back = "select setval('refold_events.log_position', 0, false)";
    primary.psql(back).expect("the server answers");
    let set_back = table.watermarks(P0).await;
    assert!(
        matches!(&set_back, Err(SourceError::Fatal(why)) if why.contains("was set back")),
        "{set_back:?}"
    );
}
