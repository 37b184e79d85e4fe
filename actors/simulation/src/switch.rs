//! What must hold of barriers and switches, and of the lives of versions.

use refold_domain::barrier::OffsetVector;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::LogSource as _;
use refold_ports::Registry as _;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::Promotion;
use refold_ports::registry::VersionRow;

use crate::branch::Branch;
use crate::judge::sums_of;
use crate::ledger;
use crate::truth::Row;
use crate::world::World;

/// A barrier can be completed.
pub(crate) const COMPLETABLE: &str = "a barrier can be completed";
/// The recorded sums are those at the switch vector, and the new version has passed it.
pub(crate) const EXACT: &str = "a switch is exact at its vector";
/// The versions of a switch agree on the columns that they share.
pub(crate) const AGREES: &str = "a switch is between equal rows";
/// A version with events missing does not become active.
pub(crate) const WHOLE: &str = "a switch is to a version without gaps";
/// One version is active, and it is the one that serves.
pub(crate) const ONE_ACTIVE: &str = "one version is active and serves";
/// No state is reached that the life of a version does not lead to: what has ended stays so.
pub(crate) const LIFE: &str = "a version that has ended stays ended";

/// A barrier was set.
pub(crate) async fn barrier_set(world: &World, row: &BarrierRow) {
    let acks = world.store.acks(row.id);
    let (mut at_set, mut under_batch) = (false, false);
    for (partition, x) in &row.switch {
        for version in [row.from, row.to] {
            let next = world.store.place(version, *partition).map(|p| p.next);
            if next.is_some_and(|next| next > *x) {
                let next = next.unwrap_or_default();
                world.find(
                    COMPLETABLE,
                    format!("version {version} {partition} is at {next}, past {x}"),
                );
            }
            at_set |= acks.contains_key(&(version, *partition));
        }
        under_batch |= [row.from, row.to]
            .into_iter()
            .any(|version| world.seen().is_under_batch((version, *partition), *x));
        let end = world.log.watermarks(*partition).await.map(|log| log.high);
        let has_more = world.seen().truth.has_more(*partition, *x);
        if end.is_ok_and(|end| end > *x) && !has_more {
            world.take(Branch::BarrierBeforeMarker);
        }
    }
    if at_set {
        world.take(Branch::AckAtSet);
    }
    if under_batch {
        world.take(Branch::BarrierUnderBatch);
    }
    let mut seen = world.seen();
    seen.barriers.insert(row.id, row.clone());
    let replaced = seen.barrier.replace(row.id).is_some();
    drop(seen);
    if replaced {
        world.take(Branch::BarrierReplaced);
    }
}

/// A promotion was committed.
pub(crate) async fn promoted(world: &World, barrier: i64, promotion: &Promotion) {
    let Some(from) = promotion.from else { return };
    let to = promotion.to;
    world.note(format_args!(
        "promoted version {to}, generation {}",
        promotion.generation
    ));
    {
        let mut seen = world.seen();
        seen.barrier = None;
        let vector = promotion.switch.clone();
        seen.switches.insert(promotion.generation, vector);
    }
    require_exact(world, barrier, (from, to), &promotion.switch);
    for (partition, x) in &promotion.switch {
        require_agreement(world, (from, to), *partition, *x);
        let Some(place) = world.store.place(to, *partition) else {
            continue;
        };
        let range = (place.start, place.next);
        let gaps = world.seen().truth.gaps(*partition, range);
        if gaps > 0 {
            world.find(
                WHOLE,
                format!("{gaps} events of version {to} {partition} are missing"),
            );
        }
    }
    one_active(world).await;
}

/// The sums of both versions were compared: they are those of the switch vector, or what the
/// comparison says is said of something else.
pub(crate) fn compared(world: &World, barrier: i64) {
    let row = world.seen().barriers.get(&barrier).cloned();
    if let Some(row) = row {
        require_acks(world, barrier, (row.from, row.to), &row.switch);
    }
}

fn require_exact(
    world: &World,
    barrier: i64,
    (from, to): (VersionId, VersionId),
    switch: &OffsetVector,
) {
    for (partition, x) in switch {
        let next = world.store.place(to, *partition).map(|p| p.next);
        if next.is_none_or(|next| next < *x) {
            world.find(
                EXACT,
                format!("version {to} {partition} has not passed {x}"),
            );
        }
    }
    require_acks(world, barrier, (from, to), switch);
}

fn require_acks(
    world: &World,
    barrier: i64,
    (from, to): (VersionId, VersionId),
    switch: &OffsetVector,
) {
    let acks = world.store.acks(barrier);
    for (partition, x) in switch {
        for version in [from, to] {
            let start = world.store.place(version, *partition).map(|p| p.start);
            let (number, start) = (world.number(version), start.unwrap_or_default());
            let rows = world.seen().truth.rows(number, *partition, (start, *x));
            if acks.get(&(version, *partition)) != Some(&sums_of(&rows, number)) {
                world.find(
                    EXACT,
                    format!("the ack of version {version} {partition} is not of {x}"),
                );
            }
        }
    }
}

fn require_agreement(
    world: &World,
    (from, to): (VersionId, VersionId),
    partition: Partition,
    x: Offset,
) {
    let rows = |version| {
        let start = world.store.place(version, partition).map(|p| p.start);
        let number = world.number(version);
        let range = (start.unwrap_or_default(), x);
        let rows = world.seen().truth.rows(number, partition, range);
        let total = |row: &Row| row.columns.as_ref().and_then(|c| c.first().copied());
        let live = rows
            .iter()
            .filter_map(|(key, row)| Some((*key, total(row)?)));
        live.collect::<Vec<_>>()
    };
    if rows(from) != rows(to) {
        world.find(
            AGREES,
            format!("versions {from} and {to} differ in {partition} at {x}"),
        );
    }
}

/// One version at most is active, the registry's row names it, and no version came to its state
/// by a way that its life does not have.
pub(crate) async fn one_active(world: &World) {
    let versions = world.store.versions().await.unwrap_or_default();
    require_life(world, &versions);
    let active: Vec<_> = versions
        .iter()
        .filter(|row| row.state == VersionState::Active)
        .map(|row| row.id)
        .collect();
    let serving = world.store.active(ledger::NAME).await.ok().flatten();
    let serving: Vec<_> = serving.iter().map(|row| row.version).collect();
    if active != serving {
        world.find(
            ONE_ACTIVE,
            format!("{active:?} are active and {serving:?} serves"),
        );
    }
}

/// The life of a version leads from the state it was last seen in to the one it is in now.
fn require_life(world: &World, versions: &[VersionRow]) {
    for row in versions {
        let before = world.seen().states.insert(row.id, row.state);
        if let Some(before) = before.filter(|before| !leads(*before, row.state)) {
            let (label, now) = (&row.label, row.state);
            world.find(LIFE, format!("{label} was {before} and is {now}"));
        }
    }
}

/// Whether a version can come from one state to the other, by any number of steps: not every one
/// of them is looked at.
fn leads(from: VersionState, to: VersionState) -> bool {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(state) = reached.get(at).copied() {
        if state == to {
            return true;
        }
        let next = VersionState::ALL
            .into_iter()
            .filter(|next| state.may_become(*next) && !reached.contains(next));
        let next: Vec<_> = next.collect();
        reached.extend(next);
        at += 1;
    }
    false
}
