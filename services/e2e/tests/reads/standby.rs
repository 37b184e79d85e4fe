//! Reads on a streaming standby.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::Until;
use super::scene::api;
use super::scene::row;
use super::scene::switch;
use super::scene::two_versions;

#[test]
fn a_standby_that_lags_answers_from_a_whole_state_and_never_goes_back() {
    let scratch = ScratchDir::new("refold-standby").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (primary, standby) = servers.expect("a server and its standby");
    let world = World::at(&testing::stack().kafka, &primary.dsn(), "standby", STREAM);
    world.seed();
    let [_live, _candidate] = two_versions(&world, PAIR);
    let writes = api(&world, &[]);
    let behind = api(&world, &["--read-postgres", &standby.dsn()]);
    let serves = || behind.get("/aggregate/1").status == 200;
    assert!(testing::wait_until(BOUND, serves), "the standby has it all");

    // It stands still while versions are switched on the primary: older, and whole.
    standby
        .psql("select pg_wal_replay_pause()")
        .expect("a pause");
    switch(&writes, PAIR, 3);
    let old = row(&behind.get("/aggregate/1"));
    let new = row(&writes.get("/aggregate/1"));
    assert_eq!(
        (&old["generation"], &old["projection_version"]),
        (&1.into(), &PAIR[0].into())
    );
    assert_eq!(
        (&new["generation"], &new["projection_version"]),
        (&4.into(), &PAIR[1].into())
    );
    // What it does not have yet is refused, and not answered from before it.
    let mut tail = world.tail(1_000, std::time::Duration::from_secs(1)).start();
    tail.succeed(BOUND);
    let topic = Topic::on(world.brokers(), world.topic());
    let offset = topic.end(0) - 1;
    let key = topic.key_at(0, offset);
    let path = format!("/aggregate/{key}?min_offset=0:{offset}&wait=200ms");
    assert_eq!(behind.get(&path).problem("not_caught_up")["generation"], 1);
    standby
        .psql("select pg_wal_replay_resume()")
        .expect("no pause");
    let caught_up = || behind.get(&path).status == 200;
    assert!(testing::wait_until(BOUND, caught_up), "it gets there");

    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let until = Until(&stop);
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Acquire) {
                    let read = reads.fetch_add(1, Ordering::AcqRel);
                    let answer = row(&behind.get(&format!("/aggregate/{}", 1 + read % 4_000)));
                    let generation = answer["generation"].as_u64().expect("a generation");
                    assert!(generation >= last, "from {last} back: {answer}");
                    let version = PAIR[(generation + 1) as usize % 2];
                    assert_eq!(answer["projection_version"], version, "{answer}");
                    last = generation;
                }
            });
        }
        // Generation 4 is of the second version.
        switch(&writes, [PAIR[1], PAIR[0]], 20);
        drop(until);
    });
    let reads = reads.load(Ordering::Acquire);
    println!("{reads} reads on a standby over 20 switches, none failed, none mixed");
    assert!(reads > 100);
}
