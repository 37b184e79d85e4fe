//! `kill -9` of a replay projector, again and again, in the middle of its work.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use refold_e2e::Dice;
use refold_e2e::Metrics;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;

const VERSION: &str = "accounts_v4";
/// Kills that have to count, for each of the two write paths.
const WANTED: usize = 5;
/// Kills that may be spent on them.
const ALLOWED: usize = 16;
/// The two paths.
const BULK: &str = "bulk";
const APPLY: &str = "apply";
const START: Duration = Duration::from_secs(30);

/// What a victim held when it was killed.
#[derive(Debug, Default)]
struct Held {
    /// Partitions whose transaction was open.
    transactions: Vec<i32>,
    /// Events that were folded and are in no table.
    folded: i64,
}

impl Held {
    /// Looks at a process that stands still: nothing can change any more but what the server
    /// does by itself, and that ends no transaction without the client.
    fn by(world: &World, victim: &Process, before: &BTreeMap<i32, i64>) -> Self {
        let folded = victim
            .metrics()
            .map(|m| folded_events(&m))
            .unwrap_or_default();
        victim.stop();
        world.wait("the server is done with what was sent", START, || {
            let writers = world.writers(VERSION);
            writers
                .iter()
                .all(|w| w.state != "active" || w.wait == "Client:ClientRead")
        });
        let writers = world.writers(VERSION);
        let inside = writers.iter().filter(|w| w.is_inside_transaction());
        let durable = |p: i32| {
            let marks = world.marks(VERSION);
            marks
                .iter()
                .find(|m| m.partition == p)
                .map_or(0, |m| m.next)
        };
        let lost = folded.iter().map(|(p, folded)| {
            let since = durable(*p) - before.get(p).copied().unwrap_or_default();
            (folded - since).max(0)
        });
        Self {
            transactions: inside.map(|w| w.partition).collect(),
            folded: lost.sum(),
        }
    }

    fn counts(&self) -> bool {
        !self.transactions.is_empty() || self.folded > 0
    }
}

/// Events that the process has folded since it started, by partition.
fn folded_events(metrics: &Metrics) -> BTreeMap<i32, i64> {
    let samples = metrics.samples("refold_events_applied_total", &[]);
    let by_partition = samples.filter_map(|(labels, events)| {
        let partition = Metrics::label(labels, "partition")?.parse().ok()?;
        Some((partition, events as i64))
    });
    by_partition.collect()
}

fn marks(world: &World) -> BTreeMap<i32, i64> {
    let marks = world.marks(VERSION);
    marks
        .iter()
        .map(|mark| (mark.partition, mark.next))
        .collect()
}

fn replay(world: &World, flags: &[(&str, u64)]) -> Process {
    let launch = world
        .projector(Mode::Replay, VERSION)
        .flag("from-offset", 0);
    let launch = flags
        .iter()
        .fold(launch, |launch, (flag, value)| launch.flag(flag, value));
    let process = launch.start();
    process.wait_for_line("took partition over", START);
    process
}

/// Kills replays at drawn moments until enough of the kills count; returns all of them.
fn kill_until_enough(
    world: &World,
    path: &str,
    flags: &[(&str, u64)],
    mut moment: impl FnMut() -> Duration,
) -> usize {
    let (mut counted, mut kills) = (0, 0);
    while counted < WANTED {
        assert!(
            kills < ALLOWED,
            "{path}: only {counted} of {kills} kills counted"
        );
        let before = marks(world);
        let mut victim = replay(world, flags);
        // The times of bulk include those of its start; batches begin when the readers are there.
        let begun = world.applied(VERSION);
        if path == APPLY {
            world.wait("the replay writes", START, || world.applied(VERSION) > begun);
        }
        let after = moment();
        // sleep: the moment of the kill is what the test draws.
        thread::sleep(after);
        if let Some(exit) = victim.try_exit() {
            panic!("{path}: the replay ended ({exit:?}) before it was killed");
        }
        let held = Held::by(world, &victim, &before);
        victim.kill();
        kills += 1;
        counted += usize::from(held.counts());
        println!("{path} kill {kills} after {after:?}: {held:?}");
    }
    println!("{path}: {counted} of {kills} kills counted");
    kills
}

/// Kills replays at the first moment at which one of their transactions is open in the database.
fn kill_inside_transactions(world: &World, wanted: usize) {
    let mut hits = 0;
    for kill in 1..=ALLOWED {
        let mut victim = replay(world, &[]);
        let inside = || {
            let writers = world.writers(VERSION);
            writers.into_iter().any(|w| w.is_inside_transaction())
        };
        world.wait("a load is in its transaction", START, inside);
        let held = Held::by(world, &victim, &BTreeMap::new());
        victim.kill();
        hits += usize::from(!held.transactions.is_empty());
        println!("bulk, aimed kill {kill}: {held:?}");
        if hits == wanted {
            return;
        }
    }
    panic!("only {hits} of {ALLOWED} aimed kills met an open transaction");
}

/// SIGTERM in the middle: exit code 0, and what was folded is durable.
fn drain_midway(world: &World, flags: &[(&str, u64)]) {
    let before = world.applied(VERSION);
    let mut replay = replay(world, flags);
    world.wait("the replay writes", START, || {
        world.applied(VERSION) > before
    });
    replay.drain(START);
    let applied = world.applied(VERSION) - before;
    assert_eq!(replay.last_count("applied"), applied);
    println!("drained after {applied} events, all of them durable");
}

#[test]
fn a_replay_killed_ten_times_ends_where_an_undisturbed_one_would() {
    let mut dice = Dice::printed("kills");
    let world = World::seeded(
        "kills",
        Stream {
            events: 300_000,
            aggregates: 30_000,
            ..Stream::default()
        },
    );

    // Bulk: no partition has its table at first; what is killed is folds, copies and seals.
    let bulk = kill_until_enough(&world, BULK, &[("rate-limit", 60_000)], || {
        dice.millis(100, 2_500)
    });
    kill_inside_transactions(&world, 2);
    let loaded = world.marks(VERSION).iter().filter(|m| m.has_leaf).count();
    assert!(
        loaded < 8,
        "every table was loaded before the last kill in bulk"
    );
    world.replay(VERSION);
    world.assert_equals_oracle(VERSION);

    // Apply: every table is there, and history went on without a projector.
    world
        .tail(100_000, Duration::from_secs(3))
        .start()
        .succeed(START);
    let behind = world.applied(VERSION);
    let flags = [("batch", 200), ("rate-limit", 100_000)];
    let apply = kill_until_enough(&world, APPLY, &flags, || dice.millis(20, 250));
    drain_midway(&world, &[("batch", 200), ("rate-limit", 20_000)]);
    assert!(
        world.applied(VERSION) > behind,
        "{apply} kills let nothing through"
    );
    world.replay(VERSION);
    world.assert_equals_oracle(VERSION);
    assert!(bulk + apply >= 10);
    println!(
        "{} looks at the marks, none moved back",
        world.watch().looks()
    );
}
