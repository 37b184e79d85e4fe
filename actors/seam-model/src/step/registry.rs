//! The steps of those who switch, reset, retire, drop and read.

use refold_domain::barrier::OffsetVector;
use refold_domain::barrier::SumDifference;
use refold_domain::barrier::switch_vector;
use refold_domain::cutover::Behind;
use refold_domain::cutover::Evidence;
use refold_domain::cutover::judge;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionState;

use super::Action;
use crate::log::PARTITIONS;
use crate::log::end;
use crate::log::inside;
use crate::model::Seam;
use crate::mutation::Mutation;
use crate::state::Barrier;
use crate::state::Database;
use crate::state::Mark;
use crate::state::Registry;
use crate::state::State;
use crate::state::VERSIONS;
use crate::state::Vector;

/// Events that a candidate may lag behind the serving version: more than the log has.
const ALLOWED_LAG: u64 = 8;

impl Seam {
    pub(super) fn possible_in_registry(&self, state: &State, actions: &mut Vec<Action>) {
        let (spent, bounds) = (&state.spent, &self.bounds);
        actions.push(Action::BecomeReady);
        for version in 0..VERSIONS {
            if spent.resets < bounds.resets {
                actions.push(Action::Reset(version));
            }
            if bounds.switches > 0 {
                actions.push(Action::BeginRetire(version));
                actions.push(Action::Drop(version));
            }
        }
        if spent.barriers < bounds.barriers {
            actions.push(match state.choosing {
                None => Action::SetBarrier,
                Some(_) => Action::SetComputedBarrier,
            });
        }
        if state.db.barrier.is_some() {
            actions.extend([Action::Compare, Action::BeginSwitch]);
        }
        for registry in 0..state.registry.len() {
            actions.push(Action::CommitRegistry(registry));
        }
    }

    pub(super) fn take_in_registry(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::BecomeReady => become_ready(&mut state.db),
            Action::Reset(version) => self.reset(state, version),
            Action::SetBarrier if self.lacks(Mutation::UnlockedBarrier) => {
                state.choosing = self.vector(state);
                state.choosing.is_some()
            }
            Action::SetBarrier => {
                let vector = self.vector(state);
                set_barrier(state, vector)
            }
            Action::SetComputedBarrier => {
                let vector = state.choosing.take();
                set_barrier(state, vector)
            }
            Action::Compare => self.compare(state),
            Action::BeginSwitch => self.begin_switch(state),
            Action::BeginRetire(version) => self.begin_retire(state, version),
            Action::CommitRegistry(index) => self.commit_registry(state, index),
            Action::Drop(version) => self.drop_tables(state, version),
            Action::PlanRead => {
                let readable = |v: &usize| state.db.versions[*v].state.is_readable();
                let named = (0..VERSIONS).filter(readable).map(|v| 1 << v);
                state.reader = Some(named.sum());
                true
            }
            Action::Read => read(state),
            _ => false,
        }
    }

    /// The transaction that builds a version again locks its row, puts every mark back, raises
    /// the epochs, and withdraws the barriers that it stood at.
    fn reset(&self, state: &mut State, version: usize) -> bool {
        let locked = state.is_locked(version) && !self.lacks(Mutation::NoVersionLock);
        let row = state.db.versions[version];
        let may = row.state.may_become(VersionState::Failed)
            && VersionState::Failed.may_become(VersionState::Building);
        if state.spent.resets == self.bounds.resets || locked || !may {
            return false;
        }
        state.spent.resets += 1;
        state.db.versions[version].state = VersionState::Building;
        state.db.versions[version].code += 1;
        for mark in &mut state.db.marks[version] {
            let kept_epoch = u8::from(!self.lacks(Mutation::ResetKeepsEpoch));
            let rows = match self.lacks(Mutation::ResetKeepsRows) {
                true => mark.rows,
                false => Default::default(),
            };
            *mark = Mark {
                epoch: mark.epoch + kept_epoch,
                rows,
                ..Mark::default()
            };
        }
        let keeps = self.lacks(Mutation::ResetKeepsAcks) || self.lacks(Mutation::NoRecheck);
        if !keeps && state.db.barrier.is_some_and(|b| b.concerns(version)) {
            state.db.barrier = None;
        }
        true
    }

    /// The switch vector between the active version and the other one; `None` when there is
    /// no candidate.
    fn vector(&self, state: &State) -> Option<Vector> {
        if state.spent.barriers == self.bounds.barriers {
            return None;
        }
        let from = usize::from(state.db.active);
        let to = other(from);
        if !state.db.versions[to].state.may_become(VersionState::Active) {
            return None;
        }
        if self.lacks(Mutation::LogEndVector) {
            return Some(std::array::from_fn(|p| end(p, state.grown)));
        }
        let marks = |version: usize| -> OffsetVector {
            let marks = state.db.marks[version].iter().enumerate();
            marks
                .map(|(p, m)| (Partition(p as i32), Offset(i64::from(m.next))))
                .collect()
        };
        let vector = switch_vector(&marks(from), &marks(to)).ok()?;
        Some(std::array::from_fn(|p| {
            vector[&Partition(p as i32)].0 as u8
        }))
    }

    fn compare(&self, state: &mut State) -> bool {
        let Some(barrier) = &mut state.db.barrier else {
            return false;
        };
        let [old, new] = [barrier.from, barrier.to].map(|v| barrier.acks[usize::from(v)]);
        let complete = old.iter().chain(&new).all(Option::is_some);
        if !complete || barrier.equal.is_some() {
            return false;
        }
        barrier.equal = Some(old == new);
        true
    }

    /// Locks, looks again, and judges by the gates of the product.
    fn begin_switch(&self, state: &mut State) -> bool {
        let Some(barrier) = state.db.barrier else {
            return false;
        };
        let (from, to) = (usize::from(barrier.from), usize::from(barrier.to));
        let locked = state.is_locked(from) || state.is_locked(to);
        let busy = |r: &Registry| matches!(r, Registry::Switch { .. });
        let blocked = locked && !self.lacks(Mutation::NoVersionLock);
        if blocked
            || state.registry.iter().any(busy)
            || usize::from(state.db.active) != from
            || state.spent.switches == self.bounds.switches
            || barrier.equal.is_none()
        {
            return false;
        }
        let evidence = self.evidence(&state.db, &barrier);
        if judge(&evidence).iter().any(|report| !report.ok) {
            return false;
        }
        state.registry.push(Registry::Switch {
            from: barrier.from,
            to: barrier.to,
            vector: barrier.switch,
        });
        true
    }

    fn evidence(&self, db: &Database, barrier: &Barrier) -> Evidence {
        let (from, to) = (usize::from(barrier.from), usize::from(barrier.to));
        let trusts = self.lacks(Mutation::NoRecheck) || self.lacks(Mutation::AckFromMemory);
        let marks = &db.marks[to];
        let offset = |at: u8| Offset(i64::from(at));
        let behind = (0..PARTITIONS).filter_map(|p| {
            let events = offset(marks[p].next).lag_to(offset(barrier.switch[p]));
            let partition = Partition(p as i32);
            (events > 0 && !trusts).then_some(Behind { partition, events })
        });
        let equal = barrier.equal.map(|e| e || self.lacks(Mutation::NoCompare));
        let difference = SumDifference {
            partition: Partition(0),
            column: "count",
            buckets: vec![0],
        };
        let lag =
            (0..PARTITIONS).map(|p| offset(marks[p].next).lag_to(offset(db.marks[from][p].next)));
        let without_key = (0..PARTITIONS).filter(|p| !marks[*p].has_leaf && !trusts);
        Evidence {
            state: match trusts {
                true => VersionState::Ready,
                false => db.versions[to].state,
            },
            behind: behind.collect(),
            differences: equal.map(|equal| match equal {
                true => Vec::new(),
                false => vec![difference],
            }),
            scan: None,
            max_scan_age: None,
            parked: 0,
            gaps: 0,
            without_key: without_key.map(|p| Partition(p as i32)).collect(),
            lag: lag.max().unwrap_or(0),
            allowed_lag: ALLOWED_LAG,
        }
    }

    fn begin_retire(&self, state: &mut State, version: usize) -> bool {
        let retires = |r: &Registry| matches!(r, Registry::Retire { .. });
        let blocked = state.is_locked(version) && !self.lacks(Mutation::NoVersionLock);
        let row = state.db.versions[version];
        let may = row.state.may_become(VersionState::Retired)
            || (self.lacks(Mutation::RetireAnything) && row.state.is_projected());
        if blocked || state.registry.iter().any(retires) || !may {
            return false;
        }
        state.registry.push(Registry::Retire {
            version: version as u8,
        });
        true
    }

    fn commit_registry(&self, state: &mut State, index: usize) -> bool {
        match state.registry.remove(index) {
            Registry::Retire { version } => {
                state.db.versions[usize::from(version)].state = VersionState::Retired;
                if state
                    .db
                    .barrier
                    .is_some_and(|b| b.concerns(usize::from(version)))
                {
                    state.db.barrier = None;
                }
            }
            Registry::Switch { from, to, vector } => {
                self.switch(state, (usize::from(from), usize::from(to)), vector);
            }
        }
        true
    }

    /// The barrier that the transaction has judged decides, whatever was set in the meantime.
    fn switch(&self, state: &mut State, (from, to): (usize, usize), vector: Vector) {
        let db = &mut state.db;
        db.barrier = db.barrier.filter(|barrier| barrier.switch != vector);
        let counts = |version: usize, p: usize| {
            let rows = db.marks[version][p].rows;
            inside(p, 0, vector[p]).map(move |record| rows[record])
        };
        let equal = (0..PARTITIONS).all(|p| counts(from, p).eq(counts(to, p)));
        // A version that is short of the vector is another property's finding.
        let short = (0..PARTITIONS).any(|p| db.marks[to][p].next < vector[p]);
        let seen = &mut state.seen;
        seen.unequal_switch |= !equal && !short;
        seen.vector_went_back |= (0..PARTITIONS).any(|p| vector[p] < db.switched_at[p]);
        if !self.lacks(Mutation::TwoActive) {
            db.versions[from].state = VersionState::Previous;
        }
        db.versions[to].state = VersionState::Active;
        db.active = to as u8;
        db.generation += 1;
        db.switched_at = vector;
        state.spent.switches += 1;
    }

    /// A retired version's tables go when no statement names them any more.
    fn drop_tables(&self, state: &mut State, version: usize) -> bool {
        let named = state
            .reader
            .is_some_and(|named| named & (1 << version) != 0);
        let graced = !named || self.lacks(Mutation::NoGrace);
        let row = state.db.versions[version];
        if !row.state.may_become(VersionState::Dropped) || !graced {
            return false;
        }
        state.db.versions[version].state = VersionState::Dropped;
        for mark in &mut state.db.marks[version] {
            let epoch = mark.epoch;
            *mark = Mark {
                epoch,
                ..Mark::default()
            };
        }
        true
    }
}

fn other(version: usize) -> usize {
    1 - version
}

fn become_ready(db: &mut Database) -> bool {
    let building = |v: &usize| db.versions[*v].state == VersionState::Building;
    let reached = |v: &usize| db.marks[*v].iter().all(|mark| mark.reached_end);
    let Some(version) = (0..VERSIONS).find(|v| building(v) && reached(v)) else {
        return false;
    };
    db.versions[version].state = VersionState::Ready;
    true
}

/// Sets a barrier, in place of the one that waited, and records the sums of who stands there.
fn set_barrier(state: &mut State, vector: Option<Vector>) -> bool {
    let Some(switch) = vector else {
        return false;
    };
    state.spent.barriers += 1;
    let db = &mut state.db;
    let mut barrier = Barrier {
        from: db.active,
        to: other(usize::from(db.active)) as u8,
        switch,
        acks: Default::default(),
        equal: None,
    };
    for (version, marks) in db.marks.iter().enumerate() {
        for (partition, mark) in marks.iter().enumerate() {
            if mark.next == switch[partition] {
                barrier.acks[version][partition] = Some(mark.rows);
            }
        }
    }
    db.barrier = Some(barrier);
    true
}

/// One statement, one snapshot: the registry's row and the data's row of the same moment.
fn read(state: &mut State) -> bool {
    let Some(named) = state.reader.take() else {
        return false;
    };
    let db = &state.db;
    let missing = (0..VERSIONS)
        .filter(|v| named & (1 << v) != 0)
        .any(|v| db.versions[v].state == VersionState::Dropped);
    let active = usize::from(db.active);
    // A version that came later is named by the next statement.
    let answers = named & (1 << active) != 0;
    let short = db.marks[active]
        .iter()
        .zip(db.switched_at)
        .any(|(mark, at)| !mark.has_leaf || mark.next < at);
    state.seen.failed_read |= missing || (answers && short);
    true
}
