//! A record that is no event, and a version that goes on around it.

use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Record;
use refold_e2e::Topic;
use refold_e2e::World;
use serde_json::Value;

use super::BOUND;
use super::SMALL;
use super::garbage::GARBLED;
use super::garbage::next_events;
use super::garbage::parameters;

/// Waits until a version's marks are at the end of the log.
fn wait_for_end(world: &World, topic: &Topic, version: &str) {
    let ends: Vec<_> = (0..SMALL.partitions as i32)
        .map(|partition| topic.end(partition))
        .collect();
    world.wait(&format!("{version} is at the end"), BOUND, || {
        let marks = world.marks(version);
        marks.len() == ends.len() && marks.iter().zip(&ends).all(|(mark, end)| mark.next == *end)
    });
}

/// What `refold parked` tells of a version: offsets and keys.
fn parked(world: &World, version: &str) -> Vec<(i64, String)> {
    let flags = ["parked".to_owned(), format!("-version={version}")];
    let json = ["-json".to_owned(), "-limit=100k".to_owned()];
    let answer = world.refold(flags.into_iter().chain(json).chain(world.store_flags()));
    assert_eq!(answer.exit, Exit::Code(0), "{answer:?}");
    let report = answer.json();
    assert_eq!(report["more"], false, "{report}");
    let events = report["events"].as_array().expect("events").iter();
    let told = |event: &Value| {
        assert_eq!(event["partition"], GARBLED, "{event}");
        let reason = event["reason"].as_str().expect("a reason");
        assert!(reason.len() > 5, "{event}");
        let key = event["key"].as_str().expect("a key");
        (event["offset"].as_i64().expect("an offset"), key.to_owned())
    };
    events.map(told).collect()
}

#[test]
fn with_the_flag_its_aggregate_stands_still_and_everything_else_goes_on_proven_and_promoted() {
    let world = World::seeded("parking", SMALL);
    let (params, topic) = (parameters(), Topic::on(world.brokers(), world.topic()));
    let at = topic.end(GARBLED as i32);
    let next = next_events(&params, GARBLED, 300);
    // An aggregate that has events behind the garbage.
    let key = next[20].key.clone();
    let of_key = next.iter().filter(|record| record.key == key).count();
    topic.write(&[Record {
        partition: GARBLED as i32,
        key: key.clone(),
        value: Some(b"\xff\xff this is no envelope".to_vec()),
    }]);
    topic.write(&next);
    let launch = world.projector(Mode::Live, "accounts_v3").arg("--park");
    let v3 = launch.start();
    let active = || world.state("accounts_v3").as_deref() == Some("active");
    world.wait("v3 serves", BOUND, active);
    wait_for_end(&world, &topic, "accounts_v3");
    let found = parked(&world, "accounts_v3");
    let name = String::from_utf8(key).expect("a key in digits");
    assert_eq!(found.len(), 1 + of_key, "{found:?}");
    assert_eq!(found[0].0, at, "{found:?}");
    assert!(found.iter().all(|(_, key)| *key == name), "{found:?}");
    let metrics = v3.metrics().expect("metrics");
    let labels = [("version", "accounts_v3"), ("reason", "parked")];
    let counted = metrics.sum("refold_events_skipped_total", &labels);
    assert_eq!(counted, found.len() as f64, "{}", metrics.text());

    // The same from history and in the tail.
    let launch = world.projector(Mode::Replay, "accounts_v4");
    let _v4 = launch.arg("--catch-up").arg("--park").start();
    for partition in 0..SMALL.partitions {
        let written = if partition == GARBLED { 300 } else { 0 };
        topic.write(&next_events(&params, partition, 310)[written..]);
    }
    let ready = || world.state("accounts_v4").as_deref() == Some("ready");
    world.wait("v4 is ready", BOUND, ready);
    for version in ["accounts_v3", "accounts_v4"] {
        wait_for_end(&world, &topic, version);
        let answer = world.refold(
            ["verify", "-json", "-against=log", "-one-of=1"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("-version={version}")])
                .chain(world.log_flags())
                .chain(world.store_flags()),
        );
        assert_eq!(answer.exit, Exit::Code(0), "{answer:?}");
        assert_eq!(answer.json()["differences"], 0, "{answer:?}");
    }
    assert_eq!(parked(&world, "accounts_v3"), parked(&world, "accounts_v4"));
    let compared = world.verify("accounts_v4", "accounts_v3");
    assert_eq!(compared["differences"], 0, "{compared}");

    let api = world.api("accounts");
    let cutover = |more: &[&str]| {
        let flags = ["cutover", "-version=accounts_v4"].map(str::to_owned);
        let api = [format!("-api={}", api.url())];
        let more = more.iter().map(|flag| (*flag).to_owned());
        world.refold(flags.into_iter().chain(api).chain(more))
    };
    let refused = cutover(&[]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stderr.contains("parked"), "{refused:?}");
    let forced = cutover(&["-force=parked", "-reason=it is closed"]);
    assert_eq!(forced.exit, Exit::Code(0), "{forced:?}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("active"));
    let audit = world.sql("select details::text from refold.audit order by id desc limit 1");
    assert!(audit[0][0].contains("it is closed"), "{audit:?}");
}
