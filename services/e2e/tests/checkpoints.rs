//! Histories that are long for a process's life, or large for its memory, on the real servers.

use std::collections::BTreeMap;
use std::time::Duration;

use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;

const VERSION: &str = "accounts_v4";
const BOUND: Duration = Duration::from_secs(60);

/// A replay that makes its rows durable often and takes a while.
fn slow_replay(world: &World) -> Process {
    world
        .projector(Mode::Replay, VERSION)
        .flag("checkpoint", "100ms")
        .flag("rate-limit", 40_000)
        .flag("workers", 2)
        .start()
}

/// How far each partition is that has a checkpoint and no table yet.
fn checkpointed(world: &World) -> BTreeMap<i32, i64> {
    let id = world.version_id(VERSION);
    let marks = world.cell(&format!(
        "select coalesce(string_agg(partition || ' ' || next_offset, ','), '')
         from refold.offsets where version = {id} and has_checkpoint and not has_leaf"
    ));
    marks
        .split(',')
        .filter_map(|mark| mark.split_once(' '))
        .map(|(partition, next_offset)| {
            (
                partition.parse().expect("a partition"),
                next_offset.parse().expect("an offset"),
            )
        })
        .collect()
}

/// Whether some partition's checkpoint is newer than it was. By partition and not by their sum:
/// one that was counted and has got its table since takes its offsets out of a sum.
fn newer(before: &BTreeMap<i32, i64>, now: &BTreeMap<i32, i64>) -> bool {
    now.iter()
        .any(|(partition, next)| before.get(partition).is_none_or(|before| next > before))
}

fn checkpoint_tables(world: &World) -> i64 {
    let id = world.version_id(VERSION);
    let count = world.cell(&format!(
        "select count(*) from pg_tables where schemaname = 'rm' and tablename like 'v{id}\\_p%\\_checkpoint'"
    ));
    count.parse().expect("a number")
}

#[test]
fn a_replay_killed_in_the_middle_of_a_history_goes_on_from_its_checkpoints() {
    let world = World::seeded(
        "checkpoints",
        Stream {
            // 15 s at the rate above: more than three rounds use up.
            events: 600_000,
            aggregates: 20_000,
            ..Stream::default()
        },
    );
    for round in 0..3 {
        let mut victim = slow_replay(&world);
        victim.wait_for_line("took partition over", BOUND);
        let before = checkpointed(&world);
        world.wait("a checkpoint is durable", BOUND, || {
            if let Some(exit) = victim.try_exit() {
                panic!("ended with {exit:?}: {}", victim.stderr().text());
            }
            newer(&before, &checkpointed(&world))
        });
        victim.kill();
        println!("round {round}: checkpoints at {:?}", checkpointed(&world));
        let mut next = slow_replay(&world);
        next.wait_for_line("goes on from a checkpoint", BOUND);
        next.kill();
    }
    world.replay(VERSION);
    world.assert_equals_oracle(VERSION);
    assert_eq!(
        checkpoint_tables(&world),
        0,
        "every checkpoint was dropped with its load"
    );
    println!(
        "{} looks at the marks, none moved back",
        world.watch().looks()
    );
}

#[test]
fn a_replay_whose_tables_do_not_fit_its_memory_folds_them_in_classes() {
    let world = World::seeded(
        "classes",
        Stream {
            events: 200_000,
            aggregates: 60_000,
            ..Stream::default()
        },
    );
    // Three quarters are for the tables: about a third of one partition's rows fit.
    let mut replay = world
        .projector(Mode::Replay, VERSION)
        .flag("memory", 600_000)
        // Alone, no fold gives way to another and counts its events twice.
        .flag("workers", 1)
        .start();
    replay.succeed(BOUND);
    let text = replay.stderr().text();
    assert!(text.contains("half of its keys are folded later"), "{text}");
    assert_eq!(replay.last_count("applied"), 200_000);
    world.assert_equals_oracle(VERSION);
}
