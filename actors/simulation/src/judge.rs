//! What must hold after every step at the far end, whoever took it and whatever was lost.

use std::collections::BTreeSet;

use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_ports::Registry as _;
use refold_ports::memory::store::SeenPlace;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::Committed;
use refold_ports::sink::Lease;
use refold_ports::sink::StoreError;
use refold_projection::cell::write_bytes;

use crate::branch::Branch;
use crate::ledger;
use crate::network::Fate;
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
pub(crate) fn sums_of(rows: &Rows, number: u32) -> Sums {
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
