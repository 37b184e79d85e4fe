//! The steps of those who write a partition.

use refold_domain::fence::Claim;
use refold_domain::fence::FenceRefusal;
use refold_domain::fence::FencedMark;
use refold_domain::fence::admit;
use refold_domain::fence::is_ack;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;

use crate::log::end;
use crate::log::inside;
use crate::log::last_position;
use crate::log::offset;
use crate::model::Seam;
use crate::mutation::Mutation;
use crate::state::Counts;
use crate::state::Database;
use crate::state::Mark;
use crate::state::Message;
use crate::state::Part;
use crate::state::State;
use crate::state::Worker;

/// Why a transaction does not commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its writer is not the owner, or has nothing to write to.
    Over,
    /// It may be sent again, cut.
    Cut,
}

impl Seam {
    /// Raises the epoch and reads what is durable. A transaction that has arrived is decided,
    /// since both need the lock of the mark's row.
    pub(super) fn take_over(&self, state: &mut State, version: usize, partition: usize) -> bool {
        let row = state.db.versions[version];
        if state.spent.take_overs == self.bounds.take_overs || !row.state.is_projected() {
            return false;
        }
        state.spent.take_overs += 1;
        nobody_listens(state, version, partition);
        let mark = &mut state.db.marks[version][partition];
        mark.epoch += 1;
        state.workers[version][partition] = Some(Worker {
            epoch: mark.epoch,
            next: mark.next,
            has_leaf: mark.has_leaf,
            code: row.code,
            waits: false,
        });
        true
    }

    pub(super) fn crash(&self, state: &mut State, version: usize, partition: usize) -> bool {
        nobody_listens(state, version, partition);
        state.workers[version][partition].take().is_some()
    }

    /// Sends the records from the worker's mark to `last`: as a bulk load, of the whole log,
    /// while there is no leaf.
    pub(super) fn send(
        &self,
        state: &mut State,
        (version, partition): (usize, usize),
        last: usize,
        misfold: bool,
    ) -> bool {
        let Some(worker) = state.workers[version][partition] else {
            return false;
        };
        let room = state.messages.len() < usize::from(self.bounds.in_flight);
        let there = offset(partition, last).filter(|at| *at < end(partition, state.grown));
        let Some(to) = there.map(|at| at + 1) else {
            return false;
        };
        if worker.waits || !room || to <= worker.next {
            return false;
        }
        let bulk = !worker.has_leaf;
        if bulk && to != last_position(partition, state.grown) {
            return false;
        }
        if misfold {
            // Only a candidate's code is in doubt.
            if version == usize::from(state.db.active)
                || state.spent.misfolds == self.bounds.misfolds
            {
                return false;
            }
            state.spent.misfolds += 1;
        }
        let message = Message {
            version: version as u8,
            partition: partition as u8,
            epoch: worker.epoch,
            from: worker.next,
            to,
            bulk,
            code: worker.code,
            damaged: misfold,
            awaited: true,
            part: match self.lacks(Mutation::SplitTransaction) {
                true => Part::Rows,
                false => Part::Whole,
            },
        };
        if self.lacks(Mutation::AckFromMemory) {
            let rows = added(&state.db.marks[version][partition], &message).rows;
            self.ack(&mut state.db, &message, rows);
        }
        state.send(message);
        if let Some(worker) = &mut state.workers[version][partition] {
            worker.waits = true;
        }
        true
    }

    /// A transaction is decided in the database, and its writer hears of it if it is there.
    pub(super) fn deliver(&self, state: &mut State, index: usize, twice: bool) -> bool {
        let message = state.messages[index];
        if twice {
            if state.spent.resends == self.bounds.resends {
                return false;
            }
            state.spent.resends += 1;
        }
        state.messages.remove(index);
        if twice {
            state.send(Message {
                awaited: false,
                ..message
            });
        }
        let place = (usize::from(message.version), usize::from(message.partition));
        let outcome = self.decide(&state.db, &message);
        if outcome.is_ok() {
            self.commit(state, &message);
        }
        if !message.awaited {
            return true;
        }
        let worker = &mut state.workers[place.0][place.1];
        match (outcome, worker) {
            (Ok(()), Some(worker)) if message.part != Part::Rows => {
                worker.waits = false;
                worker.next = message.to;
                worker.has_leaf = true;
            }
            (Err(Refusal::Cut), Some(worker)) => worker.waits = false,
            (Err(Refusal::Over), worker) => *worker = None,
            _ => {}
        }
        true
    }

    /// The connection breaks before the transaction arrives; its writer does not know that.
    pub(super) fn lose(&self, state: &mut State, index: usize) -> bool {
        let message = state.messages.remove(index);
        if message.awaited {
            state.workers[usize::from(message.version)][usize::from(message.partition)] = None;
        }
        true
    }

    /// Whether a transaction that arrives now commits.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn decide(&self, db: &Database, message: &Message) -> Result<(), Refusal> {
        let (version, partition) = (usize::from(message.version), usize::from(message.partition));
        let mark = &db.marks[version][partition];
        // Creating a table that is there fails, and so does writing to one that is not.
        if message.part != Part::Mark && message.bulk == mark.has_leaf {
            return Err(Refusal::Over);
        }
        if self.lacks(Mutation::NoFence) || (message.bulk && self.lacks(Mutation::UnfencedBulk)) {
            return Ok(());
        }
        let mut fenced = FencedMark {
            epoch: i64::from(mark.epoch),
            next: Offset(i64::from(mark.next)),
            state: db.versions[version].state,
        };
        let (from, to) = (
            Offset(i64::from(message.from)),
            Offset(i64::from(message.to)),
        );
        let claim = Claim {
            epoch: i64::from(message.epoch),
            range: OffsetRange { from, to },
        };
        if self.lacks(Mutation::EpochOnly) {
            fenced.next = claim.range.from;
        }
        if self.lacks(Mutation::MarkOnly) {
            fenced.epoch = claim.epoch;
        }
        let waits = db.barrier.filter(|barrier| barrier.concerns(version));
        let switch = waits.map(|barrier| Offset(i64::from(barrier.switch[partition])));
        let switch = switch.filter(|_| !self.lacks(Mutation::AckPastSwitch));
        match admit(&fenced, &claim, switch) {
            Ok(()) => Ok(()),
            Err(FenceRefusal::CutAt(_)) => Err(Refusal::Cut),
            Err(_) => Err(Refusal::Over),
        }
    }

    /// Rows, mark and ack, together unless a mutation splits them.
    fn commit(&self, state: &mut State, message: &Message) {
        let (version, partition) = (usize::from(message.version), usize::from(message.partition));
        let code = state.db.versions[version].code;
        let mark = &mut state.db.marks[version][partition];
        if message.part != Part::Mark {
            *mark = added(mark, message);
            mark.foreign |= message.code != code;
        }
        if message.part == Part::Rows {
            let mut second = *message;
            second.part = Part::Mark;
            state.send(second);
            return;
        }
        state.seen.mark_went_back |= message.to < mark.next;
        mark.next = message.to;
        mark.reached_end |= message.to == last_position(partition, state.grown);
        let rows = mark.rows;
        self.ack(&mut state.db, message, rows);
    }

    /// Records the sums of a version that stands at a switch offset.
    fn ack(&self, db: &mut Database, message: &Message, rows: Counts) {
        let (version, partition) = (usize::from(message.version), usize::from(message.partition));
        let Some(barrier) = &mut db.barrier else {
            return;
        };
        let switch = barrier.switch[partition];
        let is_ack = match self.lacks(Mutation::AckPastSwitch) {
            true => message.to >= switch,
            false => is_ack(Offset(i64::from(switch)), Offset(i64::from(message.to))),
        };
        if barrier.concerns(version) && is_ack {
            barrier.acks[version][partition].get_or_insert(rows);
        }
    }
}

/// The leaf with a transaction's rows in it.
fn added(mark: &Mark, message: &Message) -> Mark {
    let mut mark = *mark;
    let partition = usize::from(message.partition);
    let mut records = inside(partition, message.from, message.to);
    if message.damaged {
        records.next();
    }
    for record in records {
        mark.rows[record] += 1;
    }
    mark.has_leaf = true;
    mark.damaged |= message.damaged;
    mark
}

/// Nobody waits any more for what a worker has sent.
fn nobody_listens(state: &mut State, version: usize, partition: usize) {
    for message in &mut state.messages {
        if (usize::from(message.version), usize::from(message.partition)) == (version, partition) {
            message.awaited = false;
        }
    }
    state.messages.sort_unstable();
}
