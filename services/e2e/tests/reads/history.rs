//! What an aggregate was, of a whole log, of one that lost its head, and of a compacted one.
//!
//! Every event of the reference log carries the account as the write side knew it right behind
//! the event. That is what the answers are held against: it is no fold of ours.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use refold_e2e::Api;
use refold_e2e::Dice;
use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Record;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::testing;
use serde_json::Value;
use serde_json::json;

use super::scene::BOUND;
use super::scene::row;

/// Fifty events an account. Version 4 has the balance as the write side has it.
const LOG: Stream = Stream {
    events: 3_000,
    aggregates: 60,
    partitions: 2,
    seed: 7,
    format: "json",
};
const VERSION: &str = "accounts_v4";

/// An event as it stands in the log.
#[derive(Debug, Clone)]
struct Said {
    partition: i32,
    offset: i64,
    envelope: Value,
}

impl Said {
    /// What the write side knew: balance, status, number of the event.
    fn after(&self) -> [Value; 3] {
        let after = &self.envelope["payload"]["after"];
        ["balance_cents", "status", "version"].map(|name| after[name].clone())
    }
}

/// The events of each account, in the order of their offsets.
type Events = BTreeMap<i64, Vec<Said>>;

fn events_of(topic: &Topic) -> Events {
    let mut events = Events::new();
    for partition in 0..LOG.partitions as i32 {
        for (offset, record) in topic.records(partition) {
            let value = record.value.expect("an event");
            let envelope: Value = serde_json::from_slice(&value).expect("an envelope");
            let id = envelope["aggregate_id"].as_i64().expect("a number");
            events.entry(id).or_default().push(Said {
                partition,
                offset,
                envelope,
            });
        }
    }
    events
}

/// The answer's balance, status and last event.
fn told(answer: &Value) -> [Value; 3] {
    let state = &answer["state"];
    let seq = &answer["stopped_at"]["seq"];
    [&state["balance"], &state["status"], seq].map(Value::clone)
}

fn as_of(api: &Api, id: i64, point: &str) -> Value {
    row(&api.get(&format!("/aggregate/{id}/as-of?{point}")))
}

fn refused(api: &Api, id: i64, point: &str, code: &str) -> Value {
    let reply = api.get(&format!("/aggregate/{id}/as-of?{point}"));
    reply.problem(code)
}

/// An api with the log behind it, over a version that has all of it.
fn scene(name: &str) -> (World, Api, Events) {
    let world = World::seeded(name, LOG);
    let mut live = world.start(Mode::Live, VERSION, "active");
    let all = || world.applied(VERSION) == LOG.events as i64;
    world.wait("the version has the log", BOUND, all);
    live.drain(BOUND);
    let api = Api::of(world.api_launch().args(world.log_flags()).start());
    let events = events_of(&Topic::on(world.brokers(), world.topic()));
    (world, api, events)
}

/// The state of the serving row, without what the read adds to it.
fn current(api: &Api, id: i64) -> Value {
    let mut row = row(&api.get(&format!("/aggregate/{id}")));
    let own = row.as_object_mut().expect("an object");
    for name in [
        "aggregate_id",
        "applied_seq",
        "applied_offset",
        "partition",
        "projection_version",
        "generation",
    ] {
        own.remove(name).expect(name);
    }
    row
}

#[test]
fn the_past_of_an_account_is_what_its_events_said_then() {
    let (world, api, events) = scene("past");
    let mut dice = Dice::printed("past");
    for _ in 0..60 {
        let id = 1 + (dice.draw() % LOG.aggregates) as i64;
        let own = &events[&id];
        let said = &own[(dice.draw() % own.len() as u64) as usize];
        let (at, seq) = (
            format!("{}:{}", said.partition, said.offset),
            &said.envelope["version"],
        );
        for point in [format!("offset={at}"), format!("seq={seq}")] {
            let answer = as_of(&api, id, &point);
            assert_eq!(told(&answer), said.after(), "{id} {point}");
            assert_eq!(answer["stopped_at"]["offset"], said.offset);
            assert_eq!(answer["complete"], true);
        }
        // By time: every event of the account that is not later, wherever it stands.
        let ts = said.envelope["ts"].as_str().expect("a time");
        let counted: Vec<_> = own
            .iter()
            .filter(|other| other.envelope["ts"].as_str() <= Some(ts))
            .collect();
        let answer = as_of(&api, id, &format!("ts={ts}"));
        assert_eq!(answer["folded_events"], counted.len());
        let last = counted.last().expect("the event itself").offset;
        assert_eq!(answer["stopped_at"]["offset"], last);
    }
    for (id, own) in &events {
        // In front of its first event there is no account, and at its last one the row that serves.
        let (first, last) = (&own[0], &own[own.len() - 1]);
        if first.offset > 0 {
            let before = format!("offset={}:{}", first.partition, first.offset - 1);
            refused(&api, *id, &before, "aggregate_not_found");
        }
        let at = format!("offset={}:{}", last.partition, last.offset);
        assert_eq!(as_of(&api, *id, &at)["state"], current(&api, *id), "{id}");
    }
    traced_and_on_the_command_line(&world, &api, &events);
    points_that_are_none(&api, &events);
    let silent = world.api("accounts");
    refused(&silent, 1, "seq=1", "no_log");
}

fn traced_and_on_the_command_line(world: &World, api: &Api, events: &Events) {
    let (id, own) = events.iter().max_by_key(|(_, own)| own.len()).expect("one");
    let seq = own.len();
    let answer = row(&api.get(&format!("/aggregate/{id}/trace?seq={seq}")));
    let trace = answer["trace"].as_array().expect("a trace");
    assert_eq!(trace.len(), seq);
    let mut balance = Value::Null;
    for (step, said) in trace.iter().zip(own) {
        assert_eq!(step["offset"], said.offset);
        assert_eq!(step["type"], said.envelope["type"]);
        if let Some(after) = step["after"].get("balance") {
            balance = after.clone();
        }
        assert_eq!(balance, said.after()[0], "{step}");
    }
    let version = format!("--version={VERSION}");
    let flags = [
        format!("--seq={seq}"),
        version,
        "--trace".to_owned(),
        "--json".to_owned(),
    ];
    let command = ["as-of".to_owned(), id.to_string()].into_iter();
    let said = world.refold(command.chain(flags).chain(world.log_flags()));
    assert_eq!(said.exit, Exit::Code(0), "{said:?}");
    assert_eq!(said.json(), answer);
    let behind = ["as-of", "1", "--seq=999", "--version=accounts_v4"];
    let behind = behind.map(ToOwned::to_owned).into_iter();
    let said = world.refold(behind.chain(world.log_flags()));
    assert_eq!(said.exit, Exit::Code(3), "{said:?}");
    assert!(
        said.stderr.contains("its event 999 has not come yet"),
        "{said:?}"
    );
}

fn points_that_are_none(api: &Api, events: &Events) {
    let home = events[&1][0].partition;
    let end = events
        .values()
        .flatten()
        .filter(|said| said.partition == home);
    let end = end.map(|said| said.offset).max().expect("an event") + 1;
    let other = 1 - home;
    for (point, code) in [
        (String::new(), "bad_request"),
        ("seq=1&ts=2026-03-01".to_owned(), "bad_request"),
        ("seq=0".to_owned(), "bad_request"),
        ("ts=yesterday".to_owned(), "bad_request"),
        ("offset=7".to_owned(), "bad_request"),
        (format!("offset={other}:0"), "invalid_offset"),
        (format!("offset={home}:{end}"), "position_in_future"),
        ("ts=2999-01-01".to_owned(), "position_in_future"),
        ("seq=100000".to_owned(), "position_in_future"),
        (
            "seq=1&version=accounts_v999".to_owned(),
            "version_not_found",
        ),
    ] {
        refused(api, 1, &point, code);
    }
    let reply = api.get("/aggregate/one/as-of?seq=1");
    assert_eq!(reply.problem("bad_key")["status"], 400);
    refused(api, 4_711, "seq=1", "aggregate_not_found");
    let named = as_of(api, 1, "seq=1&version=accounts");
    assert_eq!(named, as_of(api, 1, "seq=1"));
}

#[test]
fn a_log_that_lost_its_head_answers_410_and_from_where_on_it_is_known() {
    let (world, api, events) = scene("lost_head");
    let topic = Topic::on(world.brokers(), world.topic());
    let (id, own) = events.iter().max_by_key(|(_, own)| own.len()).expect("one");
    let (first, last) = (&own[0], &own[own.len() - 1]);
    topic.delete_below(first.partition, first.offset + 1);
    for point in [
        format!("offset={}:{}", first.partition, own[1].offset),
        "ts=2999-01-01".replace("2999", "2026"),
        "seq=2".to_owned(),
    ] {
        let gone = refused(&api, *id, &point, "history_unavailable");
        assert_eq!(gone["status"], 410);
        let detail = gone["detail"].as_str().expect("a sentence");
        assert!(
            detail.contains("event 1 of the aggregate is not in the log"),
            "{detail}"
        );
        let at = format!("{}:{}", last.partition, last.offset);
        assert_eq!(gone["earliest_answerable"], at.as_str());
        // What it names is answered, from the serving row.
        let answer = as_of(&api, *id, &format!("offset={at}"));
        assert_eq!(answer["from_snapshot"], true);
        assert_eq!(answer["state"], current(&api, *id));
        assert_eq!(told(&answer), last.after());
    }
    // An account of the other partition is not concerned.
    let (id, own) = events
        .iter()
        .find(|(_, own)| own[0].partition != first.partition)
        .expect("an account there");
    assert_eq!(told(&as_of(&api, *id, "seq=1")), own[0].after());
    // The same events in another topic are another log.
    let another = Topic::on(world.brokers(), &testing::unique_topic("another-log"));
    another.create(LOG.partitions as i32);
    let mut flags = world.log_flags();
    flags[1] = format!("--topic={}", another.name());
    let elsewhere = Api::of(world.api_launch().args(flags).start());
    refused(&elsewhere, *id, "seq=1", "log_changed");
}

#[test]
fn a_compacted_log_answers_rightly_or_not_at_all() {
    let world = World::seeded("compacted_past", LOG);
    let whole = events_of(&Topic::on(world.brokers(), world.topic()));
    let topic = Topic::on(world.brokers(), &testing::unique_topic("e2e-compacted"));
    topic.create_compacted(1);
    let mut all: Vec<&Said> = whole.values().flatten().collect();
    all.sort_by_key(|said| (said.partition, said.offset));
    let record = |said: &&Said| Record {
        partition: 0,
        key: said.envelope["aggregate_id"].to_string().into_bytes(),
        value: Some(said.envelope.to_string().into_bytes()),
    };
    let records: Vec<_> = all.iter().map(record).collect();
    topic.write(&records);
    // The offset of each event in this topic is its place in what was written.
    let mut own: BTreeMap<i64, Vec<(i64, &Said)>> = BTreeMap::new();
    for (offset, said) in (0..).zip(&all) {
        let id = said.envelope["aggregate_id"].as_i64().expect("a number");
        own.entry(id).or_default().push((offset, *said));
    }
    compact(&topic, records.len());
    let (mut answered, mut gone) = (0, 0);
    let mut dice = Dice::printed("compacted past");
    for _ in 0..40 {
        let id = 1 + (dice.draw() % LOG.aggregates) as i64;
        let events = &own[&id];
        let (offset, said) = events[(dice.draw() % events.len() as u64) as usize];
        let flags = [
            format!("--offset=0:{offset}"),
            format!("--version={VERSION}"),
            format!("--brokers={}", world.brokers()),
            format!("--topic={}", topic.name()),
            "--format=json".to_owned(),
            "--json".to_owned(),
        ];
        let command = ["as-of".to_owned(), id.to_string()].into_iter();
        let answer = world.refold(command.chain(flags));
        match answer.exit {
            Exit::Code(0) => {
                answered += 1;
                assert_eq!(told(&answer.json()), said.after(), "{id} at {offset}");
            }
            Exit::Code(3) => {
                gone += 1;
                assert!(answer.stderr.contains("not in the log"), "{answer:?}");
            }
            _ => panic!("{answer:?}"),
        }
    }
    println!("{answered} answered rightly, {gone} not at all");
    assert!(gone >= 20, "{gone} of 40 were refused: was it compacted?");
}

/// Waits until the brokers have thrown most of the records away.
fn compact(topic: &Topic, written: usize) {
    let begun = Instant::now();
    loop {
        // A segment that is written to is never compacted: only a later record closes it.
        let closing = json!({"format": 1, "aggregate_id": -1, "version": 1, "type": "Closing",
            "ts": "2026-03-01T00:00:00Z", "payload": {}});
        topic.write(&[Record {
            partition: 0,
            key: b"-1".to_vec(),
            value: Some(closing.to_string().into_bytes()),
        }]);
        if topic.records(0).len() < written / 2 {
            return;
        }
        assert!(begun.elapsed() < BOUND, "the log is not compacted");
        // sleep: the pause between two looks; each of them writes a record.
        std::thread::sleep(Duration::from_millis(500));
    }
}
