//! What must hold after every step at the far end, whoever took it and whatever was lost.

use std::collections::BTreeSet;

use refold_domain::barrier::OffsetVector;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::position::Partition;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::LogSource as _;
use refold_ports::Registry as _;
use refold_ports::memory::store::SeenPlace;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::Promotion;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::Committed;
use refold_ports::sink::Lease;
use refold_ports::sink::StoreError;
use refold_projection::cell::write_bytes;

use crate::branch::Branch;
use crate::ledger;
use crate::network::Fate;
use crate::truth::Row;
use crate::truth::Rows;
use crate::truth::read_row;
use crate::world::Applied;
use crate::world::Place;
use crate::world::World;

/// Every row is the plain fold of the log below its mark.
pub(crate) const EQUAL: &str = "rows equal a plain fold";
/// The sums beside a mark are those of its rows.
pub(crate) const SUMS: &str = "sums equal a recount";
/// Every offset is applied once, under the newest epoch.
pub(crate) const ONCE: &str = "one owner applies every offset once";
/// An epoch is granted once.
pub(crate) const GRANTED: &str = "an epoch is granted once";
/// An owner is not fenced.
pub(crate) const OWNED: &str = "an owner is never fenced";
/// A load shows no row before it is committed.
pub(crate) const HIDDEN: &str = "a load is hidden until its commit";
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
/// A version that is not projected does not change.
pub(crate) const STILL: &str = "a version that is not projected does not change";

/// A commit that reached the store.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) process: u64,
    pub(crate) place: Place,
    pub(crate) epoch: i64,
    pub(crate) range: OffsetRange,
    pub(crate) target: BulkTarget,
    pub(crate) is_load: bool,
    pub(crate) fate: Fate,
}

/// A partition was taken over.
pub(crate) fn taken_over(world: &World, process: u64, lease: &Lease) {
    let place = (lease.version, lease.partition);
    let mut seen = world.seen();
    let before = seen.granted.insert(place, (lease.epoch, process));
    let loading = seen.loading.remove(&place);
    drop(seen);
    world.note(format_args!(
        "p{process} takes {place:?} over, epoch {} at {}",
        lease.epoch, lease.next
    ));
    if before.is_some_and(|(epoch, _)| epoch >= lease.epoch) {
        let epoch = lease.epoch;
        world.find(
            GRANTED,
            format!("epoch {epoch} of {place:?} was granted twice"),
        );
    }
    match loading {
        Some((BulkTarget::Leaf, _)) => world.take(Branch::TakenOverDuringLoad),
        Some((BulkTarget::Checkpoint, _)) => world.take(Branch::TakenOverDuringCheckpoint),
        None => {}
    }
    if lease.has_checkpoint {
        world.take(Branch::ResumedFromCheckpoint);
    }
    if lease.start > Offset(0) {
        world.take(Branch::LateStart);
    }
    judge_place(world, place);
}

/// A commit was executed, or refused.
pub(crate) async fn committed(
    world: &World,
    commit: &Commit,
    answer: &Result<Committed, StoreError>,
) {
    let Commit {
        process,
        place,
        epoch,
        range,
        ..
    } = *commit;
    world.note(format_args!(
        "p{process} commits {range} of {place:?} under {epoch}: {}",
        answer
            .as_ref()
            .err()
            .map_or("done".to_owned(), ToString::to_string)
    ));
    note_branches(world, commit, answer);
    if commit.is_load {
        world.seen().loading.remove(&place);
    }
    match answer {
        Ok(_) => {
            require_projected(world, place.0).await;
            require_turn(world, commit);
        }
        Err(StoreError::Fenced(why)) => {
            let owner = world.seen().granted.get(&place).copied();
            // What was dropped belongs to nobody.
            let exists = world.store.place(place.0, place.1).is_some();
            if exists && owner.is_some_and(|(newest, _)| newest == epoch) {
                world.find(
                    OWNED,
                    format!("{place:?} under its newest epoch {epoch}: {why}"),
                );
            }
        }
        Err(_) => {}
    }
    judge_place(world, place);
}

/// The same commit reached the store again.
pub(crate) async fn committed_again(
    world: &World,
    commit: &Commit,
    answer: &Result<Committed, StoreError>,
) {
    if answer.is_ok() && !commit.range.is_empty() {
        let (place, range) = (commit.place, commit.range);
        world.find(ONCE, format!("{range} of {place:?} was applied twice"));
    }
    judge_place(world, commit.place);
}

fn note_branches(world: &World, commit: &Commit, answer: &Result<Committed, StoreError>) {
    match (commit.fate, answer) {
        (Fate::Late, Ok(_)) => world.take(Branch::LateCommitIn),
        (Fate::Late, Err(_)) => world.take(Branch::LateCommitRefused),
        (Fate::Unanswered, Ok(_)) => world.take(Branch::UnknownOutcomeIn),
        (Fate::Lost, Err(StoreError::Disconnected(_))) => world.take(Branch::UnknownOutcomeOut),
        (_, Err(StoreError::Fenced(_))) if commit.is_load => world.take(Branch::LoadFencedMidway),
        (_, Err(StoreError::Fenced(_))) => world.take(Branch::BatchFenced),
        (_, Err(StoreError::Retry(_))) => world.take(Branch::CommitRetried),
        (_, Err(StoreError::DiskFull(_))) => world.take(Branch::DiskFull),
        (_, Err(StoreError::CutAt { .. })) => world.take(Branch::CutAtSwitch),
        (_, Err(StoreError::Refused(_))) => world.take(Branch::RetiredUnderProjector),
        _ => {}
    }
    if answer.is_ok() && commit.is_load && commit.target == BulkTarget::Checkpoint {
        world.take(Branch::Checkpoint);
    }
}

async fn require_projected(world: &World, version: VersionId) {
    let versions = world.store.versions().await.unwrap_or_default();
    let row = versions.iter().find(|row| row.id == version);
    if let Some(row) = row.filter(|row| !row.state.is_projected()) {
        world.find(
            STILL,
            format!("{} is {} and was written to", row.label, row.state),
        );
    }
}

/// The range follows the one before, under the epoch that was granted last.
fn require_turn(world: &World, commit: &Commit) {
    let Commit {
        place,
        epoch,
        range,
        ..
    } = *commit;
    let start = world.store.place(place.0, place.1).map(|p| p.start);
    let mut seen = world.seen();
    let newest = seen.granted.get(&place).map(|(epoch, _)| *epoch);
    let applied = Applied {
        to: range.to,
        epoch,
    };
    let before = seen.applied.insert(place, applied);
    drop(seen);
    let wanted = before.map(|b| b.to).or(start);
    if wanted != Some(range.from) {
        let wanted = wanted.map_or("nothing".to_owned(), |to| to.to_string());
        world.find(
            ONCE,
            format!("{range} of {place:?} was applied on top of {wanted}"),
        );
    }
    if newest != Some(epoch) {
        world.find(
            ONCE,
            format!("{range} of {place:?} was applied under the old epoch {epoch}"),
        );
    }
}

/// The rows and the sums of a place.
pub(crate) fn judge_place(world: &World, (version, partition): Place) {
    if world.is_broken() {
        return;
    }
    let Some(place) = world.store.place(version, partition) else {
        return;
    };
    let number = world.number(version);
    if !place.has_leaf && place.leaf_rows > 0 {
        let rows = place.leaf_rows;
        world.find(
            HIDDEN,
            format!("{rows} rows of version {version} {partition} have no leaf"),
        );
        return;
    }
    if !place.has_leaf && !place.has_checkpoint && place.next > place.start {
        let next = place.next;
        world.find(
            EQUAL,
            format!("version {version} {partition} is at {next} and has no rows"),
        );
        return;
    }
    let rows = match rows_of(&place, number) {
        Ok(rows) => rows,
        Err(why) => return world.find(EQUAL, format!("version {version} {partition}: {why}")),
    };
    let range = (place.start, place.next);
    let expected = world.seen().truth.rows(number, partition, range);
    if let Some(first) = first_difference(&rows, &expected) {
        let next = place.next;
        world.find(
            EQUAL,
            format!("version {version} {partition} at {next}: {first}"),
        );
    } else if sums_of(&rows, number) != place.sums {
        world.find(
            SUMS,
            format!("version {version} {partition} at {}", place.next),
        );
    }
}

fn columns_of(number: u32) -> usize {
    if number == 1 { 1 } else { 2 }
}

fn rows_of(place: &SeenPlace, number: u32) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for cells in &place.rows {
        let (key, row) = read_row(cells, columns_of(number))?;
        if rows.insert(key, row).is_some() {
            return Err(format!("key {key} has two rows"));
        }
    }
    Ok(rows)
}

fn first_difference(rows: &Rows, expected: &Rows) -> Option<String> {
    let keys: BTreeSet<_> = rows.keys().chain(expected.keys()).collect();
    let differs = keys
        .into_iter()
        .find(|key| rows.get(key) != expected.get(key));
    differs.map(|key| {
        let (is, must) = (rows.get(key), expected.get(key));
        format!("key {key} is {is:?} and must be {must:?}")
    })
}

/// The sums of rows.
fn sums_of(rows: &Rows, number: u32) -> Sums {
    let layout = ledger::specs()
        .into_iter()
        .find(|spec| spec.number == number)
        .map(|spec| spec.sum_layout())
        .unwrap_or_else(|| refold_domain::sums::SumLayout::new([]));
    let mut sums = Sums::zero(&layout);
    for (key, row) in rows {
        let Some(columns) = &row.columns else {
            continue;
        };
        let mut cell = Vec::new();
        write_bytes(&mut cell, &key.to_be_bytes());
        let mut cells = Vec::new();
        for value in columns {
            write_bytes(&mut cells, &value.to_be_bytes());
        }
        sums.add_row(&layout, &cell, &cells, row.seq);
    }
    sums
}

/// A barrier was set.
pub(crate) async fn barrier_set(world: &World, row: &BarrierRow) {
    let acks = world.store.acks(row.id);
    let mut at_set = false;
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
        let end = world.log.watermarks(*partition).await.map(|log| log.high);
        let has_more = world.seen().truth.has_more(*partition, *x);
        if end.is_ok_and(|end| end > *x) && !has_more {
            world.take(Branch::BarrierBeforeMarker);
        }
    }
    if at_set {
        world.take(Branch::AckAtSet);
    }
    if world.seen().barrier.replace(row.id).is_some() {
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

fn require_exact(
    world: &World,
    barrier: i64,
    (from, to): (VersionId, VersionId),
    switch: &OffsetVector,
) {
    let acks = world.store.acks(barrier);
    for (partition, x) in switch {
        let next = world.store.place(to, *partition).map(|p| p.next);
        if next.is_none_or(|next| next < *x) {
            world.find(
                EXACT,
                format!("version {to} {partition} has not passed {x}"),
            );
        }
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

/// One version at most is active, and the registry's row names it.
pub(crate) async fn one_active(world: &World) {
    let versions = world.store.versions().await.unwrap_or_default();
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
