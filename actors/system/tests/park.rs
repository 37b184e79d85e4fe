//! Events that are put aside: their aggregates stand still, and everything else goes on.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use refold_domain::cutover::Forced;
use refold_domain::cutover::Gate;
use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::LogSource;
use refold_ports::memory::log::NewRecord;
use refold_ports::memory::store::CommitFault;
use refold_ports::registry::RegistryError;
use refold_system::Outcome;
use refold_system::ProjectorOptions;
use refold_system::barrier::PromotionOrder;
use refold_system::barrier::drive;

use crate::world::*;

/// A log with events that cannot be decoded, and what has to become of it.
struct Yard {
    world: World,
    dice: fastrand::Rng,
    tainted: BTreeSet<i64>,
    parked: BTreeMap<Partition, Vec<Offset>>,
}

impl Yard {
    fn new(seed: u64) -> Self {
        Self {
            world: World::empty(),
            dice: fastrand::Rng::with_seed(seed),
            tainted: BTreeSet::new(),
            parked: BTreeMap::new(),
        }
    }

    /// Appends an event that is parked: one that cannot be decoded, or one that follows on it.
    fn park(&mut self, id: i64) {
        let home = World::home(id);
        let offset = match self.tainted.insert(id) {
            true => {
                let poison = NewRecord::new(id.to_string(), "poison");
                self.world.log.append(home, poison)
            }
            false => self.world.add_unseen(id),
        };
        self.parked.entry(home).or_default().push(offset);
    }

    fn append(&mut self, events: usize) {
        for _ in 0..events {
            let id = self.dice.i64(0..30);
            if self.tainted.contains(&id) || self.dice.u8(0..40) == 0 {
                self.park(id);
            } else {
                self.world.add(id, 3);
            }
        }
    }

    /// Waits until the marks of a version are at the end of the log, and looks at everything.
    async fn assert_settled(&self, version: VersionId) {
        for partition in (0..PARTITIONS).map(Partition) {
            let log = self.world.log.watermarks(partition).await.expect("a log");
            let place = || self.world.store.place(version, partition);
            until("the mark is at the end of the log", || {
                place().is_some_and(|place| place.next == log.high && place.has_leaf)
            })
            .await;
            let place = place().expect("a mark");
            let parked = self.parked.get(&partition).cloned().unwrap_or_default();
            assert_eq!(place.parked, parked, "{partition}");
            assert_eq!(place.gaps, 0, "{partition}");
            let rows = self.world.rows(version, partition);
            assert_eq!(rows, self.world.expected(partition), "{partition}");
        }
    }
}

fn parking(options: ProjectorOptions) -> ProjectorOptions {
    ProjectorOptions {
        park: true,
        ..options
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_loaded_around_what_is_parked_in_any_memory_and_with_checkpoints() {
    let every_chunk = ProjectorOptions {
        checkpoint_every: Some(Duration::ZERO),
        ..replay()
    };
    let tight = ProjectorOptions {
        memory_bytes: 30_000,
        ..replay()
    };
    let ways = [replay(), every_chunk, tight];
    for (seed, options) in (0..12).zip(ways.into_iter().cycle()) {
        let mut yard = Yard::new(seed);
        yard.append(600);
        let mut process = yard.world.start(parking(options)).await;
        assert_eq!(process.ended().await, Ok(Outcome::Finished), "seed {seed}");
        yard.assert_settled(V1).await;
        let counted: u64 = process.all().iter().map(|o| o.counts.parked).sum();
        let parked: usize = yard.parked.values().map(Vec::len).sum();
        assert!(counted >= parked as u64, "{counted} of {parked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_the_same_events_are_parked_and_the_rows_are_those_of_one_pass() {
    for seed in 0..12 {
        let mut yard = Yard::new(seed);
        yard.append(60);
        for round in 0..6 {
            let faults = [
                CommitFault::LostBefore,
                CommitFault::LostAfter,
                CommitFault::Retry,
            ];
            yard.world
                .store
                .fail_commit(1 + round % 3, faults[round as usize % 3]);
            let process = yard.world.start(parking(live())).await;
            yard.append(80);
            if yard.dice.bool() {
                yard.assert_settled(V1).await;
            }
            process.handle.kill_and_wait().await;
        }
        let _last = yard.world.start(parking(live())).await;
        yard.assert_settled(V1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_with_parked_events_is_at_its_end() {
    for in_bulk in [true, false] {
        let mut yard = Yard::new(1);
        for id in 0..30 {
            yard.world.add(id, 1);
        }
        let mut live_process = None;
        if !in_bulk {
            live_process = Some(yard.world.start_caught_up(parking(live())).await);
        }
        for id in 0..30 {
            yard.park(id);
            yard.park(id);
        }
        let process = match live_process {
            Some(process) => process,
            None => yard.world.start(parking(live())).await,
        };
        yard.assert_settled(V1).await;
        process.ready().await;
        for partition in (0..PARTITIONS).map(Partition) {
            process.in_phase(partition, Phase::Live).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_a_process_that_goes_on_halts_at_the_next_event_of_that_kind() {
    let mut yard = Yard::new(2);
    yard.append(30);
    yard.park(7);
    let mut process = yard.world.start(parking(live())).await;
    yard.assert_settled(V1).await;
    process.handle.drain().await.expect("drained");
    yard.park(8);
    let process = yard.world.start(live()).await;
    process.in_phase(World::home(8), Phase::Halted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_parked_events_is_promoted_by_force_only() {
    let mut yard = Yard::new(3);
    yard.append(200);
    yard.park(5);
    let _first = yard.world.start(parking(live())).await;
    yard.assert_settled(V1).await;
    let second = Process::start_v2(&yard.world, parking(replay_and_catch_up())).await;
    second.ready().await;
    // Nothing but parked events behind the marks at which the barrier is set.
    yard.park(5);
    let specs = [
        ProjectionSpec::of::<Ledger<1>>(),
        ProjectionSpec::of::<Ledger<2>>(),
    ];
    let order = PromotionOrder {
        deadline: PATIENCE,
        poll: Duration::from_millis(1),
        ..PromotionOrder::of("ledger_v2", "test")
    };
    let refused = drive(&yard.world.store, &specs, &order).await;
    let Err(RegistryError::GateRefused(reports)) = refused else {
        panic!("{refused:?}");
    };
    let shut: Vec<_> = reports.iter().filter(|r| !r.passes()).collect();
    assert_eq!(shut.len(), 1, "{shut:?}");
    assert_eq!(shut[0].gate, Gate::Parked);

    let forced = PromotionOrder {
        forced: Some(Forced {
            gate: Gate::Parked,
            reason: "these accounts are closed".to_owned(),
        }),
        ..order
    };
    let promotion = drive(&yard.world.store, &specs, &forced).await;
    assert!(promotion.expect("a promotion").changed);
    yard.append(50);
    yard.assert_settled(V1).await;
    yard.assert_settled(V2).await;
}
