//! Rare branches by name: what a simulation must have met somewhere, or it tested less than it says.

/// A branch that some seed must take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Branch {
    /// A batch was refused because its partition was taken over.
    BatchFenced,
    /// A bulk load was refused between its opening and its seal.
    LoadFencedMidway,
    /// A commit whose answer was lost is in.
    UnknownOutcomeIn,
    /// A commit whose answer was lost is not in.
    UnknownOutcomeOut,
    /// A commit reached the store after the partition had been taken over from its sender.
    LateCommitRefused,
    /// A commit reached the store after its sender had given up, and is in.
    LateCommitIn,
    /// A commit reached the store twice.
    CommitTwice,
    /// A commit was rolled back and sent again.
    CommitRetried,
    /// The store's disk was full.
    DiskFull,
    /// A checkpoint was committed.
    Checkpoint,
    /// A take-over found a checkpoint and went on from it.
    ResumedFromCheckpoint,
    /// A take-over met a session that was writing a checkpoint.
    TakenOverDuringCheckpoint,
    /// A take-over met a session that was loading a leaf.
    TakenOverDuringLoad,
    /// A take-over without an answer.
    UnansweredTakeOver,
    /// A batch was cut at a switch offset.
    CutAtSwitch,
    /// A barrier was set at a mark that a batch of the other version was about to pass.
    BarrierUnderBatch,
    /// A version stood on the switch offset when the barrier was set.
    AckAtSet,
    /// A barrier was replaced by another one before it was done.
    BarrierReplaced,
    /// Whoever drove a promotion died.
    DriverDied,
    /// A version was promoted.
    Promoted,
    /// A promotion was in though its answer was lost.
    PromotionAnswerLost,
    /// A version was promoted that served before.
    RolledBack,
    /// A promotion named a generation that had passed.
    StaleGenerationRefused,
    /// Two orders ran at once and one of them lost.
    ConcurrentPromotion,
    /// A candidate whose fold is wrong was refused.
    WrongFoldRefused,
    /// A candidate with events missing was refused.
    GapRefused,
    /// A candidate was refused because a partition did not come to its switch offset in time.
    BarrierTimedOut,
    /// A version was retired.
    Retired,
    /// The active version was not retired.
    ActiveKept,
    /// A promotion to a retired version was refused.
    RetiredRefused,
    /// A promotion was refused because its version had been retired after the sums were compared.
    RetiredAfterProof,
    /// A projector was told that its version is not projected any more.
    RetiredUnderProjector,
    /// The tables of a version were dropped.
    Dropped,
    /// A dropped table was kept for its grace.
    GraceKept,
    /// A process was killed.
    ProcessKilled,
    /// A process was drained.
    ProcessDrained,
    /// A process stood still while another one took its partitions.
    ProcessFrozen,
    /// A process ended because all its partitions were taken over.
    ZombieEnded,
    /// A projector learned from the registry, not from the fence, that it was taken over.
    TakeOverSeen,
    /// A projector panicked and was restarted.
    ProjectorRestarted,
    /// A projector failed too often.
    ProjectorBroken,
    /// A start was refused, or met no answer.
    StartFailed,
    /// A projector stopped in front of an event that it cannot decode.
    HaltedAtPoison,
    /// A projector stopped because the log begins behind its mark.
    HaltedByTruncation,
    /// Old events were deleted below every mark, and everything went on.
    RetentionPassed,
    /// A history began behind the first offset.
    LateStart,
    /// A transaction of the log was aborted.
    LogTransactionAborted,
    /// The log ended with a marker when a barrier was set.
    BarrierBeforeMarker,
    /// An event stood in the log twice.
    DuplicateInLog,
    /// A reader met no active version.
    ReadBeforeFirst,
    /// A reader saw a switch.
    ReadAcrossSwitch,
    /// A reader saw a deleted row.
    ReadTombstone,
}

impl Branch {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 52] = [
        Self::BatchFenced,
        Self::LoadFencedMidway,
        Self::UnknownOutcomeIn,
        Self::UnknownOutcomeOut,
        Self::LateCommitRefused,
        Self::LateCommitIn,
        Self::CommitTwice,
        Self::CommitRetried,
        Self::DiskFull,
        Self::Checkpoint,
        Self::ResumedFromCheckpoint,
        Self::TakenOverDuringCheckpoint,
        Self::TakenOverDuringLoad,
        Self::UnansweredTakeOver,
        Self::CutAtSwitch,
        Self::BarrierUnderBatch,
        Self::AckAtSet,
        Self::BarrierReplaced,
        Self::DriverDied,
        Self::Promoted,
        Self::PromotionAnswerLost,
        Self::RolledBack,
        Self::StaleGenerationRefused,
        Self::ConcurrentPromotion,
        Self::WrongFoldRefused,
        Self::GapRefused,
        Self::BarrierTimedOut,
        Self::Retired,
        Self::ActiveKept,
        Self::RetiredRefused,
        Self::RetiredAfterProof,
        Self::RetiredUnderProjector,
        Self::Dropped,
        Self::GraceKept,
        Self::ProcessKilled,
        Self::ProcessDrained,
        Self::ProcessFrozen,
        Self::ZombieEnded,
        Self::TakeOverSeen,
        Self::ProjectorRestarted,
        Self::ProjectorBroken,
        Self::StartFailed,
        Self::HaltedAtPoison,
        Self::HaltedByTruncation,
        Self::RetentionPassed,
        Self::LateStart,
        Self::LogTransactionAborted,
        Self::BarrierBeforeMarker,
        Self::DuplicateInLog,
        Self::ReadBeforeFirst,
        Self::ReadAcrossSwitch,
        Self::ReadTombstone,
    ];

    /// Its counter.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Its name in reports, such as `late commit refused`.
    pub fn name(self) -> String {
        spaced(&format!("{self:?}"))
    }
}

/// `LateCommitIn` as `late commit in`.
pub(crate) fn spaced(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// How often each branch was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branches([u64; Branch::ALL.len()]);

impl Default for Branches {
    fn default() -> Self {
        Self([0; Branch::ALL.len()])
    }
}

impl Branches {
    pub(crate) fn take(&mut self, branch: Branch) {
        self.0[branch.index()] += 1;
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// How often a branch was taken.
    pub fn of(&self, branch: Branch) -> u64 {
        self.0[branch.index()]
    }

    /// The branches that were never taken.
    pub fn never(&self) -> Vec<Branch> {
        let all = Branch::ALL.into_iter();
        all.filter(|branch| self.of(*branch) == 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_has_a_counter_of_its_own_and_a_name_of_words() {
        for (index, branch) in Branch::ALL.into_iter().enumerate() {
            assert_eq!(branch.index(), index, "{branch:?}");
        }
        assert_eq!(Branch::LateCommitIn.name(), "late commit in");
    }
}
