//! Promotions over barriers, while the tail moves.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::cutover::Gate;
use refold_domain::diff::NotComparable;
use refold_domain::diff::comparable_columns;
use refold_domain::fold::erase;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::APPLIED_SEQ;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_projection::Change;
use refold_projection::DecodeError;
use refold_projection::Envelope;
use refold_projection::Fingerprint;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_system::ProjectorOptions;
use refold_system::barrier::BarrierRef;
use refold_system::barrier::PromotionOrder;
use refold_system::barrier::drive;

use crate::strikes::*;
use crate::world::*;

fn specs() -> Vec<ProjectionSpec> {
    vec![
        ProjectionSpec::of::<Ledger<1>>(),
        ProjectionSpec::of::<Ledger<2>>(),
    ]
}

fn order(label: &str) -> PromotionOrder {
    PromotionOrder {
        deadline: PATIENCE,
        poll: Duration::from_millis(1),
        ..PromotionOrder::of(label, "test")
    }
}

/// Appends events until it is dropped.
pub(crate) struct Tail(Arc<AtomicBool>);

impl Tail {
    pub(crate) fn start(world: &World) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (world, told) = (world.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                world.append(7);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self(over)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn two_versions(world: &World) -> (Process, Process) {
    let first = world.start_caught_up(live()).await;
    let second = Process::start_v2(world, replay_and_catch_up()).await;
    second.ready().await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_version_is_promoted_under_a_moving_tail_and_rolled_back_again() {
    let world = World::with_events(300);
    let _processes = two_versions(&world).await;
    let _tail = Tail::start(&world);
    let (registry, specs) = (&world.store, specs());
    let mut generation = 1;
    for (label, version) in [("ledger_v2", V2), ("ledger_v1", V1)].repeat(5) {
        let promotion = drive(registry, &specs, &order(label)).await;
        let promotion = promotion.expect("a promotion");
        generation += 1;
        assert!(promotion.changed);
        assert_eq!(promotion.to, version);
        assert_eq!(promotion.generation, generation);
        assert_eq!(promotion.switch.len(), PARTITIONS as usize);
        for mark in registry.marks(version).await.expect("marks") {
            assert!(mark.next >= promotion.switch[&mark.partition]);
        }
        let again = drive(registry, &specs, &order(label)).await;
        let again = again.expect("the same answer");
        assert!(!again.changed);
        assert_eq!(again.switch, promotion.switch);
    }
    drop(_tail);
    world.caught_up(V1).await;
    world.caught_up(V2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_columns_are_unknown_here_is_refused() {
    let world = World::with_events(200);
    let _processes = two_versions(&world).await;
    let wrong = ProjectionSpec::of::<Ledger<1>>();
    let unlinked = drive(&world.store, &[wrong], &order("ledger_v2")).await;
    assert!(matches!(unlinked, Err(RegistryError::Conflict(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_stands_still_is_refused_at_the_deadline_and_leaves_no_barrier() {
    let world = World::with_events(200);
    let (_first, mut second) = two_versions(&world).await;
    second.handle.drain().await.expect("drained");
    world.append(100);
    world.caught_up(V1).await;
    let tail = Tail::start(&world);
    let impatient = PromotionOrder {
        deadline: Duration::from_secs(1),
        ..order("ledger_v2")
    };
    let refused = drive(&world.store, &specs(), &impatient).await;
    drop(tail);
    let Err(RegistryError::GateRefused(gates)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(gates[0].gate, Gate::CaughtUp);
    let detail = &gates[0].detail;
    assert!(detail.contains("behind"), "{detail}");
    assert!(
        detail.contains("ledger_v2 went through 0.0 and"),
        "{detail}"
    );
    assert!(!detail.contains("through 0.0 offsets"), "{detail}");
    assert!(
        detail.ends_with("does not catch up at this pace"),
        "{detail}"
    );
    // It catches up in one go, past the offsets of the withdrawn barrier.
    let _second = Process::start_v2(&world, replay_and_catch_up()).await;
    world.caught_up(V2).await;
    let promoted = drive(&world.store, &specs(), &order("ledger_v2")).await;
    assert!(promoted.is_ok_and(|p| p.changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_generation_is_refused_before_a_barrier_is_set() {
    let world = World::with_events(100);
    let _processes = two_versions(&world).await;
    let stale = PromotionOrder {
        if_generation: Some(7),
        ..order("ledger_v2")
    };
    let refused = drive(&world.store, &specs(), &stale).await;
    let expected = RegistryError::GenerationChanged {
        wanted: 7,
        found: 1,
    };
    assert_eq!(refused, Err(expected));
    let unknown = drive(&world.store, &specs(), &order("ledger_v9")).await;
    assert!(matches!(unknown, Err(RegistryError::UnknownVersion(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_is_activated_without_a_comparison() {
    let world = World::with_events(100);
    let process = world.start(replay_and_catch_up()).await;
    process.ready().await;
    let promoted = drive(&world.store, &specs(), &order("ledger_v1")).await;
    let promoted = promoted.expect("a promotion");
    assert_eq!((promoted.from, promoted.to), (None, V1));
    assert!(promoted.changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_judges_and_changes_nothing() {
    let world = World::with_events(100);
    let _processes = two_versions(&world).await;
    let dry = PromotionOrder {
        dry_run: true,
        ..order("ledger_v2")
    };
    let judged = drive(&world.store, &specs(), &dry).await;
    let judged = judged.expect("gates");
    assert!(!judged.changed);
    assert!(judged.gates.iter().all(|g| g.ok));
    let active = world.store.active("ledger").await.expect("a registry");
    assert_eq!(active.map(|a| a.version), Some(V1));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_for_one_projection_are_driven_one_after_the_other() {
    let world = World::with_events(200);
    let _processes = two_versions(&world).await;
    let _tail = Tail::start(&world);
    let registry = Arc::new(world.store.clone());
    let barrier = BarrierRef::spawn(registry, specs())
        .await
        .expect("an actor");
    let orders = (0..6).map(|_| {
        let barrier = barrier.clone();
        tokio::spawn(async move { barrier.promote(order("ledger_v2")).await })
    });
    let mut changed = 0;
    for answer in orders.collect::<Vec<_>>() {
        let promotion = answer.await.expect("no panic").expect("a promotion");
        assert_eq!(promotion.generation, 2);
        changed += u32::from(promotion.changed);
    }
    assert_eq!(changed, 1, "one order switched, the others were told so");
    barrier.stop();
    let stopped = barrier.promote(order("ledger_v1")).await;
    assert!(matches!(stopped, Err(RegistryError::Failed(_))));
}

/// The second version with another rule for the same column.
struct Wrong;

impl Projection for Wrong {
    type Key = i64;
    type Event<'a> = i64;
    type Row = Total;
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 2;
    const REPLACES: Option<u32> = Some(1);
    const HANDLES: &'static [&'static str] = &["Added"];
    const CODE: Fingerprint = Fingerprint(5);

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
        <Ledger<2> as Projection>::decode(kind, payload)
    }

    fn fold(&self, row: Option<Total>, event: &Envelope<'_, i64>) -> Change<Total> {
        // It forgets a third event of every aggregate.
        if event.version == 3 {
            return Change::Skip;
        }
        Ledger::<2>.fold(row, event)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_folds_a_column_differently_is_refused_by_its_sums() {
    let world = World::with_events(200);
    let _first = world.start_caught_up(live()).await;
    let plugs = world.plugs(erase(Wrong));
    let started = Process::try_start(plugs, "ledger_v2".to_owned(), replay_and_catch_up()).await;
    let second = started.expect("the process starts");
    second.ready().await;
    let specs = [
        ProjectionSpec::of::<Ledger<1>>(),
        ProjectionSpec::of::<Wrong>(),
    ];
    let _tail = Tail::start(&world);
    let refused = drive(&world.store, &specs, &order("ledger_v2")).await;
    let Err(RegistryError::GateRefused(gates)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(gates[0].gate, Gate::Verified);
    assert!(gates[0].detail.contains("total"), "{}", gates[0].detail);
    let active = world.store.active("ledger").await.expect("a registry");
    assert_eq!(active.map(|a| a.version), Some(V1), "nothing was switched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_whose_history_is_not_in_is_refused_before_a_barrier_is_set() {
    let world = World::with_events(200);
    let _first = world.start_caught_up(live()).await;
    // One partition of the candidate does not get as far as its load.
    let door = Door::at("write::before:1");
    let plugs = world.plugs(v2()).with_probe(Arc::new(door.clone()));
    let label = "ledger_v2".to_owned();
    let started = Process::try_start(plugs, label, replay_and_catch_up()).await;
    let second = started.expect("the process starts");
    door.someone_waits().await;
    let refused = drive(&world.store, &specs(), &order("ledger_v2")).await;
    let Err(RegistryError::GateRefused(gates)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(gates[0].gate, Gate::CaughtUp);
    assert!(!gates[0].ok);
    assert!(gates[0].detail.contains("behind"), "{}", gates[0].detail);
    door.open();
    second.ready().await;
    let promoted = drive(&world.store, &specs(), &order("ledger_v2")).await;
    assert!(promoted.is_ok_and(|p| p.changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_was_built_by_other_code_is_refused() {
    let world = World::with_events(100);
    let _processes = two_versions(&world).await;
    let specs = [
        ProjectionSpec::of::<Ledger<1>>(),
        ProjectionSpec::of::<Ledger<2, 77>>(),
    ];
    let refused = drive(&world.store, &specs, &order("ledger_v2")).await;
    assert!(matches!(refused, Err(RegistryError::CodeChanged { .. })));
}

#[test]
fn versions_are_compared_on_what_the_newer_one_declares_in_either_direction() {
    let first = ProjectionSpec::of::<Ledger<1>>();
    let rebuilt = ProjectionSpec::of::<Ledger<3>>();
    let wrong = ProjectionSpec::of::<Wrong>();
    let all = Ok(vec!["total", APPLIED_SEQ]);
    // The same fold under another number: every column, whoever replaces whom.
    assert_eq!(comparable_columns(&first, &rebuilt), all);
    assert_eq!(comparable_columns(&first, &wrong), all);
    assert_eq!(comparable_columns(&wrong, &first), all);
    let stranger = ProjectionSpec::of::<Ledger<5, 9>>();
    let refused = comparable_columns(&first, &stranger);
    assert!(matches!(refused, Err(NotComparable::Unrelated { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_folded_past_the_switch_offset_is_cut_there_and_folded_again() {
    let world = World::with_events(100);
    let (mut first, mut second) = two_versions(&world).await;
    second.handle.drain().await.expect("drained");
    world.append(60);
    world.caught_up(V1).await;
    first.handle.drain().await.expect("drained");
    world.append(60);
    // The second version folds all 120 events into one batch per partition before the barrier is set.
    let door = Door::at("write::before:1");
    let label = "ledger_v2".to_owned();
    let large = ProjectorOptions {
        batch: 1_000,
        ..replay_and_catch_up()
    };
    let plugs = world.plugs(v2()).with_probe(Arc::new(door.clone()));
    let second = Process::try_start(plugs, label, large).await;
    let _second = second.expect("the process starts");
    door.someone_waits().await;
    let registry = &world.store;
    let barrier = registry.set_barrier(V1, V2).await.expect("a barrier");
    door.open();
    let complete = async {
        loop {
            let progress = registry.barrier_progress(barrier.id).await;
            let progress = progress.expect("a barrier");
            let waits = progress.waiting.iter().any(|(_, p, _)| p.0 == 1);
            if !waits {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, complete).await;
    in_time.expect("the batch was cut at the switch offset");
    world.caught_up(V2).await;
    let _first = world.start(live()).await;
    world.caught_up(V1).await;
    // What was recorded at the cut is what the first version had there.
    let (old, new) = (
        ProjectionSpec::of::<Ledger<1>>(),
        ProjectionSpec::of::<Ledger<2>>(),
    );
    let columns = ["total", APPLIED_SEQ];
    let proof = registry.compare_at_barrier(barrier.id, &old, &new, &columns);
    assert_eq!(proof.await.map(|p| p.differences), Ok(Vec::new()));
}
