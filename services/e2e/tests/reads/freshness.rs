//! Reads of one's own writes.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use refold_e2e::Api;
use refold_e2e::Topic;
use refold_e2e::World;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::TAIL;
use super::scene::Until;
use super::scene::api;
use super::scene::row;
use super::scene::switch;
use super::scene::two_versions;

/// The latest event of a partition: its offset and its aggregate.
fn latest(topic: &Topic, partition: i32) -> (i64, String) {
    let offset = topic.end(partition) - 1;
    (offset, topic.key_at(partition, offset))
}

fn read_own(api: &Api, key: &str, partition: i32, offset: i64) -> serde_json::Value {
    let path = format!("/aggregate/{key}?min_offset={partition}:{offset}&wait=5s");
    row(&api.get(&path))
}

#[test]
fn a_write_is_read_back_at_once_also_while_versions_are_switched() {
    let world = World::seeded("own_writes", STREAM);
    let [mut live, mut candidate] = two_versions(&world, PAIR);
    let mut tail = world.tail(1_000, TAIL).start();
    let history = STREAM.events as i64;
    world.wait("the tail moves", BOUND, || world.applied(PAIR[0]) > history);
    let apis = [api(&world, &[]), api(&world, &[])];
    let topic = Topic::on(world.brokers(), world.topic());
    let (stop, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (read, versions) = thread::scope(|scope| {
        let until = Until(&stop);
        let reader = scope.spawn(|| {
            let (mut read, mut versions) = (0, Vec::new());
            while !stop.load(Ordering::Acquire) {
                let partition = read % STREAM.partitions as i32;
                let (offset, key) = latest(&topic, partition);
                let answer = read_own(&apis[read as usize % 2], &key, partition, offset);
                let applied = answer["applied_offset"].as_i64().expect("an offset");
                assert!(applied >= offset, "asked for {offset}: {answer}");
                let version = answer["projection_version"].clone();
                if versions.last() != Some(&version) {
                    versions.push(version);
                }
                read += 1;
                reads.fetch_add(1, Ordering::AcqRel);
            }
            (read, versions)
        });
        // However slow the machine is: some reads, and switches all along.
        while reads.load(Ordering::Acquire) < 20 && !reader.is_finished() {
            switch(&apis[0], PAIR, 2);
        }
        drop(until);
        reader.join().expect("every write is read back")
    });
    assert!(
        read >= 20 && versions.len() > 2,
        "{read} reads, {versions:?}"
    );
    println!(
        "{read} writes read back over {} changes of the version",
        versions.len() - 1
    );
    tail.drain(BOUND);
    live.drain(BOUND);
    candidate.drain(BOUND);
}

#[test]
fn a_write_that_is_not_there_is_refused_in_time_and_found_when_it_comes() {
    let world = World::seeded("late_writes", STREAM);
    let [live, _candidate] = two_versions(&world, PAIR);
    let api = api(&world, &[]);
    let topic = Topic::on(world.brokers(), world.topic());
    let before = world.applied(PAIR[0]);
    live.stop();
    let mut tail = world.tail(1_000, Duration::from_secs(1)).start();
    tail.succeed(BOUND);
    let (offset, key) = latest(&topic, 0);
    let path = format!("/aggregate/{key}?min_offset=0:{offset}");
    let asked = Instant::now();
    let late = api.get(&format!("{path}&wait=300ms"));
    let waited = asked.elapsed();
    let refused = late.problem("not_caught_up");
    assert_eq!(
        (late.status, &refused["retryable"]),
        (409, &serde_json::json!(true))
    );
    let position = refused["position"].as_i64().expect("a position");
    assert!(position <= offset && position > 0, "{refused}");
    assert!(
        waited >= Duration::from_millis(300) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    assert_eq!(world.applied(PAIR[0]), before);
    // Of another partition it says nothing.
    let other = api.get(&format!("/aggregate/{key}?min_offset=1:0"));
    assert_eq!(other.problem("invalid_offset")["status"], 400);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_own(&api, &key, 0, offset));
        live.resume();
        let answer = reader.join().expect("the read waits for it");
        let applied = answer["applied_offset"].as_i64();
        assert!(applied >= Some(offset), "{answer}");
    });
}
