//! The rules of the seam, each taken away once.

use crate::bounds::Bounds;
use crate::properties::BEHIND_MARKER;
use crate::properties::COMPLETES;
use crate::properties::EQUAL;
use crate::properties::EXACT_ACKS;
use crate::properties::EXACTLY_ONCE;
use crate::properties::ONE_ACTIVE;
use crate::properties::OWN_CODE;
use crate::properties::PAST_SWITCH;
use crate::properties::READS;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// Every transaction is admitted.
    NoFence,
    /// The fence compares the epoch and not the mark.
    EpochOnly,
    /// The fence compares the mark and not the epoch.
    MarkOnly,
    /// A bulk load is not fenced, since its leaf is new.
    UnfencedBulk,
    /// Rows and mark are two transactions.
    SplitTransaction,
    /// A writer records its ack before its commit, and the switch trusts the acks.
    AckFromMemory,
    /// A batch may run past the switch offset; its ack is recorded there.
    AckPastSwitch,
    /// The switch trusts what was seen when the barrier was set, not the marks and states.
    NoRecheck,
    /// Switch, reset and retire do not lock the versions' rows.
    NoVersionLock,
    /// A table is dropped while statements that name it run.
    NoGrace,
    /// The switch vector is the end of the log, not the versions' marks.
    LogEndVector,
    /// A barrier is set without locking the marks that it was computed from.
    UnlockedBarrier,
    /// The switch does not ask whether the sums are equal.
    NoCompare,
    /// The switch leaves the old version active.
    TwoActive,
    /// Any version may be retired, the active one too.
    RetireAnything,
    /// A reset keeps the epoch.
    ResetKeepsEpoch,
    /// A reset puts the mark back and keeps the rows.
    ResetKeepsRows,
    /// A reset keeps the acks of barriers that wait.
    ResetKeepsAcks,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::NoFence,
        Self::EpochOnly,
        Self::MarkOnly,
        Self::UnfencedBulk,
        Self::SplitTransaction,
        Self::AckFromMemory,
        Self::AckPastSwitch,
        Self::NoRecheck,
        Self::NoVersionLock,
        Self::NoGrace,
        Self::LogEndVector,
        Self::UnlockedBarrier,
        Self::NoCompare,
        Self::TwoActive,
        Self::RetireAnything,
        Self::ResetKeepsEpoch,
        Self::ResetKeepsRows,
        Self::ResetKeepsAcks,
    ];

    /// Bounds within which its absence shows.
    pub const fn bounds(self) -> Bounds {
        match self {
            Self::NoFence
            | Self::EpochOnly
            | Self::MarkOnly
            | Self::UnfencedBulk
            | Self::SplitTransaction
            | Self::ResetKeepsEpoch
            | Self::ResetKeepsRows => Bounds::BUILD,
            Self::ResetKeepsAcks => Bounds::REBUILD,
            Self::NoCompare => Bounds::DOUBT,
            Self::AckFromMemory | Self::LogEndVector => Bounds::ROLLBACK,
            _ => Bounds::SWITCH,
        }
    }

    /// The property that it upholds: the first to break, or never to be reached, without it.
    pub const fn upholds(self) -> &'static str {
        match self {
            Self::NoFence | Self::EpochOnly | Self::SplitTransaction | Self::ResetKeepsRows => {
                EXACTLY_ONCE
            }
            Self::MarkOnly | Self::UnfencedBulk | Self::ResetKeepsEpoch => OWN_CODE,
            Self::AckFromMemory | Self::NoRecheck | Self::NoVersionLock => PAST_SWITCH,
            Self::AckPastSwitch | Self::ResetKeepsAcks => EXACT_ACKS,
            Self::TwoActive | Self::RetireAnything => ONE_ACTIVE,
            Self::NoGrace => READS,
            Self::LogEndVector => BEHIND_MARKER,
            Self::UnlockedBarrier => COMPLETES,
            Self::NoCompare => EQUAL,
        }
    }
}
