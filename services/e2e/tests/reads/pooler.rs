//! Several api processes, and a pooler between them and the database.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use refold_e2e::Api;
use refold_e2e::Launch;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::PgBouncer;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use serde_json::Value;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::TAIL;
use super::scene::Until;
use super::scene::api;
use super::scene::row;
use super::scene::switch;
use super::scene::two_versions;

/// Reads from every api while `work` runs. Generations never go back, and after each switch
/// that has been answered no api answers from before it.
pub(crate) fn read_during(apis: &[Api], work: impl FnOnce(&AtomicU64)) -> u64 {
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    // The highest generation that anybody was told of.
    let known = AtomicU64::new(0);
    thread::scope(|scope| {
        let until = Until(&stop);
        for api in apis.iter().chain(apis) {
            let (stop, reads, known) = (&stop, &reads, &known);
            scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let read = reads.fetch_add(1, Ordering::AcqRel);
                    let floor = known.load(Ordering::Acquire);
                    let answer = row(&api.get(&format!("/aggregate/{}", 1 + read % 4_000)));
                    let generation = answer["generation"].as_u64().expect("a generation");
                    assert!(generation >= floor, "older than {floor}: {answer}");
                    assert_eq!(
                        answer["projection_version"],
                        PAIR[(generation + 1) as usize % 2]
                    );
                    known.fetch_max(generation, Ordering::AcqRel);
                }
            });
        }
        work(&known);
        drop(until);
    });
    reads.load(Ordering::Acquire)
}

#[test]
fn no_api_process_answers_from_before_a_switch_that_another_one_has_shown() {
    let world = World::seeded("three_apis", STREAM);
    let [_live, _candidate] = two_versions(&world, PAIR);
    let apis = [api(&world, &[]), api(&world, &[]), api(&world, &[])];
    let reads = read_during(&apis, |_| switch(&apis[0], PAIR, 100));
    println!("{reads} reads by three apis over 100 switches, none failed, none went back");
    assert!(reads > 100);
}

/// The api's launch through a pooler, in place of the database's own address.
fn through(world: &World, pooler: &PgBouncer) -> Launch {
    Launch::new(["api"])
        .flag("listen", "127.0.0.1:0")
        .flag("max-scan-age", "none")
        .flag("pooler", "transaction")
        .flag("postgres", pooler.dsn(world.dsn()))
}

#[test]
fn reads_and_switches_work_through_a_pooler_in_transaction_mode() {
    let scratch = ScratchDir::new("refold-pooler").expect("a directory");
    let world = World::seeded("pooler", STREAM);
    // Fewer sessions than connections: each is lent to many.
    let pooler = match PgBouncer::start(scratch.path(), world.dsn(), 3) {
        Ok(pooler) => pooler,
        Err(reason) => {
            let name = "reads_and_switches_work_through_a_pooler_in_transaction_mode";
            return testing::unsupported(name, &reason.to_string());
        }
    };
    let [_live, _candidate] = two_versions(&world, PAIR);
    let direct = api(&world, &[]);
    let mut tail = world.tail(500, TAIL).start();
    let apis = [
        Api::of(through(&world, &pooler).start()),
        Api::of(through(&world, &pooler).start()),
    ];
    let reads = read_during(&apis, |_| switch(&apis[0], PAIR, 10));
    println!("{reads} reads through the pooler over 10 switches, none failed");
    assert!(reads > 100);
    tail.drain(BOUND);
    let topic = Topic::on(world.brokers(), world.topic());
    let end: i64 = (0..STREAM.partitions as i32).map(|p| topic.end(p)).sum();
    let settled = || world.applied(PAIR[0]) == end;
    world.wait("the serving version has all of it", BOUND, settled);
    // The same bytes, whichever way: settings do not depend on the session that was lent.
    for key in 1..=100 {
        let path = format!("/aggregate/{key}");
        assert_eq!(apis[key % 2].get(&path).body, direct.get(&path).body);
    }
    let listed = |api: &Api| -> Value { row(&api.get("/projections")) };
    assert_eq!(
        listed(&apis[0])["generation"],
        listed(&direct)["generation"]
    );
    let place = world.marks(PAIR[0])[0];
    let key = first_key(&world);
    let fresh = format!("/aggregate/{key}?min_offset=0:{}&wait=1s", place.next - 1);
    row(&apis[1].get(&fresh));
}

/// An aggregate of the first partition.
fn first_key(world: &World) -> String {
    world.cell("select min(aggregate_id) from accounts_v3 where partition = 0")
}
