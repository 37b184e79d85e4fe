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
    fn by(world: &World, folded: &BTreeMap<i32, i64>, before: &Marks) -> Self {
        world.wait("the server is done with what was sent", START, || {
            let writers = world.writers(VERSION);
            writers
                .iter()
                .all(|w| w.state != "active" || w.wait == "Client:ClientRead")
        });
        let writers = world.writers(VERSION);
        let inside = writers.iter().filter(|w| w.is_inside_transaction());
        let durable = marks(world);
        let of = |marks: &Marks, p| marks.get(p).copied().unwrap_or_default();
        let lost = folded.iter().map(|(p, folded)| {
            let written = of(&durable, p) - of(before, p);
            (folded - written).max(0)
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

/// Marks by partition.
type Marks = BTreeMap<i32, i64>;

fn marks(world: &World) -> Marks {
    let marks = world.marks(VERSION);
    marks
        .iter()
        .map(|mark| (mark.partition, mark.next))
        .collect()
}

/// Stops a process that has a transaction open. A lock makes every transaction wait in the
/// middle, so that one is met however short it is; it is let go before the process is looked at.
fn stop_inside_transaction(world: &World, victim: &Process, lock: &str) {
    let mut holder = world.session();
    holder.ask(&format!("begin; {lock}")).expect("a lock");
    world.wait("a transaction waits in its middle", START, || {
        let writers = world.writers(VERSION);
        writers
            .iter()
            .any(|writer| writer.is_inside_transaction() && writer.wait == "Lock:relation")
    });
    victim.stop();
    holder.ask("rollback").expect("no lock");
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

/// The write path that is hit.
#[derive(Clone, Copy, PartialEq)]
enum Path {
    Bulk,
    Apply,
}

impl Path {
    /// Waits until the process has something to lose, which is when its time begins: readers
    /// take a while to start.
    fn wait_for_work(self, world: &World, process: &Process, before: &Marks) {
        world.wait("the replay works", START, || match self {
            Self::Bulk => {
                let metrics = process.metrics();
                metrics.is_some_and(|m| folded_events(&m).values().any(|events| *events > 0))
            }
            Self::Apply => marks(world) != *before,
        });
    }

    /// What a transaction has to wait for after it wrote: a load moves its mark last, a batch
    /// writes its rows behind its mark.
    fn lock(self, world: &World) -> String {
        match self {
            Self::Bulk => "lock table refold.offsets in share mode".to_owned(),
            Self::Apply => {
                let leaves = world.leaves(VERSION).join(", ");
                format!("lock table {leaves} in exclusive mode")
            }
        }
    }
}

/// Kills of one kind.
struct Kills<'a> {
    what: &'a str,
    flags: &'a [(&'a str, u64)],
    /// Kills that have to count.
    wanted: usize,
    path: Path,
    /// Whether the kill falls into a transaction after its moment, instead of on the moment
    /// itself.
    aimed: bool,
}

impl Kills<'_> {
    /// Kills replays at drawn moments until enough of the kills count.
    fn run(&self, world: &World, mut moment: impl FnMut() -> Duration) {
        let what = self.what;
        let (mut counted, mut kills) = (0, 0);
        while counted < self.wanted {
            assert!(
                kills < ALLOWED,
                "{what}: only {counted} of {kills} kills counted"
            );
            let before = marks(world);
            let mut victim = replay(world, self.flags);
            self.path.wait_for_work(world, &victim, &before);
            let after = moment();
            // sleep: the moment of the kill is what the test draws.
            thread::sleep(after);
            let mut folded = BTreeMap::new();
            if self.aimed {
                stop_inside_transaction(world, &victim, &self.path.lock(world));
            } else if let Some(metrics) = victim.metrics() {
                folded = folded_events(&metrics);
            }
            if let Some(exit) = victim.try_exit() {
                panic!("{what}: the replay ended ({exit:?}) before it was killed");
            }
            victim.stop();
            let held = Held::by(world, &folded, &before);
            victim.kill();
            kills += 1;
            counted += usize::from(held.counts());
            println!("{what} kill {kills} after {after:?}: {held:?}");
        }
        println!("{what}: {counted} of {kills} kills counted");
    }
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
    let bulk = Kills {
        what: "bulk",
        flags: &[("rate-limit", 60_000)],
        wanted: WANTED,
        path: Path::Bulk,
        aimed: false,
    };
    bulk.run(&world, || dice.millis(0, 2_000));
    let inside_loads = Kills {
        what: "bulk, aimed",
        wanted: 2,
        aimed: true,
        ..bulk
    };
    inside_loads.run(&world, || Duration::ZERO);
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
    let apply = Kills {
        what: "apply",
        // What has come is enough for fifteen seconds: it lasts on a machine that is busy, too.
        flags: &[("batch", 2_000), ("rate-limit", 20_000)],
        wanted: WANTED,
        path: Path::Apply,
        aimed: true,
    };
    apply.run(&world, || dice.millis(20, 250));
    drain_midway(&world, &[("batch", 200), ("rate-limit", 20_000)]);
    world.replay(VERSION);
    world.assert_equals_oracle(VERSION);
    println!(
        "{} looks at the marks, none moved back",
        world.watch().looks()
    );
}
