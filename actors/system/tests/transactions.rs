//! How many partitions of a process write at once, and what the others do meanwhile.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use refold_domain::observe::Stage;
use refold_domain::position::Partition;
use refold_ports::probe::Edge;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;
use refold_ports::probe::Word;
use refold_system::ProjectorOptions;
use tokio::sync::Semaphore;

use crate::world::*;

/// Stands in front of every batch's transaction: once shut, it lets them through one by one.
#[derive(Clone)]
struct Turnstile {
    shut: Arc<AtomicBool>,
    through: Arc<Semaphore>,
    standing: Arc<Mutex<Standing>>,
}

#[derive(Default)]
struct Standing {
    now: usize,
    most: usize,
    passed: usize,
}

impl Turnstile {
    fn open() -> Self {
        Self {
            shut: Arc::default(),
            through: Arc::new(Semaphore::new(0)),
            standing: Arc::default(),
        }
    }

    fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    async fn let_one_through(&self) {
        let passed = || self.standing.lock().expect("no test panics in here").passed;
        let before = passed();
        self.through.add_permits(1);
        until("one went through", || passed() > before).await;
    }

    fn let_all_through(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.through.add_permits(1_000);
    }

    async fn stand(&self, wanted: usize) {
        let what = format!("{wanted} stand in front of their transactions");
        let now = || self.standing.lock().expect("no test panics in here").now;
        until(&what, || now() == wanted).await;
    }

    fn most(&self) -> usize {
        self.standing.lock().expect("no test panics in here").most
    }
}

#[async_trait]
impl Probe for Turnstile {
    async fn reach(&self, point: Point) -> Result<(), String> {
        let here = (point.word, point.edge) == (Word::Write, Edge::Before);
        if !here || !self.shut.load(Ordering::SeqCst) {
            return Ok(());
        }
        {
            let mut standing = self.standing.lock().expect("no test panics in here");
            standing.now += 1;
            standing.most = standing.most.max(standing.now);
        }
        if let Ok(through) = self.through.acquire().await {
            through.forget();
        }
        let mut standing = self.standing.lock().expect("no test panics in here");
        standing.now -= 1;
        standing.passed += 1;
        Ok(())
    }
}

/// A process that has all events, with the turnstile shut behind it.
async fn begin(world: &World, transactions: usize) -> (Process, Turnstile) {
    let turnstile = Turnstile::open();
    let options = ProjectorOptions {
        transactions,
        ..live()
    };
    let process = world.start_probed(options, turnstile.clone()).await;
    process.ready().await;
    world.caught_up(V1).await;
    turnstile.shut();
    (process, turnstile)
}

/// An aggregate of a partition.
fn id_in(partition: Partition) -> i64 {
    let mut ids = 1..;
    let found = ids.find(|id| World::home(*id) == partition);
    found.expect("every partition has one")
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_partitions_write_at_once_as_may_and_no_more() {
    for allowed in 1..=PARTITIONS as usize {
        let world = World::with_events(60);
        let (_process, turnstile) = begin(&world, allowed).await;
        for _ in 0..30 {
            // Each has something to write all the time.
            for partition in (0..PARTITIONS).map(Partition) {
                world.add(id_in(partition), 3);
            }
            turnstile.stand(allowed).await;
            turnstile.let_one_through().await;
        }
        turnstile.let_all_through();
        world.caught_up(V1).await;
        assert_eq!(turnstile.most(), allowed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_while_a_partition_waits_goes_into_the_same_transaction() {
    let world = World::with_events(60);
    let (process, turnstile) = begin(&world, 1).await;
    let (first, second) = (Partition(0), Partition(1));
    world.add(id_in(first), 5);
    turnstile.stand(1).await;
    let before = process.seen(second).counts;
    for event in 0..5 {
        world.add(id_in(second), event);
        // One chunk may have been on its way, and one being read, before the event was there.
        for _ in 0..3 {
            let taken = |p: &Process| p.seen(second).cpu.get(Stage::Fetch);
            let so_far = taken(&process);
            until("the next chunk is taken in", || taken(&process) > so_far).await;
        }
    }
    assert_eq!(process.seen(second).counts.commits, before.commits);
    turnstile.let_all_through();
    world.caught_up(V1).await;
    let after = || process.seen(second).counts;
    until("the second partition is told of its commit", || {
        after().applied == before.applied + 5
    })
    .await;
    assert_eq!(after().commits, before.commits + 1);
}
