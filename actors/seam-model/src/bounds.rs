//! How far the model is explored.

/// The most of each kind of event in one behaviour. The state space is finite within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Whether the candidate is built and ready when a behaviour begins, or not begun.
    pub ready: bool,
    /// Take-overs in all, of all partitions and versions together.
    pub take_overs: u8,
    /// Transactions on their way at a time.
    pub in_flight: u8,
    /// Times a version is reset and built again, with other code.
    pub resets: u8,
    /// Transactions that arrive twice.
    pub resends: u8,
    /// Barriers that are set.
    pub barriers: u8,
    /// Switches.
    pub switches: u8,
    /// Folds that lose an event.
    pub misfolds: u8,
    /// Failovers to a standby that may miss commits.
    pub failovers: u8,
    /// Whether a reader is at work.
    pub reads: bool,
}

impl Bounds {
    /// A candidate that is built from nothing, reset and taken over: for every change.
    pub const BUILD: Self = Self {
        ready: false,
        take_overs: 2,
        in_flight: 2,
        resets: 1,
        resends: 1,
        barriers: 0,
        switches: 0,
        misfolds: 0,
        failovers: 0,
        reads: false,
    };

    /// A candidate that is ready: barrier, switch, reset, retire, drop: for every change.
    pub const SWITCH: Self = Self {
        ready: true,
        take_overs: 1,
        in_flight: 1,
        resets: 1,
        resends: 0,
        barriers: 1,
        switches: 1,
        misfolds: 0,
        failovers: 0,
        reads: true,
    };

    /// A switch and the way back: for every change.
    pub const ROLLBACK: Self = Self {
        ready: true,
        take_overs: 0,
        in_flight: 1,
        resets: 0,
        resends: 0,
        barriers: 2,
        switches: 2,
        misfolds: 0,
        failovers: 0,
        reads: true,
    };

    /// Writers over a failover to a standby that misses commits: for every change.
    pub const FAILOVER: Self = Self {
        ready: true,
        take_overs: 1,
        in_flight: 1,
        resets: 0,
        resends: 0,
        barriers: 0,
        switches: 0,
        misfolds: 0,
        failovers: 1,
        reads: false,
    };

    /// A candidate whose fold may be wrong: for every change.
    pub const DOUBT: Self = Self {
        barriers: 1,
        switches: 1,
        misfolds: 1,
        ..Self::ROLLBACK
    };

    /// A candidate that is built again with a fold that may be wrong, and switched to.
    pub const REBUILD: Self = Self {
        ready: true,
        take_overs: 2,
        in_flight: 1,
        resets: 1,
        resends: 0,
        barriers: 1,
        switches: 1,
        misfolds: 1,
        failovers: 0,
        reads: false,
    };

    /// The same with a transaction that arrives twice and a reader: the long run.
    pub const FULL: Self = Self {
        resends: 1,
        reads: true,
        ..Self::REBUILD
    };
}
