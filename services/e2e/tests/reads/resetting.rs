//! A candidate that turned out wrong is built again, beside readers of what serves.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use refold_e2e::Answer;
use refold_e2e::Exit;
use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::World;

use super::ending::read_until;
use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::Until;
use super::scene::api;
use super::scene::row;
use super::scene::switch;
use super::scene::two_versions;

fn reset(world: &World, version: &str, more: &[&str]) -> Answer {
    let flags = ["reset", "-version", version].map(str::to_owned);
    let more = more.iter().map(|flag| (*flag).to_owned());
    world.refold(flags.into_iter().chain(more).chain(world.store_flags()))
}

fn refused(answer: &Answer, code: i32, part: &str) {
    assert_eq!(answer.exit, Exit::Code(code), "{answer:?}");
    assert!(answer.stderr.contains(part), "{answer:?}");
}

#[test]
fn a_candidate_with_wrong_rows_is_reset_under_readers_built_again_and_promoted() {
    let world = World::seeded("reset", STREAM);
    let [_live, mut candidate] = two_versions(&world, PAIR);
    let version = PAIR[1];
    let leaf = format!("rm.v{}_p0", world.version_id(version));
    let harm = format!(
        "with harmed as (update {leaf} set balance = balance + 1 returning 1) select count(*) from harmed"
    );
    let harmed: u64 = world.cell(&harm).parse().expect("a number");
    let report = world.verify(version, "expected");
    // The column does not add up to the sums of its mark, either.
    assert_eq!(report["differences"], harmed + 1, "{report}");
    let api = api(&world, &[]);

    refused(&reset(&world, version, &[]), 3, "To go on: refold reset");
    let other = reset(&world, version, &["-confirm", PAIR[0]]);
    refused(&other, 3, "To go on: refold reset");
    let serving = reset(&world, PAIR[0], &["-confirm", PAIR[0]]);
    refused(&serving, 3, "serves reads");
    let unknown = reset(&world, "accounts_v9", &["-confirm", "accounts_v9"]);
    refused(&unknown, 64, "is not in this binary");
    assert_eq!(world.state(version).as_deref(), Some("ready"));
    assert_eq!(candidate.try_exit(), None, "refusals stop nobody");

    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let until = Until(&stop);
        scope.spawn(|| read_until(&api, &stop, &reads));
        let confirm = ["-confirm", version];
        // Somebody who may still read it: it failed by then, and nothing of it is gone.
        let mut reader = world.session();
        let read = format!("begin isolation level repeatable read; select count(*) from {leaf}");
        reader.ask(&read).expect("a reader");
        let held = reset(
            &world,
            version,
            &[&confirm[..], &["-patience", "200ms"]].concat(),
        );
        refused(&held, 4, "asking again goes on");
        assert_eq!(world.state(version).as_deref(), Some("failed"));
        assert!(world.marks(version).iter().all(|mark| mark.has_leaf));
        let (_, sentence) = candidate.refuse(BOUND);
        assert!(sentence.contains("failed"), "{sentence}");
        reader.ask("commit").expect("it has read");

        let done = reset(&world, version, &confirm);
        assert_eq!(done.exit, Exit::Code(0), "{done:?}");
        assert!(done.stdout.contains("is building"), "{done:?}");
        assert!(!world.marks(version).iter().any(|mark| mark.has_leaf));
        let _again = world.start(Mode::Replay, version, "ready");
        let report = world.verify(version, "expected");
        assert_eq!(report["differences"], 0, "{report}");
        switch(&api, PAIR, 1);
        row(&api.get("/aggregate/1"));
        drop(until);
    });
    let reads = reads.load(Ordering::Acquire);
    println!("{harmed} rows were wrong; {reads} reads meanwhile, none failed");
    assert!(reads > 100, "{reads}");
}

#[test]
fn a_version_that_is_reset_while_its_projectors_run_is_built_from_the_head_of_the_log() {
    let world = World::seeded("reset_running", STREAM);
    let [_live, mut candidate] = two_versions(&world, PAIR);
    let version = PAIR[1];
    let before = world.marks(version);
    let done = reset(&world, version, &["-confirm", version]);
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    // Its projectors met the failure and ended, or lost their sessions and took over again.
    let is_ready = || world.state(version).as_deref() == Some("ready");
    let settled = || candidate.try_exit().is_some() || is_ready();
    world.wait("its projectors have ended or built it", BOUND, settled);
    let ended = candidate.try_exit();
    println!("its projectors: {ended:?}");
    let _again = ended.map(|_| world.start(Mode::Replay, version, "ready"));
    let report = world.verify(version, PAIR[0]);
    assert_eq!(report["differences"], 0, "{report}");
    for (mark, before) in world.marks(version).iter().zip(&before) {
        assert!(mark.epoch > before.epoch, "{mark:?} {before:?}");
    }
}

#[test]
fn a_version_that_came_to_serve_while_its_reset_waited_is_refused_at_once() {
    let world = World::seeded("reset_overtaken", STREAM);
    let [_live, mut candidate] = two_versions(&world, PAIR);
    let (old, version) = (PAIR[0], PAIR[1]);
    let id = world.version_id(version);
    let marks = world.marks(version);
    let mut other = world.session();
    let hold = format!("begin; select 1 from refold.versions where id = {id} for update");
    other.ask(&hold).expect("its row is locked");

    let launch = Launch::new(["reset", "-version", version, "-confirm", version]);
    let launch = launch.flag("patience", "60s").args(world.store_flags());
    let mut reset = launch.start();
    // It asks again as often as its wait for the lock is over.
    let waits = || {
        let waiting = "select count(*) from pg_stat_activity
            where wait_event_type = 'Lock' and application_name = 'refold registry'";
        world.cell(waiting) == "1"
    };
    world.wait("the reset waits", BOUND, waits);
    let switch = format!(
        "update refold.versions set state = 'previous' where label = '{old}';
         update refold.versions set state = 'active' where id = {id};
         update refold.active set version = {id}, generation = generation + 1;
         commit"
    );
    other.ask(&switch).expect("it serves now");
    assert_eq!(reset.exit(BOUND / 2), Exit::Code(3), "{reset:?}");
    let told = reset.stderr().text();
    assert!(told.contains("serves reads"), "{told}");
    assert_eq!(world.state(version).as_deref(), Some("active"));
    assert_eq!(candidate.try_exit(), None, "it goes on");
    for (mark, before) in world.marks(version).iter().zip(&marks) {
        assert_eq!(mark.epoch, before.epoch);
    }
}
