//! What may happen, and what comes of it.

mod registry;
mod writer;

pub(crate) use writer::Refusal;

use crate::log::PARTITIONS;
use crate::log::RECORDS;
use crate::model::Seam;
use crate::state::State;
use crate::state::VERSIONS;

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The log grows by its last records.
    Grow,
    /// A process makes itself the owner of a partition, whoever owned it before.
    TakeOver {
        /// Index of the version.
        version: usize,
        /// Index of the partition.
        partition: usize,
    },
    /// A worker dies; what it has sent is on its way.
    Crash {
        /// Index of the version.
        version: usize,
        /// Index of the partition.
        partition: usize,
    },
    /// A worker sends the transaction of a batch.
    Send {
        /// Index of the version.
        version: usize,
        /// Index of the partition.
        partition: usize,
        /// Last record of the batch.
        last: usize,
        /// Whether its fold loses the first event.
        misfold: bool,
    },
    /// A transaction arrives, and commits or is refused.
    Deliver(usize),
    /// A transaction arrives, and once more later.
    DeliverTwice(usize),
    /// A transaction is lost with its connection.
    Lose(usize),
    /// A build has reached the tail in every partition.
    BecomeReady,
    /// A version that is not active is built again, by other code.
    Reset(usize),
    /// A barrier is set; with a mutation, its vector is only computed.
    SetBarrier,
    /// A barrier is set at a vector that was computed before.
    SetComputedBarrier,
    /// The acks of a barrier are compared.
    Compare,
    /// A switch has locked, looked and found its gates open.
    BeginSwitch,
    /// A retire has locked and looked.
    BeginRetire(usize),
    /// A transaction of the registry commits.
    CommitRegistry(usize),
    /// A retired version's tables are dropped.
    Drop(usize),
    /// A reader's statement is planned over the versions that can be read.
    PlanRead,
    /// It runs.
    Read,
    /// The standby has everything up to now, and receives nothing more.
    Replicate,
    /// The standby takes over; every session is gone.
    Failover,
}

impl Seam {
    /// Every step that may be worth a try; one that cannot happen changes nothing.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let (spent, bounds) = (&state.spent, &self.bounds);
        if !state.grown {
            actions.push(Action::Grow);
        }
        for (version, partition) in places() {
            if spent.take_overs < bounds.take_overs {
                actions.push(Action::TakeOver { version, partition });
            }
            if state.workers[version][partition].is_none() {
                continue;
            }
            actions.push(Action::Crash { version, partition });
            for last in 0..RECORDS {
                for misfold in [false, true] {
                    actions.push(Action::Send {
                        version,
                        partition,
                        last,
                        misfold,
                    });
                }
            }
        }
        for message in 0..state.messages.len() {
            actions.push(Action::Deliver(message));
            actions.push(Action::DeliverTwice(message));
            actions.push(Action::Lose(message));
        }
        self.possible_in_registry(state, actions);
        if bounds.reads {
            actions.push(match state.reader {
                None => Action::PlanRead,
                Some(_) => Action::Read,
            });
        }
        if spent.failovers < bounds.failovers {
            actions.push(match state.standby {
                None => Action::Replicate,
                Some(_) => Action::Failover,
            });
        }
    }

    /// Takes a step. `false` when it cannot happen here.
    pub(crate) fn take(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Grow => {
                state.grown = true;
                true
            }
            Action::TakeOver { version, partition } => self.take_over(state, version, partition),
            Action::Crash { version, partition } => self.crash(state, version, partition),
            Action::Send {
                version,
                partition,
                last,
                misfold,
            } => self.send(state, (version, partition), last, misfold),
            Action::Deliver(message) => self.deliver(state, message, false),
            Action::DeliverTwice(message) => self.deliver(state, message, true),
            Action::Lose(message) => self.lose(state, message),
            Action::Replicate => self.replicate(state),
            Action::Failover => self.failover(state),
            _ => self.take_in_registry(state, action),
        }
    }

    /// Once: only the last state that a standby received before it took over matters.
    fn replicate(&self, state: &mut State) -> bool {
        let first = state.standby.is_none();
        if first {
            state.standby = Some(Box::new(state.db));
        }
        first
    }

    /// What the standby does not have is gone, with every session and what it has sent.
    fn failover(&self, state: &mut State) -> bool {
        let Some(standby) = state.standby.take() else {
            return false;
        };
        state.db = *standby;
        state.spent.failovers += 1;
        state.workers = Default::default();
        state.messages.clear();
        state.registry.clear();
        state.choosing = None;
        true
    }
}

/// Every partition of every version.
pub(crate) fn places() -> impl Iterator<Item = (usize, usize)> {
    (0..VERSIONS).flat_map(|version| (0..PARTITIONS).map(move |partition| (version, partition)))
}
