//! Planted bugs: one rule left out, which some check must notice.

use refold_ports::memory::store::Omission;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A rule of the store is left out.
    Store(Omission),
    /// After a lost answer the mark is read and the old epoch kept, instead of a take-over.
    ResumeByRead,
    /// A lost answer is taken for a rollback, and the same batch sent again.
    LostIsRetry,
    /// A commit that was rolled back is reported as done.
    RollbackIsCommit,
    /// A reader below the log's start begins at its start.
    ResetToStart,
    /// A reader skips a record when a read has failed.
    SkipAfterError,
    /// The store keeps no sums of a batch: those of the batch before are written again.
    StaleSums,
    /// A read resolves the version first and reads its row in another statement.
    SplitRead,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Store(Omission::Fence),
        Self::Store(Omission::Epoch),
        Self::Store(Omission::Mark),
        Self::Store(Omission::LoadFence),
        Self::Store(Omission::NewEpoch),
        Self::Store(Omission::OneTransaction),
        Self::Store(Omission::HiddenLoad),
        Self::Store(Omission::Cut),
        Self::Store(Omission::DurableAck),
        Self::Store(Omission::Recheck),
        Self::Store(Omission::Compare),
        Self::Store(Omission::Gaps),
        Self::Store(Omission::LockedVector),
        Self::Store(Omission::OneActive),
        Self::Store(Omission::KeepActive),
        Self::ResumeByRead,
        Self::LostIsRetry,
        Self::RollbackIsCommit,
        Self::ResetToStart,
        Self::SkipAfterError,
        Self::StaleSums,
        Self::SplitRead,
    ];

    /// The rule that the store leaves out.
    pub(crate) fn omission(self) -> Option<Omission> {
        match self {
            Self::Store(omission) => Some(omission),
            _ => None,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> String {
        match self {
            Self::Store(omission) => format!(
                "without {}",
                crate::branch::spaced(&format!("{omission:?}"))
            ),
            other => crate::branch::spaced(&format!("{other:?}")),
        }
    }
}
