//! A store with one rule left out, so that a harness can show that it would notice.

use super::MemoryStore;
use super::state::State;

/// A rule of the store that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Omission {
    /// Every transaction is admitted.
    Fence,
    /// The fence compares the mark and not the epoch.
    Epoch,
    /// The fence compares the epoch and not the mark.
    Mark,
    /// A bulk load is not fenced, since its leaf is new.
    LoadFence,
    /// A take-over keeps the epoch.
    NewEpoch,
    /// Rows and mark are two transactions: the rows of a commit that fails stay.
    OneTransaction,
    /// The rows of a bulk load are visible before its commit.
    HiddenLoad,
    /// A batch may run past the switch offset; its ack is recorded there.
    Cut,
    /// An ack is recorded before its commit, and a switch trusts the acks.
    DurableAck,
    /// A switch trusts what was compared at the barrier, not the marks and states of now.
    Recheck,
    /// A switch does not ask whether the sums are equal.
    Compare,
    /// A switch does not ask whether events are missing.
    Gaps,
    /// A barrier is set at marks that were read some time before.
    LockedVector,
    /// A switch leaves the old version active.
    OneActive,
    /// Any version may be retired, the active one too.
    KeepActive,
}

impl MemoryStore {
    /// Leaves a rule out from now on, or none any more.
    pub fn leave_out(&self, omission: Option<Omission>) {
        self.lock().omission = omission;
    }
}

impl State {
    /// Whether a rule is left out.
    pub(super) fn lacks(&self, omission: Omission) -> bool {
        self.omission == Some(omission)
    }
}
