//! A state of the model: what is durable, who works, and what is on its way.

use refold_domain::version::VersionState;

use crate::log::PARTITIONS;
use crate::log::RECORDS;

/// Number of versions.
pub(crate) const VERSIONS: usize = 2;

/// A count of each record of a partition.
pub(crate) type Counts = [u8; RECORDS];
/// One position per partition.
pub(crate) type Vector = [u8; PARTITIONS];

/// A row of the offsets table and the leaf beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Mark {
    pub(crate) epoch: u8,
    pub(crate) next: u8,
    pub(crate) has_leaf: bool,
    /// How often each record is in the rows.
    pub(crate) rows: Counts,
    /// Rows of other code than the version's are among them.
    pub(crate) foreign: bool,
    /// A fold lost an event of it, so that its counts are wrong by intent.
    pub(crate) damaged: bool,
    pub(crate) reached_end: bool,
}

/// A row of the versions table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) state: VersionState,
    /// Counts the builds; another build is other code.
    pub(crate) code: u8,
}

/// A barrier that waits, with what was recorded at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Barrier {
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) switch: Vector,
    pub(crate) acks: [[Option<Counts>; PARTITIONS]; VERSIONS],
    /// Whether the acks were found equal; `None` before they were compared.
    pub(crate) equal: Option<bool>,
}

impl Barrier {
    pub(crate) fn concerns(&self, version: usize) -> bool {
        version == usize::from(self.from) || version == usize::from(self.to)
    }
}

/// What the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    pub(crate) versions: [Version; VERSIONS],
    pub(crate) active: u8,
    pub(crate) marks: [[Mark; PARTITIONS]; VERSIONS],
    pub(crate) barrier: Option<Barrier>,
    /// The vector of the last switch.
    pub(crate) switched_at: Vector,
    /// Switches so far.
    pub(crate) generation: u8,
}

/// The owner of a partition, as it sees itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) epoch: u8,
    pub(crate) next: u8,
    pub(crate) has_leaf: bool,
    pub(crate) code: u8,
    /// It waits for the answer to its transaction.
    pub(crate) waits: bool,
}

/// Which half of a transaction arrives; [`Part::Whole`] unless a mutation splits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    Whole,
    Rows,
    Mark,
}

/// A transaction on its way to the database. It commits as a whole when it arrives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Message {
    pub(crate) version: u8,
    pub(crate) partition: u8,
    pub(crate) epoch: u8,
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) bulk: bool,
    pub(crate) code: u8,
    /// Its fold lost its first event.
    pub(crate) damaged: bool,
    /// Its writer is there to hear the answer.
    pub(crate) awaited: bool,
    pub(crate) part: Part,
}

/// A transaction of the registry between its last look and its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Registry {
    Switch { from: u8, to: u8, vector: Vector },
    Retire { version: u8 },
}

impl Registry {
    /// Whether it holds the lock of a version's row.
    pub(crate) fn locks(self, version: u8) -> bool {
        match self {
            Self::Switch { from, to, .. } => version == from || version == to,
            Self::Retire { version: own } => version == own,
        }
    }
}

/// How much of the bounds is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Spent {
    pub(crate) take_overs: u8,
    pub(crate) resets: u8,
    pub(crate) resends: u8,
    pub(crate) barriers: u8,
    pub(crate) switches: u8,
    pub(crate) misfolds: u8,
    pub(crate) failovers: u8,
}

/// What must never happen and cannot be read from a state: it stays once it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Seen {
    /// A read met a table that is missing or short of the switch.
    pub(crate) failed_read: bool,
    /// A version was made active whose rows below the vector differ from its predecessor's.
    pub(crate) unequal_switch: bool,
    /// A commit put a mark back.
    pub(crate) mark_went_back: bool,
    /// The vector of a switch was lower than that of the one before.
    pub(crate) vector_went_back: bool,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) db: Database,
    pub(crate) standby: Option<Box<Database>>,
    pub(crate) grown: bool,
    pub(crate) workers: [[Option<Worker>; PARTITIONS]; VERSIONS],
    /// Sorted, so that the order in which they were sent makes no other state.
    pub(crate) messages: Vec<Message>,
    pub(crate) registry: Vec<Registry>,
    /// A vector that a barrier is about to be set at, where that is not one step.
    pub(crate) choosing: Option<Vector>,
    /// The versions whose tables the reader's statement names, a bit each.
    pub(crate) reader: Option<u8>,
    pub(crate) spent: Spent,
    pub(crate) seen: Seen,
}

impl State {
    pub(crate) fn send(&mut self, message: Message) {
        let at = self.messages.partition_point(|m| *m < message);
        self.messages.insert(at, message);
    }

    /// Whether a transaction of the registry holds the lock of a version's row.
    pub(crate) fn is_locked(&self, version: usize) -> bool {
        self.registry.iter().any(|r| r.locks(version as u8))
    }
}
