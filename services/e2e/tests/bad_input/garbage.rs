//! A record that is no event.

use refold_domain::decode::WireFormat;
use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Record;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_seed::Encoder;
use refold_seed::Layout;
use refold_seed::PartitionStream;
use refold_seed::SeedParams;
use refold_seed::key_of;

use super::BOUND;
use super::SMALL;
use super::refused;

pub(super) const GARBLED: u32 = 1;

/// What the stream has next in a partition, as the tail would write it.
pub(super) fn next_events(params: &SeedParams, partition: u32, count: usize) -> Vec<Record> {
    let layout = Layout::new(params).expect("parameters");
    events_from(params, partition, layout.events(partition), count)
}

/// What the stream has in a partition from an offset on.
pub(super) fn events_from(
    params: &SeedParams,
    partition: u32,
    from: u64,
    count: usize,
) -> Vec<Record> {
    let layout = Layout::new(params).expect("parameters");
    let mut stream = PartitionStream::new(&layout, partition).expect("a partition");
    stream.advance_to(from);
    let mut encoder = Encoder::new(params);
    let mut next = || {
        let event = stream.next_event();
        let mut value = Vec::new();
        encoder.encode(&event, &mut value);
        Record {
            partition: partition as i32,
            key: key_of(i64::from(event.id)).into_bytes(),
            value: Some(value),
        }
    };
    (0..count).map(|_| next()).collect()
}

pub(super) fn parameters() -> SeedParams {
    SeedParams {
        seed: SMALL.seed,
        events: SMALL.events,
        aggregates: SMALL.aggregates,
        partitions: SMALL.partitions,
        format: WireFormat::Proto,
        ..SeedParams::default()
    }
}

fn garbage(value: Option<&[u8]>) -> Record {
    Record {
        partition: GARBLED as i32,
        key: b"17".to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

#[test]
fn an_undecodable_event_halts_its_partition_and_no_other_and_is_never_passed() {
    let world = World::seeded("garbage", SMALL);
    let (params, topic) = (parameters(), Topic::on(world.brokers(), world.topic()));
    let ends = Layout::new(&params).expect("parameters").end_offsets();
    let mut live = world.projector(Mode::Live, "accounts_v3").start();
    let active = || world.state("accounts_v3").as_deref() == Some("active");
    world.wait("v3 serves", BOUND, active);

    topic.write(&[garbage(Some(b"\xff\xff this is no envelope"))]);
    for partition in 0..SMALL.partitions {
        topic.write(&next_events(&params, partition, 300));
    }
    let at = ends[GARBLED as usize];
    let line = live.wait_for_line("halted at offset", BOUND);
    assert!(
        line.contains(&format!("p{GARBLED} of accounts_v3")),
        "{line}"
    );
    assert!(line.contains(&format!("offset {at}: ")), "{line}");
    let reason = line
        .split(&format!("offset {at}: "))
        .nth(1)
        .unwrap_or_default();
    assert!(reason.trim().len() > 5, "no reason: {line}");
    world.wait("the others go on", BOUND, || {
        let marks = world.marks("accounts_v3");
        marks
            .iter()
            .zip(&ends)
            .all(|(mark, end)| match mark.partition as u32 {
                GARBLED => mark.next == *end as i64,
                _ => mark.next == *end as i64 + 300,
            })
    });

    let (status, ready) = live.get("/readyz?verbose").expect("an answer");
    assert_eq!(status, 503, "{ready}");
    let told: Vec<_> = ready
        .lines()
        .filter(|line| line.starts_with("[-]"))
        .collect();
    assert_eq!(told.len(), 1, "{ready}");
    assert!(told[0].contains(&format!("offset {at}")), "{ready}");
    let metrics = live.metrics().expect("metrics");
    let of = [("version", "accounts_v3"), ("partition", "1")];
    let applied = metrics.value("refold_partition_applied_offset", &of);
    assert_eq!(applied, Some(at as f64), "{}", metrics.text());
    let lag = metrics.value("refold_partition_lag_events", &of);
    assert!(lag.is_some_and(|lag| lag > 0.0), "{lag:?}");
    assert_eq!(live.try_exit(), None, "the others are still there");

    // A rebuild meets it as well, and does not become ready over it.
    let (code, sentence) = refused(&world.projector(Mode::Replay, "accounts_v4"));
    assert_eq!(code, 1, "{sentence}");
    assert!(
        sentence.contains(&format!("p{GARBLED} of accounts_v4")),
        "{sentence}"
    );
    assert!(sentence.contains(&format!("offset {at}: ")), "{sentence}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("building"));
    for mark in world.marks("accounts_v4") {
        let end = ends[mark.partition as usize] as i64;
        match mark.partition as u32 {
            GARBLED => assert!(mark.next <= end, "{mark:?} is past the garbage at {end}"),
            _ => assert_eq!(mark.next, end + 300, "{mark:?}"),
        }
    }
    live.terminate();
    live.exit(BOUND);
    world.assert_equals_oracle("accounts_v3");
}

#[test]
fn a_tombstone_and_an_event_of_a_strange_kind_of_value_are_no_events_either() {
    let cases: [Option<&[u8]>; 2] = [None, Some(b"")];
    for value in cases {
        let world = World::seeded("tombstone", SMALL);
        let ends = Layout::new(&parameters())
            .expect("parameters")
            .end_offsets();
        Topic::on(world.brokers(), world.topic()).write(&[garbage(value)]);
        let (code, sentence) = refused(&world.projector(Mode::Replay, "accounts_v3"));
        assert_eq!(code, 1, "{sentence}");
        let at = ends[GARBLED as usize];
        assert!(
            sentence.contains(&format!("halted at offset {at}: ")),
            "{sentence}"
        );
    }
}

#[test]
fn a_key_that_two_partitioners_put_into_two_partitions_is_found_with_both() {
    const ELSEWHERE: i32 = 2;
    let world = World::seeded("apart", SMALL);
    let topic = Topic::on(world.brokers(), world.topic());
    let look = || {
        let flags = ["verify", "-json", "-version=accounts_v3", "-against=keys"];
        let flags = flags.map(str::to_owned).into_iter();
        world.refold(flags.chain(world.store_flags()))
    };
    world.replay("accounts_v3");
    let sound = look();
    assert_eq!(sound.exit, Exit::Code(0), "{sound:?}");
    assert_eq!(sound.json()["rows_compared"], SMALL.aggregates);

    // The first event of an aggregate, which opens it elsewhere, too.
    let next = events_from(&parameters(), GARBLED, 0, 1).remove(0);
    let key = String::from_utf8(next.key.clone()).expect("a key in digits");
    let at = topic.end(ELSEWHERE);
    topic.write(&[Record {
        partition: ELSEWHERE,
        ..next
    }]);
    world.replay("accounts_v3");
    let found = look();
    assert_eq!(found.exit, Exit::Code(2), "{found:?}");
    let report = found.json();
    assert_eq!(report["differences"], 1, "{report}");
    let named = report["samples"][0].as_str().expect("a sentence");
    for part in [
        format!("key {key} is in p{GARBLED}, "),
        format!("and in p{ELSEWHERE}, its last event there at offset {at}"),
    ] {
        assert!(named.contains(&part), "{named}");
    }
}
