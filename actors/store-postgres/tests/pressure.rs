//! What a look at a server finds, and what a role may see.

use std::time::Duration;

use refold_domain::duty::ReadLatency;
use refold_domain::throttle::Reading;
use refold_domain::throttle::Readings;
use refold_domain::throttle::Reason;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use refold_ports::Pressure;
use refold_ports::ReadReport;
use refold_ports::pressure::ReadTimes;
use refold_store_postgres::PgPressure;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;

const BOUND: Duration = Duration::from_secs(30);
const MEBIBYTE: u64 = 1 << 20;
/// Bytes of one segment of the write-ahead log.
const SEGMENT: u64 = 16 * MEBIBYTE;

fn pressure(dsn: &str) -> PgPressure {
    PgPressure::new(&SessionOptions::parse(dsn).expect("a connection string"))
}

fn bytes(readings: &Readings, reason: Reason) -> u64 {
    match readings.get(reason) {
        Reading::Bytes(bytes) => bytes,
        other => panic!("{reason}: {other:?}"),
    }
}

/// Writes more than a mebibyte of log, and nothing else. In a transaction: only its commit has the
/// log written out at once, which is where the figures are measured from.
fn write_log(server: &PostgresServer) {
    let sql = "select pg_logical_emit_message(true, 'test', repeat('x', 1048576))";
    server.psql(sql).expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_standbys_and_slots_hold_back_is_measured_and_what_is_hidden_is_told() {
    let scratch = ScratchDir::new("refold-pressure").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (primary, standby) = servers.expect("a server and its standby");
    let ask = |sql: &str| primary.psql(sql).expect("the server answers");
    let pressure_seen = pressure(&primary.dsn());
    let look = async || pressure_seen.look().await.expect("a look");

    // A standby that has not said yet where it stands has no lag, and what the base backup left in
    // the log goes at a checkpoint.
    let standing =
        "select count(*) from pg_stat_replication where replay_lsn = pg_current_wal_lsn()";
    let caught_up = || ask(standing).trim() == "1";
    ask("checkpoint");
    assert!(testing::wait_until(BOUND, caught_up), "it catches up");
    let first = look().await;
    assert_eq!(first.get(Reason::SlotWal), Reading::Nothing, "no slot");
    let wal = bytes(&first, Reason::Wal);
    assert!(wal >= SEGMENT && wal.is_multiple_of(SEGMENT), "{wal}");
    // A slot that nobody reads, reserved at once, and a standby that stands still.
    ask("select pg_create_physical_replication_slot('left', true)");
    let paused = "select pg_wal_replay_pause()";
    standby.psql(paused).expect("a pause");
    let state = || standby.psql("select pg_get_wal_replay_pause_state()");
    let is_paused = || state().is_ok_and(|state| state.trim() == "paused");
    assert!(testing::wait_until(BOUND, is_paused), "it stands still");
    let before = look().await;
    write_log(&primary);
    let after = look().await;
    for reason in [Reason::ReplayLag, Reason::SlotWal] {
        let grown = bytes(&after, reason) - bytes(&before, reason);
        assert!(
            (MEBIBYTE..2 * MEBIBYTE).contains(&grown),
            "{reason}: {grown}"
        );
    }
    // A whole segment more, and then one that is not: what is kept falls at a checkpoint.
    for _ in 0..3 {
        write_log(&primary);
        ask("select pg_switch_wal()");
    }
    // At the very begin of a segment the server still names the one in front of it.
    write_log(&primary);
    let most = bytes(&look().await, Reason::Wal);
    assert!(most >= wal + 3 * SEGMENT, "{wal} and then {most}");
    ask("select pg_drop_replication_slot('left')");
    standby
        .psql("select pg_wal_replay_resume()")
        .expect("no pause");
    assert!(testing::wait_until(BOUND, caught_up), "it catches up");
    ask("checkpoint");
    let last = look().await;
    assert_eq!(last.get(Reason::SlotWal), Reading::Nothing, "no slot");
    assert!(bytes(&last, Reason::Wal) < most, "{last:?}, {most} before");

    ask("create role plain login");
    let plain = primary.dsn().replace("//refold@", "//plain@");
    let seen = pressure(&plain).look().await.expect("a look");
    assert_eq!(seen.get(Reason::ReplayLag), Reading::Hidden);
    assert_eq!(seen.get(Reason::Wal), Reading::Hidden);
    assert_eq!(seen.get(Reason::SlotWal), Reading::Nothing);
    ask("grant pg_monitor to plain");
    let seen = pressure(&plain).look().await.expect("a look");
    assert!(matches!(seen.get(Reason::Wal), Reading::Bytes(_)));
    assert!(matches!(seen.get(Reason::ReplayLag), Reading::Bytes(_)));

    // The session is ended under it: one look fails, the next one has another.
    ask(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'refold throttle'",
    );
    let lost = pressure_seen.look().await;
    assert!(lost.is_err(), "{lost:?}");
    look().await;
    primary.stop().expect("its end");
    let lost = pressure_seen.look().await;
    assert!(lost.is_err(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apis_tell_of_their_reads_is_seen_once_and_the_slowest_counts() {
    let scratch = ScratchDir::new("refold-reads").expect("a directory");
    let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
    let server = server.expect("a server");
    let options = SessionOptions::parse(&server.dsn()).expect("a connection string");
    refold_store_postgres::migrate(&options)
        .await
        .expect("a schema");
    let ask = |sql: &str| server.psql(sql).expect("the server answers");
    let registry = PgRegistry::new(&options);
    let tell = async |api: &str, millis: u64| {
        let times = ReadTimes {
            reads: 60,
            p99: Duration::from_millis(millis),
        };
        registry.tell(api, times).await.expect("it is told");
    };
    let seen = pressure(&server.dsn());
    let look = async || seen.reads().await.expect("a look");
    let took = |millis| ReadLatency::P99(Duration::from_millis(millis));

    assert_eq!(look().await, ReadLatency::Silent);
    tell("one", 40).await;
    assert_eq!(look().await, took(40));
    assert_eq!(look().await, ReadLatency::Unchanged, "seen already");
    tell("one", 7).await;
    tell("other", 9).await;
    assert_eq!(look().await, took(9));
    tell("one", 3).await;
    assert_eq!(look().await, took(3), "what the other told was seen");
    let another = pressure(&server.dsn());
    assert_eq!(another.reads().await, Ok(took(9)), "who comes new sees all");

    // Somebody who told nothing for a while counts no more, and goes after another while.
    ask("update refold.read_latency set measured_at = measured_at - interval '6 seconds'");
    assert_eq!(look().await, ReadLatency::Silent);
    ask("update refold.read_latency set measured_at = now() - interval '2 minutes'");
    tell("one", 5).await;
    assert_eq!(look().await, took(5));
    assert_eq!(
        ask("select string_agg(api, ' ') from refold.read_latency").trim(),
        "one"
    );

    // A clock that is set back: what was told before lies in the future.
    ask("update refold.read_latency set measured_at = now() + interval '1 hour'");
    assert_eq!(look().await, ReadLatency::Silent);
    tell("other", 11).await;
    assert_eq!(look().await, took(11));
    server.stop().expect("its end");
}
