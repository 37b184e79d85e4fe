//! A log that is a table in Postgres: built from, followed, proven and switched on while many
//! transactions write to it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use refold_domain::decode::WireFormat;
use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::Psql;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_seed::Encoder;
use refold_seed::Layout;
use refold_seed::PartitionStream;
use refold_seed::SeedParams;
use refold_seed::key_of;

const STREAM: Stream = Stream {
    events: 30_000,
    aggregates: 3_000,
    partitions: 4,
    seed: 42,
    format: "proto",
};
const WRITERS: usize = 6;
const BOUND: Duration = Duration::from_secs(120);

/// An event as it is written: partition, key and value, the bytes as hexadecimal digits.
type Event = (u32, String, String);

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The stream's events, for each writer those of its own aggregates, in the order of each.
fn shares() -> Vec<Vec<Event>> {
    let params = SeedParams {
        seed: STREAM.seed,
        events: STREAM.events,
        aggregates: STREAM.aggregates,
        partitions: STREAM.partitions,
        format: WireFormat::Proto,
        ..SeedParams::default()
    };
    let layout = Layout::new(&params).expect("parameters");
    let mut encoder = Encoder::new(&params);
    let mut shares = vec![Vec::new(); WRITERS];
    for partition in 0..STREAM.partitions {
        let mut stream = PartitionStream::new(&layout, partition).expect("a partition");
        for _ in 0..layout.events(partition) {
            let event = stream.next_event();
            let mut value = Vec::new();
            encoder.encode(&event, &mut value);
            let key = hexadecimal(key_of(i64::from(event.id)).as_bytes());
            let share = &mut shares[event.id as usize % WRITERS];
            share.push((partition, key, hexadecimal(&value)));
        }
    }
    // Partition by partition each would leave the last one empty until the end.
    for (share, events) in shares.iter_mut().enumerate() {
        interleave(events, share as u64);
    }
    shares
}

/// Takes events of all partitions in turn, those of each in their order.
fn interleave(events: &mut Vec<Event>, seed: u64) {
    let mut queues: Vec<Vec<Event>> = vec![Vec::new(); STREAM.partitions as usize];
    for event in events.drain(..).rev() {
        queues[event.0 as usize].push(event);
    }
    let mut state = seed;
    while queues.iter().any(|queue| !queue.is_empty()) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = (state >> 33) as usize % queues.len();
        events.extend(queues[at].pop());
    }
}

/// What the writers share.
#[derive(Debug, Default)]
struct Pace {
    written: AtomicU64,
    /// Write slowly: what is left has to last until the switch.
    slow: AtomicBool,
}

/// Writes a share in transactions of some events, each open for a while; every tenth is rolled
/// back, its positions are lost, and its events are written again.
fn write(mut session: Psql, topic: &str, events: &[Event], pace: &Pace) {
    let mut left = events;
    let mut turn = events.len();
    while !left.is_empty() {
        turn += 1;
        let (now, rest) = left.split_at((1 + turn % 12).min(left.len()));
        let row = |(p, key, value): &Event| format!("({p}, '\\x{key}', '\\x{value}')");
        let rows: Vec<_> = now.iter().map(row).collect();
        let sleep = if pace.slow.load(Ordering::Acquire) {
            60
        } else {
            turn % 5
        };
        let fails = turn.is_multiple_of(10);
        let end = if fails { "rollback" } else { "commit" };
        let sql = format!(
            "begin; insert into refold_events.\"{topic}\" (partition, key, value) values {};
             select pg_sleep({sleep} / 1000.0); {end}",
            rows.join(", ")
        );
        session.ask(&sql).expect("the events are written");
        if !fails {
            left = rest;
            pace.written.fetch_add(now.len() as u64, Ordering::AcqRel);
        }
    }
}

fn start_writers(world: &World) -> (Arc<Pace>, Vec<JoinHandle<()>>) {
    let pace = Arc::new(Pace::default());
    let start = |events: Vec<Event>| {
        let session = Psql::connect(world.event_store());
        let (topic, pace) = (world.topic().to_owned(), Arc::clone(&pace));
        std::thread::spawn(move || write(session, &topic, &events, &pace))
    };
    let writers = shares().into_iter().map(start).collect();
    (pace, writers)
}

/// One past the last event of each partition, as the table has them.
fn ends(table: &mut Psql, topic: &str) -> Vec<i64> {
    let sql = format!(
        "select max(position) + 1 from refold_events.\"{topic}\" group by partition order by partition"
    );
    let rows = table.ask(&sql).expect("the ends");
    rows.iter()
        .map(|row| row[0].parse().expect("a number"))
        .collect()
}

/// Every row of a version, folded again from the table by the way that shares nothing.
fn assert_borne_out(world: &World, version: &str) {
    let flags = [
        vec!["verify".to_owned(), "--json".to_owned()],
        vec!["--against=log".to_owned(), "--one-of=1".to_owned()],
        vec![format!("--version={version}")],
        world.log_flags(),
        world.store_flags(),
    ];
    let answer = world.refold(flags.concat());
    assert_eq!(answer.exit, Exit::Code(0), "{answer:?}");
    let report = answer.json();
    assert_eq!(report["differences"], 0, "{report}");
    assert_eq!(report["rows_compared"], STREAM.aggregates, "{report}");
}

#[test]
fn a_version_is_rebuilt_from_an_event_table_proven_and_promoted_while_many_write() {
    let world = World::on_event_table("table", STREAM);
    let (pace, writers) = start_writers(&world);
    let third = || pace.written.load(Ordering::Acquire) > STREAM.events / 4;
    world.wait("a third is written", BOUND, third);
    pace.slow.store(true, Ordering::Release);
    let mut v3 = world.start(Mode::Live, "accounts_v3", "active");
    let mut v4 = world.start(Mode::Replay, "accounts_v4", "ready");

    let api = Api::of(world.api_launch().args(world.log_flags()).start());
    let compared = world.verify("accounts_v4", "accounts_v3");
    assert_eq!(compared["differences"], 0, "{compared}");
    let differ = &compared["intended_differences"];
    assert!(differ.as_u64().is_some_and(|keys| keys > 0), "{compared}");
    for version in compared["log"]["versions"].as_array().expect("both") {
        assert_eq!(version["contradicted"], 0, "{compared}");
        assert_eq!(&version["confirmed"], differ, "{compared}");
    }
    let cutover = ["cutover".to_owned(), "-version=accounts_v4".to_owned()];
    let answer = world.refold(cutover.into_iter().chain([format!("-api={}", api.url())]));
    assert_eq!(answer.exit, Exit::Code(0), "{answer:?}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("active"));
    let written = pace.written.load(Ordering::Acquire);
    assert!(
        written < STREAM.events,
        "the switch came after the last event"
    );

    pace.slow.store(false, Ordering::Release);
    for writer in writers {
        writer.join().expect("the writer does not panic");
    }
    let mut table = Psql::connect(world.event_store());
    let ends = ends(&mut table, world.topic());
    for version in ["accounts_v3", "accounts_v4"] {
        let marks = || world.marks(version).into_iter().map(|mark| mark.next);
        world.wait(version, BOUND, || marks().eq(ends.iter().copied()));
        assert_borne_out(&world, version);
        world.assert_final_state(version);
    }
    world.watch().assert_none_moved_back();
    the_past_is_told(&world, &api, &mut table);
    v3.drain(BOUND);
    v4.drain(BOUND);
    let gaps = ends.iter().max().expect("ends") - STREAM.events as i64;
    println!(
        "{} events of {WRITERS} writers, {gaps} positions lost, {written} written at the switch",
        STREAM.events
    );
}

/// What an aggregate was is read from the table as well, by the api and by the command.
fn the_past_is_told(world: &World, api: &Api, table: &mut Psql) {
    let first = format!(
        "select position, partition, convert_from(key, 'UTF8') from refold_events.\"{}\"
         where position = 0",
        world.topic()
    );
    let first = table.ask(&first).expect("an event");
    let (position, partition, key) = (&first[0][0], &first[0][1], &first[0][2]);
    let reply = api.get(&format!(
        "/aggregate/{key}/as-of?offset={partition}:{position}&version=accounts_v4"
    ));
    assert_eq!(reply.status, 200, "{reply:?}");
    let flags = vec![
        "as-of".to_owned(),
        key.clone(),
        "-version=accounts_v4".to_owned(),
    ];
    let flags = [flags, vec!["-seq=1".to_owned()], world.log_flags()].concat();
    let answer = world.refold(flags);
    assert_eq!(answer.exit, Exit::Code(0), "{answer:?}");
    assert!(answer.stdout.contains("balance"), "{answer:?}");
}

/// What the product says to a command line, with its exit code.
fn said(world: &World, launch: Launch) -> (Exit, String) {
    let mut process = launch.args(world.store_flags()).start();
    (process.exit(BOUND), process.stderr().text())
}

#[test]
fn a_log_that_is_not_named_or_named_twice_or_lacks_what_is_asked_is_a_usage_error() {
    let world = World::on_event_table("usage", STREAM);
    let store = format!("--event-store={}", world.event_store());
    let projector = || {
        Launch::new(["projector", "-mode=live", "-version=accounts_v3"])
            .arg("--metrics-listen=127.0.0.1:0")
    };
    let topic = |launch: Launch| launch.flag("topic", world.topic());
    let cases = [
        (projector(), 64, "-brokers for a Kafka topic"),
        (
            projector().arg(&store).flag("brokers", world.brokers()),
            64,
            "name two logs",
        ),
        (
            projector().arg(&store).flag("group", "g"),
            64,
            "-group needs a Kafka topic",
        ),
        (
            projector().flag("event-store", "postgres://h:port/d"),
            64,
            "-event-store:",
        ),
        (
            projector().arg(&store).flag("topic", "a b"),
            64,
            "not the name of an event table",
        ),
        (
            projector().arg(&store).flag("topic", "elsewhere"),
            3,
            "elsewhere does not exist",
        ),
        (
            projector().flag("event-store", "postgres://refold@127.0.0.1:1/refold"),
            69,
            "127.0.0.1:1",
        ),
        (
            topic(Launch::new([
                "verify",
                "-version=accounts_v3",
                "-against=log",
            ])),
            64,
            "-brokers for a Kafka topic",
        ),
    ];
    for (launch, code, part) in cases {
        let (exit, told) = said(&world, launch);
        assert_eq!(exit, Exit::Code(code), "{part}: {told}");
        assert!(told.contains(part), "{part}: {told}");
    }
    let twice = Launch::new(["event-table", "create", world.topic()]).arg(&store);
    let mut twice = twice.start();
    assert_eq!(twice.exit(BOUND), Exit::Code(1));
    assert!(twice.stderr().text().contains("already exists"));
}
