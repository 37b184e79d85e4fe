//! Tests of a projection without a database, a broker or a clock.
//!
//! ```
//! # use refold_projection::*;
//! # use refold_projection::harness::given;
//! # #[derive(Debug, Clone, PartialEq, Row)]
//! # struct Total { cents: i64 }
//! # struct TotalsV1;
//! # impl Projection for TotalsV1 {
//! #     type Key = i64;
//! #     type Event<'a> = i64;
//! #     type Row = Total;
//! #     const NAME: &'static str = "totals";
//! #     const VERSION: u32 = 1;
//! #     const HANDLES: &'static [&'static str] = &["Paid"];
//! #     const CODE: Fingerprint = Fingerprint(1);
//! #     fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
//! #         let Payload::Json(text) = payload else { return Err(DecodeError::new("JSON only")) };
//! #         text.parse().map_err(DecodeError::new)
//! #     }
//! #     fn fold(&self, row: Option<Total>, e: &Envelope<'_, i64>) -> Change<Total> {
//! #         Change::Put(Total { cents: row.map_or(0, |r| r.cents) + e.event })
//! #     }
//! # }
//! given(TotalsV1)
//!     .event(7, ("Paid", "500"))
//!     .event(8, ("Paid", "20"))
//!     .event(7, ("Paid", "100"))
//!     .then(7, Total { cents: 600 })
//!     .as_of(7, 1, Total { cents: 500 })
//!     .then_none(9)
//!     .then_replay_safe();
//! ```
//!
//! Events go in encoded and each is decoded by the projection, so that its
//! `decode` is tested as well. Every row that a fold puts is encoded and read
//! back, and must be the same row.

mod agree;
#[cfg(feature = "generators")]
mod generators;
mod replay;
mod script;
mod show;
mod table;

#[cfg(feature = "generators")]
pub use generators::arb_script;
pub use script::{Form, Script, ScriptEvent, TestEvent};

use crate::Key;
use crate::Projection;
use crate::Timestamp;
use table::Table;

/// Starts a script over an empty log of one partition.
#[must_use = "a script without a `then` checks nothing"]
pub fn given<P: Projection>(projection: P) -> Given<P> {
    Given {
        script: Script::new(projection),
        next_ts: FIRST_TS,
    }
}

/// 2024-01-01 00:00 UTC: when the first event happens unless the test says
/// otherwise. A second passes between events.
pub const FIRST_TS: Timestamp = Timestamp(1_704_067_200_000_000);

/// A projection, the log so far, and checks of what the log folds to. Checks
/// panic with the rows' difference and the events that led to it.
#[derive(Debug)]
pub struct Given<P: Projection> {
    script: Script<P>,
    next_ts: Timestamp,
}

impl<P: Projection> Given<P> {
    /// Appends an event of the aggregate `key`, with the next version and offset.
    #[must_use = "a script without a `then` checks nothing"]
    pub fn event(mut self, key: impl Into<P::Key>, event: impl TestEvent) -> Self {
        self.script.push(key.into(), &event, self.next_ts.0);
        self.next_ts.0 = self.next_ts.0.saturating_add(1_000_000);
        self
    }

    /// Appends events in order.
    #[must_use = "a script without a `then` checks nothing"]
    pub fn events<E: TestEvent>(self, events: impl IntoIterator<Item = (P::Key, E)>) -> Self {
        events
            .into_iter()
            .fold(self, |given, (key, event)| given.event(key, event))
    }

    /// Sets the time of the next event.
    #[must_use = "a script without a `then` checks nothing"]
    pub fn at(mut self, ts: Timestamp) -> Self {
        self.next_ts = ts;
        self
    }

    /// The aggregate has this row after the whole log.
    #[track_caller]
    pub fn then(self, key: impl Into<P::Key>, row: P::Row) -> Self {
        self.expect_row(&key.into(), u64::MAX, Some(&row));
        self
    }

    /// The aggregate has no row after the whole log: it never had an event, no
    /// event made a row, or the row was deleted.
    #[track_caller]
    pub fn then_none(self, key: impl Into<P::Key>) -> Self {
        self.expect_row(&key.into(), u64::MAX, None);
        self
    }

    /// The aggregate had this row right after its event number `version`.
    #[track_caller]
    pub fn as_of(self, key: impl Into<P::Key>, version: u64, row: P::Row) -> Self {
        self.expect_row(&key.into(), version, Some(&row));
        self
    }

    /// The aggregate had no row right after its event number `version`.
    #[track_caller]
    pub fn as_of_none(self, key: impl Into<P::Key>, version: u64) -> Self {
        self.expect_row(&key.into(), version, None);
        self
    }

    /// Reading any part of the log again changes nothing: the whole log twice,
    /// and a stop at every offset followed by a start 0, 1, 2 or 3 events before
    /// it (for scripts of at most 100 events: any number of events before it).
    #[track_caller]
    pub fn then_replay_safe(self) -> Self {
        accept(replay::check(&self.script));
        self
    }

    /// The log folds to the same rows each time, and an aggregate's row does not
    /// depend on which other aggregates were folded before it.
    #[track_caller]
    pub fn then_deterministic(self) -> Self {
        accept(replay::check_deterministic(&self.script));
        self
    }

    /// After every event, `older` has the same rows in all columns that this
    /// projection declares to be the same.
    #[track_caller]
    pub fn then_agrees_with<Q: Projection<Key = P::Key>>(self, older: Q) -> Self {
        accept(agree::check(&self.script, &older));
        self
    }

    /// After every event, the protobuf and the JSON form of the log have folded
    /// to the same rows. Every event of the script must have both forms.
    #[track_caller]
    pub fn then_forms_agree(self) -> Self {
        accept(replay::check_forms(&self.script));
        self
    }

    /// The projection refuses the log's last event as one that it cannot
    /// decode, and no event before it.
    #[track_caller]
    pub fn then_undecodable(self) -> Self {
        accept(replay::check_undecodable(&self.script));
        self
    }

    /// The script, for the real store.
    pub fn into_script(self) -> Script<P> {
        self.script
    }

    #[track_caller]
    fn expect_row(&self, key: &P::Key, version: u64, expected: Option<&P::Row>) {
        accept(self.check_row(key, version, expected));
    }

    fn check_row(
        &self,
        key: &P::Key,
        version: u64,
        expected: Option<&P::Row>,
    ) -> Result<(), String> {
        let known = self.script.version_of(key);
        if version != u64::MAX && version > known {
            let key = key.borrow();
            return Err(format!(
                "key {key} has {known} events, so there is no state as of {version}"
            ));
        }
        let mut table = Table::new(&self.script.projection);
        for event in self.script.events() {
            if event.key == *key && event.version <= version {
                table.apply(event, event.first_form())?;
            }
        }
        let found = table.row(key);
        if show::same_row(expected, found) {
            return Ok(());
        }
        Err(format!(
            "{}: key {} is not as expected\n{}{}",
            crate::label::<P>(),
            key.borrow(),
            show::difference(expected, found),
            show::history(&self.script, key, version),
        ))
    }
}

#[track_caller]
fn accept(outcome: Result<(), String>) {
    if let Err(message) = outcome {
        panic!("{message}");
    }
}

#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
