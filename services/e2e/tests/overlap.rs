//! A replay that is started again below its mark.

use std::time::Duration;

use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;

const VERSION: &str = "accounts_v4";
/// How far below the mark reading begins again.
const OVERLAP: i64 = 10_000;
const BOUND: Duration = Duration::from_secs(60);

/// Every column of every row and all marks, as one text per partition.
fn everything(world: &World) -> Vec<Vec<String>> {
    let id = world.version_id(VERSION);
    let mut all = world.sql(&format!(
        "select o.partition, o.next_offset, md5(o.sums), md5(o.last_record), o.rows, o.reached_log_end
         from refold.offsets o where o.version = {id} order by o.partition"
    ));
    for leaf in world.leaves(VERSION) {
        all.extend(world.sql(&format!(
            "select '{leaf}', count(*), md5(string_agg(l::text, '|' order by l.key)) from {leaf} l"
        )));
    }
    all
}

/// Offsets below the marks that a start at `from` reads again.
fn read_again(world: &World, from: i64) -> i64 {
    world
        .marks(VERSION)
        .iter()
        .map(|mark| mark.next - from)
        .sum()
}

fn lowest_mark(world: &World) -> i64 {
    let marks = world.marks(VERSION);
    marks.iter().map(|mark| mark.next).min().expect("marks")
}

fn duplicates(process: &Process) -> i64 {
    let labels = [("reason", "duplicate")];
    let metrics = process.metrics();
    metrics.map_or(0, |m| m.sum("refold_events_skipped_total", &labels) as i64)
}

/// Reads from `from` again with nothing new in the log, and waits until all of it was seen.
fn reread(world: &World, from: i64) -> Process {
    let launch = world.projector(Mode::Replay, VERSION);
    let mut replay = launch.flag("from-offset", from).arg("--catch-up").start();
    let wanted = read_again(world, from);
    world.wait("the overlap was read again", BOUND, || {
        if let Some(exit) = replay.try_exit() {
            panic!("ended with {exit:?}: {}", replay.stderr().text());
        }
        duplicates(&replay) >= wanted
    });
    replay.drain(BOUND);
    assert_eq!(replay.last_count("duplicates"), wanted);
    assert_eq!(replay.last_count("applied"), 0);
    replay
}

#[test]
fn a_replay_restarted_below_its_mark_changes_nothing_and_above_it_is_refused() {
    let world = World::seeded(
        "overlap",
        Stream {
            events: 300_000,
            aggregates: 20_000,
            ..Stream::default()
        },
    );
    world.replay(VERSION);
    let before = everything(&world);
    assert_eq!(before.len(), 16);

    let mark = lowest_mark(&world);
    assert!(mark > OVERLAP, "the smallest partition holds {mark} events");
    for from in [mark - OVERLAP, 0] {
        let again = read_again(&world, from);
        assert!(again >= OVERLAP * 8);
        reread(&world, from);
        assert_eq!(
            everything(&world),
            before,
            "a start at {from} changed something"
        );
        println!("{again} events were read again from offset {from}, nothing changed");
    }

    let launch = world.projector(Mode::Replay, VERSION);
    let (code, sentence) = launch.flag("from-offset", mark + 1).start().refuse(BOUND);
    assert_eq!(code, 3, "{sentence}");
    for part in [
        format!("-from-offset {} lies above the mark {mark}", mark + 1),
        format!("the events [{mark}, {}) would be missing", mark + 1),
    ] {
        assert!(sentence.contains(&part), "{sentence}");
    }
    assert_eq!(
        everything(&world),
        before,
        "a refused start changed something"
    );
    println!("{sentence}");

    // With something new behind the mark, the overlap counts and the rest is applied.
    world
        .tail(40_000, Duration::from_secs(1))
        .start()
        .succeed(BOUND);
    let applied = world.applied(VERSION);
    let again = read_again(&world, mark - OVERLAP);
    let launch = world.projector(Mode::Replay, VERSION);
    let mut replay = launch.flag("from-offset", mark - OVERLAP).start();
    replay.succeed(BOUND);
    assert_eq!(replay.last_count("duplicates"), again);
    let news = world.applied(VERSION) - applied;
    assert!(news > 0);
    assert_eq!(replay.last_count("applied"), news);
    world.assert_equals_oracle(VERSION);
}
