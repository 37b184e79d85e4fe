//! Throttling: when a rebuild has to stand still so that the database is not harmed by it.
//!
//! ```text
//! reading > limit         -> held
//! reading <= limit / 2    -> goes on
//! between                 -> as it was
//! ```
//! Two thresholds, because one alone would let a rebuild go on for a batch and stand still for a
//! look in turns, and never give a standby the room to catch up.

use std::fmt;

/// What of the database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Bytes of the write-ahead log that the slowest physical standby has not replayed.
    ReplayLag,
    /// Bytes of the write-ahead log that one replication slot holds back, in use or not.
    SlotWal,
    /// Bytes of the write-ahead log that the server keeps.
    Wal,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ReplayLag, Self::SlotWal, Self::Wal];

    /// The word in metrics and in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ReplayLag => "replay-lag",
            Self::SlotWal => "slot-wal",
            Self::Wal => "wal",
        }
    }

    /// The flag that sets its limit.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::ReplayLag => "-max-replay-lag",
            Self::SlotWal => "-max-slot-wal",
            Self::Wal => "-max-wal",
        }
    }

    /// What an operator can do about it, apart from a higher limit.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::ReplayLag => {
                "look for the standby in pg_stat_replication: it goes on when that one has replayed half"
            }
            Self::SlotWal => {
                "look for the slot in pg_replication_slots: let its reader catch up, or drop it when nobody reads it any more"
            }
            Self::Wal => {
                "a checkpoint frees it, unless archive_command fails or a slot holds it; a limit below max_wal_size waits for checkpoints"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A value for each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerReason<T>([T; Reason::ALL.len()]);

impl<T: Copy> PerReason<T> {
    /// The value of a reason.
    pub const fn get(&self, reason: Reason) -> T {
        self.0[reason as usize]
    }

    /// The same with another value for a reason.
    #[must_use]
    pub fn with(mut self, reason: Reason, value: T) -> Self {
        self.0[reason as usize] = value;
        self
    }
}

/// The most bytes of each; `None` is no limit.
pub type Limits = PerReason<Option<u64>>;

/// The limits of a rebuild whose operator sets none.
impl Limits {
    /// Replay of a standby: 256 MiB, meant as some seconds of a standby's work, by which a rebuild
    /// may make a failover or a read of the standby late; what is written between two looks and
    /// what is open when one decides comes on top. Without a standby there is no lag.
    ///
    /// A slot: 1 GiB, which is `max_wal_size` as Postgres comes: up to there a slot keeps hardly
    /// more than the server keeps for its next checkpoint anyway. Without a slot nothing is held.
    ///
    /// The log as a whole: none. How much of it lies between two checkpoints is what the operator
    /// chose by `max_wal_size`, and the size of its disk cannot be asked for: any number here
    /// would be too low for one server and too high for another.
    pub const DEFAULT: Self = PerReason([Some(256 << 20), Some(1 << 30), None]);

    /// Whether anything has a limit.
    pub fn is_any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

/// What a look found of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// There is nothing to look at: no standby, no slot.
    #[default]
    Nothing,
    /// The role may not look.
    Hidden,
    /// Bytes.
    Bytes(u64),
}

/// What a look at the database found.
pub type Readings = PerReason<Reading>;

/// The reasons for which a rebuild stands still.
pub type Held = PerReason<bool>;

impl Held {
    /// Whether there is one.
    pub fn is_any(&self) -> bool {
        self.0.contains(&true)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Reason::ALL.into_iter().filter(|reason| self.get(*reason));
        let words: Vec<_> = held.map(Reason::word).collect();
        f.write_str(&words.join(", "))
    }
}

/// A reason that came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The reason.
    pub reason: Reason,
    /// Whether it holds the rebuild from now on.
    pub held: bool,
    /// What was read.
    pub reading: Reading,
    /// The limit in bytes, exclusive: at it the rebuild goes on.
    pub limit: u64,
    /// Where it goes on, in bytes, inclusive.
    pub resume: u64,
}

/// Decides from one look after the other.
#[derive(Debug, Clone)]
pub struct Throttle {
    limits: Limits,
    held: Held,
}

impl Throttle {
    /// A throttle that holds nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: Held::default(),
        }
    }

    /// The reasons of the last look.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Takes a look into account and tells what changed by it. What is not there or hidden holds
    /// nothing: a standby that went away leaves its log to its slot, which has a limit of its own.
    pub fn judge(&mut self, readings: &Readings) -> Vec<Change> {
        let mut changes = Vec::new();
        for reason in Reason::ALL {
            let Some(limit) = self.limits.get(reason) else {
                continue;
            };
            let (resume, reading) = (limit / 2, readings.get(reason));
            let before = self.held.get(reason);
            let held = match reading {
                Reading::Bytes(bytes) if before => bytes > resume,
                Reading::Bytes(bytes) => bytes > limit,
                Reading::Nothing | Reading::Hidden => false,
            };
            if held != before {
                self.held = self.held.with(reason, held);
                changes.push(Change {
                    reason,
                    held,
                    reading,
                    limit,
                    resume,
                });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(limit: u64) -> Limits {
        Limits::default().with(Reason::SlotWal, Some(limit))
    }

    fn slot(bytes: u64) -> Readings {
        Readings::default().with(Reason::SlotWal, Reading::Bytes(bytes))
    }

    /// Whether it is held after each of these readings.
    fn course(limit: u64, readings: &[u64]) -> Vec<bool> {
        let mut throttle = Throttle::new(limits(limit));
        let after = readings.iter().map(|bytes| {
            throttle.judge(&slot(*bytes));
            throttle.held().get(Reason::SlotWal)
        });
        after.collect()
    }

    #[test]
    fn it_is_held_above_the_limit_and_goes_on_at_half_of_it() {
        let after = course(100, &[100, 101, 100, 51, 50, 51, 100, 101]);
        assert_eq!(after, [false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn a_change_is_told_once_with_its_figures() {
        let mut throttle = Throttle::new(limits(100));
        let told = throttle.judge(&slot(130));
        let change = Change {
            reason: Reason::SlotWal,
            held: true,
            reading: Reading::Bytes(130),
            limit: 100,
            resume: 50,
        };
        assert_eq!(told, [change]);
        assert_eq!(throttle.held().to_string(), "slot-wal");
        assert_eq!(throttle.judge(&slot(140)), []);
        let told = throttle.judge(&slot(0));
        assert_eq!(told.len(), 1);
        assert!(!told[0].held && !throttle.held().is_any());
    }

    #[test]
    fn each_reason_holds_by_itself_and_one_is_enough() {
        let limits = Limits::default()
            .with(Reason::ReplayLag, Some(10))
            .with(Reason::Wal, Some(10));
        let mut throttle = Throttle::new(limits);
        let both = Readings::default()
            .with(Reason::ReplayLag, Reading::Bytes(11))
            .with(Reason::SlotWal, Reading::Bytes(u64::MAX))
            .with(Reason::Wal, Reading::Bytes(11));
        throttle.judge(&both);
        assert_eq!(throttle.held().to_string(), "replay-lag, wal");
        throttle.judge(&both.with(Reason::ReplayLag, Reading::Bytes(0)));
        assert_eq!(throttle.held().to_string(), "wal");
        throttle.judge(&Readings::default());
        assert!(!throttle.held().is_any());
    }

    #[test]
    fn what_went_away_or_is_hidden_holds_nothing() {
        for gone in [Reading::Nothing, Reading::Hidden] {
            let mut throttle = Throttle::new(limits(100));
            throttle.judge(&slot(101));
            assert!(throttle.held().is_any());
            throttle.judge(&Readings::default().with(Reason::SlotWal, gone));
            assert!(!throttle.held().is_any());
        }
    }

    #[test]
    fn a_limit_of_a_reason_that_has_none_by_default_is_set_and_taken_away() {
        assert!(Limits::DEFAULT.is_any() && !Limits::default().is_any());
        let default = Reason::ALL.map(|reason| Limits::DEFAULT.get(reason));
        assert_eq!(default, [Some(268_435_456), Some(1_073_741_824), None]);
    }

    #[test]
    fn a_reason_says_which_flag_moves_its_limit_and_where_to_look() {
        let shown = Reason::ALL.map(|reason| reason.to_string());
        assert_eq!(shown, Reason::ALL.map(|reason| reason.word().to_owned()));
        let flags = Reason::ALL.map(Reason::flag);
        assert_eq!(flags, ["-max-replay-lag", "-max-slot-wal", "-max-wal"]);
        let views = [
            "pg_stat_replication",
            "pg_replication_slots",
            "max_wal_size",
        ];
        for (reason, view) in Reason::ALL.into_iter().zip(views) {
            assert!(reason.advice().contains(view), "{}", reason.advice());
        }
    }

    proptest! {
        /// Above the limit always, at half of it never, and between as before: whatever came first.
        #[test]
        fn only_the_thresholds_change_anything(
            limit in 1_u64..1_000,
            readings in proptest::collection::vec(0_u64..1_500, 1..60),
        ) {
            let after = course(limit, &readings);
            let mut before = false;
            for (bytes, held) in readings.into_iter().zip(after) {
                let wanted = match bytes {
                    _ if bytes > limit => true,
                    _ if bytes <= limit / 2 => false,
                    _ => before,
                };
                prop_assert_eq!(held, wanted, "{} of {}", bytes, limit);
                before = held;
            }
        }
    }
}
