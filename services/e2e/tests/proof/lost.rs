//! Events that both versions lost alike: they agree with each other, and each with its own sums.

use std::time::Duration;

use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Topic;
use refold_e2e::World;

use super::BOUND;
use super::STREAM;
use super::ask_the_log;
use super::cutover;
use super::verify;

/// Two versions that run the same fold.
const PAIR: [&str; 2] = ["accounts_v3", "accounts_v103"];

/// The partition whose events are lost.
const LOSER: i32 = 1;

/// Runs both until they have the whole log, and ends them.
fn catch_up(world: &World) {
    let topic = Topic::on(world.brokers(), world.topic());
    let end: i64 = (0..STREAM.partitions)
        .map(|p| topic.end(p.cast_signed()))
        .sum();
    let mut live = world.start(Mode::Live, PAIR[0], "active");
    let is_in = || world.applied(PAIR[0]) == end;
    world.wait("it has the whole log", BOUND, is_in);
    live.drain(BOUND);
    world.replay(PAIR[1]);
    assert_eq!(world.applied(PAIR[1]), end);
}

/// Keeps the rows and the sums of a version's partition.
fn keep(world: &World, version: &str) {
    let id = world.version_id(version);
    world.sql(&format!(
        "create schema if not exists kept;
         create table kept.{version} as select * from rm.v{id}_p{LOSER};
         create table kept.{version}_sums as select sums, rows from refold.offsets
         where version = {id} and partition = {LOSER}"
    ));
}

/// Brings them back under the mark of now, and tells how many keys have another row then.
fn lose(world: &World, version: &str) -> u64 {
    let id = world.version_id(version);
    let leaf = format!("rm.v{id}_p{LOSER}");
    let newer = format!(
        "select count(*) from (select * from {leaf} except select * from kept.{version}) newer"
    );
    let newer = world.cell(&newer).parse().expect("a number");
    world.sql(&format!(
        "begin;
         delete from {leaf};
         insert into {leaf} select * from kept.{version};
         update refold.offsets o set sums = kept.sums, rows = kept.rows
         from kept.{version}_sums kept where o.version = {id} and o.partition = {LOSER};
         commit"
    ));
    newer
}

#[test]
fn what_both_versions_lost_alike_is_found_by_the_log_alone_and_in_both() {
    let world = World::seeded("lost_in_both", STREAM);
    catch_up(&world);
    PAIR.iter().for_each(|version| keep(&world, version));
    let tail = world.tail(2_000, Duration::from_secs(1));
    tail.start().succeed(BOUND);
    catch_up(&world);
    for version in PAIR {
        assert_eq!(ask_the_log(&world, version).exit, Exit::Code(0));
    }

    let lost = PAIR.map(|version| lose(&world, version));
    assert_eq!(lost[0], lost[1]);
    assert!(lost[0] > 100, "{lost:?}");
    // Rows and sums fit, and both versions are the same: all that looks at these is content.
    let scanned = verify(&world, PAIR[1], PAIR[0]);
    assert_eq!(scanned.exit, Exit::Code(0), "{scanned:?}");
    assert_eq!(scanned.json()["differences"], 0, "{scanned:?}");
    let api = world.api("accounts");
    let tried = cutover(&world, &api, PAIR[1], &["-dry-run"]);
    // What is only tried exits like a plan that has changes.
    assert_eq!(tried.exit, Exit::Code(2), "{tried:?}");
    assert!(tried.stdout.contains("gate verified   ok"), "{tried:?}");
    for version in PAIR {
        let told = ask_the_log(&world, version);
        assert_eq!(told.exit, Exit::Code(2), "{told:?}");
        let told = told.json();
        assert_eq!(told["differences"], lost[0], "{told}");
        let samples = told["samples"].as_array().expect("samples");
        let begins = format!("{version} p{LOSER} key ");
        let names = |sample: &serde_json::Value| {
            let sample = sample.as_str().unwrap_or_default();
            sample.starts_with(&begins) && sample.contains("the log says")
        };
        assert!(!samples.is_empty() && samples.iter().all(names), "{told}");
    }
}
