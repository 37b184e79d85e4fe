//! A rebuild stands still while the database is under pressure, and live does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use refold_domain::duty::Duty;
use refold_domain::duty::PERIOD;
use refold_domain::duty::ReadLatency;
use refold_domain::observe::Stage;
use refold_domain::position::Partition;
use refold_domain::throttle::Held;
use refold_domain::throttle::Limits;
use refold_domain::throttle::Reading;
use refold_domain::throttle::Readings;
use refold_domain::throttle::Reason;
use refold_ports::Registry;
use refold_ports::probe::Edge;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;
use refold_ports::probe::Word;
use refold_ports::registry::MarkRow;
use refold_ports::source::ReadLimit;
use refold_system::Outcome;
use refold_system::Plugs;
use refold_system::ProjectorOptions;

use crate::world::*;

const LIMIT: u64 = 100;

fn limited(options: ProjectorOptions) -> ProjectorOptions {
    ProjectorOptions {
        limits: Limits::default().with(Reason::SlotWal, Some(LIMIT)),
        look_every: Duration::from_millis(2),
        // None waits for the others behind the gate of bulk loads.
        workers: PARTITIONS as usize,
        ..options
    }
}

fn slot(bytes: u64) -> Readings {
    Readings::default().with(Reason::SlotWal, Reading::Bytes(bytes))
}

fn held_for_slot() -> Held {
    Held::default().with(Reason::SlotWal, true)
}

fn plugs(world: &World) -> Plugs {
    let pressure = Arc::new(world.store.clone());
    world.plugs(v1()).with_pressure(pressure)
}

async fn start(world: &World, options: ProjectorOptions) -> Process {
    Process::start(plugs(world), limited(options)).await
}

/// Waits until the throttle has looked this often again, and took account of it.
async fn looks(world: &World, more: u64) {
    // The last one may be about to be taken into account.
    let enough = world.store.looks() + more + 1;
    until("the throttle looks", || world.store.looks() >= enough).await;
}

/// Waits until nothing is on its way any more, and returns the marks.
async fn standing(world: &World, process: &Process) -> Vec<MarkRow> {
    let all_say = || {
        let all = process.all();
        let says = |reason: &Option<String>| reason.as_deref() == Some("throttled: slot-wal");
        all.iter()
            .all(|o| o.held == held_for_slot() && says(&o.reason))
    };
    until("every projector says why it stands", all_say).await;
    world.store.marks(V1).await.expect("marks")
}

async fn assert_stands(world: &World, process: &Process) {
    let before = standing(world, process).await;
    let commits = world.store.commits();
    looks(world, 50).await;
    assert_eq!(world.store.marks(V1).await, Ok(before));
    assert_eq!(world.store.commits(), commits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_over_a_limit_applies_nothing_in_bulk_or_in_batches_until_half_of_it() {
    let world = World::with_events(500);
    world.store.set_pressure(slot(LIMIT + 1));
    let process = start(&world, replay_and_catch_up()).await;
    // Not even what is folded first: the first look comes before the first load.
    assert_stands(&world, &process).await;
    assert_eq!(world.store.commits(), 0);
    // Below the limit is not enough.
    world.store.set_pressure(slot(LIMIT / 2 + 1));
    assert_stands(&world, &process).await;
    assert_eq!(world.store.commits(), 0);
    world.store.set_pressure(slot(LIMIT / 2));
    process.ready().await;
    world.caught_up(V1).await;

    world.store.set_pressure(slot(LIMIT + 1));
    let before = standing(&world, &process).await;
    world.append(300);
    looks(&world, 50).await;
    assert_eq!(world.store.marks(V1).await, Ok(before), "no batch either");
    // Whoever goes away holds nothing any more.
    world.store.set_pressure(Readings::default());
    world.caught_up(V1).await;
    for seen in process.all() {
        assert!(seen.busy.get(Stage::Throttled) > Duration::ZERO);
        assert_eq!((seen.restarts, seen.held), (0, Held::default()));
    }
    until("the reasons are gone", || {
        process.all().iter().all(|o| o.reason.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_held_keeps_its_partitions_and_drains_at_once() {
    let world = World::with_events(200);
    world.store.set_pressure(slot(LIMIT + 1));
    let mut process = start(&world, replay()).await;
    let marks = standing(&world, &process).await;
    assert!(marks.iter().all(|mark| mark.epoch == 1), "{marks:?}");
    assert_eq!(process.handle.drain().await, Ok(Outcome::Drained));
    assert_eq!(world.store.commits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_live_nor_a_rebuild_that_serves_by_now_is_held() {
    let world = World::with_events(200);
    world.store.set_pressure(slot(LIMIT + 1));
    let mut live = start(&world, live()).await;
    live.ready().await;
    world.append(100);
    world.caught_up(V1).await;
    assert_eq!(world.store.looks(), 0, "nobody looks for it");
    live.handle.drain().await.expect("drained");

    // It serves; whoever keeps it at the tail does, also one that was started as a rebuild.
    let process = start(&world, replay_and_catch_up()).await;
    world.append(100);
    world.caught_up(V1).await;
    assert!(process.all().iter().all(|o| o.held == Held::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_without_an_answer_changes_nothing() {
    let world = World::with_events(200);
    world.store.set_pressure(slot(LIMIT + 1));
    let process = start(&world, replay_and_catch_up()).await;
    standing(&world, &process).await;
    world.store.set_reachable(false);
    world.store.set_pressure(Readings::default());
    looks(&world, 5).await;
    let held = process.all();
    assert!(held.iter().all(|o| o.held == held_for_slot()));
    world.store.set_reachable(true);
    world.caught_up(V1).await;
    for partition in (0..PARTITIONS).map(Partition) {
        assert_eq!(process.seen(partition).restarts, 0);
    }
}

/// What reads may take here.
const LONGEST: Duration = Duration::from_millis(10);

fn sparing(options: ProjectorOptions) -> ProjectorOptions {
    ProjectorOptions {
        limits: Limits::default(),
        max_read_p99: Some(LONGEST),
        look_every: Duration::from_millis(2),
        workers: PARTITIONS as usize,
        ..options
    }
}

/// Every fold of a chunk takes a millisecond, as if it were one of many events. Kept is when each began.
#[derive(Clone, Default)]
struct SlowFold(Arc<Mutex<BTreeMap<Partition, Vec<Instant>>>>);

const FOLD: Duration = Duration::from_millis(1);

impl SlowFold {
    /// The folds that begin in the open part of one period, the last of which may be at its end.
    const IN_A_PERIOD: u128 = PERIOD.as_millis() / 10 + 1;

    /// Whether each partition took as many periods as its folds need where each takes `FOLD` and
    /// they begin in a tenth of the time.
    fn kept_the_least_duty(&self) -> bool {
        let begun = self.0.lock().expect("no test panics in here");
        assert_eq!(begun.len(), PARTITIONS as usize);
        begun.values().all(|folds| {
            let closed = (folds.len() as u128).div_ceil(Self::IN_A_PERIOD) - 1;
            assert!(closed > 1, "else it could not fail");
            let took = folds[folds.len() - 1] - folds[0];
            took.as_millis() >= (closed - 1) * PERIOD.as_millis() * 9 / 10
        })
    }
}

#[async_trait]
impl Probe for SlowFold {
    async fn reach(&self, point: Point) -> Result<(), String> {
        if (point.word, point.edge) == (Word::Fold, Edge::Before) {
            {
                let mut begun = self.0.lock().expect("no test panics in here");
                begun
                    .entry(point.partition)
                    .or_default()
                    .push(Instant::now());
            }
            // sleep: the work that a chunk of many events would be
            tokio::time::sleep(FOLD).await;
        }
        Ok(())
    }
}

fn all_have(process: &Process, duty: Duty) -> bool {
    process.all().iter().all(|o| o.duty == duty)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_works_in_a_part_of_the_time_while_reads_are_slow_and_gets_to_its_end() {
    let world = World::with_events(150);
    world.store.set_read_latency(ReadLatency::P99(LONGEST * 2));
    // The first look comes before anything is done, and the history takes longer than a period.
    let one_by_one = ProjectorOptions {
        bulk_read: ReadLimit {
            records: 1,
            bytes: 1,
        },
        ..replay_and_catch_up()
    };
    let slow_fold = SlowFold::default();
    let plugs = plugs(&world).with_probe(Arc::new(slow_fold.clone()));
    let process = Process::start(plugs, sparing(one_by_one)).await;
    until("it is slowed as far as it may be", || {
        all_have(&process, Duty::LEAST)
    })
    .await;
    process.ready().await;
    assert!(slow_fold.kept_the_least_duty());
    world.caught_up(V1).await;
    // Reads that are neither fast nor slow change nothing.
    world.store.set_read_latency(ReadLatency::P99(LONGEST));
    looks(&world, 50).await;
    assert!(all_have(&process, Duty::LEAST));
    // It is not slow at the tail, whatever its duty: who comes late there holds up the promotion.
    let waited = |process: &Process| -> Duration {
        let all = process.all();
        all.iter().map(|o| o.busy.get(Stage::Throttled)).sum()
    };
    let before = waited(&process);
    world.append(100);
    world.caught_up(V1).await;
    assert_eq!(waited(&process), before);
    assert!(before > Duration::ZERO);
    world.store.set_read_latency(ReadLatency::P99(LONGEST / 2));
    until("it works all the time", || all_have(&process, Duty::WHOLE)).await;
    assert!(process.all().iter().all(|o| o.held == Held::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_live_nor_a_rebuild_that_serves_by_now_is_slowed_for_the_reads() {
    let world = World::with_events(200);
    world.store.set_read_latency(ReadLatency::P99(LONGEST * 2));
    let mut process = Process::start(plugs(&world), sparing(live())).await;
    process.ready().await;
    world.caught_up(V1).await;
    assert_eq!(world.store.looks(), 0, "nobody looks for it");
    process.handle.drain().await.expect("drained");
    let process = Process::start(plugs(&world), sparing(replay_and_catch_up())).await;
    world.append(100);
    world.caught_up(V1).await;
    assert!(all_have(&process, Duty::WHOLE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_reads_without_an_answer_changes_no_duty() {
    let world = World::with_events(200);
    world.store.set_read_latency(ReadLatency::P99(LONGEST * 2));
    let process = Process::start(plugs(&world), sparing(replay_and_catch_up())).await;
    until("it is slowed", || all_have(&process, Duty::LEAST)).await;
    world.store.set_reachable(false);
    world.store.set_read_latency(ReadLatency::Silent);
    looks(&world, 20).await;
    assert!(all_have(&process, Duty::LEAST));
    world.store.set_reachable(true);
    until("it works all the time", || all_have(&process, Duty::WHOLE)).await;
}
